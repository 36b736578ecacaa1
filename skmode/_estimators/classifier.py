"""MoDEClassifier: a mixture of distilled experts by scikit-learn's rules, for class labels."""

from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from skmode._estimators.base import BaseMoDE
from skmode._training.evaluation import all_experts, to_probabilities
from skmode.nn import CrossEntropy


class MoDEClassifier(ClassifierMixin, BaseMoDE):
    """Mixture of experts with mutual distillation, for classification.

    A gate weighs `n_experts` small networks for each row, and a distillation loss makes each of
    them good enough to answer alone (MoDE, arXiv 2402.00893). With ``inference="top_expert"``
    only the best one of a row is computed, and that is what :func:`skmode.onnx.export` ships.

    Numbers may be raw: they are scaled inside, robustly, and missing values are allowed in every
    column. They are read as float32.

    Parameters
    ----------
    n_experts : int, default=4
        Number of experts.
    alpha : float or "auto", default=1.0
        Weight of the mutual distillation among the experts. 0 is a plain mixture of experts; the
        larger it is, the more alike the experts become. ``"auto"``: trains with 1 and with 10 and
        keeps what has the lower validation loss; 1 without validation rows. The first fit
        decides, later calls keep `alpha_`.
    distillation : {"mean", "pairwise"}, default="mean"
        Form of the distillation loss, see :func:`skmode.nn.distillation_loss`.
    mixing : {"representation", "likelihood", "expected"}, default="expected"
        How the experts make one prediction, see :class:`skmode.nn.MixtureOfExperts`.
        ``"representation"`` is the paper's.
    gate : {"dense", "sparse"}, default="dense"
        Whether all experts take part in every row or the `top_k` of the row only.
    top_k : int, default=2
        Experts per row of a sparse gate, from 1 to `n_experts`.
    gate_hidden_layer_sizes : array-like of int, default=()
        Widths of the gate's own hidden layers. Empty means a linear gate.
    gate_temperature : float, default=1.0
        Divides the gate's logits: above 1 the weights are more even.
    balance : float, default=0.01
        Weight of the load-balance loss, see :func:`skmode.nn.load_balance_loss`.
    hidden_layer_sizes : array-like of int, default=(64, 64)
        Widths of each expert's layers. The last is the representation that is distilled.
    activation : {"relu", "gelu", "silu", "tanh", "logistic", "identity"}, default="silu"
        Activation of experts and gate.
    dropout : float or "auto", default="auto"
        Probability of zeroing a hidden unit in training. ``"auto"``: 0 where one batch holds all
        rows (up to 128), 0.1 otherwise; the first fit decides.
    expert_module : callable or None, default=None
        Makes the experts, for which `hidden_layer_sizes`, `activation` and `dropout` then do not
        matter: called once per expert with `in_features`, the width of what the experts read, it
        returns a new :class:`torch.nn.Module` that maps `(n_samples, in_features)` to
        `(n_samples, width)`, the same width for all, each row by itself. The modules' own weights
        start from torch's random numbers, which `random_state` seeds. None: multilayer
        perceptrons. A class or function that can be imported keeps the estimator picklable.
    numeric_embedding : {"periodic_bias", "periodic", "piecewise_linear"} or None, \
default="periodic_bias"
        Embedding of each number after scaling. ``"periodic_bias"``: cosines of learned frequencies
        and phases, and the number itself (RealMLP's PBLD, arXiv 2407.04491); the others are those
        of arXiv 2203.05556. None: the scaled number.
    categorical_features : "from_dtype", array-like of bool, int or str, or None, \
default="from_dtype"
        Which columns are categories: ``"from_dtype"`` takes the string and categorical columns
        of a DataFrame and none of an array; otherwise a mask, positions or names. A category
        that training did not see is allowed at prediction and counts as unknown.
    inference : {"mixture", "top_expert"}, default="mixture"
        Whether predictions come from the whole mixture or from each row's top expert alone. It
        can be changed after fitting; early stopping watches the one that is set while fitting.
    optimizer : {"adamw", "adam", "sgd"} or type, default="adamw"
        Optimizer, or a class such as :class:`torch.optim.RAdam`.
    learning_rate : float, default=0.005
        Step size of the optimizer at its peak.
    learning_rate_schedule : {"constant", "cosine"}, default="cosine"
        ``"cosine"``: a short warm-up, then down to zero at `max_epochs`.
    weight_decay : float, default=0.01
        Weight decay of the optimizer.
    weight_averaging : float, default=0.99
        Decay of the exponential moving average of the weights, from 0 to below 1. Validation,
        early stopping and the result use the averages, training goes on from the raw weights. 0:
        no averages. `partial_fit` takes none.
    batch_size : "auto" or int, default="auto"
        Rows per step. ``"auto"``: all of them up to 128 rows, then the power of two next to a
        sixteenth of their number, from 32 to 256.
    max_epochs : int, default=60
        Passes over the training rows, at most.
    early_stopping : bool or "auto", default="auto"
        Whether to hold out validation rows, stop when their loss has not fallen for
        `n_iter_no_change` epochs, and keep the best weights. ``"auto"``: above 128 rows.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    n_iter_no_change : int, default=15
        Epochs without improvement before training stops.
    refit_fraction : float, default=0.3
        Where rows were held out, training goes on from the best weights with all rows, those
        included, for this share of the epochs that led there (at least two), while the learning
        rate falls to zero from what it was, a fifth of its peak at least. From 0, which leaves it
        out, to 1. It is left out by `partial_fit`, and after an interrupt by the user.
    calibration : {"temperature"} or None, default="temperature"
        Where rows were held out, divide the logits by the temperature that suits them best
        (temperature scaling, arXiv 1706.04599), held towards one where they are few. It is that
        of the best weights, before the refit. None leaves them as they were trained.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; ``"balanced"`` makes them inversely proportional to how often a
        class occurs.
    callbacks : list of skorch callbacks, default=None
        Further callbacks for the training loop, see :mod:`skorch.callbacks`. They find the losses
        of `history_` in ``net.history``; there are no datasets to score for them. At the end of
        an epoch they see the averaged weights. Of the refit those hear that look at gradients
        (to clip them, say), the others do not; ``alpha="auto"`` calls all in both trainings.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA if torch finds it.
    precision : {"auto", "float32", "float64", "bf16"}, default="auto"
        Arithmetic of the training. ``"auto"``: float64 where one batch holds all rows (up to
        128), which makes a fit independent of their order; float32 otherwise; the first fit
        decides. ``"bf16"``:
        float32 weights, bfloat16 products.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the validation split and the batches. torch's global random state
        stays untouched, and numpy's does unless this is None.
    warm_start : bool, default=False
        Whether `fit` continues from the last fit instead of starting anew. A pickle then holds
        the optimizer's state too.
    verbose : int, default=0
        Above 0: a progress bar over the epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is a :class:`skmode.nn.MixtureOfExperts`.
    alpha_ : float
        The `alpha` of the training.
    encoder_ : object
        What training saw of the columns: names, kinds, known categories, centres, scales and
        ranges.
    n_features_in_ : int
        Number of input columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if they are all strings.
    expert_usage_ : ndarray of shape (n_experts,)
        Share of the rows passed to `fit` that the gate sends to each expert, by weight.
    validation_scores_ : dict or None
        Accuracy of ``"mixture"`` and ``"top_expert"`` on the validation part, before the refit.
        None when no rows were held out.
    loss_curve_ : list of float
        Training loss per epoch, without those of the refit.
    history_ : list of dict
        Per epoch before the refit: ``train_loss`` and its parts ``task_loss``,
        ``distillation_loss``, ``balance_loss``; ``gate_entropy`` (nats), ``expert_usage`` and
        ``consistency`` (agreement among the experts) on the validation part, or on up to 512
        training rows without one; ``valid_loss`` and the losses and scores of mixture and top
        expert; ``dur`` (seconds).
    n_iter_ : int
        Number of epochs before the refit.
    refit_n_iter_ : int
        Number of epochs of the last call's refit, 0 where there was none.
    temperature_ : float
        What the last call divided the logits by; the weights of ``net_.module_.head`` have it in
        them. 1.0 where it held out no rows or `calibration` is None.

    See Also
    --------
    MoDERegressor : The same for real-valued targets.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893. Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991
    (likelihood mixing).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(random_state=0).fit(X, y)
    >>> classifier.predict_proba(X[:2]).shape
    (2, 3)
    >>> classifier.route(X).shape
    (150,)

    Experts of one's own, here gated linear units:

    >>> import torch
    >>> class GatedUnit(torch.nn.Module):
    ...     def __init__(self, in_features, width=32):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(in_features, 2 * width)
    ...
    ...     def forward(self, x):
    ...         return torch.nn.functional.glu(self.linear(x))
    >>> classifier = MoDEClassifier(expert_module=GatedUnit, random_state=0).fit(X, y)
    >>> classifier.net_.module_.experts
    ModuleExperts(...)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMoDE._parameter_constraints,
        "calibration": [StrOptions({"temperature"}), None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    _frequency_scale: ClassVar[float] = 0.1

    def __init__(
        self,
        n_experts=4,
        *,
        alpha=1.0,
        distillation="mean",
        mixing="expected",
        gate="dense",
        top_k=2,
        gate_hidden_layer_sizes=(),
        gate_temperature=1.0,
        balance=0.01,
        hidden_layer_sizes=(64, 64),
        activation="silu",
        dropout="auto",
        expert_module=None,
        numeric_embedding="periodic_bias",
        categorical_features="from_dtype",
        inference="mixture",
        optimizer="adamw",
        learning_rate=0.005,
        learning_rate_schedule="cosine",
        weight_decay=0.01,
        weight_averaging=0.99,
        batch_size="auto",
        max_epochs=60,
        early_stopping="auto",
        validation_fraction=0.1,
        n_iter_no_change=15,
        refit_fraction=0.3,
        calibration="temperature",
        class_weight=None,
        callbacks=None,
        device="auto",
        precision="auto",
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        self.n_experts = n_experts
        self.alpha = alpha
        self.distillation = distillation
        self.mixing = mixing
        self.gate = gate
        self.top_k = top_k
        self.gate_hidden_layer_sizes = gate_hidden_layer_sizes
        self.gate_temperature = gate_temperature
        self.balance = balance
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.expert_module = expert_module
        self.numeric_embedding = numeric_embedding
        self.categorical_features = categorical_features
        self.inference = inference
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.weight_averaging = weight_averaging
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.refit_fraction = refit_fraction
        self.calibration = calibration
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the mixture.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Training rows: real numbers, or a pandas or polars DataFrame with numeric, bool,
            string and categorical columns. NaN, None and empty strings are missing values.
        y : array-like of shape (n_samples,)
            Class labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; a weight of zero leaves a row out.

        Returns
        -------
        MoDEClassifier
            Itself.

        Raises
        ------
        ValueError
            If the input is malformed, or the training loss does not stay finite.
        """
        first = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, epochs=self.max_epochs, first=first)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch on some rows, without averages of the weights.

        The first call learns scales, categories and column types from its rows; make it a
        representative part of the data.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; read in the first call. None: those in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        MoDEClassifier
            Itself.

        Raises
        ------
        ValueError
            If `y` holds a label that the first call did not announce, or with
            ``class_weight="balanced"``, which needs all labels at once.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all labels at once, and partial_fit sees a part of '
                "them: pass class_weight as a dict, or sample_weight."
            )
        first = not hasattr(self, "net_")
        if first and classes is not None:
            self._announced_classes = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes must stay those of the first call, {self.classes_.tolist()}, got "
                f"{np.unique(classes).tolist()}: name all classes in the first call."
            )
        try:
            return self._fit(X, y, sample_weight, epochs=1, first=first, partial=True)
        finally:
            vars(self).pop("_announced_classes", None)

    def predict(self, X):
        """Predict the class of each row.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        probabilities = self.predict_proba(X)
        return self.classes_.take(probabilities.argmax(axis=1))

    def predict_proba(self, X):
        """Predict the probability of each class.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_classes)
            Probabilities, in the order of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, self._predictor)
        return to_probabilities(log_probabilities)

    def predict_log_proba(self, X):
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_classes)
            Logarithms of :meth:`predict_proba`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        return np.log(self.predict_proba(X))

    def expert_predict(self, X):
        """Predict the class of each row by every expert alone.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of shape (n_samples, n_experts)
            Class labels.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        probabilities = self.expert_predict_proba(X)
        return self.classes_.take(probabilities.argmax(axis=2))

    def expert_predict_proba(self, X):
        """Predict the probability of each class by every expert alone.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_experts, n_classes)
            Probabilities, in the order of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, all_experts)
        return to_probabilities(log_probabilities)

    def _check_target(self, y):
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _target_weight(self, y, sample_weight):
        if self.class_weight != "balanced":
            return compute_sample_weight(self.class_weight, y)
        _, position = np.unique(y, return_inverse=True)
        total = np.bincount(position, weights=sample_weight)
        return (total.mean() / total)[position]

    def _fit_target(self, y, sample_weight):
        self.classes_ = getattr(self, "_announced_classes", None)
        if self.classes_ is None:
            self.classes_ = np.unique(y)

    def _encode_target(self, y):
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y may only hold the classes of the first fit, {self.classes_.tolist()}, got "
                f"{unknown.tolist()[:10]} as well: name all classes in the first partial_fit, "
                "or fit anew with warm_start=False."
            )
        return np.searchsorted(self.classes_, y).astype(np.int64)

    @property
    def _n_outputs(self):
        return len(self.classes_)

    def _make_task_loss(self):
        return CrossEntropy()
