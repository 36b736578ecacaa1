"""Turn the strings of columns into the tokens and counts that a graph reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Manifest, text_inputs
from skmode_deploy.bundle.messages import as_sentence
from skmode_deploy.errors import TokenizerError
from skmode_deploy.running.inputs.columns import Array
from skmode_deploy.running.inputs.texts.counting import count_tokens, order_tokens
from skmode_deploy.running.inputs.texts.tokenizer import Tokenizer, refuse_surrogate

# Tokens of all texts of a run, padding included: a graph looks up a vector for each of them.
MAX_CELLS = 2**17
# A transformer compares each token of a text with all others, and computes wide layers for each.
MAX_CELLS_IN_ORDER = 2**13

# Positions of some rows, None for all, and the graph inputs that hold them.
Part = tuple[NDArray[np.int64] | None, dict[str, Array]]


class _StringReader(Protocol):
    """Converts rows to the inputs of a graph, but for texts, which stay strings."""

    def __call__(self, X: Any) -> dict[str, Array]: ...

    def check_text(self, feeds: Mapping[str, Array]) -> None: ...

    def check_known(self, feeds: Mapping[str, Array]) -> None: ...


class TokenReader:
    """Converts rows with texts to the inputs of a graph."""

    def __init__(
        self, reader: _StringReader, manifest: Manifest, read: Callable[[str], bytes]
    ) -> None:
        self._reader = reader
        opened: dict[str, Tokenizer] = {}
        for column in manifest.text_columns:
            assert column.text is not None
            name = column.text.tokenizer
            if name not in opened:
                opened[name] = _open_tokenizer(name, read(name))
            _check_n_tokens(column, opened[name])
        self._columns = [
            _TokenColumn(manifest, column, opened[column.text.tokenizer])
            for column in manifest.text_columns
            if column.text is not None
        ]
        self._max_tokens = sum(column.max_tokens for column in self._columns)
        self._in_order = any(column.in_order for column in self._columns)

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert rows to graph inputs, all at once."""
        return self.encode(self.read(X))

    def read(self, X: Any) -> dict[str, Array]:
        """Convert rows to graph inputs, but leave texts as strings."""
        return self._reader(X)

    def encode(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Turn texts that are strings into tokens and counts."""
        feeds = dict(values)
        for column in self._columns:
            feeds.update(column.count(column.tokenize(feeds.pop(column.input))))
        return feeds

    def parts(self, X: Any) -> Iterator[Part]:
        """Convert rows to graph inputs; in parts of similar length if they are many or long."""
        feeds = self.read(X)
        tokens = [column.tokenize(feeds.pop(column.input)) for column in self._columns]
        max_cells = MAX_CELLS_IN_ORDER if self._in_order else MAX_CELLS
        if len(tokens[0]) * self._max_tokens <= max_cells:
            for column, lists in zip(self._columns, tokens, strict=True):
                feeds.update(column.count(lists))
            yield None, feeds
            return
        sizes = sum(
            np.fromiter(map(len, lists), np.int64, len(lists)).clip(1, column.max_tokens)
            for column, lists in zip(self._columns, tokens, strict=True)
        )
        for rows in _split(np.asarray(sizes), max_cells):
            part = {name: array if rows is None else array[rows] for name, array in feeds.items()}
            for column, lists in zip(self._columns, tokens, strict=True):
                chosen = lists if rows is None else [lists[i] for i in rows.tolist()]
                part.update(column.count(chosen))
            yield rows, part

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the string that UTF-8 cannot encode; texts were checked before."""
        self._reader.check_text(feeds)

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the first value that training did not have; all tokens are known."""
        self._reader.check_known(feeds)


class _TokenColumn:
    """Turns the texts of one column into tokens."""

    def __init__(self, manifest: Manifest, column: Column, tokenizer: Tokenizer) -> None:
        assert column.text is not None
        self.input = column.input
        self.max_tokens = column.text.max_tokens
        self.in_order = column.text.encoder is not None
        self._names = text_inputs(manifest, column)
        self._max_bytes = column.text.max_bytes
        self._tokenizer = tokenizer
        self._of = "" if manifest.input == "text" else f" of column {column.name!r}"

    def tokenize(self, values: Array) -> list[list[int]]:
        """Check texts, and turn them into tokens."""
        texts = values[:, 0].tolist()
        for i, text in enumerate(texts):
            # A character has up to 4 bytes.
            if 4 * len(text) > self._max_bytes or "\0" in text:
                self._check(text, i)
        try:
            return self._tokenizer.encode_batch(texts)
        except ValueError:
            for i, text in enumerate(texts):
                refuse_surrogate(text, f"Text {i}{self._of}")
            raise

    def count(self, tokens: Sequence[Sequence[int]]) -> dict[str, Array]:
        """Return the graph inputs for some texts."""
        read = order_tokens if self.in_order else count_tokens
        return dict(zip(self._names, read(tokens, self.max_tokens), strict=True))

    def _check(self, text: str, i: int) -> None:
        # The size is at least the number of characters, so that a huge text need not be copied.
        size = len(text)
        if size <= self._max_bytes and not text.isascii():
            size = len(text.encode(errors="surrogatepass"))
        if size > self._max_bytes:
            raise ValueError(
                f"A text must have at most {self._max_bytes:,} bytes, as in the manifest, but text "
                f"{i}{self._of} has {'' if size > len(text) else 'at least '}{size:,}: cut it off, "
                "or leave it out."
            )
        position = text.find("\0")
        if position >= 0:
            raise ValueError(
                f"A text must have no null characters, but text {i}{self._of} has one at position "
                f"{position}: read the file with its encoding, such as UTF-16, or take them out "
                'with text.replace("\\0", "").'
            )


def _open_tokenizer(name: str, data: bytes) -> Tokenizer:
    try:
        # Not the package: it is slower here, and its threads do not outlive a fork.
        return Tokenizer(data.decode(), implementation="python")
    except ValueError as error:
        raise TokenizerError(
            f"{name} must be a tokenizer that this release reads, but reading it failed: "
            f"{as_sentence(error)} Export the model again."
        ) from None


def _check_n_tokens(column: Column, tokenizer: Tokenizer) -> None:
    assert column.text is not None
    if tokenizer.n_tokens > column.text.n_tokens:
        raise TokenizerError(
            f"{column.text.tokenizer} must have at most the {column.text.n_tokens} tokens that the "
            f"graph knows, got {tokenizer.n_tokens}: it is that of another model; export this one "
            "again."
        )


def _split(sizes: NDArray[np.int64], max_cells: int) -> list[NDArray[np.int64] | None]:
    """Part rows so that none has too many cells: of similar size, as padding is computed, too."""
    if not len(sizes) or len(sizes) * int(sizes.max()) <= max_cells:
        return [None]
    order = np.argsort(sizes, kind="stable")
    starts, start = [0], 0
    for end, size in enumerate(sizes[order].tolist()):
        if end > start and (end + 1 - start) * size > max_cells:
            starts.append(end)
            start = end
    return list(np.split(order, starts[1:]))
