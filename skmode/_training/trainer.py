"""Run a plan: train, choose among several alphas and teacher weights, calibrate, refit."""

import itertools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from skorch.callbacks import Callback

from skmode._training.building import build_net
from skmode._training.callbacks import (
    AveragedWeights,
    BestWeights,
    EpochProgress,
    LeaveForRefit,
    Watch,
    make_early_stopping,
    make_schedule,
)
from skmode._training.callbacks.checkpoints import Checkpoint, Checkpoints
from skmode._training.evaluation import Evaluated, RoutingDifference, routing_difference
from skmode._training.finish.blend import ENSEMBLE_SHARE, blend, choose_share, predict
from skmode._training.finish.calibration import apply_temperature, fit_temperature
from skmode._training.finish.fidelity import Fidelity, measure_fidelity
from skmode._training.finish.linear import (
    MIDDLE_STRENGTH,
    MOST_OUTPUTS,
    Linear,
    add_linear,
    choose_linear,
    fit_linear,
    n_outputs,
    takes_linear,
    token_weights,
)
from skmode._training.finish.refit import LOWEST_REFIT_RATE, Checks, refit, refit_epochs
from skmode._training.finish.taught import (
    TAUGHT_RATE,
    VALUES_RATE,
    TaughtRows,
    TaughtWatch,
    Teacher,
    without_dropout,
)
from skmode._training.finish.teachers import Members, mixture_teacher, train_ensemble
from skmode._training.net import MixtureNet, NotFiniteError, clipping
from skmode._training.plan import Plan
from skmode._training.process.isolation import Generators, Part, do_interrupts_raise
from skmode._training.process.ranks import common, ranks_of_fit
from skmode._training.process.steps import agree_on_weights, begin
from skmode._training.rows import ExtendedRows, Rows, Trainable, n_batches
from skmode._training.rows.stored import StoredRows
from skmode.nn import CrossEntropy, MixtureOfExperts

# Training rows on which the gate is measured when no rows are held out.
WATCHED_ROWS = 512


class Data(NamedTuple):
    """The rows of one call, on the CPU: those passed to `fit`, training and validation rows.

    Those to train on may be in a file. The validation rows are some of those passed to `fit`, or
    the user's own beside them. A teacher may have labelled further rows, which have no target.
    """

    rows: Rows | StoredRows
    train: Rows | StoredRows
    valid: Rows | None
    members: Members | None = None
    further: Rows | None = None


class Trained(NamedTuple):
    """The result of a call; the temperature is None for regression.

    Scores are those before the refit, the difference is that of the final weights.
    `plain` is the fidelity of the training without the teacher, if there was one to compare with.
    `taught_by` names who taught in the refit, if it was the mixture itself or an ensemble.
    """

    net: MixtureNet
    alpha: float
    validation_scores: dict[str, float] | None
    routing_difference: RoutingDifference | None
    refit_n_iter: int
    temperature: float | None
    interrupted: bool
    teacher_weight: float
    weight_decay: float
    fidelity: Fidelity | None = None
    plain: Fidelity | None = None
    taught_by: tuple[str, ...] = ()


class _Candidate(NamedTuple):
    """The result of training with one alpha and one weight of the teacher's predictions."""

    net: MixtureNet
    alpha: float
    teacher_weight: float
    weight_decay: float
    interrupted: bool
    generators: Generators
    watch: Watch
    best: BestWeights | None

    @property
    def loss(self) -> float:
        """The lowest validation loss."""
        return math.inf if self.best is None else self.best.loss


