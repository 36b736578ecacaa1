"""Open a bundle with a language model, and use it."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import COMMON, MAX_BYTES, ROUTER, TOKENIZER, Manifest, domain_file
from skmode_deploy.bundle.reading import manifest_sha256
from skmode_deploy.errors import ManifestChangedError, ManifestError
from skmode_deploy.language.experts import Experts, HeldFiles
from skmode_deploy.language.generation import Generation
from skmode_deploy.language.inputs import (
    MAX_TEXT_BYTES,
    check_domain,
    check_max_tokens,
    check_stop,
    check_text,
    check_texts,
)
from skmode_deploy.language.routing import (
    Router,
    Routing,
    Unknown,
    choose_experts,
    choose_policy,
)
from skmode_deploy.language.sampling import Sampler
from skmode_deploy.language.scoring import GoOn, always, score_texts
from skmode_deploy.language.tokenizer import TextTokenizer
from skmode_deploy.running.predictor import check_key, verify_bundle
from skmode_deploy.running.sessions import Providers, SessionFactory, check_at_least_one

# A token may stand for more bytes than it has itself where the tokenizer normalizes a text, but not
# for many more.
_SHRINKS = 4


def load(
    path: str | os.PathLike[str],
    *,
    unknown: Unknown | None = None,
    providers: Providers = "auto",
    max_loaded_experts: int | None = None,
    threads: int = 1,
    max_text_bytes: int = MAX_TEXT_BYTES,
    max_bytes: int = MAX_BYTES,
    require_signature: str | os.PathLike[str] | None = None,
) -> "LanguageModel":
    """Check a bundle that `skmode.language.export` wrote, and open it.

    Parameters
    ----------
    path : path
        Folder of the bundle.
    unknown : {"best", "common", "error"} or None, default=None
        What becomes of texts whose domain the router does not know: the expert of the most probable
        domain reads them, or the common expert alone, or they are an error. None is what the
        exported model did; if the manifest does not say so, "common" if the bundle has a common
        expert, else "best".
    providers : str or sequence of str or of (str, mapping), default="auto"
        Execution providers of onnxruntime, as for :func:`skmode_deploy.load`.
    max_loaded_experts : int or None, default=None
        Largest number of experts in memory, the common one included. Beyond it, the least recently
        used one is removed. None is no limit.
    threads : int, default=1
        Number of threads for one operation of an expert.
    max_text_bytes : int, default=1 MiB
        Largest size of a text.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.
    require_signature : path or None, default=None
        PEM file of a public key. The bundle must be signed with its private key. None requires no
        signature.

    Returns
    -------
    LanguageModel
        The model.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of another kind or not signed.
    ValueError
        If another parameter is invalid, or if `unknown` is "common" and there is no common expert.

    Examples
    --------
    >>> from skmode_deploy import language
    >>> language.load("no-such-folder")
    Traceback (most recent call last):
    skmode_deploy.errors.MissingFileError: A bundle must be a folder with a manifest.json, ...
    """
    return LanguageModel(
        path,
        unknown=unknown,
        providers=providers,
        max_loaded_experts=max_loaded_experts,
        threads=threads,
        max_text_bytes=max_text_bytes,
        max_bytes=max_bytes,
        require_signature=require_signature,
    )


class LanguageModel:
    """Route, score and continue texts with an exported language model.

    Parameters
    ----------
    path : path
        Folder of a bundle.
    unknown : {"best", "common", "error"} or None, default=None
        What becomes of texts whose domain is unknown. See :func:`load`.
    providers : str or sequence of str or of (str, mapping), default="auto"
        Execution providers of onnxruntime, or "auto".
    max_loaded_experts : int or None, default=None
        Largest number of experts in memory. None is no limit.
    threads : int, default=1
        Number of threads for one operation of an expert.
    max_text_bytes : int, default=1 MiB
        Largest size of a text.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.
    require_signature : path or None, default=None
        PEM file of the public key that must verify the bundle's signature.

    Attributes
    ----------
    path : str
        Folder of the bundle, as an absolute path.
    manifest : Manifest
        Description of the model.
    domains : list of str
        Names of the domains, in the order of the router's probabilities.
    max_length : int
        Number of positions: the most tokens of a prompt and its continuation.
    unknown : {"best", "common", "error"}
        What becomes of texts whose domain is unknown.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged, unsafe, of another kind or not signed.
    ValueError
        If another parameter is invalid.

    Notes
    -----
    The whole bundle is checked before any of it is used. An expert is loaded when it is first
    needed. Its file stays open until then, so the bundle may be replaced meanwhile: a model always
    uses the files that it was opened with.

    Threads may share a model. A pickle holds only its path and parameters; unpickling opens the
    bundle again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        unknown: Unknown | None = None,
        providers: Providers = "auto",
        max_loaded_experts: int | None = None,
        threads: int = 1,
        max_text_bytes: int = MAX_TEXT_BYTES,
        max_bytes: int = MAX_BYTES,
        require_signature: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path must be a path, got {path!r}: pass the folder of a bundle.")
        check_key(require_signature)
        if max_loaded_experts is not None:
            max_loaded_experts = check_at_least_one(max_loaded_experts, "max_loaded_experts")
        self._max_text_bytes = check_at_least_one(max_text_bytes, "max_text_bytes")
        sessions = SessionFactory(providers, threads)
        self.path = os.path.abspath(path)
        self._parameters = {
            "unknown": unknown,
            "providers": providers,
            "max_loaded_experts": max_loaded_experts,
            "threads": threads,
            "max_text_bytes": max_text_bytes,
            "max_bytes": max_bytes,
            "require_signature": require_signature and os.path.abspath(require_signature),
        }
        self.manifest: Manifest = verify_bundle(self.path, max_bytes, require_signature)
        if self.manifest.language is None:
            raise ManifestError(
                f"The bundle must hold a language model, got one for rows or images in "
                f"{self.path!r}: open it with skmode_deploy.load."
            )
        self._language = self.manifest.language
        self.domains = list(self._language.names)
        self.max_length = self._language.max_length
        self.unknown: Unknown = choose_policy(unknown, self.manifest)
        files = HeldFiles(self.path, self.manifest, self._file_names())
        if manifest_sha256(self.path) != self.manifest.file_hash():
            raise ManifestChangedError(
                f"A bundle must not change while it is opened, but {self.path!r} was replaced: "
                "try again."
            )
        self._tokenizer = TextTokenizer(
            files.read(TOKENIZER), self.manifest.n_outputs, self._language.end_token
        )
        self._router = Router(files.read(ROUTER), self._language, sessions)
        self._experts = Experts(files, self.manifest, sessions, max_loaded_experts)

    def route(self, texts: Sequence[str]) -> NDArray[np.object_]:
        """Return the domain of each text.

        Parameters
        ----------
        texts : list of str
            Texts.

        Returns
        -------
        ndarray of object of shape (n_texts,)
            Names of the domains. None where the domain is unknown.

        Raises
        ------
        ValueError
            If a text is empty, too long or no valid Unicode.
        """
        names = np.array([*self.domains, None], dtype=object)
        domains: NDArray[np.object_] = names[self.route_full(texts).domain]
        return domains

    def route_full(self, texts: Sequence[str]) -> Routing:
        """Return the domain of each text with all probabilities.

        Parameters
        ----------
        texts : list of str
            Texts.

        Returns
        -------
        Routing
            Positions of the domains, -1 where it is unknown; probabilities; confidence.

        Raises
        ------
        ValueError
            If a text is empty, too long or no valid Unicode.
        """
        return self._router.route(check_texts(texts, self._max_text_bytes))

    def score(self, texts: Sequence[str], *, domain: str | None = None) -> NDArray[np.float64]:
        """Return how many bits the model takes for a byte of each text; less is better.

        Parameters
        ----------
        texts : list of str
            Texts. Those with more tokens than there are positions are read in windows.
        domain : str or None, default=None
            Domain whose expert reads all texts. None routes each text.

        Returns
        -------
        ndarray of float64 of shape (n_texts,)
            Bits per byte of UTF-8.

        Raises
        ------
        ValueError
            If a text is empty, too long or no valid Unicode, if there is no such domain, or if the
            domain of a text is unknown and `unknown` is "error".
        """
        checked = check_texts(texts, self._max_text_bytes)
        if domain is not None:
            chosen = [self.domains.index(check_domain(domain, self.domains))] * len(checked)
        else:
            chosen = self.choose_experts(self._router.route(checked))
        return self.score_by(checked, chosen)

    def score_by(
        self, texts: Sequence[str], chosen: Sequence[int], go_on: GoOn = always
    ) -> NDArray[np.float64]:
        """Return the bits per byte of texts with chosen experts.

        Parameters
        ----------
        texts : list of str
            Texts, which were checked before.
        chosen : sequence of int
            Position of the domain of each text; -1 is the common expert alone.
        go_on : callable, optional
            Is called between parts of the texts; what it raises ends the reading.

        Returns
        -------
        ndarray of float64 of shape (n_texts,)
            Bits per byte of UTF-8.
        """
        bits = np.empty(len(texts))
        for expert in sorted(set(chosen)):
            rows = [row for row, each in enumerate(chosen) if each == expert]
            own = [texts[row] for row in rows]
            bits[rows] = self._score(own, self._expert_files(expert), go_on)
        return bits

    def score_file(self, texts: Sequence[str], name: str) -> NDArray[np.float64]:
        """Return the bits per byte of texts with the expert of one file alone.

        Parameters
        ----------
        texts : list of str
            Texts.
        name : str
            Name of the file, such as ``common.onnx``.

        Returns
        -------
        ndarray of float64 of shape (n_texts,)
            Bits per byte of UTF-8.
        """
        return self._score(check_texts(texts, self._max_text_bytes), [name])

    def _score(
        self, texts: Sequence[str], names: Sequence[str], go_on: GoOn = always
    ) -> NDArray[np.float64]:
        start = partial(self._experts.start, names)
        end = self._language.end_token
        return score_texts(start, self._tokenizer.encode, texts, self.max_length, end, go_on)

    def choose_experts(self, routing: Routing) -> list[int]:
        """Return which expert reads each text, following the policy for unknown domains.

        Parameters
        ----------
        routing : Routing
            What :meth:`route_full` returned.

        Returns
        -------
        list of int
            Positions of the domains; -1 is the common expert alone.

        Raises
        ------
        ValueError
            If the domain of a text is unknown and `unknown` is "error".
        """
        return choose_experts(routing, self.unknown, self._language)

    @overload
    def generate(
        self,
        prompt: str,
        max_tokens: int | None = ...,
        *,
        domain: str | None = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        seed: int | None = ...,
        stop: str | Sequence[str] | None = ...,
        stream: Literal[False] = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str,
        max_tokens: int | None = ...,
        *,
        domain: str | None = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        seed: int | None = ...,
        stop: str | Sequence[str] | None = ...,
        stream: Literal[True],
    ) -> Generation: ...

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = None,
        *,
        domain: str | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
    ) -> str | Generation:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            The text.
        max_tokens : int or None, default=None
            Largest number of tokens to generate. Those of the prompt and these must not be more
            than there are positions. None is as many as there are left.
        domain : str or None, default=None
            Domain whose expert writes. None routes the prompt.
        temperature : float, default=0.0
            What the logits are divided by. 0 always takes the most probable token.
        top_k : int or None, default=None
            Draw from this many most probable tokens only.
        top_p : float or None, default=None
            Draw from the most probable tokens only whose probabilities reach this sum.
        seed : int or None, default=None
            Seed of the draws. None draws differently each time.
        stop : str, list of str or None, default=None
            Strings that end the text; they are not part of it.
        stream : bool, default=False
            Whether to return the text in pieces as they come.

        Returns
        -------
        str or Generation
            The continuation, without the prompt; an iterator of its pieces if `stream` is true.

        Raises
        ------
        ValueError
            If the prompt is empty, too long or no valid Unicode; if its domain is unknown and
            `unknown` is "error"; or if a number is out of its range.
        """
        prompt = check_text(prompt, self._max_prompt_bytes(), "The prompt")
        sampler = Sampler(temperature, top_k, top_p, seed)
        strings = check_stop(stop)
        routing = None
        if domain is not None:
            expert = self.domains.index(check_domain(domain, self.domains))
        else:
            routing = self._router.route([prompt])
            expert = self.choose_experts(routing)[0]
        tokens = self._tokenizer.encode(prompt)
        generation = Generation(
            self._experts.start(self._expert_files(expert)),
            tokens,
            sampler,
            self._tokenizer.new_decoder(),
            check_max_tokens(max_tokens, len(tokens), self.max_length),
            strings,
            self._language.end_token,
            None if expert < 0 else self.domains[expert],
            routing,
        )
        return generation if stream else "".join(generation)

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        list of int
            Its tokens.
        """
        return self._tokenizer.encode(check_text(text, self._max_text_bytes))

    def loaded_experts(self) -> list[str]:
        """List the experts in memory.

        Returns
        -------
        list of str
            Names of their files, the least recently used one first.
        """
        return self._experts.loaded()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._parameters)

    def _file_names(self) -> list[str]:
        common = [COMMON] if self.manifest.routing == "mixture" else []
        return [TOKENIZER, ROUTER, *map(domain_file, self.domains), *common]

    def _expert_files(self, expert: int) -> list[str]:
        """List the files whose logits are averaged for a domain."""
        own = [domain_file(self.domains[expert])] if expert >= 0 else []
        return [*own, COMMON] if self.manifest.routing == "mixture" else own

    def _max_prompt_bytes(self) -> int:
        """Bound the size of a prompt that may fit the positions, before it is tokenized."""
        return min(self._max_text_bytes, _SHRINKS * self.max_length * self._tokenizer.longest)


def _reopen(path: str, parameters: dict[str, Any]) -> LanguageModel:
    return LanguageModel(path, **parameters)
