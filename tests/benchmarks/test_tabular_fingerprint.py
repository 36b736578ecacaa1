"""The league's fingerprint: which changes make results stale."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks.tabular import _fingerprint, _results
from benchmarks.tabular._fingerprint import FITS, TOLERANCE, Fingerprint, fingerprint, predict
from skmode._training import trainer
from skmode.nn.mixture import network as mixture

CURRENT = Fingerprint("digest", (0.25, 0.5))


def moved(name):
    """How far the predictions of a fit are from those of the unchanged code."""
    names = list(FITS)
    before = np.reshape(fingerprint().predictions, (len(names), -1))[names.index(name)]
    return np.abs(before - predict(FITS[name])).max()


class TestAgreement:
    def test_last_bits_are_ignored(self):
        near = Fingerprint("digest", (0.25 + TOLERANCE / 2, 0.5 - TOLERANCE / 2))
        assert CURRENT.agrees(near)
        assert not CURRENT.agrees(Fingerprint("digest", (0.25, 0.5 + 2 * TOLERANCE)))

    def test_parameters_are_compared_exactly(self):
        assert not CURRENT.agrees(Fingerprint("other", CURRENT.predictions))
        assert not CURRENT.agrees(Fingerprint("digest", CURRENT.predictions[:1]))

    def test_a_line_round_trips(self):
        assert Fingerprint.of(CURRENT.stored()) == CURRENT
        assert Fingerprint.of("0123456789abcdef") is None
        assert not CURRENT.agrees(None)

    def test_a_changed_default_changes_the_digest(self, monkeypatch):
        before = _fingerprint.parameters()
        with monkeypatch.context() as patched:
            patched.setattr(_fingerprint, "FITS", {})
            assert fingerprint.__wrapped__() == Fingerprint(before, ())
        for name, value in {"learning_rate": 0.004, "max_epochs": 59, "calibration": None}.items():
            with monkeypatch.context() as patched:
                defaults = _fingerprint.MoDEClassifier.__init__.__kwdefaults__
                patched.setitem(defaults, name, value)
                assert _fingerprint.parameters() != before

    def test_a_new_parameter_that_is_none_leaves_the_digest(self, monkeypatch):
        class Wider(_fingerprint.MoDEClassifier):
            def get_params(self, deep=True):
                return super().get_params(deep) | {"new": self.new}

        before = _fingerprint.parameters()
        monkeypatch.setattr(_fingerprint, "MoDEClassifier", Wider)
        monkeypatch.setattr(Wider, "new", None, raising=False)
        assert _fingerprint.parameters() == before
        monkeypatch.setattr(Wider, "new", 1)
        assert _fingerprint.parameters() != before


class TestLessons:
    def test_lines_of_students_are_of_the_present_code(self):
        path = Path(_results.__file__).parents[1] / "results" / "tabular.jsonl"
        lines = {record["task"]: record for record in _results.read(path) if "lesson" in record}
        assert set(lines) == {"binary", "multiclass", "regression"}
        for task, record in lines.items():
            assert_allclose(record["lesson"], _fingerprint.lesson(task), atol=TOLERANCE)

    def test_another_way_to_teach_makes_them_stale(self, monkeypatch):
        monkeypatch.setattr(_results, "fingerprint", lambda: CURRENT)
        line = {"model": "mode_vote", "task": "regression", "settings": CURRENT.stored()}
        line["lesson"] = list(_fingerprint.lesson("regression"))
        assert _results.is_current(line)
        monkeypatch.setattr(trainer, "VALUES_RATE", 2.0)
        monkeypatch.setattr(_results, "lesson", _fingerprint.lesson.__wrapped__)
        assert not _results.is_current(line)
        del line["lesson"]
        assert _results.is_current(line)  # a line of old cannot tell


@pytest.mark.slow
class TestChangedSteps:
    """Each is a change of code that no parameter shows."""

    @pytest.fixture(autouse=True)
    def unchanged(self):
        """Take the fingerprint of the code before it is changed, also in a process of its own."""
        fingerprint()

    def test_an_unchanged_fit_agrees(self):
        assert moved("one batch of all rows") == 0

    def test_a_moved_function_agrees(self, monkeypatch):
        former = mixture.load_balance_loss

        def elsewhere(*args, **kwargs):
            return former(*args, **kwargs)

        monkeypatch.setattr(mixture, "load_balance_loss", elsewhere)
        assert moved("one batch of all rows") == 0

    @pytest.mark.parametrize("name", ["distillation_loss", "load_balance_loss"])
    def test_a_dropped_loss_term_is_seen(self, monkeypatch, name):
        monkeypatch.setattr(mixture, name, lambda first, *args, **kwargs: first_of(first).sum() * 0)
        assert moved("one batch of all rows") > 2 * TOLERANCE

    def test_a_dropped_calibration_is_seen(self, monkeypatch):
        monkeypatch.setattr(trainer, "fit_temperature", lambda *args, **kwargs: 1.0)
        assert moved("larger batches, plain mixture") > 2 * TOLERANCE

    def test_a_dropped_refit_is_seen(self, monkeypatch):
        monkeypatch.setattr(trainer, "refit_epochs", lambda fraction, best_epoch, left: 0)
        assert moved("values") > 2 * TOLERANCE

    @pytest.mark.parametrize("option", [{"learning_rate": 0.0045}, {"max_epochs": 50}])
    def test_other_optimizer_steps_are_seen(self, monkeypatch, option):
        name = "one batch of all rows"
        fit = FITS[name]
        changed = _fingerprint.Fit(fit.task, fit.rows, fit.seed, fit.options | option)
        monkeypatch.setitem(FITS, name, changed)
        assert moved(name) > 2 * TOLERANCE


def first_of(value):
    """The tensor of a loss's first argument, which may be a gate's output."""
    return getattr(value, "logits", value)
