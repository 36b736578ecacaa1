"""Read and write the manifest of a bundle, ``manifest.json``.

A manifest has exactly one valid text, the canonical one, which contains a checksum of the rest.
``manifest.schema.json`` beside this package describes it for other languages.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle.manifest.language import Domain, Language
from skmode_deploy.bundle.manifest_check import (
    AGAIN,
    MANIFEST,
    OPTIONAL_COLUMN_FIELDS,
    OPTIONAL_FIELDS,
    SCHEMA_VERSION,
    check_document,
)
from skmode_deploy.bundle.messages import short_repr, shorten
from skmode_deploy.errors import ManifestChangedError, ManifestError, SchemaVersionError

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Classes",
    "Column",
    "File",
    "Image",
    "Manifest",
    "RoutingDifference",
    "Teacher",
    "Threshold",
]


@dataclass(frozen=True)
class Column:
    """One input column.

    Attributes
    ----------
    name : str
        Name of the column in tables.
    input : str
        Name of its graph input. It differs from `name` only if that is empty or the name of an
        output, see :func:`skmode_deploy.bundle.input_names`. A model that was trained on an array
        has one input for all columns.
    kind : {"number", "category"}
        How the model reads the column.
    dtype : {"float32", "float64", "int64", "string"}
        Element type of the graph input.
    categories : tuple or None
        Known categories: strings, floats or integers, as `dtype` says. None for numbers.
    has_missing : bool
        Whether the column had missing values in training.
    minimum, maximum : float or None
        Range of the numbers in training. None for categories, and if the range is not known.
    refuses : tuple of {"missing", "unseen"} or None
        Values that a predictor refuses, because the model or its graph failed on them at the
        export: missing ones; categories that are not in `categories`. None in bundles of releases
        that did not check this: nothing is refused.
    lowest, highest : float or None
        Numbers below and above are refused, for the same reason. None is no limit.
    """

    name: str
    input: str
    kind: Literal["number", "category"]
    dtype: Literal["float32", "float64", "int64", "string"]
    categories: tuple[Any, ...] | None = None
    has_missing: bool = False
    minimum: float | None = None
    maximum: float | None = None
    refuses: tuple[str, ...] | None = None
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Image:
    """The images that a model reads: all have this size.

    Attributes
    ----------
    height, width : int
        Pixels of a column and of a row.
    channels : int
        Colours of a pixel: 1 is grey, 3 is RGB, 4 is RGBA.
    layout : {"hw", "hwc", "chw"}
        Axes of an image. "hw" has no axis for its only channel.
    dtype : {"uint8", "float32"}
        Element type of the graph input: numbers from 0 to 255, or from 0 to 1.
    """

    height: int
    width: int
    channels: int
    layout: Literal["hw", "hwc", "chw"]
    dtype: Literal["uint8", "float32"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of one image."""
        sizes = {"h": self.height, "w": self.width, "c": self.channels}
        return tuple(sizes[axis] for axis in self.layout)


@dataclass(frozen=True)
class Classes:
    """Class labels of a classifier.

    Attributes
    ----------
    values : tuple
        Labels in the order of the probabilities.
    dtype : str
        numpy's name for the type that `predict` returned in training. For strings, "U" and the
        length of the longest label.
    label : {"value", "index"}
        Whether the graph's output `label` is the label itself, or its position in `values`. ONNX
        has strings and integers; labels of other types are returned as positions.
    """

    values: tuple[Any, ...]
    dtype: str
    label: Literal["value", "index"]


@dataclass(frozen=True)
class Threshold:
    """Where a classifier of two classes switches to one of them.

    Attributes
    ----------
    position : int
        Position in the classes of the class whose probability is compared.
    value : float
        The smallest probability for which this class is the label.
    """

    position: int
    value: float


@dataclass(frozen=True)
class RoutingDifference:
    """How far predictions by the top expert are from those by the mixture.

    Attributes
    ----------
    rows : {"validation", "export"}
        Where it was measured: on the validation rows of training, after all training, or on the
        rows that the export got.
    mean, max : tuple of float
        Mean and largest absolute difference: one number for the probabilities of a classifier, and
        one for each target of a regressor, in its unit.
    """

    rows: Literal["validation", "export"]
    mean: tuple[float, ...]
    max: tuple[float, ...]


