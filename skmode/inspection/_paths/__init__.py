"""Cross-validated paths over the distillation weight or the number of experts."""

from skmode.inspection._paths.paths import alpha_path, experts_path
from skmode.inspection._paths.result import ParameterPath

# Pickles of 0.1.0 look for results in this module.
__all__ = ["ParameterPath", "alpha_path", "experts_path"]
