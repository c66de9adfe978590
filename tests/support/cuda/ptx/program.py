"""A kernel with all functions that it calls, decoded, as one list of steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import atomics, bits, conversion, data_movement, floating_point, integers, warps  # noqa: F401  (decoders)
from .decoding import decode
from .syntax import Address, Instruction, Name, Register, Variable, Vector
from .types import TYPES, unsigned

# These are executed by the launch itself: they change which threads run.
_CONTROL = ("bra", "ret", "exit", "call", "bar", "barrier", "trap")
_RETURN = Instruction("ret", None, False, "ret", (), ())


@dataclass
class Step:
    """One instruction, decoded. `kind` is "plain", or what of control flow it is."""

    kind: str
    instruction: object
    function: str
    # The register of the guard, or None.
    guard: int | None
    inverted: bool
    execute: object = None
    target: int | None = None


@dataclass
class Call:
    """What a call does to registers: `arguments` and `results` are pairs of source and target, `fresh` are the
    registers of the callee, undefined at its start."""

    function: str
    arguments: list[tuple[int, int]]
    results: list[tuple[int, int]]
    fresh: range


class Program:
    """`steps` and labels of a kernel. Called functions stand before their callers, since of all threads those at the
    lowest step run first: so the threads of a call come back before others go on without them."""

    def __init__(self, module, name):
        self.module = module
        self.kernel = module[name]
        if not self.kernel.is_entry:
            raise NotImplementedError(f"{name} is no kernel")
        self.steps: list[Step] = []
        # Variables of the module that the kernel uses.
        self.variables: set[str] = set()
        self.register_count = 0
        self.local_size = 0
        self._starts: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self._parameter_registers: dict[tuple[str, str, int], dict[tuple[int, int], int]] = {}
        self._bases: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self.return_slots: dict[str, int] = {}
        self._function = None
        order = []
        self._visit(name, order, ())
        for each in order:
            self._place(module[each])
        for each in order:
            self._add(module[each])
        self.start = self._starts[name]
        self.shared_size = self.kernel.sizes["shared"]

    def _visit(self, name, order, path):
        if name in path:
            raise NotImplementedError(f"{name} calls itself")
        if name in order:
            return
        for instruction in self.module[name].instructions:
            if instruction.opcode == "call":
                self._visit(_callee(instruction), order, (*path, name))
        order.append(name)

    def _place(self, function):
        """Gives a function its registers, local memory and the registers that stand for its parameters."""
        self._bases[function.name] = self.register_count
        self.register_count += len(function.registers)
        if not function.is_entry and function.sizes["shared"]:
            raise NotImplementedError(f"{function.name}: shared memory of a function")
        self._offsets[function.name] = self.local_size
        self.local_size += -(-function.sizes["local"] // 16) * 16
        # Parameters of functions are never in memory here: each piece that is stored or loaded is a register.
        for instruction in function.instructions:
            for variable, offset, size in _parameter_accesses(instruction, function):
                pieces = self._parameter_registers.setdefault((function.name, variable.name, variable.offset), {})
                if (offset, size) not in pieces:
                    pieces[offset, size] = self.register_count
                    self.register_count += 1
        self._ends[function.name] = self.register_count
        self.return_slots[function.name] = len(self.return_slots)

    def _add(self, function):
        self._function = function
        self._starts[function.name] = first = len(self.steps)
        base = self._bases[function.name]
        for instruction in function.instructions:
            guard = None if instruction.guard is None else base + instruction.guard.index
            kind = instruction.opcode if instruction.opcode in _CONTROL else "plain"
            step = Step(kind, instruction, function.name, guard, instruction.guard_inverted)
            if kind == "plain":
                step.execute = self._decode(instruction, base)
            elif kind == "bra":
                step.target = first + function.labels[self._label(instruction)]
            elif kind == "call":
                step.execute = self._call(instruction)
                step.target = self._starts[step.execute.function]
            elif kind in ("bar", "barrier"):
                step.execute = warps.decode_barrier(instruction, base, self)
            elif kind in ("ret", "exit", "trap") and (instruction.operands or set(instruction.modifiers) - {"uni"}):
                raise NotImplementedError(instruction.text)
            self.steps.append(step)
        # A function whose last statement falls off its end returns.
        self.steps.append(Step("ret", replace(_RETURN, text=f"the end of {function.name}"), function.name, None, False))

    def _label(self, instruction):
        if set(instruction.modifiers) - {"uni"} or not isinstance(instruction.operands[0], Name):
            raise NotImplementedError(instruction.text)
        return instruction.operands[0].name

    def _decode(self, instruction, base):
        pieces = _parameter_accesses(instruction, self._function)
        if not pieces:
            return decode(instruction, base, self)
        # ld.param and st.param of a function's parameter are moves between registers.
        variable = pieces[0][0]
        slots = self._parameter_registers[self._function.name, variable.name, variable.offset]
        kind = TYPES[instruction.modifiers[-1]]
        moves = []
        loads = instruction.opcode == "ld"
        for (_, offset, size), operand in zip(pieces, _elements(instruction.operands[0 if loads else 1]), strict=True):
            place = Register(slots[offset, size] - base, f"{variable.name}+{offset}", unsigned(8 * size))
            operands = (operand, place) if loads else (place, operand)
            move = replace(instruction, opcode="mov", modifiers=(f"b{kind.bits}",), operands=operands)
            moves.append(decode(move, base, self))

        def execute(run, active):
            for move in moves:
                move(run, active)

        return execute

    def _call(self, instruction):
        if set(instruction.modifiers) - {"uni"}:
            raise NotImplementedError(instruction.text)
        results, arguments = _call_lists(instruction)
        callee = self.module[_callee(instruction)]
        if len(results) != len(callee.results) or len(arguments) != len(callee.parameters):
            raise NotImplementedError(f"another number of arguments: {instruction.text}")
        fresh = range(self._bases[callee.name], self._ends[callee.name])
        return Call(
            callee.name,
            self._pairs(instruction, self._function.name, arguments, callee.name, callee.parameters),
            self._pairs(instruction, callee.name, callee.results, self._function.name, results),
            fresh,
        )

    def _pairs(self, instruction, source_function, sources, target_function, targets):
        """What the target reads must be what the source wrote, piece by piece."""
        pairs = []
        for source, target in zip(sources, targets, strict=True):
            given = self._parameter_registers.get((source_function, source.name, source.offset), {})
            wanted = self._parameter_registers.get((target_function, target.name, target.offset), {})
            for piece, register in wanted.items():
                if piece not in given:
                    raise NotImplementedError(f"a parameter that is read in other pieces: {instruction.text}")
                pairs.append((given[piece], register))
        return pairs

    def offset(self, variable):
        """The offset of a variable of the function that is being decoded, in its space."""
        if variable.space == "param":
            if not self._function.is_entry or variable not in self._function.parameters:
                raise NotImplementedError(f"{self._function.name}: the address of parameter {variable.name}")
            return variable.offset
        return variable.offset + (self._offsets[self._function.name] if variable.space == "local" else 0)

    def dynamic_shared_offset(self, alignment):
        """Where the shared memory that the launch gives begins."""
        return -(-self.kernel.sizes["shared"] // alignment) * alignment


def _elements(operand):
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _parameter_accesses(instruction, function):
    """(variable, offset, size) of each element that an instruction loads or stores of a function's parameter."""
    if instruction.opcode not in ("ld", "st") or "param" not in instruction.modifiers:
        return []
    address = instruction.operands[1 if instruction.opcode == "ld" else 0]
    if not (isinstance(address, Address) and isinstance(address.base, Variable)):
        return []
    if function.is_entry and address.base in function.parameters:
        return []
    if set(instruction.modifiers[:-1]) - {"param", "v2", "v4"}:
        raise NotImplementedError(instruction.text)
    kind = TYPES[instruction.modifiers[-1]]
    count = len(_elements(instruction.operands[0 if instruction.opcode == "ld" else 1]))
    return [(address.base, address.offset + j * kind.size, kind.size) for j in range(count)]


def _call_lists(instruction):
    """Results and arguments of a call: (results), function, (arguments), both of which may be missing."""
    results = arguments = ()
    for at, operand in enumerate(instruction.operands):
        if isinstance(operand, Vector):
            if at == 0:
                results = operand.elements
            else:
                arguments = operand.elements
    if not all(isinstance(x, Variable) and x.space == "param" for x in (*results, *arguments)):
        raise NotImplementedError(instruction.text)
    return results, arguments


def _callee(instruction):
    for operand in instruction.operands:
        if isinstance(operand, Name):
            return operand.name
    raise NotImplementedError(f"an indirect call: {instruction.text}")
