"""Write the completions of one request in a thread, token by token."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from skmode_deploy.errors import InferenceError
from skmode_deploy.language import Generation
from skmode_deploy.serving.engine.completions.requests import (
    DEFAULT_MAX_TOKENS,
    CompletionRequest,
)
from skmode_deploy.serving.engine.service import Loaded, Service
from skmode_deploy.serving.models.model import ServedLanguageModel
from skmode_deploy.serving.models.model.language import to_prediction
from skmode_deploy.serving.protocol.errors import RequestError


class Piece(NamedTuple):
    """Part of a completion; the last one has a finish reason."""

    choice: int
    text: str
    generation: Generation
    is_last: bool


class Turn:
    """The completions of one request; :meth:`cancel` ends them before the next token."""

    def __init__(self, service: Service, loaded: Loaded, request: CompletionRequest) -> None:
        assert isinstance(loaded.served, ServedLanguageModel)
        self._service = service
        self._loaded = loaded
        self._model = loaded.served.model
        self._request = request
        self._start = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        self._generations: list[Generation] = []
        self._is_cancelled = False

    def cancel(self) -> None:
        """End all completions."""
        self._is_cancelled = True
        for generation in self._generations:
            generation.cancel()

    async def pieces(self, start: float) -> AsyncIterator[Piece]:
        """Wait for a turn, and yield the pieces as they come, until the deadline."""
        self._start = start
        deadline = self._service.settings.deadline
        remaining = start + deadline - time.perf_counter()
        end = self._loop.time() + remaining
        self._service.admission.check_queue()
        try:
            async with asyncio.timeout_at(end):
                await self._service.admission.enter()
            future = self._loop.run_in_executor(self._service.threads, self._write)
            future.add_done_callback(lambda _: self._service.admission.leave())
            while True:
                async with asyncio.timeout_at(end):
                    piece = await self._queue.get()
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        except TimeoutError:
            raise RequestError(
                f"A completion must be ready in {deadline:g} seconds, and this one was not: ask "
                "for fewer tokens, or try again later.",
                504,
                limit="deadline",
            ) from None
        finally:
            self.cancel()

    def _put(self, piece: Piece | Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)

    def _write(self) -> None:
        """Write all completions, in the thread."""
        if self._is_cancelled:
            self._put(None)
            return
        try:
            # All of them begin before the first one is written: so an error comes before any text.
            self._generations = [
                self._begin(prompt, i)
                for prompt in self._request.prompts
                for i in range(self._request.n)
            ]
            for index, generation in enumerate(self._generations):
                if self._is_cancelled:
                    return
                self._write_one(index, generation)
        except Exception as error:
            self._put(_as_refusal(error))
        finally:
            self._put(None)

    def _begin(self, prompt: str, i: int) -> Generation:
        request = self._request
        seed = None if request.seed is None else (request.seed + i) % 2**63
        generation = self._model.generate(
            prompt, request.max_tokens, seed=seed, stream=True, **request.options
        )
        if request.max_tokens is None:
            generation.limit(DEFAULT_MAX_TOKENS)
        return generation

    def _write_one(self, index: int, generation: Generation) -> None:
        first, n_first = 0.0, 0
        for text in generation:
            if not first:
                first, n_first = time.perf_counter(), generation.n_tokens
            self._put(Piece(index, text, generation, is_last=False))
        now = time.perf_counter()
        n_behind = generation.n_tokens - n_first if first else 0
        first = first or now
        # A prompt counts once, however many completions it has.
        is_new = index % self._request.n == 0
        self._count(generation, first - self._start, n_behind, now - first, is_new=is_new)
        if generation.finish_reason is not None:
            self._put(Piece(index, "", generation, is_last=True))

    def _count(
        self, generation: Generation, waited: float, n_behind: int, took: float, *, is_new: bool
    ) -> None:
        metrics = self._loaded.metrics
        metrics.generated(generation.domain, generation.n_tokens, waited, n_behind, took)
        if is_new:
            metrics.prompted(generation.n_prompt_tokens)
        if is_new and generation.routing is not None:
            prediction = to_prediction(generation.routing)
            self._service.metrics.scored(metrics, None, prediction)


def _as_refusal(error: Exception) -> Exception:
    """Turn what a model raises into what a client is told."""
    if isinstance(error, MemoryError):
        reason = (
            "The completion must fit into the server's memory, and it did not: try again later."
        )
        return RequestError(reason, 503)
    if isinstance(error, InferenceError):
        return RequestError(str(error), 500)
    if type(error) in (ValueError, TypeError):
        return RequestError(str(error))
    return error


def usage(generations: list[Generation], n: int) -> dict[str, Any]:
    """Count tokens; a prompt counts once, however many completions it has."""
    prompt = sum(each.n_prompt_tokens for each in generations[::n])
    written = sum(each.n_tokens for each in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }
