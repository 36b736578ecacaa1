"""The runner of the league: order of jobs, what is measured again, resuming after a kill."""

import json
import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris

from benchmarks.tabular import __main__, _results
from benchmarks.tabular._fingerprint import Fingerprint
from benchmarks.tabular._measure import PRIMARY, score
from benchmarks.tabular._models import contenders, labels, version
from benchmarks.tabular._models.ours import count_parameters, make_ensemble, match_size
from benchmarks.tabular._run import Job, open_jobs, plan, plan_latency, run
from benchmarks.tabular._sets import SETS, TabularSet, load, split
from skmode.nn import MLPExperts

IRIS = TabularSet("iris", "multiclass", 150, partial(load_iris, return_X_y=True, as_frame=True))
DIABETES = TabularSet(
    "diabetes", "regression", 442, partial(load_diabetes, return_X_y=True, as_frame=True)
)
CHEAP = ["linear", "hist_gradient_boosting"]


CURRENT = Fingerprint("digest", (0.25, 0.5))


@pytest.fixture
def quick_fingerprint(monkeypatch):
    """The real one takes seconds of fits."""
    monkeypatch.setattr(_results, "fingerprint", lambda: CURRENT)


def line(model, **more):
    """A line of the results as this checkout would write it, with a quick fingerprint."""
    module = _results.contender_of(model).module
    settings = {"settings": CURRENT.stored()} if module == "skmode" else {}
    record = {"set": "iris", "task": "multiclass", "split": 0, "model": model, **settings}
    return record | {"versions": {module: version(module)}, "value": 0.5} | more


class TestPlan:
    def test_split_by_split_and_slow_ones_last(self):
        jobs = plan(
            [SETS["letter"], SETS["vehicle"]], range(2), ["linear", "realmlp_td_s", "tabm_d"]
        )
        assert [(job.table.name, job.split, job.contender) for job in jobs] == [
            ("vehicle", 0, "linear"),
            ("vehicle", 0, "realmlp_td_s"),
            ("letter", 0, "linear"),
            ("letter", 0, "realmlp_td_s"),
            ("vehicle", 1, "linear"),
            ("vehicle", 1, "realmlp_td_s"),
            ("letter", 1, "linear"),
            ("vehicle", 0, "tabm_d"),
            ("letter", 0, "tabm_d"),
        ]

    def test_tuned_ones_meet_the_smallest_sets_before_the_slow_ones(self):
        jobs = plan(SETS.values(), range(2), ["tabm_d", "catboost_tuned"])
        smallest = sorted(SETS.values(), key=lambda table: table.rows)
        assert [job.contender for job in jobs] == ["catboost_tuned"] * 10 + ["tabm_d"] * len(SETS)
        assert [job.table for job in jobs] == [*smallest[:10], *smallest]
        assert {job.split for job in jobs} == {0}
        assert not plan(SETS.values(), [1], ["tabm_d", "catboost_tuned"])

    def test_the_vote_and_its_students_meet_the_first_splits_of_the_smallest_sets(self):
        jobs = plan(SETS.values(), range(5), ["mlp", "vote", "mode_vote"])
        voted = [job for job in jobs if job.contender != "mlp"]
        smallest = sorted(SETS.values(), key=lambda table: table.rows)[:12]
        assert jobs[-len(voted) :] == voted
        assert [(job.table, job.split, job.contender) for job in voted] == [
            (table, split, name)
            for table in smallest
            for split in range(3)
            for name in ("vote", "mode_vote")
        ]

    def test_a_number_of_the_smallest_sets(self, tmp_path, monkeypatch):
        asked = []
        monkeypatch.setattr(__main__, "run", lambda jobs, *args: asked.extend(jobs) or 0)
        slow = ["--models", "realmlp_td", "tabm_d", "--smallest", "15", "--hours", "1"]
        assert __main__.main(["run", *slow]) == 0
        rows = [job.table.rows for job in asked]
        assert len(asked) == 30
        assert rows == sorted(rows)
        assert max(rows) < 6000

    def test_one_row_as_onnx(self):
        jobs = plan_latency([SETS["vehicle"], SETS["german"]], ["linear", "mode"])
        assert [(str(job), job.what) for job in jobs] == [
            ("vehicle, split 0, linear", "onnx"),
            ("vehicle, split 0, mode", "onnx"),
            ("german, split 0, linear", "onnx"),
            ("german, split 0, mode", "onnx"),
        ]

    def test_names_are_unique(self):
        names = [name for contender in contenders().values() for name in contender.names]
        assert len(names) == len(set(names)) == len(labels())
        assert len(set(labels().values())) == len(names)


