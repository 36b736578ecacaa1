"""Which customers will leave? From a table to a served model, with every figure measured here.

    python demo/churn.py [--output DIR] [--jobs N] [--quick]

searches the weight of the distillation by cross validation, compares a plain mixture of experts
(MoE, alpha 0) with mutually distilled experts (MoDE) on rows that neither has seen, exports MoDE
to ONNX and serves those rows by onnxruntime, each one by its top expert. The output folder gets
churn.png, results.json and the exported bundle.
"""

import argparse
import contextlib
import copy
import itertools
import json
import statistics
import time
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import torch
from joblib.parallel import LokyBackend
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tqdm import tqdm

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier
from skmode.datasets import fetch_churn

LEFT = "Yes"
VIEWS = ("mixture", "top_expert")
METRICS = {"accuracy": "accuracy", "log_loss": "log loss", "auc": "AUC"}
# Okabe and Ito's colours for the colour-blind; shapes and hatches tell the same in black and white.
STYLES = {
    "mixture": {
        "color": "#0072B2",
        "marker": "o",
        "markersize": 11,
        "markerfacecolor": "white",
        "markeredgewidth": 2,
        "label": "mixture of all experts",
    },
    "top_expert": {"color": "#D55E00", "marker": "s", "label": "top expert alone"},
    "reference": {"color": "black", "marker": "D", "label": "another model"},
}


