"""What this build of fusemin was made of, and its op library."""

import pathlib

import tensorflow as tf

from fusemin import _core

__version__ = _core.build_info()["version"]

# The rules by name, each with the names of its hyperparameters, slots and scalars. Kept: `_core.rules()` builds a new
# dict at each call, and a step of a fused optimizer with a schedule is bound at each step.
RULES = _core.rules()
# The options by name, each with what it needs.
OPTIONS = _core.options()

# Whether variables on an NVIDIA GPU can be updated.
HAS_CUDA_KERNELS = _core.build_info()["cuda_architectures"] is not None


def check_tensorflow(built: str, running: str) -> None:
    """Raises an ImportError unless both versions of TensorFlow are of one minor version.

    The C++ ABI of TensorFlow's ops changes from one minor version to the next: a library of another one fails to load
    with an undefined symbol, or loads and crashes.
    """
    if built.split(".")[:2] != running.split(".")[:2]:
        raise ImportError(
            f"this fusemin was built for TensorFlow {built}, but TensorFlow {running} is running. "
            f"Install tensorflow=={'.'.join(built.split('.')[:2])}.*, or build fusemin against {running}."
        )


check_tensorflow(_core.build_info()["tensorflow"], tf.__version__)


# The wrappers `fusemin_fused_step`, `fusemin_trace_rows` and `fusemin_gradient_sums`. Loaded at import, since a
# SavedModel that holds the ops has no other way to them.
OPS = tf.load_op_library(str(pathlib.Path(__file__).with_name("fusemin_ops.so")))
