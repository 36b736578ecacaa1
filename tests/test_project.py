"""The files around the code agree with each other: versions, addresses, commands, recipes."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import skmode
import skmode_deploy

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECTS = {
    folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    for folder in (".", "deploy")
}
yaml = pytest.importorskip("yaml")


def workflows():
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


# Versions.


def test_both_distributions_have_the_same_version():
    assert skmode.__version__ == skmode_deploy.__version__
    for project in PROJECTS.values():
        assert project["dynamic"] == ["readme", "version"]


def test_skmode_takes_the_deploy_releases_that_it_is_tested_with():
    """From the first release of this minor version to before the next one."""
    (needed,) = (
        each
        for each in map(Requirement, PROJECTS["."]["dependencies"])
        if each.name == "skmode-deploy"
    )
    current = Version(skmode_deploy.__version__)
    first, beyond = f"{current.major}.{current.minor}.0", f"{current.major}.{current.minor + 1}"
    assert str(needed.specifier) == f"<{beyond},>={first}"
    assert needed.specifier.contains(current)


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == skmode.__version__
    assert citation["license"] == PROJECTS["."]["license"]
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == skmode.__version__


def test_citation_names_the_papers_of_the_readme():
    """Those whose methods are implemented, with the first author that the README names."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = (ROOT / "README.md").read_text()
    assert len(citation["references"]) == 2
    for reference in citation["references"]:
        (identifier,) = reference["identifiers"]
        assert reference["url"].endswith(identifier["value"].removeprefix("arXiv:"))
        entry = readme[: readme.index(reference["url"])].rpartition("\n- ")[2]
        assert entry.startswith(reference["authors"][0]["family-names"])


def test_files_for_operators_name_the_version():
    texts = [
        path.read_text()
        for folder in ("docker", "kserve")
        for path in (ROOT / "deploy" / folder).iterdir()
    ]
    tags = re.findall(r"skmode-deploy:(\d[\w.]*)", "\n".join(texts))
    assert tags
    assert set(tags) == {skmode_deploy.__version__}


def test_images_and_workflows_run_supported_pythons():
    floor = Version(PROJECTS["."]["requires-python"].removeprefix(">="))
    named = [
        Version(each.rpartition(" ")[2])
        for each in PROJECTS["."]["classifiers"]
        if re.search(r":: 3\.\d+$", each)
    ]
    assert min(named) == floor
    assert PROJECTS["."]["classifiers"] != []
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert [Version(each) for each in ci["jobs"]["test"]["strategy"]["matrix"]["python"]] == named
    assert PROJECTS["deploy"]["requires-python"] == PROJECTS["."]["requires-python"]


# Addresses.


