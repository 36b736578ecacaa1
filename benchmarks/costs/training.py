"""What training costs: against a bare torch loop, a DataLoader, no distillation, and sgemm.

Run with

    python -m benchmarks.costs.training

which prints ratios, each with its bar, and writes them to results/training.json. All runs
have one thread; what is compared runs in interleaved pairs, and the ratio is the median over them.
Size, embedding, activation, dropout and mixing are the classifier's defaults, also in the loop and
in skorch; `python -m benchmarks.costs.training representation` measures another mixing and writes
it to a file of its own. What goes beyond steps on the rows is off: `fit` averages no weights and
holds no rows out, so there is no refit, and the learning rate is constant. The scales of the
features cannot be switched off: the loop learns them too.
"""

import json
import math
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import skmode
from skmode import MoDEClassifier
from skmode.datasets import fetch_keel
from skmode.nn import (
    CrossEntropy,
    DenseGate,
    MixtureOfExperts,
    MixtureOutput,
    MLPExperts,
    RobustScaler,
    TabularTrunk,
    distillation_loss,
)
from skmode.nn.embeddings import PeriodicBiasEmbeddings
from skmode.nn.trunks import SCALE_RATE

RESULTS = Path(__file__).parents[1] / "results"
DEFAULTS = MoDEClassifier()
DEFAULT_MIXING, DEFAULT_EMBEDDING = DEFAULTS.mixing, DEFAULTS.numeric_embedding
ACTIVATION, DROPOUT = "silu", 0.1  # the classifier's, the dropout where rows are many
PAIRS = 7
EPOCHS = 8
BATCH_SIZE = 256
LEARNING_RATE, WEIGHT_DECAY = 0.002, 0.01
SGEMM_SIZE = 1024

# Shapes: that of the defaults, and the larger one on which distillation and arithmetic are judged.
DEFAULT = {
    "n_experts": DEFAULTS.n_experts,
    "hidden_layer_sizes": DEFAULTS.hidden_layer_sizes,
}
LARGE = {"n_experts": 8, "hidden_layer_sizes": (256, 256)}


# The bare loop: what a good torch user writes by hand for the same mathematics.


