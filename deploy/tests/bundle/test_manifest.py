import dataclasses
import hashlib
import json
import re
import tracemalloc
from importlib import resources

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skmode_deploy import bundle
from skmode_deploy.bundle import creation_time
from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.manifest import (
    Classes,
    Column,
    Domain,
    File,
    Image,
    Language,
    Manifest,
    RoutingDifference,
    Teacher,
    Text,
    Threshold,
)
from skmode_deploy.errors import (
    BundleError,
    ManifestChangedError,
    ManifestError,
    SchemaVersionError,
)

SCHEMA = json.loads(resources.files("skmode_deploy").joinpath("manifest.schema.json").read_text())

CLASSIFIER = Manifest(
    task="classification",
    routing="top_expert",
    input="columns",
    from_table=True,
    columns=(
        Column("age", "age", "number", "float32", None, True, 3.0, 80.0),
        Column("city", "city", "category", "string", ("Bern", "Köln"), True),
        Column("plan", "plan", "category", "int64", (1, 2)),
    ),
    n_outputs=2,
    classes=Classes(("no", "yes"), "<U3", "value"),
    n_experts=2,
    alpha=0.5,
    expert_usage=(0.25, 0.75),
    validation_scores={"mixture": 0.9, "top_expert": 0.89},
    versions={"skmode": "0"},
    files={"model.onnx": File(3, "0" * 64)},
    created="2026-11-22T05:00:00Z",
    notes="For one city.",
)
WITH_REFUSALS = dataclasses.replace(
    CLASSIFIER,
    columns=(
        dataclasses.replace(CLASSIFIER.columns[0], refuses=(), lowest=0.5),
        dataclasses.replace(CLASSIFIER.columns[1], refuses=("missing", "unseen")),
        CLASSIFIER.columns[2],
    ),
)
REGRESSOR = dataclasses.replace(
    CLASSIFIER,
    task="regression",
    routing="mixture",
    input="array",
    from_table=False,
    columns=tuple(Column(f"x{i}", "X", "number", "float32") for i in range(3)),
    n_outputs=1,
    classes=None,
    validation_scores=None,
    quantization="dynamic",
)
IMAGES = dataclasses.replace(
    CLASSIFIER, input="image", from_table=False, columns=(), image=Image(28, 30, 3, "hwc", "uint8")
)

TEXT = Text("tokenizer.json", n_tokens=800, max_tokens=64, max_bytes=1000)
TEXTS = dataclasses.replace(
    CLASSIFIER,
    input="text",
    from_table=False,
    columns=(Column("text", "text", "text", "string", text=TEXT),),
)
TEXTS_IN_ORDER = dataclasses.replace(
    TEXTS,
    columns=(
        dataclasses.replace(
            TEXTS.columns[0], text=dataclasses.replace(TEXT, encoder="transformer")
        ),
    ),
)
TABLE_WITH_TEXT = dataclasses.replace(
    CLASSIFIER,
    columns=(
        CLASSIFIER.columns[0],
        Column("review", "review", "text", "string", has_missing=True, text=TEXT),
    ),
)


def test_threshold():
    """Only bundles with a threshold have the field, so that older releases read all others."""
    assert "threshold" not in to_document(CLASSIFIER)
    manifest = dataclasses.replace(CLASSIFIER, threshold=Threshold(1, 0.25))
    assert Manifest.from_json(manifest.to_json()) == manifest
    jsonschema.validate(to_document(manifest), SCHEMA)
    probabilities = np.array([[0.75, 0.25], [0.8, 0.2]], dtype=np.float32)
    assert manifest.label_positions(probabilities).tolist() == [1, 0]
    assert CLASSIFIER.label_positions(probabilities).tolist() == [0, 0]
    swapped = dataclasses.replace(manifest, threshold=Threshold(0, 0.8))
    assert swapped.label_positions(probabilities.astype(float)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("manifest", "threshold", "message"),
    [
        (CLASSIFIER, {"position": 2, "value": 0.5}, "threshold.position .* must be 0 or 1, got 2"),
        (CLASSIFIER, {"position": 0, "value": "a"}, "threshold.value .* must be a finite number"),
        (CLASSIFIER, {"position": 0}, "missing fields \\['value'\\]"),
        (CLASSIFIER, None, "threshold in manifest.json must be an object"),
        (REGRESSOR, {"position": 0, "value": 0.5}, "threshold .* must be absent unless there are"),
    ],
)
def test_invalid_threshold(manifest, threshold, message):
    document = to_document(manifest) | {"threshold": threshold}
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(to_text(document))


