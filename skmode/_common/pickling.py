"""Pickles of the estimators: the version that wrote them, and what they leave out."""

import inspect
import warnings
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from skmode._version import __version__


class PickledWithVersion(BaseEstimator):
    """An estimator whose pickle names skmode's version, as scikit-learn's own name theirs."""

    warm_start: bool

    def __getstate__(self) -> dict[str, Any]:
        if "net_" in vars(self):
            self.net_.keep_optimizer = self.warm_start
        return dict(super().__getstate__(), _skmode_version=__version__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        # Pickles from before the first release name no version.
        written_by = state.pop("_skmode_version", "pre-0.1.0")
        if written_by != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=__version__,
                    original_sklearn_version=written_by,
                ),
                stacklevel=2,
            )
            # Parameters that the other version did not know are at their defaults.
            for name, parameter in inspect.signature(type(self).__init__).parameters.items():
                if parameter.default is not parameter.empty:
                    state.setdefault(name, parameter.default)
        super().__setstate__(state)
