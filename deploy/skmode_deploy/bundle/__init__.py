"""The bundle: a folder of ONNX files, and a manifest that describes them.

This package defines the format: `skmode.onnx` writes bundles with it, and
:class:`skmode_deploy.Predictor` reads them with it.

A bundle is a folder with ``manifest.json`` and the files that the manifest names:

- ``model.onnx`` maps columns, images, or tokens of texts, to predictions;
- ``gate.onnx`` maps them to the gate probabilities, the top expert, and `hidden`, the input of
  the experts;
- ``expert_<i>.onnx`` maps `hidden` to the predictions of expert i;
- ``tokenizer.json`` (only for texts) says how they become tokens, see :class:`Text`;
- ``README.md`` is the model card;
- ``samples.json`` (optional) holds made-up rows with the model's predictions, see
  :mod:`skmode_deploy.samples`.

A language model has ``router.onnx``, which maps the bytes of a text to a domain,
``expert_<domain>.onnx`` for each domain, and ``common.onnx`` if there is a common expert, which map
tokens to logits, and ``tokenizer.json``.

Writing replaces the whole folder. Reading checks size and hash of each file before the file is
used. Other files in the folder, such as the signature ``model.sig``, are ignored.
"""

from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.graph_check import GraphValue
from skmode_deploy.bundle.layout import (
    COMMON,
    GATE,
    IMAGE,
    MAX_BYTES,
    MODEL,
    README,
    ROUTER,
    SAMPLES,
    SIGNATURE,
    TOKENIZER,
    domain_file,
    expert_name,
    graph_interface,
    graph_values,
    input_names,
    text_inputs,
)
from skmode_deploy.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
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
from skmode_deploy.bundle.reading import read, read_file, read_graph, verify
from skmode_deploy.bundle.writing import creation_time, write
from skmode_deploy.errors import BundleError

__all__ = [
    "COMMON",
    "GATE",
    "IMAGE",
    "MANIFEST",
    "MAX_BYTES",
    "MODEL",
    "README",
    "ROUTER",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "TOKENIZER",
    "BundleError",
    "Classes",
    "Column",
    "Domain",
    "File",
    "GraphValue",
    "Image",
    "Language",
    "Manifest",
    "RoutingDifference",
    "Teacher",
    "Text",
    "Threshold",
    "creation_time",
    "domain_file",
    "expert_name",
    "graph_interface",
    "graph_values",
    "input_names",
    "model_card",
    "read",
    "read_file",
    "read_graph",
    "text_inputs",
    "verify",
    "write",
]
