"""What this build of fusemin was made of, and its op library."""

import pathlib
from collections.abc import Mapping

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


# An op library for each minor version of TensorFlow that this build is for, as "2.21".
_PREFIX = "fusemin_ops_"
OP_LIBRARIES = {
    path.stem.removeprefix(_PREFIX).replace("_", "."): path
    for path in sorted(pathlib.Path(_core.__file__).parent.glob(f"{_PREFIX}*.so"))
}


def op_library(running: str, libraries: Mapping[str, pathlib.Path]) -> pathlib.Path:
    """The op library for a version of TensorFlow.

    The C++ ABI of TensorFlow's ops changes from one minor version to the next: a library of another one fails to load
    with an undefined symbol, or loads and crashes.

    Args:
        running: a version, such as "2.21.0".
        libraries: the libraries that there are, by minor version.

    Raises:
        ImportError: there is none for this version.
    """
    minor = ".".join(running.split(".")[:2])
    if minor in libraries:
        return libraries[minor]
    built = " and ".join(libraries) or "none"
    install = " or ".join(f"'tensorflow=={minor}.*'" for minor in libraries)
    raise ImportError(
        f"TensorFlow {running} is running, and this fusemin was built for TensorFlow {built}. "
        f"Install {install}, or build fusemin from its source in this environment: "
        "pip install --no-build-isolation . (docs/install.md)"
    )


# The wrappers `fusemin_fused_step`, `fusemin_trace_rows` and `fusemin_gradient_sums`. Loaded at import, since a
# SavedModel that holds the ops has no other way to them.
OPS = tf.load_op_library(str(op_library(tf.__version__, OP_LIBRARIES)))
