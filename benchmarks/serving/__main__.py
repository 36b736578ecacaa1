"""What the server costs: against KServe's with a constant model, and against itself made bare.

Run ``make bench-serving``, with wrk and hey on the path (Debian: ``apt-get install wrk hey``). It
passes the Python of KServe's environment, which runs the constant model.
Servers run on one core and the clients on another, one after another in turns; medians are
compared. For two processes behind one port everything runs on any of the two cores, so that the
client takes some of what the second process could have. All requests have one row, as binary
tensors by REST. Networks train for few epochs, which changes their answers and not their cost.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import skmode_deploy
from benchmarks._timing import environment, word
from skmode import MoDEClassifier
from skmode.datasets import fetch_keel
from skmode.onnx import export

RESULTS = Path(__file__).parents[1] / "results" / "serving.json"
SERVER_CORE, CLIENT_CORE, BOTH = "0", "1", "0,1"
CONNECTIONS, ROUNDS, SECONDS, LATENCY_SECONDS = 16, 5, 4, 10
MIN_RATE, MAX_TAIL, MAX_EXPERTS, MAX_COST = 0.9, 5.0, 1.1, 0.1
PACKAGES = ("skmode", "skmode-deploy", "starlette", "uvicorn", "onnxruntime", "numpy")
LUA = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*all")
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = "{length}"
"""


class Load:
    """One request, sent again and again from the clients' core.

    Parameters
    ----------
    folder : Path
        Where the request is kept.
    row : ndarray of float32 of shape (n_features,)
        Its row.
    """

    def __init__(self, folder: Path, row: np.ndarray) -> None:
        tensor = {"name": "X", "datatype": "FP32", "shape": [1, len(row)]}
        tensor["parameters"] = {"binary_data_size": row.nbytes}
        document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        head = json.dumps(document).encode()
        self.length = len(head)
        self.body = folder / "body"
        self.body.write_bytes(head + row.tobytes())
        self.script = folder / "request.lua"
        self.script.write_text(LUA.format(body=self.body, length=self.length))

    def rate(
        self, port: int, seconds: int, connections: int = CONNECTIONS, cores: str = CLIENT_CORE
    ) -> float:
        """Requests per second that are answered, as many as there can be."""
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(self.script)]
        said = _on_cores(cores, [*command, _url(port)])
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(f"Every request must be answered, and wrk said:\n{said}")
        return float(re.search(r"Requests/sec:\s+([0-9.]+)", said)[1])  # type: ignore[index]

    def latencies(self, port: int, rate: float, connections: int, seconds: int) -> np.ndarray:
        """Seconds of each request at some rate."""
        command = ["hey", "-z", f"{seconds}s", "-c", str(connections), "-m", "POST", "-o", "csv"]
        command += ["-q", f"{rate / connections:.3f}"]
        command += ["-T", "application/octet-stream", "-D", str(self.body)]
        command += ["-H", f"Inference-Header-Content-Length: {self.length}", _url(port)]
        rows = list(csv.DictReader(io.StringIO(_on_cores(CLIENT_CORE, command))))
        codes = {row["status-code"] for row in rows}
        if codes != {"200"}:
            raise RuntimeError(f"Every request must be answered with 200, got {codes}.")
        return np.array([float(row["response-time"]) for row in rows])


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v2/models/model/infer"


def _on_cores(cores: str, command: Sequence[str]) -> str:
    outcome = subprocess.run(
        ["taskset", "-c", cores, *command], capture_output=True, text=True, check=True
    )
    return outcome.stdout


@contextlib.contextmanager
def serve(
    kind: str,
    bundle: Path,
    cores: str = SERVER_CORE,
    n_processes: int = 1,
    python: str = sys.executable,
) -> Iterator[int]:
    """Run a server on its cores; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if kind in ("constant", "bare"):
        command = ["-m", "benchmarks.serving._servers", kind, str(port), str(bundle)]
    else:
        command = ["-m", "skmode_deploy", "serve", str(bundle), "--name", "model"]
        command += ["--http-port", str(port), "--grpc-port", "0", "--drain-seconds", "0"]
        command += ["--log-level", "warning"] if kind == "quiet" else []
        command += ["--workers", str(n_processes)]
    process = subprocess.Popen(
        ["taskset", "-c", cores, python, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise RuntimeError(f"The server must run, and ended with {process.returncode}.")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready")
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.25)
    raise RuntimeError("The server must be ready within a minute.")


def make_bundle(folder: Path, n_experts: int) -> tuple[Path, np.ndarray]:
    """A model of a real set, and a row of it."""
    X, y = fetch_keel("satimage", return_X_y=True)
    X = X.to_numpy(np.float32)
    path = folder / f"experts_{n_experts}"
    model = MoDEClassifier(n_experts=n_experts, max_epochs=3, random_state=0)
    export(model.fit(X, y.astype(int)), path)
    return path, X[0]


def compare_rates(load: Load, servers: dict[str, int]) -> dict[str, float]:
    """Median rate of each server, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for port in servers.values():
        load.rate(port, 1)
    for _ in range(ROUNDS):
        for name, port in servers.items():
            rates[name].append(load.rate(port, SECONDS))
    return {name: statistics.median(values) for name, values in rates.items()}


