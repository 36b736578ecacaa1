"""Estimators that fit, predict and score datasets which are larger than memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from skmode._common.batches import BatchSource, Block, is_dataset, open_batches, to_numpy
from skmode._estimators.parameters import check_combinations, check_structure
from skmode._estimators.parameters.ranks import agree_on_folder, common_random_state, digest, texts
from skmode._estimators.rows.splitting import Given, check_given
from skmode._estimators.tables.datasets.names import Names, read_names, refuse_unread
from skmode._estimators.tables.datasets.reading import encode_block, read_dataset
from skmode._estimators.tables.datasets.targets import Moments, Values, read_weight
from skmode._estimators.tables.reading import ReadsTables
from skmode._training.callbacks.checkpoints import Checkpoints
from skmode._training.evaluation import Function
from skmode._training.process.ranks import Ranks
from skmode._training.rows import Rows
from skmode._training.trainer import Data


class ReadsDatasets(ReadsTables):
    """An estimator of tables, in memory or in batches."""

    # Images and texts have readers of their own, which need all rows.
    _reads_datasets: ClassVar[bool] = True

    def _fit_dataset(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        target: Any,
        checkpoint: Any,
        *,
        first: bool,
        given: Given,
        **refused: Any,
    ) -> Self:
        """Train on the rows of a dataset."""
        self._check_reads_datasets(X)
        parameters = self._parameters
        check_combinations(parameters)
        if not first:
            check_structure(parameters, self._structure)
        refuse_unread(parameters, {"groups": given.groups, **refused})
        check_given(given, self.early_stopping, self.validation_fraction, teaches=False)
        source = open_batches(X)
        names = read_names(source, y, sample_weight, target)
        columns = f"{names.target} and {names.weight}"
        identity = "" if checkpoint is None else source.identity()
        ranks = agree_on_folder(checkpoint, identity, columns)
        seed = common_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        made_by = self._made_by(identity, names, given, first=first)
        with _opened(checkpoint, made_by, seed, ranks) as checkpoints:
            random_state = np.random.RandomState(checkpoints.seed)

            def make_data() -> Data:
                rng = np.random.default_rng(random_state.randint(np.iinfo(np.int32).max))
                own = given.X is not None
                ready = read_dataset(
                    self, source, names, checkpoints, rng, first=first, hold_out=not own
                )
                if not own:
                    return ready.data()
                valid = self._encode_given(given, ready.trained)
                checkpoints.check_same("validation", digest(valid))
                return ready.data()._replace(valid=valid)

            self._train(
                make_data,
                random_state,
                epochs=self.max_epochs,
                first=first,
                partial=False,
                checkpoints=None if checkpoint is None else checkpoints,
            )
        return self

    def _check_reads_datasets(self, X: Any) -> None:
        if not self._reads_datasets:
            raise TypeError(
                f"X of {type(self).__name__} must hold its rows in memory, got "
                f"{type(X).__name__}: pass an array or a list; datasets are read by MoDEClassifier "
                "and MoDERegressor, which take tables."
            )

    def _begin_dataset(self, table: Any) -> None:
        """Remember the columns."""
        validate_data(self, X=table, skip_check_array=True, reset=True)

    def _made_by(self, identity: str, names: Names, given: Given, *, first: bool) -> str:
        """Tell this fit from others: by parameters, rows and, if it continues one, by weights."""
        made_by = hashlib.sha256(identity.encode())
        kept = texts(self._parameters)
        made_by.update(f"{names} {sorted(kept.items())} {given.X is None}".encode())
        if not first:
            for value in self.net_.module_.state_dict().values():
                made_by.update(value.cpu().numpy().tobytes())
        return made_by.hexdigest()

    def _evaluate(self, X: Any, function: Function) -> list[NDArray[Any]]:
        if isinstance(X, Rows):  # encoded already
            return self._evaluate_rows(X, function)
        if not is_dataset(X):
            return super()._evaluate(X, function)
        check_is_fitted(self, "net_")
        self._check_reads_datasets(X)
        source = open_batches(X)
        parts = [
            self._evaluate_rows(encode_block(self, block), function)
            for block in source.blocks(self._columns_in(source))
        ]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _columns_in(self, source: BatchSource) -> list[str]:
        """Names of the columns of training, which the dataset must have."""
        if not self.encoder_.from_table_:
            raise ValueError(
                "A dataset has named columns, but training saw an array without names: fit the "
                "estimator on a table or a dataset."
            )
        names = [column.name for column in self.encoder_.columns_]
        source.check_names(names, "The columns of training")
        return names

    def _score_dataset(self, X: Any, y: Any, sample_weight: Any, target: Any) -> float:
        """Compute accuracy or R^2, block by block."""
        check_is_fitted(self, "net_")
        self._check_reads_datasets(X)
        source = open_batches(X)
        names = read_names(source, y, sample_weight, target)
        n_targets = 1 if self._classifies else self._n_outputs
        if len(names.target) != n_targets:
            raise ValueError(
                f"target must name as many columns as in fit, {n_targets}, got {names.target}: "
                "name those that were fitted."
            )
        columns = dict.fromkeys(self._columns_in(source) + names.target + names.weight)
        blocks = (self._predicted(block, names) for block in source.blocks(list(columns)))
        return accuracy(blocks) if self._classifies else determination(blocks)

    def _predicted(
        self, block: Block, names: Names
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """True and predicted targets of a block, and weights."""
        true = block.apply(lambda batch: self._true(batch, names))
        weight = np.ones(block.batch.num_rows)
        if names.weight:
            (name,) = names.weight
            weight = block.apply(lambda batch: read_weight(name, batch.column(name)))
        predicted = self.predict(encode_block(self, block))
        return true, predicted, weight

    def _true(self, batch: Any, names: Names) -> NDArray[Any]:
        columns = batch.select(names.target).columns
        if not self._classifies:
            return Values(self, names.target, single=names.single).read(columns)
        labels = to_numpy(columns[0])
        if pd.isna(labels).any():
            raise ValueError(
                f"Every row needs a label, got none in column {names.target[0]!r}: drop such rows, "
                "or give them a label."
            )
        if len(labels) and isinstance(labels[0], str) != isinstance(self.classes_[0], str):
            raise ValueError(
                f"Labels must be of the kind of classes_, {self.classes_[:10].tolist()}, got "
                f"{labels[:1].tolist()} in column {names.target[0]!r}: convert the column."
            )
        return labels


def accuracy(blocks: Iterator[tuple[Any, Any, Any]]) -> float:
    """Weighted share of the rows whose label is predicted."""
    right = total = 0.0
    for true, predicted, weight in blocks:
        right += float(weight @ (true == predicted))
        total += float(weight.sum())
    _check_total(total)
    return right / total


def determination(blocks: Iterator[tuple[Any, Any, Any]]) -> float:
    """Coefficient of determination, averaged over the targets as scikit-learn's r2_score does."""
    moments, residuals, n_rows = Moments(), 0.0, 0
    for true, predicted, weight in blocks:
        n_rows += len(true)
        residuals = residuals + weight @ (true - predicted.reshape(true.shape)) ** 2
        moments.add(true, weight)
    _check_total(moments.weight)
    if n_rows < 2:
        warnings.warn(
            "R^2 needs at least two rows, got one: the score is NaN.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
        return float("nan")
    spread = np.asarray(moments.squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(spread > 0, 1 - residuals / spread, np.where(residuals == 0, 1.0, 0.0))
    return float(scores.mean())


def _check_total(weight: float) -> None:
    if not weight:
        raise ValueError(
            "At least one row needs a positive sample_weight, got zeros only: pass weights above "
            "zero for the rows to score."
        )


@contextlib.contextmanager
def _opened(folder: Any, made_by: str, seed: int, ranks: Ranks | None) -> Iterator[Checkpoints]:
    """Open the user's folder, or one that is deleted at the end."""
    if folder is not None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(
                f"checkpoint must name a folder, got {folder!r}: pass a str or pathlib.Path."
            )
        yield Checkpoints(Path(folder), made_by, seed, ranks)
        return
    with tempfile.TemporaryDirectory(prefix="skmode-", ignore_cleanup_errors=True) as made:
        yield Checkpoints(Path(made), made_by, seed)
