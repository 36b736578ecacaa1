"""The experts of a language model: opened when they are first needed, and read with a cache."""

import os
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.files import open_plain, to_path
from skmode_deploy.bundle.reading import check_data
from skmode_deploy.errors import GraphInterfaceError, MissingFileError
from skmode_deploy.running.sessions import SessionFactory, run_session
from skmode_deploy.running.strategies import ExpertCache

Array: TypeAlias = NDArray[Any]


class HeldFiles:
    """Files of a bundle that stay readable after the bundle was replaced.

    They are opened at once and read later: an expert may be needed for the first time when its
    folder holds another bundle already.
    """

    def __init__(
        self, folder: str | os.PathLike[str], manifest: Manifest, names: Iterable[str]
    ) -> None:
        self._files = manifest.files
        self._descriptors: dict[str, int] = {}
        weakref.finalize(self, _close, self._descriptors)
        for name in names:
            try:
                with open_plain(to_path(folder, "directory") / name) as stream:
                    self._descriptors[name] = os.dup(stream.fileno())
            except OSError as error:
                raise MissingFileError(
                    f"The files of a bundle must stay while it is opened, but reading {name!r} "
                    f"failed with {error}: open it again."
                ) from None

    def read(self, name: str) -> bytes:
        """Read a file, and check its size and hash."""
        descriptor, expected = self._descriptors[name], self._files[name]
        parts, position = [], 0
        # One byte more than stated shows whether the file has grown.
        while part := os.pread(descriptor, expected.size + 1 - position, position):
            parts.append(part)
            position += len(part)
        data = b"".join(parts)
        check_data(name, data, expected)
        return data


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


class Expert:
    """The session of one expert, and the sizes of its cache."""

    def __init__(self, session: Any, name: str, n_tokens: int, max_length: int) -> None:
        self._session = session
        self._name = name
        self._n_tokens = n_tokens
        self._max_length = max_length
        layers, two, _, heads, _, width = session.get_inputs()[1].shape
        self._sizes = (layers, two, heads, width)

    def start(self, n_rows: int) -> Array:
        """Make the cache of texts of which nothing is read yet."""
        layers, two, heads, width = self._sizes
        return np.zeros((layers, two, n_rows, heads, 0, width), np.float32)

    def read(self, tokens: Array, past: Array) -> tuple[Array, Array]:
        """Read tokens; return the logits of the next ones, and the new cache."""
        length = past.shape[4] + tokens.shape[1]
        if length > self._max_length:
            raise ValueError(
                f"An expert must read at most {self._max_length} tokens, got {length}: pass fewer."
            )
        feeds = {"tokens": tokens, "past": past}
        logits, present = run_session(self._session, ["logits", "present"], feeds)
        if logits.shape != (*tokens.shape, self._n_tokens):
            raise GraphInterfaceError(
                f"Output 'logits' of {self._name} must have shape "
                f"{(*tokens.shape, self._n_tokens)}, got {logits.shape}: export the model again."
            )
        return logits, present


class Experts:
    """The experts of a bundle by the names of their files."""

    def __init__(
        self, files: HeldFiles, manifest: Manifest, sessions: SessionFactory, limit: int | None
    ) -> None:
        assert manifest.language is not None
        max_length = manifest.language.max_length

        def load(name: str) -> Expert:
            # With its memory kept, a session allocates none while it generates.
            session = sessions.open(files.read(name), name)
            session._model_bytes = None  # kept for a fallback that is off here
            return Expert(session, name, manifest.n_outputs, max_length)

        self._cache: ExpertCache[str] = ExpertCache(load, limit)

    def start(self, names: Sequence[str], n_rows: int = 1) -> "Context":
        """Begin texts, to be read by one expert, or by several whose logits are averaged."""
        return Context([self._cache.get(name) for name in names], n_rows)

    def loaded(self) -> list[str]:
        """List the files that are in memory."""
        return self._cache.loaded()


class Context:
    """Texts of equal length that experts have read so far."""

    def __init__(self, experts: Sequence[Expert], n_rows: int) -> None:
        self._experts = experts
        self._caches = [expert.start(n_rows) for expert in experts]

    def read(self, tokens: Array) -> Array:
        """Read tokens of shape (n_rows, n); return logits of shape (n_rows, n, n_tokens)."""
        total: Array | None = None
        for i, expert in enumerate(self._experts):
            logits, self._caches[i] = expert.read(tokens, self._caches[i])
            total = logits if total is None else total + logits
        assert total is not None
        return total if len(self._experts) == 1 else total / np.float32(len(self._experts))