def main():
    options = parse_options()
    begin = time.perf_counter()
    torch.set_num_threads(1)  # of this process: all its timings are of one thread
    options.output.mkdir(parents=True, exist_ok=True)

    X_train, X_test, y_train, y_test = load(options)
    search = search_alpha(X_train, y_train, options)
    moe, mode = refit_both(search, X_train, y_train)
    references = fit_references(search.estimator, X_train, y_train, options)

    rows = [
        measure_experts("MoE", moe, X_test, y_test),
        measure_experts("MoDE", mode, X_test, y_test),
        *(measure_reference(*reference, X_test, y_test) for reference in references.items()),
    ]
    print_comparison(rows, y_test)
    draw(search, rows, len(y_test), options.output / "churn.png")

    bundle = options.output / "bundle"
    skmode.onnx.export(copy.copy(mode).set_params(inference="top_expert"), bundle)
    serving = serve(mode, bundle, X_test, options)
    print_serving(serving, len(X_test))

    results = {
        "data": {"train_rows": len(X_train), "test_rows": len(X_test), "columns": X_test.shape[1]},
        "search": summarize_search(search, options),
        "models": rows,
        "serving": serving,
        "seconds": time.perf_counter() - begin,
    }
    (options.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(
        f"\n{options.output}: churn.png, results.json, bundle/. {results['seconds']:.0f} s in all."
    )


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes of the searches")
    parser.add_argument("--quick", action="store_true", help="too little of everything: for tests")
    options = parser.parse_args()
    options.alphas = [0, 10] if options.quick else [0, 0.1, 1, 10, 100]
    options.folds = 2 if options.quick else 5
    return options


def load(options):
    """Split the customers into training and test rows with the same share of leavers."""
    X, y = fetch_churn(return_X_y=True)
    kinds = X.dtypes.astype(str).value_counts()
    print(
        f"Churn: {len(X):,} customers, of whom {(y == LEFT).mean():.1%} left; "
        f"{kinds.pop('category')} columns of text, {kinds.sum()} of numbers, "
        f"{X.isna().sum().sum()} missing values."
    )
    kept = 1500 if options.quick else len(X)
    X_train, X_test, y_train, y_test = train_test_split(
        X[:kept], y[:kept], test_size=0.25, stratify=y[:kept], random_state=0
    )
    print(f"{len(X_train):,} rows to learn from, {len(X_test):,} rows to test on.")
    return X_train, X_test, y_train, y_test


def search_alpha(X, y, options):
    """Choose alpha by the log loss of the top expert, for that is what will be served."""
    estimator = MoDEClassifier(random_state=0)
    if options.quick:
        estimator.set_params(max_epochs=5)
    return search_grid(
        estimator, {"alpha": options.alphas}, negative_log_losses, "top_expert", X, y, options
    )


def search_grid(estimator, grid, scoring, refit, X, y, options):
    search = GridSearchCV(
        estimator,
        grid,
        scoring=scoring,
        refit=refit,
        cv=StratifiedKFold(options.folds, shuffle=True, random_state=0),
        n_jobs=options.jobs,
    )
    fits = options.folds * sum(len(values) for values in grid.values())
    with parallel_progress(f"{', '.join(grid)} of {type(estimator).__name__}", fits):
        return search.fit(X, y)


@contextlib.contextmanager
def parallel_progress(title, total):
    """A bar that moves as joblib's workers finish; each of them computes with one thread."""
    with tqdm(total=total, desc=title, unit="fit") as bar:
        backend = ProgressBackend(bar)
        with joblib.parallel_config(backend=backend, inner_max_num_threads=1):
            yield bar
        bar.update(total - bar.n)  # a single job runs without the backend


class ProgressBackend(LokyBackend):
    """joblib's processes, with a bar: `submit` is what its documentation says to implement."""

    def __init__(self, bar):
        super().__init__()
        self.bar = bar

    def submit(self, func, callback):
        def advance(future):
            self.bar.update(len(func))
            callback(future)

        return super().submit(func, advance)


def negative_log_losses(estimator, X, y):
    """Score both ways to predict, the whole mixture and the top expert of each row alone."""
    return {
        view: -log_loss(y, predict_proba(estimator, X, view), labels=estimator.classes_)
        for view in VIEWS
    }


def predict_proba(estimator, X, view):
    return copy.copy(estimator).set_params(inference=view).predict_proba(X)


def alpha_path(search):
    """Mean and standard error over the folds of both log losses, and mean fit time, by alpha."""
    results = search.cv_results_
    path = pd.DataFrame({"alpha": results["param_alpha"].data.astype(float)})
    path["fit_seconds"] = results["mean_fit_time"]
    for view in VIEWS:
        path[view] = -results[f"mean_test_{view}"]
        path[f"{view}_error"] = results[f"std_test_{view}"] / np.sqrt(search.n_splits_ - 1)
    return path


def refit_both(search, X, y):
    """MoE, and MoDE with the best alpha above zero, on all training rows."""
    path = alpha_path(search)
    print("\nLog loss in cross validation:\n")
    shown = path[["alpha", *VIEWS]].rename(columns=lambda name: name.replace("_", " "))
    print(shown.to_string(index=False, formatters={"alpha": "{:g}".format}, float_format="%.4f"))
    best = path.alpha[path.top_expert[path.alpha > 0].idxmin()]
    print(f"\nThe search chooses alpha = {search.best_params_['alpha']:g}.", end=" ")
    print(f"MoE is alpha = 0, MoDE is alpha = {best:g}.")
    models = []
    for alpha in (0, best):
        if alpha == search.best_params_["alpha"]:
            models.append(search.best_estimator_)
        else:
            models.append(clone(search.estimator).set_params(alpha=alpha).fit(X, y))
    return models


def fit_references(estimator, X, y, options):
    """What one would try instead; the boosted trees get a search of their own."""
    boosting = search_grid(
        HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0),
        {"learning_rate": [0.01, 0.03, 0.1]},
        "neg_log_loss",
        True,
        X,
        y,
        options,
    ).best_estimator_
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    return {
        "single network": clone(estimator).set_params(n_experts=1).fit(X, y),
        "boosted trees": boosting,
        "logistic regression": make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(X, y),
    }


def measure(y, classes, probabilities):
    predicted = classes[probabilities.argmax(axis=1)]
    return {
        "accuracy": accuracy_score(y, predicted),
        "log_loss": log_loss(y, probabilities, labels=classes),
        "auc": roc_auc_score(y == LEFT, probabilities[:, list(classes).index(LEFT)]),
    }


