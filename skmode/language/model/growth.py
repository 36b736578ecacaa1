"""Experts that are added to a fitted model, replaced or removed; the others stay as they are."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils.validation import check_is_fitted
from torch import nn

from skmode.language.corpus import Text
from skmode.language.model.checks import check_teacher, check_whole
from skmode.language.model.fitting import keep_facts, keep_scores, make_lab, spool_texts
from skmode.language.networks import make_network, share_embedding
from skmode.language.setups import find_taught, train_added
from skmode.language.tokenizer import end_of
from skmode.language.training.checkpoints import ADDED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from skmode.language.corpus import Spool
    from skmode.language.router import DomainRouter


class Growth:
    """The methods that change the experts of a fitted model."""

    router_: DomainRouter
    tokenizer_: Tokenizer
    base_: nn.Module
    experts_: dict[str, nn.Module]
    common_: nn.Module | None
    max_length_: int
    domain_bytes_: dict[str, int]
    domain_texts_: dict[str, int]
    domain_alphas_: dict[str, float | str]
    distilled_: list[str]
    bits_per_byte_: dict[str, float]
    teacher_bits_per_byte_: dict[str, float]
    history_: list[dict[str, Any]]
    setup: str
    steps: int

    def add_expert(
        self,
        domain: str,
        texts: Iterable[Text],
        *,
        teacher: Any = None,
        steps: int | None = None,
    ) -> Self:
        """Train an expert for a new domain; the other experts stay as they are.

        It starts where the others started: from the warm student. What it shares with them
        (embedding and output layer with ``setup="jeet"``, the common expert with ``"moe_ce"``) is
        not trained. The router gets a new domain by :meth:`DomainRouter.add_domain`, so it must be
        naive Bayes.

        Parameters
        ----------
        domain : str
            The name of the new domain.
        texts : iterable of str, bytes or Path
            Its texts, read once.
        teacher : module, default=None
            A trained causal model with the same tokenizer that predicts the domain better than the
            warm student and the frequencies of its tokens do, such as ``teacher_``. Without one
            the expert learns from the texts alone. It is not trained, so sizes and configs are
            refused.
        steps : int, default=None
            The optimizer steps. None is ``steps`` of the model, which are few: the other experts
            went on from a student that knew their domains. One that is new to it has more to learn.

        Returns
        -------
        self : ModularLanguageModel
            The model with one more expert.
        """
        check_is_fitted(self)
        if isinstance(domain, str) and domain in self.experts_:
            raise ValueError(
                f"A new domain needs a new name, but the model knows {domain!r}: use "
                "replace_expert, or another name."
            )
        n_steps = self._check_steps(steps)
        check_teacher(teacher)
        with tempfile.TemporaryDirectory() as folder:
            spool = spool_texts(Path(folder), texts, domain, self.experts_)
            router = copy.deepcopy(self.router_).add_domain(domain, spool.contents(domain))
            self._train(domain, spool, teacher, n_steps)
        self.router_ = router
        return self

    def replace_expert(
        self,
        domain: str,
        texts: Iterable[Text],
        *,
        teacher: Any = None,
        steps: int | None = None,
    ) -> Self:
        """Train the expert of a known domain again, from new texts alone.

        Parameters
        ----------
        domain : str
            The name of a known domain.
        texts : iterable of str, bytes or Path
            Its new texts, read once.
        teacher : module, default=None
            As in :meth:`add_expert`.
        steps : int, default=None
            As in :meth:`add_expert`.

        Returns
        -------
        self : ModularLanguageModel
            The model, with the same domains in the same order.
        """
        self._check_known(domain)
        n_steps = self._check_steps(steps)
        check_teacher(teacher)
        with tempfile.TemporaryDirectory() as folder:
            spool = spool_texts(Path(folder), texts, domain)
            router = copy.deepcopy(self.router_).replace_domain(domain, spool.contents(domain))
            self._train(domain, spool, teacher, n_steps)
        self.router_ = router
        return self

    def remove_expert(self, domain: str) -> Self:
        """Remove a domain with its expert.

        Parameters
        ----------
        domain : str
            The name of a known domain, not the last one.

        Returns
        -------
        self : ModularLanguageModel
            The model with one expert less.
        """
        self._check_known(domain)
        self.router_ = copy.deepcopy(self.router_).remove_domain(domain)
        own = (self.experts_, self.domain_bytes_, self.domain_texts_, self.bits_per_byte_)
        for kept in own:
            kept.pop(domain)
        self.teacher_bits_per_byte_.pop(domain, None)
        self.distilled_ = [name for name in self.distilled_ if name != domain]
        keep_facts(self)
        return self

    def _check_known(self, domain: str) -> None:
        check_is_fitted(self)
        if not isinstance(domain, str) or domain not in self.experts_:
            raise ValueError(
                f"The domain must be one of {', '.join(self.experts_)}, got {domain!r}: use one of "
                "these, or add_expert."
            )

    def _check_steps(self, steps: int | None) -> int:
        return self.steps if steps is None else check_whole("steps", steps, 0)

    def _train(self, domain: str, spool: Spool, teacher: Any, n_steps: int) -> None:
        """Train one expert, and put it in its place."""
        if teacher is not None:
            n_tokens = int(self.base_.config.vocab_size)  # type: ignore[union-attr, arg-type]
            end = end_of(self.tokenizer_)
            teacher = make_network(teacher, n_tokens, self.max_length_, end).eval()
        expert = copy.deepcopy(self.base_)
        # That of `fit`, whatever the parameter is now.
        shares = getattr(self, "_setup", self.setup) == "jeet"
        if shares:
            share_embedding(expert, next(iter(self.experts_.values())))
        start = (n_steps, expert, self.common_, teacher)
        lab = make_lab(self, spool, self.tokenizer_, f"{ADDED}{domain}", *start)
        if teacher is not None:
            teacher.to(lab.recipe.device)
        taught, scores = find_taught(lab, teacher, expert, [domain])
        train_added(
            lab, domain, expert, n_steps, teacher, taught, common=self.common_, shares=shares
        )
        score = lab.score(expert, domain, self.common_)
        self.experts_[domain] = expert
        self.domain_bytes_[domain] = spool.n_bytes[domain]
        self.domain_texts_[domain] = spool.n_texts[domain]
        self.distilled_ = [name for name in self.distilled_ if name != domain] + taught
        for of_the_former in (self.teacher_bits_per_byte_, self.domain_alphas_):
            of_the_former.pop(domain, None)
        self.teacher_bits_per_byte_.update(scores)
        keep_scores(self, {domain: score})
        self.history_ += lab.history
        lab.checkpoint.finish()
