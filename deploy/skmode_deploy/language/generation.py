"""Continue a text token by token."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.language.experts import Context
from skmode_deploy.language.routing import Routing
from skmode_deploy.language.sampling import Sampler
from skmode_deploy.language.scoring import MAX_LOGITS
from skmode_deploy.language.tokenizer import Decoder


class Generation:
    """The continuation of a text, in pieces as they come.

    :meth:`LanguageModel.generate` makes it with ``stream=True``. Iterate over it for the pieces of
    text; :meth:`cancel` ends it early.

    Attributes
    ----------
    domain : str or None
        Domain whose expert writes. None if it is the common expert alone.
    n_prompt_tokens : int
        Number of tokens of the prompt.
    n_tokens : int
        Number of tokens that were generated so far, the end of a text included.
    finish_reason : {"stop", "length"} or None
        Why it ended: at the end of a text or a stop string, or at the limit of the tokens. None
        while it goes on, and after :meth:`cancel`.
    routing : Routing or None
        What the router said of the prompt. None if the domain was named.
    """

    def __init__(
        self,
        context: Context,
        tokens: Sequence[int],
        sampler: Sampler,
        decoder: Decoder,
        max_tokens: int,
        stop: Sequence[str],
        end_token: int,
        domain: str | None,
        routing: Routing | None,
    ) -> None:
        self.domain = domain
        self.routing = routing
        self._is_cancelled = False
        self.n_prompt_tokens = len(tokens)
        self.n_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None
        self._context = context
        self._sampler = sampler
        self._decoder = decoder
        self._max_tokens = max_tokens
        self._end_token = end_token
        self._stop = stop
        self._held = ""  # text that may be the beginning of a stop string
        self._pieces = self._run([end_token, *tokens])

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def limit(self, max_tokens: int) -> None:
        """Generate no more than this many tokens.

        Parameters
        ----------
        max_tokens : int
            Number of tokens.
        """
        self._max_tokens = min(self._max_tokens, max_tokens)

    def cancel(self) -> None:
        """End it before the next token; any thread may call this."""
        self._is_cancelled = True

    def _run(self, tokens: Sequence[int]) -> Generator[str, None, None]:
        logits = _read_prompt(self._context, tokens)
        while not self._is_cancelled:
            token = self._sampler.choose(logits)
            self.n_tokens += 1
            if token == self._end_token:
                self.finish_reason = "stop"
                text = self._decoder.end()
            else:
                text = self._decoder.add(token)
                if self.n_tokens >= self._max_tokens:
                    self.finish_reason = "length"
                    text += self._decoder.end()
            piece = self._release(text)
            if piece:
                yield piece
            if self.finish_reason is not None:
                return
            logits = self._context.read(np.array([[token]], np.int64))[0, -1]

    def _release(self, text: str) -> str:
        """Return the text that cannot be part of a stop string any more."""
        self._held += text
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self.finish_reason = "stop"
            return self._held[: min(found)]
        n_held = 0
        if self.finish_reason is None:
            n_held = max((_overlap(self._held, each) for each in self._stop), default=0)
        split = len(self._held) - n_held
        piece, self._held = self._held[:split], self._held[split:]
        return piece


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text begin a stop string."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[len(text) - n :]):
            return n
    return 0


def _read_prompt(context: Context, tokens: Sequence[int]) -> NDArray[Any]:
    """Read a prompt in parts, and return the logits behind it."""
    position, step = 0, 64
    while True:
        part = np.array([tokens[position : position + step]], np.int64)
        logits = context.read(part)
        position += part.shape[1]
        if position >= len(tokens):
            last: NDArray[Any] = logits[0, -1]
            return last
        step = max(1, MAX_LOGITS // logits.shape[2])
