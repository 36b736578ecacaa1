"""Export of fitted estimators to ONNX."""

from skmode.onnx._export import export

__all__ = ["export"]
