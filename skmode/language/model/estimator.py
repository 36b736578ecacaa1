"""A language model of experts, one for each domain."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.utils import check_random_state

from skmode._common.notebooks.display import LinkedInNotebooks
from skmode.language.corpus import Text
from skmode.language.model.checks import check_parameters
from skmode.language.model.fitting import choose_tokenizer, fit_models, make_lab, spool_texts
from skmode.language.model.growth import Growth
from skmode.language.model.reading import Reading
from skmode.language.objectives import Schedule
from skmode.language.router import DomainRouter


class ModularLanguageModel(Reading, Growth, ClassifierMixin, LinkedInNotebooks):
    """A small language model for each domain, and a router in front of them.

    A teacher learns all domains. A small student is warmed on all domains, and each expert starts
    from it and learns one domain, from the texts and from the teacher: the loss is (1 - alpha) CE +
    alpha KD, the mean over tokens of cross entropy and of the divergence between teacher and
    student. A :class:`DomainRouter` sends each text to an expert. So a domain can be added,
    replaced or removed without the others.

    The student is first warmed without the teacher. If the teacher is ahead of it in some domains,
    and of the frequencies of their tokens, a second student is warmed that is taught there, and
    replaces the first; its experts are taught where the teacher is ahead of that, too. Elsewhere
    the teacher has nothing to distil: :class:`TeacherNotAheadWarning` says so, and what follows is
    learned from the texts alone. The same warning says after training which experts have left their
    teacher behind.

    Parameters
    ----------
    student : str, config or module, default="small"
        The experts' architecture: "tiny" (2 layers of width 32), "small" (2 of 128), "medium" (4
        of 256), "gpt2", "gpt2-medium", one of these after "llama-", a config of transformers, or
        a causal model of transformers, from whose weights all experts start.
    teacher : str, config, module or None, default="medium"
        The teacher's, likewise. A module is taken as it is, and must have the same tokenizer.
    tokenizer : tokenizers.Tokenizer, default=None
        Byte-level BPE with the token ``<|endoftext|>``, which ends each text. By default it is
        trained, on the first 4 MiB of each domain.
    vocab_size : int, default=2048
        The number of tokens of a tokenizer that is trained, at least 257.
    max_length : int, default=128
        The number of tokens that are read at once.
    setup : {"ple", "jeet", "moe_ce"}, default="ple"
        What experts share: nothing; token embedding and output layer; a common expert that is
        always on, the mean of whose logits and the expert's is the output.
    distillation : {"forward", "reverse"} or None, default="forward"
        KL(teacher || student), KL(student || teacher), or no teacher.
    alpha : float or {"loss_ratio", "teacher_entropy", "loss_difference"}, default=0.5
        The weight of the teacher, fixed or adaptive: KD / (CE + KD); for each token 1 minus the
        teacher's entropy by its maximum; the paper's rule, 0.5 + 0.1 (first loss - last loss).
    temperature : float, default=1.0
        Divides the logits of both in KD, which is multiplied by its square.
    schedule : {"combined", "alternating", "kd_then_ce", "ce_then_kd"}, default="combined"
        Both losses at each step; one of them alone, by turns; the one for the first half of the
        steps and the other for the second half. Only "combined" uses ``alpha``.
    alternate_every : int, default=1
        The number of optimizer steps of a turn of "alternating", which begins with CE.
    teacher_steps : int, default=1000
        The optimizer steps of the teacher.
    warm_start_steps : int, default=3000
        Those of the student on all domains, with the teacher and without; 0 for experts that start
        cold.
    steps : int, default=250
        Those of each expert. With four domains, give the warm start three quarters of all steps, as
        by default.
    batch_size : int, default=8
        The number of rows of ``max_length`` tokens in a batch.
    accumulate : int, default=1
        The number of batches whose mean gradient is one optimizer step.
    learning_rate : float, default=2e-3
        The highest learning rate of AdamW: it rises linearly and falls by half a cosine to a tenth.
        In the warm start it does not fall: it does in each expert, which goes on from there.
    weight_decay : float, default=0.1
        The weight decay of AdamW.
    warmup_steps : int, default=50
        The steps of the rise, at most a fifth of all.
    max_norm : float, default=1.0
        The norm that gradients are clipped to.
    router : DomainRouter, default=None
        The router, which is cloned; by default one with its defaults.
    unknown : {"best", "common", "teacher", "error"}, default="best"
        Who reads a text for which the router abstains: the most probable domain's expert, the
        common expert alone (with ``setup="moe_ce"``), the teacher; or an error. A bundle does the
        same, but it has no teacher: there the common expert reads these texts, if there is one,
        else that of the most probable domain.
    keep_teacher : bool, default=False
        Whether to keep ``teacher_``; ``unknown="teacher"`` keeps it.
    checkpoint : str or path-like, default=None
        A folder for checkpoints. A ``fit`` with the same parameters and texts goes on from there,
        to the same weights to the bit; so does ``add_expert``. Weights that are given count as
        parameters. A finished training makes room for another one; an unfinished one is an error.
    checkpoint_every : int, default=500
        The optimizer steps between checkpoints.
    precision : {"auto", "float32", "bf16"}, default="auto"
        "auto" takes bfloat16 where it is fast: on a GPU, and on a processor with AMX. Without
        instructions for it, it is about ten times slower, and "bf16" is refused.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is a GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Weights, batches, and the router's held-out texts.
    verbose : bool, default=False
        Whether to show progress bars.

    Attributes
    ----------
    domains_ : list of str
        The domains, sorted, as scikit-learn's scorers take columns to be; then those that were
        added, in the order of adding.
    classes_ : ndarray of shape (n_domains,)
        The same.
    experts_ : dict of str to module
        The experts, causal models of transformers.
    common_ : module or None
        The common expert of ``setup="moe_ce"``.
    base_ : module
        The warm student, from which added experts start.
    teacher_ : module or None
        The teacher, if kept.
    tokenizer_ : tokenizers.Tokenizer
        The tokenizer.
    router_ : DomainRouter
        The fitted router.
    max_length_ : int
        The number of tokens that are read at once.
    bits_per_byte_ : dict of str to float
        Each expert's bits per byte on the last twentieth of its domain's tokens, at most 64 rows,
        which are held out.
    teacher_bits_per_byte_ : dict of str to float
        The teacher's on the same tokens; empty without a teacher.
    distilled_ : list of str
        The domains whose experts were taught, as the teacher was ahead of the warm student.
    domain_alphas_ : dict of str to float or str
        What weighed the teacher in the experts of ``distilled_``: ``alpha``, or ``schedule`` if
        that is not "combined".
    domain_bytes_ : dict of str to int
        The number of bytes of each domain's texts.
    domain_texts_ : dict of str to int
        The number of its texts; a file is one.
    domain_shares_ : dict of str to float
        The same as shares, which sum to one. A server compares with them the shares of the texts
        that each expert gets.
    validation_scores_ : dict of str to float
        ``bits_per_byte_`` with names for people.
    history_ : list of dict
        For each optimizer step the phase ("teacher", "warm start", "taught warm start", "experts"
        or "added" and a domain), model, step, ``loss``, ``ce``, ``kd``, ``alpha``,
        ``learning_rate`` and ``norm`` of the gradient before clipping.

    See Also
    --------
    DomainRouter : Tells the domains.

    Examples
    --------
    >>> from skmode.language import ModularLanguageModel
    >>> texts = ["the cat and the dog sat on the mat. " * 9, "le chat et le chien sont la. " * 9]
    >>> model = ModularLanguageModel(
    ...     "tiny", teacher=None, vocab_size=270, max_length=16, warm_start_steps=2, steps=2,
    ...     random_state=0,
    ... ).fit(texts, ["en", "fr"])
    >>> model.route(["the dog"]).tolist()
    ['en']
    >>> model.bits_per_byte(["the dog"]).shape
    (1,)
    """

    _public_module = "skmode.language"

    def __init__(
        self,
        student: Any = "small",
        *,
        teacher: Any = "medium",
        tokenizer: Any = None,
        vocab_size: int = 2048,
        max_length: int = 128,
        setup: Literal["ple", "jeet", "moe_ce"] = "ple",
        distillation: Literal["forward", "reverse"] | None = "forward",
        alpha: float | Literal["loss_ratio", "teacher_entropy", "loss_difference"] = 0.5,
        temperature: float = 1.0,
        schedule: Schedule = "combined",
        alternate_every: int = 1,
        teacher_steps: int = 1000,
        warm_start_steps: int = 3000,
        steps: int = 250,
        batch_size: int = 8,
        accumulate: int = 1,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        warmup_steps: int = 50,
        max_norm: float = 1.0,
        router: DomainRouter | None = None,
        unknown: Literal["best", "common", "teacher", "error"] = "best",
        keep_teacher: bool = False,
        checkpoint: Any = None,
        checkpoint_every: int = 500,
        precision: Literal["auto", "float32", "bf16"] = "auto",
        device: Any = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.setup = setup
        self.distillation = distillation
        self.alpha = alpha
        self.temperature = temperature
        self.schedule = schedule
        self.alternate_every = alternate_every
        self.teacher_steps = teacher_steps
        self.warm_start_steps = warm_start_steps
        self.steps = steps
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.max_norm = max_norm
        self.router = router
        self.unknown = unknown
        self.keep_teacher = keep_teacher
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, texts: Iterable[Text], domains: Iterable[str]) -> ModularLanguageModel:
        """Train tokenizer, router, teacher and experts.

        Texts and their tokens are kept in a temporary folder, not in memory.

        Parameters
        ----------
        texts : iterable of str, bytes or Path
            The texts, read once; of a Path the file is read. Strings are texts. A domain whose
            strings all are names of files is refused.
        domains : iterable of str
            The domain of each text; at least two different ones.

        Returns
        -------
        self : ModularLanguageModel
            The fitted model.
        """
        check_parameters(self)
        with _all_or_nothing(self), tempfile.TemporaryDirectory() as folder:
            spool = spool_texts(Path(folder), texts, domains)
            router = clone(self.router) if self.router is not None else DomainRouter()
            if router.random_state is None:
                seed = check_random_state(self.random_state).randint(2**31)
                router.set_params(random_state=int(seed))
            self.router_ = router.fit(spool.all_contents(), spool.all_domains())
            self.tokenizer_ = choose_tokenizer(self.tokenizer, spool, self.vocab_size)
            self.max_length_, self._setup = int(self.max_length), self.setup
            self.domain_bytes_, self.domain_texts_ = dict(spool.n_bytes), dict(spool.n_texts)
            self.domain_alphas_: dict[str, float | str] = {}
            lab = make_lab(self, spool, self.tokenizer_)
            fit_models(self, lab)
            lab.checkpoint.finish()
        return self

    @property
    def domains_(self) -> list[str]:  # type: ignore[override]
        """The domains, in the order of the router.

        Returns
        -------
        domains : list of str
            The names.
        """
        return list(self.router_.domains_)

    @property
    def classes_(self) -> NDArray[np.object_]:
        """The domains, in the order of the router.

        Returns
        -------
        domains : ndarray of shape (n_domains,)
            The names.
        """
        return np.array(self.domains_, object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "experts_")


@contextmanager
def _all_or_nothing(model: ModularLanguageModel) -> Iterator[None]:
    """Restore what was learned before, if learning fails: a new router fits no former experts."""
    before = dict(model.__dict__)
    try:
        yield
    except BaseException:
        model.__dict__.clear()
        model.__dict__.update(before)
        raise
