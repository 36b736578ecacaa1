"""What the experiments share: options, models, scores on test texts, results."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.language._texts import Texts, load_texts
from skmode.language import ModularLanguageModel
from skmode.language.corpus import windows
from skmode.language.model.fitting import build, choose_tokenizer, make_lab, spool_texts
from skmode.language.setups import Lab, mean_forward, to_bits
from skmode.language.tokenizer import encode, end_of
from skmode.language.training import Phase, losses_of

RESULTS = Path(__file__).parents[1] / "results"
# Bytes of test text of each domain.
TEST_BYTES = 24_000


class Bench:
    """Texts, a tokenizer and a recipe; makes, trains and scores single models."""

    def __init__(
        self,
        options: argparse.Namespace,
        domains: tuple[str, ...],
        seed: int,
        texts: Texts,
        max_bytes: int | None = None,
        **parameters: Any,
    ) -> None:
        self.domains = domains
        self.parameters = ModularLanguageModel(**model_parameters(options, seed) | parameters)
        self._folder = tempfile.TemporaryDirectory()
        spool = spool_texts(Path(self._folder.name), *texts.pairs(domains, max_bytes))
        self.tokenizer = choose_tokenizer(None, spool, self.parameters.vocab_size)
        self.lab: Lab = make_lab(self.parameters, spool, self.tokenizer)
        self.tests = {name: texts.sample(name, TEST_BYTES) for name in domains}

    def make(self, name: str, size: Any) -> nn.Module:
        """Return a new model; the name decides about its random weights."""
        return build(self.lab, name, size, self.tokenizer, self.parameters.max_length)

    def train(self, model: nn.Module, domains: list[str], n_steps: int, name: str, **more: Any):
        """Train a model on domains."""
        self.lab.train(Phase(name, {"one": model}, {"one": domains}, n_steps, **more))
        return model

    def score(self, model: nn.Module, domain: str, common: nn.Module | None = None) -> float:
        """Return the bits per byte of a model on the test of a domain."""
        tokens = encode(self.tokenizer, self.tests[domain])
        rows = windows(tokens, self.parameters.max_length, end_of(self.tokenizer))
        model.eval()
        losses = losses_of(mean_forward(model, common), rows, self.lab.recipe.device)
        return to_bits(float(losses.sum()), len(self.tests[domain].encode()))

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Return the bits per byte of a model on each domain, and their mean."""
        found = {name: round(self.score(model, name), 4) for name in self.domains}
        return found | {"mean": round(float(np.mean(list(found.values()))), 4)}

    def seconds_per_step(self, size: Any) -> float:
        """Return the processor time of a step (on a GPU the time)."""
        self.train(self.make("timed", size), list(self.domains), 1, "timed")
        start = clock(self.lab.recipe.device)
        self.train(self.make("timed", size), list(self.domains), 3, "timed again")
        return (clock(self.lab.recipe.device) - start) / 3


def model_parameters(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the parameters that the options set."""
    return {
        "student": options.student,
        "teacher": options.teacher,
        "vocab_size": options.vocab_size,
        "max_length": options.max_length,
        "batch_size": options.batch_size,
        "device": options.device,
        "random_state": seed,
    }


def clock(device: torch.device) -> float:
    """Return processor seconds, or seconds on a GPU, which works beside the processor."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def choose_steps(
    bench: Bench, options: argparse.Namespace, student_steps: float, teacher_steps: float = 0.0
) -> int:
    """Return the number of steps of a unit, so that the experiment takes the minutes.

    ``student_steps`` and ``teacher_steps`` say how many units of steps an experiment takes of each.
    """
    if options.steps:
        return int(options.steps)
    cost = student_steps * bench.seconds_per_step(options.student)
    if teacher_steps:
        cost += teacher_steps * bench.seconds_per_step(options.teacher)
    return max(int(0.85 * 60 * options.minutes / cost), 2)


def texts_of(options: argparse.Namespace, domains: tuple[str, ...]) -> Texts:
    return load_texts(domains, options.data)


@contextlib.contextmanager
def results(
    options: argparse.Namespace, name: str, uses: Collection[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Collect lines; write them and how they were made, also if the experiment is cut short.

    ``uses`` are the options that the experiment depends on, by default all.
    """
    lines: list[dict[str, Any]] = []
    start = time.process_time()
    try:
        yield lines
    finally:
        shown = {
            key: value.name if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in ("experiment", "results") and (uses is None or key in uses)
        }
        made_by = {key: str(value) for key, value in shown.items()}
        made_by |= {
            "command": f"python -m benchmarks.language {name}",
            "processor_seconds": f"{time.process_time() - start:.0f}",
            "torch": torch.__version__,
        }
        path = options.results or RESULTS / f"language_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"made_by": made_by, "lines": lines}, indent=1) + "\n")
        show(lines)


def show(lines: list[dict[str, Any]]) -> None:
    """Print lines as tables, a table for each set of columns."""
    columns: list[str] | None = None
    for line in lines:
        if list(line) != columns:
            columns = list(line)
            print("\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
        print("| " + " | ".join(str(value) for value in line.values()) + " |", flush=True)