@dataclass(frozen=True)
class Teacher:
    """What taught the experts, which is not in the bundle.

    Attributes
    ----------
    names : tuple of str
        Classes of the models whose predictions were averaged.
    losses : dict or None
        Losses on the validation rows of training: of ``"teacher"``, ``"mixture"``,
        ``"top_expert"`` and ``"constant"``, the best prediction that is the same for all rows.
        None if there were no such rows.
    """

    names: tuple[str, ...]
    losses: dict[str, float] | None


@dataclass(frozen=True)
class File:
    """Size in bytes and SHA-256 of one file.

    Attributes
    ----------
    size : int
        Number of bytes.
    sha256 : str
        Hash in hexadecimal digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Description of the model in a bundle.

    Attributes
    ----------
    task : {"classification", "regression", "language_modeling"}
        Kind of the model.
    routing : {"top_expert", "mixture"}
        Whether ``model.onnx`` runs the top expert of each row, or mixes all experts. A language
        model runs one expert, or mixes it with the common one.
    input : {"columns", "array", "image", "language"}
        One graph input per column, one float32 input ``X`` for all columns, or one input
        ``image``. A language model reads bytes and tokens.
    from_table : bool
        Whether the model was trained on a table. Then columns are found by name, else by position.
    columns : tuple of Column
        Columns in the order of training. Models of images and language models have none.
    n_outputs : int
        Number of classes, of values per row, or of a language model's tokens.
    classes : Classes or None
        Labels of a classifier. None for others.
    n_experts : int
        Number of experts; a language model has one for each domain.
    alpha : float
        Weight of the distillation loss in training.
    expert_usage : tuple of float
        Share of the training rows that the gate sends to each expert.
    validation_scores : dict or None
        Scores on the validation rows, by kind of inference. None if there were no such rows.
    versions : dict
        Versions of the libraries that wrote the bundle.
    files : dict
        Size and hash of each file, by name. :func:`skmode_deploy.bundle.write` fills it in.
    created : str
        Time of writing in UTC, as ``2026-11-22T05:00:00Z``. If it is empty,
        :func:`skmode_deploy.bundle.write` fills it in.
    notes : str
        Free text from the export.
    quantization : {"dynamic"} or None
        How the experts' weights were quantized to 8 bits. None if they were not.
    schema_version : int
        Version of this format.
    threshold : Threshold or None
        Where the labels of a classifier of two classes switch. None if the label is the most
        probable class; then the JSON text has no such field.
    routing_difference : RoutingDifference or None
        How far a bundle that predicts by the top expert is from its estimator, which predicts by
        the mixture. None if the two predict alike, or if there were no rows to tell; then the JSON
        text has no such field.
    teacher : Teacher or None
        Other models from which the experts learned. None if there were none; then the JSON text has
        no such field.
    image : Image or None
        The images of a model whose `input` is "image". None for tables and arrays; then the JSON
        text has no such field.
    language : Language or None
        The domains of a language model. None for others; then the JSON text has no such field.
    """

    task: Literal["classification", "regression", "language_modeling"]
    routing: Literal["top_expert", "mixture"]
    input: Literal["columns", "array", "image", "language"]
    from_table: bool
    columns: tuple[Column, ...]
    n_outputs: int
    classes: Classes | None
    n_experts: int
    alpha: float
    expert_usage: tuple[float, ...]
    validation_scores: dict[str, float] | None
    versions: dict[str, str]
    files: dict[str, File] = field(default_factory=dict)
    created: str = ""
    notes: str = ""
    quantization: Literal["dynamic"] | None = None
    schema_version: int = SCHEMA_VERSION
    threshold: Threshold | None = None
    routing_difference: RoutingDifference | None = None
    teacher: Teacher | None = None
    image: Image | None = None
    language: Language | None = None

    def label_positions(self, probabilities: NDArray[Any]) -> NDArray[np.int64]:
        """Choose the label of each row.

        Parameters
        ----------
        probabilities : ndarray of shape (n_rows, n_classes)
            Probabilities of the classes.

        Returns
        -------
        ndarray of shape (n_rows,)
            Positions of the labels in the classes.
        """
        if self.threshold is None:
            return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
        position = self.threshold.position
        # In float64, as `model.onnx` compares.
        passed = probabilities[:, position].astype(np.float64) >= self.threshold.value
        return np.where(passed, position, 1 - position).astype(np.int64)

    def to_json(self) -> str:
        """Return the JSON text.

        Returns
        -------
        str
            The canonical text: ASCII, sorted keys, indented by two spaces, with a line feed at
            the end. Its field ``sha256`` is the hash of the same text without this field.
        """
        document = dataclasses.asdict(self)
        # Left out, so that manifests of earlier releases keep their text, and these read others.
        for column in document["columns"]:
            for name in OPTIONAL_COLUMN_FIELDS:
                if column[name] is None:
                    del column[name]
        for name in OPTIONAL_FIELDS:  # earlier releases of skmode-deploy know no such field
            if document[name] is None:
                del document[name]
        return _to_text(document | {"sha256": _checksum(document)})

    def file_hash(self) -> str:
        """Return the hash of ``manifest.json``.

        Returns
        -------
        str
            SHA-256 of the bytes of the file, in hexadecimal digits.
        """
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest from its JSON text.

        Parameters
        ----------
        text : str or bytes
            What :meth:`to_json` wrote.

        Returns
        -------
        Manifest
            The manifest.

        Raises
        ------
        BundleError
            If the manifest has another schema version, if its checksum is wrong, or if the text
            is not exactly the canonical one.
        """
        document = _parse(text)
        version = document.get("schema_version")
        if type(version) is not int or version != SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{MANIFEST} must have schema_version {SCHEMA_VERSION}, got {short_repr(version)}: "
                f"install the skmode-deploy release that reads this version, or {AGAIN}."
            )
        check_document(document)
        stated = document.pop("sha256")
        actual = _checksum(document)
        if stated != actual:
            raise ManifestChangedError(
                f"{MANIFEST} must have the sha256 that it states, {short_repr(stated)}, got "
                f"{actual}: it was changed after the export; copy the whole bundle again."
            )
        manifest = _from_document(document)
        canonical = manifest.to_json()
        if canonical != (text if isinstance(text, str) else text.decode()):
            raise ManifestError(
                f"{MANIFEST} must have exactly the text that skmode.onnx.export writes (sorted "
                "keys, two spaces, ASCII, each key once), got another text with the same content: "
                "copy the whole bundle again, in binary mode."
            )
        return manifest


def _to_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(_to_text(document).encode()).hexdigest()


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        # Decoded here, because json would guess the encoding.
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        document = json.loads(decoded, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{MANIFEST} must be a JSON object with a schema_version, but reading it failed with "
            f"{type(error).__name__}: {shorten(str(error))}. Copy the whole bundle again."
        ) from None
    if not isinstance(document, dict) or "schema_version" not in document:
        raise ManifestError(
            f"{MANIFEST} must be a JSON object with a schema_version, got {short_repr(document)}: "
            "pass the folder of a bundle that skmode.onnx.export wrote."
        )
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _with_tuples(item: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}


def _from_document(document: dict[str, Any]) -> Manifest:
    """Build a manifest from a document that :func:`check_document` accepted."""
    columns = tuple(Column(**_with_tuples(item)) for item in document["columns"])
    classes = document["classes"]
    if classes is not None:
        classes = Classes(**classes | {"values": tuple(classes["values"])})
    files = {name: File(**item) for name, item in document["files"].items()}
    usage = tuple(document["expert_usage"])
    rest = {"columns": columns, "classes": classes, "files": files, "expert_usage": usage}
    if "threshold" in document:
        rest["threshold"] = Threshold(**document["threshold"])
    if "routing_difference" in document:
        difference = _with_tuples(document["routing_difference"])
        rest["routing_difference"] = RoutingDifference(**difference)
    if "teacher" in document:
        rest["teacher"] = Teacher(**_with_tuples(document["teacher"]))
    if "image" in document:
        rest["image"] = Image(**document["image"])
    if "language" in document:
        domains = tuple(Domain(**item) for item in document["language"]["domains"])
        rest["language"] = Language(**document["language"] | {"domains": domains})
    return Manifest(**document | rest)
