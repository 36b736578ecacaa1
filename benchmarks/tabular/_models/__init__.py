"""The models of the league: who takes part, how they are made, tuned and exported to ONNX."""

from benchmarks.tabular._models.contenders import (
    MODERATE_ROWS,
    OURS,
    REFERENCE,
    TAUGHT,
    TOP_EXPERT,
    TUNED,
    TUNED_SETS,
    VOTE,
    VOTED_SETS,
    VOTED_SPLITS,
    Contender,
    contenders,
    labels,
    version,
)
from benchmarks.tabular._models.ours import Ensemble

__all__ = [
    "MODERATE_ROWS",
    "OURS",
    "REFERENCE",
    "TAUGHT",
    "TOP_EXPERT",
    "TUNED",
    "TUNED_SETS",
    "VOTE",
    "VOTED_SETS",
    "VOTED_SPLITS",
    "Contender",
    "Ensemble",
    "contenders",
    "labels",
    "version",
]
