"""`show_versions` and the command line print what a bug report needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import skmode
from skmode import show_versions
from skmode.__main__ import main
from skmode._common import versions


def sections(printed: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in printed.splitlines():
        if not line.startswith(" "):
            entries = found.setdefault(line, {})
        else:
            name, _, value = line.strip().partition(": ")
            entries[name] = value
    return found


def test_prints_versions_devices_and_threads(capsys):
    show_versions()
    found = sections(capsys.readouterr().out)
    assert list(found) == [
        "System", "Packages", "Packages of extras", "Extras", "Devices", "Threads",
    ]  # fmt: skip
    assert found["System"]["python"].startswith(sys.version.split()[0])
    packages = found["Packages"]
    assert packages["skmode"] == skmode.__version__
    assert packages["torch"] == torch.__version__
    for name in ("skmode-deploy", "scikit-learn", "numpy", "onnx", "onnxruntime", "skl2onnx"):
        assert packages[name] == version(name)
    assert found["Packages of extras"]["pytest"] == pytest.__version__
    assert "skmode-deploy[serve]" in found["Extras"]
    assert "logical cores" in found["Devices"]["cpu"]
    assert found["Threads"]["torch"].startswith(f"{torch.get_num_threads()} within")


def test_names_each_dependency():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = {Requirement(each).name for each in project["dependencies"]}
    assert needed - {*versions.OURS, *versions.DEPENDENCIES} == set()


DISTRIBUTIONS = {
    "skmode": (
        ["plot", "report"],
        [
            "numpy",
            'Matplotlib>=3; extra == "plot"',
            'skmode[plot]; extra == "report"',
            'jinja2>=3; extra == "report"',
            'winreg; sys_platform == "none" and extra == "report"',
        ],
    ),
    "skmode-deploy": (["serve"], ['uvicorn<2; extra == "serve"']),
}


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"matplotlib": "3.9", "jinja2": "3.1", "uvicorn": "1.0"}, ["complete"] * 3),
        ({"uvicorn": "2.0"}, ["lacks Matplotlib", "lacks Matplotlib, jinja2",
                              "lacks uvicorn<2 (2.0 is installed)"]),
        # A build of a release, and what comes before it.
        ({"matplotlib": "3.9+cpu", "jinja2": "3.2rc1", "uvicorn": "1.0"}, ["complete"] * 3),
    ],
)  # fmt: skip
def test_extras(installed, expected, monkeypatch):
    def find(name):
        try:
            return installed[name.lower()]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(versions, "version", find)
    monkeypatch.setattr(versions, "requires", lambda name: DISTRIBUTIONS[name][1])
    monkeypatch.setattr(versions, "_names_of_extras", lambda name: DISTRIBUTIONS[name][0])
    assert list(versions._extras()) == list(
        zip(["skmode[plot]", "skmode[report]", "skmode-deploy[serve]"], expected, strict=True)
    )
    assert set(versions._packages_of_extras()) == {
        name for name in ("Matplotlib", "jinja2", "uvicorn") if name.lower() in installed
    }


def test_runs_where_nothing_is_installed(monkeypatch, capsys):
    def nowhere(name):
        raise PackageNotFoundError(name)

    for function in ("metadata", "requires", "version"):
        monkeypatch.setattr(versions, function, nowhere)
    show_versions()
    found = sections(capsys.readouterr().out)
    assert found["Packages"]["skmode"] == skmode.__version__
    assert found["Packages"]["skmode-deploy"] == "not installed"
    assert found["Extras"] == {}


def test_names_gpus(monkeypatch):
    class Properties:
        name, total_memory, major, minor = "H200", 139 * 2**30, 9, 0

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    assert dict(versions._devices())["cuda:0"] == "H200, 139.0 GiB, capability 9.0"


def test_command_line(capsys):
    main([])
    assert capsys.readouterr().out.startswith("System\n    python: ")
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"skmode {skmode.__version__}\n"


@pytest.mark.slow
def test_versions_need_no_import_of_the_packages():
    code = (
        "import sys, skmode\n"
        "before = set(sys.modules)\n"
        "skmode.show_versions()\n"
        "print(*set(sys.modules) - before, file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in finished.stderr.split()}
    assert not loaded & {"matplotlib", "onnx", "onnxruntime", "onnxscript", "pyarrow", "skl2onnx"}