def test_routing_difference():
    """Only bundles that predict by the top expert where the estimator does not have the field."""
    assert "routing_difference" not in to_document(CLASSIFIER)
    difference = RoutingDifference("validation", (0.01,), (0.25,))
    manifest = dataclasses.replace(CLASSIFIER, routing_difference=difference)
    assert Manifest.from_json(manifest.to_json()) == manifest
    jsonschema.validate(to_document(manifest), SCHEMA)


@pytest.mark.parametrize(
    ("manifest", "change", "message"),
    [
        (
            CLASSIFIER,
            {"rows": "all"},
            "routing_difference.rows .* must be 'validation' or 'export'",
        ),
        (CLASSIFIER, {"max": 0.5}, "routing_difference.max .* must be an array, got 0.5"),
        (
            CLASSIFIER,
            {"mean": [-1.0]},
            r"routing_difference.mean\[0\] .* finite number of at least 0",
        ),
        (CLASSIFIER, {"max": [0.5, 0.5]}, "routing_difference.max .* must be of length 1"),
        (REGRESSOR, {}, "routing_difference .* must be absent unless routing is 'top_expert'"),
    ],
)
def test_invalid_routing_difference(manifest, change, message):
    difference = {"rows": "validation", "mean": [0.1], "max": [0.5]} | change
    document = to_document(manifest) | {"routing_difference": difference}
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(to_text(document))


TAUGHT = dataclasses.replace(
    CLASSIFIER, teacher=Teacher(("A|B", "<i>"), {"teacher": 0.25, "top_expert": 0.5})
)


def test_teacher():
    """Only bundles of taught models have the field, and their card has a section."""
    assert "teacher" not in to_document(CLASSIFIER)
    assert "## Teacher" not in model_card(CLASSIFIER)
    assert Manifest.from_json(TAUGHT.to_json()) == TAUGHT
    card = model_card(TAUGHT)
    assert "other models: A\\|B, \\<i\\>." in card
    assert "| top expert | 0.5 |" in card
    unmeasured = dataclasses.replace(TAUGHT, teacher=Teacher(("A",), None))
    assert Manifest.from_json(unmeasured.to_json()) == unmeasured
    assert "Losses on" not in model_card(unmeasured)
    for manifest in (TAUGHT, unmeasured):
        jsonschema.validate(to_document(manifest), SCHEMA)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"names": "A", "losses": None}, "teacher.names .* must be an array"),
        ({"names": ["A"], "losses": {"teacher": "low"}}, "must be a finite number"),
        ({"names": ["A"]}, "missing fields \\['losses'\\]"),
        (None, "teacher in manifest.json must be an object"),
    ],
)
def test_invalid_teacher(teacher, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(to_text(to_document(CLASSIFIER) | {"teacher": teacher}))


def to_document(manifest):
    return json.loads(manifest.to_json())


def to_text(document):
    """The canonical text of a document, with its right checksum."""
    document = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def change(document, path, value):
    """Set or, with `...`, delete what a path of keys leads to."""
    *parents, last = path
    for key in parents:
        document = document[key]
    if value is ...:
        del document[last]
    else:
        document[last] = value


def test_refusals_that_were_not_looked_for_are_left_out():
    """So a manifest of a release that did not know them keeps its text and its hash."""
    assert "refuses" not in CLASSIFIER.to_json()
    columns = to_document(WITH_REFUSALS)["columns"]
    assert columns[0].keys() & {"refuses", "lowest", "highest"} == {"refuses", "lowest"}
    assert columns[1]["refuses"] == ["missing", "unseen"]
    assert "refuses" not in columns[2]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("columns", 0, "refuses"), ["all"], "must be 'missing' or 'unseen', got 'all'"),
        (("columns", 0, "refuses"), None, r"refuses in manifest.json must be an array, got None"),
        (("columns", 0, "refuses"), ["unseen"], "without 'unseen' if there are no categories"),
        (("columns", 1, "refuses"), ["missing", "missing"], "must be distinct"),
        (("columns", 0, "lowest"), None, "must be a finite number, got None"),
        (("columns", 0, "highest"), 0.25, r"at most highest, got \(0.5, 0.25\)"),
        (("columns", 1, "lowest"), 1.0, "left out, as highest, if kind is 'category'"),
    ],
)
def test_invalid_refusals(path, value, message):
    document = to_document(WITH_REFUSALS)
    change(document, path, value)
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(to_text(document))


