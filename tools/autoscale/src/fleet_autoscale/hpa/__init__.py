"""The HPA controller's algorithm: pods and metrics in, a replica count out."""

from fleet_autoscale.hpa.behavior import Behavior, Condition, Rate, Rules
from fleet_autoscale.hpa.controller import Average, Hpa, Metric, PerPod, Ratio, Unknown
from fleet_autoscale.hpa.pods import Phase, Pod, Sample
from fleet_autoscale.hpa.replicas import MetricMissing, Tolerance

__all__ = [
    "Average",
    "Behavior",
    "Condition",
    "Hpa",
    "Metric",
    "MetricMissing",
    "PerPod",
    "Phase",
    "Pod",
    "Rate",
    "Ratio",
    "Rules",
    "Sample",
    "Tolerance",
    "Unknown",
]
