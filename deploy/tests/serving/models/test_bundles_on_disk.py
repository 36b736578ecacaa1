"""Bundles damaged, truncated or removed while they serve, and full disks."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pd = pytest.importorskip("pandas")

WATCH = ("--watch", "--watch-interval", "0.1")


@pytest.fixture(scope="module")
def question(credit_rows):
    """A request of eight rows."""
    inputs = []
    for name, column in credit_rows[:8].items():
        number = pd.api.types.is_numeric_dtype(column)
        data = [None if pd.isna(value) else value for value in column.tolist()]
        datatype = "FP32" if number else "BYTES"
        inputs.append({"name": name, "datatype": datatype, "shape": [8, 1], "data": data})
    return {"inputs": inputs, "outputs": [{"name": "probabilities"}]}


@pytest.fixture(scope="module")
def truth(credit_rows, estimators):
    """What both versions must answer."""
    return {i: estimators[f"credit@{i}"].predict_proba(credit_rows[:8]) for i in (1, 2)}


def ask(server, question, client=httpx):
    answer = client.post(f"{server.url}/v2/models/credit/infer", json=question, timeout=30)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    probabilities = np.reshape(document["outputs"][0]["data"], (8, -1))
    return int(document["model_version"]), probabilities


def versions(server):
    return httpx.get(f"{server.url}/v2/models/credit", timeout=30).json()["versions"]


class Asking:
    """Ask without a pause, and compare each answer with the truth of its version."""

    def __init__(self, server, question, truth):
        self.versions = []
        self.wrong = []
        self._ask = server, question, truth
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        server, question, truth = self._ask
        with httpx.Client() as client:
            while not self._stop.is_set():
                try:
                    version, probabilities = ask(server, question, client)
                    np.testing.assert_allclose(probabilities, truth[version], atol=1e-5)
                    self.versions.append(version)
                except Exception as error:
                    self.wrong.append(error)
                    return

    def go_on(self, seconds=0.5, n_answers=20):
        """Wait for some looks at the folder, and some answers."""
        wanted, end = len(self.versions) + n_answers, time.monotonic() + 30
        time.sleep(seconds)
        while len(self.versions) < wanted and not self.wrong:
            assert time.monotonic() < end, "no answers"
            time.sleep(0.01)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join(30)
        if error[0] is None:
            assert not self.wrong, self.wrong


def flip(path, at=-1000):
    with open(path, "rb+") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 255]))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = {
    "corrupted model": lambda bundle: flip(bundle / "model.onnx"),
    "corrupted manifest": lambda bundle: flip(bundle / "manifest.json"),
    "truncated model": lambda bundle: cut(bundle / "model.onnx"),
    "truncated manifest": lambda bundle: cut(bundle / "manifest.json"),
    "empty manifest": lambda bundle: os.truncate(bundle / "manifest.json", 0),
    "model removed": lambda bundle: (bundle / "model.onnx").unlink(),
    "manifest removed": lambda bundle: (bundle / "manifest.json").unlink(),
    "all removed": shutil.rmtree,
    "a link instead": lambda bundle: (
        (bundle / "model.onnx").unlink(),
        (bundle / "model.onnx").symlink_to("/etc/passwd"),
    ),
    "a folder instead": lambda bundle: (
        (bundle / "manifest.json").unlink(),
        (bundle / "manifest.json").mkdir(),
    ),
}


@pytest.fixture(scope="module")
def long_running(start_module_server, models, tmp_path_factory):
    """A server that outlives all damages, and its models."""
    folder = tmp_path_factory.mktemp("damaged") / "models"
    shutil.copytree(models, folder)
    return start_module_server(folder, *WATCH), folder


@pytest.fixture
def watching(long_running, models, question):
    """The same, with whole models and version 2 as the current one."""
    server, folder = long_running
    restore(folder, models)
    current = folder / "credit" / "current"  # else one that is gone from disk goes on serving
    current.write_text("2")
    server.wait_for(lambda: ask(server, question)[0] == 2, 20)
    # A version of another test, back with the same manifest, would be served from memory.
    server.wait_for(lambda: versions(server) == ["1", "2"], 20)
    current.unlink()
    return server


@pytest.fixture
def folder(long_running):
    return long_running[1]


def restore(folder, models):
    if folder.exists():
        shutil.rmtree(folder / "credit", ignore_errors=True)
        shutil.rmtree(folder / ".new", ignore_errors=True)
        shutil.copytree(models / "credit", folder / "credit")
    else:
        shutil.copytree(models, folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_current_version_damaged_while_serving(watching, folder, models, question, truth, damage):
    """The loaded version keeps serving, also after the bundle is repaired."""
    bundle = folder / "credit" / "2"
    with Asking(watching, question, truth) as asking:
        asking.go_on(0)
        DAMAGES[damage](bundle)
        asking.go_on()
        restore(folder, models)
        asking.go_on()
    assert set(asking.versions) == {2}


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d != "all removed"])
def test_damaged_bundle_is_not_taken_up(watching, folder, models, question, truth, damage):
    bundle = folder / "credit" / "3"
    n_lines = len(watching.lines)
    with Asking(watching, question, truth) as asking:
        shutil.copytree(models / "credit" / "1", folder / ".new")
        DAMAGES[damage](folder / ".new")
        (folder / ".new").rename(bundle)
        asking.go_on()
    assert set(asking.versions) == {2}
    if damage != "manifest removed":  # without one it is no bundle yet
        failed = [line for line in watching.lines[n_lines:] if "model failed" in line]
        assert any('"version":3' in line for line in failed), watching.lines[n_lines:]
        assert not any("Traceback" in line for line in failed)


@pytest.mark.parametrize("depth", ["credit", "."])
def test_all_models_removed_while_serving(watching, folder, question, truth, depth):
    with Asking(watching, question, truth) as asking:
        shutil.rmtree(folder / depth)
        asking.go_on(0.8)
    assert httpx.get(f"{watching.url}/v2/health/ready").status_code == 200


def test_damaged_version_at_the_start(start_server, own_models, question, truth):
    """The highest complete version serves, and the log says why the other does not."""
    cut(own_models / "credit" / "2" / "model.onnx")
    server = start_server(own_models)
    version, probabilities = ask(server, question)
    assert version == 1
    np.testing.assert_allclose(probabilities, truth[1], atol=1e-5)
    assert "model.onnx" in server.wait_for_log("model failed", version=2)["reason"]


def run_limited(arguments, most_bytes=0):
    """A command of ours that may write no file of more bytes, as on a disk that is full."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, *map(str, arguments)]
    # The file of a measurement of coverage would not fit either.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )


