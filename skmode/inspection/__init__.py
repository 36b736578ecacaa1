"""Look into a fitted mixture: what each expert does, whether the gate is right, which alpha suits.

The functions take a fitted estimator and rows and return tables. The displays draw these tables,
and import matplotlib only then. `record_routes` and `token_routes` take any torch network that has
:class:`skmode.nn.MoDELayer` in it.
"""

import sys

from skmode.inspection._attention import (
    ExpertAttention,
    ExpertSaliency,
    ExpertTokens,
    FeatureImportance,
    expert_attention,
    expert_saliency,
    expert_tokens,
    feature_importances,
    typical_images,
    typical_texts,
)
from skmode.inspection._compare import (
    Comparison,
    CorrectedTTest,
    compare,
    corrected_resampled_ttest,
)
from skmode.inspection._history import GateHistory, GateRecognition, gate_history
from skmode.inspection._layers import (
    LayerProbing,
    layer_probing,
    record_routes,
    token_routes,
)
from skmode.inspection._paths import ParameterPath, alpha_path, experts_path
from skmode.inspection._plot.attention import ExpertAttentionDisplay
from skmode.inspection._plot.history import GateHistoryDisplay
from skmode.inspection._plot.images import ExpertSaliencyDisplay, TypicalImagesDisplay
from skmode.inspection._plot.paths import AlphaPathDisplay
from skmode.inspection._plot.probing import ExpertProbingDisplay
from skmode.inspection._plot.routing import RoutingMapDisplay
from skmode.inspection._probing import ExpertProbing, expert_probing, route_confusion
from skmode.inspection._report.write import report

__all__ = [
    "AlphaPathDisplay",
    "Comparison",
    "CorrectedTTest",
    "ExpertAttention",
    "ExpertAttentionDisplay",
    "ExpertProbing",
    "ExpertProbingDisplay",
    "ExpertSaliency",
    "ExpertSaliencyDisplay",
    "ExpertTokens",
    "FeatureImportance",
    "GateHistory",
    "GateHistoryDisplay",
    "GateRecognition",
    "LayerProbing",
    "ParameterPath",
    "RoutingMapDisplay",
    "TypicalImagesDisplay",
    "alpha_path",
    "compare",
    "corrected_resampled_ttest",
    "expert_attention",
    "expert_probing",
    "expert_saliency",
    "expert_tokens",
    "experts_path",
    "feature_importances",
    "gate_history",
    "layer_probing",
    "record_routes",
    "report",
    "route_confusion",
    "token_routes",
    "typical_images",
    "typical_texts",
]

# Pickles of 0.1.0 look for the displays in these modules.
for _name in ("attention", "history", "paths", "probing", "routing"):
    sys.modules[f"{__name__}._plot._{_name}"] = sys.modules[f"{__name__}._plot.{_name}"]
