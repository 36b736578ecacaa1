"""Serve exported mixtures of experts; numpy and onnxruntime are the only dependencies."""

import os
import sys

# Before onnxruntime is loaded: some of its releases keep a number of the device in the home folder,
# and may send usage data.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from skmode_deploy._version import __version__
from skmode_deploy.bundle import BundleError, manifest
from skmode_deploy.running import predictor
from skmode_deploy.running.inputs.texts import Tokenizer
from skmode_deploy.running.predictor import Prediction, Predictor, load

__all__ = ["BundleError", "Prediction", "Predictor", "Tokenizer", "__version__", "load"]

# Where these modules were in 0.1.0, for its pickles and for code that imports them.
sys.modules["skmode_deploy.manifest"] = manifest
sys.modules["skmode_deploy.predictor"] = predictor
