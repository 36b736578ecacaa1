"""Errors for invalid bundles, one class for each rule, and for rows that onnxruntime fails on."""

__all__ = [
    "BundleError",
    "ExternalDataError",
    "FileHashError",
    "FileSizeError",
    "GraphFormatError",
    "GraphInterfaceError",
    "InferenceError",
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
    "TokenizerError",
    "UnsafeNameError",
]


class BundleError(ValueError):
    """A bundle is incomplete, damaged, unsafe or of an unknown format.

    This is the base class: each rule has its own subclass.
    """


class SchemaVersionError(BundleError):
    """The manifest has a schema version that this release cannot read."""


class ManifestError(BundleError):
    """The manifest does not follow its schema."""


class ManifestChangedError(BundleError):
    """The manifest was changed: its checksum is wrong."""


class MissingFileError(BundleError):
    """A file of the bundle is missing, cannot be read or is not named in the manifest."""


class FileSizeError(BundleError):
    """A file does not have the size that the manifest states."""


class FileHashError(BundleError):
    """A file does not have the SHA-256 that the manifest states."""


class LimitError(BundleError):
    """The bundle is larger, or has more files, than the limit allows."""


class UnsafeNameError(BundleError):
    """A file name is absolute, contains a folder, or is special on some operating system."""


class LinkError(BundleError):
    """A file of the bundle is a symbolic link."""


class NotAFileError(BundleError):
    """A file of the bundle is a folder, a pipe or a device."""


class GraphFormatError(BundleError):
    """A graph is not an ONNX model, or contains parts that a bundle must not have."""


class ExternalDataError(BundleError):
    """A graph refers to data outside its file."""


class OperatorDomainError(BundleError):
    """A graph has operators that are not ONNX's own."""


class GraphInterfaceError(BundleError):
    """A graph does not have the inputs and outputs that the manifest implies."""


class TokenizerError(BundleError):
    """The file of a tokenizer cannot be read, or has tokens that the graph does not know."""


class SampleFormatError(BundleError):
    """The sample rows do not follow their format, or do not fit the manifest."""


class SampleMismatchError(BundleError):
    """The bundle does not predict for its sample rows what the exported model predicted."""


class SignatureError(BundleError):
    """The bundle is not signed, or not with the required key."""


class InferenceError(RuntimeError):
    """Rows that the manifest allows made onnxruntime fail.

    It does not say who is at fault: the graph, the device, or rows unlike those of training.
    """
