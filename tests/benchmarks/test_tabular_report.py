"""The report of the league, from results written by hand."""

import json
import math
import re

import numpy as np
import pytest

from benchmarks.tabular import _results
from benchmarks.tabular.__main__ import main
from benchmarks.tabular._fingerprint import Fingerprint
from benchmarks.tabular._league import League
from benchmarks.tabular._reporting.bars import bars

CURRENT = Fingerprint("digest", (0.25, 0.5))
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
SETS = {"coins": "binary", "birds": "multiclass", "rents": "regression"}
# The value of each model on the three sets.
VALUES = {
    "mode": (0.90, 0.50, 4.0),
    "mode_top_expert": (0.89, 0.51, 4.02),
    "mode_alpha_0": (0.88, 0.52, 3.9),
    "mode_alpha_0_top_expert": (0.80, 0.60, 4.5),
    "catboost": (0.92, 0.40, 3.0),
    "linear": (0.70, 0.90, 8.0),
}


@pytest.fixture(autouse=True)
def quick_fingerprint(monkeypatch):
    """The real one takes seconds of fits."""
    monkeypatch.setattr(_results, "fingerprint", lambda: CURRENT)


def record(model, table, split, value, **more):
    task = SETS[table]
    ours = model.startswith("mode")
    quality = {} if task == "regression" else {"accuracy": 0.8, "log_loss": 1 - value}
    return {
        "set": table,
        "task": task,
        "split": split,
        "model": model,
        **({"settings": CURRENT.stored()} if ours else {}),
        "versions": {"python": "3.11.0"},
        "metric": METRICS[task],
        "value": value,
        **quality,
        METRICS[task]: value,
        "n_train": 3000,
        "n_test": 1000,
        "n_features": 5,
        "fit_seconds": 2.0 if ours else 4.0,
        "fit_cpu_seconds": 2.0,
        "model_bytes": 10_000,
        **({"onnx_bytes": 5000} if ours else {}),
        "predict_microseconds": 40.0 if ours else 900.0,
        "rows_per_second": 100_000,
        **more,
    }


def all_records():
    return [
        record(model, table, split, value * (1 + 0.001 * split))
        for split in range(5)
        for model, values in VALUES.items()
        for table, value in zip(SETS, values, strict=True)
    ]


def found(records):
    return {bar.what: bar for bar in bars(League(records))}


def test_errors_are_less_is_better():
    errors = League(all_records()).errors
    assert errors.loc[("coins", 0), "mode"] == pytest.approx(0.1)
    assert errors.loc[("birds", 0), "mode"] == 0.5
    assert errors.loc[("rents", 1), "mode"] == pytest.approx(4.004)
    assert np.isnan(errors.loc[("coins", 0), "tabm_d"])


def test_failures_are_infinite_and_skipped_jobs_missing():
    failed = record("linear", "coins", 0, 0.7)
    del failed["value"]
    errors = League([failed | {"error": "ValueError"}, record("mode", "coins", 0, 0.9)]).errors
    assert errors.loc[("coins", 0), "linear"] == math.inf
    errors = League([failed | {"skipped": "time"}, record("mode", "coins", 0, 0.9)]).errors
    assert np.isnan(errors.loc[("coins", 0), "linear"])


def rivals(records, **values):
    """Add the peers that decide, each as good as another model that is in the records."""
    copies = {"lightgbm": "linear", "xgboost": "linear", "hist_gradient_boosting": "linear"}
    copies |= {"random_forest": "linear", "mlp": "linear", "realmlp_td_s": "linear"} | values
    return [
        *records,
        *(
            line | {"model": model}
            for model, source in copies.items()
            for line in records
            if line["model"] == source
        ),
    ]


BEST = "mean rank of MoDE less that of the best peer named"


def test_rank_bar():
    verdict = found(rivals(all_records()))[BEST]
    figure = "+1.00 [+1.00, +1.00], 2.00 against 1.00 of CatBoost on 3 sets"
    assert (verdict.figure, verdict.verdict) == (figure, "MISSED")
    records = [line for line in all_records() if (line["model"], line["set"]) != ("mode", "birds")]
    records += [record("mode", "birds", split, 0.3) for split in range(5)]
    verdicts = found(rivals(records))
    # Level is not ahead.
    assert verdicts[BEST].verdict == "MISSED"
    assert verdicts[BEST].figure == (
        "+0.33 [-1.00, +1.00], 1.67 against 1.33 of CatBoost on 3 sets: level within the interval"
    )
    alone = verdicts[BEST + ", first split alone"]
    assert (alone.figure, alone.verdict) == (verdicts[BEST].figure, "reported")