def test_rollback_on_a_full_disk(watching, folder, question, truth):
    with Asking(watching, question, truth) as asking:
        before = sorted(os.listdir(folder / "credit"))
        done = run_limited(["-m", "skmode_deploy", "rollback", folder, "credit", "--to", "1"])
        assert done.returncode == 2
        assert done.stderr.startswith("skmode-deploy: ")
        assert "Traceback" not in done.stderr
        assert sorted(os.listdir(folder / "credit")) == before
        asking.go_on()
    assert set(asking.versions) == {2}
    # And when there is room, it works.
    command = ["-m", "skmode_deploy", "rollback", folder, "credit", "--to", "1"]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    watching.wait_for(lambda: ask(watching, question)[0] == 1, 10)


EXPORT = """
import sys
from pathlib import Path
from skmode_deploy import bundle

source, target = Path(sys.argv[1]), Path(sys.argv[2])
manifest = bundle.read(source)
files = {name: bundle.read_file(source, manifest, name) for name in manifest.files}
bundle.write(target, manifest, files)
"""


@pytest.mark.parametrize("most_bytes", [0, 10_000, 30_000])
def test_export_to_a_full_disk_while_serving(
    watching, folder, question, truth, tmp_path, most_bytes
):
    """A bundle appears completely or not at all, and the old one keeps serving."""
    script = tmp_path / "export.py"
    script.write_text(EXPORT)
    target = folder / "credit" / "3"
    arguments = [script, folder / "credit" / "1", target]
    with Asking(watching, question, truth) as asking:
        done = run_limited(arguments, most_bytes)
        assert done.returncode != 0
        assert "File too large" in done.stderr
        asking.go_on()
        assert not target.exists()
        assert sorted(os.listdir(folder / "credit")) == ["1", "2"]
    assert set(asking.versions) == {2}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    watching.wait_for(lambda: ask(watching, question)[0] == 3, 10)


