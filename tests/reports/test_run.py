"""The page about a run."""

from types import SimpleNamespace

from glowflow.evaluation.estimate import Estimate
from glowflow.reports import run


def test_its_head_without_codecs():
    evaluation = SimpleNamespace(
        bits=8, bits_per_dim=Estimate(3.0, 0.1), mean=3.0, images=4, images_unchanged=4,
        bits_per_source_value=None, baselines=(),
    )  # fmt: skip
    report = SimpleNamespace(evaluation=evaluation, title="A run", summary="It was one.")
    assert "3.000 ± 0.100" in (head := run._head(report))
    assert "WebP" not in head
