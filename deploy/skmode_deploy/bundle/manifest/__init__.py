"""The manifest of a bundle: its classes, its checks and its JSON text."""

from skmode_deploy.bundle.manifest.document import Manifest
from skmode_deploy.bundle.manifest.language import Domain, Language
from skmode_deploy.bundle.manifest.parts import (
    Classes,
    Column,
    File,
    Image,
    RoutingDifference,
    Teacher,
    Text,
    Threshold,
)
from skmode_deploy.bundle.manifest.rules import MANIFEST, SCHEMA_VERSION

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
    "Text",
    "Threshold",
]
