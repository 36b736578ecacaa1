"""What a manifest states about columns, images, texts, classes, routing, teachers and files."""

from dataclasses import dataclass
from typing import Any, Literal


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
    kind : {"number", "category", "text", "image"}
        How the model reads the column.
    dtype : {"float32", "float64", "int64", "string", "uint8"}
        Element type of the graph input. "string" for texts, "uint8" or "float32" for images.
    categories : tuple or None
        Known categories: strings, floats or integers, as `dtype` says. None for all other kinds.
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
    text : Text or None
        How texts become tokens. None for numbers and categories. A text has two graph inputs, see
        :func:`skmode_deploy.bundle.text_inputs`.
    image : Image or None
        Size, colours and type of the images in a column of images, whose graph input holds the
        pixels of all rows. None for all other kinds.
    """

    name: str
    input: str
    kind: Literal["number", "category", "text", "image"]
    dtype: Literal["float32", "float64", "int64", "string", "uint8"]
    categories: tuple[Any, ...] | None = None
    has_missing: bool = False
    minimum: float | None = None
    maximum: float | None = None
    refuses: tuple[str, ...] | None = None
    lowest: float | None = None
    highest: float | None = None
    text: "Text | None" = None
    image: "Image | None" = None


@dataclass(frozen=True)
class Text:
    """How the texts of a column become the tokens that a graph reads.

    Attributes
    ----------
    tokenizer : str
        Name of the tokenizer's file, ``tokenizer.json`` or ``tokenizer_<name>.json``; columns may
        share one.
    n_tokens : int
        Number of tokens that the graph knows, from 0. A tokenizer with others is refused.
    max_tokens : int
        Largest number of different tokens of a text; of more, the first are read. If `encoder` is
        "transformer", a token that occurs again counts again.
    max_bytes : int
        Largest size of a text in UTF-8. Longer ones are refused.
    encoder : {"transformer"} or None
        "transformer" if the graph reads tokens in the order of the text, each with the count 1.
        None if it reads different tokens and how often each occurs; then the JSON text has no such
        field.
    """

    tokenizer: str
    n_tokens: int
    max_tokens: int
    max_bytes: int
    encoder: Literal["transformer"] | None = None


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
    missing : tuple of float or None
        Colour of the image that stands for a missing one, a number of `dtype` for each channel.
        None: missing images are refused, as those of a model that reads nothing but images.
    """

    height: int
    width: int
    channels: int
    layout: Literal["hw", "hwc", "chw"]
    dtype: Literal["uint8", "float32"]
    missing: tuple[float, ...] | None = None

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
        numpy's name for the type that `predict` returned in training. For strings, ``"|O"``, or
        ``"<U3"`` if the longest label has 3 characters.
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
