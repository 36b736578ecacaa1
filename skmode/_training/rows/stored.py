"""Encoded rows in a file, for tables that are larger than memory, and the batches made of them.

The rows are dealt at random into shards as cards are, so that each shard is a random sample of all
rows, in whatever order they came. A pass reads the shards in a new order, a few at a time into a
buffer that it shuffles, while a thread already reads the next ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skmode._training.rows import Rows, n_batches

# Rows of a shard. Beyond MOST_SHARDS of them, shards grow instead.
SHARD_ROWS, MOST_SHARDS = 2**15, 512
# Rows that a pass shuffles together, rounded up to whole shards.
BUFFER_ROWS = 2**17


@dataclass(frozen=True)
class Layout:
    """What a file holds of each row.

    Attributes
    ----------
    n_numbers : int
        Columns of numbers, float32.
    n_codes : int
        Columns of categories.
    largest_code : int
        The largest code of a category.
    n_targets : int
        Values to predict, float64; 0 for classes, int32.
    weighted : bool
        Whether rows have weights, float32.
    """

    n_numbers: int
    n_codes: int
    largest_code: int
    n_targets: int
    weighted: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """One row."""
        codes = next(
            kind for kind in ("<u1", "<u2", "<i4") if self.largest_code <= np.iinfo(kind).max
        )
        fields: list[Any] = [
            ("numbers", "<f4", (self.n_numbers,)),
            ("codes", codes, (self.n_codes,)),
            ("target", "<f8", (self.n_targets,)) if self.n_targets else ("target", "<i4"),
        ]
        return np.dtype(fields + [("weight", "<f4")] * self.weighted)

    def records(
        self,
        numbers: NDArray[Any],
        codes: NDArray[Any],
        target: NDArray[Any],
        weight: NDArray[Any] | None,
    ) -> NDArray[Any]:
        """Put the parts of rows beside each other."""
        records = np.empty(len(numbers), self.dtype)
        records["numbers"], records["codes"], records["target"] = numbers, codes, target
        if weight is not None:
            records["weight"] = weight
        return records


@dataclass(frozen=True)
class Stored:
    """A file of rows: its layout, their number, and that of its shards."""

    path: Path
    layout: Layout
    n_rows: int

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return min(MOST_SHARDS, -(-self.n_rows // SHARD_ROWS))

    @property
    def ends(self) -> NDArray[np.int64]:
        """Position behind the last row of each shard; their sizes differ by one at most."""
        sizes = np.full(self.n_shards, self.n_rows // self.n_shards)
        sizes[: self.n_rows % self.n_shards] += 1
        return np.cumsum(sizes)

    def check_whole(self) -> None:
        """Raise if the file has not all rows."""
        wanted = self.n_rows * self.layout.dtype.itemsize
        found = self.path.stat().st_size if self.path.exists() else 0
        if found != wanted:
            raise ValueError(f"{self.path.name} has {found} of {wanted} bytes")

    def shard(self, i: int) -> NDArray[Any]:
        """Read one shard."""
        ends = self.ends
        start = ends[i - 1] if i else 0
        dtype = self.layout.dtype
        return np.fromfile(
            self.path, dtype, count=int(ends[i] - start), offset=int(start) * dtype.itemsize
        )


class Writer:
    """Deals rows into the shards of a file; all of them must be added before it is closed."""

    def __init__(self, stored: Stored, rng: np.random.Generator) -> None:
        stored.path.unlink(missing_ok=True)  # of a process that was killed
        needed = stored.n_rows * stored.layout.dtype.itemsize
        free = shutil.disk_usage(stored.path.parent).free
        if needed > free:
            raise OSError(
                f"The rows must fit into the folder that they are kept in while fit runs, got "
                f"{stored.path.parent} with {free / 2**20:.0f} MiB free for {needed / 2**20:.0f} "
                "MiB: name a folder on a larger disk as checkpoint, or by the variable TMPDIR."
            )
        self._stored = stored
        self._rng = rng
        self._next = np.concatenate([[0], stored.ends[:-1]])
        self._dealt = 0
        self._waiting: list[NDArray[Any]] = []
        self._n_waiting = 0
        self._file = stored.path.open("wb")

    def add(self, records: NDArray[Any]) -> None:
        """Add rows; few of them wait for others, because the next rows go to the next shards."""
        self._waiting.append(records)
        self._n_waiting += len(records)
        if self._n_waiting >= SHARD_ROWS:
            self._deal()

    def _deal(self) -> None:
        """Deal the rows that wait."""
        records = np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        records = records[self._rng.permutation(len(records))]
        n_shards = self._stored.n_shards
        for first in range(min(n_shards, len(records))):
            shard = (self._dealt + first) % n_shards
            self._write(shard, records[first::n_shards])
        self._dealt += len(records)

    def _write(self, shard: int, records: NDArray[Any]) -> None:
        with self._explained():
            self._file.seek(int(self._next[shard]) * records.dtype.itemsize)
            self._file.write(records.tobytes())
        self._next[shard] += len(records)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what to do if the disk is full."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"The rows must fit into the folder that they are kept in while fit runs, but "
                f"writing to {self._stored.path} failed ({error}): name a folder on a larger disk "
                "as checkpoint, or by the variable TMPDIR."
            ) from error

    def close(self) -> None:
        """Write what is left, and check that all rows came."""
        if self._waiting:
            self._deal()
        with self._explained():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        if self._dealt != self._stored.n_rows:
            raise ValueError(
                f"Rows in batches must be the same each time they are read, got {self._dealt} "
                f"after {self._stored.n_rows} before: read from what does not change meanwhile."
            )

    def abandon(self) -> None:
        """Remove the file after a failure."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._stored.path.unlink(missing_ok=True)


