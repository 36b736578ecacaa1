"""A linear model of the tokens of texts, which is added to the prediction of each expert.

It is fitted alone, and then becomes a part of the network: further columns of the trunk's table,
whose sums pass through all layers. Networks with a linear part beside their layers are called wide
and deep (Cheng et al., arXiv 1606.07792); that each part is trained alone is ours.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from skmode._common.quiet import hide_warnings
from skmode._training.evaluation import Evaluated
from skmode._training.finish.calibration import (
    calibrated,
    fit_temperature,
    minimize_temperature,
)
from skmode._training.rows import Rows, block_rows
from skmode.nn import (
    CrossEntropy,
    MixedTrunk,
    MixtureOfExperts,
    MLPExperts,
    StackedLinear,
    TextTrunk,
)
from skmode.nn.trunks import TABLE_RATE

# Inverse strengths of the linear model's penalty that are tried; without validation rows, one.
STRENGTHS, MIDDLE_STRENGTH = (0.1, 0.3, 1.0, 3.0), 1.0
# A margin of 1 counts as logits of about so much: the median, and the spread of the logarithm, of
# the prior that keeps it there where rows are few. Texts of news have 4 to 8.
MARGIN, MARGIN_SPREAD, MARGIN_LIMIT = 6.0, 0.5, 2.5
# Each output makes every layer of the experts wider by two units, so "auto" takes no more.
MOST_OUTPUTS = 128
# f(x) - f(-x) in units of x, for the activations where that is a number.
PASSED: dict[type[nn.Module], float] = {nn.ReLU: 1, nn.SiLU: 1, nn.GELU: 1, nn.Identity: 2}


class Linear(NamedTuple):
    """A linear model of the tokens' weights.

    `strength` is the inverse of the penalty's strength, `share` the share in the predictions.
    Margins are multiplied by `margin`. `weight` has the shape `(n_tokens, n_outputs)`, `bias`
    `(n_outputs,)`; both are None before a fit.
    """

    strength: float
    share: float = 0.0
    margin: float = MARGIN
    weight: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None

    def predict(self, tokens: scipy.sparse.csr_array) -> NDArray[np.float64]:
        """Values or logits of texts, `(n_samples, n_outputs)`."""
        assert self.weight is not None
        values: NDArray[np.float64] = tokens @ self.weight + self.bias
        return values


def takes_linear(module: MixtureOfExperts) -> bool:
    """Whether a network adds up vectors of tokens, and its layers can pass sums on unchanged."""
    loss, experts = module.task_loss, module.experts
    fits = isinstance(loss, CrossEntropy) or loss.loss == "squared_error"
    passes = isinstance(experts, MLPExperts) and type(experts.activation) in PASSED
    return fits and passes and bool(text_parts(module.trunk))


def n_outputs(module: MixtureOfExperts) -> int:
    """Number of outputs of a network."""
    head = module.head
    assert isinstance(head, nn.Linear)
    return head.out_features


def choose_linear(
    module: MixtureOfExperts,
    train: Rows,
    valid: Rows,
    evaluated: Evaluated,
    shares: tuple[float, ...],
    *,
    calibrate: bool,
    top_expert: bool,
) -> tuple[Linear | None, Evaluated]:
    """Fit linear models to training rows, and choose one and its share by the validation rows.

    Returns it without its weights, and the evaluation of the validation rows with it; None and
    `evaluated`, that of the network alone, if this is best.
    """
    classifies = isinstance(module.task_loss, CrossEntropy)
    tokens, weight = token_weights(module, valid), _sample_weight(valid).to(evaluated.gate)
    X = token_weights(module, train)
    best, lowest = (Linear(0.0), evaluated), np.inf
    for strength in STRENGTHS:
        model = fit_linear(module, X, train, Linear(strength))
        values = torch.as_tensor(model.predict(tokens)).to(evaluated.prediction)
        model = model._replace(weight=None, bias=None)
        if classifies:
            factor = _fit_margin(module, values, valid.target, weight)
            model, values = model._replace(margin=factor * MARGIN), factor * values
        improves = False
        for share in shares:
            mixed = _with_values(module, evaluated, values, share)
            prediction = mixed.top() if top_expert else mixed.prediction
            if classifies and calibrate:
                temperature = fit_temperature(module, mixed, valid, top_expert=top_expert)
                prediction = calibrated(module, mixed, temperature, top_expert)
            loss = float(weight @ module.task_loss(prediction, valid.target))
            if loss < lowest:
                best, lowest, improves = (model._replace(share=share), mixed), loss, True
        if not improves:  # then a weaker penalty rarely does
            break
    return best if best[0].share else (None, evaluated)


def fit_linear(
    module: MixtureOfExperts, X: scipy.sparse.csr_array, rows: Rows, linear: Linear
) -> Linear:
    """Fit a linear SVM, or ridge regression, to the tokens' weights `X` of some rows."""
    weight = _sample_weight(rows).cpu().double().numpy()
    kept = weight > 0  # the solver leaves the others out, and then may miss a class
    X, y, weight = X[kept], rows.target.cpu().numpy()[kept], weight[kept]
    if not isinstance(module.task_loss, CrossEntropy):
        ridge = Ridge(1 / linear.strength).fit(X, y, weight)
        coef, bias = np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        return linear._replace(weight=coef.T, bias=bias)
    classes, n_classes = np.unique(y), n_outputs(module)
    # The margin of a class that the rows lack is that of another class, whatever the tokens are.
    weights, biases = np.zeros((X.shape[1], n_classes)), np.full(n_classes, -1.0)
    biases[classes] = 1.0
    if len(classes) > 1:
        # The dual solver draws random numbers, which the threads of a process share.
        model = LinearSVC(C=linear.strength, dual=False)
        with hide_warnings("Liblinear"):  # validation rows judge a fit that did not converge, too
            model.fit(X, y, weight)
        coef, intercept = model.coef_, model.intercept_
        if len(classes) == 2:  # one vector, that of the second
            coef, intercept = (np.concatenate([-each, each]) for each in (coef, intercept))
        weights[:, classes], biases[classes] = coef.T, intercept
    return linear._replace(weight=linear.margin * weights, bias=linear.margin * biases)


