"""A service under load, request by request, with an autoscaler in the loop."""

from fleet_autoscale.simulation.model import Faults, Service
from fleet_autoscale.simulation.run import Result, Scaler, View, simulate

__all__ = ["Faults", "Result", "Scaler", "Service", "View", "simulate"]
