"""Who takes part in the league, and what results and tables call each model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from typing import Any

import skmode
from benchmarks.tabular._models import peers
from benchmarks.tabular._models.ours import (
    PLAIN_OPTIONS,
    TAUGHT_OPTIONS,
    chooses_alpha,
    make_ensemble,
    make_large,
    make_mode,
)
from benchmarks.tabular._models.spaces import FAMILIES
from benchmarks.tabular._models.tuning import make_search
from benchmarks.tabular._models.votes import make_student, make_vote
from benchmarks.tabular._sets import Part, Task

OURS = "skmode"
REFERENCE = "mode"
TAUGHT = "mode_taught"
VOTE = "vote"
# Ends of names: a mixture's top expert alone, and a model after a search for its parameters.
TOP_EXPERT = "_top_expert"
TUNED = "_tuned"
# A peer of moderate speed: all splits up to so many training rows, the first split above.
MODERATE_ROWS = 10_000
# Tuned models meet so many of the smallest sets.
TUNED_SETS = 10
# A vote and its students meet the first splits of the smallest sets.
VOTED_SETS, VOTED_SPLITS = 12, 3
# xgboost-cpu is XGBoost without several hundred MB for GPUs.
DISTRIBUTIONS = {"xgboost": ("xgboost-cpu", "xgboost"), "sklearn": ("scikit-learn",)}


@dataclass(frozen=True)
class Contender:
    """A model with its settings.

    Attributes
    ----------
    name : str
        What the results call it.
    label : str
        What tables and figures call it.
    make : callable
        Returns the estimator for a task, a split (its seed) and a training part.
    module : str
        The library it comes from: it must be importable, and results of another version of it are
        measured anew.
    predict_options : dict
        What prediction needs to stay with one thread.
    speed : {"fast", "moderate", "slow", "tuned", "voted"}
        Moderate ones meet large sets on the first split only, slow ones all sets. Tuned ones meet
        the first split of the smallest sets; the vote and its students the first splits of the
        smallest sets.
    top_expert : bool
        Whether the fitted model also takes part with each row's top expert alone, as another
        contender with `TOP_EXPERT` after its name.
    """

    name: str
    label: str
    make: Callable[[Task, int, Part], Any]
    module: str
    predict_options: dict[str, Any] = field(default_factory=dict)
    speed: str = "fast"
    top_expert: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What one fit gives results of."""
        return (self.name, self.name + TOP_EXPERT) if self.top_expert else (self.name,)

    @property
    def is_installed(self) -> bool:
        """Whether its library is."""
        return importlib.util.find_spec(self.module) is not None


@cache
def contenders() -> dict[str, Contender]:
    """Return all contenders by name, in the order of the tables."""
    defaults = [*_ours(), *_peers()]
    tuned = _tuned({contender.name: contender for contender in defaults})
    everyone = [*defaults, *tuned, *_voted()]
    return {contender.name: contender for contender in everyone}


@cache
def labels() -> dict[str, str]:
    """Return what tables and figures call each model."""
    found = {}
    for contender in contenders().values():
        found[contender.name] = contender.label
        if contender.top_expert:
            found[contender.name + TOP_EXPERT] = f"{contender.label}, top expert"
    return found


def version(module: str) -> str:
    """Version of a library by the name that it is imported by."""
    if module == OURS:
        return skmode.__version__  # a checkout need not be installed
    for distribution in DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _ours() -> list[Contender]:
    """The mixture, and what isolates its idea at the same budget."""
    found = [Contender(REFERENCE, "MoDE", make_mode, OURS, top_expert=True)]
    if chooses_alpha():
        make = partial(make_mode, alpha="auto")
        found.append(Contender("mode_auto", "MoDE, alpha auto", make, OURS, top_expert=True))
    taught = partial(make_mode, **TAUGHT_OPTIONS)
    found.append(Contender(TAUGHT, "MoDE, taught by an ensemble", taught, OURS, top_expert=True))
    plain = partial(make_mode, alpha=0.0, **PLAIN_OPTIONS)
    single = partial(make_mode, n_experts=1, **PLAIN_OPTIONS)
    taught = partial(make_mode, n_experts=1, **TAUGHT_OPTIONS)
    return [
        *found,
        Contender("mode_alpha_0", "MoE, alpha 0", plain, OURS, top_expert=True),
        Contender("mlp_ensemble", "ensemble of K networks", make_ensemble, OURS),
        Contender("mlp_small", "one network, an expert's size", single, OURS),
        Contender("mlp_taught", "one network, taught by an ensemble", taught, OURS),
        Contender("mlp_large", "one network, the mixture's size", make_large, OURS),
    ]


def _peers() -> list[Contender]:
    def pytabkit(name: str, label: str, model: str, speed: str) -> Contender:
        make = partial(peers.make_pytabkit, model)
        return Contender(name, label, make, "pytabkit", speed=speed)

    one_thread = {"thread_count": 1}
    trees = peers.make_hist_gradient_boosting
    return [
        Contender("catboost", "CatBoost", peers.make_catboost, "catboost", one_thread),
        Contender("lightgbm", "LightGBM", peers.make_lightgbm, "lightgbm"),
        Contender("xgboost", "XGBoost", peers.make_xgboost, "xgboost"),
        Contender("hist_gradient_boosting", "HistGradientBoosting", trees, "sklearn"),
        Contender("random_forest", "RandomForest", peers.make_random_forest, "sklearn"),
        Contender("mlp", "scikit-learn MLP", peers.make_mlp, "sklearn"),
        Contender("linear", "linear model", peers.make_linear, "sklearn"),
        pytabkit("realmlp_td_s", "RealMLP-TD-S", "RealMLP_TD_S", "moderate"),
        pytabkit("realmlp_td", "RealMLP-TD", "RealMLP_TD", "slow"),
        pytabkit("tabm_d", "TabM-D", "TabM_D", "slow"),
    ]


def _tuned(defaults: dict[str, Contender]) -> list[Contender]:
    """Those that a search is defined for."""
    return [
        Contender(
            name + TUNED,
            f"{defaults[name].label}, tuned",
            partial(make_search, family),
            defaults[name].module,
            defaults[name].predict_options,
            speed="tuned",
            top_expert=defaults[name].top_expert,
        )
        for name, family in FAMILIES.items()
    ]


def _voted() -> list[Contender]:
    """A vote, and what it teaches."""
    single = partial(make_student, n_experts=1)
    name, label = f"{REFERENCE}_{VOTE}", "MoDE, taught by the vote"
    return [
        Contender(VOTE, "vote", make_vote, "catboost", speed="voted"),
        Contender(name, label, make_student, OURS, speed="voted", top_expert=True),
        Contender(f"mlp_{VOTE}", "one network, taught by the vote", single, OURS, speed="voted"),
    ]
