"""What the ranks of a process group must have in common when they call `fit` together."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import scipy.sparse
from sklearn.utils import check_random_state

from skmode._common.batches import is_dataset
from skmode._common.sklearn import validates_parameters
from skmode._estimators.parameters import refuse_prefit
from skmode._training.process.ranks import Ranks, ranks_of_fit, together
from skmode._training.rows import Rows, SparseNumbers
from skmode._training.rows.stored import StoredRows
from skmode._training.trainer import Data

Method = TypeVar("Method", bound=Callable[..., Any])

# Parameters that do not change what is trained, or that may name what each process has of its own.
FREE = ("device", "verbose", "memory", "n_jobs", "keep_teacher", "callbacks")


def fits(method: Method) -> Method:
    """Make `fit` or `partial_fit` check the parameters first, and run together with other ranks."""
    checked = validates_parameters(method)

    @functools.wraps(checked)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with together() as ranks:
            if ranks is not None:
                call = _describe(self, method.__name__, args, kwargs)
                ranks.check_same("parameters", call | texts(self._parameters))
            refuse_prefit(self.teacher_cv)  # before the constraints, which name no cure
            return checked(self, *args, **kwargs)

    wrapped: Any = fit
    decorated: Method = wrapped
    return decorated


def _describe(
    model: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, str]:
    """Describe a call as far as it decides what ranks will ask each other."""
    X = args[0] if args else kwargs.get("X")
    goes_on = hasattr(model, "net_") and (method == "partial_fit" or model.warm_start)
    return {
        "estimator": type(model).__name__,
        "method": method,
        "X": "a dataset" if is_dataset(X) else "in memory",
        "X_val": "missing" if kwargs.get("X_val") is None else "given",
        "the model to go on from": "a fitted one" if goes_on else "none",
    }


def texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Write parameters so that another process writes them the same: without addresses."""
    return {name: _text(each) for name, each in parameters.items() if name not in FREE}


def _text(value: Any) -> str:
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{value.__module__}.{name}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def agree_on_folder(checkpoint: Any, identity: str, columns: str) -> Ranks | None:
    """Check that all ranks pass a checkpoint, and the same dataset; return who shares a folder.

    The rows in the folder are those of the first rank, so nobody compares them.
    """
    ranks = ranks_of_fit()
    if ranks is None:
        return None
    given = "None" if checkpoint is None else "a folder"
    ranks.check_same("arguments", {"checkpoint": given})
    if checkpoint is None:
        return None
    digest = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    ranks.check_same("target and sample_weight", {"the choice of columns": columns})
    ranks.check_same("dataset", {"the list of its files and columns": f"of digest {digest}"})
    return ranks


def common_random_state(random_state: Any) -> np.random.RandomState:
    """Make the random numbers of a fit, the same on all ranks."""
    ranks = ranks_of_fit()
    made: np.random.RandomState = check_random_state(random_state)
    if ranks is None:
        return made
    if random_state is None:
        return np.random.RandomState(ranks.first(made.randint(2**31)))
    made.set_state(ranks.first(made.get_state()))
    return made


def agree_on(model: Any, data: Data, *, first: bool) -> None:
    """Check that all ranks have read the same rows, and take the encoder of rank 0."""
    ranks = ranks_of_fit()
    if ranks is None:
        return
    if hasattr(model, "classes_"):
        ranks.check_same("classes in y", {"the set of classes": str(model.classes_.tolist())})
    columns = getattr(model.encoder_, "columns_", ())
    ranks.check_same("columns in X", {"the set of columns": str(list(map(_column, columns)))})
    parts = {"the training rows": data.train, "the validation rows": data.valid}
    rows = {}
    for name, part in (parts | {"the further rows": data.further}).items():
        rows[f"the number of {name.removeprefix('the ')}"] = str(0 if part is None else len(part))
        rows[name] = "none" if part is None else digest(part)
    ranks.check_same("rows", rows)
    if not first:
        _check_weights(ranks, model.net_)
    model.encoder_ = ranks.first(model.encoder_)


def _column(column: Any) -> tuple[Any, ...]:
    categories = None if column.categories is None else column.categories.tolist()
    return column.name, column.kind, categories, column.has_missing


def digest(rows: Rows | StoredRows) -> str:
    """A fingerprint of encoded rows, their targets and weights."""
    found = hashlib.blake2b(digest_size=12)
    for part in rows.parts():
        for each in (*part.inputs, *part[1:]):
            for array in _arrays(each):
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
    return f"of digest {found.hexdigest()}"


def _arrays(part: Any) -> list[Any]:
    if part is None:
        return []
    if isinstance(part, SparseNumbers):
        matrix = scipy.sparse.csr_array(part.matrix)
        return [matrix.data, matrix.indices, matrix.indptr]
    return [part.cpu().numpy()]


def _check_weights(ranks: Ranks, net: Any) -> None:
    """Check that training continues from the same weights."""
    found = hashlib.blake2b(digest_size=12)
    state = dict(net.module_.state_dict())
    steps = vars(net)["optimizer_"].state_dict()["state"] if "optimizer_" in vars(net) else {}
    for i, own in steps.items():
        state |= {f"{i} {name}": each for name, each in own.items() if hasattr(each, "cpu")}
    for name, each in state.items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(each.detach().cpu().numpy()).data)
    what = {"the state of weights and optimizer": found.hexdigest()}
    ranks.check_same("fitted model", what)
