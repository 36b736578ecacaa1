"""Answer requests of any protocol: find the model, wait for a turn, compute, count."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import skmode_deploy
from skmode_deploy import bundle, language
from skmode_deploy.bundle import Manifest
from skmode_deploy.running.random_rows import draw_rows
from skmode_deploy.samples import check_samples
from skmode_deploy.serving.models.model import (
    ScoredRequest,
    ServedLanguageModel,
    ServedModel,
)
from skmode_deploy.serving.models.repository import Event, Repository, UnknownModelError
from skmode_deploy.serving.observe.metrics import Metrics, ModelMetrics
from skmode_deploy.serving.observe.shadow import Shadow
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.admission import Admission

LOGGER = logging.getLogger("skmode_deploy.serving")
NAME = "skmode-deploy"
# Up to this size a request is computed at once: to wake a thread up would take longer.
INLINE_BYTES = 32_768
INLINE_TEXT_BYTES = 4096  # a long text without spaces takes milliseconds to become tokens
WARM_UP_ROWS = (1, 64)
WARM_UP_VALUES = 2**22  # of all images of a call

T = TypeVar("T")


@dataclass
class Loaded:
    """A version of a model in memory, with its metrics and the mixture that is compared with it."""

    served: ServedModel | ServedLanguageModel
    metrics: ModelMetrics
    shadow: Shadow | None


class Service:
    """Answer requests from the models of a repository, within the limits of the settings."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.admission = Admission(
            settings.max_concurrency,
            settings.max_queue,
            settings.max_pending_bytes,
            metrics.running,
            metrics.waiting,
        )
        metrics.queue_limit.set(settings.max_queue)
        self.stopping = False  # from SIGTERM on
        self.threads = ThreadPoolExecutor(settings.max_concurrency, "compute")
        self._shadows = ThreadPoolExecutor(1, "shadow")
        self._shadowing = threading.Lock()
        self._counts: dict[tuple[str, int], ModelMetrics] = {}
        self._reading = threading.Lock()
        self.repository: Repository[Loaded] = Repository(
            settings.path, self._open, name=settings.name, report=self._report
        )

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.stopping and bool(self.repository.names())

    def get(self, name: str, version: str = "") -> Loaded:
        """Find a model; without a version the current one."""
        try:
            return self.repository.get(name, version)
        except UnknownModelError as error:
            raise RequestError(str(error), 404) from None

    def describe_server(self) -> dict[str, Any]:
        """Write the metadata of the server."""
        extensions = ["binary_tensor_data"]
        if self.settings.management:
            extensions.append("model_repository")
        return {"name": NAME, "version": skmode_deploy.__version__, "extensions": extensions}

    def describe_model(self, name: str, version: str = "") -> dict[str, Any]:
        """Write the metadata of a model."""
        served = self.get(name, version).served
        document = served.metadata()
        if name == served.name and not version:
            try:
                document["versions"] = [str(number) for number in self.repository.versions(name)]
            except UnknownModelError as error:  # unloaded just now
                raise RequestError(str(error), 404) from None
        return document

    async def load(self, name: str) -> None:
        """Load a model anew, also one that was unloaded or refused."""
        await self._change(self.repository.load, name)

    async def unload(self, name: str) -> None:
        """Stop serving a model until it is loaded again."""
        await self._change(self.repository.unload, name)

    async def _change(self, change: Callable[[str], Any], name: str) -> None:
        try:
            await asyncio.to_thread(change, name)
        except LookupError as error:
            raise RequestError(str(error.args[0]), 404) from None
        except (OSError, ValueError) as error:
            raise RequestError(f"The model cannot be loaded: {error}", 409) from None

    async def infer(
        self,
        loaded: Loaded,
        n_bytes: int,
        read: Callable[[], Request],
        write: Callable[[ScoredRequest], T],
        start: float | None = None,
    ) -> T:
        """Answer a request of `n_bytes`, which `read` reads and whose response `write` writes.

        Both run when the request's turn has come, and in the thread that computes.
        """
        end = (time.perf_counter() if start is None else start) + self.settings.deadline

        def work() -> tuple[ScoredRequest, T]:
            rows, request = self._read(loaded, n_bytes, read, end)
            scored = loaded.served.score(request, rows, end)
            self.metrics.scored(loaded.metrics, rows, scored.prediction)
            return scored, write(scored)

        is_small = n_bytes <= _inline_bytes(loaded.served)
        self.admission.check_queue()
        try:
            if time.perf_counter() > end:
                raise TimeoutError
            if is_small and self.admission.has_room():
                scored, written = work()
            else:
                async with asyncio.timeout(end - time.perf_counter()):
                    scored, written = await self._take_turn(is_small, work)
        except TimeoutError:
            raise RequestError(
                f"A response must be ready in {self.settings.deadline:g} seconds, and this one was "
                "not: send fewer rows, or try again later.",
                504,
                limit="deadline",
            ) from None
        if loaded.shadow is not None and loaded.shadow.wants():
            self._shadow(loaded, loaded.shadow, scored)
        return written

    async def _take_turn(self, is_small: bool, work: Callable[[], T]) -> T:
        """Compute in turn. A thread keeps its turn to the end, even if nobody waits any more."""
        await self.admission.enter()
        if is_small:
            try:
                return work()
            finally:
                self.admission.leave()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self.threads, work)
        future.add_done_callback(lambda _: self.admission.leave())
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_drop)
            raise
        finally:
            # The future's error refers to this frame, and so to all data that was read. This cycle
            # would stay in memory until Python collects it, hardly ever for a few large lists.
            del future

    def flush(self) -> None:
        """Bring the metrics up to date."""
        self.admission.update_gauges()
        self.metrics.flush()

    def close(self) -> None:
        """End the threads, and count what they did."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self._shadows.shutdown(wait=True, cancel_futures=True)
        self.flush()

    def _read(
        self, loaded: Loaded, n_bytes: int, read: Callable[[], Request], end: float
    ) -> tuple[Any, Request]:
        """Read a request; large ones one after the other.

        Until they become arrays, values may take many times the memory of the body. Reading
        several bodies at once would not be faster, because reading holds Python's lock.
        """
        if n_bytes <= INLINE_BYTES:
            request = read()
            return loaded.served.read_rows(request), request
        with self._reading:
            if time.perf_counter() > end:
                raise TimeoutError  # nobody waits for it any more
            request = read()
            return loaded.served.read_rows(request), request

    def _shadow(self, loaded: Loaded, shadow: Shadow, scored: ScoredRequest) -> None:
        if not self._shadowing.acquire(blocking=False):
            return  # one at a time: it must never delay responses

        def compare() -> None:
            try:
                other = shadow.count_disagreements(scored.rows, scored.prediction)
                loaded.metrics.shadowed(len(scored.prediction.expert), other)
            except Exception as error:
                LOGGER.error("shadow failed", extra={"error": type(error).__name__})
            finally:
                self._shadowing.release()

        self._shadows.submit(compare)

    def _open(self, name: str, version: int, folder: Path) -> Loaded:
        settings = self.settings
        if bundle.read(folder).language is not None:
            return self._open_language(name, version, folder)
        predictor = skmode_deploy.load(
            folder, threads=settings.threads, require_signature=settings.public_key
        )
        for n_rows in _warm_up_rows(predictor.manifest):
            predictor.predict_full(draw_rows(predictor.manifest, n_rows))
        check_samples(predictor)
        shadow = None
        if settings.shadow > 0:
            shadow = Shadow(folder, predictor.manifest, settings.shadow, settings.threads)
        self._retire(name, version)  # a bundle that is replaced in its place
        counts = ModelMetrics(self.metrics, name, str(version), predictor.manifest)
        self._counts[name, version] = counts
        served = ServedModel(name, version, predictor, max_rows=settings.max_rows)
        return Loaded(served, counts, shadow)

    def _open_language(self, name: str, version: int, folder: Path) -> Loaded:
        settings = self.settings
        unknown: Any = settings.unknown
        model = language.load(
            folder,
            unknown=unknown,
            max_loaded_experts=settings.max_loaded_experts,
            threads=settings.threads,
            require_signature=settings.public_key,
        )
        language.check_samples(model)
        self._retire(name, version)
        counts = ModelMetrics(self.metrics, name, str(version), model.manifest)
        self._counts[name, version] = counts
        served = ServedLanguageModel(name, version, model, max_rows=settings.max_rows)
        return Loaded(served, counts, None)

    def _retire(self, name: str, version: int) -> None:
        counts = self._counts.pop((name, version), None)
        if counts is not None:
            counts.retired()

    def _report(self, event: Event) -> None:
        log = LOGGER.error if event.kind == "failed" else LOGGER.info
        log(
            f"model {event.kind}",
            extra={"model": event.model, "version": event.version, "reason": event.reason},
        )
        # Without a version it is about a folder, whose name must not become a label.
        if event.kind in ("loaded", "failed") and event.version is not None:
            self.metrics.loaded(event.model, event.kind == "loaded")
        if event.kind == "retired" and event.version is not None:
            self._retire(event.model, event.version)
            self.metrics.forget(event.model, str(event.version))
            if event.model not in self.repository.names():
                self.metrics.forget(event.model)
        if event.kind == "switched" and event.version is not None:
            self.metrics.switched(event.model, event.version)


def _drop(future: asyncio.Future[Any]) -> None:
    """Log a failure that nobody waits for; that it came too late or was refused is none."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, TimeoutError | RequestError):
        LOGGER.error("failed after the deadline", extra={"error": type(error).__name__})


def _inline_bytes(served: ServedModel | ServedLanguageModel) -> int:
    """Return up to which size a request is computed at once."""
    if served.manifest.language is not None:
        return 0  # a text takes longer than a thread to wake up
    return INLINE_TEXT_BYTES if served.reads_texts else INLINE_BYTES


def _warm_up_rows(manifest: Manifest) -> list[int]:
    """Choose how many rows to predict before the first request: fewer of large images."""
    if not manifest.n_pixel_values:
        return list(WARM_UP_ROWS)
    most = max(1, WARM_UP_VALUES // manifest.n_pixel_values)
    return [min(n_rows, most) for n_rows in WARM_UP_ROWS]
