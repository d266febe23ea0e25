"""The fixtures of `pages`, where the studio's libraries are installed (`glowflow[dev]`)."""

from importlib.util import find_spec

if find_spec("fastapi") and find_spec("httpx"):
    from .browser import address, show  # noqa: F401
    from .pages import app, folder, page, studio_with  # noqa: F401
else:
    collect_ignore_glob = ["test_*.py"]
