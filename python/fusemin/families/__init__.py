"""Optimizers that the fused op can stand in for, one module for each family."""

from fusemin.families.family import FusedUpdate
from fusemin.families.registry import (
    bind,
    build,
    check_gradients,
    families,
    find_fallback_reason,
    find_family,
    find_placement_reason,
    find_sparse_reason,
    rule_name,
)

__all__ = [
    "FusedUpdate",
    "bind",
    "build",
    "check_gradients",
    "families",
    "find_fallback_reason",
    "find_family",
    "find_placement_reason",
    "find_sparse_reason",
    "rule_name",
]
