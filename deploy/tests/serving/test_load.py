"""Load while bundles are replaced, and the gain from a second process.

``SKMODE_LOAD_SECONDS`` is how long the load lasts, 10 by default.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("SKMODE_LOAD_SECONDS", "10"))
N_SWAPS = 20
N_ROWS = 4
ROUTE = "/v2/models/credit/infer"

# Each answer is compared with the labels that the version it names must give. Threads of wrk have
# no variables in common: each keeps its own, and `done` reads them.
SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  good, wrong, first, versions = 0, 0, "", ""
  seen = {}
end
wrk.method = "POST"
wrk.path = "%(route)s"
wrk.body = [==[%(body)s]==]
wrk.headers["Content-Type"] = "application/json"
local truth = { %(truth)s }
function response(status, headers, body)
  local version = body:match('"model_version":"(%%d+)"')
  local expected = version and truth[version]
  if status == 200 and expected and body:find(expected, 1, true) then
    good = good + 1
    if not seen[version] then seen[version] = true; versions = versions .. version .. " " end
  else
    wrong = wrong + 1
    if first == "" then first = status .. " " .. body end
  end
end
function done(summary, latency, requests)
  for _, thread in ipairs(threads) do
    io.write(string.format("RESULT good=%%d wrong=%%d versions=%%s first=%%s\\n",
      thread:get("good"), thread:get("wrong"), thread:get("versions"), thread:get("first")))
  end
  local errors = summary.errors
  io.write(string.format("ERRORS connect=%%d read=%%d write=%%d status=%%d timeout=%%d\\n",
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
  io.write(string.format("RATE %%.1f\\n", summary.requests / summary.duration * 1e6))
end
"""


@pytest.fixture(scope="session")
def wrk(tmp_path_factory):
    """The program wrk: the one that is installed, or the one of Debian's package."""
    installed = shutil.which("wrk")
    if installed:
        return installed
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("needs wrk, or apt-get and dpkg to fetch it")
    from skmode.datasets import get_data_home

    folder = get_data_home() / "wrk"
    program = folder / "usr" / "bin" / "wrk"
    if not program.exists():
        _unpack(["wrk", "libluajit-5.1-2"], tmp_path_factory.mktemp("packages"), folder)
    libraries = {str(path.parent) for path in folder.rglob("libluajit-5.1.so*")}
    os.environ["LD_LIBRARY_PATH"] = ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")])
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    if "wrk" not in done.stdout + done.stderr:
        pytest.skip(f"wrk does not run: {done.stderr}")
    return str(program)


def _unpack(packages, downloads, folder):
    done = subprocess.run(
        ["apt-get", "download", *packages],
        cwd=downloads,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"wrk cannot be fetched: {done.stderr}")
    folder.mkdir(parents=True, exist_ok=True)
    for archive in downloads.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, folder], check=True)


@pytest.fixture(scope="module")
def truth(credit_rows, estimators):
    """What both versions must answer for rows that they judge differently."""
    answers = {i: estimators[f"credit@{i}"].predict(credit_rows) for i in (1, 2)}
    differ = np.flatnonzero(answers[1] != answers[2])
    assert len(differ) >= N_ROWS, "the versions must differ"
    rows = differ[:N_ROWS]
    probabilities = {
        i: estimators[f"credit@{i}"].predict_proba(credit_rows.iloc[rows]) for i in (1, 2)
    }
    labels = {i: answers[i][rows].tolist() for i in (1, 2)}
    return credit_rows.iloc[rows], labels, probabilities


def question(rows, outputs):
    inputs = []
    for name, column in rows.items():
        values = [None if value != value else value for value in column.tolist()]
        text = any(isinstance(value, str) for value in values)
        datatype = "BYTES" if text else "FP32"
        inputs.append({"name": name, "datatype": datatype, "shape": [len(rows), 1], "data": values})
    return json.dumps({"inputs": inputs, "outputs": [{"name": name} for name in outputs]})


def write_script(path, truth):
    rows, labels, _ = truth
    expected = ", ".join(
        f"['{version}'] = [==[{json.dumps(answer, separators=(',', ':'))}]==]"
        for version, answer in labels.items()
    )
    body = question(rows, ["label"])
    path.write_text(SCRIPT % {"route": ROUTE, "body": body, "truth": expected})


