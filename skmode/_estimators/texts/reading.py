"""Reading the rows of an estimator of texts."""

import functools
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from skmode._common.sklearn import HasMethods, Interval, StrOptions
from skmode._encoding.texts import TextEncoder, check_texts
from skmode._estimators.base import BaseMoDE
from skmode._estimators.parameters import FULL_BATCH_ROWS, Auto
from skmode._estimators.tables.bags import TOKEN_DROPOUT, make_text_trunk
from skmode._training.isolation import isolated
from skmode._training.plan import MakeTrunk

# Parameters of the table estimators that texts have no use for.
TABLES_ONLY = (
    "numeric_embedding",
    "categorical_features",
    "text_features",
    "image_features",
    "synthetic_rows",
)
CONSTRAINTS: dict[str, list[Any]] = {
    "tokenizer": [str, HasMethods(["to_str"]), HasMethods(["__fspath__"]), None],
    "vocab_size": [Interval(Integral, 256, None, closed="left")],
    "lowercase": ["boolean"],
    "max_tokens": [Interval(Integral, 1, None, closed="left")],
    "token_embedding_size": [Interval(Integral, 1, None, closed="left")],
    "token_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "tune_tokens": ["boolean", StrOptions({"auto"})],
    "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}
# max_epochs="auto": this over the square root of the number of texts, within these bounds.
EPOCHS_OF_ONE, FEWEST_EPOCHS, MOST_EPOCHS = 600, 4, 60
LARGEST_BATCH = 64
# Candidates of weight_decay="auto": where classes are few and texts many, a strong decay is far
# better, and where some classes have few texts, a weak one. Without validation texts: one between.
WEIGHT_DECAYS, MIDDLE_WEIGHT_DECAY = (0.01, 3.0), 0.3


def constraints_of(tables: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Constraints on the parameters of an estimator of texts, given those of its relative."""
    kept = {name: each for name, each in tables.items() if name not in TABLES_ONLY}
    return kept | CONSTRAINTS


class ReadsTexts(BaseMoDE):
    """An estimator whose rows are texts."""

    _largest_batch: ClassVar[int] = LARGEST_BATCH
    # No rows are made up for a teacher: parts of two texts make no third.
    synthetic_rows: float = 0.0

    tokenizer: Any
    vocab_size: int
    lowercase: bool
    max_tokens: int
    token_embedding_size: int
    token_dropout: float | Auto
    tune_tokens: bool | Auto

    tokenizer_json_: str

    _reads_datasets: ClassVar[bool] = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = False
        tags.input_tags.sparse = False
        return tags

    def _begin_reading(self, X: Any, y: Any, *, reset: bool) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )

    def _check_input(self, X: Any, *, reset: bool) -> NDArray[Any]:
        return check_texts(X, type(self).__name__)

    def _fit_encoder(self, X: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        encoder = TextEncoder(self.tokenizer, self.vocab_size, self.lowercase, self.max_tokens)
        self.encoder_ = encoder.fit(X)
        self.tokenizer_json_ = self.encoder_.tokenizer_json_

    def _encode_inputs(self, X: NDArray[Any]) -> tuple[Any, ...]:
        tokens, counts = self.encoder_.transform(X)
        with isolated():
            return torch.as_tensor(tokens), torch.as_tensor(counts)

    def _trunk_maker(self, n_rows: int | None) -> MakeTrunk:
        dropout = self.token_dropout
        if dropout == "auto":  # as for the dropout of units: one batch shall not depend on order
            few = n_rows is not None and n_rows <= FULL_BATCH_ROWS
            dropout = 0.0 if few else TOKEN_DROPOUT
        return functools.partial(
            make_text_trunk,
            continues_word=self.encoder_.continues_word(),
            width=self.token_embedding_size,
            dropout=float(dropout),
            tuned=None if self.tune_tokens == "auto" else bool(self.tune_tokens),
        )

    def _resolve_weight_decays(self, *, first: bool, held_out: bool) -> tuple[float, ...]:
        if self.weight_decay != "auto":
            return (float(self.weight_decay),)
        if not first:
            return (self.weight_decay_,)
        return WEIGHT_DECAYS if held_out else (MIDDLE_WEIGHT_DECAY,)

    def _resolve_epochs(self, epochs: Any, n_rows: int) -> int:
        if epochs != "auto":
            return int(epochs)
        return int(np.clip(math.ceil(EPOCHS_OF_ONE / n_rows**0.5), FEWEST_EPOCHS, MOST_EPOCHS))