def measure_experts(name, model, X, y):
    """Both ways to predict, how the gate shares the rows out, and how far the experts agree."""
    votes = model.expert_predict(X)
    pairs = itertools.combinations(votes.T, 2)
    usage = np.bincount(model.route(X), minlength=model.n_experts) / len(X)
    return {
        "name": f"{name}, alpha {model.alpha:g}",
        "alpha": float(model.alpha),
        **{view: measure(y, model.classes_, predict_proba(model, X, view)) for view in VIEWS},
        "expert_usage": usage.tolist(),
        "consistency": float(np.mean([(first == second).mean() for first, second in pairs])),
    }


def measure_reference(name, model, X, y):
    return {"name": name, "mixture": measure(y, model.classes_, model.predict_proba(X))}


def print_comparison(rows, y):
    table = pd.DataFrame([format_row(row) for row in rows], index=[row["name"] for row in rows])
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    print(f"\nOn the {len(y):,} test rows:\n")
    print(table.fillna("").to_string())
    accuracy = rows[1]["mixture"]["accuracy"]
    error = np.sqrt(accuracy * (1 - accuracy) / len(y))
    print(
        f"\nAccuracy has a standard error of {error:.3f} here; log loss is in nats. Usage: share of"
    )
    print("the rows by top expert. Consistency: how often two experts predict the same class.")
    for row in rows[:2]:
        change = row["top_expert"]["log_loss"] - row["mixture"]["log_loss"]
        print(f"{row['name']}: the top expert alone changes the log loss by {change:+.4f}.")


def format_row(row):
    cells = {}
    for view in VIEWS:
        for metric in METRICS if view in row else ():
            cells[view.replace("_", " "), METRICS[metric]] = f"{row[view][metric]:.4f}"
    if "expert_usage" in row:
        shares = " ".join(f"{share:.0%}" for share in row["expert_usage"])
        cells["experts", "usage"] = shares
        cells["experts", "consistency"] = f"{row['consistency']:.3f}"
    return cells


def serve(model, bundle, X, options):
    """Answer the test rows by onnxruntime: parity with the estimator, sizes and times."""
    estimator = copy.copy(model).set_params(inference="top_expert")
    served = skmode_deploy.load(bundle)
    difference = np.abs(served.predict_proba(X) - estimator.predict_proba(X)).max()
    joblib.dump(estimator, bundle.parent / "estimator.joblib")
    paths = [*bundle.iterdir(), bundle.parent / "estimator.joblib"]
    return {
        "labels_equal": float((served.predict(X) == estimator.predict(X)).mean()),
        "experts_equal": float((served.route(X) == estimator.route(X)).mean()),
        "largest_probability_difference": float(difference),
        "file_bytes": {path.name: path.stat().st_size for path in sorted(paths)},
        "median_seconds": {
            name: {n: time_rows(predict, prepare(X, n), options) for n in (1, 1000)}
            for name, predict, prepare in serving_ways(estimator, served, bundle)
        },
    }


def serving_ways(estimator, served, bundle):
    """Name, function and how to make its input of the first n rows of a table."""
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / "model.onnx", session_options)
    return [
        ("estimator", estimator.predict_proba, take_rows),
        ("skmode_deploy", served.predict_proba, take_rows),
        (
            "onnxruntime",
            lambda inputs: session.run(["probabilities"], inputs),
            lambda X, n: to_inputs(take_rows(X, n), session),
        ),
    ]


def take_rows(X, n):
    return X.iloc[np.arange(n) % len(X)]


def to_inputs(X, session):
    """What onnxruntime wants of a table: one array per column, as the model's inputs say."""
    types = {"tensor(float)": np.float32, "tensor(string)": object}
    return {
        item.name: X[item.name].to_numpy(types[item.type]).reshape(-1, 1)
        for item in session.get_inputs()
    }