def run_wrk(wrk, script, server, seconds, connections=16, threads=1):
    command = [wrk, f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s"]
    command += ["-s", script, server.url + ROUTE]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_results(output):
    """Numbers of right and wrong answers, and the versions that gave them."""
    found = re.findall(r"RESULT good=(\d+) wrong=(\d+) versions=(.*?) first=(.*)", output)
    good = sum(int(match[0]) for match in found)
    assert found, output
    assert [match[3] for match in found if match[1] != "0"] == []
    assert "ERRORS connect=0 read=0 write=0 status=0 timeout=0" in output
    return good, {version for match in found for version in match[2].split()}


class Checker:
    """A Python client beside wrk, which compares probabilities, by turns for each version."""

    def __init__(self, server, truth):
        self.n_answers, self.wrong, self.versions = 0, [], set()
        self._server, self._truth = server, truth
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        rows, _, probabilities = self._truth
        body = question(rows, ["probabilities"])
        paths = [ROUTE, "/v2/models/credit/versions/1/infer", "/v2/models/credit@2/infer"]
        with httpx.Client(base_url=self._server.url, timeout=30) as client:
            while not self._stop.is_set():
                path = paths[self.n_answers % 3]
                try:
                    answer = client.post(path, content=body)
                    document = answer.json()
                    version = int(document["model_version"])
                    got = np.reshape(document["outputs"][0]["data"], (len(rows), -1))
                    np.testing.assert_allclose(got, probabilities[version], atol=1e-5)
                except Exception as error:
                    self.wrong.append((path, error))
                    return
                self.n_answers += 1
                self.versions.add(version)
                self._stop.wait(0.005)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join(60)


class Swaps:
    """Exchange the current version N times: by the file `current`, and by bundles."""

    def __init__(self, server, folder, models, seconds):
        self.done, self.failed = [], []
        self._arguments = server, folder, models, seconds
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        server, folder, models, seconds = self._arguments
        pause = seconds / (N_SWAPS + 1)
        for i in range(N_SWAPS):
            time.sleep(pause)
            version = 1 if i % 2 == 0 else 2
            try:
                if i % 4 < 2:
                    self._name(folder, version)
                else:
                    self._replace(folder, models, version)
                self._wait(server, version, time.monotonic() + max(5 * pause, 30))
            except Exception as error:
                self.failed.append((i, error))
                return
            self.done.append(version)

    def _name(self, folder, version):
        (folder / ".current").write_text(f"{version}\n")
        (folder / ".current").rename(folder / "current")

    def _replace(self, folder, models, version):
        """Put the bundle of the version anew, which must be loaded, and then name it."""
        fresh, old = folder / f".new-{version}", folder / f".old-{version}"
        shutil.copytree(models / "credit" / str(version), fresh)
        (folder / str(version)).rename(old)
        fresh.rename(folder / str(version))
        shutil.rmtree(old)
        self._name(folder, version)

    def _wait(self, server, version, end):
        while True:
            document = httpx.post(server.url + ROUTE, content=self.body, timeout=30).json()
            if document["model_version"] == str(version):
                return
            assert time.monotonic() < end, f"still {document['model_version']}"
            time.sleep(0.05)

    def start(self, body):
        self.body = body
        self._thread.start()

    def join(self):
        self._thread.join(120)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_swaps_under_load(
    wrk, start_server, own_models, models, truth, tmp_path, n_workers, record_property
):
    """No wrong answer and no refusal while the version is exchanged twenty times."""
    flags = ["--watch", "--watch-interval", "0.1", "--log-level", "error"]
    server = start_server(own_models, "--workers", n_workers, *flags, wait=False)
    wait_until_ready(server, n_workers)
    script = tmp_path / "load.lua"
    write_script(script, truth)
    swaps = Swaps(server, own_models / "credit", models, SECONDS)
    with Checker(server, truth) as checker:
        swaps.start(question(truth[0], ["label"]))
        output = run_wrk(wrk, script, server, SECONDS)
        swaps.join()
    assert not checker.wrong, checker.wrong
    assert not swaps.failed, swaps.failed
    assert len(swaps.done) == N_SWAPS
    good, versions = read_results(output)
    assert versions == {"1", "2"}
    assert checker.versions == {1, 2}
    assert good > 20 * SECONDS
    assert not [log for log in server.logs() if log["level"] in ("error", "critical")]
    codes = set(re.findall(r'skmode_requests_total\{code="(\d+)"', metrics(server)))
    assert codes == {"200"}
    for name, value in {"answers": good, "checked": checker.n_answers, "output": output}.items():
        record_property(name, value)
    print(f"{n_workers} workers: {good} answers to wrk, {checker.n_answers} to Python\n{output}")


def metrics(server):
    return httpx.get(f"{server.url}/metrics", timeout=30).text


def wait_until_ready(server, n_workers):
    """As `start_server` does by the log, which is left out here: writing it takes its time."""
    loaded = 'skmode_model_loads_total{model="credit",result="loaded"} '

    def ready():
        with contextlib.suppress(httpx.TransportError):
            line = re.search(re.escape(loaded) + r"([\d.]+)", metrics(server))
            return line and float(line[1]) == 2 * n_workers
        return False

    server.wait_for(ready)


def processor_seconds(server):
    """What each of the processes that answer has used."""
    parent = psutil.Process(server.pid)
    processes = [
        child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())
    ] or [parent]
    return [sum(process.cpu_times()[:2]) for process in processes]


def test_two_processes_are_faster(wrk, start_server, models, truth, tmp_path, record_property):
    """Two processes share the requests, and each request costs them little more than one.

    So that they answer twice as many where two processors are free. How many they answered is
    checked only where nobody else used the processors.
    """
    script = tmp_path / "rate.lua"
    write_script(script, truth)
    rates, costs, quiet = {}, {}, True
    for n_workers in (1, 2):
        server = start_server(models, "--workers", n_workers, "--log-level", "error", wait=False)
        wait_until_ready(server, n_workers)
        run_wrk(wrk, script, server, 2, connections=32)
        before, start = processor_seconds(server), os.times()
        output = run_wrk(wrk, script, server, 5, connections=32)
        used = np.subtract(processor_seconds(server), before)
        quiet = quiet and sum(used) > 0.85 * n_workers * (os.times().elapsed - start.elapsed)
        n_answers, _ = read_results(output)
        rates[n_workers] = float(re.search(r"RATE ([\d.]+)", output)[1])
        costs[n_workers] = 1e6 * sum(used) / n_answers
        print(
            f"{n_workers} processes: {rates[n_workers]:.0f} requests a second, "
            f"{costs[n_workers]:.0f} microseconds of processor each, shares {used / sum(used)}"
        )
        assert min(used) > 0.2 * sum(used)
        server.end()
    record_property("rates", rates)
    record_property("costs", costs)
    assert costs[2] < 1.5 * costs[1]
    if quiet:
        assert rates[2] > 1.5 * rates[1]
