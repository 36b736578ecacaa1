"""Bundles made by hand, so that these tests need neither torch nor skmode."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skmode_deploy import bundle

COMMON = {"alpha": 0.5, "versions": {"skmode": "0"}, "created": "2026-11-22T05:00:00Z"}


def make_model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def make_table_files():
    """The graphs of `table_bundle`."""
    node = helper.make_node
    code = [
        node("LabelEncoder", ["city"], ["code"], domain="ai.onnx.ml",
             keys_strings=["", "Bern", "Köln"], values_int64s=[0, 2, 3], default_int64=1),
        node("Squeeze", ["code", "axis"], ["index"]),
    ]  # fmt: skip
    gate = [
        node("Cast", ["plan"], ["plan_float"], to=TensorProto.FLOAT),
        node("Add", ["age", "plan_float"], ["sum"]),
        node("IsNaN", ["sum"], ["missing"]),
        node("Cast", ["missing"], ["number"], to=TensorProto.INT64),
        node("Squeeze", ["number", "axis"], ["row"]),
        node("Gather", ["gate", "row"], ["gate_probabilities"]),
        node("ArgMax", ["gate_probabilities"], ["expert"], axis=1, keepdims=0),
    ]
    inputs = [
        ("age", TensorProto.FLOAT, ["n", 1]),
        ("city", TensorProto.STRING, ["n", 1]),
        ("plan", TensorProto.DOUBLE, ["n", 1]),
    ]
    expert = ("expert", TensorProto.INT64, ["n"])
    probabilities = ("probabilities", TensorProto.FLOAT, ["n", 4])
    weights = {
        "axis": np.array([1]),
        "eye": np.eye(4, dtype=np.float32),
        "gate": np.array([[0.75, 0.25], [0.25, 0.75]], np.float32),
    }
    files = {
        "model.onnx": make_model(
            [
                *code,
                *gate,
                node("Gather", ["eye", "index"], ["probabilities"]),
                node("Gather", ["classes", "index"], ["label"]),
                node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0),
            ],
            inputs,
            [("label", TensorProto.INT64, ["n"]), probabilities, expert,
             ("gate_probability", TensorProto.FLOAT, ["n"])],
            weights | {"classes": np.array([10, 20, 30, 40])},
        ),
        "gate.onnx": make_model(
            [*code, *gate, node("Gather", ["eye", "index"], ["hidden"])],
            inputs,
            [("gate_probabilities", TensorProto.FLOAT, ["n", 2]), expert,
             ("hidden", TensorProto.FLOAT, ["n", 4])],
            weights,
        ),
    }  # fmt: skip
    for i in range(2):
        files[f"expert_{i}.onnx"] = make_model(
            [node("Identity", ["hidden"], ["probabilities"])],
            [("hidden", TensorProto.FLOAT, ["n", 4])],
            [probabilities],
            {},
        )
    return files


@pytest.fixture
def table_bundle(tmp_path):
    """A classifier that answers with the code of the city: "", other, Bern, Köln.

    The probabilities are one-hot; the expert is 1 where age or plan are missing. The gate is sure
    of it by 0.75. Every expert answers the same.
    """
    manifest = bundle.Manifest(
        task="classification",
        routing="top_expert",
        input="columns",
        from_table=True,
        columns=(
            bundle.Column("age", "age", "number", "float32", minimum=3.0, maximum=80.0),
            bundle.Column("city", "city", "category", "string", ("Bern", "Köln"), True),
            bundle.Column("plan", "plan", "category", "float64", (1.0, 2.0)),
        ),
        n_outputs=4,
        classes=bundle.Classes((10, 20, 30, 40), "<i4", "value"),
        n_experts=2,
        expert_usage=(0.25, 0.75),
        validation_scores={"mixture": 0.9, "top_expert": 0.89},
        **COMMON,
    )
    bundle.write(tmp_path / "table", manifest, make_table_files())
    return tmp_path / "table"


def make_array_files(n_outputs):
    """The graphs of `make_regressor`."""
    node = helper.make_node
    weights = {"weights": np.eye(3, dtype=np.float32)[:, :n_outputs]}
    X = ("X", TensorProto.FLOAT, ["n", 3])
    hidden = ("hidden", TensorProto.FLOAT, ["n", 3])
    expert = ("expert", TensorProto.INT64, ["n"])
    variable = ("variable", TensorProto.FLOAT, ["n", n_outputs])
    gate = [
        node("ArgMax", ["X"], ["expert"], axis=1, keepdims=0),
        node("Softmax", ["X"], ["gate_probabilities"], axis=1),
    ]
    files = {
        "model.onnx": make_model(
            [
                node("MatMul", ["X", "weights"], ["variable"]),
                *gate,
                node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0),
            ],
            [X],
            [variable, expert, ("gate_probability", TensorProto.FLOAT, ["n"])],
            weights | {"axis": np.array([1])},
        ),
        "gate.onnx": make_model(
            [*gate, node("Identity", ["X"], ["hidden"])],
            [X],
            [("gate_probabilities", TensorProto.FLOAT, ["n", 3]), expert, hidden],
            {},
        ),
    }
    for i in range(3):
        files[f"expert_{i}.onnx"] = make_model(
            [node("MatMul", ["hidden", "weights"], ["variable"])], [hidden], [variable], weights
        )
    return files


@pytest.fixture
def make_regressor(tmp_path):
    """Make a regressor of an array with three columns that answers with the first of them.

    The expert is the largest column.
    """

    def make(n_outputs=1):
        manifest = bundle.Manifest(
            task="regression",
            routing="mixture",
            input="array",
            from_table=False,
            columns=tuple(bundle.Column(f"x{i}", "X", "number", "float32") for i in range(3)),
            n_outputs=n_outputs,
            classes=None,
            n_experts=3,
            expert_usage=(0.25, 0.75, 0.0),
            validation_scores=None,
            **COMMON,
        )
        bundle.write(tmp_path / "array", manifest, make_array_files(n_outputs))
        return tmp_path / "array"

    return make


def image_manifest(layout="hw", dtype="uint8", channels=1, task="classification", table=False):
    """The manifest of `make_image_bundle`."""
    is_classifier = task == "classification"
    image = bundle.Image(4, 6, channels, layout, dtype)
    columns = ()
    if table:
        image = replace(image, missing=(200.0 if dtype == "uint8" else 0.5,) * channels)
        age = bundle.Column("age", "age", "number", "float32", minimum=0.0, maximum=90.0)
        columns = (age, bundle.Column("photo", "photo", "image", dtype, None, True, image=image))
    return bundle.Manifest(
        task=task,
        routing="top_expert",
        input="columns" if table else "image",
        from_table=table,
        columns=columns,
        n_outputs=2 if is_classifier else 1,
        classes=bundle.Classes(("dark", "light"), "<U5", "value") if is_classifier else None,
        n_experts=2,
        expert_usage=(0.5, 0.5),
        validation_scores=None,
        image=None if table else image,
        **COMMON,
    )


def image_weights(image):
    """What the graphs of `make_image_files` compute with: halves of the image, and constants."""
    is_left = np.zeros(image.shape, np.float32)
    columns = [slice(None)] * len(image.shape)
    columns[image.layout.index("w")] = slice(0, 3)
    is_left[tuple(columns)] = 1
    n_values = is_left.size
    halves = np.stack([is_left.ravel(), 1 - is_left.ravel()], axis=1) / (n_values / 2)
    return {
        "flat": np.array([-1, n_values]),
        "byte": np.array(255 if image.dtype == "uint8" else 1, np.float32),
        "halves": halves.astype(np.float32),
        "mean": np.full((2, 1), 0.5, np.float32),
        "axis": np.array([1]),
        "sharp": np.array(10, np.float32),
    }


def make_image_files(manifest):
    """The graphs of `make_image_bundle`."""
    node = helper.make_node
    image, name = manifest.image, "image"
    if image is None:
        image, name = manifest.columns[1].image, "photo"
    is_uint8 = image.dtype == "uint8"
    element = TensorProto.UINT8 if is_uint8 else TensorProto.FLOAT
    inputs = [(name, element, ["n", *image.shape])]
    weights = image_weights(image)
    # The mean of the left half and of the right half, and the means of both.
    read = [
        node("Cast", [name], ["numbers"], to=TensorProto.FLOAT),
        node("Div", ["numbers", "byte"], ["pixels"]),
        node("Reshape", ["pixels", "flat"], ["row"]),
        node("MatMul", ["row", "halves"], ["both"]),
        node("Add", ["both", "aged"], ["hidden"])
        if name == "photo"
        else node("Identity", ["both"], ["hidden"]),
        node("Mul", ["hidden", "sharp"], ["logits"]),
        node("Softmax", ["logits"], ["gate_probabilities"], axis=1),
        node("ArgMax", ["gate_probabilities"], ["expert"], axis=1, keepdims=0),
    ]
    if name == "photo":  # a year makes an image lighter by 0.001
        inputs = [("age", TensorProto.FLOAT, ["n", 1]), *inputs]
        read = [node("MatMul", ["age", "years"], ["aged"]), *read]
        weights["years"] = np.full((1, 2), 0.001, np.float32)
    light = [node("MatMul", ["hidden", "mean"], ["light"])]
    output, width = ("probabilities", 2) if manifest.classes else ("variable", 1)
    if manifest.classes:
        light += [
            node("Sub", ["one", "light"], ["dark"]),
            node("Concat", ["dark", "light"], ["probabilities"], axis=1),
        ]
    else:
        light += [node("Identity", ["light"], ["variable"])]
    label = [
        node("ArgMax", ["probabilities"], ["position"], axis=1, keepdims=0),
        node("Gather", ["classes", "position"], ["label"]),
    ]
    one, classes = np.array(1, np.float32), np.array(["dark", "light"], object)
    hidden = ("hidden", TensorProto.FLOAT, ["n", 2])
    value = (output, TensorProto.FLOAT, ["n", width])
    expert = ("expert", TensorProto.INT64, ["n"])
    chosen = node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0)
    outputs = [value, expert, ("gate_probability", TensorProto.FLOAT, ["n"])]
    model_weights = weights | {"one": one}
    if manifest.classes:
        outputs = [("label", TensorProto.STRING, ["n"]), *outputs]
        model_weights["classes"] = classes
    gates = ("gate_probabilities", TensorProto.FLOAT, ["n", 2])
    files = {
        "model.onnx": make_model(
            [*read, *light, *(label if manifest.classes else ()), chosen],
            inputs,
            outputs,
            model_weights,
        ),
        "gate.onnx": make_model(read, inputs, [gates, expert, hidden], weights),
    }
    for i in range(2):
        files[f"expert_{i}.onnx"] = make_model(
            light, [hidden], [value], {"one": one, "mean": weights["mean"]}
        )
    return files


def make_image_samples(manifest, files):
    """Four made-up images, and what the graph says of them."""
    import onnxruntime

    from skmode_deploy.samples import Samples, draw_rows, sample_inputs

    feeds = sample_inputs(manifest, draw_rows(manifest, 4))
    names = bundle.graph_interface(manifest, "model.onnx")[1]
    outputs = onnxruntime.InferenceSession(files["model.onnx"]).run(names, feeds)
    numbers = {"probabilities", "variable", "gate_probability"} & {*names}
    tolerance = {name: (1e-4,) for name in names if name in numbers}
    samples = Samples(feeds, dict(zip(names, outputs, strict=True)), tolerance, "graph")
    return samples.to_json()


@pytest.fixture(scope="session")
def write_image_bundle():
    """Write a bundle that tells dark images of 4 x 6 pixels from light ones.

    The probability of "light", or the value of a regressor, is the mean of all pixels. The expert
    is 0 if the left half is lighter, and 1 if the right half is. In a table, with the columns age
    and photo, each year makes an image lighter by 0.001.
    """

    def write(folder, *options, **named):
        manifest = image_manifest(*options, **named)
        files = make_image_files(manifest)
        files["samples.json"] = make_image_samples(manifest, files)
        bundle.write(folder, manifest, files)
        return folder

    return write


@pytest.fixture
def make_image_bundle(tmp_path, write_image_bundle):
    """Make the bundle of `write_image_bundle` in a folder of its own."""

    def make(*options, path="images", **named):
        return write_image_bundle(tmp_path / path, *options, **named)

    return make


@pytest.fixture(scope="session")
def tokenizer_json():
    """A tokenizer that knows the words good and bad, and all bytes."""
    from skmode_deploy.running.inputs.texts.description import byte_characters

    pairs = ["g o", "o d", "go od", "b a", "ba d", "Ġ good", "Ġ bad"]
    tokens = [*map(chr, byte_characters()), *(pair.replace(" ", "") for pair in pairs)]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [pair.split() for pair in pairs]}
    return json.dumps({"pre_tokenizer": level, "decoder": level, "model": model})


def text_manifest(n_tokens, *, table=False, task="classification", **changes):
    """The manifest of `write_text_bundle`."""
    is_classifier = task == "classification"
    text = {"n_tokens": n_tokens, "max_tokens": 8, "max_bytes": 1000, **changes}
    name = "review" if table else "text"
    column = bundle.Column(name, name, "text", "string", text=bundle.Text("tokenizer.json", **text))
    age = bundle.Column("age", "age", "number", "float32", minimum=0.0, maximum=90.0)
    return bundle.Manifest(
        task=task,
        routing="top_expert",
        input="columns" if table else "text",
        from_table=table,
        columns=(age, column) if table else (column,),
        n_outputs=2 if is_classifier else 1,
        classes=bundle.Classes(("bad", "good"), "<U4", "value") if is_classifier else None,
        n_experts=2,
        expert_usage=(0.5, 0.5),
        validation_scores=None,
        **COMMON,
    )


def make_text_files(manifest, vectors):
    """The graphs of `write_text_bundle`."""
    node = helper.make_node
    table = manifest.input == "columns"
    names = bundle.text_inputs(manifest, manifest.columns[-1])
    types = (TensorProto.INT64, TensorProto.FLOAT)
    inputs = [(name, kind, ["n", "length"]) for name, kind in zip(names, types, strict=True)]
    read = [
        node("Gather", ["vectors", names[0]], ["found"]),
        node("Unsqueeze", [names[1], "last"], ["weights"]),
        node("Mul", ["found", "weights"], ["weighted"]),
        node("ReduceSum", ["weighted", "axis"], ["words"], keepdims=0),
    ]
    weights = {"vectors": vectors, "axis": np.array([1]), "last": np.array([2])}
    if table:  # a year makes a text better by 0.01
        inputs = [("age", TensorProto.FLOAT, ["n", 1]), *inputs]
        read += [node("MatMul", ["age", "years"], ["aged"]), node("Add", ["words", "aged"], ["h"])]
        weights["years"] = np.array([[0, 0.01]], np.float32)
    read += [
        node("Identity", ["h" if table else "words"], ["hidden"]),
        node("Softmax", ["hidden"], ["gate_probabilities"], axis=1),
        node("ArgMax", ["gate_probabilities"], ["expert"], axis=1, keepdims=0),
    ]
    output, width = ("probabilities", 2) if manifest.classes else ("variable", 1)
    if manifest.classes:
        predict = [node("Softmax", ["hidden"], ["probabilities"], axis=1)]
    else:
        predict = [node("MatMul", ["hidden", "difference"], ["variable"])]
    expert_weights = {} if manifest.classes else {"difference": np.float32([[-1], [1]])}
    chosen = node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0)
    value = (output, TensorProto.FLOAT, ["n", width])
    expert = ("expert", TensorProto.INT64, ["n"])
    outputs = [value, expert, ("gate_probability", TensorProto.FLOAT, ["n"])]
    model, model_weights = [*read, *predict, chosen], weights | expert_weights
    if manifest.classes:
        model += [
            node("ArgMax", ["probabilities"], ["position"], axis=1, keepdims=0),
            node("Gather", ["classes", "position"], ["label"]),
        ]
        outputs = [("label", TensorProto.STRING, ["n"]), *outputs]
        model_weights["classes"] = np.array(["bad", "good"], object)
    hidden = ("hidden", TensorProto.FLOAT, ["n", 2])
    gates = ("gate_probabilities", TensorProto.FLOAT, ["n", 2])
    files = {
        "model.onnx": make_model(model, inputs, outputs, model_weights),
        "gate.onnx": make_model(read, inputs, [gates, expert, hidden], weights),
    }
    for i in range(2):
        files[f"expert_{i}.onnx"] = make_model(predict, [hidden], [value], expert_weights)
    return files


def make_text_samples(manifest, files):
    """Eight made-up rows, and what the graph says of them."""
    import onnxruntime

    from skmode_deploy.samples import Samples, draw_rows, graph_inputs, sample_inputs

    rows = draw_rows(manifest, 8)
    feeds = graph_inputs(manifest, rows, files.__getitem__)
    names = bundle.graph_interface(manifest, "model.onnx")[1]
    outputs = onnxruntime.InferenceSession(files["model.onnx"]).run(names, feeds)
    numbers = {"probabilities", "variable", "gate_probability"} & {*names}
    tolerance = {name: (1e-4,) for name in names if name in numbers}
    inputs = sample_inputs(manifest, rows)
    return Samples(inputs, dict(zip(names, outputs, strict=True)), tolerance, "graph").to_json()


@pytest.fixture(scope="session")
def write_text_bundle(tokenizer_json):
    """Write a bundle that tells texts with the word good from those with the word bad.

    Each good or bad adds 1 to the logit of its class; a regressor predicts their difference. The
    expert is the class. In a table, with the columns age and review, each year adds 0.01 to good.
    """
    from skmode_deploy import Tokenizer

    def write(folder, *, table=False, task="classification", **changes):
        tokenizer = Tokenizer(tokenizer_json)
        vectors = np.zeros((tokenizer.n_tokens, 2), np.float32)
        for i, word in enumerate(("bad", "good")):
            vectors[tokenizer.encode(word), i] = 1
        changes.setdefault("n_tokens", tokenizer.n_tokens)
        manifest = text_manifest(table=table, task=task, **changes)
        files = make_text_files(manifest, vectors) | {"tokenizer.json": tokenizer_json.encode()}
        if changes["n_tokens"] == tokenizer.n_tokens:
            files["samples.json"] = make_text_samples(manifest, files)
        bundle.write(folder, manifest, files)
        return folder

    return write


@pytest.fixture
def make_text_bundle(tmp_path, write_text_bundle):
    """Make the bundle of `write_text_bundle` in a folder of its own."""

    def make(path="texts", **options):
        return write_text_bundle(tmp_path / path, **options)

    return make
