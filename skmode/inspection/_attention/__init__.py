"""Which features each expert needs for its rows, and which ones the gate looks at."""

from skmode.inspection._attention.attention import expert_attention
from skmode.inspection._attention.result import ExpertAttention

__all__ = ["ExpertAttention", "expert_attention"]