def test_rank_bar_needs_all_peers():
    verdict = found(all_records())[BEST]
    assert verdict.verdict == "not measured"
    assert verdict.figure.startswith("without LightGBM, XGBoost, ")


def test_stretch_bar_is_of_the_first_split():
    name = "stretch: mean rank of MoDE less that of TabM-D, first split"
    assert found(rivals(all_records()))[name].verdict == "not measured"
    slow = [record("tabm_d", "coins", 0, 0.85), record("tabm_d", "rents", 0, 4.5)]
    verdict = found(rivals([*all_records(), *slow]))[name]
    assert verdict.figure == "-1.00 [-1.00, -1.00], 2.00 against 3.00 of TabM-D on 2 sets"
    assert verdict.passed


def test_other_bars():
    verdicts = found(all_records())
    rmse = verdicts["MoDE: RMSE that the top expert alone adds, mean over sets, in %"]
    assert (rmse.figure, rmse.passed) == ("0.50 (1 sets)", True)
    against = "MoDE against alpha 0: "
    top = verdicts[against + "share of sets on which the top expert alone is better"]
    assert (top.figure, top.passed) == ("1.00 (3 of 3)", True)
    time = verdicts["processor seconds to fit MoDE over those of CatBoost, median over sets"]
    assert (time.figure, time.passed) == ("1 (3 sets; 0.5 by the clock)", False)
    missing = verdicts["processor seconds to fit MoDE over those of RealMLP-TD-S, median over sets"]
    assert missing.verdict == "not measured"


WORSE = "MoDE against alpha 0: sets on which the mixture is significantly worse"


def test_significant_losses():
    verdict = found(all_records())[WORSE]
    figure = "1 of 3 (rents); 1 without Holm's correction"
    assert (verdict.figure, verdict.verdict) == (figure, "MISSED")
    first = [line for line in all_records() if line["split"] == 0]
    assert found(first)[WORSE].verdict == "not measured"


def test_a_loss_among_many_sets_may_be_chance():
    # p = 0.04 on rents, nothing on the others: 0.12 by Holm.
    differences = np.array([0.7, 1.3, 0.3, 0.9, 1.2]) * 0.1
    records = [line for line in all_records() if (line["model"], line["set"]) != ("mode", "rents")]
    plain = [line for line in records if (line["model"], line["set"]) == ("mode_alpha_0", "rents")]
    records += [
        record("mode", "rents", line["split"], line["value"] + difference)
        for line, difference in zip(plain, differences, strict=True)
    ]
    verdict = found(records)[WORSE]
    figure = "0 of 3; 1 without Holm's correction"
    assert (verdict.figure, verdict.verdict) == (figure, "passed")


def test_a_failure_is_a_loss():
    records = [line for line in all_records() if (line["model"], line["set"]) != ("mode", "birds")]
    failed = record("mode", "birds", 0, 0.5)
    for field in ("value", "log_loss", "accuracy"):
        del failed[field]
    verdicts = found([*records, failed | {"error": "ValueError"}])
    assert "birds" in verdicts[WORSE].figure
    name = "MoDE against alpha 0: share of classification sets with a lower log loss of the mixture"
    assert "of 2)" in verdicts[name].figure


def test_a_set_on_which_all_failed_is_ignored():
    models = ["mode", "catboost"]
    records = [line for line in all_records() if line["model"] in models and line["set"] != "coins"]
    for model in models:
        failed = record(model, "coins", 0, 0.5)
        del failed["value"]
        records.append(failed | {"error": "MemoryError"})
    assert list(League(records).means(models).index) == ["birds", "rents"]


def test_results_of_former_code_are_left_out():
    plain = [record("mode_alpha_0", "coins", 0, 0.99, settings="former")]
    league = League([*plain, record("mode", "coins", 0, 0.9), record("linear", "coins", 0, 0.7)])
    assert league.left_out == 1
    assert np.isnan(league.errors.loc[("coins", 0), "mode_alpha_0"])
    assert league.errors.loc[("coins", 0), ["mode", "linear"]].notna().all()


