"""Reading the rows of a table."""

import functools
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from skmode._encoding.columns import is_table
from skmode._encoding.mixed import MixedEncoder, holds_texts
from skmode._encoding.tables import TableEncoder
from skmode._encoding.tables.arrays import validate_array
from skmode._estimators.evaluation import EvaluatesRows
from skmode._estimators.parameters import FULL_BATCH_ROWS
from skmode._estimators.rows.teaching import tags_of
from skmode._estimators.tables.pixels import image_augmentation
from skmode._estimators.tables.trunk import NumericEmbedding, make_trunk
from skmode._training.plan import MakeTrunk
from skmode._training.process.isolation import isolated
from skmode._training.rows import SparseNumbers

# Shares of a linear model of texts that the validation rows choose among.
LINEAR_SHARES = (0.0, 0.25, 0.5, 0.75)


class ReadsTables(EvaluatesRows):
    """An estimator whose rows are those of a table, an array or a sparse matrix."""

    # Standard deviation of the periodic embeddings' frequencies at the start.
    _frequency_scale: ClassVar[float]

    categorical_features: Any
    text_features: Any
    image_features: Any
    numeric_embedding: NumericEmbedding | None
    teacher: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A teacher that imputes in a Pipeline has no tag for it.
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = all(each.input_tags.sparse for each in tags_of(self.teacher))
        tags.input_tags.string = False
        return tags

    def _begin_reading(self, X: Any, y: Any, *, reset: bool) -> None:
        is_table(X)  # raises for lazy tables and duplicate column names
        validate_data(self, X=X, y=y, skip_check_array=True, reset=reset)

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        if is_table(X):
            if 0 in X.shape:
                what = "sample" if X.shape[0] == 0 else "feature"
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 "
                    f"is required by {type(self).__name__}."
                )
        else:
            X = validate_array(X, self, may_hold_texts=self._may_hold_texts(X, reset=reset))
        if not reset:
            validate_data(self, X=X, skip_check_array=True, reset=False)
        return X

    def _may_hold_texts(self, X: Any, *, reset: bool) -> bool:
        """Whether an array of objects has texts that `text_features="auto"` finds, or found."""
        if not isinstance(self.text_features, str):
            return False
        if not reset:
            return bool(self.encoder_.text_columns)
        is_array = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2
        return is_array and any(map(holds_texts, X.T))

    def _fit_encoder(self, X: Any, sample_weight: NDArray[np.float64]) -> None:
        encoder = (
            TableEncoder(self.categorical_features)
            if self.text_features is None and self.image_features is None
            else MixedEncoder(self.categorical_features, self.text_features, self.image_features)
        )
        self.encoder_ = encoder.fit(X, sample_weight)

    def _encode_inputs(self, X: Any) -> tuple[Any, ...]:
        with isolated():
            numbers, codes = self.encoder_.transform(X)
            is_dense = isinstance(numbers, np.ndarray)
            read = torch.as_tensor(numbers) if is_dense else SparseNumbers(numbers)
            has_others = self.encoder_.text_columns or self.encoder_.image_columns
            others = self.encoder_.transform_others(X) if has_others else []
            return read, torch.as_tensor(codes), *map(torch.as_tensor, others)

    def _trunk_maker(self, n_rows: int | None) -> MakeTrunk:
        return functools.partial(
            make_trunk,
            encoder=self.encoder_,
            numeric_embedding=self.numeric_embedding,
            frequency_scale=self._frequency_scale,
            one_batch=n_rows is not None and n_rows <= FULL_BATCH_ROWS,
            augment=image_augmentation(n_rows),
        )

    def _linear_shares(self) -> tuple[float, ...]:
        return LINEAR_SHARES if self.encoder_.text_columns else ()

    @property
    def linear_share_(self) -> float:
        """Share of a linear model of texts in each prediction; 0 means that there is none."""
        share: float = self.net_.module_.linear_share
        return share
