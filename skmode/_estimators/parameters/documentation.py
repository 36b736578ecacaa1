"""The docstring texts that classifier and regressor share, each written once."""

import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

# Type and text of each parameter; the default comes from the signature of `__init__`.
PARAMETERS = {
    "n_experts": ("int", "Number of experts."),
    "alpha": (
        'float or "auto"',
        """
        Weight of the mutual distillation among the experts. 0 is a plain mixture of experts; the
        larger it is, the more alike the experts become. ``"auto"`` trains once with 1 and once
        with 10 and keeps the model with the lower validation loss; without validation rows it takes
        1. A warm start keeps the `alpha_` of the first fit.
        """,
    ),
    "distillation": (
        '{"mean", "pairwise"}',
        "Form of the distillation loss, see :func:`skmode.nn.distillation_loss`.",
    ),
    "mixing": (
        '{"representation", "likelihood", "expected"}',
        """
        How the experts are combined. ``"representation"`` (the paper) mixes their representations
        before the output layer. ``"likelihood"`` and ``"expected"`` mix their predictions; they
        differ in the loss, see :class:`skmode.nn.MixtureOfExperts`.
        """,
    ),
    "gate": (
        '{"dense", "sparse"}',
        """
        ``"dense"``: every expert takes part in every row. ``"sparse"``: only the `top_k` experts
        with the largest weights do.
        """,
    ),
    "top_k": ("int", 'Number of experts per row with ``gate="sparse"``, from 1 to `n_experts`.'),
    "gate_hidden_layer_sizes": (
        "array-like of int",
        "Widths of the gate's own hidden layers. Empty means a linear gate.",
    ),
    "gate_temperature": (
        "float",
        "Divides the gate's logits: above 1 the gate weights are more even.",
    ),
    "balance": (
        "float",
        "Weight of the load-balance loss, see :func:`skmode.nn.load_balance_loss`.",
    ),
    "hidden_layer_sizes": (
        "array-like of int",
        """
        Widths of each expert's layers. The output of the last one is the representation that
        distillation compares.
        """,
    ),
    "activation": (
        '{"relu", "gelu", "silu", "tanh", "logistic", "identity"}',
        "Activation of experts and gate.",
    ),
    "dropout": (
        'float or "auto"',
        """
        Probability of zeroing a hidden unit in training. ``"auto"``: 0 if one batch holds all
        rows (up to 128), otherwise 0.1. A warm start keeps the choice of the first fit.
        """,
    ),
    "expert_module": (
        "callable or None",
        """
        Class or function that builds a custom expert, to which `hidden_layer_sizes`, `activation`
        and `dropout` do not apply. It is called once per expert with `in_features`, the number of
        features that an expert reads, and returns a new :class:`torch.nn.Module` that maps
        `(n_samples, in_features)` to `(n_samples, width)`. It must treat each row independently
        in evaluation mode, which `fit` checks, and all experts must have the same width.
        `random_state` seeds what they draw from torch's default generator in training: weights,
        dropout, noise. Use a class or function that can be imported, or the estimator cannot be
        pickled. None builds multilayer perceptrons.
        """,
    ),
    "numeric_embedding": (
        '{"periodic_bias", "periodic", "piecewise_linear"} or None',
        """
        Embedding of each number after scaling. ``"periodic_bias"``: cosines of learned frequencies
        and phases, and the number itself (PBLD of RealMLP, arXiv 2407.04491). ``"periodic"`` and
        ``"piecewise_linear"`` are described in arXiv 2203.05556. None: the scaled number.
        """,
    ),
    "categorical_features": (
        '"from_dtype", array-like of bool, int or str, or None',
        """
        The categorical columns, as a mask, positions or names. ``"from_dtype"`` takes the string
        and categorical columns of a DataFrame, and none of an array. None: no column is
        categorical. New categories are allowed in prediction and count as unknown. A column that
        comes in another type than in training is matched where the text is the same one-to-one,
        such as 101 for ``"101"`` but not 1 for ``"01"``, and is an error otherwise.
        """,
    ),
    "text_features": (
        '"auto", array-like of bool, int or str, or None',
        """
        The columns of texts, as a mask, positions or names. Each is read as
        :class:`MoDETextClassifier` reads texts, beside the other columns; this needs the package
        `tokenizers` (extra `text`). ``"auto"`` takes columns of strings, categorical ones and
        those of arrays of objects too, with five words or more on average, of whose values at
        least half are distinct; those that `categorical_features` or `image_features` name stay
        what they are, and `encoder_` tells which were found. None: no column holds texts, and
        strings are categories. Fixed for each column: 16,000 tokens in lower case, the first 512
        different ones and at most 4 MiB of a text, and 32 features, whose vectors stay as they
        start. Validation rows choose the share of a linear model of all texts (`linear_share_`).
        """,
    ),
    "image_features": (
        "array-like of bool, int or str, or None",
        """
        The columns of images, as a mask, positions or names. A cell is an array, a PIL image, the
        bytes of a PNG or JPEG file or its path, as :class:`MoDEImageClassifier` reads them; all of
        one column have one size, and channels come last. A missing image (None, NaN or an empty
        string) is read as one of the mean colour of training. Fixed for each column: convolutions
        that halve the image down to 7 pixels or less a side, and 32 features. None: no column holds
        images.
        """,
    ),
    "loss": (
        '{"squared_error", "absolute_error", "huber", "quantile"}',
        'Loss to minimise. ``"huber"`` is linear beyond one `target_scale_`.',
    ),
    "quantile": ("float", 'Level of ``loss="quantile"``.'),
    "inference": (
        '{"mixture", "top_expert"}',
        """
        Whether the whole mixture predicts or only the top expert of each row. It can be changed
        after fitting. Early stopping monitors the one that is set during `fit`.
        """,
    ),
    "optimizer": (
        '{"adamw", "adam", "sgd"} or type',
        "Optimizer, or a class such as :class:`torch.optim.RAdam`.",
    ),
    "learning_rate": ("float", "Peak learning rate of the optimizer."),
    "learning_rate_schedule": (
        '{"constant", "cosine"}',
        '``"cosine"``: a short warm-up, then down; zero would be reached after `max_epochs`.',
    ),
    "weight_decay": ("float", "Weight decay of the optimizer."),
    "weight_averaging": (
        "float",
        """
        Decay of the exponential moving average of the weights, from 0 (no averaging) to below 1.
        Validation, early stopping and the fitted model use the averages; the optimizer continues
        from the raw weights. `partial_fit` does not average.
        """,
    ),
    "batch_size": (
        '"auto" or int',
        """
        Rows per step. ``"auto"``: all rows if there are at most 128; otherwise a sixteenth of
        them, rounded to a power of two between 32 and 256.
        """,
    ),
    "max_epochs": (
        "int",
        """
        Passes over the rows, at most. The refit counts: training stops while the epochs that the
        refit needs are left. Each call of `fit` with `warm_start` may make so many again, and so
        may each of the two trainings of ``alpha="auto"``, the teachers of ``teacher="ensemble"``,
        and the refit where an estimator is `teacher` and labels further rows.
        """,
    ),
    "early_stopping": (
        'bool or "auto"',
        """
        Whether to stop when the loss on validation rows has not fallen for `n_iter_no_change`
        epochs, and keep the best weights. The validation rows are the `X_val` of `fit`, or held
        out of `X`. ``"auto"``: with more than 128 rows, and wherever you name the validation rows,
        by `X_val` or by a splitter.
        """,
    ),
    "validation_fraction": (
        "float, cross-validation generator or iterable",
        """
        Share of the rows to hold out. Or which rows: a splitter such as
        :class:`sklearn.model_selection.GroupShuffleSplit`, which gets the `groups` of `fit`, or a
        list with one pair of training and validation positions. Of several splits the last one is
        taken, which in a :class:`sklearn.model_selection.TimeSeriesSplit` has the most training
        rows. Rows in neither part wait for the refit. Not used if `fit` gets `X_val`.
        """,
    ),
    "n_iter_no_change": ("int", "Epochs without improvement before training stops."),
    "refit_fraction": (
        'float or "auto"',
        """
        Length of the refit, from 0 (none) to 1; ``"auto"`` is 1 where a teacher takes part: a name,
        or an estimator that labels further rows. Otherwise it is 0.3. After early stopping,
        training continues from the best weights on all rows of `X`, including the held-out ones. It
        takes this fraction of the epochs up to the best one, but at least two if `max_epochs`
        leaves so many. The learning rate starts at that of the best epoch, but at least at a fifth
        of the peak, and falls to zero. Where a teacher takes part, it starts at twice the peak (at
        the peak if an estimator predicted values), without dropout: the teacher keeps the experts
        from fitting noise. If that raises the validation loss by a tenth (after an estimator by 0.1
        at least) it is undone, with a ConvergenceWarning. No refit in `partial_fit`, after the user
        interrupts, with `X_val` but no teacher; with ``max_epochs=1`` only after an estimator.
        `X_val` is never trained on: rows of your own to refit on belong in `validation_fraction`.
        """,
    ),
    "teacher": (
        '{"mixture", "ensemble", "auto"}, estimator, list of estimators, or None',
        """
        Who teaches the experts. An estimator, such as a stack or a boosted ensemble, is cloned and
        fitted on the folds of `teacher_cv`, so that each row is taught by models that did not see
        it; a fitted one is fitted again. It sees the training rows as you passed them, and none of
        the validation rows. The mean of the folds' models labels all other rows. A list is
        averaged. A classifier needs `predict_proba`; where the loss is of a quantile, it must
        predict that. A fitted model that shall stay as it is goes into a
        :class:`sklearn.frozen.FrozenEstimator`; it must not have seen the rows. Estimators teach
        from the start, not in `partial_fit`; pickles hold their models with `keep_teacher` alone.

        The names teach in the refit alone. ``"mixture"``: the mixture as it was before.
        ``"ensemble"``: `n_teachers` networks of an expert's size, trained side by side, each with
        validation rows of its own; with `X_val` or a splitter all share those validation rows.
        Their predictions are averaged, and that mean with those of the mixture. ``"auto"``: as
        ``"ensemble"``, but the validation rows choose how much the mixture counts, and nobody
        teaches if they prefer the mixture alone; there, too, all networks share the validation
        rows. Each expert learns to predict as the teacher does, on the rows and on mixtures of
        pairs; the gate weighs what it learns from which. A fit without a refit warns that a name
        cannot teach. A name leaves half of `max_epochs` to the refit.
        """,
    ),
    "teacher_weight": (
        'float or "auto"',
        """
        Weight of the teacher's predictions on the rows, from 0 to 1; the rest is the target's.
        Rows beside these have no target, so there the teacher alone counts. With 0 nobody teaches,
        and no teacher is fitted. ``"auto"`` is 0.5 with a name. With an estimator or soft
        targets it is the share of the loss of a constant prediction that the teacher leaves, on
        rows that it did not see, between 0.1 and 0.9: a target that is nearly free of noise is the
        better label. It is 0, with a warning, if the teacher is no better than the constant, or if
        it is clearly worse than the mixture. With an estimator and fewer than 1,000 validation
        rows, the mixture is fitted on the folds of `teacher_cv`, too, without the teacher; clearly
        worse is an out-of-fold loss that is higher by two standard errors of the difference. With
        more rows, a frozen estimator or soft targets, it trains with and without; the validation
        loss decides. Without validation rows the teacher is trusted. A warm start keeps the weight
        of the last fit with the same estimator, or with soft targets.
        """,
    ),
    "n_teachers": ("int", 'Number of networks of ``teacher="ensemble"`` or ``"auto"``.'),
    "teacher_cv": (
        "int, cross-validation generator or iterable",
        """
        Folds of an estimator as `teacher`. An int is a number of shuffled folds, stratified for
        classes, in which the `groups` of `fit` stay together. A splitter gets these groups. An
        iterable holds pairs of positions among the rows of `X`. A row that no fold predicts, or
        only folds that were fitted on none of its class, is taught by its target alone.
        """,
    ),
    "synthetic_rows": (
        "float",
        """
        Number of made-up rows that an estimator as `teacher` labels, as a multiple of the training
        rows. Each column's cell is that of a training row or, by its own draw, of one of the ten
        nearest to it (FAST-DAD, arXiv 2006.14284). Rows of a sparse matrix are mixtures of two
        (mixup, arXiv 1710.09412). An epoch draws as many as there are training rows, so more cost
        only teacher time. With 0, epochs are half as long, and refits are as without a teacher.
        """,
    ),
    "keep_teacher": (
        "bool",
        """
        Whether to keep the models of an estimator as `teacher` in `teachers_`, and in pickles.
        Otherwise a fitted mixture's pickle, as from a search in several processes, has in the place
        of a FrozenEstimator its name alone. Copies by :func:`copy.deepcopy` hold all that was
        there.
        """,
    ),
    "memory": (
        "str, object with the joblib.Memory interface, or None",
        """
        Where to keep the fitted models of an estimator as `teacher`, as for
        :class:`sklearn.pipeline.Pipeline`: a search over other parameters then fits the teacher
        once for each training part, if `random_state` is an int.
        """,
    ),
    "n_jobs": (
        "int or None",
        """
        Number of processes that fit an estimator as `teacher` on its folds; -1 means one for each
        processor. None means one, or what :func:`joblib.parallel_config` sets.
        """,
    ),
    "calibration": (
        '{"temperature"} or None',
        """
        ``"temperature"`` divides the logits by a temperature that is fitted to the validation rows
        (temperature scaling, arXiv 1706.04599), for the best weights and before the refit. With
        few validation rows it stays near one. None does not calibrate.
        """,
    ),
    "class_weight": (
        'dict, "balanced" or None',
        """
        Weights of the classes; ``"balanced"`` makes them inversely proportional to the class
        frequencies.
        """,
    ),
    "callbacks": (
        "list of skorch callbacks",
        """
        Further callbacks for the training loop, see :mod:`skorch.callbacks`. ``net.history`` has
        the losses of `history_`; callbacks that score a dataset do not work, because there is
        none. At the end of an epoch the network holds the averaged weights. The refit calls only
        callbacks with `on_grad_computed`, such as gradient clipping. ``alpha="auto"`` calls all of
        them in both trainings.
        """,
    ),
    "device": (
        "str",
        """
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` and so on, ``"mps"`` (Apple's Metal), or ``"auto"``:
        CUDA if torch finds a device and there is enough to do, otherwise the CPU. Enough are
        10,240,000 hidden numbers in all experts and rows: 20,000 rows of a table with the default
        experts, about 640 images of 28 x 28 pixels.
        """,
    ),
    "precision": (
        '{"auto", "float32", "float64", "bf16"}',
        """
        Floating-point precision of training. ``"auto"``: float64 if one batch holds all rows (up
        to 128), which makes the result independent of their order, otherwise float32, which is
        all that ``device="mps"`` has. A warm start keeps the choice of the first fit. ``"bf16"``:
        float32 weights, bfloat16 products.
        """,
    ),
    "random_state": (
        "int, RandomState instance or None",
        """
        Seed of the weights, the validation split, the batches and dropout. With an int, a fit on
        the CPU gives the same bits alone, in threads and in processes. It neither depends on nor
        changes what the process has set for torch: random state, default dtype and device,
        gradient mode, autocast. While the network is built, other threads find torch's default
        generator and dtype changed; so do they while an `expert_module`, a callback or an optimizer
        of your own runs in training, because these draw from that generator. Fits take turns
        there. Two things do count: the number of torch's threads, which may change the last bits of
        long sums, and flags such as ``torch.set_float32_matmul_precision``. None takes a seed from
        numpy's global random state.
        """,
    ),
    "warm_start": (
        "bool",
        """
        Whether `fit` continues from the last fit instead of starting again. Pickles then include
        the state of the optimizer.
        """,
    ),
    "verbose": ("int", "Above 0, show progress bars over the folds of a teacher and the epochs."),
}

