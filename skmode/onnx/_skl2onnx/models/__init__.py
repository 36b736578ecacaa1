"""Models around an estimator: searches, thresholds, ensembles, chains, transformed targets."""

from skmode.onnx._skl2onnx.models.chains import add_chains
from skmode.onnx._skl2onnx.models.ensembles import replace_ensembles
from skmode.onnx._skl2onnx.models.outputs import replace_zip_map
from skmode.onnx._skl2onnx.models.targets import add_targets
from skmode.onnx._skl2onnx.models.thresholds import add_thresholds
from skmode.onnx._skl2onnx.models.wrappers import add_wrappers

__all__ = ["replace_models"]


def replace_models() -> None:
    """Replace or add converters of models around an estimator."""
    add_wrappers()
    add_thresholds()
    add_chains()
    add_targets()
    replace_ensembles()
    replace_zip_map()
