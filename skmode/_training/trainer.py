"""What one call of fit does once rows and parameters are checked: build, train, choose, refit."""

import math
from typing import Any, NamedTuple

import torch
from skorch.callbacks import Callback

from skmode._estimators.parameters import (
    ALPHAS,
    resolve_batch_size,
    resolve_dropout,
    resolve_precision,
)
from skmode._training.averaging import AveragedWeights
from skmode._training.building import build_module
from skmode._training.calibration import apply_temperature, fit_temperature
from skmode._training.callbacks import (
    BestWeights,
    EpochProgress,
    Watch,
    make_early_stopping,
    make_schedule,
)
from skmode._training.net import (
    MixtureNet,
    NotFiniteError,
    Rows,
    n_batches,
    optimizer_options,
    seeded,
    watches_gradients,
)
from skmode._training.refit import refit, refit_epochs
from skmode.nn import CrossEntropy

# Rows of the training part on which the gate is watched where nothing is held out.
WATCHED_ROWS = 512
# Of the learning rate, where the refit starts.
LOWEST_REFIT_RATE = 0.2


class Run(NamedTuple):
    """One call of `fit` or `partial_fit`: its rows, on the CPU, and how to train on them.

    `net` is what training goes on from; None builds one. A `partial` call holds nothing out, keeps
    its learning rate constant and takes no averages, for it cannot know how many will follow.
    """

    rows: Rows
    train: Rows
    valid: Rows | None
    net: MixtureNet | None
    epochs: int
    partial: bool
    seed: int
    device: str

    @property
    def n_rows(self) -> int | None:
        return None if self.partial else len(self.rows)


class Outcome(NamedTuple):
    """What a call leaves behind."""

    net: MixtureNet
    alpha: float
    validation_scores: dict[str, float] | None
    refit_n_iter: int
    # None where there are no probabilities.
    temperature: float | None
    interrupted: bool


class _Trained(NamedTuple):
    """What came of one training."""

    net: MixtureNet
    alpha: float
    interrupted: bool
    watch: Watch
    best: BestWeights | None

    @property
    def loss(self) -> float:
        """The lowest on the validation rows."""
        return math.inf if self.best is None else self.best.loss


def fit_net(estimator: Any, run: Run) -> Outcome:
    """Train as an estimator's parameters say; the estimator is only read."""
    kept, interrupted = _train_best(estimator, run)
    classifies = isinstance(kept.net.module_.task_loss, CrossEntropy)
    temperature = 1.0 if classifies else None
    if run.valid is None:
        return Outcome(kept.net, kept.alpha, None, 0, temperature, interrupted)
    measured = kept.watch.measure(kept.net.module_)
    if classifies and estimator.calibration == "temperature":
        temperature = fit_temperature(
            kept.net.module_,
            kept.watch.evaluate(kept.net.module_),
            kept.watch.rows,
            top_expert=kept.watch.monitor_top_expert,
        )
    kept.net.module_.eval()
    scores = {name: measured[f"valid_score_{name}"] for name in ("mixture", "top_expert")}
    refit_n_iter = 0
    if not interrupted:
        refit_n_iter, interrupted = _refit(estimator, run, kept)
    if temperature is not None:  # only now, for the refit goes on from weights as they were trained
        apply_temperature(kept.net.module_, temperature)
    return Outcome(kept.net, kept.alpha, scores, refit_n_iter, temperature, interrupted)


def _train_best(estimator: Any, run: Run) -> tuple[_Trained, bool]:
    """Train with each alpha in question, and keep the net of the lowest validation loss.

    One that leads nowhere is none to choose, unless there is no other.
    """
    kept, interrupted, failure = None, False, None
    for alpha in _alphas(estimator, run):
        try:
            with seeded(run.seed, run.device):
                trained = _train(estimator, run, run.net or _build_net(estimator, run), alpha)
        except NotFiniteError as error:
            failure = error
            continue
        except KeyboardInterrupt:  # between two trainings
            if kept is None:
                raise
            interrupted = True
            break
        if kept is None or trained.loss < kept.loss:
            kept = trained
        interrupted = trained.interrupted
        if interrupted:
            break
    if kept is None:
        assert failure is not None
        raise failure
    return kept, interrupted


def _alphas(estimator: Any, run: Run) -> tuple[float, ...]:
    if estimator.alpha != "auto":
        return (float(estimator.alpha),)
    if run.net is not None:
        return (estimator.alpha_,)
    n_active = estimator.top_k if estimator.gate == "sparse" else estimator.n_experts
    nothing_to_choose = run.valid is None or min(n_active, estimator.n_experts) == 1
    return ALPHAS[:1] if nothing_to_choose else ALPHAS


