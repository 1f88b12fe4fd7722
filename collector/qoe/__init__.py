"""Quality of experience: service classes, percentiles of merged histograms, scores by models."""

from collector.qoe.histogram import Quantile, quantile, samples
from collector.qoe.models import Models, ServiceClass
from collector.qoe.score import Measured, Score, combine, score
from collector.qoe.services import ServiceMap

__all__ = [
    "Measured",
    "Models",
    "Quantile",
    "Score",
    "ServiceClass",
    "ServiceMap",
    "combine",
    "quantile",
    "samples",
    "score",
]