def time_rows(predict, rows, options):
    """Median over some hundred calls, or over a second of them."""
    predict(rows)
    seconds = []
    end = time.perf_counter() + (0.05 if options.quick else 1)
    while len(seconds) < 200 and (len(seconds) < 5 or time.perf_counter() < end):
        begin = time.perf_counter()
        predict(rows)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def print_serving(serving, n_rows):
    print(f"\nThe {n_rows:,} test rows, served by onnxruntime beside the estimator's top expert:")
    print(
        f"equal labels {serving['labels_equal']:.2%}, equal experts {serving['experts_equal']:.2%},"
    )
    difference = serving["largest_probability_difference"]
    print(f"largest difference of a probability {difference:.1e}.")
    print("\nFile sizes (kB):\n")
    sizes = pd.Series(serving["file_bytes"]) / 1000
    print(sizes.to_string(float_format="{:,.0f}".format))
    print("\nMedian time of one call, one thread (milliseconds):\n")
    times = pd.DataFrame(serving["median_seconds"]).T * 1000
    times.columns = [f"{n:,} row" + "s" * (n > 1) for n in times]
    print(times.to_string(float_format="{:,.3f}".format))


def summarize_search(search, options):
    return {
        "alpha": search.best_params_["alpha"],
        "folds": search.n_splits_,
        "jobs": options.jobs,
        "cores": joblib.cpu_count(),
        "path": alpha_path(search).to_dict("records"),
    }


def draw(search, rows, n_rows, path):
    """The search above, the test rows below."""
    figure = Figure(figsize=(11, 7), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["alpha", "alpha", "usage"], list(METRICS)])
    draw_alpha_path(axes["alpha"], search)
    draw_usage(axes["usage"], rows[:2])
    titles = (
        "Accuracy, higher is better",
        "Log loss (nats), lower is better",
        "AUC, higher is better",
    )
    for metric, title in zip(METRICS, titles, strict=True):
        draw_metric(axes[metric], rows, metric)
        axes[metric].set_xlabel(title)
        if metric != "accuracy":
            axes[metric].tick_params(labelleft=False)
    axes["accuracy"].set_title(f"On {n_rows:,} test rows", loc="left")
    handles = [axes["alpha"].plot([], [], linestyle="", **style)[0] for style in STYLES.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)


def draw_alpha_path(axes, search):
    path = alpha_path(search)
    for view, shift, line in zip(VIEWS, (-0.04, 0.04), ("-", "--"), strict=True):
        axes.errorbar(
            path.index + shift,
            path[view],
            path[f"{view}_error"],
            linestyle=line,
            capsize=3,
            **STYLES[view],
        )
    axes.set_xticks(path.index, [f"{alpha:g}" for alpha in path.alpha])
    axes.set_xlabel("alpha, the weight of the distillation (0: plain mixture of experts)")
    axes.set_ylabel("log loss (nats)")
    axes.set_title(
        f"Cross validation: mean and standard error of {search.n_splits_} folds", loc="left"
    )


def draw_usage(axes, rows):
    width = 0.8 / len(rows)
    for i, (row, face, hatch) in enumerate(
        zip(rows, ("white", "#56B4E9"), ("///", ""), strict=True)
    ):
        places = np.arange(len(row["expert_usage"])) + (i - 0.5) * width
        axes.bar(
            places,
            row["expert_usage"],
            width,
            color=face,
            hatch=hatch,
            edgecolor="black",
            label=row["name"],
        )
    axes.set_xticks(range(len(rows[0]["expert_usage"])))
    axes.set_xlabel("expert")
    axes.set_ylabel("share of the test rows")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.35 * max(max(row["expert_usage"]) for row in rows))
    axes.set_title("Where the gate sends the rows", loc="left")
    axes.legend(frameon=False)


def draw_metric(axes, rows, metric):
    for y, row in enumerate(rows):
        views = [view for view in VIEWS if view in row]
        axes.plot([row[view][metric] for view in views], [y] * len(views), color="grey")
        for view in views:
            style = STYLES[view if "consistency" in row else "reference"]
            axes.plot(row[view][metric], y, linestyle="", **style)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.locator_params(axis="x", nbins=5)  # labels of four digits stay apart
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
