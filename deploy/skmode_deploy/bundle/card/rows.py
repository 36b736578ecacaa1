"""The model card of a mixture of experts that predicts rows or images."""

from typing import Any

from skmode_deploy.bundle.card.markdown import (
    MAX_VALUES,
    escape,
    join_values,
    quote,
    table,
    versions_table,
)
from skmode_deploy.bundle.layout import text_inputs
from skmode_deploy.bundle.manifest import Column, Image, Manifest, RoutingDifference, Teacher

MAX_COLUMNS = 200  # in a table; the others are in the manifest
MAX_INPUTS = 20  # in the example

_TOKENS = (
    "Texts become tokens outside the graph, by the tokenizer in the bundle, which `skmode_deploy` "
    "and the package tokenizers read. Each graph row lists {}; shorter rows end with token 0 and "
    "count 0."
)
_BAG = "the different tokens of its text, and how often each occurs"
_IN_ORDER = "the tokens of its text in their order, each with the count 1"

_PIXELS = (
    "The input of a column of images holds the pixels of all rows, with the axes that "
    "`manifest.json` states; a missing image has the colour that it states everywhere. "
    "`skmode_deploy` reads arrays, PIL images, the bytes of PNG and JPEG files, and paths."
)


def rows_card(manifest: Manifest) -> str:
    """Write the model card."""
    experts = "1 expert" if manifest.n_experts == 1 else f"{manifest.n_experts} experts"
    taught = ["## Teacher", _teacher(manifest.teacher)] if manifest.teacher else []
    sections = [
        f"# {manifest.task.capitalize()} by a mixture of {experts}",
        _summary(manifest),
        "## Inputs",
        _inputs(manifest),
        "## Outputs",
        _outputs(manifest),
        "## Experts",
        _experts(manifest),
        "## Scores",
        _scores(manifest),
        *taught,
        "## Use",
        _use(manifest),
        "## Versions",
        versions_table(manifest.versions),
    ]
    if manifest.notes:
        sections += ["## Notes", quote(manifest.notes.strip())]
    return "\n\n".join(sections) + "\n"


def _summary(manifest: Manifest) -> str:
    routing = {
        "top_expert": "one expert, which the gate chooses",
        "mixture": "all experts, weighted by the gate",
    }[manifest.routing]
    weights = ""
    if manifest.quantization is not None:
        weights = f" The experts' weights are 8-bit numbers ({manifest.quantization})."
    return (
        f"Exported on {manifest.created} by skmode. Each row is predicted by {routing}.{weights} "
        f"The weight of the distillation loss in training, alpha, was {manifest.alpha:g}.\n\n"
        "`manifest.json` states the same facts, and the hash of each file."
    )


def _inputs(manifest: Manifest) -> str:
    if manifest.image is not None:
        return _image_input(manifest.image)
    if manifest.input == "text":
        return _text_input(manifest)
    by = (
        "The model was trained on a table: columns are found by name."
        if manifest.from_table
        else "The model was trained on an array: columns are found by position, in this order."
    )
    rows = [
        (
            escape(column.name),
            _graph_inputs(manifest, column),
            column.kind,
            column.dtype,
            _known_values(column),
            "yes" if column.has_missing else "no",
        )
        for column in manifest.columns[:MAX_COLUMNS]
    ]
    heads = ("Column", "Graph input", "Kind", "Type", "Known in training", "Missing in training")
    text = f"{by}\n\n{table(heads, rows)}"
    rest = len(manifest.columns) - MAX_COLUMNS
    if rest > 0:
        text += f"\n\nand {rest} more columns, which `manifest.json` lists."
    text += "\n\nA missing number is NaN, a missing string is empty."
    if manifest.text_columns:
        text += f" {_TOKENS.format(_BAG)}"
    if manifest.image_columns:
        text += f" {_PIXELS}"
    refusals = [(escape(c.name), "; ".join(list_refusals(c))) for c in manifest.columns]
    refusals = [(name, what) for name, what in refusals if what]
    if not refusals:
        return f"{text} Unknown categories are allowed."
    text += (
        " Unknown categories are allowed, except in this table: it lists what `skmode_deploy` "
        "refuses, because the model or its graph failed on it at the export.\n\n"
        f"{table(('Column', 'Allows'), refusals[:MAX_COLUMNS])}"
    )
    rest = len(refusals) - MAX_COLUMNS
    return text + (f"\n\nand values of {rest} more columns." if rest > 0 else "")


