"""Collect the wheels that `python -m benchmarks.gpu` needs on a machine without a network.

    python -m benchmarks.gpu.wheels FOLDER [--language] [--onnx] [--python-version 3.11]
    python -m pip install --no-index --no-deps FOLDER/*.whl   # there, then PYTHONPATH=.:deploy

Run it where the benchmarks run, in an environment that has what is to be collected: it takes the
same versions, and of these packages all that they need, except what the machine has (torch, numpy,
pandas, scikit-learn and what these need). `--language` adds what texts and language models need,
`--onnx` what serving needs; without them, those parts are skipped.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NEEDED = ("skorch", "rtdl_num_embeddings", "narwhals", "packaging", "threadpoolctl", "tqdm")
# skmode.language imports what it exports with.
ONNX = ("onnx", "onnxruntime", "skl2onnx")
LANGUAGE = ("transformers", "tokenizers", *ONNX)
# What comes with torch, numpy, pandas and scikit-learn is there.
THERE = ("torch", "numpy", "pandas", "scikit-learn")


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, and let pip fetch the wheels."""
    parser = argparse.ArgumentParser(description="Collect wheels for a machine without a network.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--python-version", default=f"3.{sys.version_info.minor}")
    parser.add_argument("--list", action="store_true", help="print the names, and fetch nothing")
    options = parser.parse_args(arguments)
    wanted = [*NEEDED, *(ONNX if options.onnx else ()), *(LANGUAGE if options.language else ())]
    packages = closure(wanted) - (closure(THERE) - set(map(canonicalize_name, NEEDED)))
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(packages)]
    if options.list:
        print("\n".join(pinned))
        return 0
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", options.python_version]
    # From old to new: pip takes any of them.
    for tag in ("manylinux2014", "manylinux_2_27", "manylinux_2_28"):
        command += ["--platform", f"{tag}_x86_64"]
    subprocess.run([*command, "--dest", str(options.folder), *pinned], check=True)
    files = sorted(options.folder.glob("*.whl"))
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(f"{len(files)} wheels in {options.folder}, {megabytes:.1f} MB")
    return 0


def closure(names: Iterable[str]) -> set[str]:
    """The packages, and all that they need of those that are installed here."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one, which the machine that collects lacks as well
        found.add(name)
        parsed = map(Requirement, needed)
        left += [
            each.name
            for each in parsed
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
