"""Encoded rows in memory, and the batches made of them."""

import math
from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

# Rows per block in evaluation: few enough for a CPU's cache, and enough to keep a GPU busy, where
# 64 experts of width 1,024 then take 4 GB for each layer.
BLOCK_ROWS, GPU_BLOCK_ROWS = 1024, 2**14
# Rows of a shuffled epoch that are gathered at once.
GATHERED_ROWS = 2**16
# Numbers in a block of very many columns, or of large images: 64 MB in float32.
BLOCK_NUMBERS = 2**24
# Numbers that are gathered at once: 512 MB in float32.
GATHERED_NUMBERS = 2**27
# A sparse matrix is made dense on a GPU if it takes up to this share of the memory that is free.
DENSE_SHARE = 0.5


class SparseNumbers:
    """Numbers that stay a sparse matrix in the CPU's memory; only batches of them become tensors.

    A GPU gets all of them as one tensor, if that fits: a copy for each batch would take longer than
    the step.

    It has what :class:`Rows` asks of a tensor: its length, rows by position, a device and a dtype.
    """

    def __init__(
        self,
        matrix: scipy.sparse.csr_array,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.matrix = matrix
        self.device = torch.device(device)
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(self.matrix.shape)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, index: Any) -> "SparseNumbers":
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        return SparseNumbers(self.matrix[index], str(self.device), self.dtype)

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    def is_floating_point(self) -> bool:
        """As tensors of numbers say."""
        return True

    def reorder_column(self, column: int, order: Any) -> "SparseNumbers":
        """Put the rows of one column in another order; row i gets what row `order[i]` had."""
        cells = self.matrix.tocoo()
        rows = np.where(cells.col == column, np.argsort(order)[cells.row], cells.row)
        matrix = scipy.sparse.csr_array((cells.data, (rows, cells.col)), shape=self.matrix.shape)
        return SparseNumbers(matrix, str(self.device), self.dtype)

    def to(self, device: str, dtype: torch.dtype) -> "SparseNumbers | Tensor":
        """Choose device and dtype of the batches; make a tensor if a GPU has room for it."""
        moved = SparseNumbers(self.matrix, device, dtype)
        n_bytes = math.prod(self.shape) * dtype.itemsize
        if n_bytes >= DENSE_SHARE * free_memory(moved.device):
            return moved
        whole = torch.empty(self.shape, dtype=dtype, device=device)
        size = _rows_of(BLOCK_NUMBERS, self.shape[1])
        for start in range(0, len(self), size):  # so that the CPU needs little memory
            whole[start : start + size] = moved[start : start + size].dense()
        return whole

    def dense(self) -> Tensor:
        """Make a tensor of all rows."""
        return torch.as_tensor(self.matrix.toarray()).to(self.dtype).to(self.device)


class Pass(Sized, Protocol):
    """The batches of one pass over some rows, counted beforehand."""

    def __iter__(self) -> Iterator["Rows"]: ...


class Trainable(Protocol):
    """Rows in some form from which batches come; `batch_size` counts rows of one network."""

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> "Pass": ...


class Rows(NamedTuple):
    """Encoded rows, whatever they were before: table, image or text.

    Attributes
    ----------
    inputs : tuple of torch.Tensor of shape (n_samples, ...)
        The trunk's arguments. For a table: numbers `(n_samples, n_numeric)`, in which NaN
        is missing, and codes of the categories, int64 `(n_samples, n_categorical)`. Numbers may
        be `SparseNumbers`, except in batches. For images: pixels, uint8 or floats.
    target : torch.Tensor
        Classes `(n_samples,)` or scaled values `(n_samples, n_outputs)`.
    sample_weight : torch.Tensor of shape (n_samples,), or None
        Weights with a mean of one over the training rows. None means all are equal.
    soft_target : torch.Tensor of shape (n_samples, n_outputs), or None
        A teacher's log-probabilities or scaled values. None means no teacher.
    soft_weight : torch.Tensor of shape (n_samples,), or None
        Weight of the teacher's predictions against the target's, from 0 to 1.
    """

    inputs: tuple[Any, ...]
    target: Tensor
    sample_weight: Tensor | None
    soft_target: Tensor | None = None
    soft_weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return torch.device(self.inputs[0].device)

    @property
    def sample(self) -> "Rows":
        """Rows that stand for all of them: here they are all."""
        return self

    def parts(self) -> Iterator["Rows"]:
        """All rows, in parts that fit into memory: here in one."""
        yield self

    def select(self, index: Any) -> "Rows":
        """Take rows by position."""
        return self.map(lambda part: part[index])

    def batch(self, start: int, end: int) -> "Rows":
        """Take rows that follow each other, as tensors."""
        rows = self.select(slice(start, end))
        inputs = tuple(
            part.dense() if isinstance(part, SparseNumbers) else part for part in rows.inputs
        )
        return Rows(inputs, *rows[1:])

    def to(self, device: str, dtype: torch.dtype) -> "Rows":
        """Move to a device, with floating-point tensors in one dtype."""
        return self.map(lambda part: _move(part, device, dtype))

    def targets(self) -> dict[str, Tensor]:
        """What a loss is computed from, as keyword arguments of a network."""
        named = {name: getattr(self, name) for name in self._fields if name != "inputs"}
        return {name: part for name, part in named.items() if part is not None}

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> "Batches":
        """Iterate over the rows in batches."""
        return Batches(self, batch_size, shuffle, generator)

    def weigh_teacher(self, weight: float) -> "Rows":
        """Multiply the weight of the teacher's predictions, if there are any."""
        return self if self.soft_weight is None else Rows(*self[:4], weight * self.soft_weight)

    def join(self, other: "Rows") -> "Rows":
        """Append rows that have the same parts; numbers must be tensors."""
        pairs = zip(self.inputs, other.inputs, strict=True)
        inputs = tuple(torch.cat(_equally_long(*pair)) for pair in pairs)
        weight, soft_target, soft_weight = (
            None if own is None or more is None else torch.cat([own, more])
            for own, more in zip(self[2:], other[2:], strict=True)
        )
        target = torch.cat([self.target, other.target])
        return Rows(inputs, target, weight, soft_target, soft_weight)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """Apply a function to each tensor."""
        weight, soft_target, soft_weight = (
            None if part is None else function(part) for part in self[2:]
        )
        inputs = tuple(map(function, self.inputs))
        return Rows(inputs, function(self.target), weight, soft_target, soft_weight)


