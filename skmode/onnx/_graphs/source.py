"""Read from a fitted estimator what its graphs and its manifest need."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.exceptions import NotFittedError
from torch import nn

from skmode.nn import (
    CrossEntropy,
    ImageTrunk,
    MixedTrunk,
    MixtureOfExperts,
    TabularTrunk,
    TextTrunk,
)
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.columns import (
    ARRAY_INPUT,
    ELEMENT_TYPES,
    emit_array_input,
    emit_column_inputs,
)
from skmode.onnx._graphs.experts.build import build_experts
from skmode_deploy import bundle

# Largest step between float32 numbers near the mean target, in standard deviations of the target.
MAX_TARGET_STEP = 1e-3
_PREFIX = "preprocessing"
TOKENIZER = "tokenizer.json"


# Adds nodes to a graph that compute one value from another.
Emit = Callable[[GraphBuilder, str], str]


def has_strings(graph: onnx.GraphProto) -> bool:
    """Whether a graph returns strings, so that its outputs cannot be one array."""
    kinds = [output.type.tensor_type.elem_type for output in graph.output]
    return TensorProto.STRING in kinds


@dataclass(frozen=True)
class Preprocessing:
    """The steps of a Pipeline before its estimator, and the raw columns that they read."""

    # Its inputs are the columns in order, or one array of all columns.
    graph: onnx.GraphProto
    # Element type of its numeric inputs, from onnx.TensorProto.
    dtype: int
    columns: tuple[bundle.Column, ...]
    one_input_per_column: bool
    # Whether the Pipeline was trained on a table.
    from_table: bool

    def emit(self, graph: GraphBuilder) -> str:
        """Declare the inputs and compute the estimator's input."""
        (value,) = self._emit_outputs(graph)
        return graph.add("Cast", [value], f"{_PREFIX}/features", to=TensorProto.FLOAT)

    def emit_columns(self, graph: GraphBuilder, columns: Sequence[bundle.Column]) -> list[str]:
        """Declare the inputs and compute the estimator's columns, each in its own type."""
        outputs = zip(self._emit_outputs(graph), self._widths(len(columns)), strict=True)
        values: list[str] = []
        for value, width in outputs:
            for i in range(width):
                position = graph.constant([i], f"{_PREFIX}/position")
                values.append(
                    graph.add("Gather", [value, position], f"{_PREFIX}/column", axis=1)
                    if width > 1
                    else value
                )
        return [
            value
            if column.dtype == "string"
            else graph.add("Cast", [value], f"{_PREFIX}/number", to=ELEMENT_TYPES[column.dtype])
            for value, column in zip(values, columns, strict=True)
        ]

    def _widths(self, expected: int) -> list[int]:
        """Get the number of columns of each output; skl2onnx may leave one of them open."""
        shapes = [output.type.tensor_type.shape.dim for output in self.graph.output]
        widths = [shape[1].dim_value if len(shape) > 1 else 0 for shape in shapes]
        if widths.count(0) == 1:
            widths[widths.index(0)] = expected - sum(widths)
        if sum(widths) != expected or min(widths) < 1:
            raise NotImplementedError(
                f"The steps before the estimator must return {expected} columns of known types, "
                f"got groups of {widths}: use a single ColumnTransformer before the estimator."
            )
        return widths

    def _emit_outputs(self, graph: GraphBuilder) -> list[str]:
        prefix = _PREFIX
        if self.one_input_per_column:
            values = emit_column_inputs(graph, self.columns)
        else:
            values = [emit_array_input(graph, self.columns)]
        casted = []
        for value, column in zip(values, self.columns, strict=False):
            if column.dtype != "string":
                value = graph.add("Cast", [value], f"{prefix}/{value}", to=self.dtype)
            casted.append(value)
        names = [value.name for value in self.graph.input]
        if len(names) < len(casted):
            casted = [graph.add("Concat", casted, f"{prefix}/numbers", axis=1)]
        outputs = graph.inline(self.graph, dict(zip(names, casted, strict=True)), prefix)
        return [outputs[output.name] for output in self.graph.output]


