"""Tables with columns of texts and of images."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skmode._encoding.columns import Columns, open_columns
from skmode._encoding.images import ImageCellEncoder
from skmode._encoding.tables import Column, TableEncoder, chosen_columns
from skmode._encoding.texts import TextEncoder, check_texts, is_missing

# What "auto" takes for texts: words on average, and the share of the values that are distinct.
FEWEST_WORDS, DISTINCT = 5.0, 0.5
# The tokens of each column: as the estimators of texts have them by default.
VOCAB_SIZE, MAX_TOKENS = 16_000, 512


class MixedEncoder(TableEncoder):
    """A :class:`TableEncoder` some of whose columns hold texts or images.

    Attributes
    ----------
    from_table_ : bool
        Whether training saw a DataFrame.
    columns_ : list of Column
        One item per input column, in order. Those of texts have a :class:`TextEncoder`, those of
        images an :class:`ImageCellEncoder`.
    """

    def __init__(
        self, categorical_features: Any, text_features: Any, image_features: Any = None
    ) -> None:
        super().__init__(categorical_features)
        self.text_features = text_features
        self.image_features = image_features

    def transform_others(self, X: Any) -> list[NDArray[Any]]:
        """Encode the columns that hold neither numbers nor categories.

        First come ids and counts of tokens of each column of texts, then the pixels of each column
        of images.
        """
        columns = open_columns(X)
        bags: list[NDArray[Any]] = []
        pixels: list[NDArray[Any]] = []
        for i, column in enumerate(self.columns_):
            if column.kind == "text":
                bags += column.text.transform(_read_texts(column.name, columns.column(i)))
            elif column.kind == "image":
                pixels.append(_read_images(column.name, column.image, columns.column(i)))
        return bags + pixels

    def _kinds(self, columns: Columns) -> NDArray[Any]:
        images = self._chosen(self.image_features, columns, "image_features")
        named = self._named_categories(columns)
        if isinstance(self.text_features, str):
            texts = self._find_texts(columns, images | named)
        else:
            texts = self._chosen(self.text_features, columns, "text_features")
        for one, other, names in (
            (texts, named, "text_features and categorical_features"),
            (images, named, "image_features and categorical_features"),
            (texts, images, "text_features and image_features"),
        ):
            both = [columns.names[i] for i in np.flatnonzero(one & other)]
            if both:
                raise ValueError(
                    f"A column must be in one of {names}, got {both[:10]} in both: leave it in one "
                    "of them."
                )
        categories = self._categorical_mask(columns, texts | images)
        return np.select([texts, images, categories], ["text", "image", "category"], "number")

    def _chosen(self, asked: Any, columns: Columns, parameter: str) -> NDArray[np.bool_]:
        if asked is None:
            return np.zeros(len(columns.names), dtype=bool)
        return chosen_columns(asked, columns.names, parameter, named=self.from_table_)

    def _named_categories(self, columns: Columns) -> NDArray[np.bool_]:
        """Tell for each column whether the user has named it as one of categories."""
        if self.categorical_features is None or isinstance(self.categorical_features, str):
            return np.zeros(len(columns.names), dtype=bool)
        return self._categorical_mask(columns)

    def _find_texts(self, columns: Columns, others: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the columns of texts among those that are none of the others."""
        if self.text_features != "auto":
            raise ValueError(
                'text_features must be "auto", None, a mask, positions or names, got '
                f"{self.text_features!r}: put a single name into a list."
            )
        skipped = others | np.logical_or(columns.is_plain(), columns.is_sparse())
        return np.array(
            [not skip and holds_texts(columns.column(i)) for i, skip in enumerate(skipped)]
        )

    def _learn(self, kind: str, name: str, values: Any) -> Column:
        if kind == "text":
            return _learn_texts(name, values)
        if kind == "image":
            return _learn_images(name, values)
        return super()._learn(kind, name, values)


def holds_texts(values: Any) -> bool:
    """Whether a column holds sentences, most of which differ, whatever the type of its strings."""
    if isinstance(values, nw.Series) and values.dtype not in (nw.String, nw.Object, nw.Categorical):
        return False
    known = [value for value in _cells(values) if not is_missing(value)]
    if not known or not all(isinstance(value, str) for value in known):
        return False
    words = np.mean([len(value.split()) for value in known])
    return bool(words >= FEWEST_WORDS and len(set(known)) >= DISTINCT * len(known))


def _learn_texts(name: str, values: Any) -> Column:
    texts = _read_texts(name, values)
    try:
        encoder = TextEncoder(None, VOCAB_SIZE, True, MAX_TOKENS).fit(texts)
    except ValueError as error:
        raise _not_a_text(name, error) from error
    return Column(name, "text", has_missing=bool((texts == "").any()), text=encoder)


def _read_texts(name: str, values: Any) -> NDArray[Any]:
    """Read a column of texts, and name it in errors."""
    try:
        return check_texts(_cells(values), "the estimator")
    except (TypeError, ValueError) as error:
        raise _not_a_text(name, error) from error


def _not_a_text(name: str, error: Exception) -> ValueError:
    return ValueError(f"Column {name!r} of text_features must hold texts. {error}")


def _learn_images(name: str, values: Any) -> Column:
    try:
        encoder = ImageCellEncoder().fit_cells(_cells(values))
    except (TypeError, ValueError, OSError) as error:
        raise _not_an_image(name, error) from error
    return Column(name, "image", has_missing=encoder.has_missing_, image=encoder)


def _read_images(name: str, encoder: ImageCellEncoder, values: Any) -> NDArray[Any]:
    """Read a column of images, and name it in errors."""
    try:
        return encoder.read_cells(_cells(values))
    except (TypeError, ValueError, OSError) as error:
        raise _not_an_image(name, error) from error


def _not_an_image(name: str, error: Exception) -> Exception:
    column = f"Column {name!r} of image_features must hold images."
    if isinstance(error, OSError):
        return type(error)(error.errno, f"{column} {error.strerror}", error.filename)
    return ValueError(f"{column} {error}")


def _cells(values: Any) -> list[Any]:
    """The cells of a column as Python objects; those of arrays stay arrays, with their type."""
    if not isinstance(values, nw.Series):
        return list(values)
    if values.dtype == nw.Array:
        known = values.drop_nulls().to_numpy()
        if known.ndim > 1:
            images = iter(known)
            return [None if missing else next(images) for missing in values.is_null().to_list()]
    return values.to_list()
