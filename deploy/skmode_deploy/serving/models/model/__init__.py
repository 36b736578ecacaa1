"""Models that are served: from a request of the Open Inference Protocol to its response."""

from skmode_deploy.serving.models.model.language import ServedLanguageModel
from skmode_deploy.serving.models.model.rows import ScoredRequest, ServedModel, label_datatype

__all__ = ["ScoredRequest", "ServedLanguageModel", "ServedModel", "label_datatype"]
