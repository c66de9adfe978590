"""What an interpreted kernel can do wrong. Each message ends with the kernel and the instruction."""


class PTXError(RuntimeError):
    """A kernel did something that a GPU would not do the same way each time, or at all."""


class OutOfBounds(PTXError):
    """An access outside of all memory that the launch knows, or a store to memory that may only be read."""


class Misaligned(PTXError):
    """An address that is no multiple of the access's width: a vector's width is that of all its elements."""


class Race(PTXError):
    """Two threads touched one byte, one of them writing, with nothing that orders the two."""


class Uninitialised(PTXError):
    """A register, or shared or local memory, that was read before it was written."""


class Divergence(PTXError):
    """Threads that a barrier, shuffle or vote needs together are not there together."""
