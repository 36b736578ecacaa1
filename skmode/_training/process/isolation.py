"""Keep a fit apart from what its process shares: torch's random numbers, dtype, device and modes.

A fit owns the generators that it draws from, also while layers make their weights. Users' modules,
callbacks and optimizers can only draw from torch's default generators, which all threads share:
they borrow them. One fit at a time may have them.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

# A part of training that may have to draw from torch's default generators.
Part = Literal["module", "callbacks", "optimizer"]

# Held while torch's default generators belong to one fit. Reentrant, because a user's callback may
# fit another estimator.
_LOCK = threading.RLock()
# A child process has only the thread that forked, so nobody else could release its copy.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


# What layers call to make their weights.
_DRAWS = {
    torch.randn,
    torch.rand,
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    torch.nn.init.uniform_,
    torch.nn.init.normal_,
    torch.nn.init.kaiming_uniform_,
}

_INTERRUPTS_RAISE: ContextVar[bool] = ContextVar("skmode_interrupts_raise", default=False)


@contextlib.contextmanager
def interrupts_raise() -> Iterator[None]:
    """Let an interrupt end what surrounds a fit, which else keeps what it has trained so far."""
    token = _INTERRUPTS_RAISE.set(True)
    try:
        yield
    finally:
        _INTERRUPTS_RAISE.reset(token)


def do_interrupts_raise() -> bool:
    """Whether this fit is only a part of another one, which an interrupt shall end."""
    return _INTERRUPTS_RAISE.get()


class _Drawing(TorchFunctionMode):
    """Lets a thread draw from a generator where the caller names none."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self._generator}
        return func(*args, **kwargs)


class Generators:
    """The random numbers of one training.

    They equal those that torch's default generators give after ``torch.manual_seed(seed)``.

    Attributes
    ----------
    cpu : torch.Generator
        For the weights, and for the order of the rows.
    device : torch.Generator
        For what the steps draw, on the device that trains: numbers from the CPU would make each
        step wait for the device. On the CPU it is the same one as `cpu`.
    borrowing : collection of {"module", "callbacks", "optimizer"}
        Parts of the training that may draw from torch's default generators.
    """

    def __init__(self, seed: int, device: str, borrowing: Collection[Part] = ()) -> None:
        self.cpu = torch.Generator("cpu").manual_seed(seed)
        self.borrowing = borrowing
        self._active = False
        self._parted = False
        self.device = self.cpu
        self._own_and_default = [(self.cpu, torch.default_generator)]
        if device != "cpu":
            self.device = torch.Generator(device).manual_seed(seed)
            self._own_and_default.append((self.device, default_of(torch.device(device))))

    def states(self) -> list[torch.Tensor]:
        """Where the random numbers are: first those of the rows' order, then those of the steps."""
        return [each.get_state() for each in self._all()]

    def set_states(self, states: list[torch.Tensor]) -> None:
        """Go on from states of random numbers.

        Those of the steps are left as they are if there were others then: on another device, or
        with several ranks instead of one.
        """
        own = self._all()
        if len(states) != len(own):
            own, states = own[:1], states[:1]
        for each, state in zip(own, states, strict=True):
            each.set_state(state.cpu())

    def _all(self) -> list[torch.Generator]:
        return list(dict.fromkeys([self.cpu, *(own for own, _ in self._own_and_default)]))

    def part_ways(self, rank: int) -> None:
        """Let the steps of each rank draw other numbers; the order of the rows stays in common."""
        if self._parted:
            return
        self._parted = True
        # Away from the seeds that users take: 0, 1, 2, ...
        seed = (self.cpu.initial_seed() + (rank + 1) * 2**40) % 2**63
        self.device = torch.Generator(self.device.device).manual_seed(seed)
        cpu = self.device
        if cpu.device.type != "cpu":
            cpu = torch.Generator("cpu").manual_seed(seed)
        (_, default), *on_device = self._own_and_default
        self._own_and_default = [
            (cpu, default),
            *((self.device, default_on_device) for _, default_on_device in on_device),
        ]

    def building(self) -> contextlib.AbstractContextManager[Any]:
        """Make weights from these random numbers, borrowing only if users' code draws."""
        with _LOCK:  # so that the dtype is the caller's, and not one that another fit has set
            borrows = bool(self.borrowing) or torch.get_default_dtype() != torch.float32
        return self.default() if borrows else _Drawing(self.cpu)

    def default_for(self, part: Part) -> contextlib.AbstractContextManager[None]:
        """Make these the default generators while `part` runs, if it may draw from them."""
        if self._active or part not in self.borrowing:
            return contextlib.nullcontext()
        return self.default()

    @contextlib.contextmanager
    def default(self) -> Iterator[None]:
        """Make these torch's default generators, and float32 its default dtype."""
        with _LOCK:
            dtype = torch.get_default_dtype()
            before = [default.get_state() for _, default in self._own_and_default]
            self._active = True
            try:
                torch.set_default_dtype(torch.float32)
                for own, default in self._own_and_default:
                    default.set_state(own.get_state())
                yield
            finally:
                self._active = False
                torch.set_default_dtype(dtype)
                for (own, default), state in zip(self._own_and_default, before, strict=True):
                    own.set_state(default.get_state())
                    default.set_state(state)


def default_of(device: torch.device) -> torch.Generator:
    """Get torch's default generator of a GPU."""
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    torch.cuda.init()  # type: ignore[no-untyped-call]
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Set aside the caller's gradient mode, autocast, default device and numpy's error handling.

    All of them belong to a thread, so other threads notice nothing.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(np.errstate(all="warn", under="ignore"))  # numpy's defaults
        yield