def compare_processes(load: Load, bundle: Path) -> dict[str, float]:
    """Median rate of one process and of two behind one port, on the same two cores, in turns."""
    rates: dict[str, list[float]] = {"1": [], "2": []}
    with contextlib.ExitStack() as stack:
        ports = {
            number: stack.enter_context(serve("served", bundle, BOTH, int(number)))
            for number in rates
        }
        for _ in range(ROUNDS):
            for number, port in ports.items():
                rates[number].append(load.rate(port, SECONDS, cores=BOTH))
    return {number: statistics.median(values) for number, values in rates.items()}


def measure(kserve_python: str) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        few, row = make_bundle(folder, 4)
        many, _ = make_bundle(folder, 64)
        load = Load(folder, row)
        kinds = {"constant": few, "served": few, "quiet": few, "bare": few, "experts_64": many}
        pythons = {"constant": kserve_python}
        servers = {
            kind: stack.enter_context(serve(kind, bundle, python=pythons.get(kind, sys.executable)))
            for kind, bundle in kinds.items()
        }
        rates = compare_rates(load, servers)
        at_half = load.latencies(
            servers["served"], rates["served"] / 2, CONNECTIONS, LATENCY_SECONDS
        )
        alone: dict[str, list[float]] = {"served": [], "experts_64": []}
        for _ in range(ROUNDS):
            for kind, times in alone.items():
                times.append(1 / load.rate(servers[kind], SECONDS, 1))
        processes = compare_processes(load, few)
    p50, p99 = np.quantile(at_half, [0.5, 0.99])
    latency = {kind: 1e6 * statistics.median(times) for kind, times in alone.items()}
    return {
        "requests_per_second": rates,
        "p50_microseconds_at_half": float(1e6 * p50),
        "p99_microseconds_at_half": float(1e6 * p99),
        "one_connection_microseconds": latency,
        "requests_per_second_by_processes": processes,
        "rate_over_constant": rates["served"] / rates["constant"],
        "p99_over_p50": float(p99 / p50),
        "experts_64_over_4": latency["experts_64"] / latency["served"],
        "cost_of_limits_checks_metrics": 1 - rates["quiet"] / rates["bare"],
        "cost_with_logs": 1 - rates["served"] / rates["bare"],
        "two_processes_over_one": processes["2"] / processes["1"],
    }


def read_kserve_version(kserve_python: str) -> str:
    """The version that is compared with."""
    code = "from importlib.metadata import version; print(version('kserve'))"
    done = subprocess.run([kserve_python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(kserve_python: str) -> int:
    """Measure, print, write; 1 if a bar is missed."""
    lacking = [tool for tool in ("wrk", "hey", "taskset") if shutil.which(tool) is None]
    if lacking or len(os.sched_getaffinity(0)) < 2:
        raise SystemExit(f"This needs two cores and wrk, hey and taskset; missing: {lacking}.")
    found = measure(kserve_python)
    bars = {
        "rate_over_constant": found["rate_over_constant"] >= MIN_RATE,
        "p99_over_p50": found["p99_over_p50"] <= MAX_TAIL,
        "experts_64_over_4": found["experts_64_over_4"] <= MAX_EXPERTS,
        "cost_of_limits_checks_metrics": found["cost_of_limits_checks_metrics"] <= MAX_COST,
    }
    for name, value in found.items():
        print(f"{name}: {value}" + (f" {word(bars[name])}" if name in bars else ""))
    result = {**environment(PACKAGES), "deploy": skmode_deploy.__version__, **found, "bars": bars}
    result["versions"]["kserve"] = read_kserve_version(kserve_python)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(RESULTS)
    return int(not all(bars.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