def _build_net(estimator: Any, run: Run) -> MixtureNet:
    batch_size = resolve_batch_size(estimator.batch_size, run.n_rows)
    precision = resolve_precision(estimator.precision, batch_size, run.n_rows)
    module = build_module(
        estimator,
        estimator._n_outputs,
        estimator._make_task_loss(),
        run.train,
        resolve_dropout(estimator.dropout, batch_size, run.n_rows),
    )
    net = MixtureNet(
        module.to(torch.float64 if precision == "float64" else torch.float32),
        autocast=torch.bfloat16 if precision == "bf16" else None,
        lr=estimator.learning_rate,
        batch_size=batch_size,
        device=run.device,
        verbose=0,
        **optimizer_options(estimator.optimizer, estimator.weight_decay),
    )
    net.initialize()
    return net


def _train(estimator: Any, run: Run, net: MixtureNet, alpha: float) -> _Trained:
    _set_options(estimator, run, net, alpha)
    dtype = net.module_.head.weight.dtype
    train = run.train.to(run.device, dtype)
    if run.valid is None:
        watched = train.select(torch.randperm(len(train))[:WATCHED_ROWS].sort().values)
    else:
        watched = run.valid.to(run.device, dtype)
    watch = Watch(watched, run.valid is not None, estimator.inference == "top_expert")
    best = None if run.valid is None else BestWeights()
    steps = run.epochs * n_batches(len(train), net.batch_size)
    interrupted = net.train_epochs(
        train, run.epochs, _callbacks(estimator, run, watch, best, steps)
    )
    return _Trained(net, alpha, interrupted, watch, best)


def _set_options(estimator: Any, run: Run, net: MixtureNet, alpha: float) -> None:
    """Set what a warm start may change: the weights of the losses, steps and their size."""
    net.batch_size = resolve_batch_size(estimator.batch_size, run.n_rows)
    net.module_.alpha, net.module_.balance = alpha, estimator.balance
    net.module_.distillation = estimator.distillation
    if not hasattr(net, "optimizer_"):
        net.initialize_optimizer()
    for group in net.optimizer_.param_groups:
        group["lr"] = group["initial_lr"] = estimator.learning_rate
        if "weight_decay" in group:
            group["weight_decay"] = estimator.weight_decay


def _callbacks(
    estimator: Any, run: Run, watch: Watch, best: BestWeights | None, steps: int
) -> list[Any]:
    callbacks: list[Any] = []
    if estimator.weight_averaging and not run.partial:
        # First, so that all others see the averages.
        callbacks.append(("weight_averaging", AveragedWeights(estimator.weight_averaging)))
    callbacks.append(("watch", watch))
    if best is not None:
        callbacks.append(("best_weights", best))
    if not run.partial:
        callbacks += make_schedule(estimator.learning_rate_schedule, steps)
    if estimator.verbose:
        callbacks.append(("progress", EpochProgress(run.epochs)))
    callbacks += _user_callbacks(estimator)
    if run.valid is not None:  # last, because it interrupts the epoch's other callbacks
        callbacks.append(("early_stopping", make_early_stopping(estimator.n_iter_no_change)))
    return callbacks


def _user_callbacks(estimator: Any, *, gradients_only: bool = False) -> list[Any]:
    """The user's callbacks, or those that training may need to stay finite: by clipping, say."""
    found = []
    for named in estimator.callbacks or []:
        callback = named[-1] if isinstance(named, tuple) else named
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must hold instances of skorch.callbacks.Callback, got {callback!r}"
                ": pass an instance of a skorch callback."
            )
        if watches_gradients(callback) or not gradients_only:
            found.append(named)
    return found


def _refit(estimator: Any, run: Run, kept: _Trained) -> tuple[int, bool]:
    """Go on with all rows; return for how many epochs, and whether the user interrupted."""
    net, best = kept.net, kept.best
    assert best is not None
    epochs = refit_epochs(estimator.refit_fraction, best.epoch)
    if not epochs:
        return 0, False
    # Where training reached its end the rate is zero, and the new rows are still to be learned.
    rate = max(best.rate, LOWEST_REFIT_RATE * estimator.learning_rate)
    callbacks = _user_callbacks(estimator, gradients_only=True)
    if estimator.verbose:
        callbacks.append(("progress", EpochProgress(epochs, "refit")))
    with seeded(run.seed, run.device):
        rows = run.rows.to(run.device, net.module_.head.weight.dtype)
        return refit(net, rows, epochs, rate, kept.watch, callbacks)
