"""Ensembles of estimators."""

from skmode.onnx._skl2onnx.models.ensembles.calibration import replace_calibration
from skmode.onnx._skl2onnx.models.ensembles.joined import replace_parsers_of_ensembles
from skmode.onnx._skl2onnx.models.ensembles.stacking import replace_stacking
from skmode.onnx._skl2onnx.models.ensembles.voting import replace_voting

__all__ = ["replace_ensembles"]


def replace_ensembles() -> None:
    """Replace skl2onnx's converters and parsers of ensembles."""
    replace_calibration()
    replace_parsers_of_ensembles()
    replace_stacking()
    replace_voting()
