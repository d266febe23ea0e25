"""Names of the first version's modules, for code that imports from them: each is found where it is
now."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "alignment": ("photos.crops", "photos.faces", "photos.images"),
    "baselines": ("evaluation.baselines", "evaluation.gaussian", "evaluation.codecs"),
    "checkpoint": ("training.checkpoint",),
    "config": (
        "models.config",
        "data.config",
        "training.config",
        "training.presets",
        "training.as_yaml",
        "checks",
    ),
    "data.arrays": ("data.sources.arrays",),
    "data.celeba": ("data.sources.celeba", "photos.images"),
    "data.celebahq": ("data.sources.celebahq",),
    "data.cifar10": ("data.sources.cifar10",),
    "data.faces": ("data.sources.faces", "data.sources.portraits"),
    "data.folder": ("data.sources.folder",),
    "data.hub": ("data.sources.hub",),
    "data.idx": ("data.formats.idx", "data.sources.mnist"),
    "data.images": ("photos.images",),
    "data.imagenet": ("data.sources.imagenet",),
    "data.lsun": ("data.sources.lsun",),
    "data.source": ("data.open",),
    "data.tfrecord": ("data.formats.tfrecord",),
    "flow": ("models.flow",),
    "glow": ("models.glow",),
    "health": ("training.health",),
    "inputs": ("data.inputs",),
    "latent": (
        "latents.directions",
        "latents.estimation",
        "latents.edits",
        "latents.codes",
        "latents.statistics",
        "latents.matching",
        "latents.choices",
    ),
    "likelihood": ("models.likelihood",),
    "metrics": ("training.metrics",),
    "networks": ("nn",),
    "networks_residual": ("nn.residual_network",),
    "pca": ("latents.levels", "latents.readouts"),
    "pictures": ("reports.pictures", "reports.plots"),
    "plan": ("planning.plan", "planning.devices", "planning.speed", "planning.memory"),
    "pretrained": ("models.pretrained",),
    "priors": ("models.priors",),
    "realnvp": ("models.realnvp",),
    "report": ("reports.run", "reports.page"),
    "reversible": ("fused.reversible",),
    "scoring": ("evaluation.scoring", "evaluation.calibration", "evaluation.comparison"),
}
"""Where the names of a module of the first version are, in the order in which they are looked for.
"""
PACKAGES = {
    "data": ("data.open", "data.loader", "data.store", "data.types", "photos.images"),
    "models": ("models.registry",),
    "training": (
        "training.loop",
        "training.config",
        "training.validation",
        "training.initialisation",
        "training.batches",
        "training.objective",
    ),
}
"""The same for modules that have become folders: `from glowflow.data import open_splits`."""
ROOT = __name__.rpartition(".")[0]


def attributes(name: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module of that former name."""
    places = MODULES.get(name) or PACKAGES[name]

    def find(attribute: str) -> Any:
        if not attribute.startswith("__"):
            for place in places:
                module = import_module(f"{ROOT}.{place}")
                if hasattr(module, attribute):
                    return getattr(module, attribute)
        raise AttributeError(f"module {ROOT}.{name} has no attribute {attribute!r}")

    return find


class _Finder(MetaPathFinder, Loader):
    """Makes the modules of `MODULES` that are no files any more."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(f"{ROOT}.")
        return ModuleSpec(fullname, self) if name != fullname and name in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.removeprefix(f"{ROOT}.")
        places = " and ".join(f"{ROOT}.{place}" for place in MODULES[name])
        warnings.warn(f"{module.__name__} is now {places}", DeprecationWarning, stacklevel=2)
        module.__doc__ = f"The former place of what is in {places}."
        module.__getattr__ = attributes(name)  # type: ignore[method-assign]


def install() -> None:
    """Let `import` find the former modules, after all others."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
