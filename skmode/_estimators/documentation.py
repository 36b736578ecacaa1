"""The texts that the docstrings of classifier and regressor share, each written once."""

import inspect
import json
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

# Of each parameter its type and its text. Its default comes from the signature of `__init__`.
PARAMETERS = {
    "n_experts": ("int", "Number of experts."),
    "alpha": (
        'float or "auto"',
        """
        Weight of the mutual distillation among the experts. 0 is a plain mixture of experts; the
        larger it is, the more alike the experts become. ``"auto"`` trains with 1 and with 10 and
        keeps the one with the lower validation loss, or takes 1 where no rows are held out. The
        first fit decides; later calls keep `alpha_`.
        """,
    ),
    "distillation": (
        '{"mean", "pairwise"}',
        "Form of the distillation loss, see :func:`skmode.nn.distillation_loss`.",
    ),
    "mixing": (
        '{"representation", "likelihood", "expected"}',
        """
        How the experts make one prediction, see :class:`skmode.nn.MixtureOfExperts`.
        ``"representation"`` is the paper's.
        """,
    ),
    "gate": (
        '{"dense", "sparse"}',
        """
        ``"dense"``: every expert takes part in every row. ``"sparse"``: only the `top_k` experts
        with the largest weights do.
        """,
    ),
    "top_k": ("int", "Experts per row of a sparse gate, from 1 to `n_experts`."),
    "gate_hidden_layer_sizes": (
        "array-like of int",
        "Widths of the gate's own hidden layers. Empty means a linear gate.",
    ),
    "gate_temperature": (
        "float",
        "Divides the gate's logits: above 1 the weights are more even.",
    ),
    "balance": (
        "float",
        "Weight of the load-balance loss, see :func:`skmode.nn.load_balance_loss`.",
    ),
    "hidden_layer_sizes": (
        "array-like of int",
        "Widths of each expert's layers. The last is the representation that is distilled.",
    ),
    "activation": (
        '{"relu", "gelu", "silu", "tanh", "logistic", "identity"}',
        "Activation of experts and gate.",
    ),
    "dropout": (
        'float or "auto"',
        """
        Probability of zeroing a hidden unit in training. ``"auto"``: 0 where one batch holds all
        rows (up to 128), 0.1 otherwise; the first fit decides.
        """,
    ),
    "expert_module": (
        "callable or None",
        """
        Makes experts of your own; `hidden_layer_sizes`, `activation` and `dropout` then do not
        apply to them. It is called once per expert with `in_features`, the number of features
        that an expert reads, and returns a new :class:`torch.nn.Module` that maps
        `(n_samples, in_features)` to `(n_samples, width)`, each row by itself and with the same
        width for all. `random_state` seeds the weights that the modules draw from torch. A class
        or function that can be imported keeps the estimator picklable. None: multilayer
        perceptrons.
        """,
    ),
    "numeric_embedding": (
        '{"periodic_bias", "periodic", "piecewise_linear"} or None',
        """
        Embedding of each number after scaling. ``"periodic_bias"``: cosines of learned frequencies
        and phases, and the number itself (PBLD of RealMLP, arXiv 2407.04491). ``"periodic"`` and
        ``"piecewise_linear"`` are those of arXiv 2203.05556. None: the scaled number.
        """,
    ),
    "categorical_features": (
        '"from_dtype", array-like of bool, int or str, or None',
        """
        Which columns are categories: ``"from_dtype"`` takes the string and categorical columns
        of a DataFrame and none of an array; otherwise a mask, positions or names. A category
        that training did not see is allowed at prediction and counts as unknown.
        """,
    ),
    "loss": (
        '{"squared_error", "absolute_error", "huber", "quantile"}',
        'What to minimise. ``"huber"`` turns linear at one standard deviation of the target.',
    ),
    "quantile": ("float", 'Level of ``loss="quantile"``.'),
    "inference": (
        '{"mixture", "top_expert"}',
        """
        Whether predictions come from the whole mixture or from each row's top expert alone. It
        can be changed after fitting; early stopping watches the one that is set while fitting.
        """,
    ),
    "optimizer": (
        '{"adamw", "adam", "sgd"} or type',
        "Optimizer, or a class such as :class:`torch.optim.RAdam`.",
    ),
    "learning_rate": ("float", "Step size of the optimizer at its peak."),
    "learning_rate_schedule": (
        '{"constant", "cosine"}',
        '``"cosine"``: a short warm-up, then down to zero at `max_epochs`.',
    ),
    "weight_decay": ("float", "Weight decay of the optimizer."),
    "weight_averaging": (
        "float",
        """
        Decay of the exponential moving average of the weights, from 0 to below 1. Validation,
        early stopping and the result use the averages; training goes on from the raw weights. 0
        takes no averages, and neither does `partial_fit`.
        """,
    ),
    "batch_size": (
        '"auto" or int',
        """
        Rows per step. ``"auto"``: all rows if there are at most 128; otherwise a sixteenth of
        them, rounded to a power of two between 32 and 256.
        """,
    ),
    "max_epochs": ("int", "Passes over the training rows, at most."),
    "early_stopping": (
        'bool or "auto"',
        """
        Whether to hold out validation rows, stop when their loss has not fallen for
        `n_iter_no_change` epochs, and keep the best weights. ``"auto"``: above 128 rows.
        """,
    ),
    "validation_fraction": ("float", "Share of the rows to hold out."),
    "n_iter_no_change": ("int", "Epochs without improvement before training stops."),
    "refit_fraction": (
        "float",
        """
        Length of the refit, from 0 (none) to 1. After early stopping, training goes on from the
        best weights with all rows, held-out ones included, for this share of the epochs that led
        to them, two at least. Its learning rate starts where that of the best epoch was, at a
        fifth of the peak or more, and falls to zero. `partial_fit` has no refit, nor has a
        training that the user interrupts.
        """,
    ),
    "calibration": (
        '{"temperature"} or None',
        """
        ``"temperature"``: divide the logits by the temperature that suits the held-out rows best
        (temperature scaling, arXiv 1706.04599). Where these are few it stays near one. It is
        found for the best weights, before the refit. None leaves the logits as trained.
        """,
    ),
    "class_weight": (
        'dict, "balanced" or None',
        """
        Weights of the classes; ``"balanced"`` makes them inversely proportional to how often a
        class occurs.
        """,
    ),
    "callbacks": (
        "list of skorch callbacks",
        """
        Further callbacks for the training loop, see :mod:`skorch.callbacks`. They find the losses
        of `history_` in ``net.history``, but no datasets to score. At the end of an epoch they see
        the averaged weights. During the refit, only callbacks that look at gradients are called
        (to clip them, say). ``alpha="auto"`` calls all of them in both trainings.
        """,
    ),
    "device": ("str", '``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA if torch finds it.'),
    "precision": (
        '{"auto", "float32", "float64", "bf16"}',
        """
        Arithmetic of the training. ``"auto"``: float64 where one batch holds all rows (up to
        128), which makes a fit independent of their order; float32 otherwise; the first fit
        decides. ``"bf16"``: float32 weights, bfloat16 products.
        """,
    ),
    "random_state": (
        "int, RandomState instance or None",
        """
        Seed of the weights, the validation split and the batches. torch's global random state
        stays untouched, and so does numpy's unless this is None.
        """,
    ),
    "warm_start": (
        "bool",
        """
        Whether `fit` continues from the last fit instead of starting anew. A pickle then holds
        the optimizer's state too.
        """,
    ),
    "verbose": ("int", "Above 0: a progress bar over the epochs."),
}

