"""The base of classifier and regressor: `fit`, validation, evaluation, persistence."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_consistent_length

from skmode._common.notebooks.display import ShownInNotebooks
from skmode._common.sklearn import check_sample_weight, safe_indexing
from skmode._estimators.parameters import (
    ALPHAS,
    CONSTRAINTS,
    LARGE_BATCH_ROWS,
    Auto,
    Precision,
    check_callbacks,
    check_combinations,
    check_structure,
    resolve_batch_size,
    resolve_device,
    resolve_dropout,
    resolve_layers,
    resolve_precision,
    resolve_refit_fractions,
    structure,
)
from skmode._estimators.parameters.ranks import agree_on, common_random_state
from skmode._estimators.rows.kinds import named, warn_of_other_scales
from skmode._estimators.rows.lessons import OF_TEACHERS, LearnsFromTeachers
from skmode._estimators.rows.splitting import (
    Given,
    among,
    check_given,
    divide,
    find_split,
    hold_out,
    split_for_members,
)
from skmode._estimators.rows.teaching import Lessons, Passed, named_teacher
from skmode._training.callbacks.checkpoints import Checkpoints
from skmode._training.evaluation import gate
from skmode._training.net import MixtureNet
from skmode._training.plan import Distillation, Mixing, Network, Plan, TaskLoss
from skmode._training.process.isolation import isolated
from skmode._training.rows import Rows
from skmode._training.rows.stored import StoredRows
from skmode._training.trainer import Data, Trained, Trainer

# A gate that sends more than this share of the rows to one expert has collapsed.
COLLAPSED_SHARE = 0.98


class RoutingCollapseWarning(UserWarning):
    """The gate sends nearly every row to the same expert."""


class BaseMoDE(ShownInNotebooks, LearnsFromTeachers):
    """Base of :class:`MoDEClassifier` and :class:`MoDERegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    # The most rows of batch_size="auto".
    _largest_batch: ClassVar[int] = LARGE_BATCH_ROWS

    # Parameters.
    n_experts: int
    alpha: float | Auto
    distillation: Distillation
    mixing: Mixing
    gate: Literal["dense", "sparse"]
    top_k: int
    gate_hidden_layer_sizes: int | Sequence[int]
    gate_temperature: float
    balance: float
    hidden_layer_sizes: int | Sequence[int]
    activation: str
    dropout: float | Auto
    expert_module: Callable[[int], torch.nn.Module] | None
    optimizer: str | Callable[..., torch.optim.Optimizer]
    learning_rate: float
    learning_rate_schedule: Literal["constant", "cosine"]
    weight_decay: float | Auto
    weight_averaging: float
    batch_size: int | Auto
    max_epochs: int | Auto
    early_stopping: bool | Auto
    validation_fraction: Any
    n_iter_no_change: int
    refit_fraction: float | Auto
    teacher: Any
    teacher_weight: float | Auto
    n_teachers: int
    callbacks: Sequence[Any] | None
    precision: Precision | Auto
    random_state: Any
    warm_start: bool
    verbose: int

    # Fitted attributes.
    device_: str
    alpha_: float
    weight_decay_: float
    temperature_: float
    validation_scores_: dict[str, float] | None
    routing_difference_: dict[str, Any] | None
    history_: list[dict[str, Any]]
    loss_curve_: list[float]
    n_iter_: int
    refit_n_iter_: int
    teacher_weight_: float
    expert_usage_: NDArray[np.float64]
    _structure: dict[str, Any]
    _refusal: str | None  # why nobody teaches if teacher_weight_ is 0; empty: by validation rows
    _weighed_by_rows: bool  # whether teacher_weight_ is that of an estimator or soft targets

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @property
    def _parameters(self) -> dict[str, Any]:
        """All parameters: a subclass may have fewer in its `__init__`, and so in `get_params`."""
        return {name: getattr(self, name) for name in self._parameter_constraints}

    # Overridden by the classifier, the regressor or both.

    @property
    def _n_outputs(self) -> int:
        raise NotImplementedError

    @property
    def _calibrates(self) -> bool:
        return False

    def _make_task_loss(self) -> TaskLoss:
        raise NotImplementedError

    def _check_target(self, y: Any, name: str) -> NDArray[Any]:
        raise NotImplementedError

    def _target_weight(
        self, y: NDArray[Any], trained: NDArray[Any], trained_weight: NDArray[np.float64]
    ) -> NDArray[np.float64] | float:
        return 1.0

    def _fit_target(self, y: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        raise NotImplementedError

    def _encode_target(self, y: NDArray[Any], name: str) -> NDArray[Any]:
        raise NotImplementedError

    def _in_units(self, differences: NDArray[np.float64]) -> Any:
        """Turn differences between outputs of the network into those of predictions."""
        raise NotImplementedError

    # Fitting.

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        epochs: int | Auto,
        first: bool,
        given: Given | None = None,
        lessons: Lessons | None = None,
    ) -> Self:
        """Train for `epochs` epochs; `first` builds a new encoder and net, else training continues.

        What is `given` tells of validation rows. If it is None, the fit is partial: it has no
        validation rows, no learning-rate schedule and no weight averaging, because it cannot know
        how many calls will follow.
        """
        partial = given is None
        check_combinations(self._parameters)
        X_val = None if given is None else given.X
        teaches = lessons is not None and self._check_lessons(lessons, X_val)
        if given is not None:
            check_given(given, self.early_stopping, self.validation_fraction, teaches=teaches)
        if not first:
            check_structure(self._parameters, self._structure)
        passed = Passed(X, sample_weight is not None, given, lessons if teaches else None)
        X, y, sample_weight = self._check_rows(X, y, sample_weight, reset=first)

        random_state = common_random_state(self.random_state)

        def make_data() -> Data:
            return self._make_data(
                X, y, sample_weight, random_state, first=first, given=given, passed=passed
            )

        return self._train(make_data, random_state, epochs=epochs, first=first, partial=partial)

    def _train(
        self,
        make_data: Callable[[], Data],
        random_state: np.random.RandomState,
        *,
        epochs: int | Auto,
        first: bool,
        partial: bool,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """Encode the rows, plan, train and summarize."""
        with isolated(), self._undone_on_failure(None if first else self.net_):
            former = self._forget_teachers()
            data = make_data()
            agree_on(self, data, first=first)
            seed = random_state.randint(np.iinfo(np.int32).max)
            data, teacher_seed = self._prepare_teachers(data, random_state)
            plan = self._make_plan(data, epochs, seed, teacher_seed, first=first, partial=partial)
            trained = Trainer(plan, data, None if first else self.net_, checkpoints).train()

        if first:
            self._structure = structure(self._parameters)
        if trained.interrupted:
            warnings.warn("Training interrupted by user.", ConvergenceWarning, stacklevel=6)
        self._summarize(trained, data.rows, [] if first else former)
        if not partial:
            self._warn_of_no_refit(trained)
            self._warn_of_collapse(len(data.rows))
        return self

    def _make_data(
        self,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[np.float64],
        random_state: np.random.RandomState,
        *,
        first: bool,
        given: Given | None,
        passed: Passed,
    ) -> Data:
        """Encode the rows, learning columns and targets at `first`, and find validation rows."""
        if first:  # before rows without weight go: their classes stay classes
            self._fit_target(y, sample_weight)
        stopping, cv = self.early_stopping, self.validation_fraction
        split = None if given is None else find_split(given, stopping, cv, X, y)
        kept = np.flatnonzero(sample_weight)
        before = y[kept], sample_weight[kept]
        known = passed.select(X, *before, kept)
        X, y, sample_weight = self._weigh(X, y, sample_weight, before)
        if first:
            self._fit_encoder(X, sample_weight)
        rows, valid = self._encode(X, y, sample_weight), None
        if given is not None and given.X is not None:
            valid = self._encode_given(given, before)
        elif split is not None:
            split = among(split, kept)
        elif given is not None:
            split = hold_out(rows, stopping, cv, random_state)
        further = None
        if known is not None:
            factors = self._class_factors(*before)
            scale = sample_weight.mean()
            rows, valid, further = self._teach(
                rows,
                valid,
                known,
                split,
                first=first,
                factors=factors,
                scale=scale,
                random_state=random_state,
            )
        data = Data(rows, rows, valid) if split is None else divide(rows, *split)
        return data._replace(further=further)

    def _check_rows(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, suffix: str = ""
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
        """Validate the input; the suffix of the validation rows' names is "_val"."""
        self._begin_reading(X, y, reset=reset)
        X = self._check_input(X, reset=reset)
        y = self._check_target(y, f"y{suffix}")
        check_consistent_length(X, y)
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError(
                f"At least one row needs a positive sample_weight{suffix}, got zeros only: "
                "pass weights above zero for the rows to learn from."
            )
        return X, y, weight

    def _weigh(
        self,
        X: Any,
        y: NDArray[Any],
        weight: NDArray[np.float64],
        trained: tuple[NDArray[Any], NDArray[np.float64]],
        name: str = "y",
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
        """Drop rows of weight zero, and apply the weights that classes have in training."""
        kept = np.flatnonzero(weight)
        if len(kept) < len(weight):
            X, y, weight = safe_indexing(X, kept), y[kept], weight[kept]
        weight = weight * self._target_weight(y, *trained)
        if not np.all(weight >= 0) or not np.any(weight > 0):
            raise ValueError(
                "class_weight must hold no negative weight, and a positive one for at least one "
                f"class in {name}, got {getattr(self, 'class_weight', None)!r}: correct it."
            )
        return X, y, weight

    def _encode_given(
        self, given: Given, trained: tuple[NDArray[Any], NDArray[np.float64]]
    ) -> Rows:
        """Encode the user's validation rows by the columns and classes of training."""
        with named("X_val and y_val", "X and y are"):
            rows = self._check_rows(*given[:3], reset=False, suffix="_val")
        encoded = self._encode(*self._weigh(*rows, trained, "y_val"), "y_val")
        warn_of_other_scales(encoded.inputs[0], self.encoder_, "X_val")
        return encoded

    def _encode(
        self, X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64], name: str = "y"
    ) -> Rows:
        share = torch.as_tensor(sample_weight / sample_weight.mean())
        weight = None if np.all(sample_weight == sample_weight[0]) else share
        target = torch.as_tensor(self._encode_target(y, name))
        return Rows(self._encode_inputs(X), target, weight)

    def _prepare_teachers(
        self, data: Data, random_state: np.random.RandomState
    ) -> tuple[Data, int]:
        """Draw the rows and the seed of an ensemble, if there will be one."""
        name = named_teacher(self.teacher, self.teacher_weight)
        if name not in ("ensemble", "auto") or data.valid is None or not self.refit_fraction:
            return data, 0
        # "auto" compares the ensemble with the mixture on the same rows.
        drawn = isinstance(self.validation_fraction, Real) and data.train is not data.rows
        own = drawn and name == "ensemble"
        members = split_for_members(
            data, self.n_teachers, self.validation_fraction, random_state, own=own
        )
        return data._replace(members=members), random_state.randint(np.iinfo(np.int32).max)

    def _make_plan(
        self,
        data: Data,
        epochs: int | Auto,
        seed: int,
        teacher_seed: int,
        *,
        first: bool,
        partial: bool,
    ) -> Plan:
        """Read the parameters, and resolve each "auto" by the rows."""
        n_rows = None if partial else len(data.rows)
        held_out = data.train is not data.rows
        batch_size = resolve_batch_size(self.batch_size, n_rows, self._largest_batch)
        plain, taught = resolve_refit_fractions(self.refit_fraction)
        by_rows = data.rows.soft_target is not None
        device = self._resolve_device(len(data.rows), first=first)
        return Plan(
            network=self._make_network(batch_size, n_rows),
            alphas=self._resolve_alphas(first=first, held_out=data.valid is not None),
            distillation=self.distillation,
            balance=self.balance,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            learning_rate_schedule="constant" if partial else self.learning_rate_schedule,
            weight_decays=self._resolve_weight_decays(first=first, held_out=data.valid is not None),
            weight_averaging=0.0 if partial else self.weight_averaging,
            batch_size=batch_size,
            epochs=self._resolve_epochs(epochs, len(data.rows)),
            n_iter_no_change=self.n_iter_no_change,
            monitor_top_expert=self.inference == "top_expert",
            # Without a teacher the refit only adds the rows held out, never the user's own.
            refit_fraction=plain if held_out else 0.0,
            taught_refit_fraction=taught,
            teacher="rows" if by_rows else named_teacher(self.teacher, self.teacher_weight),
            teacher_weights=self._resolve_teacher_weights(
                data.rows, first=first, held_out=data.valid is not None
            ),
            teacher_trusted=self._teacher_trusted,
            teacher_seed=teacher_seed,
            calibrate=self._calibrates,
            callbacks=check_callbacks(self.callbacks),
            precision=resolve_precision(self.precision, batch_size, n_rows, device),
            device=device,
            seed=seed,
            show_progress=bool(self.verbose),
            linear_shares=self._linear_shares() if first and not partial else (),
        )

    def _resolve_epochs(self, epochs: Any, n_rows: int) -> int:
        return int(epochs)

    def _resolve_device(self, n_rows: int, *, first: bool) -> str:
        if self.device == "auto" and not first:
            return self._device_of_fit
        return resolve_device(self.device, work=n_rows * self._hidden_numbers())

    def _hidden_numbers(self) -> int:
        """Numbers that the experts compute for each row."""
        return self.n_experts * sum(resolve_layers(self.hidden_layer_sizes))

    def _make_network(self, batch_size: int, n_rows: int | None) -> Network:
        """Read the parameters that shape the network."""
        return Network(
            make_trunk=self._trunk_maker(n_rows),
            make_task_loss=self._make_task_loss,
            n_outputs=self._n_outputs,
            mixing=self.mixing,
            n_experts=self.n_experts,
            gate=self.gate,
            top_k=self.top_k,
            gate_hidden_layer_sizes=resolve_layers(self.gate_hidden_layer_sizes),
            gate_temperature=self.gate_temperature,
            hidden_layer_sizes=resolve_layers(self.hidden_layer_sizes),
            activation=self.activation,
            dropout=resolve_dropout(self.dropout, batch_size, n_rows),
            expert_module=self.expert_module,
        )

    def _resolve_alphas(self, *, first: bool, held_out: bool) -> tuple[float, ...]:
        if self.alpha != "auto":
            return (float(self.alpha),)
        if not first:
            return (self.alpha_,)
        n_active = min(self.top_k, self.n_experts) if self.gate == "sparse" else self.n_experts
        return ALPHAS if held_out and n_active > 1 else ALPHAS[:1]

    def _resolve_weight_decays(self, *, first: bool, held_out: bool) -> tuple[float, ...]:
        return (float(self.weight_decay),)

    @contextlib.contextmanager
    def _undone_on_failure(self, net: MixtureNet | None) -> Iterator[None]:
        """After a failure restore the former weights, or forget the fit: none may build on it."""
        before = None
        taught = {name: vars(self)[name] for name in OF_TEACHERS if name in vars(self)}
        if net is not None:
            before = copy.deepcopy(net.module_.state_dict()), list(net.history)
        try:
            yield
        except BaseException:  # also a KeyboardInterrupt outside of the epochs
            if net is None or before is None:
                self.__dict__.pop("net_", None)
            else:
                weights, history = before
                net.module_.load_state_dict(weights)
                net.module_.eval()
                net.history[:] = history
                net.initialize_optimizer()
                self._forget_teachers()
                self.__dict__.update(taught)
            raise

    def _summarize(self, trained: Trained, rows: Rows | StoredRows, former: list[str]) -> None:
        self.net_, self.alpha_ = trained.net, trained.alpha
        self.device_ = str(trained.net.device)
        self.weight_decay_ = trained.weight_decay
        self.validation_scores_ = trained.validation_scores
        self.routing_difference_ = None
        if trained.routing_difference is not None:
            found = trained.routing_difference._asdict()
            self.routing_difference_ = {name: self._in_units(each) for name, each in found.items()}
        self.refit_n_iter_ = trained.refit_n_iter
        self._weighed_by_rows = rows.soft_target is not None
        taught = self._weighed_by_rows or trained.taught_by
        self.teacher_weight_ = trained.teacher_weight if taught else 0.0
        self._keep_teachers(trained, rows, former)
        if trained.temperature is not None:
            self.temperature_ = trained.temperature
        self.history_ = list(self.net_.history)
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.history_]
        self.n_iter_ = len(self.history_)
        usage = sum(map(self._usage, rows.parts()), start=np.zeros(self.n_experts))
        self.expert_usage_ = usage / usage.sum()

    def _usage(self, rows: Rows) -> NDArray[np.float64]:
        """Weight of the rows that the gate sends to each expert."""
        (log_probabilities,) = self._evaluate_rows(rows, gate)
        weight = None if rows.sample_weight is None else rows.sample_weight.numpy()
        top = log_probabilities.argmax(axis=1)
        usage: NDArray[np.float64] = np.bincount(top, weight, self.n_experts).astype(np.float64)
        return usage

    def _warn_of_collapse(self, n_rows: int) -> None:
        if n_rows >= 10 * self.n_experts > 10 and self.expert_usage_.max() > COLLAPSED_SHARE:
            warnings.warn(
                "Each expert should get some rows, but the gate sends "
                f"{self.expert_usage_.max():.1%} of the training rows to expert "
                f"{self.expert_usage_.argmax()}: raise balance (now {self.balance:g}; try "
                f"{max(0.1, 3 * self.balance):g}) or gate_temperature, or use fewer experts (now "
                f"{self.n_experts}).",
                RoutingCollapseWarning,
                stacklevel=7,
            )
