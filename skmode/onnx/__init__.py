"""Export of fitted estimators to ONNX. Importing it registers their converters with skl2onnx."""

try:
    import skmode_deploy.bundle  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skmode.onnx writes its files through the package skmode-deploy, which is not installed: "
        "run `pip install ./deploy` in a checkout of skmode."
    ) from error

from skmode.onnx._bundles.checks.routing import RoutingDifferenceWarning
from skmode.onnx._bundles.export import export
from skmode.onnx._comparison import OnnxComparison, compare_with_onnx
from skmode.onnx._skl2onnx.converters import register_converters

__all__ = [
    "OnnxComparison",
    "RoutingDifferenceWarning",
    "compare_with_onnx",
    "export",
    "register_converters",
]

register_converters()
