"""What a teacher that is an estimator tells about the rows of a fit, and about rows beside them."""

import copy
import warnings
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skmode._estimators.evaluation import EvaluatesRows
from skmode._estimators.parameters import TEACHER_WEIGHT
from skmode._estimators.rows.folds import make_folds, of_unseen_classes
from skmode._estimators.rows.kinds import check_kinds, named, warn_of_other_scales
from skmode._estimators.rows.left_out import check_present, without_models
from skmode._estimators.rows.splitting import Split
from skmode._estimators.rows.synthetic import in_form_of, join, make_rows
from skmode._estimators.rows.teaching import (
    Fitted,
    Further,
    Known,
    Lessons,
    Taught,
    as_list,
    check_teachers,
    described,
    fit_teachers,
    holds_model,
    key_of,
    name_of,
    predict_mean,
)
from skmode._training.finish.fidelity import Fidelity, standard_error, unexplained
from skmode._training.net import clipping
from skmode._training.plan import TaskLoss
from skmode._training.rows import Rows
from skmode._training.rows.stored import StoredRows
from skmode._training.trainer import Trained

# What a fit remembers of its teachers.
OF_TEACHERS = ("teacher_names_", "teachers_", "out_of_fold_loss_")
# With fewer validation rows than this, teacher_weight="auto" compares teacher and mixture on the
# training rows, out of fold (benchmarks/ablations.md).
FEW_VALIDATION_ROWS = 1000
# There the teacher is refused only if its loss is higher by so many standard errors of the
# difference: whoever passes a teacher has a reason.
DOUBT = 2.0
# teacher_weight="auto" stays within these: a teacher that explains little, or nearly all, may err.
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 0.9
# A teacher whose loss on the training rows is less than this share of the loss on the validation
# rows, by itself or by the mixture that it taught, has seen the training rows.
SEEN_SHARE = 0.5
# So many standard errors of the latter loss are given away first.
SEEN_ERRORS = 2.0


class TeacherSawRowsWarning(UserWarning):
    """A teacher knows the training rows too well: it was probably fitted on them."""


