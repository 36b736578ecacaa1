"""MoDERegressor: a mixture of distilled experts by scikit-learn's rules, for real values."""

from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions

from skmode._estimators.base import BaseMoDE
from skmode._training.evaluation import all_experts
from skmode.nn import RegressionLoss

# Beyond it the variance of the target overflows, and so would a float32 prediction.
MAX_TARGET = 1e38


class MoDERegressor(RegressorMixin, BaseMoDE):
    """Mixture of experts with mutual distillation, for regression.

    A gate weighs `n_experts` small networks for each row, and a distillation loss makes each of
    them good enough to answer alone (MoDE, arXiv 2402.00893). With ``inference="top_expert"``
    only the best one of a row is computed, and that is what :func:`skmode.onnx.export` ships.

    Numbers and targets may be raw: they are scaled inside, and missing values are allowed in
    every column. Columns are read as float32.

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
    activation : {"relu", "gelu", "silu", "tanh", "logistic", "identity"}, default="relu"
        Activation of experts and gate.
    dropout : float or "auto", default=0.0
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
default="periodic"
        Embedding of each number after scaling. ``"periodic_bias"``: cosines of learned frequencies
        and phases, and the number itself (RealMLP's PBLD, arXiv 2407.04491); the others are those
        of arXiv 2203.05556. None: the scaled number.
    categorical_features : "from_dtype", array-like of bool, int or str, or None, \
default="from_dtype"
        Which columns are categories: ``"from_dtype"`` takes the string and categorical columns
        of a DataFrame and none of an array; otherwise a mask, positions or names. A category
        that training did not see is allowed at prediction and counts as unknown.
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, default="squared_error"
        What to minimise. ``"huber"`` turns linear at one standard deviation of the target.
    quantile : float, default=0.5
        Level of ``loss="quantile"``.
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
    n_outputs_ : int
        Number of targets.
    target_mean_, target_scale_ : ndarray of shape (n_outputs_,)
        The network predicts ``(y - target_mean_) / target_scale_``.
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
        Coefficient of determination of ``"mixture"`` and ``"top_expert"`` on the validation
        part, before the refit. None when no rows were held out.
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

    See Also
    --------
    MoDEClassifier : The same for class labels.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893. Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991
    (likelihood mixing).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skmode import MoDERegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MoDERegressor(random_state=0).fit(X, y)
    >>> regressor.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseMoDE._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", "huber", "quantile"})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    # Values change faster with a number than classes do; see benchmarks/ablations.md.
    _frequency_scale: ClassVar[float] = 0.3

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
        activation="relu",
        dropout=0.0,
        expert_module=None,
        numeric_embedding="periodic",
        categorical_features="from_dtype",
        loss="squared_error",
        quantile=0.5,
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
        self.loss = loss
        self.quantile = quantile
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
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the mixture.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Training rows: real numbers, or a pandas or polars DataFrame with numeric, bool,
            string and categorical columns. NaN, None and empty strings are missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; a weight of zero leaves a row out.

        Returns
        -------
        MoDERegressor
            Itself.

        Raises
        ------
        ValueError
            If the input is malformed, or the training loss does not stay finite.
        """
        first = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, epochs=self.max_epochs, first=first)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch on some rows, without averages of the weights.

        The first call learns scales, categories and column types from its rows; make it a
        representative part of the data.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        MoDERegressor
            Itself.

        Raises
        ------
        ValueError
            If the number of targets is not that of the first call.
        """
        first = not hasattr(self, "net_")
        return self._fit(X, y, sample_weight, epochs=1, first=first, partial=True)

    def predict(self, X):
        """Predict the target of each row.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of float64 of shape (n_samples,) or (n_samples, n_outputs)
            Predicted values.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (scaled,) = self._evaluate(X, self._predictor)
        return self._unscale(scaled)

    def expert_predict(self, X):
        """Predict the target of each row by every expert alone.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows with the columns of training.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_experts) or (n_samples, n_experts, n_outputs)
            Predicted values.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (scaled,) = self._evaluate(X, all_experts)
        return self._unscale(scaled)

    def _unscale(self, scaled):
        values = scaled * self.target_scale_ + self.target_mean_
        return values[..., 0] if self._target_ndim == 1 else values

    def _check_target(self, y):
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if y.ndim > 2:
            raise ValueError(
                f"y must have one or two dimensions, got shape {y.shape}: one column per target."
            )
        return y

    def _fit_target(self, y, sample_weight):
        self._target_ndim = y.ndim
        y = y.reshape(len(y), -1)
        self.n_outputs_ = y.shape[1]
        largest = np.abs(y).max()
        if largest > MAX_TARGET:
            raise ValueError(
                f"y must lie within {MAX_TARGET:g} of zero, got {largest:g}: use a larger unit."
            )
        self.target_mean_ = np.average(y, axis=0, weights=sample_weight)
        deviation = np.average((y - self.target_mean_) ** 2, axis=0, weights=sample_weight) ** 0.5
        # Rounding in the mean leaves a constant target with a deviation just above zero.
        constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(self.target_mean_)
        self.target_scale_ = np.where(constant, 1.0, deviation)

    def _encode_target(self, y):
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y must have the {self.n_outputs_} target(s) of the first fit, got {y.shape[1]}: "
                "pass the same targets, or fit anew with warm_start=False."
            )
        return ((y - self.target_mean_) / self.target_scale_).astype(np.float64)

    @property
    def _n_outputs(self):
        return self.n_outputs_

    def _make_task_loss(self):
        return RegressionLoss(self.loss, self.quantile)
