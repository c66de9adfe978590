"""Names for the leaves of a trace: of files, columns and curves."""

from collections.abc import Mapping

import tensorflow as tf


def leaf_names(structure, alone: str = "trace") -> list[str]:
    """A name for each leaf of a structure, in the order of `tf.nest.flatten`: keys, fields and positions.

    Args:
      structure: any nested structure.
      alone: the name where the structure is a leaf.

    >>> from fusemin.runs.leaf_names import leaf_names
    >>> leaf_names({"x": [1, 2], "loss": 3})
    ['loss', 'x.0', 'x.1']
    """
    names = [".".join(path) or alone for path in _paths(structure)]
    if len(names) != len(tf.nest.flatten(structure)) or len(set(names)) != len(names):
        return [f"{alone}.{i}" for i in range(len(tf.nest.flatten(structure)))]
    return names


def _paths(structure) -> list[list[str]]:
    if isinstance(structure, Mapping):
        parts = [(str(key), structure[key]) for key in sorted(structure)]
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        parts = list(zip(structure._fields, structure, strict=True))
    elif isinstance(structure, list | tuple):
        parts = [(str(i), part) for i, part in enumerate(structure)]
    else:
        return [[]]
    return [[name, *path] for name, part in parts for path in _paths(part)]
