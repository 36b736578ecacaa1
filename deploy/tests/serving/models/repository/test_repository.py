"""Models are found by name, loaded and unloaded by request, and served from real bundles."""

import shutil
import weakref

import pytest

import skmode_deploy
from skmode_deploy import bundle
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.repository import Event, LoadError, Repository, UnknownModelError


def test_names_and_versions(models, watched, put):
    for version in (1, 2, 10):
        put(models / "churn" / str(version), f"churn {version}")
    put(models / "credit", "single")
    assert watched.scan() == [
        ("loaded", "churn", 1),
        ("loaded", "churn", 2),
        ("loaded", "churn", 10),
        ("switched", "churn", 10),
        ("loaded", "credit", 1),
        ("switched", "credit", 1),
    ]
    repository = watched.repository
    assert repository.names() == ["churn", "credit"]
    assert repository.versions("churn") == [1, 2, 10]
    assert repository.current("churn") == 10
    assert repository.get("churn") is repository.get("churn@10")
    assert watched.text("churn@2") == "churn 2"
    assert watched.text("credit") == watched.text("credit@1") == "single"
    model = repository.get("churn@2")
    assert (model.name, model.version) == ("churn", 2)
    assert watched.scan() == []
    assert len(watched.opened) == 4  # nothing was loaded twice


def test_a_path_may_be_a_single_bundle(models, put, watch):
    put(models / "churn", "first")
    watched = watch(models / "churn")
    assert watched.scan() == [("loaded", "churn", 1), ("switched", "churn", 1)]
    put(models / "churn", "second")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn@1") == "second"
    named = watch(models / "churn", name="credit")
    named.scan()
    assert named.repository.names() == ["credit"]


def test_a_name_makes_the_path_a_single_bundle(models, put, watch):
    put(models / "churn" / "1")
    watched = watch(models, name="churn")
    assert watched.scan() == [("failed", "churn", 1)]
    assert "A bundle must have a readable manifest.json" in watched.events[0].reason
    assert watched.repository.names() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a@1"}, "name of a model must be letters.*got 'a@1'"),
        ({"name": ".hidden"}, "the first no '.', got '.hidden'"),
        ({"max_versions": 0}, "max_versions must be an integer of at least 1, got 0"),
        ({"max_versions": True}, "max_versions must be an integer of at least 1, got True"),
    ],
)
def test_wrong_parameters(models, options, message, open_model):
    with pytest.raises(ValueError, match=message):
        Repository(models, open_model, **options)


def test_the_path_must_be_a_folder_and_its_name_that_of_a_model(models, put, open_model):
    with pytest.raises(NotADirectoryError, match="path must be a bundle or a folder.*no folder"):
        Repository(models / "nowhere", open_model)
    put(models / "my model")
    with pytest.raises(ValueError, match="got 'my model': rename.*or pass a name"):
        Repository(models / "my model", open_model)


def test_unknown_models(models, watched, put):
    with pytest.raises(UnknownModelError, match="got 'churn', and none is: copy its bundle"):
        watched.repository.get("churn")
    put(models / "churn" / "3")
    watched.scan()
    for ask in (watched.repository.get, watched.repository.current, watched.repository.versions):
        with pytest.raises(UnknownModelError, match="must be one of 'churn', got 'credit'"):
            ask("credit")
    for name in ("churn@4", "churn@03", "churn@latest"):
        with pytest.raises(UnknownModelError, match="version of 'churn' must be one of '3', got"):
            watched.repository.get(name)
    for name in ("churn@", "@3", "", "a@b@c", "../churn"):
        with pytest.raises(UnknownModelError, match="must be one of 'churn'"):
            watched.repository.get(name)
    with pytest.raises(UnknownModelError) as error:
        watched.repository.get("x" * 1_000_000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("name", "version", "shown"),
    [
        ("0", "0", "got version 0 of model '0'"),
        ("credit", "latest", "got version 'latest' of model 'credit'"),
        ("0@0", "", "got '0@0'"),
        ("credit@", "", "got 'credit@'"),
        ("@3", "", "got '@3'"),
    ],
)
def test_an_unknown_model_is_named_as_in_the_request(models, watched, put, name, version, shown):
    with pytest.raises(UnknownModelError, match=f"{shown}, and none is: copy"):
        watched.repository.get(name, version)
    put(models / "churn")
    watched.scan()
    with pytest.raises(UnknownModelError, match=f"must be one of 'churn', {shown}: ask for one"):
        watched.repository.get(name, version)


