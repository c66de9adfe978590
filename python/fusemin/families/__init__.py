"""Optimizers that the fused op can stand in for, one module for each family."""

from fusemin.families.binding import bind, create_slots, hyperparameters
from fusemin.families.contract import AdapterError, check_adapter, check_options
from fusemin.families.family import (
    STEPS_ATTRIBUTE,
    Adapter,
    Family,
    FusedUpdate,
    Hyperparameter,
    SparseUpdate,
    UnknownVariableError,
)
from fusemin.families.registry import families, find_family, find_variable, inner_optimizers, rule_name

__all__ = [
    "STEPS_ATTRIBUTE",
    "Adapter",
    "AdapterError",
    "Family",
    "FusedUpdate",
    "Hyperparameter",
    "SparseUpdate",
    "UnknownVariableError",
    "bind",
    "check_adapter",
    "check_options",
    "create_slots",
    "families",
    "find_family",
    "find_variable",
    "hyperparameters",
    "inner_optimizers",
    "rule_name",
]
