"""What a fitted model tells of texts: their domain, their bits per byte, how they go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skmode.language.corpus import Text, read_text, windows
from skmode.language.model.checks import check_sampling, check_whole, find_device
from skmode.language.model.generation import next_tokens
from skmode.language.router.counting import check_iterable
from skmode.language.setups import mean_forward, to_bits
from skmode.language.tokenizer import encode, end_of
from skmode.language.training import losses_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from skmode.language.router import DomainRouter

Texts = Iterable[Text]


class Reading:
    """The methods of a fitted model that read texts."""

    router_: DomainRouter
    tokenizer_: Tokenizer
    experts_: dict[str, nn.Module]
    common_: nn.Module | None
    teacher_: nn.Module | None
    domains_: list[str]
    max_length_: int
    device: Any
    unknown: str

    def predict(self, texts: Texts) -> NDArray[np.object_]:
        """Return the domain of each text, or None where the router abstains.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts; of a Path the file is read.

        Returns
        -------
        domains : ndarray of shape (n_texts,)
            The names, of dtype object.
        """
        check_is_fitted(self)
        return self.router_.predict(_read(texts))

    def predict_proba(self, texts: Texts) -> NDArray[np.float64]:
        """Return the probability of each domain.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts.

        Returns
        -------
        probabilities : ndarray of shape (n_texts, n_domains)
            The probabilities, in the order of ``domains_``.
        """
        check_is_fitted(self)
        return self.router_.predict_proba(_read(texts))

    def route(self, texts: Texts) -> NDArray[np.object_]:
        """Return whose expert reads each text, also where the router abstains.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts.

        Returns
        -------
        domains : ndarray of shape (n_texts,)
            The names, of dtype object. Where the router abstains: the most probable domain with
            ``unknown="best"``, an error with ``unknown="error"``, else None, which stands for the
            common expert alone or the teacher.
        """
        check_is_fitted(self)
        contents = _read(texts)
        names = self.router_.predict(contents)
        lost = np.flatnonzero([name is None for name in names])
        if len(lost) and self.unknown == "error":
            raise ValueError(
                f'With unknown="error" each text must be of a known domain, but text {lost[0]} is '
                f"unlike {', '.join(self.domains_)}: leave it out, or name its domain."
            )
        if len(lost) and self.unknown == "best":
            proba = self.router_.predict_proba([contents[at] for at in lost])
            names[lost] = np.array(self.domains_, object)[proba.argmax(1)]
        return names

    def score(self, texts: Texts, domains: Sequence[str], sample_weight: Any = None) -> float:
        """Return the share of texts that the router gives their domain.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts.
        domains : sequence of str
            The true domain of each.
        sample_weight : array-like of shape (n_texts,), default=None
            The weight of each text.

        Returns
        -------
        accuracy : float
            The share. An abstention counts as wrong.
        """
        check_is_fitted(self)
        return self.router_.score(_read(texts), domains, sample_weight)

    def bits_per_byte(
        self, texts: Texts, domains: Sequence[str | None] | None = None
    ) -> NDArray[np.float64]:
        """Return how well each text is predicted by the expert that it is routed to.

        The tokens of a text are predicted one after the other, the first one from the token that
        ends a text. Beyond ``max_length_`` tokens a text is read in windows, each of
        which begins with the last token of the one before. The bits of all tokens are divided by
        the number of bytes in UTF-8.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts.
        domains : sequence of str or None, default=None
            Whose expert reads each text. By default :meth:`route` decides.

        Returns
        -------
        bits : ndarray of shape (n_texts,)
            Bits per byte; less is better.
        """
        check_is_fitted(self)
        contents = _read(texts)
        names = list(self.route(contents) if domains is None else domains)
        if len(names) != len(contents):
            raise ValueError(
                f"Each text needs a domain, got {len(names)} domains for {len(contents)} texts: "
                "pass as many."
            )
        models = [self._models(name) for name in names]  # also a check of the names
        bits = np.empty(len(contents))
        for name, chosen in dict(zip(names, models, strict=True)).items():
            own = [at for at, other in enumerate(names) if other == name]
            bits[own] = self._bits([contents[at] for at in own], *chosen)
        return bits

    def expert_bits_per_byte(self, texts: Texts) -> NDArray[np.float64]:
        """Return how well every expert predicts every text.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts.

        Returns
        -------
        bits : ndarray of shape (n_texts, n_domains)
            Bits per byte, as in :meth:`bits_per_byte`.
        """
        check_is_fitted(self)
        contents = _read(texts)
        each = [self._bits(contents, *self._models(name)) for name in self.domains_]
        return np.stack(each, axis=1)

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        *,
        domain: str | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        random_state: Any = None,
    ) -> str:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            The beginning.
        max_tokens : int, default=None
            The most tokens to add. Together with those of the prompt they must be at most
            ``max_length_``; by default all that are left.
        domain : str, default=None
            Whose expert writes. By default :meth:`route` decides.
        temperature : float, default=0.0
            0 takes the likeliest token each time. Above it tokens are drawn at random, with logits
            divided by it.
        top_k : int, default=None
            How many of the likeliest tokens may be drawn; by default all.
        top_p : float, default=1.0
            The likeliest tokens are drawn, down to the one with which they have this probability.
        stop : str or sequence of str, default=()
            Where one of these comes, the text ends before it.
        random_state : int, RandomState instance or None, default=None
            Draws the tokens.

        Returns
        -------
        text : str
            What follows the prompt.
        """
        check_is_fitted(self)
        tokens = self._prompt_tokens(read_text(prompt))
        room = self.max_length_ - len(tokens)
        n = room if max_tokens is None else check_whole("max_tokens", max_tokens, 1, room)
        check_sampling(temperature, top_k, top_p)
        name = self.route([prompt])[0] if domain is None else domain
        ends = [stop] if isinstance(stop, str) or not isinstance(stop, Iterable) else list(stop)
        if not all(isinstance(each, str) for each in ends):
            raise TypeError(f"stop must be a str or several, got {stop!r}: pass strings, or ().")
        seed = check_random_state(random_state).randint(2**31)
        following = next_tokens(
            [model for model in self._models(name) if model is not None],
            [end_of(self.tokenizer_), *tokens],
            find_device(self.device),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=torch.Generator().manual_seed(seed),
        )
        return self._write(itertools.islice(following, n), [each for each in ends if each])

    def _prompt_tokens(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt, if they leave room for one more."""
        longest = max(map(len, self.tokenizer_.get_vocab()))
        n = -(-len(prompt.encode()) // longest)  # at least
        tokens = encode(self.tokenizer_, prompt) if n < self.max_length_ else []
        n = max(n, len(tokens))
        if n >= self.max_length_:
            raise ValueError(
                "A prompt must have fewer tokens than the model has positions, "
                f"{self.max_length_}, got {n} or more: pass its last part."
            )
        return tokens

    def _write(self, following: Iterable[int], stop: list[str]) -> str:
        """Join tokens until one ends the text, or a stop string comes."""
        end = end_of(self.tokenizer_)
        written: list[int] = []
        for token in following:
            if token == end:
                break
            written.append(token)
            text = self._decode(written) if stop else ""
            found = [text.find(each) for each in stop if each in text]
            if found:
                return text[: min(found)]
        return self._decode(written)

    def _decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones by their names, as a bundle writes them."""
        return self.tokenizer_.decode(tokens, skip_special_tokens=False)

    def _models(self, domain: str | None) -> tuple[nn.Module, nn.Module | None]:
        """Return the expert of a domain and the common one; for None what reads unknown domains."""
        if domain is None:
            alone = self.teacher_ if self.unknown == "teacher" else self.common_
            if alone is None:
                needed = (
                    "a teacher, kept by fit" if self.unknown == "teacher" else "a common expert"
                )
                raise ValueError(
                    f"The domain must be one of {', '.join(self.domains_)}, got None, and with "
                    f"unknown={self.unknown!r} that needs {needed}, which this model lacks: use "
                    'unknown="best", or fit it anew with setup="moe_ce" or keep_teacher=True.'
                )
            return alone, None
        if not isinstance(domain, str) or domain not in self.experts_:
            raise ValueError(
                f"The domain must be one of {', '.join(self.domains_)}, got {domain!r}: use one of "
                "these, or add_expert."
            )
        return self.experts_[domain], self.common_

    def _bits(
        self, contents: list[str], model: nn.Module, common: nn.Module | None
    ) -> NDArray[np.float64]:
        """Return the bits per byte of texts by one model."""
        device, end = find_device(self.device), end_of(self.tokenizer_)
        for each in (model, common):
            if each is not None:
                each.to(device).eval()
        parts = [windows(encode(self.tokenizer_, text), self.max_length_, end) for text in contents]
        if not parts:
            return np.empty(0)
        # Rows of similar length are read together: most texts are much shorter than the longest.
        inputs, targets = (torch.cat(each) for each in zip(*parts, strict=True))
        owner = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])
        lengths = (targets >= 0).sum(1)
        order = torch.argsort(lengths, stable=True)
        nats = np.zeros(len(parts))
        for rows in torch.split(order, 32):
            longest = int(lengths[rows].max())
            batch = inputs[rows, :longest], targets[rows, :longest]
            losses = losses_of(mean_forward(model, common), batch, device, 32)
            np.add.at(nats, owner[rows.numpy()], losses.sum(1).numpy())
        return np.array(
            [to_bits(n, len(text.encode())) for n, text in zip(nats, contents, strict=True)]
        )


def _read(texts: Texts) -> list[str]:
    """Return checked texts."""
    check_iterable(texts)
    return [read_text(text, at) for at, text in enumerate(texts)]
