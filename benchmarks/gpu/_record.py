"""Parts that keep to their time, and the file that their results are written to."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "skorch", "rtdl_num_embeddings")

Lines = Iterator[dict[str, Any]]


class Skipped(Exception):
    """A part cannot run here, and says why."""


class OutOfTime(BaseException):
    """The time of a part is over; no `except Exception` on the way shall stop it."""


@dataclass(frozen=True)
class Setting:
    """Where to measure, and whether on tiny data."""

    device: str
    quick: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type != "cpu"

    @property
    def card(self) -> str:
        """The card's name, or that of the processor's architecture."""
        if torch.device(self.device).type == "cuda":
            return str(torch.cuda.get_device_name(self.device))
        return f"{self.device} {platform.machine()}"

    def choose(self, full: Any, quick: Any) -> Any:
        """One of two, the second on tiny data."""
        return quick if self.quick else full

    def wait(self) -> None:
        """Wait until the device has done all that it was told to."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device == "mps":
            torch.mps.synchronize()

    def seconds(self, function: Callable[[], Any]) -> float:
        """How long a call takes, with what it left the device to do."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start


@dataclass(frozen=True)
class Part:
    """Measurements, one line each, and their share of the time."""

    name: str
    measure: Callable[[Setting], Lines]
    share: float


class Record:
    """The results so far, in a file that is whole at any moment."""

    def __init__(self, path: Path, setting: Setting) -> None:
        self.path = path
        self.parts: dict[str, dict[str, Any]] = {}
        self.made_by = {
            "command": "python -m benchmarks.gpu",
            "card": setting.card,
            "device": setting.device,
            "quick": setting.quick,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "cuda": torch.version.cuda,
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
        if torch.device(setting.device).type == "cuda":
            found = torch.cuda.get_device_properties(setting.device)
            self.made_by["memory_gib"] = round(found.total_memory / 2**30, 1)
            self.made_by["capability"] = f"{found.major}.{found.minor}"

    @property
    def failed(self) -> bool:
        """Whether a part failed, or one of its lines."""
        parts = self.parts.values()
        return any("error" in each for part in parts for each in (part, *part["lines"]))

    def write(self) -> None:
        """Write what there is, under another name first."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(
            json.dumps({"made_by": self.made_by, "parts": self.parts}, indent=1) + "\n"
        )
        os.replace(partial, self.path)


def attempt(about: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Make a line; where measuring fails, it says how, and the other lines go on.

    A lack of a package is no failure, and raised.
    """
    try:
        return {**about, **measure()}
    except ImportError:
        raise
    except Exception:
        error = traceback.format_exc(limit=-6)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # what a lack of memory left behind
    return {**about, "error": error}


def run(parts: Sequence[Part], setting: Setting, record: Record, seconds: float) -> None:
    """Run the parts within some seconds."""
    end = time.monotonic() + seconds
    for i, part in enumerate(parts):
        left = end - time.monotonic()
        own = left * part.share / sum(each.share for each in parts[i:])
        found: dict[str, Any] = {"seconds_allowed": round(own, 1), "lines": []}
        record.parts[part.name] = found
        start = time.perf_counter()
        try:
            with _Alarm(own):
                for line in part.measure(setting):
                    found["lines"].append(line)
                    record.write()
                    print(part.name, json.dumps(line), flush=True)
        except OutOfTime:
            found["cut_off"] = True
        except (Skipped, ModuleNotFoundError) as reason:
            found["skipped"] = str(reason)
        except Exception:
            found["error"] = traceback.format_exc()
        found["seconds"] = round(time.perf_counter() - start, 2)
        failed = sum("error" in line for line in found["lines"])
        if failed:
            found["failed_lines"] = failed
        for name in ("cut_off", "skipped", "error"):
            if name in found:
                print(part.name, name, found[name], flush=True)
        record.write()


class _Alarm:
    """Raise OutOfTime in the block after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 0.001)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Parts must run in the main thread, which alone gets signals.")
        self.before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *raised: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)

    @staticmethod
    def _ring(*arguments: object) -> None:
        raise OutOfTime
