"""Faults on purpose: what goes wrong, at which worker and step. Importing this package does not import torch."""

from sgp_core.faults.base import FAULTS, Fault, Moment, StepFault
from sgp_core.faults.inject import FaultInjector
from sgp_core.faults.phrases import parse_fault, parse_faults

__all__ = ["FAULTS", "Fault", "FaultInjector", "Moment", "StepFault", "parse_fault", "parse_faults"]
