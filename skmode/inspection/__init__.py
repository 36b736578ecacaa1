"""Look into a fitted mixture: who does what, is the gate right, is alpha right.

Instruments take a fitted estimator and rows and return tables; displays draw them, and import
matplotlib only then.
"""

from skmode.inspection._attention import ExpertAttention, expert_attention
from skmode.inspection._compare import (
    Comparison,
    CorrectedTTest,
    compare,
    corrected_resampled_ttest,
)
from skmode.inspection._history import GateHistory, GateRecognition, gate_history
from skmode.inspection._layers import LayerProbing, layer_probing
from skmode.inspection._paths import ParameterPath, alpha_path, experts_path
from skmode.inspection._plot._attention import ExpertAttentionDisplay
from skmode.inspection._plot._history import GateHistoryDisplay
from skmode.inspection._plot._paths import AlphaPathDisplay
from skmode.inspection._plot._probing import ExpertProbingDisplay
from skmode.inspection._plot._routing import RoutingMapDisplay
from skmode.inspection._probing import ExpertProbing, expert_probing, route_confusion
from skmode.inspection._report._write import report

__all__ = [
    "AlphaPathDisplay",
    "Comparison",
    "CorrectedTTest",
    "ExpertAttention",
    "ExpertAttentionDisplay",
    "ExpertProbing",
    "ExpertProbingDisplay",
    "GateHistory",
    "GateHistoryDisplay",
    "GateRecognition",
    "LayerProbing",
    "ParameterPath",
    "RoutingMapDisplay",
    "alpha_path",
    "compare",
    "corrected_resampled_ttest",
    "expert_attention",
    "expert_probing",
    "experts_path",
    "gate_history",
    "layer_probing",
    "report",
    "route_confusion",
]
