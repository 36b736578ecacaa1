"""The manifest of a bundle, ``manifest.json``: its parts, and its text."""

from skmode_deploy.bundle.manifest.document import (
    MANIFEST,
    SCHEMA_VERSION,
    Classes,
    Column,
    File,
    Image,
    Manifest,
    RoutingDifference,
    Teacher,
    Threshold,
)
from skmode_deploy.bundle.manifest.language import Domain, Language

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Classes",
    "Column",
    "Domain",
    "File",
    "Image",
    "Language",
    "Manifest",
    "RoutingDifference",
    "Teacher",
    "Threshold",
]
