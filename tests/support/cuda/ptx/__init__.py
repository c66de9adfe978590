"""An interpreter of PTX, vectorised over all threads of a grid with NumPy, for kernels on a machine without a GPU.

    module = ptx.parse(text)
    kernel = ptx.Kernel(module, "scale")
    memory = ptx.Memory()
    x = memory.put(np.ones(1000, np.float32))
    ptx.launch(kernel, 4, 256, [np.uint64(x), np.int64(1000)], memory)
    memory.get(x, np.float32, 1000)

Results are exact, as the PTX manual has them, where it has one result. What a GPU would do differently each time, or
not at all, is an error: see `errors`. What the interpreter does not know is a NotImplementedError. Results that were
obtained with it are "PTX-interpreted"; they say nothing about speed on a GPU.
"""

from .errors import Divergence, Misaligned, OutOfBounds, PTXError, Race, Uninitialised
from .execution import REFINED_APPROXIMATIONS, Kernel, launch
from .memory import Memory
from .parser import parse

__all__ = [
    "REFINED_APPROXIMATIONS",
    "Divergence",
    "Kernel",
    "Memory",
    "Misaligned",
    "OutOfBounds",
    "PTXError",
    "Race",
    "Uninitialised",
    "launch",
    "parse",
]
