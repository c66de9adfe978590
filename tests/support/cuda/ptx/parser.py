"""Reads PTX text. Functions are parsed when they are asked for: a module with every rule and dtype is megabytes."""

from __future__ import annotations

import re
import struct

import numpy as np

from .syntax import (
    Address,
    Discarded,
    Function,
    Immediate,
    Instruction,
    Inverted,
    Name,
    Pair,
    Register,
    Special,
    Variable,
    Vector,
)
from .types import TYPES

_NAME = r"[%$\w]+"
_VARIABLE = re.compile(
    rf"\.(?P<space>param|shared|local|global|const)\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)"
    rf"(?:\s+\.ptr(?:\s+\.(?:global|const|shared|local))?(?:\s+\.align\s+\d+)?)?"
    rf"\s+(?P<name>{_NAME})\s*(?P<array>\[\s*(?P<count>\d*)\s*\])?\s*(?:=\s*(?P<values>.*))?$",
    re.S,
)
_FUNCTION = re.compile(
    rf"(?:\.(?:visible|weak|extern)\s+)*\.(?P<kind>entry|func)\s+(?:\((?P<results>[^)]*)\)\s*)?(?P<name>{_NAME})\s*"
    r"(?:\((?P<parameters>[^)]*)\))?(?P<directives>[^{;]*)(?P<end>[{;])",
    re.S,
)
_INSTRUCTION = re.compile(rf"(?:@(?P<not>!?)(?P<guard>{_NAME})\s+)?(?P<words>[a-z][\w.:]*)\s*(?P<operands>.*)$", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s][^,]*")
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_SPECIAL = re.compile(r"%(?:n?tid|n?ctaid)\.[xyz]$|%(?:laneid|warpid|nwarpid|lanemask_(?:eq|lt|le|gt|ge))$")


def parse(text):
    """The `Module` of a PTX text.

    Raises: NotImplementedError for what the interpreter does not know, here and when a kernel of it is taken.
    """
    return Module(text)


class Module:
    """The functions and variables of one PTX text. `module[name]` is the function of that name."""

    def __init__(self, text):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
        text = re.sub(r"^\s*\.(?:loc|file|version|target|address_size)\b[^\n]*$", "", text, flags=re.M)
        self.variables: dict[str, Variable] = {}
        # The bytes of the .global and .const variables. A launch reads and writes them in place.
        self.memory: dict[str, np.ndarray] = {}
        self.shared: dict[str, str] = {}
        self._headers: dict[str, re.Match] = {}
        self._bodies: dict[str, str] = {}
        self._parsed: dict[str, Function] = {}
        at = 0
        while at := _skip_space(text, at):
            at = self._item(text, at - 1)

    @property
    def entries(self):
        """The names of the kernels, in the order of the text."""
        return [name for name, header in self._headers.items() if header["kind"] == "entry"]

    def __getitem__(self, name):
        if name not in self._parsed:
            if name not in self._bodies:
                raise KeyError(f"{name}: no function with a body; the kernels are {', '.join(self.entries)}")
            self._parsed[name] = _FunctionParser(self, self._headers[name], self._bodies[name]).function
        return self._parsed[name]

    def _item(self, text, at):
        """Takes the item at `at`, and returns where the next one starts."""
        header = _FUNCTION.match(text, at)
        if header:
            if header["end"] == ";":
                return header.end()
            end = _closing_brace(text, header.end())
            self._headers[header["name"]], self._bodies[header["name"]] = header, text[header.end() : end - 1]
            return end
        end = text.find(";", at)
        statement = " ".join(text[at:end].split())
        if end < 0 or not re.match(r"\.(?:visible|weak|extern|global|const|shared)\b", statement):
            raise NotImplementedError(f"PTX item {text[at : at + 80]!r}")
        self._declare(re.sub(r"^(?:\.(?:visible|weak|extern)\s+)+", "", statement))
        return end + 1

    def _declare(self, statement):
        match = _VARIABLE.match(statement)
        if not match:
            raise NotImplementedError(statement)
        kind, size, alignment = _layout(match)
        name = match["name"]
        # A shared array without a size begins where the launch's dynamic memory does; one with a size is of each kernel
        # that uses it.
        if match["space"] == "shared" and size is not None:
            self.shared[name] = statement
            return
        self.variables[name] = Variable(name, match["space"], 0, size, alignment)
        if match["space"] in ("global", "const"):
            if size is None:
                raise NotImplementedError(f"a variable without a size: {statement}")
            # NumPy aligns to 16 bytes, and no type is wider.
            self.memory[name] = np.zeros(max(size, 1), np.uint8)
            raw = _initial_bytes(kind, match["values"] or "")
            if raw is None:
                del self.memory[name]  # Initialised by the address of another: taken only by what is never used here.
            else:
                self.memory[name][: len(raw)] = np.frombuffer(raw, np.uint8)


