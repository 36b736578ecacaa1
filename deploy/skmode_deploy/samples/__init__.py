"""Sample rows of a bundle with the model's predictions, to check a predictor against.

A bundle may contain ``samples.json``: rows drawn from the ranges and categories of the manifest, or
made-up images or texts, not training data, and the predictions of the exported model. They show,
before the first request, whether this machine computes what the model computed.

The file is JSON, with tensors as in the Open Inference Protocol (V2)::

    {"inputs": [{"name": "age", "datatype": "FP32", "shape": [32, 1], "data": [30.5, null, ...]}],
     "outputs": [{"name": "label", "datatype": "BYTES", "shape": [32], "data": ["yes", ...]}],
     "source": "estimator",
     "tolerance": {"probabilities": [0.0001], "gate_probability": [0.0001]}}

The tensors are the inputs and outputs of ``model.onnx``, as flat data; a missing number is null, a
missing string is ``""``. Texts are strings, so that the check covers the tokenizer. `source` says
where the predictions come from: "estimator", or "graph" for ``model.onnx`` at the export, if 8-bit
weights change the predictions on purpose. `tolerance` is the allowed difference of numbers, one for
all columns of an output or one for each. All rows are predicted in one call, because with 8-bit
weights predictions depend slightly on the other rows of a call.
"""

from skmode_deploy.running.inputs import graph_inputs, sample_inputs
from skmode_deploy.running.random_rows import draw_columns, draw_rows
from skmode_deploy.samples.comparison import check_samples
from skmode_deploy.samples.document import MAX_BYTES, Samples, read_samples

__all__ = [
    "MAX_BYTES",
    "Samples",
    "check_samples",
    "draw_columns",
    "draw_rows",
    "graph_inputs",
    "read_samples",
    "sample_inputs",
]
