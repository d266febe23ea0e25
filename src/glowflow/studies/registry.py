"""Every study by its name: another one is a file, and a line here."""

from pkgutil import resolve_name

from .study import Study

STUDIES = {
    "attributes": "glowflow.studies.measured.attributes:Attributes",
    "interpolation": "glowflow.studies.measured.interpolation:Interpolation",
    "anomaly": "glowflow.studies.measured.anomaly:Anomaly",
    "temperature": "glowflow.studies.measured.temperature:Temperature",
    "bits": "glowflow.studies.measured.bits:Bits",
    "pca": "glowflow.studies.measured.components:Components",
    "permutations": "glowflow.studies.trained.permutations:Permutations",
    "realnvp": "glowflow.studies.trained.realnvp:BesideRealNVP",
    "lu": "glowflow.studies.trained.lu:LU",
    "depth": "glowflow.studies.trained.depth:Depth",
    "ingredients": "glowflow.studies.trained.ingredients:Ingredients",
}
"""Read when one is asked for, and for the help."""


def study_class(name: str) -> type[Study]:
    """The study that `glow study NAME` runs."""
    study: type[Study] = resolve_name(STUDIES[name])
    return study