class _FunctionParser:
    """Parses one function, scope by scope."""

    def __init__(self, module, header, body):
        self._module = module
        self.function = Function(header["name"], header["kind"] == "entry")
        self._scopes: list[dict[str, object]] = [{}]
        self.function.results.extend(self._declare_list(header["results"]))
        self.function.parameters.extend(self._declare_list(header["parameters"]))
        self._directives(header["directives"])
        for name, statement in module.shared.items():
            if self.function.is_entry and re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", body):
                self._declare(statement)
        self._raw = []
        self._body(body)
        # Operands are resolved last: a branch may go forward.
        for scopes, statement in self._raw:
            self.function.instructions.append(self._instruction(scopes, statement))

    def _declare_list(self, text):
        return [self._declare(" ".join(item.split())) for item in (text or "").split(",") if item.strip()]

    def _directives(self, text):
        for name, values in re.findall(r"\.(\w+)\s*([\d,\s]*)", text):
            threads = int(np.prod([int(x) for x in values.split(",")])) if values.strip() else 1
            if name == "maxntid":
                self.function.max_threads = threads
            elif name == "reqntid":
                self.function.required_threads = threads
            elif name not in ("minnctapersm", "maxnreg", "noreturn"):
                raise NotImplementedError(f"{self.function.name}: .{name}")

    def _body(self, text):
        at = 0
        while at := _skip_space(text, at):
            at -= 1
            if text[at] == "{":
                self._scopes.append({})
                at += 1
            elif text[at] == "}":
                self._scopes.pop()
                at += 1
            elif label := re.compile(r"([$%\w]+)\s*:(?!:)").match(text, at):
                if label[1] in self.function.labels:
                    raise NotImplementedError(f"{self.function.name}: label {label[1]} is there twice")
                self.function.labels[label[1]] = len(self._raw)
                at = label.end()
            else:
                end = text.find(";", at)
                if end < 0:
                    raise NotImplementedError(f"{self.function.name}: {text[at : at + 80]!r} has no end")
                self._statement(" ".join(text[at:end].split()))
                at = end + 1

    def _statement(self, text):
        if not text or text.startswith(".pragma"):
            return
        if text.startswith(".reg"):
            self._registers(text)
        elif text.startswith("."):
            self._declare(text)
        else:
            # The scopes of an instruction are those that are open where it stands.
            self._raw.append((tuple(self._scopes), text))

    def _registers(self, text):
        match = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", text)
        if not match or match[1] not in TYPES:
            raise NotImplementedError(text)
        for item in match[2].split(","):
            name, count = re.match(rf"\s*({_NAME})\s*(?:<\s*(\d+)\s*>)?\s*$", item).groups()
            for each in [name] if count is None else [f"{name}{i}" for i in range(int(count))]:
                register = Register(len(self.function.registers), each, TYPES[match[1]])
                self.function.registers.append(register)
                self._scopes[-1][each] = register

    def _declare(self, text):
        match = _VARIABLE.match(text)
        if not match or match["space"] not in self.function.sizes or match["values"]:
            raise NotImplementedError(f"{self.function.name}: {text}")
        _, size, alignment = _layout(match)
        space, name = match["space"], match["name"]
        if size is None:
            raise NotImplementedError(f"{self.function.name}: {text}")
        offset = -(-self.function.sizes[space] // alignment) * alignment
        self.function.sizes[space] = offset + size
        variable = Variable(name, space, offset, size, alignment)
        self._scopes[-1][name] = variable
        return variable

    def _instruction(self, scopes, text):
        match = _INSTRUCTION.match(text)
        if not match:
            raise NotImplementedError(f"{self.function.name}: {text}")
        opcode, *modifiers = match["words"].split(".")
        guard = self._operand(scopes, match["guard"], text) if match["guard"] else None
        operands = tuple(self._operand(scopes, each.strip(), text) for each in _OPERAND.findall(match["operands"]))
        return Instruction(text, guard, match["not"] == "!", opcode, tuple(modifiers), operands)

    def _operand(self, scopes, text, statement):
        if text[0] in "{(":
            elements = [x.strip() for x in text[1:-1].split(",") if x.strip()]
            return Vector(tuple(self._operand(scopes, x, statement) for x in elements))
        if text[0] == "[":
            match = re.match(rf"\[\s*({_NAME})\s*(?:\+\s*(-?\w+))?\s*\]$", text)
            if not match:
                raise NotImplementedError(f"{self.function.name}: address {text} in: {statement}")
            return Address(self._operand(scopes, match[1], statement), int(match[2] or "0", 0))
        if text[0] == "!":
            return Inverted(self._operand(scopes, text[1:].strip(), statement))
        if "|" in text:
            return Pair(*(self._operand(scopes, x.strip(), statement) for x in text.split("|")))
        if text == "_":
            return Discarded()
        if re.match(r"0[fF][0-9a-fA-F]{8}$", text):
            return Immediate("f32", int(text[2:], 16))
        if re.match(r"0[dD][0-9a-fA-F]{16}$", text):
            return Immediate("f64", int(text[2:], 16))
        if _INTEGER.match(text):
            return Immediate("integer", int(text.rstrip("U"), 0))
        for scope in reversed(scopes):
            if text in scope:
                return scope[text]
        if text in self._module.variables:
            return self._module.variables[text]
        if _SPECIAL.match(text):
            return Special(text)
        if text in self.function.labels or text in self._module._headers:
            return Name(text)
        raise NotImplementedError(f"{self.function.name}: operand {text!r} in: {statement}")


def _skip_space(text, at):
    """One more than the index of the next character that is no space, or 0 at the end."""
    found = re.compile(r"\S").search(text, at)
    return found.start() + 1 if found else 0


def _closing_brace(text, at):
    """The index after the brace that closes the one before `at`."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise NotImplementedError("a function without an end")


def _layout(match):
    """Type, size in bytes (None if not given) and alignment of a declaration."""
    kind = TYPES.get(match["type"])
    if kind is None or kind.bits < 8:
        raise NotImplementedError(match[0])
    count = 1 if match["array"] is None else int(match["count"]) if match["count"] else None
    return kind, None if count is None else count * kind.size, int(match["align"] or kind.size)


def _initial_bytes(kind, values):
    """The bytes of an initialiser, or None if it holds an address."""
    raw = b""
    for value in re.findall(r"[^{},\s]+", values):
        if re.match(r"0[fF][0-9a-fA-F]{8}$", value):
            raw += struct.pack("<I", int(value[2:], 16))
        elif re.match(r"0[dD][0-9a-fA-F]{16}$", value):
            raw += struct.pack("<Q", int(value[2:], 16))
        elif _INTEGER.match(value):
            raw += (int(value.rstrip("U"), 0) % (1 << kind.bits)).to_bytes(kind.size, "little")
        else:
            return None
    return raw