def test_worst_set_counts_from_2000_rows():
    records = all_records()
    for line in records:
        if (line["set"], line["model"]) == ("coins", "mode_top_expert"):
            line["accuracy"] = 0.785
        if line["set"] == "coins":
            line["n_train"] = 700
    what = "MoDE: the same, worst set of at least 2,000 rows"
    assert found(records)[what].figure == "0.00 (birds)"
    for line in records:
        line["n_train"] = 3000
    assert found(records)[what].figure == "1.50 (coins)"
    assert found(records)[what].verdict == "MISSED"


@pytest.mark.slow
def test_report(tmp_path):
    results = tmp_path / "next.jsonl"
    failed = record("linear", "rents", 0, 8.0)
    del failed["value"]
    slow = [record("tabm_d", "coins", 0, 0.95)]
    older = [record("mode", "coins", 0, 0.5, settings="older")]
    lines = [*older, *all_records(), failed | {"error": "ValueError: no\nnumber"}, *slow]
    lines += [record("realmlp_td", "coins", 0, 0.94)]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "output"
    assert main(["report", "--results", str(results), "--output", str(output)]) == 0
    names = {path.name for path in output.iterdir()}
    assert names == {"next.md", "next_ranks.svg", "next_latency.svg"}
    text = (output / "next.md").read_text()
    assert "| CatBoost | 1.00 [1.00, 1.00] | 0 / 0 / 3 |" in text
    assert "linear model failed and ranks last: ValueError: no number" in text
    assert "| RMSE" not in text
    # The slow ones: one set, all ranked anew, with the newest line of each.
    slow_part = text.partition("## With the slow ones")[2].partition("## Set by set")[0]
    assert "1 sets (coins)" in slow_part
    assert "| TabM-D | 1.00 | 0 / 0 / 1 | 0.0 |" in slow_part
    assert "| MoDE | 4.00 |" in slow_part
    assert "**0.9218**" in text  # CatBoost's mean over five splits
    assert "0.95†" in text
    assert (output / "next_ranks.svg").read_text().startswith("<?xml")