def _fit_margin(module: MixtureOfExperts, values: Tensor, target: Tensor, weight: Tensor) -> float:
    """The factor of the logits with the largest posterior density, as in `fit_temperature`."""

    def loss(temperature: float) -> float:
        prediction = module.task_loss.finalize(values / temperature)
        return float(weight @ module.task_loss(prediction, target))

    return 1 / minimize_temperature(loss, MARGIN_SPREAD, MARGIN_LIMIT)


def add_linear(module: MixtureOfExperts, linear: Linear) -> None:
    """Make the linear model a part of the network; each expert predicts the weighted mean of both.

    Each trunk of texts gets a column for each output, to which the gate gives no weight. Each layer
    of the experts gets two units for it, of which one passes on what is positive and one what is
    negative: the difference of such units is the sum that came in.
    """
    trunk, first, experts, head = module.trunk, module.gate.layers[0], module.experts, module.head
    assert isinstance(first, nn.Linear)
    assert isinstance(experts, MLPExperts)
    assert isinstance(head, nn.Linear)
    assert linear.weight is not None
    parts, n_more = text_parts(trunk), n_outputs(module)
    sizes = [len(part.trunk.idf) for part in parts]
    # Where the features are that there were, when each part has further ones at its end.
    features = torch.arange(first.in_features)
    ends = torch.tensor([part.end for part in parts])
    kept = features + n_more * torch.searchsorted(ends, features, right=True)
    same = torch.eye(n_more).to(head.weight)
    both = torch.cat([same, -same], dim=1)
    with torch.no_grad():
        for part, weight in zip(parts, np.split(linear.weight, np.cumsum(sizes)[:-1]), strict=True):
            columns = torch.as_tensor(weight / TABLE_RATE).to(part.trunk.table)
            _set(part.trunk, "table", torch.cat([part.trunk.table, columns], dim=1))
            part.trunk.out_features += n_more
        if isinstance(trunk, MixedTrunk):
            trunk.out_features += n_more * len(parts)
        first.in_features += n_more * len(parts)
        scores = first.weight.new_zeros(first.out_features, first.in_features)
        scores[:, kept.to(scores.device)] = first.weight
        _set(first, "weight", scores)
        passed = same.repeat(len(parts), 1)  # what a layer reads, as the sums that came in
        for layer in experts.layers:
            assert isinstance(layer, StackedLinear)
            _pass_on(layer, kept, passed @ both)
            kept = torch.arange(layer.weight.shape[2] - 2 * n_more)
            passed = both.T / PASSED[type(experts.activation)]
        experts.width += 2 * n_more
        share, bias = linear.share, torch.as_tensor(linear.bias).to(head.bias)
        _set(head, "weight", torch.cat([(1 - share) * head.weight, share * passed.T], dim=1))
        _set(head, "bias", (1 - share) * head.bias + share * bias)
        head.in_features += 2 * n_more
    module.linear_share = share