class BareLinear(nn.Module):
    def __init__(self, n_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(
            torch.empty(n_experts, in_features, out_features).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(n_experts, 1, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class BareEmbedding(nn.Module):
    """Cosines of learned frequencies and phases, a linear layer per column, and the number."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(0.1 * torch.randn(n_features, 16))
        self.phase = nn.Parameter(torch.empty(n_features, 16).uniform_(-math.pi, math.pi))
        self.weight = nn.Parameter(torch.empty(n_features, 16, 7).uniform_(-0.25, 0.25))
        self.bias = nn.Parameter(torch.empty(n_features, 7).uniform_(-0.25, 0.25))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(2)
        waves = torch.cos(2 * math.pi * self.frequency * x + self.phase)
        embedded = torch.einsum("nfw,fwe->nfe", waves, self.weight) + self.bias
        return torch.cat([embedded, x], dim=2)


class BareMixture(nn.Module):
    """Mixture of experts on numbers, dense gate, any of the three mixings."""

    def __init__(
        self,
        center: Tensor,
        scale: Tensor,
        n_classes: int,
        n_experts: int,
        hidden_layer_sizes: tuple[int, ...],
        own_embedding: bool,
    ) -> None:
        super().__init__()
        self.center, self.scale, self.n_experts = center, scale, n_experts
        self.embedding = (PeriodicBiasEmbeddings if own_embedding else BareEmbedding)(len(center))
        self.scale_offset = nn.Parameter(torch.zeros(8 * len(center)))
        widths = [8 * len(center), *hidden_layer_sizes]
        self.gate = nn.Linear(widths[0], n_experts)
        self.layers = nn.ModuleList(BareLinear(n_experts, a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gate logits `(n, experts)` and representations `(experts, n, width)`."""
        x = (x - self.center) / self.scale
        x = x / (1 + (x / 3).square()).sqrt()
        x = self.embedding(x).flatten(1) * (1 + SCALE_RATE * self.scale_offset)
        hidden = x.expand(self.n_experts, -1, -1)
        for layer in self.layers:
            hidden = nn.functional.dropout(nn.functional.silu(layer(hidden)), DROPOUT)
        return self.gate(x), hidden

    def loss(self, x: Tensor, y: Tensor, alpha: float, mixing: str) -> Tensor:
        logits, experts = self(x)
        if mixing == "likelihood":
            outputs = self.head(experts).log_softmax(dim=2)
            weighted = logits.log_softmax(dim=1).T.unsqueeze(2) + outputs
            task = nn.functional.nll_loss(weighted.logsumexp(dim=0), y)
        elif mixing == "expected":
            outputs = self.head(experts).permute(1, 2, 0)
            each = y.unsqueeze(1).expand(-1, self.n_experts)
            losses = nn.functional.cross_entropy(outputs, each, reduction="none")
            task = (logits.softmax(dim=1) * losses).sum(dim=1).mean()
        else:
            gate = logits.softmax(dim=1).T.unsqueeze(2)
            task = nn.functional.cross_entropy(self.head((gate * experts).sum(dim=0)), y)
        return task + alpha * (experts - experts.mean(dim=0)).square().mean()


def fit_bare(
    X: np.ndarray,
    y: np.ndarray,
    epochs: int,
    alpha: float,
    mixing: str,
    own_embedding: bool = False,
) -> BareMixture:
    """Train from arrays, everything in memory and without a look at anything but the loss."""
    classes, codes = np.unique(y, return_inverse=True)
    numbers, target = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(codes)
    low, center, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0).astype(np.float32)
    center, scale = torch.as_tensor(center), torch.as_tensor((high - low) / 1.349)
    module = BareMixture(center, scale, len(classes), **DEFAULT, own_embedding=own_embedding)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    for _ in range(epochs):
        total = torch.zeros(())
        for batch in torch.randperm(len(numbers)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = module.loss(numbers[batch], target[batch], alpha, mixing)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        if not torch.isfinite(total):
            raise ValueError("The loss is not finite.")
    return module


# The same module in skorch as it comes.


class PlainNet(NeuralNetClassifier):
    """skorch's own training of a mixture, with its default DataLoader."""

    def get_loss(self, y_pred: MixtureOutput, y_true: Tensor, *args, **kwargs) -> Tensor:
        """Task loss and distillation loss of a batch."""
        if self.module_.mixing == "expected":
            each = y_true.unsqueeze(1).expand_as(y_pred.gate_probabilities)
            outputs = y_pred.expert_outputs.transpose(1, 2)
            losses = nn.functional.nll_loss(outputs, each, reduction="none")
            task = (y_pred.gate_probabilities * losses).sum(dim=1).mean()
        else:
            task = nn.functional.nll_loss(y_pred.prediction, y_true)
        return task + self.module_.alpha * distillation_loss(y_pred.representations)


def make_mixture(
    X: np.ndarray, n_classes: int, mixing: str, alpha: float, embedding: str | None
) -> MixtureOfExperts:
    """Build the module of the estimator's default shape."""
    low, center, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0).astype(np.float32)
    scaler = RobustScaler(
        torch.as_tensor(center),
        torch.as_tensor((high - low) / 1.349),
        torch.empty(0, dtype=torch.int64),
    )
    trunk = TabularTrunk(scaler, numeric_embedding=embedding)
    return MixtureOfExperts(
        trunk,
        DenseGate(trunk.out_features, DEFAULT["n_experts"]),
        MLPExperts(trunk.out_features, **DEFAULT, activation=ACTIVATION, dropout=DROPOUT),
        nn.Linear(DEFAULT["hidden_layer_sizes"][-1], n_classes),
        CrossEntropy(),
        mixing=mixing,
        alpha=alpha,
    )


def fit_skorch(
    X: np.ndarray, y: np.ndarray, epochs: int, alpha: float, mixing: str, embedding: str | None
) -> None:
    codes = np.unique(y, return_inverse=True)[1]
    PlainNet(
        make_mixture(X, codes.max() + 1, mixing, alpha, embedding),
        train_split=None,
        max_epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=WEIGHT_DECAY,
        optimizer__fused=True,
        lr=LEARNING_RATE,
        verbose=0,
    ).fit(X.astype(np.float32), codes)


def fit_estimator(X: np.ndarray, y: np.ndarray, epochs: int, **options) -> MoDEClassifier:
    return MoDEClassifier(
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        early_stopping=False,
        learning_rate=LEARNING_RATE,
        learning_rate_schedule="constant",
        weight_decay=WEIGHT_DECAY,
        weight_averaging=0.0,
        activation=ACTIVATION,
        dropout=DROPOUT,
        balance=0.0,
        random_state=0,
        **options,
    ).fit(X, y)


# Measuring.


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(first: Callable[[], object], second: Callable[[], object]) -> dict:
    """Time of the first over that of the second in interleaved pairs, their order alternating."""
    first(), second()
    pairs = []
    for i in range(PAIRS):
        if i % 2:
            b, a = seconds(second), seconds(first)
        else:
            a, b = seconds(first), seconds(second)
        pairs.append((a, b))
    return {
        "ratio": statistics.median(a / b for a, b in pairs),
        "ratios": sorted(a / b for a, b in pairs),
        "seconds": statistics.median(a for a, _ in pairs),
        "seconds_reference": statistics.median(b for _, b in pairs),
    }


class CountProducts(Callback):
    """Count the floating-point operations of all products of one epoch, forward and backward."""

    def on_epoch_begin(self, net, **kwargs) -> None:
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()

    def on_batch_end(self, net, **kwargs) -> None:
        self.operations = self.counter.get_total_flops()

    def on_epoch_end(self, net, **kwargs) -> None:
        self.counter.__exit__(None, None, None)


def count_products(X: np.ndarray, y: np.ndarray, **options) -> int:
    counting = CountProducts()
    fit_estimator(X, y, 1, callbacks=[counting], **options)
    return counting.operations


def sgemm_rate() -> float:
    """Floating-point operations per second of a product of square float32 matrices."""
    a, b = torch.randn(2, SGEMM_SIZE, SGEMM_SIZE)
    out = torch.empty_like(a)
    # The mean over many, as an epoch is: what disturbs the machine counts on both sides.
    elapsed = seconds(lambda: [torch.mm(a, b, out=out) for _ in range(20)])
    return 20 * 2 * SGEMM_SIZE**3 / elapsed


def arithmetic(X: np.ndarray, y: np.ndarray, **options) -> dict:
    """Rate of the products in the training epochs over that of sgemm, measured in turns."""
    operations = count_products(X, y, **options)
    rates, sgemm = [], []
    for _ in range(PAIRS):
        before = sgemm_rate()
        epoch = fit_estimator(X, y, 1, **options).history_[0]["dur"]
        sgemm.append((before + sgemm_rate()) / 2)
        rates.append(operations / epoch)
    return {
        "ratio": statistics.median(rate / peak for rate, peak in zip(rates, sgemm, strict=True)),
        "ratios": sorted(rate / peak for rate, peak in zip(rates, sgemm, strict=True)),
        "operations_per_step": operations / -(-len(X) // BATCH_SIZE),
        "gflops": statistics.median(rates) / 1e9,
        "gflops_sgemm": statistics.median(sgemm) / 1e9,
    }


def measure(X: np.ndarray, y: np.ndarray, mixing: str) -> Iterator[dict]:
    """Yield the measurements for one mixing."""
    large = {**LARGE, "mixing": mixing}

    def estimator(embedding: str | None = DEFAULT_EMBEDDING) -> object:
        options = {"mixing": mixing, "numeric_embedding": embedding, **DEFAULT}
        return fit_estimator(X, y, EPOCHS, alpha=1.0, **options)

    # As a torch user writes it, and with the embedding of skmode.nn lent to it.
    for own, name in ((False, "fit / bare torch loop"), (True, "the same, skmode's embedding")):
        bare = compare(
            estimator, lambda own=own: fit_bare(X, y, EPOCHS, 1.0, mixing, own_embedding=own)
        )
        yield {"name": name, "bar": "<= 1.10", **bare}
    # A DataLoader costs the same per row whatever the network, so the ratio falls with its size.
    for embedding, bar in ((None, ">= 1.50"), (DEFAULT_EMBEDDING, ">= 1.50")):
        plain = compare(
            lambda embedding=embedding: fit_skorch(X, y, EPOCHS, 1.0, mixing, embedding),
            lambda embedding=embedding: estimator(embedding),
        )
        name = f"skorch with its DataLoader / fit, {embedding or 'no'} embedding"
        yield {"name": name, "bar": bar, **plain}
    distilled = compare(
        lambda: fit_estimator(X, y, 1, alpha=1.0, **large),
        lambda: fit_estimator(X, y, 1, alpha=0.0, **large),
    )
    yield {"name": "fit with alpha 1 / alpha 0", "bar": "<= 1.10", **distilled}
    yield {
        "name": "products in training / sgemm",
        "bar": ">= 0.60",
        **arithmetic(X, y, alpha=1.0, **large),
    }


def passes(record: dict) -> bool:
    if record["bar"] is None:
        return True
    sign, bar = record["bar"].split()
    return record["ratio"] <= float(bar) if sign == "<=" else record["ratio"] >= float(bar)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def environment() -> dict:
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (skmode, torch, skorch, sklearn, np)},
    }


def main(mixing: str = DEFAULT_MIXING) -> int:
    """Measure, print and write; 1 if a bar is missed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y = fetch_keel("letter", return_X_y=True)
    X, y = X.to_numpy(dtype=float), np.asarray(y)
    result = {"environment": environment(), "set": "letter", "mixing": mixing, "measurements": []}
    for record in measure(X, y, mixing):
        result["measurements"].append(record)
        bar = f"bar {record['bar']}" if record["bar"] else "(no bar)"
        verdict = "" if passes(record) else "  MISSED"
        print(f"{record['name']:52} {record['ratio']:5.2f}  {bar}{verdict}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    name = "training" if mixing == DEFAULT_MIXING else f"training_{mixing}"
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return int(not all(map(passes, result["measurements"])))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