@dataclass(frozen=True)
class Source:
    """Everything that the graphs of an estimator need."""

    mixture: MixtureOfExperts
    experts: list[onnx.GraphProto]
    columns: tuple[bundle.Column, ...]
    one_input_per_column: bool
    classes: NDArray[Any] | None
    target_mean: NDArray[np.float64] | None
    target_scale: NDArray[np.float64] | None
    preprocessing: Preprocessing | None = None
    # Chooses the position of the label by probabilities; None for the most probable class.
    choose: Emit | None = None
    # Turns float64 values of the estimator into values of the target.
    invert: Emit | None = None
    # The images that the estimator reads in the place of columns.
    image: bundle.Image | None = None
    # The content of the tokenizers' files by their names.
    tokenizers: Mapping[str, str] = field(default_factory=dict)

    @property
    def output_name(self) -> str:
        return "variable" if self.classes is None else "probabilities"

    @property
    def n_outputs(self) -> int:
        assert isinstance(self.mixture.head, nn.Linear)
        return self.mixture.head.out_features

    @property
    def n_hidden(self) -> int:
        """Width of what gate and experts read."""
        width = self.mixture.trunk.out_features
        assert isinstance(width, int)
        return width

    @property
    def trunk(self) -> TabularTrunk | MixedTrunk:
        assert isinstance(self.mixture.trunk, TabularTrunk | MixedTrunk)
        return self.mixture.trunk

    @property
    def image_trunk(self) -> ImageTrunk:
        assert isinstance(self.mixture.trunk, ImageTrunk)
        return self.mixture.trunk

    @property
    def reads_texts(self) -> bool:
        return isinstance(self.mixture.trunk, TextTrunk)

    @property
    def text_trunk(self) -> TextTrunk:
        assert isinstance(self.mixture.trunk, TextTrunk)
        return self.mixture.trunk


def read_estimator(estimator: Any) -> Source:
    """Read a fitted estimator."""
    name = type(estimator).__name__
    if not (hasattr(estimator, "net_") and hasattr(estimator, "encoder_")):
        if hasattr(estimator, "fit") and "inference" in getattr(estimator, "get_params", dict)():
            raise NotFittedError(
                f"Only a fitted estimator can be exported, but this {name} is not fitted: "
                "call fit before export."
            )
        raise TypeError(
            f"estimator must be a MoDEClassifier or a MoDERegressor, got {name}: pass one, "
            "a Pipeline that ends with one, or a search over either."
        )
    mixture = estimator.net_.module_
    image = _read_image(estimator.encoder_) if isinstance(mixture.trunk, ImageTrunk) else None
    columns: tuple[bundle.Column, ...]
    if isinstance(mixture.trunk, TextTrunk):
        columns, one_per_column = (text_column("text", "text", estimator.encoder_),), False
    else:
        columns, one_per_column = ((), False) if image else _read_columns(estimator.encoder_)
    classify = isinstance(mixture.task_loss, CrossEntropy)
    if classify:
        _check_labels(np.asarray(estimator.classes_))
    return Source(
        mixture,
        build_experts(mixture.experts, mixture.trunk.out_features),
        columns,
        one_per_column,
        np.asarray(estimator.classes_) if classify else None,
        None if classify else estimator.target_mean_,
        None if classify else estimator.target_scale_,
        image=image,
        tokenizers=_read_tokenizers(estimator.encoder_),
    )


def _read_image(encoder: Any) -> bundle.Image:
    return bundle.Image(
        encoder.height_,
        encoder.width_,
        encoder.n_channels_,
        encoder.layout_,
        encoder.dtype_,
        getattr(encoder, "missing_", None),  # only columns may have missing images
    )


def text_column(name: str, input_name: str, encoder: Any, file: str = TOKENIZER) -> bundle.Column:
    """Describe a column of texts, whose tokenizer is in a file."""
    read: Literal["transformer"] | None = "transformer" if encoder.in_order else None
    text = bundle.Text(file, encoder.n_tokens_, encoder.max_tokens, encoder.max_bytes, read)
    return bundle.Column(name, input_name, "text", "string", has_missing=True, text=text)


def _read_tokenizers(encoder: Any) -> dict[str, str]:
    """The content of the tokenizers' files, by name."""
    if hasattr(encoder, "tokenizer_json_"):
        return {TOKENIZER: encoder.tokenizer_json_}
    texts = getattr(encoder, "text_columns", [])
    return {_tokenizer_file(i): column.text.tokenizer_json_ for i, column in enumerate(texts)}


def _tokenizer_file(i: int) -> str:
    """Name the file for the i-th column of texts, whose name may be anything."""
    return f"tokenizer_{i}.json"


def _read_columns(encoder: Any) -> tuple[tuple[bundle.Column, ...], bool]:
    """Describe the columns of a table or an array, and tell whether each has an input."""
    strings = any(
        column.categories is not None and column.categories.dtype == object
        for column in encoder.columns_
    )
    others = bool(encoder.text_columns or encoder.image_columns)
    one_per_column = encoder.from_table_ or strings or others
    return _columns(encoder.columns_, one_per_column), one_per_column


def _check_labels(classes: NDArray[Any]) -> None:
    """Raise for labels that JSON, the format of the manifest, cannot hold."""
    labels = classes.tolist()
    # The dtype too: `tolist` turns dates in nanoseconds into plain integers.
    if classes.dtype.kind in "mM" or not all(isinstance(x, str | int | float) for x in labels):
        raise TypeError(
            "Class labels must be strings, integers, bools or floats to be exported, got "
            f"{classes[0]!r} of type {classes.dtype}: encode the labels as strings before fit, for "
            "example y.astype(str)."
        )