def report(tmp_path, records, onnx=()):
    """The text of the report of some lines."""
    for name, lines in (("tabular.jsonl", records), ("tabular_onnx.jsonl", onnx)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = str(tmp_path / "tabular.jsonl")
    assert main(["report", "--results", results, "--output", str(tmp_path)]) == 0
    return (tmp_path / "tabular.md").read_text()


def part(text, title):
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def like(records, source, model, factor=1.0):
    """Lines of a model whose error is that of another one times a factor."""
    found = []
    for line in records:
        if line["model"] == source:
            value = line["value"]
            auc = line["metric"] == "roc_auc"
            found.append(line | {"value": 1 - factor * (1 - value) if auc else factor * value})
    return [line | {"model": model} for line in found]


@pytest.mark.slow
def test_the_taught_top_expert_in_pairs(tmp_path):
    records = all_records()
    records += like(records, "mode", "mode_taught")
    records += like(records, "mode", "mode_taught_top_expert", 1.01)
    records += like(records, "mode", "mlp_ensemble", 1.01 / 0.9)
    records += like(records, "mode", "mlp_small", 1.2)
    text = report(tmp_path, records)
    pairs = part(text, "One taught expert")
    # Sets differ alike here, so any of them may be the one left out.
    pairs = re.sub(r"\((coins|birds|rents)\)", "(one)", pairs)
    row = "| ensemble of K networks | 3 | -10.0 ± 0.0 | -10.0 ± 0.0 (one) | 3 / 0 / 0 | 3 / 0 |"
    assert row in pairs
    row = "| MoDE, taught by an ensemble | 3 | +1.0 ± 0.0 | +1.0 ± 0.0 (one) | 0 / 0 / 3 | 0 / 3 |"
    assert row in pairs
    assert "mlp_taught" not in pairs
    verdicts = found(records)
    what = (
        "mean rank of MoDE, taught by an ensemble, top expert less that of ensemble of K networks"
    )
    assert verdicts[what + ", first table"].passed
    what = "error of MoDE, taught by an ensemble, top expert against that of "
    verdict = verdicts[what + "one network, an expert's size, in %"]
    assert (verdict.figure, verdict.passed) == ("-15.8 ± 0.0 (3 sets)", True)
    assert verdicts[what + "MoDE, top expert, in %"].verdict == "MISSED"
    assert found(all_records())[what + "MoDE, top expert, in %"].verdict == "not measured"


@pytest.mark.slow
def test_tuned_beside_default(tmp_path):
    records = all_records()
    first = [line for line in records if line["split"] == 0]
    search = {"trials": 12, "best_params": {"depth": 4}, "fit_cpu_seconds": 250.0}
    for source in ("mode", "catboost"):
        records += [line | search for line in like(first, source, f"{source}_tuned", 0.95)]
    text = report(tmp_path, records)
    tuned = part(text, "Tuned")
    assert "First split of 3 sets (coins, birds, rents)" in tuned
    row = "| CatBoost | 2.00 | 1.00 | 5.0 | 0.0 | -5.0 ± 0.0 | 3 / 0 / 0 | 12 | 250 |"
    assert row in tuned
    # They are ranked nowhere else.
    assert "tuned" not in part(text, "Standings")
    assert "CatBoost | 1.00" in part(text, "Standings")


@pytest.mark.slow
def test_how_much_of_a_votes_lead_its_students_keep(tmp_path):
    plain = [line for line in all_records() if line["split"] < 3]
    records = [*plain]
    # The vote leads by a fifth on two sets, and not on the third.
    records += like([r for r in plain if r["set"] != "rents"], "mode_top_expert", "vote", 0.8)
    records += like([r for r in plain if r["set"] == "rents"], "mode_top_expert", "vote", 1.1)
    for name, factor in (("mode_vote", 0.85), ("mode_vote_top_expert", 0.9), ("mlp_vote", 1.0)):
        records += like(plain, "mode_top_expert", name, factor)
    text = report(tmp_path, records)
    found = part(text, "Taught by a vote")
    assert "First 3 splits of 3 sets" in found
    assert (
        "the mean of the 2 sets on which the vote is better on each split (coins, birds)" in found
    )
    assert "| MoDE, taught by the vote, top expert | -10.0 ± 0.0 | 0.50 [0.50, 0.50] |" in found
    assert "| one network, taught by the vote | +0.0 ± 0.0 | 0.00 [0.00, 0.00] |" in found
    # They are ranked nowhere else.
    assert "vote" not in part(text, "Standings")
    assert "Taught by a vote" not in report(tmp_path, plain)


def onnx_line(model, table, **more):
    task = SETS[table]
    ours = {"settings": CURRENT.stored()} if model.startswith("mode") else {}
    line = {"set": table, "task": task, "split": 0, "model": model, "versions": {}}
    return line | ours | more


def times(microseconds):
    figures = {"onnx_microseconds": microseconds, "python_microseconds": 900.0}
    return figures | {"onnx_bytes": 20_000, "onnx_difference": 2e-7}


@pytest.mark.slow
def test_one_row_as_onnx(tmp_path):
    lines = [
        onnx_line("mode", "coins", **times(50.0)),
        onnx_line("mode", "birds", **times(60.0)),
        onnx_line("catboost", "coins", **times(90.0)),
        onnx_line("catboost", "birds", not_exported="CatBoost exports no categories"),
    ]
    text = report(tmp_path, all_records(), lines)
    onnx = part(text, "One row as ONNX")
    assert "all exported models share (coins)" in onnx
    assert "| MoDE | 50 | 50 | 60 | 900 | 20 | 2e-07 |" in onnx
    assert "| CatBoost | 90 | 90 | - | 900 | 20 | 2e-07 |" in onnx
    assert "- Not exported: CatBoost exports no categories (CatBoost on birds)." in onnx
    standings = part(text, "Standings")
    assert "| 40 | 50 | 100,000 |" in standings
    assert "| 900 | - | 100,000 |" in standings  # the linear model, which was not measured
    assert "One row as ONNX" not in report(tmp_path, all_records())


@pytest.mark.slow
def test_the_same_results_give_the_same_files(tmp_path):
    results = tmp_path / "tabular.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in all_records()))
    written = []
    for output in (tmp_path / "one", tmp_path / "two"):
        main(["report", "--results", str(results), "--output", str(output)])
        written.append({path.name: path.read_bytes() for path in output.iterdir()})
    assert written[0] == written[1]


def test_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="no result of 'mode'"):
        main(["report", "--results", str(tmp_path / "none.jsonl"), "--output", str(tmp_path)])
    assert _results.read(tmp_path / "none.jsonl") == []
