"""Tables with columns of texts."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skmode._encoding.columns import Columns, open_columns
from skmode._encoding.tables import Column, TableEncoder, chosen_columns
from skmode._encoding.texts import TextEncoder, check_texts, is_missing

# What "auto" takes for texts: words on average, and the share of the values that are distinct.
FEWEST_WORDS, DISTINCT = 5.0, 0.5
# The tokens of each column: as the estimators of texts have them by default.
VOCAB_SIZE, MAX_TOKENS = 16_000, 512


class MixedEncoder(TableEncoder):
    """A :class:`TableEncoder` some of whose columns hold texts.

    Attributes
    ----------
    from_table_ : bool
        Whether training saw a DataFrame.
    columns_ : list of Column
        One item per input column, in order. Those of texts have a :class:`TextEncoder`.
    """

    def __init__(self, categorical_features: Any, text_features: Any) -> None:
        super().__init__(categorical_features)
        self.text_features = text_features

    def transform_texts(self, X: Any) -> list[NDArray[Any]]:
        """Turn the columns of texts into ids and counts of tokens, one pair after the other."""
        columns = open_columns(X)
        found: list[NDArray[Any]] = []
        for i, column in enumerate(self.columns_):
            if column.kind == "text":
                texts = _read(column.name, columns.column(i))
                found += column.text.transform(texts)
        return found

    def _text_mask(self, columns: Columns) -> NDArray[np.bool_]:
        asked = self.text_features
        if isinstance(asked, str):
            if asked != "auto":
                raise ValueError(
                    'text_features must be "auto", None, a mask, positions or names, got '
                    f"{asked!r}: put a single name into a list."
                )
            if not self.from_table_:
                return np.zeros(len(columns.names), dtype=bool)
            return np.array([_is_text(columns.column(i)) for i in range(len(columns.names))])
        chosen = chosen_columns(asked, columns.names, "text_features", named=self.from_table_)
        self._check_overlap(columns, chosen)
        return chosen

    def _check_overlap(self, columns: Columns, chosen: NDArray[np.bool_]) -> None:
        if self.categorical_features is None or isinstance(self.categorical_features, str):
            return
        both = [columns.names[i] for i in np.flatnonzero(chosen & self._categorical_mask(columns))]
        if both:
            raise ValueError(
                "A column must be in one of text_features and categorical_features, got "
                f"{both[:10]} in both: leave it in one of them."
            )

    def _learn_text(self, name: str, values: Any) -> Column:
        texts = _read(name, values)
        try:
            encoder = TextEncoder(None, VOCAB_SIZE, True, MAX_TOKENS).fit(texts)
        except ValueError as error:
            raise _error(name, error) from error
        missing = bool((texts == "").any())
        return Column(name, "text", has_missing=missing, text=encoder)


def _read(name: str, values: Any) -> NDArray[Any]:
    """Read a column, and name it in errors."""
    items = values.to_list() if isinstance(values, nw.Series) else list(values)
    try:
        return check_texts(items, "the estimator")
    except (TypeError, ValueError) as error:
        raise _error(name, error) from error


def _error(name: str, error: Exception) -> ValueError:
    return ValueError(f"Column {name!r} of text_features must hold texts. {error}")


def _is_text(values: Any) -> bool:
    """Whether a column holds sentences, most of which differ."""
    if not isinstance(values, nw.Series) or values.dtype not in (nw.String, nw.Object):
        return False
    known = [value for value in values.to_list() if not is_missing(value)]
    if not known or not all(isinstance(value, str) for value in known):
        return False
    words = np.mean([len(value.split()) for value in known])
    return bool(words >= FEWEST_WORDS and len(set(known)) >= DISTINCT * len(known))
