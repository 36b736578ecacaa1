import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmode_deploy import load
from skmode_deploy.errors import BundleError, GraphFormatError
from skmode_deploy.running import forks as _forks
from skmode_deploy.running import sessions as _sessions
from skmode_deploy.running.sessions import CPU, CUDA, ForkSafeSession, SessionFactory

TENSORRT = "TensorrtExecutionProvider"
X = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]], np.float32)


@pytest.fixture
def model(make_regressor):
    return (make_regressor() / "model.onnx").read_bytes()


class FakeSession:
    """Stands in for a session on a machine with other devices."""

    def __init__(self, data, options, providers, **keywords):
        self.asked = providers
        self.options = options
        self.names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
        self.working = self.names

    def get_providers(self):
        return [name for name in self.names if name in self.working] or [CPU]


@pytest.fixture
def simulate(monkeypatch):
    """Simulate a build with some providers, of which some work."""

    def simulate(available, working=None, error=None):
        opened = []

        def open_session(data, options, providers, **keywords):
            session = FakeSession(data, options, providers)
            if error is not None and session.names != [CPU]:
                raise error
            session.working = available if working is None else working
            opened.append(session)
            return session

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(_sessions, "Session", open_session)
        return opened

    monkeypatch.setattr(_sessions, "_logged", set())
    return simulate


def test_auto_without_cuda_says_so_once(simulate, caplog):
    opened = simulate([CPU])
    with caplog.at_level(logging.INFO, "skmode_deploy"):
        for _ in range(2):
            SessionFactory("auto", 1).open(b"", "model.onnx")
    assert [session.asked for session in opened] == [[CPU], [CPU]]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "no CUDAExecutionProvider: models run on the CPU" in caplog.text


def test_auto_takes_cuda(simulate, caplog):
    opened = simulate([TENSORRT, CUDA, CPU])
    with caplog.at_level(logging.INFO, "skmode_deploy"):
        SessionFactory("auto", 1).open(b"", "model.onnx")
    assert [session.asked for session in opened] == [[CUDA, CPU]]
    assert not caplog.records


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ({"working": [CPU]}, "onnxruntime fell back to the CPU"),
        ({"error": RuntimeError("no device")}, "opening a session gave RuntimeError: no device"),
    ],
)
def test_auto_falls_back_and_says_so_once(failure, message, simulate, caplog):
    opened = simulate([CUDA, CPU], **failure)
    maker = SessionFactory("auto", 1)
    with caplog.at_level(logging.INFO, "skmode_deploy"):
        sessions = [maker.open(b"", "model.onnx") for _ in range(3)]
        sessions.append(SessionFactory("auto", 1).open(b"", "model.onnx"))
    assert [session.get_providers() for session in sessions] == [[CPU]] * 4
    assert sum(CUDA in session.names for session in opened) <= 2  # one try for each maker
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert message in caplog.text


@pytest.mark.parametrize(
    "providers", [CUDA, (CUDA,), [TENSORRT, CUDA], ((CUDA, {"device_id": 0}), CPU)]
)
def test_explicit_providers(providers, simulate, caplog):
    opened = simulate([TENSORRT, CUDA, CPU])
    SessionFactory(providers, 1).open(b"", "model.onnx")
    assert opened[0].asked == ([providers] if isinstance(providers, str) else list(providers))
    assert not caplog.records


def test_failing_explicit_providers_raise(simulate):
    simulate([CUDA, CPU], working=[CPU])
    message = r"must run on providers \['CUDAExecutionProvider'\], but onnxruntime fell back to"
    with pytest.raises(ValueError, match=message):
        SessionFactory((CUDA,), 1).open(b"", "model.onnx")
    simulate([CUDA, CPU], error=RuntimeError("no device"))
    with pytest.raises(ValueError, match=r"model\.onnx must open on.*RuntimeError: no device"):
        SessionFactory((CUDA,), 1).open(b"", "model.onnx")


