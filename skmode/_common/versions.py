"""What a bug report needs: versions, extras, devices, threads."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from skmode._version import __version__

OURS = ("skmode", "skmode-deploy")
DEPENDENCIES = (
    "torch",
    "skorch",
    "scikit-learn",
    "numpy",
    "pandas",
    "scipy",
    "narwhals",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "skl2onnx",
    "rtdl_num_embeddings",
    "packaging",
    "threadpoolctl",
    "tqdm",
    "pip",
)
# Variables of the environment that change the number of threads or the devices.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def show_versions() -> None:
    """Print what a bug report needs: versions, extras, devices and threads.

    It prints the versions of Python, of skmode and of the packages that skmode uses, which extras
    of skmode and skmode-deploy are complete and which packages the others lack, the devices that
    torch finds, and the threads of each numeric library, as
    :func:`sklearn.show_versions` does. ``python -m skmode`` and the command ``skmode`` print the
    same.

    Examples
    --------
    >>> from skmode import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    System
        python: 3...
    """
    sections = {
        "System": _system(),
        "Packages": {name: _version(name) or "not installed" for name in OURS + DEPENDENCIES},
        "Packages of extras": _packages_of_extras(),
        "Extras": dict(_extras()),
        "Devices": dict(_devices()),
        "Threads": dict(_threads()),
    }
    for title, entries in sections.items():
        print(title)
        for name, value in entries.items():
            print(f"    {name}: {value}")


def _system() -> dict[str, str]:
    return {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    """Return an installed version from the package's metadata, without an import."""
    if package == "skmode":  # also if it runs from a folder and is not installed
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages_of_extras() -> dict[str, str]:
    """Return the packages of any extra that are installed, and are no dependency of skmode."""
    needed = {
        each.name
        for package in OURS
        for extra in _names_of_extras(package)
        for each in _requirements(package, extra)
    }
    known = {canonicalize_name(name) for name in OURS + DEPENDENCIES}
    found = {name: _version(name) for name in sorted(needed, key=str.lower)}
    return {
        name: installed
        for name, installed in found.items()
        if installed is not None and canonicalize_name(name) not in known
    }


def _extras() -> Iterator[tuple[str, str]]:
    """Yield each extra, and "complete" or what it lacks."""
    for package in OURS:
        for extra in _names_of_extras(package):
            lacking = sorted(filter(None, map(_lack, _requirements(package, extra))))
            state = f"lacks {', '.join(lacking)}" if lacking else "complete"
            yield f"{package}[{extra}]", state


def _names_of_extras(package: str) -> list[str]:
    try:
        return sorted(metadata(package).get_all("Provides-Extra") or [])
    except PackageNotFoundError:
        return []


def _requirements(package: str, extra: str) -> Iterator[Requirement]:
    """Yield what an extra needs, also through other extras of the same package."""
    for line in requires(package) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        # Whatever applies without an extra is a dependency of the package itself.
        if marker is None or marker.evaluate({"extra": ""}):
            continue
        if not marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(requirement.name) == canonicalize_name(package):
            for further in sorted(requirement.extras):
                yield from _requirements(package, further)
        else:
            yield requirement


def _lack(requirement: Requirement) -> str | None:
    """Say what is missing for a requirement, None if it is met."""
    installed = _version(requirement.name)
    if installed is None:
        return requirement.name
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"{requirement.name}{requirement.specifier} ({installed} is installed)"
    return None


def _devices() -> Iterator[tuple[str, str]]:
    """Yield the devices that torch finds."""
    import torch  # here, for the versions above need none of it

    cpus = os.cpu_count()
    # Not on macOS and Windows.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    yield "cpu", f"{cpus} logical cores, {usable} usable by this process"
    yield "torch built for CUDA", torch.version.cuda or "no"
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        memory = f"{found.total_memory / 2**30:.1f} GiB"
        yield f"cuda:{index}", f"{found.name}, {memory}, capability {found.major}.{found.minor}"
    yield "mps", "available" if torch.backends.mps.is_available() else "not available"


def _threads() -> Iterator[tuple[str, str]]:
    """Yield the threads of torch and of the numeric libraries that are loaded."""
    import torch
    from threadpoolctl import threadpool_info

    yield "torch", f"{torch.get_num_threads()} within, {torch.get_num_interop_threads()} between"
    for pool in threadpool_info():
        yield _name_of_pool(pool), f"{pool['num_threads']} ({pool['filepath']})"
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def _name_of_pool(pool: Mapping[str, Any]) -> str:
    parts = pool["internal_api"], pool["version"], pool.get("architecture")
    return " ".join(part for part in parts if part)
