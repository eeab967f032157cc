"""Admission: how many calls run at once, who is next, and who is sent away."""

from fleet_common.admission.queue import Caller
from fleet_common.admission.slots import Admission

__all__ = ["Admission", "Caller"]