# Of each attribute that both estimators have its type and its text.
ATTRIBUTES = {
    "net_": (
        "skorch.NeuralNet",
        "The trained net; ``net_.module_`` is a :class:`skmode.nn.MixtureOfExperts`.",
    ),
    "alpha_": ("float", "The `alpha` of the training."),
    "encoder_": (
        "object",
        """
        What training saw of the columns: names, kinds, known categories, centres, scales and
        ranges.
        """,
    ),
    "n_features_in_": ("int", "Number of input columns."),
    "feature_names_in_": (
        "ndarray of shape (n_features_in_,)",
        "Names of the columns, if they are all strings.",
    ),
    "expert_usage_": (
        "ndarray of shape (n_experts,)",
        "Share of the rows passed to `fit` that the gate sends to each expert, by weight.",
    ),
    "validation_scores_": (
        "dict or None",
        """
        {metric} of ``"mixture"`` and ``"top_expert"`` on the held-out rows, before the refit.
        None when no rows were held out.
        """,
    ),
    "loss_curve_": ("list of float", "Training loss per epoch, without those of the refit."),
    "history_": (
        "list of dict",
        """
        Per epoch before the refit: ``train_loss`` and its parts ``task_loss``,
        ``distillation_loss``, ``balance_loss``; ``gate_entropy`` (nats), ``expert_usage`` and
        ``consistency`` (agreement among the experts) on the held-out rows, or on up to 512
        training rows without any; ``valid_loss`` and the losses and scores of mixture and top
        expert; ``dur`` (seconds).
        """,
    ),
    "n_iter_": ("int", "Number of epochs before the refit."),
    "refit_n_iter_": (
        "int",
        "Number of epochs of the last call's refit, 0 where there was none.",
    ),
}

Estimator = TypeVar("Estimator", bound=type)


def documented(metric: str) -> Callable[[Estimator], Estimator]:
    """Fill ``{parameters}`` and ``{attributes}`` in the docstring of an estimator's class."""

    def document(estimator: Estimator) -> Estimator:
        if estimator.__doc__ is None:  # as under python -OO
            return estimator
        defaults = inspect.signature(estimator).parameters
        parameters = [
            _entry(f"{name} : {kind}, default={_shown(defaults[name].default)}", text)
            for name, (kind, text) in PARAMETERS.items()
            if name in defaults
        ]
        assert len(parameters) == len(defaults)
        attributes = [
            _entry(f"{name} : {kind}", text.format(metric=metric))
            for name, (kind, text) in ATTRIBUTES.items()
        ]
        estimator.__doc__ = estimator.__doc__.replace(
            "    {parameters}", "\n".join(parameters)
        ).replace("    {attributes}", "\n".join(attributes))
        return estimator

    return document


def _entry(head: str, text: str) -> str:
    return textwrap.indent(f"{head}\n{textwrap.indent(inspect.cleandoc(text), '    ')}", "    ")


def _shown(default: Any) -> str:
    """A default as docstrings write it, strings between double quotes."""
    return json.dumps(default) if isinstance(default, str) else repr(default)