def with_array_input(source: Source) -> Source:
    """Read all columns from one float32 array if it can hold their categories; else do nothing."""
    columns = []
    for column in source.columns:
        if column.dtype == "string":
            return source
        if column.kind == "number":
            columns.append(replace(column, input=ARRAY_INPUT))
            continue
        known = np.asarray(column.categories, dtype=np.float32)
        if len(np.unique(known)) < len(known):
            return source
        columns.append(
            replace(column, input=ARRAY_INPUT, dtype="float32", categories=tuple(known.tolist()))
        )
    return replace(source, columns=tuple(columns), one_input_per_column=False)


def check_target(source: Source) -> None:
    """Warn if float32, the type of the outputs, is too coarse for the regression target."""
    if source.target_mean is None:
        return
    assert source.target_scale is not None
    steps = np.finfo(np.float32).eps * np.abs(source.target_mean) / source.target_scale
    worst = int(np.argmax(steps))
    if steps[worst] > MAX_TARGET_STEP:
        warnings.warn(
            "Exported predictions are float32, whose steps near the mean target should be at most "
            f"{MAX_TARGET_STEP:g} of its standard deviation, got {steps[worst]:.2g} for "
            f"output {worst} (mean {source.target_mean[worst]:g}, standard deviation "
            f"{source.target_scale[worst]:g}): subtract a constant from y before fit, and add it "
            "to the predictions.",
            UserWarning,
            stacklevel=3,
        )


def _columns(learned: Sequence[Any], one_per_column: bool) -> tuple[bundle.Column, ...]:
    """Describe the columns, which have one input each or one array as their common input."""
    names = [str(column.name) for column in learned]
    texts = [column for column in learned if column.kind == "text"]
    inputs = (ARRAY_INPUT,) * len(names)
    if one_per_column:
        are_texts = [column.kind == "text" for column in learned]
        inputs = _free_text_inputs(bundle.input_names(names), are_texts)
    return tuple(
        text_column(name, input_name, column.text, _tokenizer_file(texts.index(column)))
        if column.kind == "text"
        else _column(column, name, input_name, one_per_column)
        for column, name, input_name in zip(learned, names, inputs, strict=True)
    )


def _made(name: str) -> set[str]:
    """The names that an input of texts takes."""
    return {name, f"tokens_{name}", f"counts_{name}"}


def _free_text_inputs(names: Sequence[str], are_texts: Sequence[bool]) -> tuple[str, ...]:
    """Rename inputs of texts whose tokens or counts would be called as another input is."""
    taken = set(names)
    free = []
    for name, is_text in zip(names, are_texts, strict=True):
        if is_text:
            taken.remove(name)
            others = (f"{name}_{i}" for i in count(2))
            name = next(each for each in chain([name], others) if taken.isdisjoint(_made(each)))
            taken |= _made(name)
        free.append(name)
    return tuple(free)


def _column(column: Any, name: str, input_name: str, one_per_column: bool) -> bundle.Column:
    if column.kind == "image":
        image = _read_image(column.image)
        return bundle.Column(
            name,
            input_name,
            "image",
            image.dtype,
            has_missing=bool(column.has_missing),
            image=image,
        )
    if column.kind == "number":
        return bundle.Column(
            name,
            input_name,
            "number",
            "float32",
            has_missing=bool(column.has_missing),
            minimum=column.minimum,
            maximum=column.maximum,
        )
    known = column.categories
    dtype: Literal["float32", "float64", "string"] = "float64"
    if known.dtype == object:
        dtype = "string"
    elif not one_per_column:
        dtype = "float32"  # the type of the array
        if len(np.unique(known.astype(np.float32))) < len(known):
            raise ValueError(
                "Categories in an array must differ as float32 numbers, the type of the graph's "
                f"input, got some in column {name!r} that do not: fit on a DataFrame, whose "
                "numeric categories stay float64."
            )
        known = known.astype(np.float32)
    return bundle.Column(
        name, input_name, "category", dtype, tuple(known.tolist()), bool(column.has_missing)
    )


def label_kind(classes: NDArray[Any]) -> Literal["value", "index"]:
    """Whether the graph returns the labels ("value") or, if ONNX cannot hold them, positions."""
    kind = classes.dtype.kind
    strings = kind == "U" or (kind == "O" and all(isinstance(label, str) for label in classes))
    integers = kind in "iu" and int(classes.max()) <= np.iinfo(np.int64).max
    return "value" if strings or integers else "index"