class TestSplits:
    def test_shared_and_stratified(self):
        rows = load(IRIS)
        train, test = split(rows, "multiclass", 0)
        again, _ = split(rows, "multiclass", 0)
        other, _ = split(rows, "multiclass", 1)
        assert train.X.equals(again.X)
        assert not train.X.equals(other.X)
        assert (len(train.X), len(test.X)) == (112, 38)
        assert np.ptp(np.bincount(train.y)) <= 1

    def test_targets(self):
        text = TabularSet("text", "binary", 3, lambda: (load(IRIS).X[:3], ["no", "yes", "no"]))
        assert load(text).y.tolist() == [0, 1, 0]
        assert load(DIABETES).y.dtype == np.float64


class TestModels:
    @pytest.mark.parametrize("sizes", [[128], [64, 32], [256, 256, 16]])
    def test_the_large_network_has_the_parameters_of_all_experts(self, sizes):
        experts = MLPExperts(80, 4, sizes)
        wanted = sum(parameter.numel() for parameter in experts.parameters())
        large = MLPExperts(80, 1, match_size(80, sizes, 4))
        found = sum(parameter.numel() for parameter in large.parameters())
        assert found == pytest.approx(wanted, rel=0.01)
        assert wanted == 4 * count_parameters(80, sizes)

    @pytest.mark.slow
    def test_ensemble_averages(self):
        train, test = split(load(IRIS), "multiclass", 0)
        ensemble = make_ensemble("multiclass", 0, train)
        ensemble.estimator.set_params(max_epochs=1)
        ensemble.fit(train.X, train.y)
        assert [member.n_experts for member in ensemble.estimators_] == [1] * 4
        members = [member.predict_proba(test.X) for member in ensemble.estimators_]
        assert not np.allclose(members[0], members[1])
        assert np.allclose(ensemble.predict_proba(test.X), sum(members) / 4)


