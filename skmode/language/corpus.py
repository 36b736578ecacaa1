"""Texts to blocks of tokens, without a corpus in memory: texts and tokens lie in a folder."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from skmode.language.router.counting import pair
from skmode.language.router.ngrams import as_bytes
from skmode.language.tokenizer import encode, end_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Text: TypeAlias = str | bytes | Path
_PIECE = 2**20  # characters of a file that are read at once


class Spool:
    """Texts in a file for each domain, written once and read as often as needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.domains: list[str] = []
        self.n_bytes: dict[str, int] = {}
        self.n_texts: dict[str, int] = {}  # a file is one

    def fill(self, texts: Iterable[Text], domains: Iterable[str] | str) -> Spool:
        """Write checked texts, which are read once."""
        files: list[BinaryIO] = []
        try:
            for at, (text, domain) in enumerate(pair(texts, domains)):
                if domain not in self.domains:
                    self.domains.append(domain)
                    files.append(self._path(domain).open("wb"))
                file = files[self.domains.index(domain)]
                self.n_texts[domain] = self.n_texts.get(domain, 0) + 1
                for content in read_pieces(text, at):
                    file.write(struct.pack("<q", len(content)) + content)
                    self.n_bytes[domain] = self.n_bytes.get(domain, 0) + len(content)
        finally:
            for file in files:
                file.close()
        return self

    def contents(self, domain: str) -> Iterator[bytes]:
        """Yield the texts of a domain in UTF-8."""
        with self._path(domain).open("rb") as file:
            while header := file.read(8):
                yield file.read(struct.unpack("<q", header)[0])

    def texts(self, domain: str) -> Iterator[str]:
        return map(bytes.decode, self.contents(domain))

    def all_contents(self) -> Iterator[bytes]:
        for domain in self.domains:
            yield from self.contents(domain)

    def all_domains(self) -> Iterator[str]:
        """Yield the domain of each of all texts."""
        for domain in self.domains:
            yield from (domain for _ in self.contents(domain))

    def tokens(self, domain: str, tokenizer: Tokenizer) -> NDArray[np.uint32]:
        """Write the tokens of a domain, an end after each text, and return them as a file's map."""
        path = self._path(domain).with_suffix(".tokens")
        end = end_of(tokenizer)
        with path.open("wb") as file:
            for text in self.texts(domain):
                np.array([*encode(tokenizer, text), end], np.uint32).tofile(file)
        return np.memmap(path, np.uint32, "r")

    def _path(self, domain: str) -> Path:
        return self.folder / f"{self.domains.index(domain)}.texts"


def read_pieces(text: Text, position: int = 0) -> Iterator[bytes]:
    """Yield a text as UTF-8, a file in pieces; refuse what is empty or no UTF-8."""
    if not isinstance(text, Path):
        yield as_bytes(text, position)
        return
    n_pieces = 0
    try:
        with text.open(encoding="utf-8", newline="") as file:
            while piece := file.read(_PIECE):
                n_pieces += 1
                yield (piece + file.readline(_PIECE)).encode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A text must be valid UTF-8, but the file {text} is not ({error}): convert it first."
        ) from error
    if not n_pieces:
        raise ValueError(
            f"A text must have at least one byte, but the file {text} is empty: leave it out."
        )


def read_text(text: Text, position: int = 0) -> str:
    """Return one text as a str."""
    return b"".join(read_pieces(text, position)).decode()


class Blocks:
    """The tokens of a domain as rows to train on; the last part is held out.

    A row begins anywhere. Its first input is the token before it, or as often the end of a text,
    from which the model must be able to begin in the middle of a text.
    """

    def __init__(
        self, tokens: NDArray[np.uint32], length: int, end: int, held_out: float = 0.05
    ) -> None:
        n_held = min(int(len(tokens) * held_out), 64 * length)
        self.length, self.end = length, end
        self.train = tokens[: len(tokens) - n_held]
        self.held = tokens[len(tokens) - n_held :] if n_held else tokens[-4 * length :]

    def draw(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of shape (n, length); -100 pads the targets."""
        most = max(len(self.train) - self.length + 1, 1)
        starts = torch.randint(most, (n,), generator=generator).tolist()
        begins = torch.rand(n, generator=generator) < 0.5
        rows = torch.cat([to_rows(self.train[at : at + self.length], self.length) for at in starts])
        before = torch.tensor([int(self.train[at - 1]) if at else self.end for at in starts])
        return inputs_of(rows, before.masked_fill(begins, self.end), self.end), rows

    def held_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the held-out tokens as inputs and targets."""
        return windows(self.held, self.length, self.end)


def windows(
    tokens: Sequence[int] | NDArray[np.uint32], length: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut tokens into inputs and targets; each window begins with the token before it."""
    rows = to_rows(np.asarray(tokens), length)
    before = torch.cat([torch.tensor([end]), rows[:-1, -1]])
    return inputs_of(rows, before, end), rows


def to_rows(tokens: NDArray[Any], length: int) -> torch.Tensor:
    """Cut tokens into rows of a length; -100 fills the last one."""
    n_rows = -(-len(tokens) // length)
    rows = torch.full((n_rows * length,), -100)
    rows[: len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
    return rows.view(n_rows, length)


def inputs_of(rows: torch.Tensor, before: torch.Tensor, end: int) -> torch.Tensor:
    """Return what predicts each token of rows: the token before it."""
    inputs = torch.cat([before[:, None], rows[:, :-1]], dim=1)
    return inputs.masked_fill(inputs < 0, end)
