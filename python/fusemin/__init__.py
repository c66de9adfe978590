"""A faster `tfp.math.minimize`: one TensorFlow op updates all variables and writes the trace.

>>> import keras, tensorflow as tf, fusemin
>>> x = tf.Variable(0.0)
>>> losses = fusemin.minimize(
...     lambda: (x - 5.0) ** 2, num_steps=100, optimizer=keras.optimizers.Adam(learning_rate=0.1))
>>> losses.shape
TensorShape([100])
"""

import importlib
from types import ModuleType

from fusemin import _command_line, convergence, optimizers  # noqa: F401  The first: it may end the program.
from fusemin._build import __version__
from fusemin.api.explanation import Explanation, explain
from fusemin.api.fused_optimizer import fuse
from fusemin.api.minimization import minimize
from fusemin.api.minimizer import Minimizer
from fusemin.api.stateless import minimize_stateless
from fusemin.api.tfp_replacement import replacing_tfp
from fusemin.loop.convergence import LossNotDecreasing
from fusemin.loop.traceable import MinimizeTraceableQuantities
from fusemin.runs.callbacks import RunState
from fusemin.runs.checkpoint import Checkpoint, CheckpointMismatchError
from fusemin.runs.logs import CSVLog, TensorBoard
from fusemin.runs.nonfinite import NonFiniteError
from fusemin.runs.plateau import ReduceOnPlateau
from fusemin.runs.result import Best, Result, Status
from fusemin.update import op_gradients  # noqa: F401  Registers the gradients of the ops.
from fusemin.update.stock_ops import stock

__all__ = [
    "Best",
    "CSVLog",
    "Checkpoint",
    "CheckpointMismatchError",
    "Explanation",
    "LossNotDecreasing",
    "MinimizeTraceableQuantities",
    "Minimizer",
    "NonFiniteError",
    "ReduceOnPlateau",
    "Result",
    "RunState",
    "Status",
    "TensorBoard",
    "__version__",
    "convergence",
    "explain",
    "fuse",
    "minimize",
    "minimize_stateless",
    "optimizers",
    "replacing_tfp",
    "stock",
    "sts",
    "vi",
]

# These import TensorFlow Probability, which fusemin does not need: imported when asked for.
_WITH_TFP = ("sts", "vi")


def __getattr__(name: str) -> ModuleType:
    if name in _WITH_TFP:
        return importlib.import_module(f"fusemin.{name}")
    raise AttributeError(f"module 'fusemin' has no attribute {name!r}")
