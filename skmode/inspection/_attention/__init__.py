"""Which features each expert needs for its rows, and which ones the gate looks at."""

from skmode.inspection._attention.attention import expert_attention
from skmode.inspection._attention.result import ExpertAttention

# Pickles of 0.1.0 look for results in this module.
__all__ = ["ExpertAttention", "expert_attention"]
