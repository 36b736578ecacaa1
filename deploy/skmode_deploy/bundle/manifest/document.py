"""Read and write the manifest of a bundle, ``manifest.json``.

A manifest has exactly one valid text, the canonical one, which contains a checksum of the rest.
``manifest.schema.json`` describes it for other languages.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle.manifest.check import (
    OPTIONAL_COLUMN_FIELDS,
    OPTIONAL_DOMAIN_FIELDS,
    OPTIONAL_FIELDS,
    OPTIONAL_IMAGE_FIELDS,
    OPTIONAL_LANGUAGE_FIELDS,
    OPTIONAL_TEXT_FIELDS,
    check_document,
)
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
from skmode_deploy.bundle.manifest.rules import AGAIN, MANIFEST, SCHEMA_VERSION
from skmode_deploy.bundle.messages import short_repr, shorten
from skmode_deploy.errors import ManifestChangedError, ManifestError, SchemaVersionError


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
    input : {"columns", "array", "image", "language", "text"}
        One graph input per column, one float32 input ``X`` for all columns, one input ``image``,
        or the inputs ``tokens`` and ``counts`` of a single column of texts. A language model reads
        bytes and tokens.
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
        Weight of the distillation loss in training. Of a language model, that of its experts if it
        is one number for all, else 0; `language` has that of each domain.
    expert_usage : tuple of float
        Share of the training rows that the gate sends to each expert; of a language model, the
        share of the training texts that are of each domain.
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
    input: Literal["columns", "array", "image", "language", "text"]
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

    @property
    def text_columns(self) -> tuple[Column, ...]:
        """Columns of texts, which need a tokenizer."""
        return tuple(column for column in self.columns if column.kind == "text")

    @property
    def image_columns(self) -> tuple[Column, ...]:
        """The columns of images in order."""
        return tuple(column for column in self.columns if column.kind == "image")

    @property
    def n_pixel_values(self) -> int:
        """Numbers that the images of a row have, 0 if it has none."""
        images = [self.image, *(column.image for column in self.columns)]
        return sum(math.prod(image.shape) for image in images if image is not None)

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
            for name in OPTIONAL_TEXT_FIELDS if "text" in column else ():
                if column["text"][name] is None:
                    del column["text"][name]
        images = [column.get("image") for column in document["columns"]] + [document["image"]]
        for image in filter(None, images):
            for name in OPTIONAL_IMAGE_FIELDS:
                if image[name] is None:
                    del image[name]
        for name in OPTIONAL_FIELDS:  # earlier releases of skmode-deploy know no such field
            if document[name] is None:
                del document[name]
        for domain in document["language"]["domains"] if self.language is not None else ():
            for name in OPTIONAL_DOMAIN_FIELDS:
                if domain[name] is None:
                    del domain[name]
        for name in OPTIONAL_LANGUAGE_FIELDS if self.language is not None else ():
            if document["language"][name] is None:
                del document["language"][name]
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


def _read_column(item: dict[str, Any]) -> Column:
    if "text" in item:
        item = item | {"text": Text(**item["text"])}
    if "image" in item:
        item = item | {"image": _read_image(item["image"])}
    return Column(**_with_tuples(item))


def _read_image(item: dict[str, Any]) -> Image:
    return Image(**_with_tuples(item))


def _from_document(document: dict[str, Any]) -> Manifest:
    """Build a manifest from a document that :func:`check_document` accepted."""
    columns = tuple(map(_read_column, document["columns"]))
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
        rest["image"] = _read_image(document["image"])
    if "language" in document:
        domains = tuple(Domain(**item) for item in document["language"]["domains"])
        rest["language"] = Language(**document["language"] | {"domains": domains})
    return Manifest(**document | rest)
