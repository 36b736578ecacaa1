"""Which features each expert needs for its rows, and which ones the gate looks at."""

from skmode.inspection._attention.attention import expert_attention
from skmode.inspection._attention.result import ExpertAttention
from skmode.inspection._attention.saliency import (
    ExpertSaliency,
    expert_saliency,
    typical_images,
)
from skmode.inspection._attention.selection import FeatureImportance, feature_importances
from skmode.inspection._attention.tokens import ExpertTokens, expert_tokens, typical_texts

# Pickles of 0.1.0 look for ExpertAttention in this module.
__all__ = [
    "ExpertAttention",
    "ExpertSaliency",
    "ExpertTokens",
    "FeatureImportance",
    "expert_attention",
    "expert_saliency",
    "expert_tokens",
    "feature_importances",
    "typical_images",
    "typical_texts",
]