class TestScore:
    def test_binary(self):
        probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
        found = score("binary", np.array([0, 0, 1, 1]), probabilities)
        assert (found["metric"], found["value"], found["accuracy"]) == ("roc_auc", 1, 0.75)
        assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7, 0.9]).mean())

    def test_regression(self):
        found = score("regression", np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
        assert found["metric"] == PRIMARY["regression"]
        assert found["value"] == pytest.approx(np.sqrt(4 / 3))
        assert found["r2"] == pytest.approx(-1)

    def test_nonfinite_predictions_raise(self):
        with pytest.raises(ValueError, match="not finite"):
            score("regression", np.zeros(2), np.array([0.0, np.nan]))


@pytest.mark.usefixtures("quick_fingerprint")
class TestResume:
    def open_after(self, tmp_path, *lines, model="linear"):
        path = tmp_path / "results.jsonl"
        path.write_text("".join(lines))
        return len(open_jobs([Job(IRIS, 0, model)], path))

    def test_current_lines_are_not_measured_again(self, tmp_path):
        assert self.open_after(tmp_path) == 1
        assert self.open_after(tmp_path, json.dumps(line("linear")) + "\n") == 0
        failure = json.dumps(line("linear", error="ValueError: no")) + "\n"
        assert self.open_after(tmp_path, failure) == 0

    def test_lines_of_another_version_are_stale(self, tmp_path):
        peer = line("linear", versions={"sklearn": "0.1"})
        assert self.open_after(tmp_path, json.dumps(peer) + "\n") == 1
        other = line("linear") | {"versions": line("linear")["versions"] | {"torch": "0.1"}}
        assert self.open_after(tmp_path, json.dumps(other) + "\n") == 0

    def test_lines_of_skmode_are_stale_when_code_or_defaults_change(self, tmp_path):
        lines = [json.dumps(line(name)) + "\n" for name in ("mode", "mode_top_expert")]
        assert self.open_after(tmp_path, *lines, model="mode") == 0
        assert self.open_after(tmp_path, lines[0], model="mode") == 1
        stale = json.dumps(line("mode_top_expert", settings="older")) + "\n"
        assert self.open_after(tmp_path, *lines, stale, model="mode") == 1
        # The newest line wins.
        assert self.open_after(tmp_path, stale, *lines, model="mode") == 0

    def test_skipped_jobs_are_not_done(self, tmp_path):
        skipped = json.dumps(line("linear", skipped="time was over")) + "\n"
        assert self.open_after(tmp_path, skipped) == 1

    def test_a_torn_line_is_dropped(self, tmp_path, capsys):
        path = tmp_path / "results.jsonl"
        whole = json.dumps(line("linear")) + "\n"
        path.write_text(whole + whole[:40])
        assert len(_results.read(path)) == 1
        _results.repair(path)
        assert path.read_text() == whole
        assert "torn" in capsys.readouterr().out
        _results.append(path, [line("linear")])
        assert path.read_text() == whole + whole


@pytest.mark.slow
def test_resumes_after_a_kill(tmp_path):
    """The process with the queue is killed; the next run does what is left, with two workers."""
    path = tmp_path / "results.jsonl"
    jobs = plan([IRIS, DIABETES], [0], CHEAP)
    first = multiprocessing.get_context("fork").Process(target=run, args=(jobs, path))
    first.start()
    deadline = time.monotonic() + 60
    while len(_results.read(path)) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = children_of(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    lines = path.read_text()
    assert 1 <= len(lines.splitlines()) < len(jobs)
    path.write_text(lines + lines[:50])

    assert run(jobs, path, n_workers=2) == 0
    assert path.read_text().startswith(lines)
    records = _results.read(path)
    assert sorted(map(_results.key, records)) == sorted(
        (job.table.name, job.split, job.contender) for job in jobs
    )
    for record in records:
        assert "error" not in record
        assert record["metric"] == PRIMARY[record["task"]]
        assert min(record[f"{what}_seconds"] for what in ("fit", "fit_cpu")) >= 0
        assert record["predict_microseconds"] > 0
        assert record["rows_per_second"] > 0
        assert record["model_bytes"] > 0
        assert {"python", "numpy", "sklearn"} <= set(record["versions"])
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert run(jobs, path, n_workers=2) == 0
    assert _results.read(path) == records


@pytest.mark.slow
def test_one_row_as_onnx(tmp_path):
    path = tmp_path / "onnx.jsonl"
    jobs = plan_latency([IRIS, DIABETES], CHEAP)
    assert run(jobs, path) == 0
    records = _results.read(path)
    assert [record["set"] for record in records] == ["iris", "iris", "diabetes", "diabetes"]
    assert min(record["onnx_microseconds"] for record in records) > 0
    assert "skl2onnx" in records[0]["versions"]
    assert open_jobs(jobs, path) == []


def children_of(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []


def one_class():
    return pd.DataFrame({"x": np.arange(40.0)}), pd.Series(["a"] * 40)


@pytest.mark.slow
def test_failures_and_lack_of_time_are_noted(tmp_path):
    path = tmp_path / "results.jsonl"
    tables = [
        TabularSet("broken", "binary", 3, partial(int, "no number")),
        TabularSet("bare", "binary", 40, one_class),
        TabularSet("killing", "binary", 40, partial(os._exit, 9)),
    ]
    broken, bare, killing = jobs = [Job(table, 0, "linear") for table in tables]
    assert run(jobs, path) == 2
    of_broken, of_bare, of_killing = _results.read(path)
    reason = "the set could not be loaded: ValueError: invalid literal"
    assert of_broken["skipped"].startswith(reason)
    reason = "ValueError: This solver needs samples of at least 2 classes"
    assert of_bare["error"].startswith(reason)
    assert of_killing["skipped"] == "the process ended with code 9"
    # Where no model is to blame, the next run tries again.
    assert open_jobs([broken, bare, killing], path) == [broken, killing]

    assert run([Job(IRIS, 0, "mode")], path, hours=0) == 1
    *_, alone, together = _results.read(path)
    assert {alone["model"], together["model"]} == {"mode", "mode_top_expert"}
    assert "time was over" in together["skipped"]
