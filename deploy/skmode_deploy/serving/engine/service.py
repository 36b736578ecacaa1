"""Answer requests of any protocol: which model, whose turn, how long, in which thread, counted."""

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
from skmode_deploy.running.random_rows import draw_rows
from skmode_deploy.samples import check_samples
from skmode_deploy.serving.models.model import Answered, ServedModel
from skmode_deploy.serving.models.repository import Event, Repository, UnknownModelError
from skmode_deploy.serving.observe.metrics import Metrics, ModelMetrics
from skmode_deploy.serving.observe.shadow import Shadow
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.tensors import Request
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.admission import Admission

LOGGER = logging.getLogger("skmode_deploy.serving")
# Up to here a request is computed at once: to wake a thread up would take longer.
INLINE_BYTES = 32_768
WARM_UP_ROWS = (1, 64)

T = TypeVar("T")


@dataclass
class Loaded:
    """A version of a model that answers.

    Attributes
    ----------
    served : ServedModel
        What answers.
    metrics : ModelMetrics
        What counts.
    shadow : Shadow or None
        What checks.
    """

    served: ServedModel
    metrics: ModelMetrics
    shadow: Shadow | None


class Service:
    """Answer requests.

    Attributes
    ----------
    settings : Settings
        How.
    metrics : Metrics
        Where to count.
    admission : Admission
        Who is let in.
    repository : Repository
        The models.
    stopping : bool
        Whether the server is about to stop.
    """

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
        self.stopping = False
        self._threads = ThreadPoolExecutor(settings.max_concurrency, "compute")
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

    def get(self, name: str, version: str | None = None) -> Loaded:
        """Find a model."""
        try:
            return self.repository.get(f"{name}@{version}" if version else name)
        except UnknownModelError as error:
            raise RequestError(str(error), 404) from None

    def describe(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Describe a model."""
        served = self.get(name, version).served
        document = served.metadata()
        if name == served.name and not version:
            try:
                document["versions"] = [str(number) for number in self.repository.versions(name)]
            except UnknownModelError as error:  # unloaded just now
                raise RequestError(str(error), 404) from None
        return document

    async def infer(
        self,
        loaded: Loaded,
        n_bytes: int,
        read: Callable[[], Request],
        write: Callable[[Answered], T],
        start: float | None = None,
    ) -> T:
        """Answer a request."""

        end = (now() if start is None else start) + self.settings.deadline

        def work() -> tuple[Answered, T]:
            rows, request = self._read(loaded, n_bytes, read, end)
            answered = loaded.served.answer(request, rows)
            self.metrics.answered(loaded.metrics, rows, answered.prediction)
            return answered, write(answered)

        self.admission.check_queue()
        try:
            if now() > end:
                raise TimeoutError
            if n_bytes <= INLINE_BYTES and self.admission.has_room():
                answered, written = work()
            else:
                async with asyncio.timeout(end - now()):
                    answered, written = await self._take_turn(n_bytes, work)
        except TimeoutError:
            raise RequestError(
                f"An answer must be ready in {self.settings.deadline:g} seconds, and this one was "
                "not: send fewer rows, or try again later.",
                504,
                limit="deadline",
            ) from None
        if loaded.shadow is not None and loaded.shadow.wants():
            self._shadow(loaded, loaded.shadow, answered)
        return written

    async def _take_turn(self, n_bytes: int, work: Callable[[], T]) -> T:
        """Wait for a turn, which a thread keeps to its end, whoever gives up waiting for it."""
        await self.admission.enter()
        if n_bytes <= INLINE_BYTES:
            try:
                return work()
            finally:
                self.admission.leave()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, work)
        future.add_done_callback(lambda _: self.admission.leave())
        try:
            return await asyncio.shield(future)
        finally:
            # Its error refers to this frame, and to all that was read: in a cycle it would stay
            # in memory until Python looks for such, which for a few large lists is hardly ever.
            del future

    def flush(self) -> None:
        """Bring the metrics up to date."""
        self.admission.show()
        self.metrics.flush()

    def close(self) -> None:
        """End the threads, and count what they did."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._shadows.shutdown(wait=True, cancel_futures=True)
        self.flush()

    def _read(
        self, loaded: Loaded, n_bytes: int, read: Callable[[], Request], end: float
    ) -> tuple[Any, Request]:
        """Read a request: large ones one after the other.

        What is read out of a body may be forty times as large as it is, until arrays are made of
        it. Several at once would not be read sooner, for nearly all of it holds Python's lock.
        """
        if n_bytes <= INLINE_BYTES:
            request = read()
            return loaded.served.check(request), request
        with self._reading:
            if now() > end:
                raise TimeoutError  # nobody waits for it any more
            request = read()
            return loaded.served.check(request), request

    def _shadow(self, loaded: Loaded, shadow: Shadow, answered: Answered) -> None:
        if not self._shadowing.acquire(blocking=False):
            return  # one at a time: it must never delay answers

        def compare() -> None:
            try:
                other = shadow.disagreements(answered.columns, answered.prediction)
                loaded.metrics.shadowed(len(answered.prediction.expert), other)
            except Exception as error:
                LOGGER.error("shadow failed", extra={"error": type(error).__name__})
            finally:
                self._shadowing.release()

        self._shadows.submit(compare)

    def _open(self, name: str, version: int, folder: Path) -> Loaded:
        settings = self.settings
        predictor = skmode_deploy.load(
            folder, threads=settings.threads, require_signature=settings.public_key
        )
        for n_rows in WARM_UP_ROWS:
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
        # Without a version it is about the folder: whatever lies there must not become a label.
        if event.kind in ("loaded", "failed") and event.version is not None:
            self.metrics.loaded(event.model, event.kind == "loaded")
        if event.kind == "retired" and event.version is not None:
            self._retire(event.model, event.version)
            self.metrics.forget(event.model, str(event.version))
            if event.model not in self.repository.names():
                self.metrics.forget(event.model)
        if event.kind == "switched" and event.version is not None:
            self.metrics.current(event.model, event.version)


def now() -> float:
    """Give a time to measure with."""
    return time.perf_counter()
