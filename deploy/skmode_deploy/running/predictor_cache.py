"""Keep the predictors of a process, so that it opens each bundle once."""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from skmode_deploy import bundle
from skmode_deploy.bundle.files import to_path
from skmode_deploy.bundle.reading import manifest_sha256
from skmode_deploy.errors import ManifestChangedError
from skmode_deploy.running.forks import after_fork_in_child
from skmode_deploy.running.predictor import Predictor

MAX_OPEN = 8  # workers live long, and may see the bundles of many jobs


class PredictorCache:
    """Opens bundles and keeps the most recently used ones.

    Threads may share a cache. A forked child keeps the predictors, which then open new sessions.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], tuple[str, Predictor]] = OrderedDict()
        after_fork_in_child(self)

    def get(
        self, path: str | os.PathLike[str], sha256: str | None, options: Mapping[str, Any]
    ) -> Predictor:
        """Return the predictor of a bundle; open it if it is new, or was replaced."""
        key = (os.path.abspath(to_path(path, "bundle")), repr(sorted(options.items())))
        # Other threads wait while one opens a bundle, rather than open it again.
        with self._lock:
            found = manifest_sha256(path)
            if sha256 is not None and sha256 != found:
                raise ManifestChangedError(
                    f"The manifest of the bundle must have the sha256 {sha256}, got "
                    f"{found} in {os.fspath(path)!r}: it was replaced, or is another copy. "
                    "Restore the former bundle, or score all rows again with this one."
                )
            opened, predictor = self._open.get(key, ("", None))
            if predictor is None or opened != found:
                predictor = _open(path, found, options)
                self._open[key] = (found, predictor)
            self._open.move_to_end(key)
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return predictor

    def reset_after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()


def _open(path: str | os.PathLike[str], sha256: str, options: Mapping[str, Any]) -> Predictor:
    predictor = Predictor(path, **options)
    if manifest_sha256(path) != sha256:
        raise ManifestChangedError(
            f"A bundle must not change while it is opened, but {bundle.MANIFEST} in "
            f"{os.fspath(path)!r} was replaced: try again."
        )
    return predictor
