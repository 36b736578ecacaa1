from __future__ import annotations

import io
import tarfile

import pytest

from skmode.datasets import _corpora, fetch_domain_texts
from skmode.datasets._corpora import part_of, suits

PAGES = [f"text/guide/page{i}.html" for i in range(60)]
HELP = "./usr/share/libreoffice/help/en-US"


def make_package(files: dict[str, str]) -> bytes:
    """Make a Debian package as far as it is read: an ar file with data.tar.xz."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    content = data.getvalue()
    header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n"
    return b"!<arch>\n" + header.encode() + content


@pytest.fixture
def packages(monkeypatch):
    page = (
        '<p id="a">The {} of &amp; the <b>page</b></p><h1 id="b">Shared</h1><p id="c">le et la</p>'
    )
    packages = {
        "libreoffice-help-en-us": {f"{HELP}/{name}": page.format(name) for name in PAGES},
        "libpython3.11-stdlib": {
            f"./usr/lib/python3.11/{name}": "x = 1\n"
            for name in ("json/a.py", "json/b.py", "re.py", "encodings/x.py", "empty.txt")
        },
    }
    monkeypatch.setattr(
        _corpora, "read_archive", lambda archive, home: make_package(packages[archive.package])
    )


@pytest.mark.usefixtures("packages")
def test_subsets_share_no_page_and_no_line():
    parts = {name: fetch_domain_texts(["en"], subset=name) for name in ("train", "valid", "test")}
    names = [name for part in parts.values() for name in part.names]
    assert sorted(names) == sorted(PAGES)
    assert all(part_of(name) == part for part in parts for name in parts[part].names)
    first = parts["train"].names[0]
    assert parts["train"].texts[0] == f"The {first} of & the page\nShared\n"
    assert "Shared" not in "".join(parts["test"].texts)
    assert set(parts["test"].domains) == {"en"}


@pytest.mark.usefixtures("packages")
def test_modules_stay_together_and_generated_files_are_left_out():
    corpora = [fetch_domain_texts(["py"], subset=each) for each in ("train", "valid", "test")]
    names = [[name.rpartition("3.11/")[2] for name in corpus.names] for corpus in corpora]
    assert sorted(each for own in names for each in own) == ["json/a.py", "json/b.py", "re.py"]
    assert any({"json/a.py", "json/b.py"} <= set(each) for each in names)


def test_a_line_is_of_the_language_with_the_most_stop_words():
    assert suits("the file is in the folder", "en")
    assert not suits("the file is in the folder", "fr")
    assert suits("SUM(A1:A3)", "fr")
    assert not suits("das ist der Ordner", "en")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": ["en", "tlh"]}, r"got \['en', 'tlh'\]: choose some of these"),
        ({"domains": "en"}, "must be a list of names"),
        ({"subset": "all"}, "subset must be one of train, valid, test, got 'all'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch_domain_texts(**arguments)