@pytest.mark.parametrize("manifest", [CLASSIFIER, REGRESSOR, WITH_REFUSALS])
def test_round_trip(manifest):
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text.encode()) == manifest
    assert to_text(json.loads(text)) == text
    assert manifest.file_hash() == hashlib.sha256(text.encode()).hexdigest()
    assert text.isascii()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((False, True), "|b1"), ((-1, 1), "<i8"), ((0, 2**63), "<u8"), ((0.5, 1.0), "<f8"),
        (("a", "\ud800"), "|O"), ((1, 2), "|O"), ((True, False), "|O"), (("a", "bcd"), ">U3"),
        ((0, 255), "|u1"), (("", "x"), "<U1"),
    ],
)  # fmt: skip
def test_class_labels_of_all_kinds(values, dtype):
    value = isinstance(values[0], str) or dtype in ("<i8", "|u1")
    label = "value" if value else "index"
    manifest = dataclasses.replace(CLASSIFIER, classes=Classes(values, dtype, label))
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert [type(value) for value in again.classes.values] == [type(value) for value in values]


BROKEN = [
    # Fields
    (("notes",), ..., "missing fields .'notes'"),
    (("more",), 1, "unknown fields .'more'"),
    (("columns", 0, "more"), 1, r"columns\[0\] in manifest.json must have the fields"),
    (("classes", "label"), ..., "missing fields .'label'"),
    (("files", "model.onnx", "more"), 1, "unknown fields"),
    # Types
    (("task",), "clustering", "task in manifest.json must be 'classification' or 'regression'"),
    (("task",), ["classification"], "task .* must be 'classification'"),
    (("routing",), "all", "must be 'top_expert' or 'mixture', got 'all'"),
    (
        ("input",),
        None,
        "must be 'columns' or 'array' or 'image' or 'language' or 'text', got None",
    ),
    (("from_table",), 1, "from_table .* must be true or false, got 1"),
    (("columns",), {}, "columns .* must be an array"),
    (("columns", 1), "city", r"columns\[1\] .* must be an object"),
    (("columns", 0, "name"), 3, r"columns\[0\]\.name .* must be a string, got 3"),
    (("columns", 0, "kind"), "date", "must be 'number' or 'category'"),
    (("columns", 0, "dtype"), "float16", "must be 'float32' or 'float64' or"),
    (("columns", 0, "has_missing"), None, "must be true or false"),
    (("columns", 0, "minimum"), "3", "must be a finite number"),
    (("columns", 1, "categories"), "Bern", "must be an array"),
    (("columns", 1, "categories", 0), [], r"categories\[0\] .* must be a string, true, false"),
    (("n_outputs",), 2.0, "must be a whole number"),
    (("n_outputs",), True, "must be a whole number"),
    (("n_outputs",), 10**30, "must be a whole number"),
    (("n_experts",), 0, "must be a whole number from 1"),
    (("alpha",), -1, "at least 0"),
    (("alpha",), 10**309, "at least 0"),
    (("alpha",), True, "at least 0"),
    (("expert_usage", 0), 1.5, "from 0 to 1"),
    (("validation_scores",), [], "must be an object"),
    (("validation_scores", "mixture"), "good", "must be a finite number"),
    (("versions", "skmode"), 1, "must be a string"),
    (("files",), [], "must be an object"),
    (("files", "model.onnx", "size"), -1, "from 0"),
    (("files", "model.onnx", "sha256"), "F" * 64, "64 hexadecimal digits"),
    (("files", "model.onnx", "sha256"), "0" * 64 + "\n", "64 hexadecimal digits"),
    (("created",), "yesterday", "time in UTC"),
    (("created",), "2026-02-30T05:00:00Z", "time in UTC"),
    (("notes",), None, "must be a string"),
    (("quantization",), "static", "must be 'dynamic', got 'static'"),
    (("classes", "values"), "no", "must be an array"),
    (("classes", "dtype"), "f4,f4", "scalar type"),
    (("classes", "label"), "name", "'value' or 'index'"),
    # What the fields say together
    (("expert_usage",), [1.0], "of length n_experts, 2, got 1"),
    (("columns",), [], "at least one"),
    (("columns", 1, "name"), "age", "Names of columns .* distinct, got .'age'"),
    (("columns", 1, "input"), "age", "Inputs of columns .* distinct"),
    (("input",), "array", "of one input and dtype"),
    (("columns", 0, "categories"), [1.0], "null if kind is 'number'"),
    (("columns", 0, "dtype"), "string", "a numeric type"),
    (("columns", 1, "categories"), ["Bern", 1], "values of dtype string, got 1"),
    (("columns", 1, "dtype"), "float64", "values of dtype float64, got 'Bern'"),
    (("columns", 2, "categories"), [1, 2.0], "values of dtype int64, got 2.0"),
    (("columns", 2, "categories"), [True], "values of dtype int64, got True"),
    (("columns", 2, "categories"), [2, 2], "distinct"),
    (("columns", 0, "minimum"), 90, "at most maximum"),
    (("columns", 0, "maximum"), None, "at most maximum"),
    (("columns", 2, "minimum"), None, None),
    (("classes",), None, "null unless task is"),
    (("task",), "regression", "null unless task is"),
    (("n_outputs",), 3, "of length n_outputs, 3, got 2"),
    (("classes", "values"), ["no", 1], "of one type"),
    (("classes", "values"), ["no", "no"], "distinct"),
    (("classes", "values"), [0.5, 1.5], "'index' if labels are not strings or integers"),
    (("classes", "values"), [1, 2], "a numpy type that can hold the values"),
    (("classes", "dtype"), "<i4", "a numpy type that can hold the values"),
    (("classes", "dtype"), "<i3", "a numpy type that can hold the values"),
]


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_broken_manifests_are_refused(path, value, message):
    document = to_document(CLASSIFIER)
    change(document, path, value)
    if message is None:
        assert Manifest.from_json(to_text(document))
        return
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(to_text(document))