class Trainer:
    """Runs a plan on the rows of one call; training continues from `net`, or None builds one.

    With `checkpoints`, each training goes on from its own.
    """

    def __init__(
        self,
        plan: Plan,
        data: Data,
        net: MixtureNet | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.plan = plan
        self.data = data
        self.net = net
        self.checkpoints = checkpoints
        self._plain: _Candidate | None = None

    def train(self) -> Trained:
        """Train with each alpha, keep the best, calibrate it, and refit it with all rows."""
        best, interrupted = self._train_best()
        classifies = isinstance(best.net.module_.task_loss, CrossEntropy)
        temperature = 1.0 if classifies else None
        weights = best.teacher_weight, best.weight_decay
        module = best.net.module_
        if self.data.valid is None:
            interrupted |= self._add_linear(best, self._given_linear(module))
            agree_on_weights(module)
            return Trained(best.net, best.alpha, None, None, 0, temperature, interrupted, *weights)
        with best.generators.default_for("module"):
            alone = best.watch.evaluate(module)
        linear, evaluated = None, alone
        if not interrupted:
            linear, evaluated, interrupted = self._choose_linear(best, alone)
        measured = common(best.watch.scores(module, evaluated))
        scores = {name: measured[f"valid_score_{name}"] for name in ("mixture", "top_expert")}
        temperature, fidelity = self._calibrate(best, evaluated)
        of_network = temperature if linear is None else self._calibrate(best, alone)[0]
        plain = None
        if self._plain is not None:
            with self._plain.generators.default_for("module"):
                untaught = self._plain.watch.evaluate(self._plain.net.module_)
            plain = self._calibrate(self._plain, untaught)[1]
        refit_n_iter, taught_by = 0, tuple[str, ...]()
        if not interrupted:
            refit_n_iter, interrupted, taught_by = self._refit(best, of_network)
        if self._add_linear(best, linear):
            temperature, interrupted = of_network, True
        if taught_by:  # the teacher's predictions were calibrated
            temperature = 1.0 if classifies else None
        if temperature is not None:  # after the refit, which continues from the weights as trained
            apply_temperature(module, temperature)
        agree_on_weights(module)
        with best.generators.default_for("module"):
            evaluated = best.watch.evaluate(module)
        difference = routing_difference(evaluated, classes=classifies)
        return Trained(
            best.net,
            best.alpha,
            scores,
            difference,
            refit_n_iter,
            temperature,
            interrupted,
            *weights,
            fidelity,
            plain,
            taught_by,
        )

    def _choose_linear(
        self, candidate: _Candidate, evaluated: Evaluated
    ) -> tuple[Linear | None, Evaluated, bool]:
        """A linear model of the tokens, if it makes the validation loss lower.

        Returns it, the evaluation of the validation rows with it, and whether the user interrupted.
        """
        plan, data, module = self.plan, self.data, candidate.net.module_
        if not self._wants_linear(module):
            return None, evaluated, False
        assert isinstance(data.train, Rows)
        try:
            linear, mixed = choose_linear(
                module,
                data.train.to(plan.device, module.head.weight.dtype),
                candidate.watch.rows,
                evaluated,
                plan.linear_shares,
                calibrate=plan.calibrate,
                top_expert=plan.monitor_top_expert,
            )
        except KeyboardInterrupt:
            _raise_where_interrupts_do()
            return None, evaluated, True
        linear = common(linear)
        return linear, evaluated if linear is None else mixed, False

    def _given_linear(self, module: MixtureOfExperts) -> Linear | None:
        """The same without validation rows: only a share that the user gave counts."""
        shares = self.plan.linear_shares
        if len(shares) != 1 or not self._wants_linear(module):
            return None
        return Linear(strength=MIDDLE_STRENGTH, share=shares[0])

    def _wants_linear(self, module: MixtureOfExperts) -> bool:
        shares = self.plan.linear_shares
        few = len(shares) == 1 or n_outputs(module) <= MOST_OUTPUTS
        in_memory = isinstance(self.data.rows, Rows)
        return any(shares) and few and in_memory and takes_linear(module)

    def _add_linear(self, candidate: _Candidate, linear: Linear | None) -> bool:
        """Fit the linear model to all rows, and make it a part of the network.

        True: the user interrupted, and there is none.
        """
        if linear is None:
            return False
        net = candidate.net
        assert isinstance(self.data.rows, Rows)
        rows = self.data.rows.to(self.plan.device, net.module_.head.weight.dtype)
        net.module_.eval()
        try:
            fitted = fit_linear(net.module_, token_weights(net.module_, rows), rows, linear)
        except KeyboardInterrupt:
            _raise_where_interrupts_do()
            return True
        add_linear(net.module_, fitted)
        net.initialize_optimizer()  # for the new weights
        self._set_options(net, candidate.alpha, candidate.weight_decay)
        return False

    def _calibrate(
        self, candidate: _Candidate, evaluated: Evaluated
    ) -> tuple[float | None, Fidelity | None]:
        """The temperature, and how the mixture compares with a teacher that the rows carry."""
        plan, module, rows = self.plan, candidate.net.module_, candidate.watch.rows
        temperature = None
        if isinstance(module.task_loss, CrossEntropy):
            temperature = 1.0
            if plan.calibrate:
                temperature = common(
                    fit_temperature(module, evaluated, rows, top_expert=plan.monitor_top_expert)
                )
        if rows.soft_target is None:
            return temperature, None
        assert isinstance(self.data.train, Rows)  # stored rows carry no predictions
        train = self.data.train.to(plan.device, module.head.weight.dtype)
        return temperature, measure_fidelity(module, evaluated, train, rows, temperature)

    def _train_best(self) -> tuple[_Candidate, bool]:
        """Train with each alpha, weight of the teacher and weight decay; keep the lowest loss.

        The loss is that of the validation rows. Where it is decided that the teacher teaches, what
        it did not teach is kept for comparison. A combination whose training does not stay finite
        is skipped; if that happens to all of them, the last error is raised.
        """
        best: _Candidate | None = None
        interrupted, failure = False, None
        plan = self.plan
        for alpha, weight, decay in itertools.product(
            plan.alphas, plan.teacher_weights, plan.weight_decays
        ):
            try:
                candidate = self._train(alpha, weight, decay)
            except NotFiniteError as error:
                failure = error
                continue
            except KeyboardInterrupt:  # between two trainings, or in a part of another fit
                if best is None and self._plain is None:
                    raise
                _raise_where_interrupts_do()
                interrupted = True
                break
            compared = plan.teacher_trusted and not weight
            if not compared and (best is None or candidate.loss < best.loss):
                best = candidate
            if not weight and (self._plain is None or candidate.loss < self._plain.loss):
                self._plain = candidate
            interrupted = candidate.interrupted
            if interrupted:
                break
        best = best or self._plain  # that of the teacher was interrupted, or not finite
        if best is None:
            assert failure is not None
            raise failure
        return best, interrupted

    def _train(self, alpha: float, weight: float, decay: float) -> _Candidate:
        plan, data, generators = self.plan, self.data, self._generators(self.plan.seed)
        with generators.building():
            net = self.net or build_net(plan, data.train.sample)
        net.move_to(plan.device)  # one that was predicted with, or loaded, may be elsewhere
        self._set_options(net, alpha, decay)
        if (ranks := ranks_of_fit()) is not None:
            begin(ranks, net.module_)
        dtype = net.module_.head.weight.dtype
        train = data.train.to(plan.device, dtype)
        if data.valid is None:
            sample = train.sample
            order = torch.randperm(len(sample), generator=generators.cpu)
            watched = sample.select(order[:WATCHED_ROWS].sort().values.to(sample.device))
        else:
            watched = data.valid.to(plan.device, dtype)
        watch = Watch(watched, data.valid is not None, plan.monitor_top_expert)
        best = None if data.valid is None else BestWeights()
        steps = plan.epochs * n_batches(len(train), plan.batch_size)
        callbacks = self._callbacks(watch, best, steps)
        lessons = self._with_teacher(train, weight)
        checkpoint = self._checkpoint(f"training-{alpha:g}-{weight:g}-{decay:g}")
        interrupted = net.train_epochs(lessons, plan.epochs, callbacks, generators, checkpoint)
        return _Candidate(net, alpha, weight, decay, interrupted, generators, watch, best)

    def _checkpoint(self, name: str) -> Checkpoint | None:
        return None if self.checkpoints is None else self.checkpoints.training(name)

    def _with_teacher(self, rows: Rows | StoredRows, weight: float) -> Trainable:
        """Weigh the predictions of a teacher that the rows carry, and add rows without target."""
        rows = rows.weigh_teacher(weight)
        further = self.data.further
        if further is None or not weight:
            return rows
        assert isinstance(rows, Rows)
        assert rows.soft_target is not None
        return ExtendedRows(rows, further.to(self.plan.device, rows.soft_target.dtype))

    def _generators(self, seed: int) -> Generators:
        """Begin the random numbers of a training; users' code can only draw from torch's own."""
        plan = self.plan
        borrowing: set[Part] = set()
        custom = plan.network.expert_module is not None or plan.network.custom_trunk
        if custom:
            borrowing.add("module")
        if plan.callbacks:
            borrowing.add("callbacks")
        if callable(plan.optimizer):
            borrowing.add("optimizer")
        return Generators(seed, plan.device, borrowing)

    def _set_options(self, net: MixtureNet, alpha: float, decay: float) -> None:
        """Set the parameters that a warm start may change."""
        plan = self.plan
        net.batch_size = plan.batch_size
        net.module_.alpha, net.module_.balance = alpha, plan.balance
        net.module_.distillation = plan.distillation
        if not hasattr(net, "optimizer_"):
            net.initialize_optimizer()
        for group in net.optimizer_.param_groups:
            group["lr"] = group["initial_lr"] = plan.learning_rate
            if "weight_decay" in group:
                group["weight_decay"] = decay

    def _callbacks(
        self, watch: Watch, best: BestWeights | None, steps: int
    ) -> list[tuple[str, Callback] | Callback]:
        plan = self.plan
        callbacks: list[Any] = []
        if plan.weight_averaging:
            # First, so that all others see the averages.
            callbacks.append(("weight_averaging", AveragedWeights(plan.weight_averaging)))
        callbacks.append(("watch", watch))
        if best is not None:
            callbacks.append(("best_weights", best))
        callbacks += make_schedule(plan.learning_rate_schedule, steps)
        if plan.show_progress:
            callbacks.append(("progress", EpochProgress(plan.epochs)))
        callbacks += plan.callbacks
        if best is not None:  # last, because they interrupt the epoch's other callbacks
            callbacks.append(("early_stopping", make_early_stopping(plan.n_iter_no_change)))
            shares_epochs = plan.teacher not in (None, "rows") and not plan.taught_refit_apart
            fraction = plan.taught_refit_fraction if shares_epochs else 0.0
            if fraction := fraction or plan.refit_fraction:
                leave = LeaveForRefit(plan.epochs, fraction, best)
                callbacks.append(("leave_for_refit", leave))
        return callbacks

    def _refit(
        self, candidate: _Candidate, temperature: float | None
    ) -> tuple[int, bool, tuple[str, ...]]:
        """Continue with all rows.

        Returns the epochs, whether the user interrupted, and which networks taught.
        """
        plan, best = self.plan, candidate.best
        assert best is not None
        teacher, names, interrupted = None, tuple[str, ...](), False
        left = plan.epochs - best.passed
        if (left or plan.taught_refit_apart) and plan.taught_refit_fraction:
            teacher, names, interrupted = self._make_teacher(candidate, temperature)
        # An estimator that labelled further rows; its own fits cost more than these epochs.
        by_rows = self.data.further is not None and candidate.teacher_weight > 0
        if not interrupted and (teacher is not None or by_rows):
            n_iter, interrupted = self._refit_taught(candidate, teacher, left)
            return n_iter, interrupted, names if n_iter else ()
        epochs = refit_epochs(plan.refit_fraction, best.epoch, left)
        if interrupted or not epochs:
            return 0, interrupted, ()
        rows = self._with_teacher(self._all_rows(candidate), candidate.teacher_weight)
        # At the end of the schedule the rate is zero, but the held-out rows are still new.
        rate = max(best.rate, LOWEST_REFIT_RATE * plan.learning_rate)
        generators = self._generators(plan.seed)
        n_iter, interrupted = self._run_refit(
            candidate, rows, epochs, rate, candidate.watch, generators
        )
        return n_iter, interrupted, ()

    def _refit_taught(
        self, candidate: _Candidate, teacher: Teacher | None, left: int
    ) -> tuple[int, bool]:
        """Refit with a teacher, or without one with what an estimator predicted of the rows."""
        plan, net, best = self.plan, candidate.net, candidate.best
        assert best is not None
        by_estimator = teacher is None
        if plan.taught_refit_apart:
            epochs = math.ceil(plan.taught_refit_fraction * plan.epochs)
        else:
            left = plan.epochs if by_estimator else left
            epochs = refit_epochs(plan.taught_refit_fraction, best.epoch, left)
        if not epochs:
            return 0, False
        rows: Any = self._all_rows(candidate)
        generators = self._generators(plan.seed)
        if teacher is None:
            rows = self._with_teacher(rows, candidate.teacher_weight)
        else:
            rows = TaughtRows(rows, teacher, candidate.teacher_weight, generators.device)
        values = by_estimator and not isinstance(net.module_.task_loss, CrossEntropy)
        rate = (VALUES_RATE if values else TAUGHT_RATE) * plan.learning_rate
        checks = TaughtWatch(candidate.watch, best.loss, rate, by_estimator=by_estimator)
        with without_dropout(net.module_):
            return self._run_refit(candidate, rows, epochs, rate, checks, generators)

    def _all_rows(self, candidate: _Candidate) -> Rows | StoredRows:
        return self.data.rows.to(self.plan.device, candidate.net.module_.head.weight.dtype)

    def _run_refit(
        self,
        candidate: _Candidate,
        rows: Any,
        epochs: int,
        rate: float,
        checks: Checks,
        generators: Generators,
    ) -> tuple[int, bool]:
        """Continue the training of a candidate."""
        plan = self.plan
        # Without the user's gradient clipping the refit might not stay finite.
        callbacks: list[Any] = clipping(plan.callbacks)
        if plan.show_progress:
            callbacks.append(("progress", EpochProgress(epochs, "refit")))
        checkpoint = self._checkpoint("refit")
        return refit(candidate.net, rows, epochs, rate, checks, callbacks, generators, checkpoint)

    def _make_teacher(
        self, candidate: _Candidate, temperature: float | None
    ) -> tuple[Teacher | None, tuple[str, ...], bool]:
        """The teacher of the refit and its parts' names; whether the user interrupted."""
        plan, module = self.plan, candidate.net.module_
        if plan.teacher in (None, "rows"):
            return None, (), False
        if plan.teacher == "mixture":
            return mixture_teacher(module, temperature), ("mixture",), False
        assert self.data.members is not None
        plan = replace(plan, weight_decays=(candidate.weight_decay,))
        ensemble = train_ensemble(plan, self.data.members, self._generators(plan.teacher_seed))
        if ensemble.interrupted or ensemble.teacher is None:
            return None, (), ensemble.interrupted
        mixture, share = mixture_teacher(module, temperature), ENSEMBLE_SHARE
        if plan.teacher == "auto":
            assert ensemble.held_out is not None
            rows = candidate.watch.rows
            share = common(choose_share(module, predict(mixture, rows), ensemble.held_out, rows))
        if not share:
            return None, (), False
        names = ("mixture", "ensemble") if share < 1 else ("ensemble",)
        return blend(module, mixture, ensemble.teacher, share), names, False


def _raise_where_interrupts_do() -> None:
    """In an `except` block: raise the interrupt again where a fit cannot end early."""
    if ranks_of_fit() is not None or do_interrupts_raise():
        raise
