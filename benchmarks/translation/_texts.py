"""Pairs of German and English texts: LibreOffice's help pages, out of Debian's packages."""

from __future__ import annotations

import hashlib
import html
import io
import os
import random
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skmode.datasets import get_data_home

VERSION = "4:7.4.7-1+deb12u14"
SHA256 = {
    "de": "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f",
    "en-us": "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
}
FOLDER = "usr/share/libreoffice/help"
ELEMENT = re.compile(r'<(p|h[1-6])\s+id="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Pair:
    """A paragraph or heading in both languages, and the page that it is from."""

    page: str
    source: str
    target: str


@dataclass(frozen=True)
class Texts:
    """Pairs by part; no page is in two parts, and no source text is either."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


def load_texts(*, max_characters: int = 80, seed: int = 0) -> Texts:
    """Read the pairs, without long texts and untranslated ones, and divide them by page."""
    german, english = (read_pages(read_package(language)) for language in ("de", "en-us"))
    pairs = [
        Pair(page, source, english[page][key])
        for page in sorted(german.keys() & english.keys())
        for key, source in german[page].items()
        if key in english[page]
    ]
    return divide([pair for pair in pairs if suits(pair, max_characters)], seed)


def suits(pair: Pair, max_characters: int) -> bool:
    """Whether a pair is a translation that is short enough."""
    longest = max(len(pair.source), len(pair.target))
    return pair.source != pair.target and longest <= max_characters


def divide(pairs: list[Pair], seed: int) -> Texts:
    """Take 10 % of the pages for validation and as many for the test.

    A text that stands on pages of several parts stays in the first one only: many headings recur.
    """
    pages = sorted({pair.page for pair in pairs})
    random.Random(seed).shuffle(pages)
    tenth = len(pages) // 10
    position = {page: i for i, page in enumerate(pages)}
    part_of = {page: min(i // max(tenth, 1), 2) for page, i in position.items()}  # 0: test
    pairs = sorted(pairs, key=lambda pair: position[pair.page])
    parts: list[list[Pair]] = [[], [], []]
    seen: set[str] = set()
    for wanted in (2, 1, 0):
        own = [pair for pair in pairs if part_of[pair.page] == wanted and pair.source not in seen]
        parts[wanted] = list({pair.source: pair for pair in own}.values())
        seen.update(pair.source for pair in own)
    return Texts(parts[2], parts[1], parts[0])


def read_pages(package: bytes) -> dict[str, dict[str, str]]:
    """Return the texts of each page of a package, by the id of their element."""
    pages = {}
    with tarfile.open(fileobj=io.BytesIO(archive_member(package, "data.tar.xz"))) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.suffix != ".html" or not path.is_relative_to(FOLDER) or len(path.parts) < 7:
                continue
            file = archive.extractfile(member)
            assert file is not None
            name = str(PurePosixPath(*path.parts[5:]))  # without the language
            pages[name] = read_elements(file.read().decode())
    return pages


def read_elements(page: str) -> dict[str, str]:
    """Return the texts of the paragraphs and headings that have an id."""
    texts = {}
    for _, key, content in ELEMENT.findall(page):
        text = " ".join(html.unescape(TAG.sub("", content)).split())
        if text:
            texts[key] = text
    return texts


def archive_member(package: bytes, name: str) -> bytes:
    """Return a member of an ar archive, which a Debian package is."""
    position = len(b"!<arch>\n")
    while position < len(package):
        header = package[position : position + 60]
        size = int(header[48:58])
        position += 60
        if header[:16].decode().strip().rstrip("/") == name:
            return package[position : position + size]
        position += size + size % 2
    raise OSError(f"The package must contain {name}, found none: download it again.")


def read_package(language: str) -> bytes:
    """Return the bytes of a package, downloaded unless the cache folder has them."""
    name = f"libreoffice-help-{language}"
    path = get_data_home() / f"{name}_{VERSION.replace(':', '%3a')}_all.deb"
    if not path.exists():
        download(f"{name}={VERSION}", path)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[language]:
        raise OSError(
            f"{path.name} must have the sha256 {SHA256[language]}, found {found}: delete {path} "
            "and try again."
        )
    return content


def download(requirement: str, path: Path) -> None:
    """Download a package with apt, without installing it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = ["apt-get", "download", "--quiet", requirement]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConnectionError(
                f"apt-get must download {requirement} of Debian 12, and failed: "
                f"{getattr(error, 'stderr', error)}\n"
                f"Run `apt-get update`, or download it on another machine and copy it to {path}."
            ) from error
        os.replace(Path(folder, path.name), path)
