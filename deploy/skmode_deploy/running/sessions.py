"""Open onnxruntime sessions on chosen devices, with a number of threads."""

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from skmode_deploy.bundle.messages import shorten
from skmode_deploy.errors import GraphFormatError, InferenceError
from skmode_deploy.running.forks import abandon, after_fork_in_child, no_fork

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
LOGGER = logging.getLogger("skmode_deploy")

Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]
Providers: TypeAlias = str | Sequence[Provider]

# With more threads onnxruntime tends to crash the process.
MAX_THREADS = 1024

# How onnxruntime words it when it gets no memory; it has no error of its own for that.
_NO_MEMORY = re.compile("(?i)failed to allocate|bad.?alloc|out of memory|not enough memory")
_logged: set[int] = set()


class SessionFactory:
    """Opens sessions on the providers that a caller chose."""

    def __init__(self, providers: Providers, threads: int) -> None:
        self._auto = isinstance(providers, str) and providers == "auto"
        self._providers = [] if self._auto else _checked_providers(providers)
        self._threads = check_at_least_one(threads, "threads")
        if self._threads > MAX_THREADS:
            raise ValueError(
                f"threads must be at most {MAX_THREADS:,}, got {threads}: pass at most the number "
                "of cores."
            )
        self._cuda_fails = False

    def open(self, data: bytes, name: str, *, keep_memory: bool = True) -> Any:
        """Open a session; without `keep_memory`, memory goes back after each run."""
        with no_fork():
            if self._auto:
                return self._open_auto(data, name, keep_memory)
            return self._open_on_providers(data, name, keep_memory)

    def _open_auto(self, data: bytes, name: str, keep_memory: bool) -> Any:
        """Open on CUDA if it works, else on the CPU, and log which and why once."""
        reason = "failed before" if self._cuda_fails else ""
        if CUDA not in onnxruntime.get_available_providers():
            _log_once(
                logging.INFO,
                "This build of onnxruntime has no %s: models run on the CPU. Install "
                "onnxruntime-gpu to use a GPU.",
                CUDA,
            )
        elif not reason:
            try:
                session = self._new(data, [CUDA, CPU], keep_memory)
            except Exception as error:
                reason = f"opening a session gave {type(error).__name__}: {error}"
            else:
                if CUDA in session.get_providers():
                    return session
                reason = "onnxruntime fell back to the CPU"
            self._cuda_fails = True
            _log_once(
                logging.WARNING,
                "onnxruntime has %s, but %s: models run on the CPU. Check the GPU, its driver and "
                'the CUDA libraries, or pass providers="%s" to silence this.',
                CUDA,
                reason,
                CPU,
            )
        return self._new_on_cpu(data, name, [CPU], keep_memory)

    def _open_on_providers(self, data: bytes, name: str, keep_memory: bool) -> Any:
        """Open on the chosen providers, or fail."""
        wanted = [entry if isinstance(entry, str) else entry[0] for entry in self._providers]
        if wanted == [CPU]:
            return self._new_on_cpu(data, name, self._providers, keep_memory)
        try:
            session = self._new(data, self._providers, keep_memory)
        except MemoryError:
            raise
        except Exception as error:
            _refuse_memory(error, f"open {name}", "load with fewer experts in memory")
            raise ValueError(
                f"{name} must open on providers {wanted}, but opening it failed with "
                f"{type(error).__name__}: {error}. Check the device, its driver and the options, "
                'or pass providers="auto" to fall back to the CPU.'
            ) from error
        got = session.get_providers()
        if not set(wanted) <= set(got):
            raise ValueError(
                f"{name} must run on providers {wanted}, but onnxruntime fell back to {list(got)}: "
                'check the device and its driver, or pass providers="auto" to fall back to the '
                "CPU."
            )
        return session

    def _new_on_cpu(
        self, data: bytes, name: str, providers: Sequence[Provider], keep_memory: bool
    ) -> Any:
        try:
            return self._new(data, providers, keep_memory)
        except MemoryError:  # the model may be valid
            raise
        except Exception as error:
            _refuse_memory(error, f"open {name}", "load with fewer experts in memory")
            raise GraphFormatError(
                f"{name} must be a model that onnxruntime {onnxruntime.__version__} can open, and "
                f"opening it gave {type(error).__name__}: {error}. Upgrade onnxruntime, or export "
                "the model again."
            ) from error

    def _new(self, data: bytes, providers: Sequence[Provider], keep_memory: bool) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # These models are too small for spinning threads to pay off.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = keep_memory
        # onnxruntime's fallback would print and continue with other providers; we decide ourselves.
        return Session(data, options, providers=list(providers), enable_fallback=0)