def _graph_inputs(manifest: Manifest, column: Column) -> str:
    if column.kind != "text":
        return escape(column.input)
    return ", ".join(map(escape, text_inputs(manifest, column)))


def _text_input(manifest: Manifest) -> str:
    (column,) = manifest.columns
    rows = [
        ("tokens", "int64 (n, length)", "the different tokens of each text"),
        ("counts", "float32 (n, length)", "how often each of them occurs"),
    ]
    tensors = table(("Graph input", "Type", "Values"), rows)
    what = f"Texts: {describe_text(column)}. A missing text is empty."
    assert column.text is not None
    listed = _BAG if column.text.encoder is None else _IN_ORDER
    return f"{what} {_TOKENS.format(listed)}\n\n{tensors}"


def describe_text(column: Column) -> str:
    """Say how a column of texts is read, in a few words."""
    assert column.text is not None
    text = column.text
    which = "different ones" if text.encoder is None else "in their order"
    return (
        f"{text.n_tokens:,} tokens of {text.tokenizer}, up to {text.max_tokens:,} {which} "
        f"and {text.max_bytes:,} bytes of a text"
    )


def _image_input(image: Image) -> str:
    axes = {"h": "height", "w": "width", "c": "channels"}
    what = {"uint8": "whole numbers from 0 to 255", "float32": "numbers from 0 to 1"}[image.dtype]
    rows = [
        ("image", f"{image.dtype} (n, {', '.join(map(str, image.shape))})", what),
    ]
    text = table(("Graph input", "Type", "Values"), rows)
    named = ", ".join(axes[axis] for axis in image.layout)
    return f"Images: {describe_image(image)}. The axes after the first are {named}.\n\n{text}"


def describe_image(image: Image) -> str:
    """Say which images a model reads, in a few words."""
    colours = {1: "grey", 3: "RGB", 4: "RGBA"}.get(image.channels, f"{image.channels} channels")
    return f"height {image.height}, width {image.width}, {colours}"


def list_refusals(column: Column) -> list[str]:
    """Say which values of a column are refused, in a few words each."""
    words = {"missing": "no missing values", "unseen": "no unknown categories"}
    texts = [words[kind] for kind in column.refuses or ()]
    if column.lowest is not None:
        texts.append(f"nothing below {column.lowest:.6g}")
    if column.highest is not None:
        texts.append(f"nothing above {column.highest:.6g}")
    return texts


def _known_values(column: Column) -> str:
    """Show the categories, the range or the tokens of a column."""
    if column.kind == "text":
        return escape(describe_text(column))
    if column.image is not None:
        return describe_image(column.image)
    if column.categories is not None:
        return join_values(column.categories)
    if column.minimum is not None and column.maximum is not None:
        return f"{column.minimum:g} to {column.maximum:g}"
    return ""


def _outputs(manifest: Manifest) -> str:
    if manifest.classes is not None:
        label = (
            "the class"
            if manifest.classes.label == "value"
            else "the position of the class in the list below, from 0"
        )
        rows = [
            ("label", f"{label}, (n,)"),
            ("probabilities", f"of each class, float32 (n, {manifest.n_outputs})"),
        ]
    else:
        rows = [("variable", f"the value, float32 (n, {manifest.n_outputs})")]
    rows += [
        ("expert", "the top expert of the row, int64 (n,)"),
        ("gate\\_probability", "the gate's probability of that expert, float32 (n,)"),
    ]
    text = table(("Output", "What it is"), rows)
    if manifest.classes is not None:
        text += f"\n\n{manifest.n_outputs} classes: {join_values(manifest.classes.values)}"
    if manifest.threshold is not None:
        assert manifest.classes is not None
        chosen = join_values(manifest.classes.values[manifest.threshold.position :][:1])
        text += (
            f"\n\nThe label is {chosen} if its probability is at least "
            f"{manifest.threshold.value:g}, and else the other class."
        )
    return text


def _experts(manifest: Manifest) -> str:
    rows = [
        (str(i), f"{100 * share:.1f} %")
        for i, share in enumerate(manifest.expert_usage[:MAX_COLUMNS])
    ]
    text = table(("Expert", "Share of the training rows"), rows)
    rest = manifest.n_experts - MAX_COLUMNS
    return text + (f"\n\nand {rest} more experts." if rest > 0 else "")


