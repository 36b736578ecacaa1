"""Which mail is spam? What an ensemble of networks gives, at the price of one network.

    python demo/spam.py [--output DIR] [--jobs N] [--quick]

fits seven models on the same five splits of real mails: logistic regression, boosted trees, one
network, four of them averaged, and mixtures of four experts of that size, of which only the top
expert of each row predicts. Four networks and the mixture itself teach the last one. Then it
measures the time of one row as ONNX. The output folder gets spam.png and spam.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import torch
from matplotlib.figure import Figure
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmode.onnx  # noqa: F401, teaches skl2onnx our estimators
from skmode import MoDEClassifier
from skmode.datasets import fetch_keel
from skmode.inspection import compare

TAUGHT = "top expert, taught by an ensemble"
ENSEMBLE = "four networks averaged"
NETWORK = "one network"


def main():
    options = parse_options()
    begin = time.perf_counter()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    X, y = fetch_keel("spambase", return_X_y=True)
    if options.quick:
        X, y = X[::12], y[::12]
    print(f"Spambase: {len(X):,} mails, {X.shape[1]} numbers each, {(y == 1).mean():.0%} spam.")
    print("Log loss (nats) on the test rows of five splits; this takes about two minutes.")
    models = make_models(options)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        comparison = compare(
            models,
            X,
            y,
            cv=2 if options.quick else 5,
            repeats=1,
            scoring="neg_log_loss",
            n_jobs=options.jobs,
        )
    rows = summarize(comparison)
    print_scores(rows)
    latencies = measure_latencies(models, X, y, options)
    print_latencies(latencies)
    draw(rows, options.output / "spam.png")
    results = {
        "rows": len(X),
        "columns": X.shape[1],
        "models": rows,
        "median_seconds": latencies,
        "seconds": time.perf_counter() - begin,
    }
    (options.output / "spam.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{options.output}: spam.png, spam.json. {results['seconds']:.0f} s in all.")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--jobs", type=int, default=2, help="fits at the same time")
    parser.add_argument("--quick", action="store_true", help="too little of everything: for tests")
    return parser.parse_args()


def make_models(options):
    epochs = {"max_epochs": 3} if options.quick else {}
    mixture = {"inference": "top_expert", "random_state": 0} | epochs
    networks = [
        (f"network {seed}", MoDEClassifier(n_experts=1, random_state=seed, **epochs))
        for seed in range(4)
    ]
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        NETWORK: networks[0][1],
        "top expert, alpha 0": MoDEClassifier(alpha=0, **mixture),
        "top expert": MoDEClassifier(**mixture),
        TAUGHT: MoDEClassifier(teacher="ensemble", **mixture),
        ENSEMBLE: VotingClassifier(networks, voting="soft"),
        "boosted trees": HistGradientBoostingClassifier(random_state=0),
    }


def summarize(comparison):
    """Mean loss of each model, and its difference from the taught top expert, split by split."""
    losses = -comparison.scores
    rows = []
    for name in losses:
        row = {
            "name": name,
            "loss": float(losses[name].mean()),
            "losses": losses[name].tolist(),
        }
        if name != TAUGHT:
            row |= difference(comparison.pairs, losses, name)
        rows.append(row)
    return rows


def difference(pairs, losses, name):
    """How much higher the loss of a model is, with the interval of the corrected t-test."""
    pair = pairs[pairs[["first", "second"]].isin([name, TAUGHT]).all(axis=1)].iloc[0]
    # Pairs compare scores, which are negative losses: second minus first has the sign of losses.
    values = pair[["difference", "low", "high"]].astype(float).to_numpy()
    if pair["first"] == name:
        values = -values[[0, 2, 1]]
    return {
        "difference": values[0],
        "interval": values[1:].tolist(),
        "worse_splits": int((losses[name] > losses[TAUGHT]).sum()),
    }


def print_scores(rows):
    print(f"\n{'':34}log loss   higher than the taught top expert's by")
    for row in rows:
        print(f"{row['name']:34}  {row['loss']:.4f}", end="")
        if "difference" in row:
            low, high = row["interval"]
            print(
                f"   {row['difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), "
                f"on {row['worse_splits']} of {len(row['losses'])} splits",
                end="",
            )
        print()


def measure_latencies(models, X, y, options):
    """Median time of one row and of 1,024 rows in onnxruntime, one thread."""
    sessions = {}
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session_options.log_severity_level = 3  # of the graph of four networks, one weight is unused
    for name in (NETWORK, TAUGHT, ENSEMBLE):
        # The four networks become one graph, too.
        graph = to_onnx(
            models[name].fit(X, y), X[:1].astype(np.float32), options={"zipmap": False}
        ).SerializeToString()
        sessions[name] = onnxruntime.InferenceSession(graph, session_options)
    names = [item.name for item in sessions[NETWORK].get_inputs()]
    found = {name: {} for name in sessions}
    for n_rows in (1, 1024):
        part = X.iloc[np.arange(n_rows) % len(X)].set_axis(names, axis=1).astype(np.float32)
        inputs = {name: part[[name]].to_numpy() for name in names}
        for name, session in sessions.items():
            found[name][n_rows] = median_seconds(session, inputs, 20 if options.quick else 300)
    return found


def median_seconds(session, inputs, times):
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        session.run(["probabilities"], inputs)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def print_latencies(latencies):
    print("\nMedian time in onnxruntime, one thread (milliseconds):\n")
    print(f"{'':34}{'1 row':>9}{'1,024 rows':>13}")
    for name, times in latencies.items():
        one, many = (1000 * times[n_rows] for n_rows in (1, 1024))
        print(f"{name:34}{one:9.3f}{many:13.3f}")


def draw(rows, path):
    figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        color = "#D55E00" if row["name"] == TAUGHT else "#0072B2"
        axes.plot(row["losses"], [place] * len(row["losses"]), "o", color=color, alpha=0.35)
        axes.plot(row["loss"], place, "|", color=color, markersize=22, markeredgewidth=3)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("log loss (nats) on each split and, as a bar, on average; lower is better")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    figure.savefig(path)


if __name__ == "__main__":
    main()
