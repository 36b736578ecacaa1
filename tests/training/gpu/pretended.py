"""A GPU that the CPU pretends to be, for machines without one.

Tensors on it hold a tensor of the CPU, which computes for them, so that whole fits run with real
numbers. It behaves as a GPU does where it differs from a CPU: it refuses to compute with tensors of
another device, Apple's has no double precision, and what makes the CPU wait for it, or copies
between the two, is written down. It says nothing of speed, nor of kernels.
"""

from __future__ import annotations

import contextlib
import traceback

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

from skmode._estimators import parameters
from skmode._training import rows
from skmode._training.process import isolation

aten = torch.ops.aten
# Their results have a shape that depends on values.
COUNTING = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
READING = {aten._local_scalar_dense, aten.item}
COPIES = {aten._to_copy, aten.copy_, aten.to}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten.index_put.default,
}


class OnGPU(torch.Tensor):
    """A tensor of the pretended device. To torch itself it lies on the device "meta"."""

    kind = "mps"
    gpu: PretendedGPU | None = None

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
            requires_grad=requires_grad,
        )

    def __init__(self, inner, requires_grad=False):
        self.inner = inner

    @property
    def device(self):
        return torch.device(self.kind, 0)

    def __repr__(self):
        return f"OnGPU({self.inner})"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copied = OnGPU(self.inner.clone(), self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied._is_param = True
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return cls.gpu.run(func, args, kwargs or {})


class PretendedGPU:
    """What happened on the device.

    Attributes
    ----------
    waits : list of tuple of str
        What made the CPU wait, and the function of skmode that did so.
    to_device : list of tuple
        The same for copies to the device, with their number of bytes.
    """

    def __init__(self, kind):
        self.kind = kind
        self.waits, self.to_device = [], []

    def clear(self):
        self.waits.clear()
        self.to_device.clear()

    def run(self, func, args, kwargs):
        """Compute on the CPU, and check that a GPU could."""
        given = list(_flat(args, kwargs))
        flat = [each for each in given if isinstance(each, torch.Tensor)]
        here = [each for each in flat if isinstance(each, OnGPU)]
        elsewhere = [each for each in flat if not isinstance(each, OnGPU)]
        devices = [each for each in given if isinstance(each, torch.device)]
        to_device = _is_here(devices[0]) if devices else bool(here)
        kind = func.overloadpacket
        if kind in COPIES:
            self._copy(func, args, to_device)
        elif func in INDEXING:
            if any(each is not None and (each.dtype == torch.bool or not isinstance(each, OnGPU))
                   for each in args[1]):  # fmt: skip
                self.waits.append((str(func), _caller()))
        elif here and any(each.ndim for each in elsewhere):
            raise RuntimeError(f"{func}: tensors of the GPU and of the CPU at once")
        if kind in READING or (func in COUNTING and here):
            self.waits.append((str(func), _caller()))
        inner = tree_map(_to_inner, (args, kwargs))
        out = func(*inner[0], **inner[1])
        if not to_device or kind in READING:
            return out
        out = tree_map(lambda each: self._put(func, each), out)
        if kind in COPIES or not here:
            return args[0] if kind is aten.copy_ else out
        return return_and_correct_aliasing(func, args, kwargs, out)

    def _copy(self, func, args, to_device):
        into = func.overloadpacket is aten.copy_
        source = args[1] if into else args[0]
        target_here = isinstance(args[0], OnGPU) if into else to_device
        if isinstance(source, OnGPU) and not target_here:
            self.waits.append((str(func), _caller()))
        if not isinstance(source, OnGPU) and target_here:
            self.to_device.append((str(func), _caller(), source.nbytes))

    def _put(self, func, value):
        if not isinstance(value, torch.Tensor):
            return value
        if self.kind == "mps" and value.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{func}: MPS has no {value.dtype}")
        with torch.inference_mode(False):  # views may be taken of it there
            return OnGPU(value)


class _Factories(TorchDispatchMode):
    """Makes tensors on the device where no argument lies on it."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_here(kwargs.get("device")) or any(
            isinstance(each, OnGPU) for each in _flat(args, kwargs)
        ):
            return self.gpu.run(func, args, kwargs)
        return func(*args, **kwargs)


class _Names(TorchFunctionMode):
    """Gives torch a device that it knows in the place of the pretended one."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.Tensor.device.__get__, torch.device):
            return func(*args, **kwargs)

        if func is torch.Tensor.tolist:
            args = (args[0].cpu(),)  # as it does for the tensors of a GPU

        def named(value):
            wanted = value == self.kind if isinstance(value, str) else False
            if isinstance(value, torch.device):
                wanted = value.type == self.kind
            return torch.device("meta") if wanted else value

        args = tuple(map(named, args))
        return func(*args, **{name: named(value) for name, value in kwargs.items()})


def _flat(args, kwargs):
    """Yield the arguments, and the members of lists of tensors."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _is_here(device):
    return device is not None and torch.device(device).type == "meta"


def _to_inner(value):
    if isinstance(value, OnGPU):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _caller():
    """The innermost function of skmode, or else of any other package."""
    frames = [each for each in traceback.extract_stack() if "pretended" not in each.filename]
    ours = [each for each in frames if "/skmode/" in each.filename] or frames
    return f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].name}"


@contextlib.contextmanager
def pretend(kind):
    """Give torch a device of a kind, "cuda" or "mps", as far as skmode uses it."""
    gpu = PretendedGPU(kind)
    generator = torch.Generator().manual_seed(1)
    real = torch.Generator

    class Generator:
        """Makes generators; those of the device draw on the CPU, for it."""

        def __new__(cls, device="cpu"):
            return real()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnGPU, "kind", kind)
        patch.setattr(OnGPU, "gpu", gpu)
        for name in ("cuda", "mps"):
            patch.setattr(getattr(torch, name), "is_available", lambda name=name: name == kind)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(isolation, "default_of", lambda device: generator)
        patch.setattr(rows, "free_memory", lambda device: 2**30 if device.type == "cuda" else 0)
        assert parameters.resolve_device(kind) == kind
        with _Factories(gpu), _Names(kind):
            yield gpu