def test_labels_that_do_not_fit_their_type():
    for classes in (Classes((0, 300), "|u1", "value"), Classes((-1, 1), "<u8", "value")):
        with pytest.raises(ManifestError, match="a numpy type that can hold the values"):
            Manifest.from_json(dataclasses.replace(CLASSIFIER, classes=classes).to_json())


@pytest.mark.parametrize("dtype", ["<U1", "<U6", "<U8", "<U999999", "U", "<U0"])
def test_types_of_strings_are_as_long_as_the_longest_label(dtype):
    """A shorter one would cut labels off, a longer one would take memory for nothing."""
    values = ("apple", "avocado")
    changes = {"classes": Classes(values, "<U7", "value")}
    text = dataclasses.replace(CLASSIFIER, **changes).to_json()
    assert Manifest.from_json(text).classes.values == values
    changes = {"classes": Classes(values, dtype, "value")}
    with pytest.raises(ManifestError, match=f"as long as the longest label, U7, got '{dtype}'"):
        Manifest.from_json(dataclasses.replace(CLASSIFIER, **changes).to_json())


@pytest.mark.parametrize(("number", "letters"), [(2, 10_001), (1700, 10_000)])
def test_labels_that_take_much_memory_are_refused(number, letters):
    values = ("x" * letters, *map(str, range(number - 1)))
    classes = Classes(values, f"<U{letters}", "value")
    manifest = dataclasses.replace(CLASSIFIER, n_outputs=number, classes=classes)
    tracemalloc.start()
    with pytest.raises(ManifestError, match=f"got '{number} with up to {letters} characters'"):
        Manifest.from_json(manifest.to_json())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


