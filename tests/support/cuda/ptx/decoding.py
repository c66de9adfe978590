"""Turns an instruction into a function of (run, active) that executes it. Operands and types are looked up here, once.

A module of instructions registers a decoder for each opcode. A decoder gets a `Decoder`, checks that it knows every
modifier, and returns the function. What it does not know it refuses.
"""

from __future__ import annotations

import numpy as np

from .syntax import Discarded, Immediate, Inverted, Register, Special, Variable
from .types import FLOAT, PREDICATE, SIGNED, TYPES, UNSIGNED

_DECODERS = {}
# Where the generic address space has the memory of blocks and threads and the parameters: no pointer of the process
# is that large.
SHARED_BASE, LOCAL_BASE, PARAM_BASE = (np.uint64(n << 56) for n in (1, 2, 3))


def opcode(*names):
    """Registers the decoder of opcodes."""

    def register(decoder):
        for name in names:
            assert name not in _DECODERS
            _DECODERS[name] = decoder
        return decoder

    return register


def known_opcodes():
    """All opcodes that have a decoder."""
    return sorted(_DECODERS)


def decode(instruction, base, program):
    """The function that executes an instruction of a function whose registers begin at `base` in the program's."""
    decoder = _DECODERS.get(instruction.opcode)
    if decoder is None:
        raise NotImplementedError(instruction.text)
    return decoder(Decoder(instruction, base, program))


class Decoder:
    """An instruction while it is decoded."""

    def __init__(self, instruction, base, program):
        self.instruction = instruction
        self.program = program
        self.modifiers = instruction.modifiers
        self.operands = instruction.operands
        self._base = base

    @property
    def type(self):
        """The type that the last modifier names."""
        kind = TYPES.get(self.modifiers[-1]) if self.modifiers else None
        if kind is None:
            raise self.unknown()
        return kind

    def unknown(self, what=""):
        """The error for what the interpreter does not do."""
        return NotImplementedError(f"{what}{': ' if what else ''}{self.instruction.text}")

    def only(self, *allowed, types=1):
        """Refuses modifiers other than these before the last `types`, which are types."""
        words = self.modifiers[: len(self.modifiers) - types]
        if any(word not in allowed for word in words):
            raise self.unknown("modifier")
        return words

    def expect(self, *kinds):
        """Refuses an instruction whose type is none of these."""
        if self.type.name not in kinds:
            raise self.unknown("type")

    def count(self, *counts):
        """Refuses another number of operands."""
        if len(self.operands) not in counts:
            raise self.unknown("operands")

    def read(self, which, kind=None, wider=False):
        """A function of (run, active) that gives the values of an operand: an array of one or of all active threads.
        A register must have the type's width, or with `wider` at least that."""
        operand = self.operands[which] if isinstance(which, int) else which
        kind = kind or self.type
        if isinstance(operand, Register):
            return self._read_register(operand, kind, wider)
        if isinstance(operand, Inverted):
            value = self._read_register(operand.predicate, PREDICATE, False)
            return lambda run, active: ~value(run, active)
        if isinstance(operand, Immediate):
            constant = self._constant(operand, kind)
            return lambda run, active: constant
        if isinstance(operand, Special):
            name, dtype = operand.name, kind.dtype
            if kind.bits != 32 or not kind.is_integer:
                raise self.unknown("a special register as that type")
            return lambda run, active: run.special(name, active).view(dtype)
        if isinstance(operand, Variable) and kind.is_integer:
            address = self.address_of(operand)
            if kind.bits == 64:
                return lambda run, active: address(run, active).view(kind.dtype)
            # Addresses of shared and local memory fit in 32 bits.
            if kind.bits == 32 and operand.space in ("shared", "local"):
                return lambda run, active: address(run, active).astype(kind.dtype)
        raise self.unknown("operand")

    def _read_register(self, operand, kind, wider):
        index, dtype, bits = self._base + operand.index, kind.dtype, operand.type.bits
        if bits == kind.bits:
            return lambda run, active: run.registers.read(index, dtype, active)
        if wider and bits > kind.bits and PREDICATE not in (kind, operand.type):
            full, narrow = UNSIGNED[bits], UNSIGNED[kind.bits]
            return lambda run, active: run.registers.read(index, full, active).astype(narrow).view(dtype)
        raise self.unknown(f"a register of {operand.type.name} as {kind.name}")

    def _constant(self, operand, kind):
        if operand.kind == "integer":
            if kind is PREDICATE:
                return np.array([operand.value != 0])
            bits = np.array([operand.value % (1 << kind.bits)], UNSIGNED[kind.bits])
            if kind.kind == "float":
                raise self.unknown("an integer as a float")
            return bits.view(kind.dtype)
        bits = 32 if operand.kind == "f32" else 64
        if bits != kind.bits or kind.kind in ("unsigned", "signed"):
            raise self.unknown("a constant of another width")
        return np.array([operand.value], UNSIGNED[bits]).view(kind.dtype)

    def address_of(self, variable):
        """Reads the address of a variable in its own space."""
        if variable.space in ("global", "const"):
            name = variable.name
            if name not in self.program.module.memory:
                raise self.unknown("a variable that is initialised by an address")
            self.program.variables.add(name)
            return lambda run, active: run.variable_address(name)
        if variable.space == "shared" and variable.size is None:
            offset = self.program.dynamic_shared_offset(variable.alignment)
        else:
            offset = self.program.offset(variable)
        constant = np.array([offset], np.uint64)
        return lambda run, active: constant

    def write(self, which=0, kind=None):
        """A function of (run, active, values) that writes a result of a type. A wider register gets zeros, or the sign
        of a signed type; a result that is discarded is not written."""
        operand = self.operands[which] if isinstance(which, int) else which
        kind = kind or self.type
        if isinstance(operand, Discarded):
            return lambda run, active, value: None
        if not isinstance(operand, Register):
            raise self.unknown("result")
        index, bits = self._base + operand.index, operand.type.bits
        if bits == kind.bits:
            return lambda run, active, value: run.registers.write(index, value, active)
        if bits > kind.bits and PREDICATE not in (kind, operand.type) and kind.is_integer:
            full = (SIGNED if kind.is_signed else UNSIGNED)[bits]
            own = kind.dtype
            return lambda run, active, value: run.registers.write(index, value.view(own).astype(full), active)
        raise self.unknown(f"a register of {operand.type.name} for {kind.name}")

    def compute(self, function, kind=None, result=None):
        """Executes `function` of all operands but the first, and writes what it gives to the first."""
        reads = [self.read(i, kind) for i in range(1, len(self.operands))]
        write = self.write(0, result or kind)
        if len(reads) == 1:
            (a,) = reads
            return lambda run, active: write(run, active, function(a(run, active)))
        if len(reads) == 2:
            a, b = reads
            return lambda run, active: write(run, active, function(a(run, active), b(run, active)))
        return lambda run, active: write(run, active, function(*[each(run, active) for each in reads]))

    def approximation(self):
        """To be called in `run` before an instruction whose result hardware only approximates."""
        mnemonic = self.instruction.mnemonic

        def check(run):
            if mnemonic not in run.approximations:
                raise NotImplementedError(f"{mnemonic} is an approximation that the launch does not allow")

        return check


def spread(value, active):
    """One value for each active thread."""
    return value if value.size == active.size else np.repeat(value, active.size)


def is_half(kind):
    """Whether arithmetic of the type is done in a wider one."""
    return kind.dtype == FLOAT[16]