class LearnsFromTeachers(EvaluatesRows):
    """An estimator that learns from the predictions of other estimators."""

    teacher: Any
    teacher_cv: Any
    synthetic_rows: float
    memory: Any
    n_jobs: int | None
    keep_teacher: bool
    verbose: int
    teacher_weight: Any
    validation_fraction: Any
    callbacks: Any
    warm_start: bool

    out_of_fold_loss_: dict[str, float] | None
    teacher_weight_: float
    teacher_names_: list[str]
    teacher_scores_: dict[str, dict[str, float]] | None
    teachers_: list[Any]

    # Overridden by classifier and regressor.

    def _make_task_loss(self) -> TaskLoss:
        raise NotImplementedError

    @property
    def _classifies(self) -> bool:
        raise NotImplementedError

    @property
    def _cure_of_teacher(self) -> str:
        """What to do about one that was refused."""
        raise NotImplementedError

    def _predict_soft(self, model: Any, X: Any, who: str) -> NDArray[np.float64]:
        """Predict probabilities in the order of the classes, or values, `(n_rows, n_outputs)`."""
        raise NotImplementedError

    def _read_soft_targets(self, given: Any, n_rows: int, name: str) -> NDArray[np.float64]:
        """Check ready soft targets, `(n_rows, n_outputs)`."""
        raise NotImplementedError

    def _warn_of_level(self, rows: Rows) -> None:
        """Warn if a teacher predicts another quantile than the loss asks for."""

    def _class_factors(
        self, trained: NDArray[Any], trained_weight: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Weights of the classes; None if all count alike."""
        return None

    def _encode_soft(
        self, soft: NDArray[np.float64], factors: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn soft targets into what a loss reads; returns also a weight for each row.

        `factors` are the weights of the classes, or None.
        """
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # An unfitted mixture may be on its way to a worker process.
        if "net_" in vars(self) and not self.keep_teacher:
            state["teacher"] = without_models(self.teacher)
        return state

    def __copy__(self) -> Self:
        """Copy what a pickle leaves out as well."""
        copied = type(self).__new__(type(self))
        copied.__setstate__(self.__getstate__() | {"teacher": self.teacher})
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy what a pickle leaves out as well."""
        copied = copy.copy(self)
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(vars(copied), memo))
        return copied

    def _forget_teachers(self) -> list[str]:
        """Forget the teachers of the last fit; returns their names."""
        names = list(getattr(self, "teacher_names_", []))
        for name in OF_TEACHERS:
            self.__dict__.pop(name, None)
        self.teacher_names_ = []
        self.out_of_fold_loss_ = None
        return names

    def _check_lessons(self, lessons: Lessons, X_val: Any) -> bool:
        """Raise if they contradict each other; tell whether the rows will carry predictions."""
        check_present(self.teacher)
        teachers = check_teachers(self.teacher, classify=self._classifies)
        if lessons.soft_targets is not None and self.teacher is not None:
            raise ValueError(
                f"soft_targets are a teacher's predictions, got teacher={described(self.teacher)} "
                "as well: leave out soft_targets, or set teacher=None."
            )
        if lessons.soft_targets_val is not None and (lessons.soft_targets is None or X_val is None):
            missing = "soft_targets" if lessons.soft_targets is None else "X_val"
            raise ValueError(
                "soft_targets_val are a teacher's predictions of X_val beside its soft_targets of "
                f"X, got no {missing}: pass {missing} as well, or leave out soft_targets_val."
            )
        if lessons.X_unlabeled is not None and not teachers:
            raise ValueError(
                "X_unlabeled needs a teacher that labels it, got "
                f"teacher={described(self.teacher)}: pass an estimator as teacher, or leave out "
                "X_unlabeled."
            )
        return bool(teachers) or lessons.soft_targets is not None

    def _teach(
        self,
        rows: Rows,
        valid: Rows | None,
        known: Known,
        split: Split | None,
        *,
        first: bool,
        factors: Any,
        scale: float,
        random_state: np.random.RandomState,
    ) -> Taught:
        """Add a teacher's predictions to the rows, and make further rows.

        The validation rows are none of those that the teacher is fitted on, so that the mixture,
        which learns of the teacher, is judged by rows that are new to both. `scale` is the weight
        that counts as one.
        """
        trained = np.arange(len(rows)) if split is None else split[0]
        seen = np.zeros(len(rows), dtype=bool)
        seen[trained] = True
        if known.lessons.soft_targets is not None:
            return self._teach_ready(rows, valid, known, factors)
        X_val = known.given.counted(known.given.X)
        if X_val is not None and not hasattr(X_val, "shape"):  # lists of lists are not rows yet
            X_val = self._check_input(X_val, reset=False)
        check_kinds(known.X, X_val, "X_val")
        further = self._unlabeled(known)
        if self.teacher_weight == 0:  # nobody would hear them
            return Taught(rows, valid, None)
        fitted, folds = self._fit_teachers(known, trained)
        each = [one.predict_unseen(known.X, self._predict_soft, seen) for one in fitted]
        soft = np.mean([found for found, _ in each], axis=0)
        covered = np.all([found for _, found in each], axis=0)
        if self._classifies:
            covered &= ~of_unseen_classes(known.y, folds)
        taught = self._add(rows, soft, covered, factors)
        n_valid = len(valid) if valid is not None else len(rows) - len(trained)
        asked = folds and self.teacher_weight == "auto" and 0 < n_valid < FEW_VALIDATION_ROWS
        if asked and self._decides_anew(first):
            self.out_of_fold_loss_ = self._compare_out_of_fold(known, folds, taught, factors)
        if valid is not None:
            soft = predict_mean(fitted, X_val, self._predict_soft, "X_val")
            valid = self._add(valid, soft, np.ones(len(valid), dtype=bool), factors)
        further = self._make_rows(known, rows, trained, random_state) + further
        parts = [self._further(each, fitted, taught, factors, scale) for each in further]
        joined = None if not parts else parts[0] if len(parts) == 1 else join(*parts)
        return Taught(taught, valid, joined)

    def _teach_ready(self, rows: Rows, valid: Rows | None, known: Known, factors: Any) -> Taught:
        """Add the user's soft targets to the rows; nobody can label further ones."""
        lessons, given = known.lessons, known.given
        soft = self._read_soft_targets(lessons.soft_targets, known.n_given, "soft_targets")
        taught = self._add(rows, soft[known.kept], np.ones(len(rows), dtype=bool), factors)
        if valid is not None and lessons.soft_targets_val is not None:
            n_rows = np.shape(given.y)[0]
            soft = self._read_soft_targets(lessons.soft_targets_val, n_rows, "soft_targets_val")
            covered = np.ones(len(valid), dtype=bool)
            valid = self._add(valid, given.counted(soft), covered, factors)
        self.teacher_names_ = ["soft_targets"]
        return Taught(taught, valid, None)

    def _fit_teachers(
        self, known: Known, trained: NDArray[np.intp]
    ) -> tuple[list[Fitted], list[Split]]:
        """Fit all teachers on folds of the rows to train on; returns the folds, too."""
        teachers = as_list(self.teacher)
        folds = []
        if not all(isinstance(each, FrozenEstimator) for each in teachers):
            folds = make_folds(self.teacher_cv, known, trained, classify=self._classifies)
        fitted = fit_teachers(
            teachers,
            known,
            folds,
            memory=self.memory,
            n_jobs=self.n_jobs,
            show_progress=bool(self.verbose),
            classify=self._classifies,
        )
        self.teacher_names_ = [name_of(teacher) for teacher in teachers]
        if self.keep_teacher:
            self.teachers_ = [model for one in fitted for model in one.models]
        return fitted, folds

    @property
    def _teacher_trusted(self) -> bool:
        """Whether the teacher was compared out of fold, and is not clearly worse."""
        found = self.out_of_fold_loss_
        if found is None:
            return False
        # One that predicts the same, without any error of the difference, has nothing to teach.
        return found["teacher"] - found["plain"] < DOUBT * found["standard_error"]

    def _decides_anew(self, first: bool) -> bool:
        """Whether the fit before did not weigh this teacher.

        A weight that was found for a name, for nobody or for another estimator says nothing of it.
        """
        if first or not getattr(self, "_weighed_by_rows", False):
            return True
        return getattr(self, "_weighed_teacher", None) != key_of(self.teacher)

    def _resolve_teacher_weights(
        self, rows: Rows | StoredRows, *, first: bool, held_out: bool
    ) -> tuple[float, ...]:
        """Weights of the teacher's predictions to train with."""
        self._refusal = None
        if self.teacher_weight != "auto":
            return (float(self.teacher_weight),)
        if not isinstance(rows, Rows) or rows.soft_target is None:
            return (TEACHER_WEIGHT,)
        if not self._decides_anew(first):
            return (self.teacher_weight_,)
        found = self.out_of_fold_loss_
        if found is not None and not self._teacher_trusted:
            self._refusal = (
                f"its out-of-fold loss is {found['teacher']:.3g}, that of the mixture without it "
                f"{found['plain']:.3g}"
            )
            return (0.0,)
        # Where the target is nearly free of noise, it is a better label than any prediction.
        noise = unexplained(self._make_task_loss(), rows)
        if noise >= 1:
            self._refusal = f"its loss is {noise:.3g} times that of a constant prediction"
            return (0.0,)
        weight = float(np.clip(np.nan_to_num(noise, nan=TEACHER_WEIGHT), LEAST_WEIGHT, MOST_WEIGHT))
        if not held_out or not first:  # several trainings cannot continue one net
            return (weight,)
        if found is None:
            self._refusal = ""
        return (0.0, weight)

    def _untaught(self) -> dict[str, Any]:
        """Parameters that differ in the mixture that a teacher is compared with."""
        found: dict[str, Any] = {"teacher": None, "verbose": 0, "keep_teacher": False}
        # The user's clipping of gradients may be what keeps the training finite.
        found["callbacks"] = clipping(tuple(self.callbacks or ())) or None
        if not isinstance(self.validation_fraction, Real):  # it speaks of all rows
            found["validation_fraction"] = 0.1
        return found

    def _compare_out_of_fold(
        self, known: Known, folds: list[Split], taught: Rows, factors: Any
    ) -> dict[str, float]:
        """Mean losses on the folds of the teacher and of a mixture that nobody taught.

        The standard error is that of their difference, over the rows.
        """
        # No clone of this one: some teachers and callbacks cannot be cloned.
        plain = type(self)(**self.get_params(deep=False) | self._untaught())
        (fitted,) = fit_teachers(
            [plain],
            known,
            folds,
            memory=self.memory,
            n_jobs=self.n_jobs,
            show_progress=bool(self.verbose),
            classify=self._classifies,
            compared=True,
        )
        predicted = np.unique(np.concatenate([test for _, test in folds]))
        assert taught.soft_weight is not None
        predicted = predicted[taught.soft_weight[predicted].numpy() > 0]  # others: unseen classes
        seen = np.zeros(len(taught), dtype=bool)
        seen[predicted] = True
        soft, _ = fitted.predict_unseen(known.X, self._predict_soft, seen)
        rows = taught.select(torch.as_tensor(predicted))
        encoded = torch.as_tensor(self._encode_soft(soft[predicted], factors)[0])
        weight = rows.sample_weight
        weight = torch.ones(len(rows), dtype=encoded.dtype) if weight is None else weight
        weight = weight / weight.sum()
        loss = self._make_task_loss()
        both = {"teacher": rows.soft_target, "plain": encoded}
        losses = {name: loss(found, rows.target) for name, found in both.items()}
        means = {name: float(weight @ each) for name, each in losses.items()}
        error = standard_error(losses["teacher"] - losses["plain"], weight)
        return means | {"standard_error": error}

    def _add(
        self, rows: Rows, soft: NDArray[np.float64], covered: NDArray[np.bool_], factors: Any
    ) -> Rows:
        """Add predictions to rows; where there is none, the target alone will count."""
        encoded, _ = self._encode_soft(soft, factors)
        weight = torch.as_tensor(covered.astype(np.float64))
        return Rows(*rows[:3], torch.as_tensor(encoded), weight)

    def _make_rows(
        self,
        known: Known,
        rows: Rows,
        trained: NDArray[np.intp],
        random_state: np.random.RandomState,
    ) -> list[Further]:
        """Make rows up from those to train on; returns them, or nothing."""
        n_rows = round(self.synthetic_rows * len(trained))
        encoded: Any = tuple(each[trained] for each in rows.inputs[:2]) if n_rows else ()
        if not sum(each.shape[1] for each in encoded):  # none, or columns of texts and images alone
            return []
        part = known.select(trained)
        random_state = copy.deepcopy(random_state)  # what follows draws as without a teacher
        categories = [i for i, each in enumerate(self.encoder_.columns_) if each.kind == "category"]
        made, base = make_rows(part.X, encoded, n_rows, random_state, categories)
        weight = np.ones(n_rows) if part.weight is None else part.weight[base]
        return [Further("made-up rows (synthetic_rows)", made, weight)]

    def _unlabeled(self, known: Known) -> list[Further]:
        """Check the user's further rows; each weighs as much as a row does on average."""
        X, weight = known.lessons.X_unlabeled, known.weight
        if X is None:
            return []
        with named("X_unlabeled"):
            checked = self._check_input(X, reset=False)
        check_kinds(known.X, X, "X_unlabeled")
        raw = X if hasattr(X, "shape") else checked
        each = np.full(raw.shape[0], 1.0 if weight is None else weight.mean())
        return [Further("X_unlabeled", raw, each)]

    def _further(
        self,
        further: Further,
        fitted: list[Fitted],
        like: Rows,
        factors: Any,
        scale: float,
    ) -> Rows:
        """Label rows that have no target; there the teacher alone counts."""
        with named(further.name):
            inputs = self._encode_inputs(self._check_input(further.X, reset=False))
        warn_of_other_scales(inputs[0], self.encoder_, further.name)
        soft = predict_mean(fitted, further.X, self._predict_soft, further.name)
        encoded, row_weight = self._encode_soft(soft, factors)
        n_rows = len(encoded)
        target = like.target[:1].expand(n_rows, *like.target.shape[1:])  # counts for nothing
        total = None
        if like.sample_weight is not None:
            total = torch.as_tensor(further.weight * row_weight / scale)
        ones = torch.ones(n_rows, dtype=torch.float64)
        return Rows(in_form_of(like, inputs), target, total, torch.as_tensor(encoded), ones)

    def _keep_teachers(self, trained: Trained, rows: Rows | StoredRows, former: list[str]) -> None:
        """Keep who taught and how they compare with the mixture; warn if that was no good.

        The `former` ones taught the weights that the training continued from.
        """
        if self._refusal is not None and not trained.teacher_weight and not trained.interrupted:
            self._warn_of_refusal(self._refusal, trained.fidelity)
        if isinstance(self.teacher, str):
            self.teacher_names_ = list(trained.taught_by)
        elif not trained.teacher_weight:  # the validation rows or the user chose so
            self.teacher_names_ = []
        # A frozen model may be large, and only a warm start asks for its hash.
        asked = self.teacher_weight == "auto" and (self.warm_start or not holds_model(self.teacher))
        self._weighed_teacher = key_of(self.teacher) if asked else None
        self.teacher_names_ = list(dict.fromkeys(former + self.teacher_names_))
        self._keep_fidelity(trained.fidelity, trained.plain)
        if trained.teacher_weight and isinstance(rows, Rows) and rows.soft_target is not None:
            self._warn_of_level(rows)

    def _warn_of_no_refit(self, trained: Trained) -> None:
        """Tell why a teacher that teaches in the refit had no chance to."""
        why, cure = "max_epochs leaves it no epochs", "raise max_epochs"
        if not isinstance(self.teacher, str) or not trained.teacher_weight:
            return
        if trained.validation_scores is None:
            why, cure = "no rows were held out", "pass more rows to fit, or early_stopping=True"
        elif not self.refit_fraction:
            why, cure = "refit_fraction is 0", "raise it"
        elif trained.refit_n_iter or trained.interrupted or self.max_epochs != 1:
            return
        warnings.warn(
            f"teacher={self.teacher!r} teaches in the refit, but there was none: {why}. So nobody "
            f"taught: {cure}, or pass teacher=None.",
            stacklevel=7,
        )

    def _warn_of_refusal(self, why: str, fidelity: Fidelity | None) -> None:
        """Tell why a teacher does not teach."""
        if not why:  # the validation rows decided
            why = "with it the loss on the validation rows is no lower"
            if fidelity is not None:
                why += (
                    f" than the {fidelity.losses[self.inference]:.3g} without it; its own is "
                    f"{fidelity.losses['teacher']:.3g}"
                )
        warnings.warn(
            'With teacher_weight="auto" a teacher teaches only if it helps, but '
            f"{', '.join(self.teacher_names_)} does not: {why}. So the mixture learned from the "
            f"targets alone: {self._cure_of_teacher}.",
            stacklevel=9,
        )

    def _keep_fidelity(self, fidelity: Fidelity | None, plain: Fidelity | None) -> None:
        """Keep how the teacher compares with the mixture, and warn if it knew the rows.

        `plain` is the same for the mixture that nobody taught, if there is one.
        """
        self.teacher_scores_ = None
        if fidelity is None:
            return
        losses, scores = fidelity.losses, fidelity.scores
        without = losses["constant"]
        if plain is not None:
            name = self.inference
            losses = losses | {"plain": plain.losses[name]}
            scores = scores | {"plain": plain.scores[name]}
            without = losses["plain"]
        lead = without - losses["teacher"]
        kept = {
            name: (without - losses[name]) / lead for name in ("mixture", "top_expert") if lead > 0
        }
        self.teacher_scores_ = {"loss": losses, "score": scores, "kept": kept}
        if not holds_model(self.teacher) and self.teacher is not None:
            return  # fitted on folds
        who = max(("teacher", "mixture"), key=losses.__getitem__)
        surely = losses[who] - SEEN_ERRORS * fidelity.errors[who]
        if fidelity.training_loss < SEEN_SHARE * surely:
            warnings.warn(
                "A teacher must not have seen the training rows, but its loss on them is "
                f"{fidelity.training_loss:.3g}, less than half of the {losses[who]:.3g} that the "
                f"{who} reaches on the validation rows (after {SEEN_ERRORS:g} standard errors): "
                "pass the estimator without FrozenEstimator, which fits it on folds, or "
                "out-of-fold predictions as soft_targets.",
                TeacherSawRowsWarning,
                stacklevel=9,
            )
