"""Which tokens of texts gate and experts look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from numpy.typing import NDArray

from skmode.inspection._attention.gradients import (
    Attributions,
    completeness_error,
    integrate,
    scalar_functions,
    unit_and_scale,
    warn_of_errors,
)
from skmode.inspection._evaluation import mixtures

Array = NDArray[Any]

# Texts that are differentiated at once, and tokens of a transformer, which keeps much of each.
BLOCK_TEXTS, BLOCK_TOKENS = 256, 2**13
# Tokens in the result of `expert_attention`: those with the largest attributions.
N_TOKENS = 30


@dataclass(frozen=True, repr=False, eq=False)
class ExpertTokens:
    """Result of :func:`expert_tokens`.

    Attributes
    ----------
    attributions : DataFrame
        A row for each distinct token of each text, or for each token if the text encoder is a
        transformer, with the columns ``text`` (its position),
        ``token``, ``count``, ``expert`` (what the token adds to the output of the text's top
        expert) and ``gate`` (what it adds to the gate's weight of that expert).
    route : ndarray of int64 of shape (n_samples,)
        The top expert of each text.
    gate_weight : ndarray of float64 of shape (n_samples,)
        Its gate weight.
    predictions : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        What the top expert predicts alone.
    n_experts : int
        Number of experts.
    unit : str
        Unit of the experts' attributions.
    completeness_error : float
        The attributions of a text should sum to the expert's output minus its output for an empty
        text. This is the largest error of that sum over the texts, in `unit`.
    gate_completeness_error : float
        The same for the gate's weight.
    """

    attributions: pd.DataFrame
    route: Array
    gate_weight: Array
    predictions: Array
    n_experts: int
    unit: str
    completeness_error: float
    gate_completeness_error: float

    def __repr__(self) -> str:
        counts = np.bincount(self.route, minlength=self.n_experts).tolist()
        return f"<ExpertTokens of {len(self.route)} texts, per expert: {counts}>"

    def by_expert(self, n_tokens: int = 10) -> pd.DataFrame:
        """Find the tokens that each expert and the gate look at most.

        Parameters
        ----------
        n_tokens : int, default=10
            Number of tokens for each.

        Returns
        -------
        tokens : DataFrame
            Rows by expert, counted from 0, then those of ``"gate"``; within each the most important
            token first. ``importance`` is the sum of the absolute attributions over the texts, by
            the number of the expert's texts; ``adds`` is the same with signs; ``n_texts`` is the
            number of texts with the token.
        """
        owner = self.route[self.attributions["text"]]
        parts: dict[Any, tuple[pd.DataFrame, str, int]] = {
            expert: (
                self.attributions[owner == expert],
                "expert",
                int((self.route == expert).sum()),
            )
            for expert in range(self.n_experts)
        }
        parts |= {"gate": (self.attributions, "gate", len(self.route))}
        found = [
            _largest(table, column, n_texts, n_tokens).assign(expert=who)
            for who, (table, column, n_texts) in parts.items()
        ]
        joined = pd.concat(found).reset_index()
        return joined[["expert", "token", "importance", "adds", "n_texts"]]


def _largest(table: pd.DataFrame, column: str, n_texts: int, n_tokens: int) -> pd.DataFrame:
    """Sum attributions by token, and keep the largest."""
    values = pd.DataFrame(
        {
            "token": table["token"],
            "importance": table[column].abs() / max(n_texts, 1),
            "adds": table[column] / max(n_texts, 1),
            "n_texts": 1,
        }
    )
    sums = values.groupby("token", sort=True).sum()
    return sums.sort_values("importance", ascending=False, kind="stable").head(n_tokens)


def expert_tokens(estimator: Any, X: Any, *, n_steps: int = 32) -> ExpertTokens:
    """Find the tokens that the top expert of each text and the gate look at.

    The gradients of an output are integrated along the straight line from an empty text to the text
    (integrated gradients), with respect to the TF-IDF weights of its tokens. The output of an
    expert is the probability of the class that it predicts, or the value that it predicts; that of
    the gate is the weight of the expert that it chooses. The attributions of a text sum to its
    output minus that of an empty text, up to an error that shrinks with `n_steps`.

    With ``text_encoder="transformer"`` the weights are those in the sum behind the transformer:
    what a token adds includes what it has learned of the tokens around it.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDETextClassifier` or :class:`skmode.MoDETextRegressor`, or a
        Pipeline or search that ends with one.
    X : list, array or Series of str, of length n_samples
        Texts, preferably unseen in training.
    n_steps : int, default=32
        Points on the line from the empty text (Gauss-Legendre quadrature).

    Returns
    -------
    tokens : ExpertTokens
        What each token adds, for the top expert and for the gate.

    Raises
    ------
    TypeError
        If there is no mixture of texts in `estimator`.

    Warns
    -----
    UserWarning
        If a completeness error is above 0.05: of a probability, of a gate's weight, or of a
        standard deviation of the target.

    See Also
    --------
    skmode.inspection.typical_texts : The texts of which the gate is surest.
    skmode.inspection.expert_attention : Importances of the most important tokens.

    References
    ----------
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> from skmode import MoDETextClassifier
    >>> from skmode.inspection import expert_tokens
    >>> texts = ["a fine film", "a dull film", "fine actors", "dull actors"] * 10
    >>> classifier = MoDETextClassifier(n_experts=1, random_state=0)
    >>> classifier = classifier.fit(texts, ["good", "bad", "good", "bad"] * 10)
    >>> expert_tokens(classifier, texts[:4]).by_expert(2).token.head(2).sort_values().tolist()
    ['dull', 'fine']
    """
    if not isinstance(n_steps, int | np.integer) or n_steps < 1:
        raise ValueError(
            f"n_steps must be a whole number of at least 1, got {n_steps!r}: correct it."
        )
    mixture, rows = mixtures.unwrap(estimator, X)
    if not mixtures.reads_texts(mixture):
        raise TypeError(
            f"Tokens are those of models of texts, got {type(mixture).__name__}: use "
            "expert_attention."
        )
    found = measure_tokens(mixture, rows, n_steps)
    unit, scale = unit_and_scale(mixture)
    errors = found.completeness_error, found.gate_completeness_error
    warn_of_errors(*errors, unit, scale, n_steps, stacklevel=3)
    return found


def measure_tokens(mixture: Any, texts: Any, n_steps: int) -> ExpertTokens:
    """Attribute the outputs of gate and top expert to tokens."""
    gate = np.asarray(mixture.gate_proba(texts))
    route = gate.argmax(axis=1)
    alone = np.asarray(mixture.expert_predict(texts))[np.arange(len(route)), route]
    module: Any = mixtures.find_network(mixture)
    device = module.head.weight.device.type
    tokens, counts = mixture.encoder_.read(texts)
    size = BLOCK_TEXTS
    if mixture.encoder_.in_order:
        size = int(np.clip(BLOCK_TOKENS // tokens.shape[1], 1, BLOCK_TEXTS))
    blocks = [slice(i, i + size) for i in range(0, len(route), size)]
    # Whatever modes the caller has set.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        found = [
            list(_attribute(mixture, module, tokens[one], counts[one], route[one], n_steps))
            for one in blocks
        ]
    (of_experts, experts_error), (of_gate, gate_error) = (
        [np.concatenate([block[part][i] for block in found]) for i in range(2)] for part in range(2)
    )
    known = counts > 0
    names = dict(zip(*_names(mixture, tokens[known]), strict=True))
    attributions = pd.DataFrame(
        {
            "text": np.nonzero(known)[0],
            "token": [names[token] for token in tokens[known].tolist()],
            "count": counts[known].astype(np.int64),
            "expert": of_experts[known],
            "gate": of_gate[known],
        }
    )
    return ExpertTokens(
        attributions,
        route,
        gate.max(axis=1),
        alone,
        gate.shape[1],
        unit_and_scale(mixture)[0],
        float(experts_error.max()),
        float(gate_error.max()),
    )


def _names(mixture: Any, tokens: Array) -> tuple[list[int], list[str]]:
    different: list[int] = np.unique(tokens).tolist()
    return different, mixture.encoder_.token_texts(different)


def _attribute(
    mixture: Any, module: Any, tokens: Array, counts: Array, route: Array, n_steps: int
) -> Iterator[tuple[Array, Array]]:
    """Yield attributions and errors of some texts: for their top experts, then for the gate."""
    trunk, weight = module.trunk, module.head.weight
    ids = torch.as_tensor(tokens, device=weight.device)
    times = torch.as_tensor(counts, device=weight.device, dtype=weight.dtype)
    known = times > 0
    with torch.no_grad():
        weights = trunk.token_weights(ids, times)
        features = trunk.features(ids, weights, known)
    chosen = torch.as_tensor(route, device=weight.device)
    for function in scalar_functions(mixture, module, features, chosen):

        def of_weights(at: torch.Tensor, function: Any = function) -> torch.Tensor:
            return function(trunk.features(ids, at, known))  # type: ignore[no-any-return]

        empty = torch.zeros_like(weights[:1])
        attributions = integrate(of_weights, weights, empty, n_steps)
        error = completeness_error(of_weights, weights, empty, attributions)
        yield attributions.double().cpu().numpy(), error


def attribute_tokens(mixture: Any, texts: Any, n_steps: int) -> tuple[Attributions, list[str]]:
    """Attribute outputs to the tokens that matter most, and name these."""
    found = measure_tokens(mixture, texts, n_steps)
    names = important_tokens(found)
    table = found.attributions[found.attributions["token"].isin(names)]
    column = pd.Index(names).get_indexer(table["token"])
    parts = []
    for part in ("expert", "gate"):
        values = np.zeros((len(found.route), len(names)))
        np.add.at(values, (table["text"].to_numpy(), column), table[part].to_numpy())
        parts.append(values)
    errors = (
        np.full(len(found.route), each)
        for each in (found.completeness_error, found.gate_completeness_error)
    )
    return Attributions(parts[0], parts[1], found.route, *errors), names


def important_tokens(found: ExpertTokens, n_tokens: int = N_TOKENS) -> list[str]:
    """Name the tokens with the largest absolute attributions, to experts and gate together."""
    table = found.attributions
    sizes = table["expert"].abs() / max(table["expert"].abs().sum(), 1e-300)
    sizes += table["gate"].abs() / max(table["gate"].abs().sum(), 1e-300)
    sums = sizes.groupby(table["token"], sort=True).sum()
    names: list[str] = sums.sort_values(ascending=False, kind="stable").index.tolist()
    return names[:n_tokens]


class ShuffledTokens:
    """The network on texts with one token shuffled among them: text i gets that of another.

    Only the texts that win or lose the token are computed again.
    """

    def __init__(self, mixture: Any, texts: Any, domain: Array, n_steps: int = 8) -> None:
        self._mixture, self._domain = mixture, domain
        self._module: Any = mixtures.find_network(mixture)
        self.names = important_tokens(measure_tokens(mixture, texts, n_steps))
        tokens, counts = mixture.encoder_.read(texts)
        known = counts > 0
        of_name: dict[str, list[int]] = {name: [] for name in self.names}
        for token, name in zip(*_names(mixture, tokens[known]), strict=True):
            if name in of_name:
                of_name[name].append(token)
        self._tokens = [of_name[name] for name in self.names]
        kept = _InOrder if mixture.encoder_.in_order else _Bags
        self._texts: _Bags | _InOrder = kept(tokens, counts, mixture.encoder_.n_tokens_)
        self._routes, self._own = self._compute(tokens, counts, domain)

    def select(self, feature: int) -> None:
        """Choose the token to shuffle."""
        self._feature = feature

    def own_predictions(self, order: Array) -> Array:
        """Return the prediction of each text's own expert: positions of classes, or values."""
        changed, tokens, counts = self._texts.shuffled(self._tokens[self._feature], order)
        found = self._own.copy()
        if len(changed):
            found[changed] = self._compute(tokens, counts, self._domain[changed])[1]
        return found

    def routes(self, order: Array) -> Array:
        """Return the expert that the gate chooses for each text."""
        changed, tokens, counts = self._texts.shuffled(self._tokens[self._feature], order)
        found = self._routes.copy()
        if len(changed):
            found[changed] = self._compute(tokens, counts, self._domain[changed])[0]
        return found

    def _compute(self, tokens: Array, counts: Array, domain: Array) -> tuple[Array, Array]:
        """Return routes, and the predictions of the experts in `domain`."""
        weight = self._module.head.weight
        ids = torch.as_tensor(tokens.astype(np.int64), device=weight.device)
        times = torch.as_tensor(counts, device=weight.device, dtype=weight.dtype)
        with torch.inference_mode():
            output = self._module(ids, times, all_experts=True)
        route = output.gate_probabilities.argmax(dim=1).cpu().numpy()
        own = output.expert_outputs.double().cpu().numpy()[np.arange(len(domain)), domain]
        if hasattr(self._mixture, "classes_"):
            return route, own.argmax(axis=1)
        return route, own * self._mixture.target_scale_ + self._mixture.target_mean_


class _Bags:
    """Texts as counts of different tokens."""

    def __init__(self, tokens: Array, counts: Array, n_tokens: int) -> None:
        known = counts > 0
        rows = np.nonzero(known)[0]
        shape = len(tokens), n_tokens
        self._counts = scipy.sparse.csc_array((counts[known], (rows, tokens[known])), shape=shape)

    def shuffled(self, tokens: list[int], order: Array) -> tuple[Array, Array, Array]:
        """Return the positions of the texts that change, and the tokens and counts of these."""
        before = self._counts[:, tokens].toarray()
        changed = np.flatnonzero((before != before[order]).any(axis=1))
        counts = self._counts[changed].tolil()
        counts[:, tokens] = before[order][changed]
        counts = counts.tocsr()
        filled = _filled(np.diff(counts.indptr))
        ids, times = np.zeros(filled.shape, np.int64), np.zeros(filled.shape)
        ids[filled], times[filled] = counts.indices, counts.data
        return changed, ids, times


class _InOrder:
    """Texts as tokens in their order: a text loses a token wherever it is, and wins it at its end.

    The other tokens move up, and of a text that becomes too long the end is left out.
    """

    def __init__(self, tokens: Array, counts: Array, n_tokens: int) -> None:
        self._texts = [row[known].tolist() for row, known in zip(tokens, counts > 0, strict=True)]
        self._longest = tokens.shape[1]

    def shuffled(self, tokens: list[int], order: Array) -> tuple[Array, Array, Array]:
        """Return the positions of the texts that change, and the tokens and counts of these."""
        chosen = set(tokens)
        own = [[token for token in text if token in chosen] for text in self._texts]
        changed = np.flatnonzero([own[i] != own[j] for i, j in enumerate(order)])
        texts = []
        for i in changed:
            others = [token for token in self._texts[i] if token not in chosen]
            texts.append((others + own[order[i]])[: self._longest])
        filled = _filled(np.array(list(map(len, texts)), dtype=np.int64))
        ids = np.zeros(filled.shape, np.int64)
        ids[filled] = [token for text in texts for token in text]
        return changed, ids, filled.astype(np.float64)


def _filled(lengths: Array) -> Array:
    """Tell which cells rows of some lengths fill."""
    filled: Array = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    return filled


def typical_texts(estimator: Any, X: Any, n_texts: int = 6) -> list[Array]:
    """Find the texts of which the gate is surest, for each expert.

    Parameters
    ----------
    estimator : object
        A fitted mixture, or a Pipeline or search that ends with one.
    X : list, array or Series of str, of length n_samples
        Texts.
    n_texts : int, default=6
        Texts of each expert, at most.

    Returns
    -------
    positions : list of ndarray of int64
        For each expert the positions in `X` of the texts with its largest gate weights, among those
        that the gate sends to it; the surest one first.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`.

    See Also
    --------
    skmode.inspection.expert_tokens : The tokens that experts and gate look at.

    Examples
    --------
    >>> from skmode import MoDETextClassifier
    >>> from skmode.inspection import typical_texts
    >>> texts = ["a fine film", "a dull film", "fine actors", "dull actors"] * 10
    >>> classifier = MoDETextClassifier(n_experts=1, random_state=0)
    >>> classifier = classifier.fit(texts, ["good", "bad", "good", "bad"] * 10)
    >>> [len(positions) for positions in typical_texts(classifier, texts)]
    [6]
    """
    return mixtures.typical_rows(estimator, X, n_texts)
