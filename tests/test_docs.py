"""The documentation is complete, its links lead somewhere, and its code runs.

Pages are read as they stand in `docs`, and as `docs/_tools/pages.py` makes them, without Sphinx.
"""

from __future__ import annotations

import ast
import importlib.util
import posixpath
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "_tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = load_tool("pages")
public = load_tool("public")
NOT_PAGES = ("_", "gallery/", "api/generated/")
# Pages that Sphinx-Gallery makes.
MADE_LATER = {"gallery/index.rst"}


@pytest.fixture(scope="module")
def texts():
    """Text of each page, by its path below `docs`."""
    pytest.importorskip("prometheus_client")
    pytest.importorskip("starlette")
    made = pages.make()
    written = {
        path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
        for suffix in ("md", "rst")
        for path in DOCS.rglob(f"*.{suffix}")
    }
    written = {
        name: text
        for name, text in written.items()
        if not name.startswith((*NOT_PAGES, "examples/")) and name not in made
    }
    return written | made


def test_every_public_name_is_in_the_reference():
    listed = set()
    entry = re.compile(r"(?:\.\. (?:autoexception|py:data)::| +) (\w+)$")
    for path in (DOCS / "api").glob("*.rst"):
        module = ""
        for line in path.read_text().splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = found[1]
            elif (found := entry.match(line)) and module and ":" not in found[1]:
                listed.add(f"{module}.{found[1]}")
    listed &= set(public.names())
    described = {id(public.find(name)) for name in listed}
    # A class that several modules export is described once.
    missing = [each for each in public.names() if each not in listed]
    assert [each for each in missing if id(public.find(each)) not in described] == []


def test_the_reference_knows_every_public_module():
    """Those that say what they export; the command has a page of its own."""
    found = set()
    for package in (ROOT / "skmode", ROOT / "deploy" / "skmode_deploy"):
        for path in [*package.glob("*.py"), *package.glob("*/__init__.py")]:
            if re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE):
                name = path.relative_to(package.parent).with_suffix("").as_posix().replace("/", ".")
                found.add(name.removesuffix(".__init__"))
    found = {name for name in found if "._" not in name}
    assert found - {"skmode_deploy.cli"} == set(public.MODULES)


def test_links_between_pages_exist(texts):
    wrong = []
    for name, text in texts.items():
        text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            page = name if not target else path
            if page not in texts and page not in MADE_LATER:
                wrong.append((name, target))
            elif anchor and anchor not in anchors(texts[page]):
                wrong.append((name, f"{target}#{anchor}"))
    assert wrong == []


def anchors(text):
    """The anchors of a page's headings, as MyST and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_files_of_the_repository_exist(texts):
    links = {
        (name, link)
        for name, text in texts.items()
        for link in re.findall(r"\]\(repo:([^)#\s]+)", text)
    }
    assert len(links) > 20
    assert [each for each in links if not (ROOT / each[1]).exists()] == []


def test_links_to_pages_stay_on_the_site(texts):
    """Not to the file of a page in the repository."""
    made_of = {source: name for name, source in pages.COPIES.items()}
    wrong = []
    for name, text in texts.items():
        for link in re.findall(r"\]\(repo:([^)#\s]+)", text):
            page = made_of.get(link, link.removeprefix("docs/"))
            if page in texts:
                wrong.append((name, link))
    assert wrong == []


def test_every_page_is_in_a_table_of_contents(texts):
    listed = {"index.md"}
    for name, text in texts.items():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            listed |= {
                posixpath.normpath(posixpath.join(posixpath.dirname(name), line)) + ".md"
                for line in block.splitlines()
                if line and not line.startswith(":")
            }
    assert sorted(name for name in texts if name.endswith(".md") and name not in listed) == []


def test_nothing_comes_from_another_host(texts):
    """Pictures, scripts and styles stand beside the pages."""
    wrong = [
        (name, found)
        for name, text in texts.items()
        for found in re.findall(
            r'!\[[^\]]*\]\(https?:\S+|src="https?:\S+|\{image\} https?:\S+', text
        )
    ]
    assert wrong == []


def test_columns_of_tables_have_names(texts):
    """A screen reader says the column's name with each cell."""
    nameless = [
        (name, head)
        for name, text in texts.items()
        for head in re.findall(r"^ *(\|.*)\n *\| ?:?-{3,}", text, re.MULTILINE)
        if re.search(r"\|\s*\|", head)
    ]
    assert nameless == []


@pytest.mark.slow
def test_messages_of_the_troubleshooting_page_are_those_of_the_code(texts):
    known = set()
    for folder in (ROOT / "skmode", ROOT / "deploy" / "skmode_deploy"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (getattr(part, "value", None) for part in node.values)
                    known.add("".join(p if isinstance(p, str) else "..." for p in parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    known.add(node.value)
    text = texts["guide/troubleshooting.md"]
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(messages) > 25
    assert [each for each in messages if not any(each in message for message in known)] == []


def test_examples_are_pictured_and_need_no_network():
    examples = sorted((DOCS / "examples").glob("plot_*.py"))
    assert len(examples) >= 15
    for path in examples:
        text = path.read_text()
        assert "plt.show()" in text, path.name
        assert "fetch_" not in text, path.name


PAGES_WITH_CODE = sorted(
    path.relative_to(DOCS).as_posix()
    for path in [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")]
    if "```python\n" in path.read_text(encoding="utf-8") and path.name not in ("contributing.md",)
)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # on a busy machine
@pytest.mark.filterwarnings("ignore:Each expert should get some rows")
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_code_of_pages_runs(page, tmp_path, monkeypatch):
    """All blocks of a page, one after another; the last line of a block that compares is true."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    names = {}
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ):
        tree = ast.parse(block)
        last = tree.body[-1]
        exec(compile(block, f"{page}, block {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = ast.unparse(last.value)
            if value.startswith("np.array_equal") or value.endswith(".all()"):
                assert eval(value, names), value