class StoredRows:
    """Rows in a file, and others in memory beside them; it has what training asks of `Rows`.

    Attributes
    ----------
    sample_weight, soft_target : None
        They come with the batches.
    """

    sample_weight = None
    soft_target = None

    def __init__(
        self, stored: Stored, mean_weight: float | None = None, beside: Rows | None = None
    ) -> None:
        self.stored = stored
        self.mean_weight = mean_weight
        self.beside = beside
        self.device, self.dtype = "cpu", torch.float32

    def __len__(self) -> int:
        return self.stored.n_rows + (0 if self.beside is None else len(self.beside))

    def to(self, device: str, dtype: torch.dtype) -> StoredRows:
        """Choose device and dtype of the batches."""
        moved = StoredRows(self.stored, self.mean_weight, self.beside)
        moved.device, moved.dtype = device, dtype
        return moved

    def weigh_teacher(self, weight: float) -> StoredRows:
        """Do nothing: nobody teaches these rows."""
        return self

    @property
    def sample(self) -> Rows:
        """Some shards, each of which is a random sample of the rows in the file."""
        n_shards = self.shards_of_a_buffer
        rows = self.read(range(n_shards))
        return rows.to(self.device, self.dtype)

    def parts(self) -> Iterator[Rows]:
        """All rows, in parts that fit into memory."""
        for i in range(self.stored.n_shards):
            yield self.read([i])
        if self.beside is not None:
            yield self.beside

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> StoredPass:
        """Iterate over the rows in batches."""
        return StoredPass(self, batch_size, shuffle, generator)

    def read(self, shards: Any) -> Rows:
        """Read shards."""
        return self.rows_of(np.concatenate([self.stored.shard(int(i)) for i in shards]))

    def rows_of(self, records: NDArray[Any]) -> Rows:
        """Make rows of records."""
        target = torch.from_numpy(records["target"].copy())
        weight = None
        if self.mean_weight is not None:
            weight = torch.from_numpy(records["weight"] / np.float64(self.mean_weight))
        return Rows(
            (
                torch.from_numpy(records["numbers"].copy()),
                torch.from_numpy(records["codes"].astype(np.int64)),
            ),
            target if self.stored.layout.n_targets else target.long(),
            weight,
        )

    @property
    def shards_of_a_buffer(self) -> int:
        """Number of shards that are read together."""
        per_shard = -(-self.stored.n_rows // self.stored.n_shards)
        return min(self.stored.n_shards, -(-BUFFER_ROWS // per_shard))


class StoredPass:
    """One pass over stored rows, in another order each time it is begun."""

    def __init__(
        self,
        rows: StoredRows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle and len(rows) > batch_size
        self.generator = generator

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        # The only draw from the generator: what a thread draws must not depend on its speed.
        seed = int(torch.randint(2**62, (), generator=self.generator))
        buffers = self._buffers(seed)
        with ThreadPoolExecutor(1, "skmode-read-ahead") as reader:
            pending = reader.submit(next, buffers, None)
            while (rows := pending.result()) is not None:
                pending = reader.submit(next, buffers, None)
                yield from rows.batches(self.batch_size, shuffle=False)

    def _buffers(self, seed: int) -> Iterator[Rows]:
        """Shuffled rows, a whole number of batches each time except the last."""
        rng = np.random.default_rng(seed)
        rows, size = self.rows, self.rows.shards_of_a_buffer
        order = np.arange(rows.stored.n_shards)
        if self.shuffle:
            rng.shuffle(order)
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        beside = self._beside(len(groups), rng)
        left: Rows | None = None
        for i, group in enumerate(groups):
            read = rows.read(group)
            if beside is not None:
                read = read.join(beside[i])
            if self.shuffle:
                read = read.select(torch.from_numpy(rng.permutation(len(read))))
            read = read.to(rows.device, rows.dtype)
            read = read if left is None else left.join(read)
            # The last batch stays back, because a single leftover row will join it.
            end = len(read)
            if i < len(groups) - 1:
                end = max(0, len(read) // self.batch_size - 1) * self.batch_size
            if end:
                yield read.select(slice(0, end))
            left = read.select(slice(end, None))

    def _beside(self, n_groups: int, rng: np.random.Generator) -> list[Rows] | None:
        """Deal the rows in memory among the buffers."""
        beside = self.rows.beside
        if beside is None:
            return None
        order = np.arange(len(beside))
        if self.shuffle:
            rng.shuffle(order)
        return [beside.select(torch.from_numpy(part)) for part in np.array_split(order, n_groups)]


def moved(stored: Stored, folder: Path) -> Stored:
    """The same file in a folder that may have another name than when it was written."""
    return replace(stored, path=folder / stored.path.name)