# Type and text of each attribute that both estimators have.
ATTRIBUTES = {
    "net_": (
        "skorch.NeuralNet",
        "The trained net; ``net_.module_`` is a :class:`skmode.nn.MixtureOfExperts`.",
    ),
    "device_": (
        "str",
        """
        Device that the last call trained on. With ``device="auto"`` it is predicted there, too,
        also by a pickle; where the reader lacks it, on the CPU.
        """,
    ),
    "alpha_": ("float", "Value of `alpha` that the model was trained with."),
    "weight_decay_": ("float", "Value of `weight_decay` that the model was trained with."),
    "encoder_": (
        "object",
        """
        The columns as training saw them: names, kinds, known categories, centres, scales and
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
        "Share of the rows passed to `fit` that the gate sends to each expert, by sample weight.",
    ),
    "validation_scores_": (
        "dict or None",
        """
        Scores of ``"mixture"`` and ``"top_expert"`` on the validation rows, before the refit:
        {metric}. None without validation rows.
        """,
    ),
    "routing_difference_": (
        "dict or None",
        """
        How far the predictions of the top expert are from those of the mixture on the validation
        rows: the ``"mean"`` and the ``"max"`` of the absolute differences between {predictions}. It
        is measured with the final weights, so after a refit these rows are training rows too,
        except those of `X_val`. None without validation rows.
        """,
    ),
    "teacher_names_": (
        "list of str",
        """
        Who taught: classes of estimators, ``"soft_targets"``, or ``"mixture"`` and ``"ensemble"``.
        Empty if nobody did. A warm start and `partial_fit` keep those of the fits before.
        """,
    ),
    "teacher_scores_": (
        "dict or None",
        """
        How an estimator as `teacher`, or soft targets, compare with the mixture on the validation
        rows, before the refit. ``"loss"`` and ``"score"`` ({metric}) each hold ``"teacher"``,
        ``"mixture"``, ``"top_expert"`` and ``"constant"``, the best prediction that is the same for
        all rows. ``"kept"`` holds the share of the teacher's lead over that constant, in the
        loss, which mixture and top expert keep; it is empty if the teacher does not lead. With
        ``teacher_weight="auto"`` there is also ``"plain"``, a mixture that nobody taught, and the
        lead is that over it. None without such a teacher or validation rows, and where the
        teacher's predictions of them are not known: with `soft_targets` and `X_val` but no
        `soft_targets_val`.
        """,
    ),
    "out_of_fold_loss_": (
        "dict or None",
        """
        Mean losses of the ``"teacher"``, and of the ``"plain"`` mixture that nobody taught, on rows
        that neither had seen, and the ``"standard_error"`` of their difference; they decide
        ``teacher_weight="auto"``. None where they were not needed.
        """,
    ),
    "teacher_weight_": ("float", "Weight of the teacher in the last call, 0 if nobody taught."),
    "teachers_": (
        "list of estimators",
        "Models of the folds, teacher by teacher. Only with ``keep_teacher=True``.",
    ),
    "loss_curve_": ("list of float", "Training loss of each epoch before the refit."),
    "history_": (
        "list of dict",
        """
        One dict per epoch before the refit: ``train_loss`` and its parts ``task_loss``,
        ``distillation_loss`` and ``balance_loss``; ``gate_entropy`` (nats), ``expert_usage`` and
        ``consistency`` (agreement among the experts), measured on the validation rows, or on up to
        512 training rows if there are none; with validation rows also ``valid_loss`` and the losses
        and scores of mixture and top expert; ``dur`` (seconds).
        """,
    ),
    "n_iter_": ("int", "Number of epochs before the refit."),
    "refit_n_iter_": (
        "int",
        "Number of epochs of the last call's refit, 0 if there was none.",
    ),
}

Texts = Mapping[str, tuple[str, str]]
Estimator = TypeVar("Estimator", bound=type)


def documented(
    metric: str,
    predictions: str,
    parameters_texts: Texts = PARAMETERS,
    attributes_texts: Texts = ATTRIBUTES,
) -> Callable[[Estimator], Estimator]:
    """Fill ``{parameters}`` and ``{attributes}`` in the docstring of an estimator class."""

    def document(estimator: Estimator) -> Estimator:
        if estimator.__doc__ is None:  # as under python -OO
            return estimator
        defaults = inspect.signature(estimator).parameters
        parameters = [
            _entry(
                f"{name} : {parameters_texts[name][0]}, default={_shown(each.default)}",
                parameters_texts[name][1],
            )
            for name, each in defaults.items()
        ]
        attributes = [
            _entry(f"{name} : {kind}", text.format(metric=metric, predictions=predictions))
            for name, (kind, text) in attributes_texts.items()
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