@pytest.mark.parametrize(
    ("values", "dtype"), [((10, 20), "<i4"), (("a", "b"), "|O"), (("a", "b"), "<U1")]
)
def test_labels_by_position_raise_if_the_graph_has_labels(values, dtype):
    classes = Classes(values, dtype, "index")
    with pytest.raises(ManifestError, match="'value' if labels are strings or 64-bit integers"):
        Manifest.from_json(dataclasses.replace(CLASSIFIER, classes=classes).to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a JSON object with a schema_version, but reading it failed with JSONDecodeError"),
        ("[]", "must be a JSON object with a schema_version, got .."),
        ("{}", "schema_version"),
        ("[" * 100_000, "RecursionError"),
        ('{"schema_version": NaN}', "NaN is not a JSON number"),
        ('{"schema_version": ' + "9" * 5000 + "}", "ValueError"),
        (b"\xff\xfe{}", "UnicodeDecodeError"),
        ('{"schema_version": 2}', "must have the fields of schema_version 2"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(text)


@pytest.mark.parametrize("version", [1, 3, 2.0, "2", True, None, [2]])
def test_other_schema_versions_are_refused(version):
    with pytest.raises(SchemaVersionError, match="must have schema_version 2, got"):
        Manifest.from_json(json.dumps({"schema_version": version}))


def test_a_changed_manifest_is_refused():
    text = CLASSIFIER.to_json()
    with pytest.raises(ManifestChangedError, match="changed after the export"):
        Manifest.from_json(text.replace("Bern", "Genf"))
    document = json.loads(text) | {"sha256": "0" * 64}
    with pytest.raises(ManifestChangedError, match=f"that it states, '{'0' * 64}', got "):
        Manifest.from_json(json.dumps(document, indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize(
    "reformat",
    [
        lambda text: json.dumps(json.loads(text), sort_keys=True),
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=2) + "\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + " ",
        lambda text: text[:-1],
        lambda text: text.replace("\\u00f6", "ö"),
        lambda text: text.replace('"alpha": 0.5', '"alpha": 5e-1'),
        lambda text: text.replace('  "alpha": 0.5', '  "alpha": 0.7,\n  "alpha": 0.5'),
    ],
)
def test_manifest_text_is_canonical(reformat):
    text = reformat(CLASSIFIER.to_json())
    assert text != CLASSIFIER.to_json()
    with pytest.raises(ManifestError, match="exactly the text that skmode.onnx.export writes"):
        Manifest.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def paths(value, path=()):
    """All paths into a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


PATHS = [
    (manifest, path)
    for manifest in (CLASSIFIER, TABLE_WITH_TEXT)
    for path in sorted(set(paths(to_document(manifest))) - {("sha256",)}, key=str)
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PATHS), value=JSON | st.just(...))
@pytest.mark.slow
def test_any_value_anywhere_is_read_unchanged_or_refused(place, value):
    manifest, path = place
    document = to_document(manifest)
    change(document, path, value)
    text = to_text(document)
    try:
        manifest = Manifest.from_json(text)
    except BundleError:
        pass
    else:
        assert manifest.to_json() == text
        jsonschema.validate(json.loads(text), SCHEMA)
        bundle.model_card(manifest).encode("utf-8", "backslashreplace")


@settings(max_examples=300, deadline=None)
@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@pytest.mark.slow
def test_any_bytes_are_refused(data):
    with pytest.raises(BundleError):
        Manifest.from_json(data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused(data):
    text = bytearray(CLASSIFIER.to_json().encode())
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError):
        Manifest.from_json(bytes(text))


# What a schema cannot say: lengths and names that fit each other, and real dates.
BEYOND = (
    "as long as", "distinct", "at most maximum", "of length", "of one input", "numpy type",
    "values of dtype", "'index' if", "time in UTC", "64 hexadecimal", "whole number",
)  # fmt: skip


class TestSchema:
    def test_is_a_schema(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        assert SCHEMA["$id"].endswith(f":{bundle.SCHEMA_VERSION}")

    @pytest.mark.parametrize(
        ("kind", "schema"),
        [
            (Manifest, SCHEMA),
            *(
                (kind, SCHEMA["$defs"][kind.__name__])
                for kind in (
                    Column,
                    Classes,
                    Domain,
                    File,
                    Image,
                    Language,
                    RoutingDifference,
                    Teacher,
                    Text,
                    Threshold,
                )
            ),
        ],
    )
    def test_has_the_fields_of_the_classes(self, kind, schema):
        names = {field.name for field in dataclasses.fields(kind)}
        assert schema["properties"].keys() - {"sha256"} == names - {"sha256"}
        # Fields that bundles of earlier releases do not have.
        of_columns = {"refuses", "lowest", "highest", "text", "image"}
        of_manifests = {"threshold", "routing_difference", "teacher", "image", "language"}
        of_others = {
            Language: {"unknown"},
            Domain: {"alpha"},
            Image: {"missing"},
            Text: {"encoder"},
        }
        optional = ({Column: of_columns} | of_others).get(kind, of_manifests)
        assert set(schema["required"]) == schema["properties"].keys() - optional
        assert schema["additionalProperties"] is False
        assert all(inner["description"] for inner in schema["properties"].values())

    def test_accepts_what_is_written(self, table_bundle, make_regressor):
        for text in (
            CLASSIFIER.to_json(),
            WITH_REFUSALS.to_json(),
            REGRESSOR.to_json(),
            IMAGES.to_json(),
            TEXTS.to_json(),
            TABLE_WITH_TEXT.to_json(),
            (table_bundle / "manifest.json").read_text(),
            (make_regressor() / "manifest.json").read_text(),
        ):
            jsonschema.validate(json.loads(text), SCHEMA)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (path, value)
            for path, value, message in BROKEN
            if message and not any(part in message for part in BEYOND) and value != 10**309
        ],
    )
    def test_refuses_what_is_broken(self, path, value):
        document = to_document(CLASSIFIER)
        change(document, path, value)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)


NOT_OF_IMAGES = [
    (("image",), ..., "image in manifest.json must be present if input is 'image'"),
    (("image",), None, "image in manifest.json must be an object"),
    (("image", "height"), 0, "image.height .* must be a whole number from 1 to 65535, got 0"),
    (("image", "width"), 65_536, "must be a whole number from 1 to 65535"),
    (("image", "channels"), 3.5, "must be a whole number"),
    (("image", "layout"), "cwh", "must be 'hw' or 'hwc' or 'chw', got 'cwh'"),
    (("image", "layout"), "hw", "image.channels .* must be 1 if layout is 'hw', got 3"),
    (("image", "dtype"), "int64", "must be 'uint8' or 'float32', got 'int64'"),
    (("image", "dtype"), ..., "missing fields .'dtype'"),
    (("image", "mean"), 0.5, "unknown fields .'mean'"),
    (("input",), "array", "image in manifest.json must be absent unless input is 'image'"),
    (("from_table",), True, "must be false if input is 'image'"),
    (("columns",), to_document(CLASSIFIER)["columns"], "must be empty if input is 'image'"),
]


class TestImages:
    def test_round_trip(self):
        """Only manifests of images have the field, so that all others keep their text."""
        assert "image" not in to_document(CLASSIFIER)
        assert Manifest.from_json(IMAGES.to_json()) == IMAGES
        assert bundle.graph_values(IMAGES, bundle.MODEL)[0] == (
            bundle.GraphValue("image", "uint8", ("n", 28, 30, 3)),
        )
        assert len(IMAGES.to_json()) < 1500

    @pytest.mark.parametrize(
        ("layout", "channels", "shape"),
        [("hw", 1, (28, 30)), ("hwc", 3, (28, 30, 3)), ("chw", 3, (3, 28, 30))],
    )
    def test_shape(self, layout, channels, shape):
        assert Image(28, 30, channels, layout, "float32").shape == shape

    @pytest.mark.parametrize(("path", "value", "message"), NOT_OF_IMAGES)
    def test_broken(self, path, value, message):
        document = to_document(IMAGES)
        change(document, path, value)
        with pytest.raises(ManifestError, match=message):
            Manifest.from_json(to_text(document))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)

    def test_huge(self):
        document = to_document(IMAGES)
        document["image"] |= {"height": 65_535, "width": 65_535}
        with pytest.raises(ManifestError, match="image .* at most 67108864 values"):
            Manifest.from_json(to_text(document))

    def test_card(self):
        card = model_card(IMAGES)
        assert "Images: height 28, width 30, RGB. The axes after the first are height" in card
        assert "| image | uint8 (n, 28, 30, 3) | whole numbers from 0 to 255 |" in card
        assert "'image': np.zeros((1, 28, 30, 3), dtype=np.uint8)," in card
        assert "olumn" not in card


class TestCreationTime:
    def test_is_now(self, monkeypatch):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", creation_time())

    def test_is_what_the_environment_fixes(self, monkeypatch):
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        for seconds, expected in (
            ("0", "1970-01-01T00:00:00Z"),
            ("1795323600", "2026-11-22T05:00:00Z"),
            ("253402300799", "9999-12-31T23:59:59Z"),
        ):
            monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
            assert creation_time() == expected

    @pytest.mark.parametrize("value", ["now", "-1", "1.5", " 1", "1_0", "\u0661", "253402300800"])
    def test_other_values_are_refused(self, value, monkeypatch):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
        with pytest.raises(ValueError, match=r"whole number of seconds since 1970.*got '.*unset"):
            creation_time()


NOT_OF_TEXTS = [
    (("columns", 0, "text"), ..., "text .* must be present if kind is 'text', and only then"),
    (("columns", 0, "text"), None, "text in manifest.json must be an object"),
    (("columns", 0, "text", "tokenizer"), "../a.json", "must be a name such as tokenizer.json"),
    (("columns", 0, "text", "tokenizer"), "samples.json", "must be a name such as tokenizer.json"),
    (("columns", 0, "text", "n_tokens"), 0, "must be a whole number from 1 to 16777216, got 0"),
    (("columns", 0, "text", "max_tokens"), True, "must be a whole number"),
    (("columns", 0, "text", "max_bytes"), 2**31, "must be a whole number from 1 to 1073741824"),
    (("columns", 0, "text", "language"), "en", "unknown fields .'language'"),
    (("columns", 0, "text", "encoder"), "bag", "encoder in manifest.json must be 'transformer'"),
    (("columns", 0, "kind"), "category", "a single one of kind 'text' if input is 'text'"),
    (("columns", 0, "dtype"), "int64", "dtype .* must be 'string' if kind is 'text'"),
    (("columns", 0, "categories"), ["a"], "categories .* must be null if kind is 'text'"),
    (("columns", 0, "lowest"), 1.0, "left out, as highest, if kind is 'text'"),
    (("from_table",), True, "must be false if input is 'text'"),
    (("columns",), to_document(CLASSIFIER)["columns"], "a single one of kind 'text'"),
    (("input",), "array", "must be without texts and images if input is 'array'"),
]


class TestTexts:
    @pytest.mark.parametrize("manifest", [TEXTS, TABLE_WITH_TEXT, TEXTS_IN_ORDER])
    def test_round_trip(self, manifest):
        """Only columns of texts have the field, so that all others keep their text."""
        assert "tokenizer" not in CLASSIFIER.to_json()
        assert ("encoder" in manifest.to_json()) == (manifest is TEXTS_IN_ORDER)
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert manifest.text_columns == manifest.columns[-1:]

    def test_graph_inputs(self):
        value = bundle.GraphValue
        tokens, counts = bundle.graph_values(TEXTS, bundle.MODEL)[0]
        assert tokens == value("tokens", "int64", ("n", "length"))
        assert counts == value("counts", "float32", ("n", "length"))
        assert bundle.graph_interface(TABLE_WITH_TEXT, bundle.GATE)[0] == (
            "age",
            "tokens_review",
            "counts_review",
        )

    @pytest.mark.parametrize(("path", "value", "message"), NOT_OF_TEXTS)
    def test_broken(self, path, value, message):
        document = to_document(TEXTS)
        change(document, path, value)
        with pytest.raises(ManifestError, match=message):
            Manifest.from_json(to_text(document))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)

    def test_graph_inputs_are_distinct(self):
        columns = (*TABLE_WITH_TEXT.columns, Column("b", "counts_review", "number", "float32"))
        text = dataclasses.replace(TABLE_WITH_TEXT, columns=columns).to_json()
        with pytest.raises(ManifestError, match="Inputs of columns .*'counts_review'"):
            Manifest.from_json(text)

    def test_card(self):
        card = model_card(TEXTS)
        known = "800 tokens of tokenizer.json, up to 64 different ones and 1,000 bytes of a text"
        assert f"Texts: {known}. A missing text is empty. Texts become tokens outside" in card
        assert "| tokens | int64 (n, length) | the different tokens of each text |" in card
        assert "'counts': np.ones((1, 1), dtype=np.float32)," in card
        assert "olumn" not in card
        card = model_card(TABLE_WITH_TEXT)
        row = r"| review | tokens\_review, counts\_review | text | string | 800 tokens of tokenizer"
        assert row in card
        assert "'tokens_review': np.zeros((1, 1), dtype=np.int64)," in card
