"""Serve exported mixtures of experts; numpy and onnxruntime are the only dependencies."""

from skmode_deploy._version import __version__
from skmode_deploy.bundle import BundleError
from skmode_deploy.running.predictor import Prediction, Predictor, load

__all__ = ["BundleError", "Prediction", "Predictor", "__version__", "load"]
