"""The image of deploy/docker: its Dockerfile is read, and its build steps are run without it."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2]
FOLDER = DEPLOY / "docker"


def read_instructions():
    """The Dockerfile as (instruction, rest) pairs, lines that go on joined."""
    text = (FOLDER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def read_pins():
    text = (FOLDER / "constraints.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, re.MULTILINE))


@pytest.fixture
def instructions():
    return read_instructions()


def get(instructions, name):
    return [rest for instruction, rest in instructions if instruction == name]


def split_stages(instructions):
    starts = [i for i, (name, _) in enumerate(instructions) if name == "FROM"]
    return [
        instructions[start:end]
        for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True)
    ]


def test_the_base_is_pinned_to_a_release(instructions):
    (base,) = [rest for rest in get(instructions, "ARG") if rest.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert get(instructions, "FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_the_image_runs_only_the_tested_script(instructions):
    assert get(instructions, "RUN") == ['["sh", "docker/build.sh", "/opt/skmode"]']
    assert get(instructions, "ADD") == []
    assert "://" not in " ".join(get(instructions, "COPY"))


def test_the_server_is_not_root_and_needs_no_shell(instructions):
    _, runtime = split_stages(instructions)
    assert get(runtime, "USER") == ["10001:10001"]
    assert get(runtime, "RUN") == get(runtime, "SHELL") == []
    (check,) = get(runtime, "HEALTHCHECK")
    for command in (*get(runtime, "ENTRYPOINT"), *get(runtime, "CMD"), check.split("CMD ")[1]):
        assert isinstance(json.loads(command), list)
    # Nothing is copied after the user has changed, so nothing belongs to it.
    names = [name for name, _ in runtime]
    assert "COPY" not in names[names.index("USER") :]


def test_the_command_serves_a_bundle_where_kserve_puts_it(instructions, capsys):
    cli = pytest.importorskip("skmode_deploy.cli")
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    (command,) = get(instructions, "CMD")
    assert json.loads(command) == ["serve", "/mnt/models", "--host", "0.0.0.0"]
    assert "--host" in known
    assert json.loads(get(instructions, "ENTRYPOINT")[0]) == ["skmode-deploy"]


def test_the_build_context_is_exactly_what_is_copied(instructions):
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in ignored if line and not line.startswith("#")]
    assert patterns[0] == "**"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for rest in get(instructions, "COPY")
        if "--from=" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((DEPLOY / source).exists() for source in copied)


def test_constraints_pin_every_release_exactly_and_no_training_library():
    lines = (FOLDER / "constraints.txt").read_text().splitlines()
    pins = read_pins()
    assert len(pins) == sum(not line.startswith("#") for line in lines)
    needed = {"grpcio", "numpy", "onnxruntime", "prometheus-client", "starlette", "uvicorn"}
    assert needed <= set(pins)
    assert not {"onnx", "scikit-learn", "skmode", "skorch", "torch"} & set(pins)


def test_constraints_admit_what_the_package_asks_for():
    tomllib = pytest.importorskip("tomllib")
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((DEPLOY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = read_pins()
    for line in (*project["dependencies"], *extras["serve"], *extras["signing"]):
        requirement = packaging.Requirement(line)
        assert pins[requirement.name.lower()] in requirement.specifier, line


@pytest.mark.slow
def test_hadolint_finds_nothing(hadolint):
    outcome = subprocess.run(
        [hadolint, "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True, timeout=60
    )
    assert (outcome.returncode, outcome.stdout) == (0, "")


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status if self.path == "/v2/health/ready" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def health_server():
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        server.status = 200
        server.url = f"http://127.0.0.1:{server.server_port}/v2/health/ready"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check_health(url, **variables):
    return subprocess.run(
        [sys.executable, FOLDER / "healthcheck.py"],
        env=os.environ | variables | {"SKMODE_HEALTH_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_health_check_reports_readiness(health_server):
    assert check_health(health_server.url).returncode == 0
    health_server.status = 503
    outcome = check_health(health_server.url)
    assert outcome.returncode == 1
    assert "503" in outcome.stderr


def test_the_health_check_fails_if_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outcome = check_health(f"http://127.0.0.1:{port}/v2/health/ready")
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("healthcheck: http://127.0.0.1:")
    assert "Traceback" not in outcome.stderr


def test_the_health_check_bypasses_proxies(health_server):
    assert check_health(health_server.url, http_proxy="http://127.0.0.1:9").returncode == 0


def test_the_build_refuses_an_existing_folder(tmp_path):
    outcome = subprocess.run(
        ["sh", FOLDER / "build.sh", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert outcome.returncode == 2
    assert outcome.stderr == (
        "build.sh: TARGET must be a folder that does not exist yet, "
        f"got '{tmp_path}': name another.\n"
    )
    assert list(tmp_path.iterdir()) == []


def clean_environment():
    """Without what would let the environment see other packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The environment of the image, with this interpreter instead of the image's."""
    target = tmp_path_factory.mktemp("image") / "skmode"
    outcome = subprocess.run(
        ["sh", FOLDER / "build.sh", target, sys.executable],
        capture_output=True,
        text=True,
        timeout=570,
        env=clean_environment(),
    )
    assert outcome.returncode == 0, outcome.stderr[-1000:]
    return target


