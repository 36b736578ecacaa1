"""Both wheels hold what they need and import away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "package", "modules"),
    [
        (".", "skmode", ["skmode", "skmode.nn", "skmode.datasets"]),
        ("deploy", "skmode_deploy", ["skmode_deploy"]),
    ],
)
def test_wheel_imports_outside_the_checkout(source, package, modules, tmp_path):
    # A copy, for a build leaves its folders behind.
    files = subprocess.run(
        ["git", "ls-files", "--", source], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, files):
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*pip, str(tmp_path / "source" / source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    assert (tmp_path / "installed" / package / "py.typed").exists()
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
    code += "".join(f"import {module}\n" for module in modules)
    code += f"print({package}.__file__)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert result.stdout.startswith(str(tmp_path / "installed"))