def _pass_on(layer: StackedLinear, kept: Tensor, passed: Tensor) -> None:
    """Let a layer of each expert read further numbers, and compute further ones from these.

    `kept` are the positions of the numbers that it read before.
    """
    (n_experts, n_before, width), (n_read, n_computed) = layer.weight.shape, passed.shape
    weight = passed.new_zeros(n_experts, n_before + n_read, width + n_computed)
    is_new = torch.ones(n_before + n_read, dtype=torch.bool)
    is_new[kept] = False
    weight[:, ~is_new, :width] = layer.weight
    weight[:, is_new, width:] = passed
    _set(layer, "weight", weight)
    _set(layer, "bias", nn.functional.pad(layer.bias, (0, n_computed)))


class Part(NamedTuple):
    """A trunk of texts, the position of its tokens in the inputs, and the end of its features."""

    trunk: TextTrunk
    first_input: int
    end: int


def text_parts(trunk: nn.Module) -> list[Part]:
    """The trunks of bags of tokens: the whole, or one for each column of texts in a table."""
    if type(trunk) is TextTrunk:  # a transformer, which is one, has layers between table and sum
        return [Part(trunk, 0, trunk.out_features)]
    parts: list[Part] = []
    if isinstance(trunk, MixedTrunk):
        end = 0 if trunk.table is None else trunk.table.out_features
        for i, text in enumerate(trunk.texts):
            assert isinstance(text, TextTrunk)
            end += text.out_features
            parts.append(Part(text, 2 + 2 * i, end))
    return parts


def token_weights(module: MixtureOfExperts, rows: Rows) -> scipy.sparse.csr_array:
    """Weight of each token in each text, `(n_samples, n_tokens)`; columns of texts side by side."""
    weights = []
    for trunk, i, _ in text_parts(module.trunk):
        data, tokens, lengths = [], [], []
        with torch.inference_mode():
            for block in rows.batches(block_rows(rows, rows.device), shuffle=False):
                pair = block.inputs[i], block.inputs[i + 1]
                known = pair[1] > 0
                data.append(trunk.token_weights(*pair)[known].cpu().double())
                tokens.append(pair[0][known].cpu())
                lengths.append(known.sum(dim=1).cpu())
        ends = np.concatenate([[0], torch.cat(lengths).cumsum(0).numpy()])
        indices, values = torch.cat(tokens).numpy(), torch.cat(data).numpy()
        shape = len(rows), len(trunk.idf)
        weights.append(scipy.sparse.csr_array((values, indices, ends), shape=shape))
    joined = scipy.sparse.hstack(weights, format="csr")
    # scikit-learn's solver takes indices of 32 bits alone.
    joined.indices, joined.indptr = joined.indices.astype(np.int32), joined.indptr.astype(np.int32)
    return joined


def _sample_weight(rows: Rows) -> Tensor:
    if rows.sample_weight is not None:
        return rows.sample_weight
    return torch.ones(len(rows), device=rows.device)


def _with_values(
    module: MixtureOfExperts, evaluated: Evaluated, values: Tensor, share: float
) -> Evaluated:
    """The evaluation of the network that `add_linear` makes."""
    if not share:
        return evaluated
    finalize, (gate, outputs, prediction) = module.task_loss.finalize, evaluated
    outputs = finalize((1 - share) * outputs + share * values.unsqueeze(1))
    if isinstance(module.task_loss, CrossEntropy) and module.mixing != "representation":
        prediction = (gate.log().unsqueeze(2) + outputs).logsumexp(dim=1)
    else:
        prediction = finalize((1 - share) * prediction + share * values)
    return Evaluated(gate, outputs, prediction)


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter by one of another shape."""
    trainable = module.get_parameter(name).requires_grad
    setattr(module, name, nn.Parameter(value, trainable))