class Batches:
    """Iterate over rows in memory, shuffled again in each epoch.

    Many rows are gathered at once and then sliced: a DataLoader that collates row by row takes
    longer than the training step itself, and a copy of all rows takes memory. A single leftover row
    joins the last batch, because batch normalisation needs two rows.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle and len(rows) > batch_size
        self.generator = generator

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        starts = [i * self.batch_size for i in range(len(self))]
        ends = [*starts[1:], len(rows)]
        if not self.shuffle:
            yield from map(rows.batch, starts, ends)
            return
        order = torch.randperm(len(rows), generator=self.generator).to(rows.device)
        together = max(1, gathered_rows(rows) // self.batch_size)
        for first in range(0, len(starts), together):
            begin, end = starts[first], ends[min(first + together, len(starts)) - 1]
            gathered = rows.select(order[begin:end])
            for i in range(first, min(first + together, len(starts))):
                yield gathered.batch(starts[i] - begin, ends[i] - begin)


class ExtendedRows(NamedTuple):
    """Rows, and others that only a teacher has labelled.

    Each batch has as many of the others as of the rows, or fewer where there are fewer in all. Each
    pass draws them anew.
    """

    rows: Rows
    others: Rows

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> "ExtendedBatches":
        """Iterate over all rows and some of the others; `batch_size` counts the rows."""
        return ExtendedBatches(
            self.rows.batches(batch_size, shuffle=shuffle, generator=generator),
            self.others,
            generator,
        )


class ExtendedBatches:
    """One pass over the rows, with others beside them."""

    def __init__(self, rows: Batches, others: Rows, generator: torch.Generator | None) -> None:
        self.rows = rows
        self.others = others
        self.generator = generator

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Rows]:
        n_rows, n_others = len(self.rows.rows), len(self.others)
        share = min(1.0, n_others / n_rows)
        order = torch.randperm(n_others, generator=self.generator).to(self.others.device)
        n_passed = 0
        for batch in self.rows:
            start, end = round(share * n_passed), round(share * (n_passed + len(batch)))
            n_passed += len(batch)
            yield batch.join(self.others.select(order[start:end]).batch(0, end - start))


def _equally_long(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Pad tokens of texts, whose number is that of the longest text."""
    if one.ndim != 2 or one.shape[1] == other.shape[1]:
        return one, other
    length = max(one.shape[1], other.shape[1])
    padded = [torch.nn.functional.pad(each, (0, length - each.shape[1])) for each in (one, other)]
    return padded[0], padded[1]


def n_batches(n_rows: int, batch_size: int) -> int:
    """Number of batches; a single leftover row makes none, unless it is the only row."""
    full, left = divmod(n_rows, batch_size)
    return full + (left > 1 or (left == 1 and full == 0))


def block_rows(rows: Rows, device: torch.device) -> int:
    """Rows to evaluate at once: fewer where there are very many columns."""
    most = BLOCK_ROWS if device.type == "cpu" else GPU_BLOCK_ROWS
    return min(most, _rows_of(BLOCK_NUMBERS, _width(rows)))


def gathered_rows(rows: Rows) -> int:
    """Rows of a shuffled epoch to gather at once: fewer where each is large."""
    return min(GATHERED_ROWS, _rows_of(GATHERED_NUMBERS, _width(rows)))


def free_memory(device: torch.device) -> int:
    """Bytes that are free in the memory of a CUDA device; none on other devices."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _width(rows: Rows) -> int:
    """Numbers in a row of the first input, and of images beside it, which need the memory."""
    width: int = math.prod(rows.inputs[0].shape[1:])
    width += sum(math.prod(part.shape[1:]) for part in rows.inputs[1:] if part.ndim > 2)
    return width


def _rows_of(n_numbers: int, width: int) -> int:
    """Rows of a width that have so many numbers together, at least one."""
    return max(1, n_numbers // max(width, 1))


def _move(part: Any, device: str, dtype: torch.dtype) -> Any:
    if isinstance(part, SparseNumbers):
        return part.to(device, dtype)
    # The dtype first: Apple's GPUs have no double precision.
    return part.to(dtype).to(device) if part.is_floating_point() else part.to(device)
