"""The first import against those of torch and scikit-learn, which every user of skmode pays.

Run ``python -m benchmarks.costs.imports``. Each import runs in a process of its own, whose
processor time is measured, directly before or after that of its peers. The median of the pairs'
ratios counts.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import skmode

RESULTS = Path(__file__).parents[1] / "results" / "imports.json"
# Module, what its users import anyway, how many times as long it may take at most.
IMPORTS = [
    ("skmode", "torch, sklearn", 1.5),
    ("skmode.inspection", "torch, sklearn", 1.5),
    ("skmode.onnx", "torch, sklearn, skl2onnx, onnxruntime", 1.5),
    ("skmode_deploy", "numpy, onnxruntime", 1.5),
]
REPEATS = 7


def processor_seconds(modules: str) -> float:
    """Import modules in a new process, which keeps what it compiles, as Python does by default."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(module: str, peers: str, bar: float) -> dict[str, Any]:
    """Import a module and its peers in turns, after one round that fills the caches."""
    times: dict[str, list[float]] = {module: [], peers: []}
    for repeat in range(REPEATS + 1):
        for modules in sorted(times, reverse=bool(repeat % 2)):
            seconds = processor_seconds(modules)
            if repeat:
                times[modules].append(seconds)
    ratio = statistics.median(
        own / peer for own, peer in zip(times[module], times[peers], strict=True)
    )
    return {
        "module": module,
        "peers": peers,
        "seconds": round(statistics.median(times[module]), 2),
        "peers_seconds": round(statistics.median(times[peers]), 2),
        "ratio": round(ratio, 2),
        "bar": bar,
    }


def main() -> int:
    """Measure, print the ratios, write the results; 1 if a bar is missed."""
    packages = ("torch", "scikit-learn", "skl2onnx", "onnxruntime", "numpy")
    versions = {name: version(name) for name in packages}
    results = []
    for module, peers, bar in IMPORTS:
        result = measure(module, peers, bar)
        results.append(result)
        word = "passed" if result["ratio"] <= bar else "MISSED"
        print(
            f"import {module}: {result['seconds']} s of processor time, {result['ratio']} times "
            f"that of {peers} ({result['peers_seconds']} s; at most {bar}: {word})",
            flush=True,
        )
    report = {
        "versions": {
            "skmode": skmode.__version__, "python": platform.python_version(), **versions
        },
        "repeats": REPEATS,
        "imports": results,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(result["ratio"] > result["bar"] for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
