"""`examples/tune.py`: Optuna ends bad candidates early.

Optuna comes with the extra `examples`; `make test-examples` installs it.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")
pytest.importorskip("optuna_integration")

PRUNED, COMPLETE = optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "tune.py"
    spec = importlib.util.spec_from_file_location("tune", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bad_candidates_end_early(example):
    study = optuna.create_study(
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1)
    )
    for rate in (1e-2, 1e-5):  # the second one hardly learns
        study.enqueue_trial({"alpha": 1.0, "n_experts": 2, "learning_rate": rate})
    study.optimize(example.make_objective(rows=400, epochs=8), n_trials=2)
    good, bad = study.trials
    assert (good.state, bad.state) == (COMPLETE, PRUNED)
    # Epochs count from 0, and one is for the warm-up; the refit of the good one reports nothing.
    assert list(bad.intermediate_values) == [0, 1]
    assert list(good.intermediate_values) == list(range(len(good.intermediate_values)))
    assert 2 < len(good.intermediate_values) <= 8
    assert bad.intermediate_values[1] > good.intermediate_values[1]
    assert good.value < np.log(2)


def test_commands_share_a_study(example, tmp_path, capsys):
    options = ["--trials", "1", "--rows", "200", "--epochs", "2", "--seed", "0"]
    storage = str(tmp_path / "study.log")
    example.main([*options, "--storage", storage])
    study = example.main([*options, "--storage", storage])
    assert [trial.number for trial in study.trials] == [0, 1]
    assert "pruned 0 of 2" in capsys.readouterr().out
