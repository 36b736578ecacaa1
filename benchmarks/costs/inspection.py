"""Cost of the instruments: probing against one forward pass, a path against a grid search.

Run ``python -m benchmarks.costs.inspection``. One thread, whose processor time is measured, so that
other programs' turns on the processor do not count; contenders take turns, and the medians are
compared. The forward pass is that of the bare network over rows that are encoded already, all
experts and their output layers included, block by block as the estimators do it. The grid search
is scikit-learn's with one score, once as it is by default, with a last fit on all rows that a path
does not have, and once without.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import skmode
from benchmarks import _timing
from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import alpha_path, expert_probing

RESULTS = Path(__file__).parents[1] / "results" / "inspection.json"
N_ROWS, N_FEATURES, N_CLASSES, N_EXPERTS = 100_000, 20, 10, 16
BLOCK_ROWS = 1024
PROBING_BAR = 1.3
ALPHAS, N_FOLDS = [0, 0.1, 1, 3, 10, 100], 5
PATH_ROWS = 1000
PATH_BAR = 1.0


def median_seconds(functions: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median processor seconds of each function; they run in turns, each other turn backwards."""
    times: list[list[float]] = [[] for _ in functions]
    order = list(zip(functions, times, strict=True))
    for repeat in range(repeats):
        for function, record in order[:: 1 if repeat % 2 else -1]:
            start = time.process_time()
            function()
            record.append(time.process_time() - start)
    return [statistics.median(record) for record in times]


def forward(estimator: Any, numbers: torch.Tensor) -> None:
    """One pass of all experts, and nothing kept of it."""
    module = estimator.net_.module_
    codes = torch.empty(len(numbers), 0, dtype=torch.int64)
    with torch.inference_mode():
        for start in range(0, len(numbers), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            module(numbers[block], codes[block], all_experts=True)


def measure_probing() -> list[dict[str, Any]]:
    """Expert probing of many rows, for classes and for values."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES)).astype(np.float32)
    targets = {
        "classification": (MoDEClassifier, rng.integers(0, N_CLASSES, N_ROWS)),
        "regression": (MoDERegressor, rng.normal(size=N_ROWS)),
    }
    results = []
    for task, (kind, y) in targets.items():
        estimator = kind(n_experts=N_EXPERTS, max_epochs=1, early_stopping=False, random_state=0)
        estimator.fit(X[:2000], y[:2000])
        numbers = torch.as_tensor(X)
        bare, public, probing = median_seconds(
            [
                lambda estimator=estimator, numbers=numbers: forward(estimator, numbers),
                lambda estimator=estimator: estimator.expert_predict(X),
                lambda estimator=estimator, y=y: expert_probing(estimator, X, y),
            ],
            7,
        )
        results.append(
            {
                "task": task,
                "rows": N_ROWS,
                "experts": N_EXPERTS,
                "forward_seconds": round(bare, 3),
                "expert_predict_seconds": round(public, 3),
                "probing_seconds": round(probing, 3),
                "ratio": round(probing / bare, 3),
                "bar": PROBING_BAR,
            }
        )
    return results


def measure_path() -> dict[str, Any]:
    """Six alphas and five folds."""
    X, y = make_classification(PATH_ROWS, N_FEATURES, n_informative=10, n_classes=4, random_state=0)
    estimator = MoDEClassifier(max_epochs=10, random_state=0)
    cv = StratifiedKFold(N_FOLDS)

    def search(refit: bool) -> Any:
        return GridSearchCV(estimator, {"alpha": ALPHAS}, cv=cv, refit=refit).fit(X, y)

    path, grid, grid_alone = median_seconds(
        [
            lambda: alpha_path(estimator, X, y, ALPHAS, cv),
            lambda: search(True),
            lambda: search(False),
        ],
        4,
    )
    return {
        "rows": PATH_ROWS,
        "alphas": len(ALPHAS),
        "folds": N_FOLDS,
        "path_seconds": round(path, 2),
        "grid_search_seconds": round(grid, 2),
        "grid_search_without_refit_seconds": round(grid_alone, 2),
        "ratio": round(path / grid, 3),
        "ratio_without_refit": round(path / grid_alone, 3),
        "bar": PATH_BAR,
    }


def main() -> int:
    """Measure, print the ratios, write the results; 1 if a bar is missed."""
    torch.set_num_threads(1)
    missed = 0
    probing = measure_probing()
    for result in probing:
        passed = result["ratio"] <= result["bar"]
        missed += not passed
        print(
            f"{result['task']}: probing {result['rows']:,} rows and {result['experts']} experts "
            f"{result['probing_seconds']} s, one forward pass {result['forward_seconds']} s, "
            f"ratio {result['ratio']} (at most {result['bar']}: {_timing.word(passed)})",
            flush=True,
        )
    path = measure_path()
    passed = path["ratio"] <= path["bar"]
    missed += not passed
    print(
        f"alpha_path over {path['alphas']} alphas and {path['folds']} folds {path['path_seconds']} "
        f"s, GridSearchCV {path['grid_search_seconds']} s, ratio {path['ratio']} "
        f"(at most {path['bar']}: {_timing.word(passed)}); without its refit "
        f"{path['grid_search_without_refit_seconds']} s, ratio {path['ratio_without_refit']}",
        flush=True,
    )
    report = {
        **_timing.environment(["numpy", "pandas", "scikit-learn", "torch"]),
        "probing": probing,
        "alpha_path": path,
    }
    report["versions"]["skmode"] = skmode.__version__
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
