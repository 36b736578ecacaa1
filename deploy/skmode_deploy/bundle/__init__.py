"""The bundle: a folder of ONNX files and the manifest that says what is in them.

The format is written down here and in :mod:`skmode_deploy.bundle.manifest`, and nowhere else.
`skmode.onnx` writes through this module, :class:`skmode_deploy.Predictor` reads through
it.

A bundle holds ``manifest.json`` and, side by side with it, the files that the manifest names:

- ``model.onnx``: columns in, answer out;
- ``gate.onnx``: columns in; gate probabilities, top expert and what the experts read out;
- ``expert_<i>.onnx``: what the experts read in, the answer of expert i alone out;
- ``README.md``: the model card;
- ``samples.json``, where there is one: made-up rows with the model's own answers, see
  :mod:`skmode_deploy.samples`.

A folder is replaced as a whole, and every file is checked against its size and hash before use.
Other files in the folder, such as the signature ``model.sig``, are not looked at.
"""

from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.graph_check import GraphValue
from skmode_deploy.bundle.layout import (
    GATE,
    MAX_BYTES,
    MODEL,
    README,
    SAMPLES,
    SIGNATURE,
    expert_name,
    graph_interface,
    graph_values,
    input_names,
)
from skmode_deploy.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Classes,
    Column,
    File,
    Manifest,
    creation_time,
)
from skmode_deploy.bundle.reading import read, read_file, read_graph, verify
from skmode_deploy.bundle.writing import write
from skmode_deploy.errors import BundleError

__all__ = [
    "GATE",
    "MANIFEST",
    "MAX_BYTES",
    "MODEL",
    "README",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "BundleError",
    "Classes",
    "Column",
    "File",
    "GraphValue",
    "Manifest",
    "creation_time",
    "expert_name",
    "graph_interface",
    "graph_values",
    "input_names",
    "model_card",
    "read",
    "read_file",
    "read_graph",
    "verify",
    "write",
]