def test_copy_to_a_full_disk_while_serving(watching, folder, question, truth):
    """Half a bundle, as `cp` leaves it, is refused."""
    source, target = folder / "credit" / "1", folder / "credit" / "3"
    n_lines = len(watching.lines)
    code = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])"
    with Asking(watching, question, truth) as asking:
        done = run_limited(["-c", code, source, target], 30_000)
        assert done.returncode != 0
        watching.wait_for(
            lambda: any(
                '"model failed"' in line and '"version":3' in line
                for line in watching.lines[n_lines:]
            )
        )
        asking.go_on(0)
    assert set(asking.versions) == {2}


@contextlib.contextmanager
def started(command, url, **options):
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not start"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


class Address:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"


def serve_command(models, ports, *flags):
    command = ["-m", "skmode_deploy", "serve", models, "--http-port", ports[0]]
    return [sys.executable, *map(str, [*command, "--grpc-port", ports[1], *flags])]


@pytest.fixture
def ports():
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    numbers = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return numbers


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_log_on_a_full_disk(models, question, truth, ports):
    """Every line of the log fails, but every request succeeds."""
    server = Address(ports[0])
    with open("/dev/full", "w") as full:
        command = serve_command(models, ports)
        with started(command, server.url, stderr=full), Asking(server, question, truth) as asking:
            asking.go_on()


# A namespace of its own, in which an ordinary user may mount a small disk.
SMALL_DISK = 'mount -t tmpfs -o size={size} none "$1" && shift && exec "$@"'


def on_a_small_disk(folder, size, command):
    script = SMALL_DISK.format(size=size)
    return ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), *command]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of the package util-linux")
    done = subprocess.run(on_a_small_disk(folder, "1m", ["true"]), capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"may not mount a small disk: {done.stderr.decode().strip()}")
    return folder


@pytest.mark.slow
def test_metrics_of_workers_on_a_disk_that_fills_up(models, question, truth, ports, small_disk):
    """Two processes count in files whose space is reserved at the start."""
    server = Address(ports[0])
    command = serve_command(models, ports, "--workers", "2", "--drain-seconds", "0")
    environment = {**os.environ, "TMPDIR": str(small_disk)}
    command = on_a_small_disk(small_disk, "32m", command)
    with started(command, server.url, stderr=subprocess.DEVNULL, env=environment) as process:
        inside = f"/proc/{process.pid}/root{small_disk}"
        if not os.access(inside, os.W_OK):
            pytest.skip("may not look into the small disk")
        wait_for_files(inside, 2)
        with contextlib.suppress(OSError), open(f"{inside}/fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert os.statvfs(inside).f_bavail == 0
        with Asking(server, question, truth) as asking:
            for _ in range(10):  # series that there were not before
                httpx.post(f"{server.url}/v2/models/iris/infer", content=b"{}")
            asking.go_on()
        # Counts are written with a delay, and files are read while processes write them.
        wanted = 'skmode_requests_total{code="400",model="iris"'
        end = time.monotonic() + 20
        while wanted not in (text := httpx.get(f"{server.url}/metrics").text):
            assert time.monotonic() < end, text[:500]
            time.sleep(0.2)


def wait_for_files(folder, n_workers):
    """Until as many processes have made their files."""
    end = time.monotonic() + 60
    while True:
        names = [name for _, _, files in os.walk(folder) for name in files]
        made = [name for name in names if name.endswith(".db")]
        if sum(name.startswith("histogram_") for name in made) >= n_workers:
            return
        assert time.monotonic() < end, names
        time.sleep(0.1)


def test_metrics_of_workers_on_a_full_disk(models, ports, small_disk):
    command = serve_command(models, ports, "--workers", "2")
    environment = {**os.environ, "TMPDIR": str(small_disk)}
    command = on_a_small_disk(small_disk, "1m", command)
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "bytes for metrics in" in done.stderr
    assert "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr
