"""What the parser makes of PTX text: functions of instructions of operands."""

from __future__ import annotations

from dataclasses import dataclass, field

from .types import Type


@dataclass(frozen=True)
class Register:
    """A register of a function. `index` counts the function's registers; names of inner scopes are told apart."""

    index: int
    name: str
    type: Type


@dataclass(frozen=True)
class Immediate:
    """A number. `kind` is integer, f32 or f64; the bits of a float are in `value`."""

    kind: str
    value: int


@dataclass(frozen=True)
class Variable:
    """Named memory: `space` is param, shared, local, global or const, `offset` in bytes from the start of what is
    declared in that space. `size` is None for an array whose size the launch gives."""

    name: str
    space: str
    offset: int
    size: int | None
    alignment: int


@dataclass(frozen=True)
class Special:
    """A register that the hardware sets, such as %tid.x."""

    name: str


@dataclass(frozen=True)
class Vector:
    """{a, b, ...}."""

    elements: tuple


@dataclass(frozen=True)
class Address:
    """[base + offset], of a register, a variable or a number."""

    base: object
    offset: int


@dataclass(frozen=True)
class Pair:
    """p|q, the two results of setp and shfl."""

    first: object
    second: object


@dataclass(frozen=True)
class Inverted:
    """!p."""

    predicate: Register


@dataclass(frozen=True)
class Discarded:
    """_, the result that nobody wants."""


@dataclass(frozen=True)
class Name:
    """A label or a function."""

    name: str


@dataclass(frozen=True)
class Instruction:
    """One statement, of `opcode` with the words after its dots, under the guard `@p` or `@!p`."""

    text: str
    guard: Register | None
    guard_inverted: bool
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple

    @property
    def mnemonic(self):
        return ".".join((self.opcode, *self.modifiers))


@dataclass
class Function:
    """An entry or a device function. Labels are indices of instructions; `sizes` holds the bytes that are declared in
    each space."""

    name: str
    is_entry: bool
    parameters: list[Variable] = field(default_factory=list)
    results: list[Variable] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=lambda: {"param": 0, "shared": 0, "local": 0})
    max_threads: int | None = None
    required_threads: int | None = None
