"""A row for each opcode and type that the interpreter knows, in one table for each of its modules of arithmetic."""

from .bits import BITS
from .conversions import CONVERSIONS
from .floats import FLOATS
from .integers import INTEGERS

SNIPPETS = [*FLOATS, *INTEGERS, *BITS, *CONVERSIONS]