def test_bad_bundles_at_start_are_reported_and_the_rest_serves(models, watched, put, damage):
    put(models / "churn" / "1")
    put(models / "churn" / "2")
    damage(models / "churn" / "2")
    (models / "credit" / "1").mkdir(parents=True)
    (models / "empty").mkdir()
    assert watched.scan() == [
        ("loaded", "churn", 1),
        ("switched", "churn", 1),
        ("failed", "churn", 2),
        ("failed", "credit", 1),
        ("failed", "empty", None),
    ]
    reasons = [event.reason for event in watched.events if event.kind == "failed"]
    assert reasons[0] == (
        "weights must have the stated hash, got another: copy them again. "
        "Version 1 goes on serving."
    )
    assert "must have a readable manifest.json" in reasons[1]
    assert "must be a bundle or hold versions, and it holds none" in reasons[2]
    assert watched.repository.names() == ["churn"]


def test_unload_and_load(models, watched, put):
    for version in (1, 2):
        put(models / "churn" / str(version))
    put(models / "credit")
    watched.scan()
    gone = weakref.ref(watched.repository.get("churn"))
    events = watched.repository.unload("churn")
    assert [(event.kind, event.version) for event in events] == [("retired", 1), ("retired", 2)]
    assert watched.events[-2:] == events
    assert watched.repository.unload("churn") == []
    assert gone() is None
    put(models / "churn" / "3")
    assert watched.scan() == []
    assert watched.repository.names() == ["credit"]
    with pytest.raises(UnknownModelError, match="must be one of 'credit'"):
        watched.repository.get("churn")
    states = [state for state in watched.repository.state() if state.name == "churn"]
    assert {state.state for state in states} == {"UNAVAILABLE"}
    assert {state.reason for state in states} == {"It was unloaded."}
    events = watched.repository.load("churn")
    assert events[-1] == Event("switched", "churn", 3, "Nothing served before.")
    assert watched.repository.load("churn") == []
    assert watched.repository.versions("churn") == [1, 2, 3]


def test_management_calls_for_unknown_models(models, watched, put):
    put(models / "churn")
    watched.scan()
    for call in (watched.repository.load, watched.repository.unload):
        for name in ("credit", "churn@1", "../models", ""):
            with pytest.raises(UnknownModelError, match="must be one of 'churn', got"):
                call(name)


def test_load_explains_refusals_and_tries_again(models, put, open_model):
    working = False

    def sometimes(name, version, folder):
        if version == 2 and not working:
            raise BundleError("Not now.")
        return open_model(name, version, folder)

    repository = Repository(models, sometimes, report=lambda event: None)
    put(models / "churn" / "1")
    put(models / "churn" / "2")
    for _ in range(3):
        repository.scan()
    with pytest.raises(LoadError, match=r"^version 2 of churn cannot be loaded: Not now\.$"):
        repository.load("churn")
    assert repository.current("churn") == 1
    assert repository.scan() == []
    working = True
    assert repository.scan() == []  # its files did not change
    repository.load("churn")
    assert repository.current("churn") == 2
    (models / "churn" / "current").write_text("none")
    with pytest.raises(LoadError, match=r"churn cannot be loaded: The file 'current' must be"):
        repository.load("churn")
    assert repository.current("churn") == 2


def test_bundles_are_served_and_replaced(models, table_bundle):
    rows = {"age": [30.0], "city": ["Bern"], "plan": [1.0]}
    manifest = bundle.read(table_bundle)
    files = {name: bundle.read_file(table_bundle, manifest, name) for name in manifest.files}
    bundle.write(models / "churn" / "1", manifest, files)
    repository = Repository(models, lambda name, version, folder: skmode_deploy.load(folder))
    repository.scan()
    before = repository.get("churn")
    assert before.predict(rows).tolist() == [30]
    bundle.write(models / "churn" / "1", manifest, {**files, "README.md": b"my own"})
    assert [event.kind for event in repository.scan()] == ["loaded"]
    assert repository.get("churn") is not before
    (models / "churn" / "1" / "model.onnx").write_bytes(b"changed")
    shutil.copytree(models / "churn" / "1", models / "churn" / "2")
    assert repository.scan() == []
    (event,) = repository.scan()
    assert (event.kind, event.version) == ("failed", 2)
    assert "model.onnx must have the" in event.reason
    assert repository.get("churn").predict(rows).tolist() == [30]