def test_unavailable_explicit_providers_raise(make_regressor, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    message = (
        r"available in this build of onnxruntime, got \['CUDAExecutionProvider'\], but it has "
        r"\['CPUExecutionProvider'\]: install"
    )
    for providers in (CUDA, (CUDA, CPU), ((CUDA, {"device_id": 1}),)):
        with pytest.raises(ValueError, match=message):
            load(make_regressor(), providers=providers)


@pytest.mark.parametrize("providers", [(), None, 3, (3,), (CUDA, {"device_id": 0}), ((CUDA, 1),)])
def test_wrong_providers(providers):
    with pytest.raises(ValueError, match='providers must be "auto", the name of a provider'):
        SessionFactory(providers, 1)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_wrong_threads(threads, make_regressor):
    with pytest.raises(ValueError, match="threads must be an integer of at least 1, got"):
        load(make_regressor(), threads=threads)


@pytest.mark.parametrize("threads", [1025, 10**10])
def test_too_many_threads(threads, make_regressor):
    with pytest.raises(ValueError, match="threads must be at most 1,024, got") as error:
        load(make_regressor(), threads=threads)
    assert not isinstance(error.value, BundleError)


@pytest.mark.parametrize("providers", ["auto", CPU, (CUDA, CPU)])
def test_out_of_memory_is_not_a_bundle_error(providers, monkeypatch):
    def fail(*arguments, **keywords):
        raise MemoryError

    available = [CPU] if providers == "auto" else [CUDA, CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(_sessions, "Session", fail)
    with pytest.raises(MemoryError):
        SessionFactory(providers, 1).open(b"", "model.onnx")


def test_the_cpu_has_no_options():
    with pytest.raises(ValueError, match=r"CPUExecutionProvider must have no options.*'bogus'"):
        SessionFactory(((CPU, {"bogus": 1}),), 1)
    SessionFactory(((CPU, {}),), 1)


@pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(), reason="onnxruntime has no CUDA"
)
@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_cuda_predicts_like_the_cpu(strategy, table_bundle):
    rng = np.random.default_rng(0)
    rows = {
        "age": np.where(rng.random(500) < 0.1, np.nan, rng.normal(50, 20, 500)),
        "city": rng.choice(np.array(["Bern", "Köln", "Paris", None], object), 500),
        "plan": rng.choice([1.0, 2.0, np.nan], 500),
    }
    expected = load(table_bundle, providers=CPU, strategy=strategy).predict_full(rows)
    answer = load(table_bundle, providers=(CUDA,), strategy=strategy).predict_full(rows)
    assert_array_equal(answer.value, expected.value)
    assert_array_equal(answer.expert, expected.expert)
    assert_allclose(answer.probabilities, expected.probabilities, rtol=0, atol=1e-5)
    assert_allclose(answer.gate_probability, expected.gate_probability, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, np.int64(3)])
def test_threads(threads, model):
    session = SessionFactory(CPU, threads).open(model, "model.onnx")
    options = session.get_session_options()
    assert options.intra_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_names_of_many_inputs_are_looked_up_in_a_set(make_regressor, monkeypatch):
    """onnxruntime would search a list for each: the square of the number of columns."""
    checked = []
    monkeypatch.setattr(
        onnxruntime.InferenceSession,
        "_validate_input",
        lambda session, names: checked.append(type(names)),
    )
    predictor = load(make_regressor())
    predictor.predict(np.zeros((1, len(predictor.manifest.columns)), np.float32))
    assert checked == [frozenset]


def test_graphs_that_onnxruntime_cannot_open_are_refused():
    message = rf"model\.onnx must be a model that onnxruntime {onnxruntime.__version__} can open"
    with pytest.raises(GraphFormatError, match=message):
        SessionFactory("auto", 1).open(b"no model", "model.onnx")


def answer_in_fork(function):
    """Call a function in a forked child; None if it did not answer in time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function()))
    child.start()
    try:
        answer = receiver.recv() if receiver.poll(60) else None
        child.join(60)
        assert child.exitcode == 0
        return answer
    finally:
        child.kill()


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)


@needs_fork
def test_a_child_opens_its_own_session_from_memory(model):
    session = ForkSafeSession(SessionFactory(CPU, 4), model, "model.onnx")
    parents = session._session
    expected = session.run(["variable"], {"X": X})[0].tolist()

    def in_child():
        assert session._session is None
        answers = [session.run(["variable"], {"X": X})[0].tolist() for _ in range(2)]
        assert session._session is not parents
        return answers

    assert answer_in_fork(in_child) == [expected] * 2
    assert session._session is parents


@needs_fork
def test_a_child_does_not_inherit_held_locks(model):
    session = ForkSafeSession(SessionFactory(CPU, 1), model, "model.onnx")
    with session._lock:
        answer = answer_in_fork(lambda: session.run(["variable"], {"X": X})[0].tolist())
    assert answer == [[3.0], [0.0]]


@needs_fork
def test_a_fork_waits_for_sessions_that_are_opening():
    """onnxruntime holds locks of the whole process while it opens a session."""
    inside, leave = threading.Event(), threading.Event()

    def open_slowly():
        with _forks.no_fork():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=open_slowly)
    thread.start()
    inside.wait(60)
    threading.Timer(0.3, leave.set).start()
    assert answer_in_fork(lambda: _forks._n_opening) == 0
    assert leave.is_set()
    thread.join(60)
    with _forks.no_fork():  # and the parent goes on
        assert _forks._n_opening == 1


def test_predictors_are_collected(make_regressor):
    predictor = load(make_regressor())
    reference = weakref.ref(predictor._strategy)
    del predictor
    gc.collect()
    assert reference() is None


def test_onnxruntime_leaves_nothing_in_the_home_folder(model, tmp_path):
    """Its releases from 1.29 on have telemetry, which keeps a number of the device there."""
    path, home = tmp_path / "model.onnx", tmp_path / "home"
    path.write_bytes(model)
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    program = (
        "import sys, skmode_deploy, onnxruntime; onnxruntime.InferenceSession(sys.argv[1],"
        " providers=['CPUExecutionProvider'])"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=environment | {"HOME": str(home)},
        check=True,
    )
    assert list(home.rglob("*")) == []
