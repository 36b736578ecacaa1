import hashlib
import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest

from skmode_deploy import bundle
from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.manifest import Domain, File, Language, Manifest
from skmode_deploy.errors import (
    GraphInterfaceError,
    ManifestError,
    MissingFileError,
    UnsafeNameError,
)

SCHEMA = json.loads(resources.files("skmode_deploy").joinpath("manifest.schema.json").read_text())

MODEL = Manifest(
    task="language_modeling",
    routing="top_expert",
    input="language",
    from_table=False,
    columns=(),
    n_outputs=300,
    classes=None,
    n_experts=2,
    alpha=0.5,
    expert_usage=(0.25, 0.75),
    validation_scores=None,
    versions={"skmode": "0"},
    files={"router.onnx": File(3, "0" * 64)},
    created="2026-11-22T05:00:00Z",
    language=Language((Domain("de"), Domain("C++", 0.01)), 128, 0, 4096, -3.5),
)
TAUGHT = replace(
    MODEL,
    language=replace(
        MODEL.language,
        domains=(Domain("de", None, "loss_ratio"), Domain("C++"), Domain("fr", 0.1, 0.9)),
    ),
    n_experts=3,
    expert_usage=(0.25, 0.25, 0.5),
)
CPP = bundle.domain_file("C++")

BROKEN = [
    (("language",), ..., "language in manifest.json must be present if input is 'language'"),
    (("language", "max_length"), 0, "max_length .* must be a whole number from 1 to 16777216"),
    (("language", "router_bytes"), 2**25, "router_bytes .* must be a whole number from 1"),
    (("language", "min_confidence"), "low", "min_confidence .* must be a finite number"),
    (("language", "domains", 0, "name"), "", "name of a domain .* must be a printable string"),
    (("language", "domains", 0, "name"), "x" * 101, "must be a printable string of 1 to 100"),
    (("language", "domains", 0, "quantization_loss"), "much", "must be a finite number"),
    (("language", "unknown"), "teacher", "unknown .* must be .best. or .common. or .error."),
    (("language", "domains", 0, "alpha"), -1, "alpha .* must be a finite number of at least 0"),
    (("language", "domains", 0, "alpha"), "*no*", "alpha .* must be a name of small letters"),
    (("language", "extra"), 1, "unknown fields .'extra'"),
    (("input",), "array", "language in manifest.json must be absent unless input is 'language'"),
    (("task",), "regression", "task .* must be 'language_modeling' if and only if input"),
    (("from_table",), True, "must be false if input is 'language'"),
    (("classes",), {"values": ["a"], "dtype": "<U1", "label": "value"}, "null unless task is"),
]
# What a schema cannot say.
BEYOND = [
    (("language", "end_token"), 300, "end_token .* must be below n_outputs, got 300"),
    (("language", "domains", 0, "name"), "a\nb", "must be a printable string"),
    (("language", "domains", 0, "name"), "C++", "Names of domains .* must be distinct"),
    (("n_experts",), 3, "of length n_experts, 3"),
    (("language", "unknown"), "common", "'best' or 'error' unless routing is 'mixture'"),
]


def changed(path, value):
    """The manifest's text with another value, and a checksum that fits it."""
    document = json.loads(MODEL.to_json())
    del document["sha256"]
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def test_round_trip():
    assert Manifest.from_json(MODEL.to_json()) == MODEL
    assert MODEL.language.names == ("de", "C++")
    jsonschema.validate(json.loads(MODEL.to_json()), SCHEMA)
    assert '"alpha": 0.5' in MODEL.to_json()
    assert MODEL.to_json().count("alpha") == 1  # readers of earlier releases know no other
    assert Manifest.from_json(TAUGHT.to_json()) == TAUGHT
    jsonschema.validate(json.loads(TAUGHT.to_json()), SCHEMA)


@pytest.mark.parametrize(("path", "value", "message"), [*BROKEN, *BEYOND])
def test_broken(path, value, message):
    if path == ("n_experts",):
        message = "expert_usage .* of length n_experts|" + message
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(changed(path, value))


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_the_schema_refuses_the_same(path, value, message):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(changed(path, value)), SCHEMA)


def test_graphs():
    inputs, outputs = bundle.graph_values(MODEL, "expert_de.onnx")
    assert [value.name for value in inputs + outputs] == ["tokens", "past", "logits", "present"]
    assert outputs[0].shape == ("n", "n", 300)
    assert bundle.graph_values(MODEL, CPP) == (inputs, outputs)
    assert bundle.graph_interface(MODEL, "router.onnx")[0] == ("bytes", "lengths")
    for name in ("common.onnx", "expert_fr.onnx", "model.onnx"):
        with pytest.raises(GraphInterfaceError, match="graphs of a language model must be"):
            bundle.graph_values(MODEL, name)


def test_file_names_are_plain_and_differ():
    names = ["de", "C++", "C--", "français", "日本", "../../etc", "x" * 100, "日" * 100]
    files = [bundle.domain_file(name) for name in names]
    assert files[0] == "expert_de.onnx"
    assert len(set(files)) == len(names)
    bundle.layout.check_names(files)


def test_domains_that_differ_by_case_alone_are_refused():
    with pytest.raises(UnsafeNameError, match="differ even if case is ignored"):
        bundle.layout.check_names([bundle.domain_file("de"), bundle.domain_file("DE")])


def test_all_files_must_be_there(tmp_path):
    bundle.write(tmp_path / "model", MODEL, {"router.onnx": b""})
    with pytest.raises(MissingFileError, match=r"got one without expert_C__.*, tokenizer.json"):
        bundle.verify(tmp_path / "model")


def test_card():
    card = model_card(MODEL)
    assert card.startswith("# Language model of 2 domains\n")
    assert "| de | `expert_de.onnx` | 25.0 % | 32 bits |" in card
    assert f"| C\\+\\+ | `{CPP}` | 75.0 % | 8 bits, +0.0100 bits per byte |" in card
    assert "at most 128 of 300 different tokens" in card
    assert "below -3.5, the domain is unknown" in card
    assert "alpha" not in card.lower()


def test_card_tells_who_was_taught():
    card = model_card(TAUGHT)
    assert "| Domain | File | Share of the training texts | Weights | Alpha |" in card
    assert "| de | `expert_de.onnx` | 25.0 % | 32 bits | `loss_ratio` |" in card
    assert f"| C\\+\\+ | `{CPP}` | 25.0 % | 32 bits | no teacher |" in card
    assert "| 8 bits, +0.1000 bits per byte | 0.9 |" in card
    assert "Alpha is the weight of the teacher's loss" in card