def test_addresses_are_those_of_the_project():
    urls = PROJECTS["."]["urls"]
    assert PROJECTS["deploy"]["urls"] == urls
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == urls["Source"]
    assert citation["url"] == urls["Documentation"]
    files = [*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.*"), *ROOT.glob("deploy/*.md")]
    found = {
        link
        for path in files
        for link in re.findall(r"https://github\.com/skmode/[\w-]+", path.read_text())
    }
    assert found == {urls["Source"]}


@pytest.mark.parametrize("folder", [".", "deploy"])
def test_the_description_for_an_index_has_no_relative_links(folder, monkeypatch):
    """They lead to files of this version, which exist."""
    given = {}
    monkeypatch.setattr(pytest.importorskip("setuptools"), "setup", given.update)
    runpy.run_path(str(ROOT / folder / "setup.py"))
    text = given["long_description"]
    links = re.findall(r"\]\((?!#)([^)]+)\)", text) + re.findall(r'(?:src|srcset)="(.*?)"', text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    version = re.escape(skmode.__version__)
    files = re.findall(rf"skmode/skmode/(?:blob/)?v{version}/([^#\n]+)", "\n".join(links))
    assert len(files) > 8
    assert [name for name in files if not (ROOT / name).exists()] == []


# Commands.


def test_workflows_call_make_targets_that_exist():
    called = set()
    for path in workflows():
        called |= set(re.findall(r"run: make ([\w-]+)", path.read_text()))
    needed = {"lint", "test", "test-floor", "test-newest", "coverage", "test-wheels", "docs"}
    assert called >= needed
    assert [each for each in called if not re.search(rf"^{each}:", MAKEFILE, re.MULTILINE)] == []


def test_contributing_describes_each_make_target():
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", MAKEFILE, re.MULTILINE))
    described = set(re.findall(r"`make ([\w-]+)`", CONTRIBUTING))
    assert described == targets
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1]
    assert set(phony.replace("\\", "").split()) == targets


def test_pre_commit_checks_what_make_lint_checks():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint.splitlines()]
    # make checks the format, the hook mends it.
    assert entries == [command.removesuffix(" --check") for command in commands]


# CONTRIBUTING.md.


def test_paths_in_contributing_exist():
    recipes = CONTRIBUTING[CONTRIBUTING.index("## Recipes") :]
    paths = set(re.findall(r"`([\w./-]*(?:/|\.py|\.md|\.rst|\.toml|\.json))`", recipes))
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_names_in_recipes_are_where_the_recipes_say():
    """Where a recipe names a file and then, in brackets, what to touch there, it is there."""
    recipes = CONTRIBUTING[CONTRIBUTING.index("## Recipes") :]
    named = re.findall(r"`([\w./-]+\.py)`\s+\(((?:`\w+`(?:,\s+)?)+)\)", recipes)
    assert len(named) > 10
    missing = [
        (path, name)
        for path, names in named
        for name in re.findall(r"`(\w+)`", names)
        if not re.search(rf"\b{name}\b", (ROOT / path).read_text())
    ]
    assert missing == []


# Types.

PROGRAM = '''
"""What users write, checked as strictly as mypy can."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor, show_versions
from skmode.datasets import get_data_home, make_multi_view
from skmode.inspection import expert_probing
from skmode.nn import DenseGate


def serve(X: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[Any]:
    model = MoDEClassifier(n_experts=2, alpha="auto", random_state=0)
    assert_type(model.fit(X, y), MoDEClassifier)
    probabilities: NDArray[np.float64] = model.predict_proba(X)
    routes: NDArray[np.intp] = model.route(X)
    skmode.onnx.export(model, "bundle", X=X)
    served = skmode_deploy.load("bundle")
    assert_type(served, skmode_deploy.Predictor)
    print(probabilities.shape, routes.shape, expert_probing(model, X, y))
    return served.predict(X)


def regress(X: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    model = MoDERegressor().fit(X, y)
    assert_type(model, MoDERegressor)
    gate = DenseGate(3, 2)
    print(gate, get_data_home().name, make_multi_view(n_samples=10))
    show_versions()
    return float(model.score(X, y))


MoDEClassifier(n_expert=2)  # type: ignore[call-arg]
MoDEClassifier(mixing="mean")  # type: ignore[arg-type]
skmode_deploy.load(3)  # type: ignore[arg-type]
'''


@pytest.mark.slow
def test_mypy_strict_on_a_users_program(tmp_path):
    """Also that mypy sees the types: an ignore that is not needed is an error."""
    (tmp_path / "program.py").write_text(PROGRAM)
    # As installed packages: their own bodies are not checked. Without torch it takes seconds.
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {ROOT}:{ROOT / 'deploy'}\n"
        "explicit_package_bases = true\nfollow_imports = silent\nignore_missing_imports = true\n"
        "[mypy-torch.*,onnx.*,onnxscript.*,polars.*,pyarrow.*]\nfollow_imports = skip\n"
    )
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "program.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.stdout.startswith("Success"), finished.stdout + finished.stderr


@pytest.mark.parametrize("package", [skmode, skmode_deploy])
def test_both_packages_are_typed(package):
    assert Path(package.__file__).with_name("py.typed").is_file()
