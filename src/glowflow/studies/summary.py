"""The files in which a study keeps its figures."""

import json
from collections.abc import Mapping
from typing import Any

SUMMARY_FILE = "summary.json"
"""Settings, means and standard errors, and where they are from: short."""
DETAILS_FILE = "details.json"
"""Curves, and figures that a mean is of: long."""


def compact_json(value: Any, indent: str = "") -> str:
    """JSON in which what has nothing nested in it is one line."""
    items = list(value.values()) if isinstance(value, Mapping) else value
    nested = (dict, list, tuple)
    if not isinstance(value, nested) or (
        indent and not any(isinstance(item, nested) for item in items)
    ):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + " "
    texts = [compact_json(item, deeper) for item in items]
    if isinstance(value, Mapping):
        names = [json.dumps(str(name), ensure_ascii=False) for name in value]
        texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    lines = ",\n".join(deeper + text for text in texts)
    return f"{first}\n{lines}\n{indent}{last}"
