"""Fit teachers on folds, so that each row is predicted by models that did not see it."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import joblib
import numpy as np
import scipy.sparse
import sklearn
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, check_consistent_length, get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_memory, has_fit_parameter

from skmode._common.notebooks.progress import progress_bar
from skmode._common.sklearn import safe_indexing
from skmode._common.unwrap import is_search
from skmode._estimators.rows.predictions import no_probabilities
from skmode._estimators.rows.splitting import Given, Split
from skmode._training.process.isolation import interrupts_raise
from skmode._training.rows import Rows

# Predicts rows by a model, named as an error shall name it: probabilities or scaled values.
Predict = Callable[[Any, Any, str], NDArray[np.float64]]


class Lessons(NamedTuple):
    """What the user passed to `fit` about a teacher."""

    soft_targets: Any = None
    X_unlabeled: Any = None
    soft_targets_val: Any = None


class Known(NamedTuple):
    """The rows that have a weight, as the user passed them, and what else a teacher may see.

    `kept` are their positions among the `n_given` rows of `fit`. The weights are None if the user
    passed none. What else the user gave is as it was.
    """

    X: Any
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    kept: NDArray[np.intp]
    groups: Any
    n_given: int
    given: Given
    lessons: Lessons

    def select(self, rows: NDArray[np.intp]) -> "Known":
        """Take rows by position."""
        return self._replace(
            X=safe_indexing(self.X, rows),
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            kept=self.kept[rows],
            groups=None if self.groups is None else safe_indexing(self.groups, rows),
        )


class Passed(NamedTuple):
    """What the user passed to `fit`, before it was checked; no lessons if there is no teacher."""

    X: Any
    weighted: bool
    given: Given | None
    lessons: Lessons | None

    def select(
        self, checked: Any, y: NDArray[Any], weight: NDArray[np.float64], kept: NDArray[np.intp]
    ) -> Known | None:
        """Take the rows at positions `kept`, as a teacher shall see them."""
        if self.lessons is None:
            return None
        assert self.given is not None
        X = self.X if hasattr(self.X, "shape") else checked  # lists of lists are not rows yet
        n_rows = X.shape[0]
        X = X.tocsr() if scipy.sparse.issparse(X) else X
        check_consistent_length(X, self.given.groups)
        groups = self.given.groups
        return Known(
            safe_indexing(X, kept),
            y,
            weight if self.weighted else None,
            kept,
            None if groups is None else safe_indexing(groups, kept),
            n_rows,
            self.given,
            self.lessons,
        )


class Further(NamedTuple):
    """Rows that have no target, with their name and weights."""

    name: str
    X: Any
    weight: NDArray[np.float64]


class Taught(NamedTuple):
    """Rows with a teacher's predictions, those of the user's validation rows, and further rows."""

    rows: Rows
    valid: Rows | None
    further: Rows | None


class Fitted(NamedTuple):
    """A teacher's models, each with the rows that it did not see; None for a frozen one.

    The name is one for errors, such as "the teacher Ridge".
    """

    name: str
    models: list[Any]
    tests: list[NDArray[np.intp]] | None

    def who(self, fold: int) -> str:
        """Name a model, for errors."""
        if self.tests is None:
            return self.name
        return f"fold {fold + 1} of {len(self.tests)} of {self.name}"

    def predict(self, X: Any, predict: Predict, rows: str) -> NDArray[np.float64]:
        """Average the models' predictions of rows that none of them saw, named for errors."""
        each = [self._predict_by(i, X, predict, rows) for i in range(len(self.models))]
        mean: NDArray[np.float64] = np.mean(each, axis=0)
        return mean

    def _predict_by(self, i: int, X: Any, predict: Predict, rows: str) -> NDArray[np.float64]:
        """Predict by one model, and tell which one it was if that fails."""
        try:
            return predict(self.models[i], X, self.who(i))
        except Exception as error:
            error.add_note(f"This happened while {self.who(i)} predicted {rows}.")
            raise

    def predict_unseen(
        self, X: Any, predict: Predict, seen: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Predict each row by models that did not see it, and tell for which rows there are some.

        `seen` are the rows that the folds divide; the others are new to all models.
        """
        mean = self.predict(X, predict, "rows of X")
        if self.tests is None:
            return mean, np.ones(len(mean), dtype=bool)
        total, count = np.zeros_like(mean), np.zeros(len(mean))
        for i, test in enumerate(self.tests):
            total[test] += self._predict_by(i, safe_indexing(X, test), predict, "rows of X")
            count[test] += 1
        covered = count > 0
        mean[covered] = total[covered] / count[covered, None]
        return mean, covered | ~seen


def as_list(teacher: Any) -> list[Any]:
    """Teachers that are estimators; none for None and for the names of the built-in ones."""
    if teacher is None or isinstance(teacher, str):
        return []
    return list(teacher) if isinstance(teacher, list | tuple) else [teacher]


def named_teacher(teacher: Any, weight: float | str) -> Any:
    """The name of a built-in teacher; with a weight of 0 nobody teaches."""
    return teacher if isinstance(teacher, str) and weight else None


def find_inside(value: Any, kind: type) -> Iterator[Any]:
    """Yield objects of a kind among a value, its items and its parameters, such as a vote's."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, FrozenEstimator | type):  # it passes on get_params of what it wraps
        return
    else:
        inside: Iterable[Any] = ()
        if isinstance(value, list | tuple):
            inside = value
        elif isinstance(value, dict):
            inside = value.values()
        elif hasattr(value, "get_params"):
            inside = value.get_params(deep=False).values()
        for each in inside:
            yield from find_inside(each, kind)


def holds_model(value: Any) -> bool:
    """Whether there is a frozen estimator, also inside of a vote or a Pipeline."""
    return any(True for _ in find_inside(value, FrozenEstimator))


def name_of(teacher: Any) -> str:
    """Name of the class, and of what it wraps."""
    if isinstance(teacher, FrozenEstimator):
        return name_of(teacher.estimator)
    if isinstance(teacher, Pipeline):
        steps = ", ".join(type(step).__name__ for _, step in teacher.steps)
        return f"{type(teacher).__name__}({steps})"
    return type(teacher).__name__


def described(teacher: Any) -> str:
    """Name teachers in errors by their classes alone: parameters may hold secrets."""
    return ", ".join(map(name_of, as_list(teacher))) or repr(teacher)


def key_of(teacher: Any) -> str:
    """Hash of teachers as they are before a fit: another one tells that they were replaced."""
    teachers = as_list(teacher)
    plain = [
        each if isinstance(each, FrozenEstimator) else copy_unfitted(each) for each in teachers
    ]
    try:
        return str(joblib.hash(plain))
    except Exception:  # whatever pickling raises, as for a class within a function
        return ", ".join(map(name_of, teachers))


def check_teachers(teacher: Any, *, classify: bool) -> list[Any]:
    """Check teachers before any of them is fitted."""
    teachers = as_list(teacher)
    if isinstance(teacher, list | tuple) and not teachers:
        raise ValueError(
            f"A list of teachers must name at least one, got {teacher!r}: pass estimators, or None."
        )
    for each in teachers:
        if isinstance(each, str):
            raise TypeError(
                f"A list of teachers must hold estimators, got {each!r}: a name teaches alone, as "
                'in teacher="ensemble".'
            )
        is_instance = not isinstance(each, type)
        if not (is_instance and hasattr(each, "fit") and _may_have(each, "predict")):
            # Not its repr: parameters may hold secrets.
            got = f"an object of {name_of(each)}" if is_instance else f"the class {each.__name__}"
            raise TypeError(
                f"A teacher must be an estimator with fit and predict, got {got}: pass an instance "
                "such as RandomForestClassifier()."
            )
        _check_kind(each, classify)
        if classify and not _may_have(each, "predict_proba"):
            raise no_probabilities(name_of(each))
    return teachers


def _check_kind(teacher: Any, classify: bool) -> None:
    """Raise if a regressor shall teach a classifier, or the reverse."""
    tags = _tags_of_one(teacher)
    if tags is None:  # nobody knows its kind
        return
    kind, other = ("classifier", "regressor") if classify else ("regressor", "classifier")
    if tags.estimator_type == other:
        ours, theirs = f"MoDE{kind.capitalize()}", f"MoDE{other.capitalize()}"
        raise TypeError(
            f"The teacher of a {kind} must be a {kind}, got {name_of(teacher)}, which is a {other}:"
            f" pass one such as HistGradientBoosting{kind.capitalize()}(), or let it teach a "
            f"{theirs} instead of this {ours}."
        )


def tags_of(teacher: Any) -> list[Tags]:
    """Tags of the teachers that have some: what one of them cannot read, `fit` cannot."""
    tags = map(_tags_of_one, as_list(teacher))
    return [each for each in tags if each is not None]


def _tags_of_one(teacher: Any) -> Tags | None:
    """Tags of a teacher; None if it, or what it wraps, is no estimator of scikit-learn's."""
    if isinstance(teacher, type) or not hasattr(teacher, "__sklearn_tags__"):
        return None
    try:
        return get_tags(teacher)
    except Exception:  # such as a frozen one's, which asks what it wraps; or a bug of its class
        return None


def _may_have(teacher: Any, method: str) -> bool:
    """Whether an estimator has a method, or its class does: a stack has it after fitting only."""
    return hasattr(teacher, method) or hasattr(type(teacher), method)


def fit_teachers(
    teachers: list[Any],
    known: Known,
    folds: list[Split],
    *,
    memory: Any,
    n_jobs: int | None,
    show_progress: bool,
    classify: bool,
    compared: bool = False,
) -> list[Fitted]:
    """Fit a clone of each teacher on each fold; frozen ones stay as they are.

    A mixture that is `compared` with a teacher is no teacher, so it is named otherwise.
    """

    def label(teacher: Any) -> str:
        name = name_of(teacher)
        return f"the {name} without teacher" if compared else f"the teacher {name}"

    fit = _open_memory(memory).cache(fit_one)
    jobs = [  # the first fold of each comes first: a teacher that cannot teach is known early
        (place, teacher, fold)
        for fold in range(len(folds))
        for place, teacher in enumerate(teachers)
        if not isinstance(teacher, FrozenEstimator)
    ]
    if known.weight is not None:
        _warn_of_weights(teachers)

    def arguments() -> Iterator[Any]:
        for place, teacher, fold in jobs:
            part = known.select(folds[fold][0])
            where = f"fold {fold + 1} of {len(folds)} of {label(teacher)}"
            yield delayed(_fit_named)(
                fit, where, copy_unfitted(teacher), part.X, part.y, part.weight, place
            )

    found = Parallel(n_jobs=n_jobs, return_as="generator")(arguments())
    models: list[list[Any]] = [[] for _ in teachers]
    desc = "without teacher" if compared else "teacher"
    with progress_bar(total=len(jobs), desc=desc, unit="fold", disable=not show_progress) as bar:
        for place, teacher, fold in jobs:
            bar.set_postfix_str(f"{name_of(teacher)}, fold {fold + 1} of {len(folds)}")
            models[place].append(model := next(found))
            if classify and not hasattr(model, "predict_proba"):  # before all are fitted
                raise no_probabilities(f"fold {fold + 1} of {len(folds)} of {label(teacher)}")
            bar.update()
    tests = [test for _, test in folds]
    return [
        Fitted(label(teacher), own, tests) if own else Fitted(label(teacher), [teacher], None)
        for teacher, own in zip(teachers, models, strict=True)
    ]


def predict_mean(fitted: list[Fitted], X: Any, predict: Predict, rows: str) -> NDArray[np.float64]:
    """Average all teachers on rows that none of them saw, named for errors."""
    mean: NDArray[np.float64] = np.mean([one.predict(X, predict, rows) for one in fitted], axis=0)
    return mean


def _open_memory(memory: Any) -> Any:
    """Open a cache, whose folder must be one that can be written."""
    try:
        return check_memory(memory)
    except OSError as error:
        raise type(error)(
            f"memory must name a folder that can be written, got {memory!r}, where joblib failed "
            f"with: {error}. Pass another folder, or None to keep nothing."
        ) from error


def collect(items: Iterable[Any], like: Any) -> Any:
    """Collect items in a list, a tuple or the like; a named tuple takes them one by one."""
    return like._make(items) if hasattr(like, "_make") else type(like)(items)


def copy_unfitted(value: Any) -> Any:
    """Clone a teacher, also where `clone` refuses, such as CatBoost with `cat_features`."""
    if type(value) is dict:
        return {name: copy_unfitted(each) for name, each in value.items()}
    named = isinstance(value, tuple) and hasattr(value, "_make")
    if named or type(value) in (list, tuple, set, frozenset):  # of a vote's members
        return collect(map(copy_unfitted, value), value)
    try:
        return clone(value, safe=False)  # copies what has no parameters
    except RuntimeError:  # its class, or that of a member, does not keep the parameters themselves
        made = _make_anew(value)
        return copy.deepcopy(value) if made is None else made


def _make_anew(estimator: Any) -> Any:
    """Make an estimator of its parameters; None if its class would change them once more."""
    try:
        given = {
            name: copy_unfitted(each) for name, each in estimator.get_params(deep=False).items()
        }
        made = type(estimator)(**given)
        kept = made.get_params(deep=False)
        if any(
            kept[name] is not each and not _equal(kept[name], each) for name, each in given.items()
        ):
            return None
    except Exception:  # whatever a class raises that does not follow scikit-learn's rules
        return None
    for name in ("_metadata_request", "_sklearn_output_config"):  # as `clone` does
        if hasattr(estimator, name):
            setattr(made, name, copy.deepcopy(getattr(estimator, name)))
    return made


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are pickled alike, whatever `==` means for them."""
    return bool(joblib.hash(one) == joblib.hash(other))


def fit_one(teacher: Any, X: Any, y: Any, weight: Any, place: int) -> Any:
    """Fit a teacher on the rows of one fold; this is what `memory` keeps.

    Its place in the list tells equal teachers apart, whose random numbers differ. A mixture that
    the user interrupts ends its fit without an error; here it ends everything, as others do, also
    within a search, a vote or the like in the same process.
    """
    name = None if weight is None else weight_parameter(teacher)
    with interrupts_raise():
        teacher.fit(X, y, **({} if name is None else {name: weight}))
    return teacher


def _fit_named(fit: Any, where: str, teacher: Any, X: Any, y: Any, weight: Any, place: int) -> Any:
    """Fit a teacher, and tell which one it was if that fails."""
    try:
        return fit(teacher, X, y, weight, place)
    except Exception as error:
        error.add_note(f"This happened while fitting {where}.")
        if str(error).startswith("Cannot clone object"):
            error.add_note(
                "It clones its members, whose parameters must stay the objects that they are: "
                "CatBoost takes cat_features as a tuple, not as a list. Or pass the members of a "
                "vote as a list, teacher=[...], which is averaged and clones none."
            )
        if np.ndim(y) == 2:
            error.add_note(
                "If it cannot predict several targets, wrap it in "
                "sklearn.multioutput.MultiOutputRegressor."
            )
        raise


def weight_parameter(model: Any) -> str | None:
    """Name of the `fit` parameter that passes weights on to a model; None if it takes none."""
    routed = sklearn.get_config()["enable_metadata_routing"]
    if routed and get_routing_for_object(model).consumes("fit", ["sample_weight"]):
        return "sample_weight"
    if has_fit_parameter(model, "sample_weight"):
        return "sample_weight"
    if routed:
        return None
    if isinstance(model, Pipeline):
        name, last = model.steps[-1]
        inner = weight_parameter(last)
        return None if inner is None else f"{name}__{inner}"
    if is_search(model):
        return weight_parameter(model.estimator)
    members = getattr(model, "estimators", None)  # of votes and stacks
    if isinstance(members, list) and members:
        named = [weight_parameter(each[-1]) for each in members if each[-1] != "drop"]
        return "sample_weight" if all(name == "sample_weight" for name in named) else None
    return None


def _warn_of_weights(teachers: list[Any]) -> None:
    for teacher in teachers:
        if not isinstance(teacher, FrozenEstimator) and weight_parameter(teacher) is None:
            warnings.warn(
                "The weights of the rows should reach a teacher, but the fit of "
                f"{name_of(teacher)} takes no sample_weight, so it counts all rows alike; the "
                f"mixture does use the weights: {_cure_of_weights()}.",
                stacklevel=2,
            )


def _cure_of_weights() -> str:
    other = "pass a teacher that takes them, such as HistGradientBoosting or a random forest"
    if sklearn.get_config()["enable_metadata_routing"]:
        return f"ask for them with set_fit_request(sample_weight=True), or {other}"
    return other
