"""The dashboard and the alerts of deploy/grafana, against the metrics that the server has."""

import itertools
import json
import math
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
metrics = pytest.importorskip("skmode_deploy.serving.observe.metrics")

FOLDER = Path(__file__).parents[2] / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
# Prometheus itself writes this one, for each server that it asks.
OF_PROMETHEUS = {"up"}


def fill_in(expression):
    """An expression of the dashboard as Grafana sends it, with all jobs and models chosen."""
    chosen = {"$__rate_interval": "5m", "$job": ".+", "$model": ".*"}
    for variable, value in chosen.items():
        expression = expression.replace(variable, value)
    return expression


EXPRESSIONS = [fill_in(target["expr"]) for _, target in TARGETS] + [rule["expr"] for rule in RULES]


def find_metrics(expression):
    """The names of the metrics in an expression."""
    parser = pytest.importorskip("promql_parser")
    found, pending = set(), [parser.parse(expression)]
    while pending:
        node = pending.pop()
        if isinstance(node, parser.VectorSelector):
            found.add(node.name)
            continue
        for attribute in ("expr", "lhs", "rhs", "param", "vector_selector"):
            child = getattr(node, attribute, None)
            if child is not None and not isinstance(child, str):
                pending.append(child)
        pending += list(getattr(node, "args", None) or [])
    return found


def get_base(name):
    return re.sub(r"_(bucket|count|sum)$", "", name)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_name_metrics_that_the_server_has(expression):
    names = find_metrics(expression)
    assert names
    assert {get_base(name) for name in names} <= set(metrics.METRIC_NAMES) | OF_PROMETHEUS