def _scores(manifest: Manifest) -> str:
    texts = [_score_table(manifest)]
    if manifest.routing_difference is not None:
        classes = manifest.classes is not None
        where = {
            "validation": "On the validation rows, measured after all training",
            "export": "On the rows that the export got",
        }[manifest.routing_difference.rows]
        texts.append(
            "The estimator predicts by all experts, and this bundle by one. "
            f"{where}, {describe_difference(manifest.routing_difference, classes)}."
        )
    return "\n\n".join(texts)


def describe_difference(difference: RoutingDifference, classes: bool) -> str:
    """Say how far predictions by one expert are from those by all."""
    largest, mean = (
        ", ".join(f"{number:.3g}" for number in numbers[:MAX_VALUES])
        for numbers in (difference.max, difference.mean)
    )
    what = "probabilities" if classes else "predictions"
    n_targets = len(difference.max)
    which = f" (of the first {MAX_VALUES} targets)" if n_targets > MAX_VALUES else ""
    which = which or (" (one number for each target)" if n_targets > 1 else "")
    return f"{what} differ by {largest} at most and {mean} on average{which}"


def _score_table(manifest: Manifest) -> str:
    if not manifest.validation_scores:
        return "Training had no validation rows."
    rows = [
        (escape(name.replace("_", " ")), f"{score:.4g}")
        for name, score in sorted(manifest.validation_scores.items())
    ]
    return (
        "The estimator's `score` on the validation rows of its training:"
        f"\n\n{table(('Inference', 'Score'), rows)}"
    )


def _teacher(teacher: Teacher) -> str:
    text = (
        f"The experts learned from the predictions of other models: {join_values(teacher.names)}. "
        "These are not needed here."
    )
    if not teacher.losses:
        return text
    rows = [
        (escape(name.replace("_", " ")), f"{loss:.4g}")
        for name, loss in sorted(teacher.losses.items(), key=lambda item: item[1])
    ]
    return f"{text} Losses on the validation rows of training:\n\n{table(('By', 'Loss'), rows)}"


def _use(manifest: Manifest) -> str:
    return f"""With numpy and onnxruntime, through skmode-deploy, which checks every file first:

```python
import skmode_deploy

model = skmode_deploy.load("this folder")
model.predict(X)
```

To check the files only: `skmode-deploy verify "this folder"`, or in Python
`skmode_deploy.bundle.verify("this folder")`. If there is a `samples.json`, the command also checks
that its made-up rows get the predictions that the model gave at the export.

With onnxruntime alone, in any language:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
inputs = {{
{_example(manifest)}
}}
outputs = session.run(None, inputs)
```"""


def _example(manifest: Manifest) -> str:
    """Write the lines of a dict that ``model.onnx`` takes."""
    if manifest.image is not None:
        shape = (1, *manifest.image.shape)
        return f"    'image': np.zeros({shape}, dtype=np.{manifest.image.dtype}),"
    inputs = {column.input: column for column in manifest.columns}
    width = len(manifest.columns) if manifest.input == "array" else 1
    lines = []
    for name, column in list(inputs.items())[:MAX_INPUTS]:
        if column.kind == "text":  # token 0, once
            tokens, counts = text_inputs(manifest, column)
            lines.append(f"    {tokens!r}: np.zeros((1, 1), dtype=np.int64),")
            lines.append(f"    {counts!r}: np.ones((1, 1), dtype=np.float32),")
            continue
        if column.image is not None:
            shape = (1, *column.image.shape)
            lines.append(f"    {name!r}: np.zeros({shape}, dtype=np.{column.dtype}),")
            continue
        dtype = "object" if column.dtype == "string" else f"np.{column.dtype}"
        lines.append(
            f"    {name!r}: np.full((1, {width}), {_example_value(column)!r}, dtype={dtype}),"
        )
    if len(inputs) > MAX_INPUTS:
        lines.append(f"    # and so on for the other {len(inputs) - MAX_INPUTS} inputs")
    return "\n".join(lines)


def _example_value(column: Column) -> Any:
    """Choose a value that the column may hold."""
    if column.categories:
        return column.categories[0]
    if column.dtype == "string":
        return ""
    if column.dtype == "int64":
        return int(column.minimum or 0)
    return float(column.minimum or 0)
