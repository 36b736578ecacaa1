"""Bearer tokens, read from a file, and again whenever it changes."""

import hashlib
import hmac
import logging
import os
import stat
import time

LOGGER = logging.getLogger("skmode_deploy.serving")
LOOK_EVERY = 1.0  # seconds
MIN_CHARACTERS = 16


class Tokens:
    """Check bearer tokens.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from skmode_deploy.serving.transport.tokens import Tokens
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tokens")
    ...     _ = path.write_text("correct-horse-battery")
    ...     tokens = Tokens(path)
    ...     tokens.allow("Bearer correct-horse-battery"), tokens.allow("Bearer something-else")
    (True, False)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._stamp = self._look()
        self._hashes = _read(path)
        self._looked = time.monotonic()

    def allow(self, authorization: str) -> bool:
        """Return whether a request may be served."""
        self._reload()
        scheme, _, token = authorization.partition(" ")
        digest = _hash(token.strip())
        found = False
        for good in self._hashes:  # all, so that the time does not tell which one it is
            found |= hmac.compare_digest(digest, good)
        return found and scheme.lower() == "bearer"

    def _look(self) -> tuple[int, int, int]:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _reload(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._hashes = _read(self._path)
                self._stamp = stamp
                LOGGER.info("tokens read anew", extra={"tokens": len(self._hashes)})
        except (OSError, ValueError) as error:
            LOGGER.error("tokens not read, the former ones stay", extra={"reason": str(error)})


def warn_if_public(path: str | os.PathLike[str]) -> None:
    """Log a warning where every user of the machine can read the tokens."""
    if os.stat(path).st_mode & stat.S_IROTH:
        reason = f"{os.fspath(path)} can be read by every user: `chmod 600` lets its owner alone."
        LOGGER.warning("token file is public", extra={"reason": reason})


def _hash(token: str) -> bytes:
    # Hashes have one length, so that the comparison tells nothing of a token's.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read(path: str | os.PathLike[str]) -> list[bytes]:
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    tokens = [line for line in lines if line and not line.startswith("#")]
    short = [i for i, token in enumerate(tokens) if len(token) < MIN_CHARACTERS]
    if not tokens or short:
        raise ValueError(
            f"The token file must hold tokens of at least {MIN_CHARACTERS} characters, one a "
            f"line, got {'a shorter one' if short else 'none'} in {os.fspath(path)}: make one with "
            "`openssl rand -hex 32`."
        )
    return [_hash(token) for token in tokens]
