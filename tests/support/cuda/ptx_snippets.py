"""Rows of the tables of opcodes: a few lines of PTX that compute outputs from inputs, and what they should give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.support.cuda import ptx

HEADER = ".version 8.5\n.target sm_90\n.address_size 64\n"
_SIZES = {"pred": 4, "8": 1, "16": 2, "32": 4, "64": 8}
_BLOCK = 128


def _size(kind):
    return next(size for bits, size in _SIZES.items() if kind.endswith(bits))


def _register_type(kind):
    """PTX has no registers of eight bits that it computes with."""
    if kind == "pred" or (kind[0] == "f" and kind != "f16"):
        return kind
    return f"b{max(8 * _size(kind), 16)}"


@dataclass(frozen=True)
class Snippet:
    """`lines` compute %d (and %e) of the types `outputs` from %a, %b, %c, %s of the types `inputs`.

    `values` has the bits of the inputs, a list for each; `reference` takes those of one case and gives those of the
    output, or a tuple of them. Predicates are 0 and 1.
    """

    name: str
    lines: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Callable[[], Sequence[Sequence[int]]]
    reference: Callable
    # Whether an output is NaN whatever its bits.
    is_nan: Callable[[int], bool] = lambda bits: False

    @property
    def kernel_name(self):
        return "snippet_" + "".join(c if c.isalnum() else "_" for c in self.name)

    def text(self):
        """The kernel: one case a thread."""
        parameters = [f".param .u64 pointer_{i}" for i in range(len(self.inputs) + len(self.outputs))]
        body = [
            ".reg .pred %beyond;",
            ".reg .b32 %index, %count, %block, %size, %flag;",
            ".reg .b64 %address, %offset;",
        ]
        body += [f".reg .{_register_type(kind)} %{name};" for name, kind in self._registers()]
        body += [
            "mov.u32 %index, %tid.x;",
            "mov.u32 %block, %ctaid.x;",
            "mov.u32 %size, %ntid.x;",
            "mad.lo.s32 %index, %block, %size, %index;",
            "ld.param.u32 %count, [count];",
            "setp.ge.u32 %beyond, %index, %count;",
            "@%beyond bra $end;",
        ]
        for i, (name, kind) in enumerate(self._registers()):
            body += [
                f"ld.param.u64 %address, [pointer_{i}];",
                f"mul.wide.u32 %offset, %index, {_size(kind)};",
                "add.u64 %address, %address, %offset;",
            ]
            if i < len(self.inputs):
                body += self._load(name, kind)
                if i == len(self.inputs) - 1:
                    body += self.lines.strip().splitlines()
            else:
                body += self._store(name, kind)
        return f".visible .entry {self.kernel_name}({', '.join(parameters)}, .param .u32 count)\n{{\n" + "\n".join(
            [*body, "$end:", "ret;", "}", ""]
        )

    def _registers(self):
        return [*zip("abcs", self.inputs, strict=False), *zip("de", self.outputs, strict=False)]

    @staticmethod
    def _load(name, kind):
        if kind == "pred":
            return ["ld.global.u32 %flag, [%address];", f"setp.ne.u32 %{name}, %flag, 0;"]
        memory = {"bf16": "b16", "f16": "b16", "b8": "u8"}.get(kind, kind)
        return [f"ld.global.{memory} %{name}, [%address];"]

    @staticmethod
    def _store(name, kind):
        if kind == "pred":
            return [f"selp.u32 %flag, 1, 0, %{name};", "st.global.u32 [%address], %flag;"]
        memory = {"bf16": "b16", "f16": "b16", "b8": "u8"}.get(kind, kind)
        return [f"st.global.{memory} [%address], %{name};"]

    def check(self):
        """Runs the cases in a grid with threads to spare, and in one that is full, and compares all bits."""
        values = [list(column) for column in self.values()]
        wanted = [self.reference(*case) for case in zip(*values, strict=True)]
        wanted = [case if isinstance(case, tuple) else (case,) for case in wanted]
        for full in (False, True):
            count = len(wanted) // _BLOCK * _BLOCK if full else len(wanted)
            got = self._run([column[:count] for column in values], count)
            for case in range(count):
                for output, bits in enumerate(wanted[case]):
                    found = int(got[output][case])
                    same = found == bits or (self.is_nan(found) and self.is_nan(bits))
                    given = ", ".join(f"{column[case]:#x}" for column in values)
                    assert same, f"{self.name} of {given}: {found:#x} instead of {bits:#x}"

    def _run(self, values, count):
        if count == 0:
            return [[] for _ in self.outputs]
        memory = ptx.Memory()
        arrays = [
            np.array(column, object).astype(f"u{_size(kind)}") for column, kind in zip(values, self.inputs, strict=True)
        ]
        pointers = [memory.put(array) for array in arrays]
        pointers += [memory.allocate(_size(kind) * count) for kind in self.outputs]
        kernel = ptx.Kernel(ptx.parse(HEADER + self.text()), self.kernel_name)
        arguments = [np.uint64(pointer) for pointer in pointers] + [np.uint32(count)]
        ptx.launch(kernel, -(-count // _BLOCK), _BLOCK, arguments, memory)
        outputs = zip(pointers[len(self.inputs) :], self.outputs, strict=True)
        return [memory.get(pointer, f"u{_size(kind)}", count) for pointer, kind in outputs]
