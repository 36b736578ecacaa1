"""Two passes over a dataset: the first learns columns and targets, the second encodes the rows."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from skmode._common.batches import BatchSource, Block
from skmode._encoding.tables import TableEncoder
from skmode._encoding.tables.batches import LearnsColumns, encode_batch
from skmode._estimators.tables.datasets.holding_out import HeldOut, share_out
from skmode._estimators.tables.datasets.names import Names
from skmode._estimators.tables.datasets.targets import Classes, Values, read_weight
from skmode._training.callbacks.checkpoints import Checkpoints, whole, write
from skmode._training.rows import Rows
from skmode._training.rows.stored import Layout, Stored, StoredRows, Writer, moved
from skmode._training.trainer import Data

# What the first pass may set on an estimator.
LEARNED = (
    "classes_",
    "n_outputs_",
    "target_mean_",
    "target_scale_",
    "_target_ndim",
    "encoder_",
    "feature_names_in_",
    "n_features_in_",
)


class Ready(NamedTuple):
    """The result of both passes, which a checkpoint keeps."""

    learned: dict[str, Any]
    stored: Stored
    mean_weight: float | None
    valid: Rows | None
    trained: tuple[NDArray[Any], NDArray[np.float64]]

    def data(self) -> Data:
        """The rows of a fit."""
        train = StoredRows(self.stored, self.mean_weight)
        if self.valid is None:
            return Data(train, train, None)
        return Data(StoredRows(self.stored, self.mean_weight, self.valid), train, self.valid)


def read_dataset(
    estimator: Any,
    source: BatchSource,
    names: Names,
    checkpoints: Checkpoints,
    rng: np.random.Generator,
    *,
    first: bool,
    hold_out: bool,
) -> Ready:
    """Make both passes, or take what a checkpoint has of them."""
    folder, path = checkpoints.folder, checkpoints.rows

    def read() -> Ready:
        if path.exists():
            with whole(path):
                found: Ready = pickle.loads(path.read_bytes())
                moved(found.stored, folder).check_whole()
            return found
        passes = Passes(estimator, source, names, rng, first=first)
        passes.learn()
        made = passes.store(folder / "rows.bin", hold_out=hold_out)
        write(path, lambda file: file.write_bytes(pickle.dumps(made)))
        return made

    ready = checkpoints.once(read)
    vars(estimator).update(ready.learned)
    return ready._replace(stored=moved(ready.stored, folder))


class Passes:
    """Both passes over one dataset."""

    def __init__(
        self,
        estimator: Any,
        source: BatchSource,
        names: Names,
        rng: np.random.Generator,
        *,
        first: bool,
    ) -> None:
        self.estimator, self.source, self.names, self.rng = estimator, source, names, rng
        self.first = first
        self.targets: Classes | Values = (
            Classes(estimator, names.target)
            if estimator._classifies
            else Values(estimator, names.target, single=names.single)
        )
        self.features = names.features(source)
        if not first:
            self.features = [column.name for column in estimator.encoder_.columns_]
            source.check_names(self.features, "The columns of training")
        if not self.features:
            raise ValueError(
                "There must be a column to learn from beside target and sample_weight, got "
                f"{list(source.types)}: add columns to the dataset."
            )
        self._lightest, self._heaviest = np.inf, 0.0

    def learn(self) -> None:
        """Learn types, categories, centers and scales, classes and the number of rows."""
        columns: LearnsColumns | None = None
        names = (self.features if self.first else []) + self.names.target + self.names.weight
        for block in self.source.blocks(names):
            if self.first and columns is None:
                columns = self._begin(block)
            read = functools.partial(self._read, columns=columns)
            features, target, weight = block.apply(read)
            self.targets.learn(target, weight)
            positive = weight > 0
            if not positive.any():
                continue
            self._lightest = min(self._lightest, weight[positive].min())
            self._heaviest = max(self._heaviest, weight[positive].max())
            if columns is not None:
                kept = None if positive.all() else positive
                columns.learn(features, kept, weight[positive] if self.names.weight else None)
        if not self._heaviest:
            raise ValueError(
                "At least one row needs a positive sample_weight, got zeros only in column "
                f"{self.names.weight[0]!r}: pass weights above zero for the rows to learn from."
            )
        self.targets.finish(first=self.first)
        if columns is not None:
            self.estimator.encoder_ = columns.finish()

    def store(self, path: Path, *, hold_out: bool) -> Ready:
        """Encode the rows into a file; those to validate on stay in memory."""
        estimator, targets = self.estimator, self.targets
        factors = targets.factors()
        equal = self._lightest == self._heaviest and np.ptp(factors[targets.n_rows > 0]) == 0
        n_rows = int(targets.n_rows.sum())
        mean_weight = None if equal else float(factors @ targets.weight / n_rows)
        share = None
        if hold_out:
            share = share_out(
                targets.n_rows,
                estimator.early_stopping,
                estimator.validation_fraction,
                classes=estimator._classifies,
            )
        held_out = None if share is None else HeldOut(targets.n_rows, share, self.rng)
        n_valid = 0 if share is None else int(share.sum())
        stored = Stored(path, self._layout(not equal), n_rows - n_valid)
        writer = Writer(stored, self.rng)
        kept = []
        try:
            for block in self.source.blocks(self.features + self.names.target + self.names.weight):
                records, target = self._encode(block, stored.layout, factors)
                if held_out is not None and len(records):
                    mask = held_out.mask(targets.strata(target))
                    kept.append(records[mask])
                    records = records[~mask]
                writer.add(records)
            writer.close()
        except BaseException:
            writer.abandon()
            raise
        valid = StoredRows(stored, mean_weight).rows_of(np.concatenate(kept)) if kept else None
        learned = {name: vars(estimator)[name] for name in LEARNED if name in vars(estimator)}
        return Ready(learned, stored, mean_weight, valid, targets.trained)

    def _begin(self, block: Block) -> LearnsColumns:
        """Look at the columns of the first rows."""
        table = _as_table(block.batch.select(self.features))
        self.estimator._begin_dataset(table)
        encoder = TableEncoder(self.estimator.categorical_features)
        return LearnsColumns(encoder, table, self.rng)

    def _read(self, batch: Any, columns: LearnsColumns | None) -> tuple[Any, Any, Any]:
        """Read a batch and raise where something is wrong."""
        read = None if columns is None else columns.read(batch.select(self.features))
        target = self.targets.read(batch.select(self.names.target).columns)
        return read, target, self._weight(batch)

    def _weight(self, batch: Any) -> NDArray[np.float64]:
        if not self.names.weight:
            return np.ones(batch.num_rows)
        (name,) = self.names.weight
        return read_weight(name, batch.column(name))

    def _layout(self, weighted: bool) -> Layout:
        encoder = self.estimator.encoder_
        codes = [column.n_codes for column in encoder.categorical_columns]
        n_targets = 0 if self.estimator._classifies else len(self.names.target)
        return Layout(
            len(encoder.numeric_columns), len(codes), max(codes, default=0), n_targets, weighted
        )

    def _encode(
        self, block: Block, layout: Layout, factors: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Encode those rows of a block that have a weight."""
        weight = block.apply(self._weight)
        numbers, codes, target = block.apply(self._encode_batch)
        if not weight.all():
            kept = weight > 0
            numbers, codes, target, weight = numbers[kept], codes[kept], target[kept], weight[kept]
        if layout.weighted:
            weight = weight * factors[self.targets.strata(target)]
        return layout.records(numbers, codes, target, weight if layout.weighted else None), target

    def _encode_batch(self, batch: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        numbers, codes = encode_batch(self.estimator.encoder_, batch.select(self.features))
        return numbers, codes, self.targets.encode(batch.select(self.names.target).columns)


def encode_block(estimator: Any, block: Block) -> Rows:
    """Encode the columns of training in a block of rows to predict."""
    names = [column.name for column in estimator.encoder_.columns_]

    def encode(batch: Any) -> tuple[Any, ...]:
        if estimator.encoder_.text_columns:
            found: tuple[Any, ...] = estimator._encode_inputs(_as_table(batch.select(names)))
            return found
        return tuple(map(torch.from_numpy, encode_batch(estimator.encoder_, batch.select(names))))

    inputs = block.apply(encode)
    return Rows(inputs, inputs[0][:0], None)


def _as_table(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])
