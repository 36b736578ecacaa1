"""Domains that a fitted router takes on, learns again or forgets; the others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmode.language.router.calibration import cut_pieces, fit_spread
from skmode.language.router.counting import HeldOut, Learner, Texts, read_pages
from skmode.language.router.ngrams import Sums, count_buckets, sum_weights


class Growth:
    """The methods that change the domains of a fitted router."""

    domains_: list[str]
    classes_: NDArray[np.object_]
    weights_: NDArray[np.float32]
    importance_: NDArray[np.float32]
    log_proba_: NDArray[np.float32]
    bias_: NDArray[np.float32]
    typical_: NDArray[np.float64]
    method: str
    smoothing: float
    max_bytes: int
    abstained: float
    random_state: Any

    def add_domain(self, domain: str, texts: Texts) -> Self:
        """Add a domain without the texts of the others, whose weights stay as they are.

        Parameters
        ----------
        domain : str
            The name of the new domain.
        texts : iterable of str or bytes
            Its texts, read once.

        Returns
        -------
        self : DomainRouter
            The router, which knows one more domain.
        """
        check_is_fitted(self)
        if domain in self.domains_:
            raise ValueError(
                f"A new domain needs a new name, but the router knows {domain!r}: use "
                "replace_domain, or another name."
            )
        column, typical = self._column(domain, texts)
        self._name([*self.domains_, domain])
        self.log_proba_ = np.concatenate([self.log_proba_, column], axis=1)
        self.weights_ = self.importance_[:, None] * self.log_proba_
        self.bias_ = np.append(self.bias_, np.float32(0))
        self.typical_ = np.concatenate([self.typical_, typical[None]])
        return self

    def replace_domain(self, domain: str, texts: Texts) -> Self:
        """Learn a known domain again, from new texts alone.

        Parameters
        ----------
        domain : str
            The name of a known domain.
        texts : iterable of str or bytes
            Its new texts, read once.

        Returns
        -------
        self : DomainRouter
            The router, with the same domains in the same order.
        """
        at = self._position(domain)
        column, typical = self._column(domain, texts)
        self.log_proba_, self.typical_ = self.log_proba_.copy(), self.typical_.copy()
        self.log_proba_[:, at], self.typical_[at] = column[:, 0], typical
        self.weights_ = self.importance_[:, None] * self.log_proba_
        return self

    def remove_domain(self, domain: str) -> Self:
        """Forget a domain.

        Parameters
        ----------
        domain : str
            The name of a known domain, not the last one.

        Returns
        -------
        self : DomainRouter
            The router, which knows one domain less.
        """
        at = self._position(domain)
        if len(self.domains_) == 1:
            raise ValueError(
                f"A router needs a domain, and {domain!r} is its last: add another one first."
            )
        self._name([name for name in self.domains_ if name != domain])
        self.weights_ = np.delete(self.weights_, at, axis=1)
        if self.method == "naive_bayes":
            self.log_proba_ = np.delete(self.log_proba_, at, axis=1)
        self.bias_ = np.delete(self.bias_, at)
        self.typical_ = np.delete(self.typical_, at, axis=0)
        return self

    def _sort(self) -> None:
        """Put the columns of the domains into the order of their names."""
        order = sorted(range(len(self.domains_)), key=self.domains_.__getitem__)
        self._name([self.domains_[at] for at in order])
        self.weights_ = np.ascontiguousarray(self.weights_[:, order])
        self.bias_, self.typical_ = self.bias_[order], self.typical_[order]
        if self.method == "naive_bayes":
            self.log_proba_ = np.ascontiguousarray(self.log_proba_[:, order])

    def _name(self, names: list[str]) -> None:
        self.domains_ = names
        self.classes_ = np.array(names, object)

    def _learner(self, n_buckets: int) -> Learner:
        return Learner(n_buckets, self.smoothing, by_line=self.method == "logistic")

    def _column(self, domain: str, texts: Texts) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the log probabilities of one domain and its typical likelihoods."""
        check_is_fitted(self)
        if self.method != "naive_bayes":
            raise ValueError(
                "Only naive Bayes learns a domain without the texts of the others, but method is "
                f'{self.method!r}: fit on all texts, or use method="naive_bayes".'
            )
        rng = check_random_state(self.random_state)
        # As many as in `fit`, whatever the parameter is now.
        kept, held = self._learner(count_buckets(self.weights_)), HeldOut(rng)
        for content, name, number in read_pages(texts, domain, self.max_bytes):
            if not held.takes(content, name, number):
                kept.add(content, name)
        if not held.names:
            raise ValueError(f"A domain needs texts, but {domain!r} has none: pass some.")
        held.settle(kept)
        pieces = cut_pieces(held.for_calibration(domain), self.max_bytes, rng)
        sums, n_ngrams, n_bytes = self._sums(pieces, kept.log_proba(domain)[:, None])
        if domain in held.shared:
            sums[:, 0] = self._without(kept, domain, held, pieces)
        typical = np.array(fit_spread(sums[:, 0] / n_ngrams, n_bytes, self.abstained))
        kept.extend(held.apart().get(domain, []), domain)
        return kept.log_proba(domain)[:, None], typical

    def _without(
        self, kept: Learner, domain: str, held: HeldOut, pieces: list[bytes]
    ) -> NDArray[np.float64]:
        """Return each piece's log likelihood by the counts without the page of the piece."""
        pages = held.for_calibration(domain)
        sums = np.empty(len(pieces))
        for at, page in enumerate(pages):
            column = kept.log_proba(domain, without=page)[:, None]
            sums[at :: len(pages)] = self._sums(pieces[at :: len(pages)], column)[0][:, 0]
        return sums

    def _position(self, domain: str) -> int:
        """Return the column of a domain."""
        check_is_fitted(self)
        if domain not in self.domains_:
            raise ValueError(
                f"The router knows the domains {', '.join(self.domains_)}, got {domain!r}: use "
                "one of these, or add_domain."
            )
        return self.domains_.index(domain)

    def _sums(self, contents: Sequence[bytes], weights: NDArray[np.float32] | None = None) -> Sums:
        """Return for each text the sums of weights, the number of n-grams and that of bytes."""
        return sum_weights(contents, self.weights_ if weights is None else weights)