def ask(built, code):
    return subprocess.run(
        [built / "bin/python", "-I", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


@pytest.mark.slow
def test_the_environment_serves_and_cannot_train(built, record_property):
    command = [built / "bin/skmode-deploy", "serve", "--help"]
    subprocess.run(command, check=True, capture_output=True, env=clean_environment(), cwd="/")
    names = ["onnx", "pip", "pytest", "sklearn", "skmode", "skorch", "torch"]
    names += ["kserve", "onnxruntime", "prometheus_client", "skmode_deploy", "starlette"]
    code = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    present = ask(built, code)
    assert present == "['onnxruntime', 'prometheus_client', 'skmode_deploy', 'starlette']\n"
    files = [path for path in built.rglob("*") if path.is_file() and not path.is_symlink()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"The environment of the image has {megabytes:.0f} MB.")
    record_property("environment_megabytes", round(megabytes))
    assert megabytes < 450


@pytest.mark.slow
def test_the_environment_holds_the_pinned_releases_and_no_others(built):
    code = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in distributions()}))"
    )
    installed = json.loads(ask(built, code))
    assert installed.pop("skmode-deploy")
    pins = read_pins()
    assert installed.items() <= pins.items()
    # What is pinned besides is for signatures.
    assert "starlette" in installed
    assert "model-signing" not in installed
    check = [sys.executable, "-m", "pip", "--python", str(built / "bin/python"), "check"]
    outcome = subprocess.run(
        check, capture_output=True, text=True, timeout=120, env=clean_environment()
    )
    assert outcome.stdout == "No broken requirements found.\n"


@pytest.mark.slow
def test_the_environment_is_compiled_so_that_it_can_be_read_only(built):
    packages = next((built / "lib").glob("python3*")) / "site-packages"
    for package in ("skmode_deploy", "starlette", "numpy"):
        sources = set((packages / package).rglob("*.py"))
        compiled = {
            path.parent.parent / f"{path.name.split('.')[0]}.py"
            for path in (packages / package).rglob("__pycache__/*.pyc")
        }
        assert sources <= compiled


def find_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def fetch(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_the_environment_serves_as_kserve_starts_it_until_it_is_stopped(
    built, table_bundle, tmp_path
):
    yaml = pytest.importorskip("yaml")
    runtime = yaml.safe_load((DEPLOY / "kserve/servingruntime.yaml").read_text())
    arguments = " ".join(runtime["spec"]["containers"][0]["args"])
    rest, grpc, metrics = find_ports(3)
    for old, new in {
        "/mnt/models": table_bundle,
        "{{.Name}}": "churn",
        "port=8080": f"port={rest}",
        "port=8081": f"port={grpc}",
        "port=8082": f"port={metrics}",
        "drain-seconds=10": "drain-seconds=1",
    }.items():
        assert old in arguments
        arguments = arguments.replace(old, str(new))
    url = f"http://127.0.0.1:{rest}/v2/health/ready"
    command = [built / "bin/skmode-deploy", *arguments.split()]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=clean_environment())
    try:
        end = time.monotonic() + 60
        while check_health(url).returncode != 0:
            said = (tmp_path / "log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.5)
        assert '"name":"churn"' in fetch(f"http://127.0.0.1:{rest}/v2/models/churn")
        text = fetch(f"http://127.0.0.1:{metrics}/metrics")
        assert 'skmode_model_current_version{model="churn"} 1.0' in text
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    finally:
        server.kill()
        server.wait()
    assert server.returncode in (0, 143, -signal.SIGTERM), (tmp_path / "log").read_text()
    assert check_health(url).returncode == 1
