"""The router in front of the experts: which domain a text is of, or none that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmode._common.notebooks.display import LinkedInNotebooks
from skmode.language.router.calibration import (
    PIECES,
    cut_lines,
    cut_pieces,
    fit_importance,
    fit_spread,
    fit_temperature,
)
from skmode.language.router.checks import check_parameters
from skmode.language.router.counting import HeldOut, Learner, Texts, check_iterable, read_pages
from skmode.language.router.growth import Growth
from skmode.language.router.ngrams import as_bytes
from skmode.language.router.segments import Segment, find_segments


class DomainRouter(Growth, ClassifierMixin, LinkedInNotebooks):
    """Tell the domain of texts by their byte n-grams, or abstain.

    **Features.** A text is its UTF-8 bytes, the first ``max_bytes`` of them, behind a line break.
    Each n-gram of one to three bytes is an integer below ``n_features_``: one byte a is a; two
    bytes a, b are 256 + 256 a + b; three bytes a, b, c are 65,792 + h, with h = ((65,536 a + 256 b
    + c) * 2,654,435,761 mod 2**32) // (2**32 / ``n_buckets``), which int64 holds without overflow.
    An n-gram with the integer of the one before it, of the same length, is left out, so that deep
    indentation weighs no more than any. N is the number of n-grams that are left.

    **Scores.** S_d is the sum of ``weights_[g, d]`` over the n-grams g of the text, each as often
    as it occurs, in float64. The logit of domain d is S_d / ``temperature_`` + ``bias_[d]`` for
    naive Bayes and S_d / sqrt(N) + ``bias_[d]`` for logistic regression. The probabilities are the
    softmax of the logits over the domains.

    **Naive Bayes.** ``weights_[g, d]`` is ``importance_[g] * log_proba_[g, d]``, and the latter
    log((c + ``smoothing``) / (C + ``smoothing`` V)): c counts g in the domain's texts, C all
    n-grams of g's length, V the features of that length. So a domain is one column, which the texts
    of the others do not change. The importance of an n-gram is the same in all domains. It is
    learned in ``fit``, so that lines that were not counted are told apart well, and stays near 1; a
    domain that is added uses it as it is. ``bias_`` is zero: the domains are taken as equally
    frequent. Neighbouring n-grams overlap, so the plain sum would be far too sure; ``temperature_``
    makes the probabilities right.

    **Logistic regression.** Each line of the texts is a row of counts divided by sqrt(N).

    **Abstention.** The prediction is None where :meth:`confidence` is below ``threshold_``. With
    ``abstain="probability"`` the confidence is the largest probability, and the threshold is what
    the share ``abstained`` of held-out texts does not reach. With ``abstain="likelihood"`` the
    confidence says how typical the text is of the most probable domain d: (P_d / N - m) / sqrt(a +
    b / L), where P_d is the sum of ``log_proba_[g, d]`` over the n-grams, and the row
    ``typical_[d]`` = (m, a, b) has the median and the spread on held-out texts of d, such that the
    share ``abstained`` of them is below the threshold, -1. Another language is unlikely under each
    domain, even if one of them is the least unlikely by far.

    Texts longer than ``max_bytes`` are read as several pages. Half of the pages, whole texts if
    they are not long, but at most 2,000 of each domain, are held out. Half of these are for
    ``importance_``, by at most 10,000 lines, with their indentation, without it, or as comments;
    and half for ``temperature_``, ``typical_`` and ``threshold_``, cut to pieces of 12 bytes up to
    their length, at least 200 of each domain for ``temperature_``.
    Naive Bayes counts them afterwards. The first 20 pages of a domain are held out in any case. If
    that leaves fewer than ten pages of a domain, all of its pages are counted, naive Bayes judges
    each by the counts without it, and in ``fit`` the importance is 1.

    Parameters
    ----------
    method : {"naive_bayes", "logistic"}, default="naive_bayes"
        The classifier. Only naive Bayes can add a domain without the texts of the others.
    n_buckets : int, default=65536
        The number of features for n-grams of three bytes, a power of two.
    smoothing : float, default=0.1
        What naive Bayes adds to each count.
    C : float, default=10.0
        The inverse of the regularization of logistic regression.
    abstain : {"likelihood", "probability"} or None, default="likelihood"
        When to predict None. Logistic regression knows no likelihood, and takes the
        probability instead. With None each text gets a domain.
    abstained : float, default=0.01
        The share of texts of the known domains that may go without a prediction.
    max_bytes : int, default=4096
        The number of bytes of a text that a prediction reads.
    random_state : int, RandomState instance or None, default=None
        Chooses the texts that are held out, and their pieces.

    Attributes
    ----------
    classes_ : ndarray of shape (n_domains,)
        The domains' names, sorted, as scikit-learn's scorers take columns to be; then those that
        were added, in the order of adding.
    domains_ : list of str
        The same as a list.
    weights_ : ndarray of shape (n_features, n_domains)
        The weight of each n-gram, float32.
    bias_ : ndarray of shape (n_domains,)
        The bias of each domain, float32.
    log_proba_ : ndarray of shape (n_features, n_domains)
        The log probabilities of naive Bayes, float32.
    importance_ : ndarray of shape (n_features,)
        The factor of each n-gram in naive Bayes's weights, float32.
    temperature_ : float
        The divisor of naive Bayes's sums.
    typical_ : ndarray of shape (n_domains, 3)
        For each domain the median log likelihood of an n-gram and its spread, (m, a, b). Zeros for
        logistic regression.
    threshold_ : float
        The least confidence of a prediction: -1 for likelihoods, minus infinity with
        ``abstain=None``.
    ngram_range : tuple of int
        The lengths of the n-grams: (1, 3).
    n_features_ : int
        The number of features.

    Examples
    --------
    >>> from skmode.language import DomainRouter
    >>> texts = ["the cat sat on the mat and the dog", "le chat est sur la table avec le chien"]
    >>> router = DomainRouter(abstain=None).fit(texts, ["en", "fr"])
    >>> router.predict(["the dog and the cat", "le chien est la"]).tolist()
    ['en', 'fr']
    >>> router.add_domain("de", ["die Katze und der Hund sind auf dem Tisch"]).domains_
    ['en', 'fr', 'de']
    """

    ngram_range = (1, 3)
    _public_module = "skmode.language"

    def __init__(
        self,
        method: Literal["naive_bayes", "logistic"] = "naive_bayes",
        *,
        n_buckets: int = 65536,
        smoothing: float = 0.1,
        C: float = 10.0,
        abstain: Literal["likelihood", "probability"] | None = "likelihood",
        abstained: float = 0.01,
        max_bytes: int = 4096,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_buckets = n_buckets
        self.smoothing = smoothing
        self.C = C
        self.abstain = abstain
        self.abstained = abstained
        self.max_bytes = max_bytes
        self.random_state = random_state

    def fit(self, texts: Texts, domains: Iterable[str]) -> DomainRouter:
        """Learn the domains of texts.

        Parameters
        ----------
        texts : iterable of str or bytes
            The texts, read once. Naive Bayes keeps none but those held out.
        domains : iterable of str
            The domain of each text; at least two different ones.

        Returns
        -------
        self : DomainRouter
            The fitted router.
        """
        check_parameters(self)
        rng = check_random_state(self.random_state)
        kept, held = self._learner(self.n_buckets), HeldOut(rng)
        for content, domain, number in read_pages(texts, domains, self.max_bytes):
            if not held.takes(content, domain, number):
                kept.add(content, domain)
        names = list(dict.fromkeys([*held.names, *kept.names]))
        if len(names) < 2:
            raise ValueError(
                f"A router needs texts of at least two domains, got {names}: add texts of another."
            )
        held.settle(kept)
        self._begin(names)
        self._learn(kept)
        if self.method == "naive_bayes" and not held.shared:
            self._weigh(held, rng)
        self._calibrate(held, kept, rng)
        if self.method == "naive_bayes":
            for name, contents in held.apart().items():
                kept.extend(contents, name)
            self._learn(kept)
        self._sort()
        return self

    def predict(self, texts: Texts) -> NDArray[np.object_]:
        """Return the domain of each text, or None.

        Parameters
        ----------
        texts : iterable of str or bytes
            The texts.

        Returns
        -------
        domains : ndarray of shape (n_texts,)
            The names, of dtype object; None where the router abstains.
        """
        proba, confidence = self._predict(texts)
        best: NDArray[np.object_] = np.array(self.domains_, object)[proba.argmax(1)]
        best[confidence < self.threshold_] = None
        return best

    def predict_proba(self, texts: Texts) -> NDArray[np.float64]:
        """Return the probability of each domain, whether or not the router abstains.

        Parameters
        ----------
        texts : iterable of str or bytes
            The texts.

        Returns
        -------
        probabilities : ndarray of shape (n_texts, n_domains)
            The probabilities, in the order of ``domains_``.
        """
        return self._predict(texts)[0]

    def confidence(self, texts: Texts) -> NDArray[np.float64]:
        """Return what is compared with ``threshold_``.

        Parameters
        ----------
        texts : iterable of str or bytes
            The texts.

        Returns
        -------
        confidence : ndarray of shape (n_texts,)
            The largest probability, or how typical a text is of the most probable domain.
        """
        return self._predict(texts)[1]

    def score(self, texts: Texts, domains: Sequence[str], sample_weight: Any = None) -> float:
        """Return the share of texts that get their domain; an abstention counts as wrong.

        Parameters
        ----------
        texts : iterable of str or bytes
            The texts.
        domains : sequence of str
            The true domain of each.
        sample_weight : array-like of shape (n_texts,), default=None
            The weight of each text.

        Returns
        -------
        accuracy : float
            The share.
        """
        found, names = self.predict(texts), list(domains)
        if len(names) != len(found):
            raise ValueError(
                f"Each text needs a domain, got {len(names)} domains for {len(found)} texts: pass "
                "as many."
            )
        if not names:
            raise ValueError("A score needs texts, got none: pass some with their domains.")
        right = found == np.array([*names, None], object)[:-1]  # one dimension, whatever they are
        return float(np.average(right, weights=sample_weight))

    def route_segments(self, text: str) -> list[Segment]:
        """Route the parts of a text one by one: its lines, and comments apart from the code.

        A segment is a line without its indentation and without the mark of a comment or a
        quotation (such as ``#``, ``//``, ``*`` and ``>``). Blank lines are left out.

        A comment behind code is a segment of its own. It begins at ``#`` or ``//`` between spaces,
        outside quotes, behind what has the look of code: an assignment, a call, a bracket or a
        semicolon at its end, a colon behind a keyword, or for ``#`` two spaces. A text has one of
        both marks: ``//`` if more comments begin with it beyond doubt, else ``#``, so that Python's
        division is none. In doubt a line is one segment; strings of several lines are read
        as lines.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        segments : list of Segment
            The segments with their places and their domains.
        """
        as_bytes(text)
        places = find_segments(text)
        if not places:
            return []
        names: list[str | None] = self.predict([text[i:j] for i, j in places]).tolist()
        return [Segment(text[i:j], i, j, name) for (i, j), name in zip(places, names, strict=True)]

    def _begin(self, names: list[str]) -> None:
        """Set what does not depend on the texts."""
        self._name(names)
        self.n_features_ = 256 + 65536 + int(self.n_buckets)
        self.bias_ = np.zeros(len(names), np.float32)
        self.temperature_, self.threshold_ = 1.0, -np.inf
        self.importance_ = np.ones(self.n_features_, np.float32)
        self.typical_ = np.zeros((len(names), 3))

    def _learn(self, kept: Learner) -> None:
        """Set the weights."""
        if self.method == "naive_bayes":
            columns = [kept.log_proba(name) for name in self.domains_]
            self.log_proba_ = np.stack(columns, axis=1)
            self.weights_ = self.importance_[:, None] * self.log_proba_
            return
        rows, target = kept.rows(self.domains_)
        model = LogisticRegression(C=self.C, max_iter=300).fit(rows, target)
        weights, bias = model.coef_.T, model.intercept_
        if len(self.domains_) == 2:  # scikit-learn has one column for two classes
            weights, bias = np.hstack([-weights / 2, weights / 2]), np.append(-bias / 2, bias / 2)
        self.weights_, self.bias_ = weights.astype(np.float32), bias.astype(np.float32)

    def _weigh(self, held: HeldOut, rng: np.random.RandomState) -> None:
        """Learn the importance of n-grams on half of what is held out."""
        lines = [cut_lines(held.for_importance(name), rng) for name in self.domains_]
        target = np.repeat(np.arange(len(lines)), [len(own) for own in lines])
        flat = [line for own in lines for line in own]
        self.importance_ = fit_importance(flat, target, self.log_proba_)
        self.weights_ = self.importance_[:, None] * self.log_proba_

    def _calibrate(self, held: HeldOut, kept: Learner, rng: np.random.RandomState) -> None:
        """Set temperature, typical likelihoods and threshold on texts that were not counted."""
        pages = [held.for_calibration(name) for name in self.domains_]
        pieces = [cut_pieces(own, self.max_bytes, rng) for own in pages]
        for texts, cut in zip(pages, pieces, strict=True):
            cut += cut_pieces(texts * ((PIECES - 1) // len(texts)), self.max_bytes, rng)
        target = np.repeat(np.arange(len(pieces)), [len(own) for own in pieces])
        flat = [piece for own in pieces for piece in own]
        sums, n_ngrams, n_bytes = self._sums(flat)
        if self.method == "naive_bayes":
            likelihoods = self._sums(flat, self.log_proba_)[0]
            for at in map(self.domains_.index, held.shared):
                # Importance is 1 where pages are shared, so these sums are both.
                without = self._without(kept, self.domains_[at], held, pieces[at])
                sums[target == at, at] = likelihoods[target == at, at] = without
            self.temperature_ = fit_temperature(sums, target)
            means = likelihoods / n_ngrams[:, None]
            for at in range(len(self.domains_)):
                # One piece of each page, as the spread is that between pages.
                own = np.flatnonzero(target == at)[: len(pages[at])]
                spread = fit_spread(means[own, at], n_bytes[own], self.abstained)
                self.typical_[at] = spread
        if self.abstain == "likelihood" and self.method == "naive_bayes":
            self.threshold_ = -1.0
        elif self.abstain is not None:
            best = self._proba(sums, n_ngrams).max(1)
            self.threshold_ = float(np.quantile(best, self.abstained, method="lower"))

    def _predict(self, texts: Texts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return probabilities and confidence."""
        check_is_fitted(self)
        check_iterable(texts)
        contents = [as_bytes(text, at)[: self.max_bytes] for at, text in enumerate(texts)]
        sums, n_ngrams, n_bytes = self._sums(contents)
        proba = self._proba(sums, n_ngrams)
        if self.method == "logistic" or self.abstain == "probability":
            return proba, proba.max(1)
        best = proba.argmax(1)
        likelihoods = self._sums(contents, self.log_proba_)[0][np.arange(len(best)), best]
        median, level, slope = self.typical_[best].T
        return proba, (likelihoods / n_ngrams - median) / np.sqrt(level + slope / n_bytes)

    def _proba(
        self, sums: NDArray[np.float64], n_ngrams: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the probabilities."""
        nb = self.method == "naive_bayes"
        divisor = self.temperature_ if nb else np.sqrt(n_ngrams)[:, None]
        return np.asarray(softmax(sums / divisor + self.bias_, axis=1))
