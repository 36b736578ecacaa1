"""The best alpha by domain, size of the data, width and mixing: all that is committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.text._alpha import ALPHAS, KEYS, PATH, SET, alpha_tables
from benchmarks.text._measure import RESULTS, read

# Training rows from which a table is called large.
LARGE = 5_000
TASKS = {"binary": "two classes", "multiclass": "classes", "regression": "values"}


class Loss(NamedTuple):
    """One loss of a mixture, and of its top expert; fits with the same key are compared."""

    key: Any
    alpha: float
    mixture: float
    top_expert: float


class Setting(NamedTuple):
    """A line of the table."""

    domain: str
    data: str
    experts: str
    mixing: str
    losses: list[Loss]


def write_alpha() -> None:
    """Write results/alpha.md."""
    text = [
        "# The best alpha, by domain",
        "",
        "Written by `python -m benchmarks.text domains` from the committed results of tables,",
        "images, texts and translation. Each cell is the loss of the mixture / of its top expert",
        "as a share of the loss of the mixture without distillation: below 1 is better. Geometric",
        "means over data sets, after those over their seeds or splits. The loss is log loss, for",
        "values the root mean squared error, for translation nats a token. Bold: the lowest of the",
        "line; with one or two seeds, a difference below 2 % may be chance. A dash: not measured.",
        "",
        "| domain | data | experts | mixing | sets x seeds |"
        + "".join(f" alpha {alpha:g} |" for alpha in ALPHAS),
        "| --- | --- | --- | --- | --- |" + " --- |" * len(ALPHAS),
        *filter(None, map(_line, _settings())),
        "",
        *alpha_tables(),
    ]
    (RESULTS / "alpha.md").write_text("\n".join(text))
    print("\n".join(text))


def _settings() -> Iterator[Setting]:
    yield from _tables()
    for name, images in (("mnist", "MNIST, 4,000 images"), ("fashion", "Fashion-MNIST")):
        losses = list(_of_benchmark("images.jsonl", name))
        if losses:
            yield Setting("images", images, "4, convolutions", "expected", losses)
    yield from _images()
    for name in ("reuters-r8", "reuters-r52", "20newsgroups"):
        losses = list(_of_benchmark("text.jsonl", name, "no_linear"))
        yield Setting("texts", name, "4 of width 256", "expected", losses)
    yield from _texts()
    losses = list(_translation())
    yield Setting("translation", "German to English", "layers, top 2", "representation", losses)


def _tables() -> Iterator[Setting]:
    """The league: the defaults, and the same without distillation, on the same splits."""
    found: dict[tuple[str, bool], list[Loss]] = defaultdict(list)
    fits = {(line["set"], line["split"], line["model"]): line for line in _read("tabular.jsonl")}
    for (name, split, model), line in fits.items():
        top = fits.get((name, split, f"{model}_top_expert"))
        if model in ("mode", "mode_alpha_0") and top is not None:
            what = "value" if line["task"] == "regression" else "log_loss"
            loss = Loss((name, split), float(model == "mode"), line[what], top[what])
            found[line["task"], line["n_train"] >= LARGE].append(loss)
    for task, shown in TASKS.items():
        for large in (False, True):
            data = f"{shown}, {'at least' if large else 'below'} {LARGE:,} rows"
            yield Setting("tables", data, "4 of 2 layers of 64", "expected", found[task, large])


def _of_benchmark(file: str, name: str, model: str = "mode") -> Iterator[Loss]:
    """A mixture with its default alpha, 1, and without distillation, on one set.

    Of texts, the networks alone: the linear model that experts share would hide what alpha does.
    """
    plain = "alpha_0" if model == "mode" else f"{model}_alpha_0"
    for line in _read(file):
        if line["set"] == name and line["model"] in (model, plain):
            losses = [line["scores"][how]["log_loss"] for how in ("mixture", "top_expert")]
            yield Loss((name, line["seed"]), float(line["alpha"]), *losses)


def _texts() -> Iterator[Setting]:
    found: dict[Any, list[Loss]] = defaultdict(list)
    for line in read(PATH):
        n_texts, width, mixing, alpha, seed = (line[key] for key in KEYS)
        losses = [line[how]["log_loss"] for how in ("mixture", "top_expert")]
        found[n_texts, width, mixing].append(Loss((SET, seed), alpha, *losses))
    for (n_texts, width, mixing), losses_ in found.items():
        yield Setting("texts", f"{n_texts:,} of {SET}", f"4 of width {width}", mixing, losses_)


def _images() -> Iterator[Setting]:
    """Parts of Fashion-MNIST: `python -m benchmarks.images alpha`."""
    found: dict[Any, list[Loss]] = defaultdict(list)
    for line in _read("images_alpha.jsonl"):
        losses = [line["scores"][how]["log_loss"] for how in ("mixture", "top_expert")]
        key = line["rows"], line["network"], line["mixing"]
        found[key].append(Loss((key, 0), float(line["alpha"]), *losses))
    for (n_rows, network, mixing), losses_ in found.items():
        size = "" if network == "default" else f" of {network} the width"
        data = f"{n_rows:,} of Fashion-MNIST"
        yield Setting("images", data, f"4, convolutions{size}", mixing, losses_)


def _translation() -> Iterator[Loss]:
    for line in _read("translation.jsonl"):
        if line["case"].startswith("top-2"):
            alpha = float(line["case"].split("alpha=")[1])
            losses = [line[how]["loss"] for how in ("trained", "top_expert")]
            yield Loss(("translation", line["seed"]), alpha, *losses)


def _read(file: str) -> Iterator[dict[str, Any]]:
    return read(RESULTS / file)


def _line(setting: Setting) -> str | None:
    """Compare fits whose counterpart without distillation is there; None if there are none."""
    by_key: dict[Any, dict[float, Loss]] = defaultdict(dict)
    for loss in setting.losses:
        by_key[loss.key][loss.alpha] = loss
    by_key = {key: each for key, each in by_key.items() if len(each) > 1 and 0.0 in each}
    if not by_key:
        return None
    means = [_mean(by_key, alpha) for alpha in ALPHAS]
    best = [min((mean[i] for mean in means if mean), default=0.0) for i in range(2)]
    cells = [
        " / ".join(_shown(mean[i], best[i]) for i in range(2)) if mean else "-" for mean in means
    ]
    n_sets = len({name for name, _ in by_key})
    count = f"{n_sets} x {len(by_key) // n_sets}"
    return f"| {' | '.join([*setting[:4], count, *cells])} |"


def _mean(by_key: dict[Any, dict[float, Loss]], alpha: float) -> tuple[float, float] | None:
    """Mean ratios to the mixture without distillation, a set counting once."""
    ratios: dict[Any, list[Any]] = defaultdict(list)
    for (name, _), each in by_key.items():
        if alpha in each:
            ratios[name].append(np.log(np.array(each[alpha][2:]) / each[0.0].mixture))
    if not ratios:
        return None
    mean = np.exp(np.mean([np.mean(each, axis=0) for each in ratios.values()], axis=0))
    return float(mean[0]), float(mean[1])


def _shown(value: float, best: float) -> str:
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"
