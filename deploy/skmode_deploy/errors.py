"""Errors for bundles that are refused: one class for each rule."""

__all__ = [
    "BundleError",
    "ExternalDataError",
    "FileHashError",
    "FileSizeError",
    "GraphFormatError",
    "GraphInterfaceError",
    "LimitError",
    "LinkError",
    "ManifestChangedError",
    "ManifestError",
    "MissingFileError",
    "NotAFileError",
    "OperatorDomainError",
    "SampleFormatError",
    "SampleMismatchError",
    "SchemaVersionError",
    "SignatureError",
    "UnsafeNameError",
]


class BundleError(ValueError):
    """A bundle is incomplete, damaged, unsafe or of an unknown format.

    Every refusal is of a subclass of this one.
    """


class SchemaVersionError(BundleError):
    """The manifest has another schema version than this release reads."""


class ManifestError(BundleError):
    """The manifest is not written as the schema says."""


class ManifestChangedError(BundleError):
    """The manifest does not have the checksum that it states."""


class MissingFileError(BundleError):
    """A file of the bundle is missing, cannot be read or is not named in the manifest."""


class FileSizeError(BundleError):
    """A file does not have the size that the manifest states."""


class FileHashError(BundleError):
    """A file does not have the SHA-256 that the manifest states."""


class LimitError(BundleError):
    """The bundle is larger, or has more files, than the limit allows."""


class UnsafeNameError(BundleError):
    """A file name is not plain: absolute, with a folder, or special to some system."""


class LinkError(BundleError):
    """A file of the bundle is a symbolic link."""


class NotAFileError(BundleError):
    """A file of the bundle is a folder, a pipe or a device."""


class GraphFormatError(BundleError):
    """A graph is not a serialized ONNX model, or not one that a bundle may hold."""


class ExternalDataError(BundleError):
    """A graph refers to data outside its file."""


class OperatorDomainError(BundleError):
    """A graph has operators outside the domains of ONNX."""


class GraphInterfaceError(BundleError):
    """A graph does not have the inputs and outputs that follow from the manifest."""


class SampleFormatError(BundleError):
    """The sample rows are not written as the format says, or do not fit the manifest."""


class SampleMismatchError(BundleError):
    """The bundle answers its sample rows otherwise than the model that it was made from."""


class SignatureError(BundleError):
    """The bundle is not signed, or not by the holder of the key."""
