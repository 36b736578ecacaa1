"""The processes ("ranks") that run one fit together, and what they tell each other.

Every rank runs the same program. Only the rows of each batch are shared out, so a rank waits for
the others in each step. Nobody waits for a rank that failed: it closes its connections, which ends
the waiting of the others at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# Seconds to wait for the message of a rank that failed. It is written before the connections close.
MESSAGE_SECONDS = 2.0
# Seconds after which a rank that works alone tells the others that it still does.
STILL_SECONDS = 10.0
# Characters of a value in an error.
SHOWN = 60


class OtherRankError(RuntimeError):
    """Another rank failed, or is gone."""


class Ranks:
    """The ranks of one fit, with connections of their own.

    They talk over gloo, whatever the backend of the user's process group is: gloo notices at once
    when a rank is gone, and it works on the CPU and beside any GPU.

    Attributes
    ----------
    rank : int
        The number of this process.
    world : int
        Number of ranks.
    timeout : datetime.timedelta
        How long a rank waits for others that neither come nor fail.
    """

    def __init__(self) -> None:
        self._store = dist.distributed_c10d._get_default_store()
        # What the user passed as `timeout` to init_process_group: 30 minutes by default.
        self.timeout: timedelta = getattr(self._store, "timeout", dist.default_pg_timeout)
        try:
            self._group: Any = dist.new_group(backend="gloo", timeout=self.timeout)
        except RuntimeError as error:
            raise OtherRankError(
                "All ranks of a process group must call fit, but some did not come within "
                f"{self.timeout}: call it on each rank, or within skmode.fit_alone() where a rank "
                "shall fit a model of its own."
            ) from error
        self._message = f"skmode/{self._group.group_name}/failed"
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    # Talking.

    def all(self, value: T) -> list[T]:
        """Get the value of each rank."""
        values: list[Any] = [None] * self.world
        self._run(lambda: dist.all_gather_object(values, value, group=self._group))
        return values

    def first(self, value: T) -> T:
        """Get the value of rank 0."""
        values: list[Any] = [value]
        self._run(lambda: dist.broadcast_object_list(values, group=self._group, group_src=0))
        first: T = values[0]
        return first

    def once(self, work: Callable[[], T]) -> T:
        """Let rank 0 do a work, however long it takes, and get its result."""
        if self.rank == 0:
            with self._telling_that_it_works():
                made = work()
            self.first((made,))
            return made
        received: tuple[T, ...] = ()
        while not received:  # nothing yet, says a rank that still works
            received = self.first(())
        return received[0]

    @contextlib.contextmanager
    def _telling_that_it_works(self) -> Iterator[None]:
        """Keep the others from giving up rank 0, while their time limit passes."""
        over = threading.Event()
        seconds = min(STILL_SECONDS, self.timeout.total_seconds() / 4)

        def tell() -> None:
            with contextlib.suppress(OtherRankError):  # which the next message raises again
                while not over.wait(seconds):
                    self.first(())

        thread = threading.Thread(target=tell, name="skmode-still-working", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def add(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, without gradients."""
        summed = tensor.detach().to("cpu", copy=True).contiguous()
        self._run(lambda: dist.all_reduce(summed, group=self._group))
        return summed.to(tensor.device)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Get a tensor on the CPU of rank 0, which has the same shape there."""
        received = tensor.detach().clone().contiguous()
        self._run(lambda: dist.broadcast(received, group=self._group, group_src=0))
        return received

    def join(self, tensor: Tensor) -> Tensor:
        """Append the rows of all ranks, which may have different numbers of them."""
        lengths = self.all(len(tensor))
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:], device="cpu")
        padded[: len(tensor)] = tensor.cpu()
        parts = [torch.empty_like(padded) for _ in lengths]
        self._run(lambda: dist.all_gather(parts, padded, group=self._group))
        rows = [part[:length] for part, length in zip(parts, lengths, strict=True)]
        return torch.cat(rows).to(tensor.device)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self._run(lambda: dist.barrier(group=self._group))

    def _run(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
            return
        except RuntimeError as error:
            # Its frames would keep the connections open, on whose closing others wait.
            cause = error.with_traceback(None)
        raise OtherRankError(self._reason(cause)) from cause

    # Agreement.

    def check_same(self, what: str, values: Mapping[str, str]) -> None:
        """Raise on all ranks alike if one of them has other values."""
        everywhere = self.all(dict(values))
        for name, value in everywhere[0].items():
            for rank, other in enumerate(everywhere):
                if other.get(name) != value:
                    raise ValueError(
                        f"All ranks of a process group must call fit with the same {what}, but "
                        f"{name} is {_short(value)} on rank 0 and {_short(other.get(name))} on "
                        f"rank {rank}: pass the same on each rank, or fit a model of its own on "
                        "each within skmode.fit_alone()."
                    )

    def own_rows(self, n_rows: int) -> slice:
        """Choose rows that follow each other: all ranks together have each row once."""
        return slice(n_rows * self.rank // self.world, n_rows * (self.rank + 1) // self.world)

    # Beginning and end.

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank will not go on, and leave them."""
        if not isinstance(error, OtherRankError):  # else they know
            text = f"rank {self.rank} failed with {type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):
                self._store.set(self._message, text)
        self.close()

    def close(self) -> None:
        """Close the connections; who still waits for this rank gets an error."""
        group, self._group = self._group, None
        with contextlib.suppress(RuntimeError, ValueError):  # the user's group may be gone
            dist.destroy_process_group(group)

    def _reason(self, error: Exception) -> str:
        """Say who failed and why, if it could still tell."""
        reason = f"a rank ended, or did not come within {self.timeout} ({error})"
        with contextlib.suppress(RuntimeError):
            end = time.monotonic() + MESSAGE_SECONDS
            while not (written := self._store.check([self._message])) and time.monotonic() < end:
                time.sleep(0.05)
            if written:
                reason = self._store.get(self._message).decode()
        return (
            f"All ranks must end their fit together, but {reason.rstrip('.')}. Correct that rank, "
            "and call fit on all of them again."
        )