class Session(onnxruntime.InferenceSession):
    """A session whose check of the inputs' names takes no longer than the inputs are many."""

    def _validate_input(self, feed_input_names: Sequence[str]) -> None:
        # onnxruntime looks each input up in a list: 0.16 s for 5,000 columns. Where a release no
        # longer calls this method, nothing is lost but time.
        super()._validate_input(frozenset(feed_input_names))


def check_at_least_one(value: Any, name: str) -> int:
    """Check a count that a caller passed."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}: pass 1 or more.")
    return int(value)


def _checked_providers(providers: Any) -> list[Provider]:
    entries = [providers] if isinstance(providers, str) else providers
    try:
        checked = [_checked_provider(entry) for entry in entries]
    except TypeError:
        checked = []
    if not checked:
        raise ValueError(
            'providers must be "auto", the name of a provider of onnxruntime, or a sequence of '
            f"names or of (name, options), got {providers!r}: pass for example "
            f'("{CUDA}",) or (("{CUDA}", {{"device_id": 0}}),).'
        )
    available = onnxruntime.get_available_providers()
    names = [entry if isinstance(entry, str) else entry[0] for entry in checked]
    unknown = [name for name in names if name not in available]
    if unknown:
        raise ValueError(
            f"providers must be available in this build of onnxruntime, got {unknown}, but it has "
            f"{available}: install the build that has them (onnxruntime-gpu for CUDA and "
            'TensorRT), or pass providers="auto".'
        )
    for entry in checked:
        if not isinstance(entry, str) and entry[0] == CPU and entry[1]:
            raise ValueError(
                f"{CPU} must have no options, because onnxruntime ignores them, got "
                f"{entry[1]!r}: leave them out."
            )
    return checked


def _checked_provider(entry: Any) -> Provider:
    if isinstance(entry, str):
        return entry
    name, options = entry if isinstance(entry, list | tuple) and len(entry) == 2 else (None, None)
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise TypeError
    return name, dict(options)


def _log_once(level: int, message: str, *values: Any) -> None:
    if level not in _logged:
        _logged.add(level)
        LOGGER.log(level, message, *values)


def run_session(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Run a session; errors of onnxruntime become errors that say what to do."""
    try:
        results: list[NDArray[Any]] = session.run(outputs, feeds)
    except (MemoryError, UnicodeEncodeError):
        raise
    except Exception as error:  # onnxruntime's own types have no base but Exception
        n_rows = max((len(values) for values in feeds.values() if np.ndim(values)), default=0)
        _refuse_memory(error, f"predict {n_rows} rows", "pass fewer rows at a time")
        raise InferenceError(
            f"onnxruntime {onnxruntime.__version__} must predict the {n_rows} rows of a call, but "
            f"it failed: {first_line(error)}. Look for rows unlike those of training, or export "
            "the model again."
        ) from error
    return results


def _refuse_memory(error: Exception, what: str, fix: str) -> None:
    """Raise a MemoryError if that is what an error of onnxruntime means."""
    if _NO_MEMORY.search(str(error)):
        raise MemoryError(
            f"onnxruntime must get the memory to {what}, but it did not: {first_line(error)}. "
            f"{fix.capitalize()}, or use a machine with more memory."
        ) from error


def first_line(error: BaseException) -> str:
    """Return what an error of onnxruntime says, without its code, source files and stack."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    # The C++ function that failed, as in "/src/onnxruntime/core/x.cc:360 void* f(int) the reason".
    text = re.sub(r"\S+\.(cc|h|cpp|cu):\d+ (?=\S)[^()]*\([^)]*\) ?(const )?", "", text)
    return shorten(text.rstrip(". "))


class ForkSafeSession:
    """A session that belongs to its process: a forked child opens its own."""

    def __init__(self, maker: SessionFactory, data: bytes, name: str) -> None:
        self._open: Callable[[], Any] = lambda: maker.open(data, name)
        self._lock = threading.Lock()
        self._session: Any = self._open()
        after_fork_in_child(self)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs from inputs."""
        session = self._session
        if session is None:
            session = self._reopen()
        return run_session(session, outputs, feeds)

    def _reopen(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = self._open()
            return self._session

    def reset_after_fork(self) -> None:
        """Drop the session of the parent."""
        abandon(self._session)
        self._session = None
        self._lock = threading.Lock()
