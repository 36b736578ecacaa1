"""Texts of several domains: help pages in five languages, Python, C, manual pages."""

from __future__ import annotations

import gzip
import hashlib
import html
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Literal

from sklearn.utils import Bunch

from skmode.datasets._archives import HELP, SOURCES, files_of_debian, read_archive

STOP_WORDS = {
    "en": "the of and to in is that for it with as this are be on by or not an which from can if "
    "will you have has was when may must",
    "fr": "le la les de des du et à un une est que qui dans pour par sur ne pas ce cette sont au "
    "aux en avec ou si être plus l d qu n s",
    "de": "der die das und zu in ist den dem des ein eine einen nicht mit von für auf wird werden "
    "sich auch als oder wenn sie es im an aus durch kann sind",
    "es": "el la los las de del y en un una que se para por con no es al lo su o si como esta este "
    "más son puede cuando",
    "it": "il lo la i gli le di del della dei delle e in un una che si per con non è al da su o se "
    "come questo questa sono può quando",
}
_STOP_WORDS = {language: set(words.split()) for language, words in STOP_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_ELEMENT = re.compile(r"<(p|h[1-6])\s+id=\"[^\"]+\"[^>]*>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_GENERATED = re.compile(r"/(encodings|pydoc_data|config-[^/]*)/|_sysconfigdata")
_FILES = {
    "py": re.compile(r"/usr/lib/python3\.11/(?P<module>[^/]+)(/.*)?(?<=\.py)$"),
    "c": re.compile(r"/usr/include/(?P<module>.+)\.h$"),
    "man": re.compile(r"/usr/share/man/man\w+/(?P<module>.+)\.gz$"),
}
_HELP = "usr/share/libreoffice/help"
_PARTS = ("train", "valid", "test")


def fetch_domain_texts(
    domains: Sequence[str] = ("en", "fr", "de", "py"),
    *,
    subset: Literal["train", "valid", "test"] = "train",
    data_home: str | os.PathLike[str] | None = None,
) -> Bunch:
    """Fetch texts of several domains, for language models and their routers.

    The domains are the help pages of LibreOffice in English, French, German, Spanish and Italian
    (``"en"``, ``"fr"``, ``"de"``, ``"es"``, ``"it"``), Python's standard library (``"py"``), the
    headers of Linux (``"c"``) and English manual pages in roff (``"man"``). Each is a package of
    Debian of 2 or 3 MB, which ``apt-get download`` gets, and has 4 or 5 MB of text.

    A text is a page or a file. About 8 of 10 pages are for training, one is for validation, one
    for the test: a page has the same subset in all languages, and a module's files stay
    together. A line of a help page is kept only if the stop words of its language are at least
    as many as those of each other language, and if no page of an earlier subset has it.

    Parameters
    ----------
    domains : sequence of str, default=("en", "fr", "de", "py")
        The names of the domains.
    subset : {"train", "valid", "test"}, default="train"
        The texts to return.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.

    Returns
    -------
    texts : :class:`~sklearn.utils.Bunch`
        With ``texts`` (list of str), ``domains`` (list of str, one for each text), ``names`` (list
        of str, the files) and ``DESCR``.

    Examples
    --------
    >>> from skmode.datasets import fetch_domain_texts
    >>> corpus = fetch_domain_texts(["en", "py"])  # doctest: +SKIP
    >>> corpus.texts[0][:20], corpus.domains[0]  # doctest: +SKIP
    """
    known = [*HELP, *SOURCES]
    if isinstance(domains, str) or not set(domains) <= set(known):
        raise ValueError(
            f"domains must be a list of names among {', '.join(known)}, got {domains!r}: choose "
            "some of these."
        )
    if subset not in _PARTS:
        raise ValueError(
            f"subset must be one of {', '.join(_PARTS)}, got {subset!r}: choose one of these."
        )
    corpus = Bunch(texts=[], domains=[], names=[])
    for domain in domains:
        archive = HELP[domain] if domain in HELP else SOURCES[domain]
        with files_of_debian(read_archive(archive, data_home)) as files:
            read = _help_pages(files, domain) if domain in HELP else _sources(files, domain)
            pages = [(name, text) for part, name, text in read if part == subset and text.strip()]
        corpus.names += [name for name, _ in pages]
        corpus.texts += [text for _, text in pages]
        corpus.domains += [domain] * len(pages)
    corpus.DESCR = f"Texts of the domains {', '.join(domains)}, {subset}, out of Debian's packages."
    return corpus


def part_of(name: str) -> str:
    """Return the subset of a page or module, by a hash of its name."""
    digit = int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 10
    return {9: "test", 4: "valid"}.get(digit, "train")


def suits(line: str, language: str) -> bool:
    """Whether no other language has more stop words in a line."""
    words = _WORD.findall(line.lower())
    votes = {name: sum(word in own for word in words) for name, own in _STOP_WORDS.items()}
    return votes[language] >= max(votes.values())


def _help_pages(files: tarfile.TarFile, language: str) -> Iterator[tuple[str, str, str]]:
    """Yield subset, name and text of help pages."""
    pages = {}
    for member in files:
        path = PurePosixPath(member.name)
        if path.is_relative_to(_HELP) and path.suffix == ".html" and len(path.parts) > 6:
            pages[str(PurePosixPath(*path.parts[5:]))] = _read(files, member)
    seen: set[str] = set()
    order = sorted(pages, key=lambda name: (_PARTS.index(part_of(name)), name))
    for part in _PARTS:
        own = [name for name in order if part_of(name) == part]
        lines = {name: _lines_of(pages[name], language) for name in own}
        for name in own:
            kept = [line for line in lines[name] if line not in seen]
            yield part, name, "".join(f"{line}\n" for line in kept)
        seen.update(*lines.values())


def _lines_of(page: str, language: str) -> list[str]:
    """Return the paragraphs and headings of a page, one a line, that are of the language."""
    lines = (
        " ".join(html.unescape(_TAG.sub("", content)).split())
        for _, content in _ELEMENT.findall(page)
    )
    return [line for line in lines if line and suits(line, language)]


def _sources(files: tarfile.TarFile, domain: str) -> Iterator[tuple[str, str, str]]:
    """Yield subset, name and text of files of code or manual pages."""
    found = {}
    for member in files:
        name = member.name.removeprefix(".")
        match = _FILES[domain].match(name)
        if match and member.isfile() and not _GENERATED.search(name):
            found[name] = (part_of(match["module"]), _read(files, member))
    for name in sorted(found):
        yield found[name][0], name, found[name][1]


def _read(files: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """Return the text of a file, unpacked."""
    file = files.extractfile(member)
    assert file is not None
    content = file.read()
    return (gzip.decompress(content) if member.name.endswith(".gz") else content).decode(
        errors="replace"
    )