# The ranks of the fit that runs now; None for a fit that is alone.
_RANKS: ContextVar[Ranks | None] = ContextVar("skmode_ranks", default=None)
_ALONE: ContextVar[bool] = ContextVar("skmode_fit_alone", default=False)
# Held by the one fit of this process that runs together with others.
_TOGETHER = threading.Lock()
# Processes that were forked have their parent's process group, in which nobody waits for them.
_PID = os.getpid()


def ranks_of_fit() -> Ranks | None:
    """Get the ranks that run the present fit together; None if it is alone."""
    return _RANKS.get()


def common(value: T) -> T:
    """Take the value of rank 0, if there are several ranks."""
    ranks = _RANKS.get()
    return value if ranks is None else ranks.first(value)


@contextlib.contextmanager
def together() -> Iterator[Ranks | None]:
    """Run a fit in step with the other ranks, if a process group is initialized.

    Fits within a fit, such as those of teachers, are alone: each rank runs all of them.
    """
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not several or _ALONE.get() or os.getpid() != _PID or not _TOGETHER.acquire(blocking=False):
        with _set(_RANKS, None):
            yield None
        return
    try:
        ranks = Ranks()
        try:
            with _set(_RANKS, ranks):
                yield ranks
            ranks.wait()
        except BaseException as error:
            ranks.fail(error)
            raise
        ranks.close()
    finally:
        _TOGETHER.release()


@contextlib.contextmanager
def fit_alone() -> Iterator[None]:
    """Fit without the other ranks of a process group.

    Where :func:`torch.distributed.init_process_group` was called, as in a program under `torchrun`,
    `fit` and `partial_fit` train one model together on all ranks. Within this context manager each
    rank trains a model of its own.

    Yields
    ------
    None
        While it lasts, for the present thread.

    Examples
    --------
    >>> from skmode import MoDEClassifier, fit_alone
    >>> with fit_alone():
    ...     model = MoDEClassifier(max_epochs=2).fit([[0.0], [1.0]], [0, 1])
    """
    with _set(_ALONE, True):
        yield


@contextlib.contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _short(text: str | None) -> str:
    text = "missing" if text is None else text
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