def test_every_metric_of_the_server_is_shown():
    shown = {get_base(name) for e in EXPRESSIONS for name in find_metrics(e)}
    assert set(metrics.METRIC_NAMES) <= shown


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        box = panel["gridPos"]
        assert box["x"] + box["w"] <= 24
        cells = set(
            itertools.product(
                range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"])
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_say_what_they_show(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    for target in panel["targets"]:
        assert target["expr"].strip()
        assert target["legendFormat"].strip()


def test_the_source_of_the_data_can_be_chosen():
    source, job, model = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for item in (job, model, *PANELS, *(target for _, target in TARGETS)):
        assert item["datasource"] == chosen
    assert DASHBOARD["schemaVersion"] >= 39


def test_every_panel_goes_by_the_chosen_jobs():
    for _, target in TARGETS:
        selectors = re.findall(r"\b(?:skmode_\w+|up)(\{[^}]*\})?", target["expr"])
        assert selectors
        assert all('job=~"$job"' in selector for selector in selectors), target["expr"]


def find_panels(title):
    return [panel for panel in PANELS if panel["title"] == title]


@pytest.mark.parametrize(
    ("title", "alert"),
    [
        ("Errors", "SkmodeErrors"),
        ("Slowest requests", "SkmodeSlow"),
        ("Routing drift", "SkmodeRoutingDrift"),
        ("Unseen categories", "SkmodeUnseenCategories"),
        ("Mixture disagrees", "SkmodeMixtureDisagrees"),
    ],
)
def test_panel_thresholds_agree_with_the_alerts(title, alert):
    (rule,) = [rule for rule in RULES if rule["alert"] == alert]
    (limit,) = re.findall(r"> (0\.\d+)", rule["expr"])
    panels = find_panels(title)
    assert panels
    for panel in panels:
        last = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
        assert last == {"color": "red", "value": float(limit)}


def test_panels_follow_the_schema_of_grafana():
    """A field that Grafana's own schema does not know would be lost in a round trip."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    original = json.loads(json.dumps(DASHBOARD))
    for variable in original["templating"]["list"]:
        variable.pop("definition", None)  # Grafana writes it, its description leaves it out
    known = models.Dashboard.from_json(original)
    assert list(find_losses(original, json.loads(encoder.JSONEncoder().encode(known)))) == []


def find_losses(before, after, path="dashboard"):
    if isinstance(before, dict):
        for key, value in before.items():
            if key in after:
                yield from find_losses(value, after[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(before, list):
        if len(before) != len(after):
            yield path
        for i, (value, other) in enumerate(zip(before, after, strict=False)):
            yield from find_losses(value, other, f"{path}[{i}]")
    elif before != after:
        yield path


def test_alerts_have_summary_and_severity():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    readme = (FOLDER / "README.md").read_text()
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert f"`{rule['alert']}`" in readme


def test_every_alert_is_tested_firing_and_silent():
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in tests[0]["alert_rule_test"]} == names
    assert not any(case.get("exp_alerts") for case in tests[0]["alert_rule_test"])


def run_promtool(promtool, *arguments, cwd=FOLDER):
    outcome = subprocess.run(
        [promtool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    return outcome.returncode, outcome.stdout + outcome.stderr


@pytest.mark.slow
def test_promtool_accepts_the_alerts(promtool):
    code, said = run_promtool(promtool, "check", "rules", "alerts.yml")
    assert code == 0, said
    assert f"SUCCESS: {len(RULES)} rules found" in said


@pytest.mark.slow
def test_alerts_fire_when_they_should(promtool):
    code, said = run_promtool(promtool, "test", "rules", "alerts_test.yml")
    assert code == 0, said


@pytest.mark.slow
def test_promtool_accepts_the_configuration(promtool, tmp_path):
    """As it is, and with all that its comments offer."""
    code, said = run_promtool(promtool, "check", "config", "prometheus.yml")
    assert code == 0, said
    text = (FOLDER / "prometheus.yml").read_text()
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "skmode"
    for ca in re.findall(r"ca_file: (\S+)", text):
        text = text.replace(ca, str(tmp_path / "cert.pem"))
    (tmp_path / "cert.pem").touch()
    for name in ("scheme: https", "tls_config:", "  ca_file:", "  server_name:"):
        text = text.replace(f"    # {name}", f"    {name}")
    head, comment, offer = text.partition("# alerting:\n")
    assert comment
    offer = "".join(line.removeprefix("# ") for line in (comment + offer).splitlines(keepends=True))
    (tmp_path / "prometheus.yml").write_text(head + offer)
    (tmp_path / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    config = yaml.safe_load(head + offer)
    assert config["scrape_configs"][0]["tls_config"]
    assert config["alerting"]["alertmanagers"]
    code, said = run_promtool(promtool, "check", "config", "prometheus.yml", cwd=tmp_path)
    assert code == 0, said


@pytest.mark.slow
def test_promtool_accepts_the_configuration_for_kubernetes(promtool, tmp_path):
    config = yaml.safe_load((FOLDER.parent / "kserve" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    # Debian's build leaves Kubernetes out: the rest is checked with servers that are named.
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["static_configs"] = [{"targets": ["127.0.0.1:8082"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    code, said = run_promtool(promtool, "check", "config", "prometheus.yml", cwd=tmp_path)
    assert code == 0, said


# What follows: an hour of a server's life, written into a real Prometheus, that all panels show.

STEP = 60
STEPS = 60


def write_hour(path, start):
    """Write what a server with two models would have said once a minute, as OpenMetrics."""
    said = metrics.Metrics()
    lines = {}
    for step in range(STEPS):
        work_a_minute(said, step)
        for family in said.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    labels = sample.labels | {"job": "skmode", "instance": "a"}
                    write_sample(lines, sample.name, labels, sample.value, start + step * STEP)
        write_sample(lines, "up", {"job": "skmode", "instance": "a"}, 1, start + step * STEP)
    text = [line for _, series in sorted(lines.items()) for line in series]
    path.write_text("\n".join([*text, "# EOF"]) + "\n")


def write_sample(lines, name, labels, value, moment):
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    lines.setdefault((name, pairs), []).append(f"{name}{{{pairs}}} {value} {moment}")


def work_a_minute(said, step):
    """Model churn, version 2: 100 rows a minute, 60 by expert 0, 20 with an unseen city."""
    of_version = ("churn", "2")
    for protocol, code, count in (("rest", "200", 8), ("grpc", "OK", 1), ("rest", "500", 1)):
        for _ in range(count):
            said.get("skmode_requests_total", *of_version, protocol, code).inc()
            said.get("skmode_request_seconds", "churn", protocol).observe(0.02)
            said.get("skmode_request_rows", "churn").observe(10)
    said.running.set(3)
    said.waiting.set(5)
    said.get("skmode_rejected_total", "queue_full").inc(2)
    said.get("skmode_rows_total", *of_version).inc(100)
    for expert, rows, share in (("0", 60, 0.5), ("1", 40, 0.5)):
        said.get("skmode_expert_rows_total", *of_version, expert).inc(rows)
        said.get("skmode_expert_training_share", *of_version, expert).set(share)
    said.get("skmode_gate_confidence", *of_version).observe(0.85)
    said.get("skmode_missing_values_total", *of_version, "age").inc(10)
    said.get("skmode_missing_values_total", *of_version, "city").inc(0)
    said.get("skmode_unseen_categories_total", *of_version, "city").inc(20)
    # Version 1 is loaded still, but has no rows and nobody is served by it.
    said.get("skmode_routing_drift", "churn", "1").set(0.9)
    said.get("skmode_routing_drift", *of_version).set(math.nan if step < 10 else 0.125)
    said.get("skmode_model_info", *of_version, "classification", "0123456789ab").set(1)
    said.get("skmode_model_info", "churn", "1", "classification", "ba9876543210").set(0)
    said.get("skmode_model_current_version", "churn").set(2)
    if step == 0:
        said.get("skmode_model_loads_total", "churn", "loaded").inc()
    said.get("skmode_shadow_rows_total", *of_version).inc(50)
    said.get("skmode_shadow_disagreements_total", *of_version).inc(1)
    said.get("skmode_abstentions_total", *of_version).inc(5)
    said.get("skmode_prompt_tokens_total", *of_version).inc(120)
    said.get("skmode_generated_tokens_total", *of_version, "de").inc(600)
    said.get("skmode_time_to_first_token_seconds", "churn").observe(0.02)
    said.get("skmode_tokens_per_second", "churn").observe(200)


@pytest.fixture(scope="module")
def query(prometheus, promtool, tmp_path_factory):
    """Ask a Prometheus that holds that hour, at the end of it."""
    folder = tmp_path_factory.mktemp("prometheus")
    start = int(time.time()) - 4 * 3600  # long enough ago to be in blocks of their own
    write_hour(folder / "hour.txt", start)
    blocks = ("tsdb", "create-blocks-from", "openmetrics", "hour.txt", "data")
    code, output = run_promtool(promtool, *blocks, cwd=folder)
    assert code == 0, output
    (folder / "empty.yml").write_text("{}\n")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    command = [prometheus, "--config.file=empty.yml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address={address}", "--log.level=error"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(expression):
        moment = start + (STEPS - 1) * STEP
        arguments = urllib.parse.urlencode({"query": expression, "time": moment})
        with opener.open(f"http://{address}/api/v1/query?{arguments}", timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                opener.open(f"http://{address}/-/ready", timeout=5).close()
                break
            except OSError:
                said = (folder / "log").read_text()
                assert server.poll() is None, said
                assert time.monotonic() < end, said
                time.sleep(0.1)
        yield ask
    finally:
        server.terminate()
        server.wait(30)


def show(query, title, legend):
    """What a target of a panel shows: the value of each line by its filled legend."""
    for panel in find_panels(title):
        for target in panel["targets"]:
            if target["legendFormat"] == legend:
                lines = query(fill_in(target["expr"]))
                return {name_line(legend, line): float(line["value"][1]) for line in lines}
    raise KeyError(title, legend)


def name_line(legend, line):
    return re.sub(r"\{\{(\w+)\}\}", lambda label: line["metric"][label[1]], legend)


@pytest.mark.slow
def test_no_panel_or_legend_is_empty(query):
    for panel, target in TARGETS:
        result = query(fill_in(target["expr"]))
        assert result, panel["title"]
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for line in result:
            assert wanted <= line["metric"].keys(), panel["title"]
            assert math.isfinite(float(line["value"][1])) or "drift" in target["expr"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "legend", "shown"),
    [
        ("Servers up", "up", {"up": 1}),
        ("Requests", "requests", {"requests": 10 / 60}),
        ("Errors", "errors", {"errors": 0.1}),
        ("Routing drift", "drift", {"drift": 0.125}),
        ("Versions served", "{{model}} version {{version}}", {"churn version 2": 1}),
        (
            "Requests by code",
            "{{protocol}} {{code}}",
            {"rest 200": 8 / 60, "grpc OK": 1 / 60, "rest 500": 1 / 60},
        ),
        ("Rows of a request", "mean", {"mean": 10}),
        ("Queue", "waiting {{instance}}", {"waiting a": 5}),
        ("Turned away, by reason", "{{reason}}", {"queue_full": 2 / 60}),
        (
            "Rows by expert",
            "{{model}} {{version}} expert {{expert}}",
            {"churn 2 expert 0": 0.6, "churn 2 expert 1": 0.4},
        ),
        ("Rows a second", "{{model}} {{version}}", {"churn 2": 100 / 60}),
        ("Mixture disagrees", "{{model}} {{version}}", {"churn 2": 0.02}),
        ("Missing values", "{{model}} {{version}} {{column}}", {"churn 2 age": 0.1}),
        ("Unseen categories", "{{model}} {{version}} {{column}}", {"churn 2 city": 0.2}),
        ("Tokens", "{{model}} {{version}} by {{expert}}", {"churn 2 by de": 10}),
        ("Tokens", "{{model}} {{version}} of prompts", {"churn 2 of prompts": 2}),
        ("Unknown domains", "{{model}} {{version}}", {"churn 2": 0.05}),
        ("Loaded versions", "{{model}} {{version}}", {"churn 2": 1}),
        ("Version served", "{{model}} {{instance}}", {"churn a": 2}),
        ("Bundles loaded", "{{model}} {{result}}", {"churn loaded": 1}),
    ],
)
def test_panels_show_the_traffic(query, title, legend, shown):
    assert show(query, title, legend) == pytest.approx(shown)


@pytest.mark.slow
def test_quantiles_lie_in_the_right_bucket(query):
    (seconds,) = show(query, "Slowest requests", "p99").values()
    assert 0.01 < seconds <= 0.025
    (confidence,) = show(query, "Gate's confidence", "p50 {{model}} {{version}}").values()
    assert 0.8 < confidence <= 0.9
