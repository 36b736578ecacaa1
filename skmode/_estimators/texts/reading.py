"""Reading the rows of an estimator of texts."""

import functools
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from skmode._common.sklearn import HasMethods, Interval, StrOptions
from skmode._encoding.columns import is_table
from skmode._encoding.texts import TextEncoder, check_texts
from skmode._estimators.base import BaseMoDE
from skmode._estimators.parameters import DROPOUT, FULL_BATCH_ROWS, Auto
from skmode._estimators.tables.bags import TOKEN_DROPOUT, make_text_trunk
from skmode._estimators.tables.reading import LINEAR_SHARES
from skmode._estimators.texts.trunk import make_transformer_trunk
from skmode._training.plan import MakeTrunk
from skmode._training.process.isolation import isolated

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
    "text_encoder": [StrOptions({"bag", "transformer"})],
    "transformer_layers": [Interval(Integral, 1, None, closed="left")],
    "transformer_heads": [Interval(Integral, 1, None, closed="left")],
    "token_embedding_size": [Interval(Integral, 1, None, closed="left")],
    "token_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "tune_tokens": ["boolean", StrOptions({"auto"})],
    "linear_share": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}
# max_epochs="auto": this over the square root of the number of texts, within these bounds.
EPOCHS_OF_ONE, FEWEST_EPOCHS, MOST_EPOCHS = 600, 4, 60
LARGEST_BATCH = 64
# Candidates of weight_decay="auto": where classes are few and texts many, a strong decay is far
# better, and where some classes have few texts, a weak one. Without validation texts: one between.
WEIGHT_DECAYS, MIDDLE_WEIGHT_DECAY = (0.01, 3.0), 0.3
# With these an expert's layers can pass on what the linear model says.
LINEAR_ACTIVATIONS = ("gelu", "identity", "relu", "silu")
# A transformer takes far longer to train, so there is one training.
TRANSFORMER_WEIGHT_DECAY = 0.01


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
    text_encoder: Literal["bag", "transformer"]
    transformer_layers: int
    transformer_heads: int
    token_embedding_size: int
    token_dropout: float | Auto
    tune_tokens: bool | Auto
    linear_share: float | Auto

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
        self._check_encoder()

    def _check_encoder(self) -> None:
        width, n_heads = self.token_embedding_size, self.transformer_heads
        if self.text_encoder == "transformer" and width % n_heads:
            raise ValueError(
                "token_embedding_size must be a multiple of transformer_heads, got "
                f"{width} and {n_heads}: change one."
            )
        self._check_linear_share()

    def _check_linear_share(self) -> None:
        """Refuse a share that the user asks for where there can be no linear model."""
        needed = {
            "text_encoder": self.text_encoder == "bag",
            "expert_module": self.expert_module is None,
            "activation": self.activation in LINEAR_ACTIVATIONS,
            "loss": getattr(self, "loss", "squared_error") == "squared_error",
        }
        if self.linear_share in ("auto", 0) or all(needed.values()):
            return
        name = next(name for name, fits in needed.items() if not fits)
        raise ValueError(
            'linear_share above 0 needs text_encoder="bag", no expert_module, an activation among '
            f'{", ".join(LINEAR_ACTIVATIONS)}, and loss="squared_error"; got {name}='
            f'{getattr(self, name)!r}: change it, or leave linear_share="auto".'
        )

    def _check_input(self, X: Any, *, reset: bool) -> NDArray[Any]:
        self._check_names(X, reset=reset)
        return check_texts(X, type(self).__name__)

    def _check_names(self, X: Any, *, reset: bool) -> None:
        """Keep or compare the name of a table's column; a list or a Series has no such name."""
        has_columns = is_table(X) or getattr(X, "ndim", 1) == 2
        if reset:
            for name in ("feature_names_in_", "n_features_in_"):
                self.__dict__.pop(name, None)
        elif not hasattr(self, "feature_names_in_"):
            return
        if has_columns and not scipy.sparse.issparse(X):
            validate_data(self, X=X, skip_check_array=True, reset=reset)

    def _fit_encoder(self, X: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        encoder = TextEncoder(
            self.tokenizer,
            self.vocab_size,
            self.lowercase,
            self.max_tokens,
            in_order=self.text_encoder == "transformer",
        )
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
        make_bag = functools.partial(
            make_text_trunk,
            continues_word=self.encoder_.continues_word(),
            width=self.token_embedding_size,
            dropout=float(dropout),
            tuned=None if self.tune_tokens == "auto" else bool(self.tune_tokens),
        )
        if self.text_encoder == "bag":
            return make_bag
        few = n_rows is not None and n_rows <= FULL_BATCH_ROWS
        blocks = (0.0 if few else DROPOUT) if self.dropout == "auto" else float(self.dropout)
        return functools.partial(
            make_transformer_trunk,
            make_bag=make_bag,
            max_tokens=self.max_tokens,
            width=self.token_embedding_size,
            n_layers=self.transformer_layers,
            n_heads=self.transformer_heads,
            n_experts=self.n_experts,
            dropout=blocks,
        )

    def _linear_shares(self) -> tuple[float, ...]:
        return LINEAR_SHARES if self.linear_share == "auto" else (float(self.linear_share),)

    def _resolve_weight_decays(self, *, first: bool, held_out: bool) -> tuple[float, ...]:
        if self.weight_decay != "auto":
            return (float(self.weight_decay),)
        if self.text_encoder == "transformer":
            return (TRANSFORMER_WEIGHT_DECAY,)
        if not first:
            return (self.weight_decay_,)
        return WEIGHT_DECAYS if held_out else (MIDDLE_WEIGHT_DECAY,)

    def _resolve_epochs(self, epochs: Any, n_rows: int) -> int:
        if epochs != "auto":
            return int(epochs)
        return int(np.clip(math.ceil(EPOCHS_OF_ONE / n_rows**0.5), FEWEST_EPOCHS, MOST_EPOCHS))
