"""Small kernels, written in PTX, for what threads, memory and control flow do; and those that do something wrong.

In each, %r0 is the thread's number in the grid, %r1 its number in the block, and the parameters are pointers, of which
%rd0, %rd1, ... are the values.
"""

from __future__ import annotations

import numpy as np

from tests.support.cuda import ptx
from tests.support.cuda.ptx_snippets import HEADER

_REGISTERS = """
.reg .pred %p<8>;
.reg .b16 %h<8>;
.reg .b32 %r<16>;
.reg .f32 %f<8>;
.reg .b64 %rd<16>;
.reg .f64 %fd<8>;
"""
_INDEX = """
mov.u32 %r1, %tid.x;
mov.u32 %r2, %ctaid.x;
mov.u32 %r3, %ntid.x;
mad.lo.s32 %r0, %r2, %r3, %r1;
"""
# Adds the number of the thread times the size of an element to a pointer.
AT = "mul.wide.u32 %rd15, %r0, {size};\nadd.u64 {pointer}, {pointer}, %rd15;\n"


def at(pointer, size):
    """Lines that move a pointer to the thread's element."""
    return AT.format(pointer=pointer, size=size)


def _kernel(pointers, body, declarations="", before="", name="kernel"):
    parameters = ", ".join(f".param .u64 pointer_{i}" for i in range(pointers))
    load = "".join(f"ld.param.u64 %rd{i}, [pointer_{i}];\n" for i in range(pointers))
    body = f"{_REGISTERS}{declarations}{_INDEX}{load}{body}\nret;"
    return f"{HEADER}{before}\n.visible .entry {name}({parameters})\n{{{body}\n}}\n"


def run(text, grid, block, arrays, name="kernel", **options):
    """Runs a kernel with pointers to copies of arrays; returns the arrays as they are afterwards."""
    memory = ptx.Memory()
    pointers = [memory.put(array, name=f"array {i}") for i, array in enumerate(arrays)]
    ptx.launch(ptx.Kernel(ptx.parse(text), name), grid, block, [np.uint64(p) for p in pointers], memory, **options)
    return [memory.get(p, a.dtype, a.size) for p, a in zip(pointers, arrays, strict=True)]


def _vector(kind, count, size):
    registers = {"u8": "%r", "u16": "%h", "u32": "%r", "f32": "%f", "u64": "%rd", "f64": "%fd"}[kind]
    first = 4
    names = ", ".join(f"{registers}{first + j}" for j in range(count))
    operand = f"{{{names}}}" if count > 1 else names
    vector = f".v{count}" if count > 1 else ""
    body = at("%rd0", size * count) + at("%rd1", size * count)
    return body + f"ld.global{vector}.{kind} {operand}, [%rd0];\nst.global{vector}.{kind} [%rd1], {operand};\n"


VECTORS = [
    (kind, count, int(kind[1:]) // 8)
    for kind in ("u8", "u16", "u32", "f32", "u64", "f64")
    for count in (1, 2, 4)
    if int(kind[1:]) * count <= 128
]
# What makes no difference to an interpreter.
LOADS = [
    "ld.volatile.global",
    "ld.global.nc",
    "ld.global.cg",
    "ld.global.L1::no_allocate",
    "ld.relaxed.gpu.global",
    "ld",
]
STORES = ["st.volatile.global", "st.global.cs", "st.global.wt", "st.release.gpu.global", "st"]

_WRITE_R4 = at("%rd0", 4) + "st.global.u32 [%rd0], %r4;\n"
_FUNCTIONS = """
.func (.param .b64 result) twice(.param .b64 x)
{
.reg .b64 %rd<4>;
ld.param.u64 %rd1, [x];
add.u64 %rd2, %rd1, %rd1;
st.param.b64 [result], %rd2;
ret;
}
.func (.param .b64 result) quadruple_above_ten(.param .b64 x, .param .align 8 .b8 limits[16])
{
.reg .b64 %rd<8>;
.reg .pred %p1;
ld.param.u64 %rd1, [x];
ld.param.u64 %rd2, [limits+8];
setp.lt.u64 %p1, %rd1, %rd2;
mov.u64 %rd3, %rd1;
@%p1 bra $done;
{
.param .b64 argument;
.param .b64 back;
st.param.b64 [argument], %rd1;
call.uni (back), twice, (argument);
ld.param.b64 %rd3, [back];
}
{
.param .b64 argument;
.param .b64 back;
st.param.b64 [argument+0], %rd3;
call.uni (back), twice, (argument);
ld.param.b64 %rd3, [back+0];
}
$done:
st.param.b64 [result], %rd3;
ret;
}
"""

KERNELS = {
    **{f"ld.v{count}.{kind}": _kernel(2, _vector(kind, count, size)) for kind, count, size in VECTORS},
    **{
        load: _kernel(2, at("%rd0", 4) + at("%rd1", 4) + f"{load}.u32 %r4, [%rd0];\nst.global.u32 [%rd1], %r4;\n")
        for load in LOADS
    },
    **{
        store: _kernel(2, at("%rd0", 4) + at("%rd1", 4) + f"ld.global.u32 %r4, [%rd0];\n{store}.u32 [%rd1], %r4;\n")
        for store in STORES
    },
    "ld.s8 extends": _kernel(
        2, at("%rd0", 1) + at("%rd1", 4) + "ld.global.s8 %r4, [%rd0];\nst.global.u32 [%rd1], %r4;\n"
    ),
    "st.u8 cuts": _kernel(2, at("%rd0", 4) + at("%rd1", 1) + "ld.global.u32 %r4, [%rd0];\nst.global.u8 [%rd1], %r4;\n"),
    # A load at a distance of i 2^31 bytes from a pointer.
    "far": _kernel(
        2,
        at("%rd1", 4)
        + """
cvt.u64.u32 %rd2, %r0;
shl.b64 %rd2, %rd2, 31;
add.s64 %rd0, %rd0, %rd2;
ld.global.u32 %r4, [%rd0+-8];
st.global.u32 [%rd1], %r4;
""",
    ),
    "parameter table": HEADER
    + """
.visible .entry kernel(.param .align 8 .b8 table[48], .param .u64 out)
{
.reg .b32 %r<8>;
.reg .b64 %rd<8>;
mov.u32 %r1, %tid.x;
mov.b64 %rd1, table;
mul.wide.u32 %rd2, %r1, 8;
add.s64 %rd3, %rd1, %rd2;
ld.param.u64 %rd4, [%rd3];
ld.param.u8 %r2, [table+40];
cvt.u64.u32 %rd5, %r2;
add.s64 %rd4, %rd4, %rd5;
ld.param.u64 %rd6, [out];
add.s64 %rd6, %rd6, %rd2;
st.global.u64 [%rd6], %rd4;
ret;
}
""",
    "module variables": HEADER
    + """
.const .align 4 .b8 table[16] = {0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64};
.const .align 8 .f64 half = 0d3FE0000000000000;
.global .align 4 .u32 counter = 5;
.visible .entry kernel(.param .u64 out)
{
.reg .b32 %r<4>;
.reg .f32 %f<4>;
.reg .f64 %fd<4>;
.reg .b64 %rd<4>;
ld.param.u64 %rd1, [out];
mov.u64 %rd2, table;
ld.const.f32 %f1, [%rd2+8];
ld.const.f64 %fd1, [half];
cvt.rn.f32.f64 %f2, %fd1;
add.f32 %f1, %f1, %f2;
st.global.f32 [%rd1], %f1;
ld.global.u32 %r1, [counter];
add.s32 %r1, %r1, 1;
st.global.u32 [counter], %r1;
st.global.u32 [%rd1+4], %r1;
ret;
}
""",
    # Each thread writes an array of its own, and reads an element that it computes.
    "local": _kernel(
        1,
        """
mov.u64 %rd1, depot;
cvta.local.u64 %rd2, %rd1;
st.local.v4.u32 [%rd1], {%r0, 7, 8, %r1};
and.b32 %r5, %r0, 3;
mul.wide.u32 %rd3, %r5, 4;
add.s64 %rd2, %rd2, %rd3;
ld.u32 %r4, [%rd2];
"""
        + _WRITE_R4,
        ".local .align 16 .b8 depot[16];\n",
    ),
    # Static and dynamic shared memory: each thread reads what another wrote.
    "shared": _kernel(
        1,
        """
mov.u32 %r5, dynamic;
shl.b32 %r6, %r1, 2;
add.s32 %r7, %r5, %r6;
st.shared.u32 [%r7], %r0;
mov.u64 %rd1, fixed;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
cvta.shared.u64 %rd3, %rd3;
st.u32 [%rd3], %r1;
bar.sync 0;
xor.b32 %r8, %r6, 252;
add.s32 %r9, %r5, %r8;
ld.shared.u32 %r10, [%r9];
cvt.u64.u32 %rd4, %r8;
add.s64 %rd5, %rd1, %rd4;
ld.shared.u32 %r11, [%rd5];
shl.b32 %r11, %r11, 16;
add.s32 %r4, %r10, %r11;
"""
        + _WRITE_R4,
        ".shared .align 4 .b8 fixed[256];\n",
        ".extern .shared .align 16 .b8 dynamic[];\n",
    ),
    "spaces": _kernel(
        1,
        """
mov.u64 %rd1, fixed;
cvta.shared.u64 %rd1, %rd1;
mov.u64 %rd2, depot;
cvta.local.u64 %rd2, %rd2;
isspacep.shared %p0, %rd1;
isspacep.global %p1, %rd1;
isspacep.local %p2, %rd2;
isspacep.global %p3, %rd0;
cvta.to.global.u64 %rd3, %rd0;
cvta.global.u64 %rd3, %rd3;
setp.eq.u64 %p4, %rd3, %rd0;
selp.u32 %r4, 1, 0, %p0;
selp.u32 %r5, 2, 0, %p1;
selp.u32 %r6, 4, 0, %p2;
selp.u32 %r7, 8, 0, %p3;
selp.u32 %r8, 16, 0, %p4;
or.b32 %r4, %r4, %r5;
or.b32 %r4, %r4, %r6;
or.b32 %r4, %r4, %r7;
or.b32 %r4, %r4, %r8;
"""
        + _WRITE_R4,
        ".shared .align 4 .b32 fixed;\n.local .align 4 .b32 depot;\n",
    ),
    # The number of steps of the Collatz sequence: loops of different lengths with a branch inside.
    "collatz": _kernel(
        1,
        """
add.s32 %r5, %r0, 1;
mov.u32 %r4, 0;
$loop:
setp.eq.u32 %p0, %r5, 1;
@%p0 bra $end;
and.b32 %r6, %r5, 1;
setp.eq.u32 %p1, %r6, 0;
@!%p1 bra $odd;
shr.u32 %r5, %r5, 1;
bra.uni $next;
$odd:
mad.lo.s32 %r5, %r5, 3, 1;
$next:
add.s32 %r4, %r4, 1;
bra $loop;
$end:
"""
        + _WRITE_R4,
    ),
    "guards": _kernel(
        1,
        """
setp.lt.u32 %p0, %r1, 10;
mov.u32 %r4, 1;
@%p0 mov.u32 %r4, 2;
@!%p0 add.s32 %r4, %r4, 5;
setp.eq.u32 %p1, %r1, 3;
@%p1 exit;
"""
        + _WRITE_R4,
    ),
    "calls": _kernel(
        1,
        """
cvt.u64.u32 %rd2, %r0;
mov.u64 %rd3, 99;
setp.eq.u32 %p0, %r1, 5;
@%p0 bra $skip;
{
.reg .b32 temp_param_reg;
.param .b64 param0;
.param .align 8 .b8 param1[16];
.param .b64 retval0;
st.param.b64 [param0+0], %rd2;
st.param.v2.u64 [param1+0], {%rd2, 10};
call.uni (retval0), quadruple_above_ten, (param0, param1);
ld.param.b64 %rd3, [retval0+0];
}
$skip:
cvt.u32.u64 %r5, %rd3;
// All lanes are here again.
shfl.sync.bfly.b32 %r4, %r5, 1, 31, -1;
"""
        + _WRITE_R4,
        before=_FUNCTIONS,
    ),
    "specials": _kernel(
        1,
        """
mov.u32 %r5, %tid.y;
mov.u32 %r6, %ctaid.y;
mov.u32 %r7, %ntid.y;
mov.u32 %r8, %nctaid.x;
mov.u32 %r9, %laneid;
mov.u32 %r10, %tid.z;
mov.u32 %r11, %ctaid.z;
// The number of the thread in a grid of three dimensions.
mov.u32 %r12, %nctaid.y;
mad.lo.s32 %r13, %r11, %r12, %r6;
mad.lo.s32 %r13, %r13, %r8, %r2;
mov.u32 %r12, %ntid.z;
mad.lo.s32 %r13, %r13, %r12, %r10;
mad.lo.s32 %r13, %r13, %r7, %r5;
mad.lo.s32 %r0, %r13, %r3, %r1;
mad.lo.s32 %r4, %r9, 1000, %r0;
"""
        + _WRITE_R4,
    ),
    **{
        f"lanemask_{which}": _kernel(1, f"mov.u32 %r4, %lanemask_{which};\n" + _WRITE_R4)
        for which in ("eq", "lt", "le", "gt", "ge")
    },
    # The sum of a block, by shuffles and shared memory.
    "block sum": _kernel(
        2,
        at("%rd0", 4)
        + """
ld.global.f32 %f0, [%rd0];
"""
        + "".join(
            f"mov.b32 %r5, %f0;\nshfl.sync.down.b32 %r6|%p1, %r5, {o}, 31, -1;\n"
            "mov.b32 %f1, %r6;\nadd.f32 %f0, %f0, %f1;\n"
            for o in (16, 8, 4, 2, 1)
        )
        + """
and.b32 %r7, %r1, 31;
shr.u32 %r8, %r1, 5;
mul.wide.u32 %rd2, %r8, 4;
mov.u64 %rd3, sums;
add.s64 %rd3, %rd3, %rd2;
setp.eq.u32 %p2, %r7, 0;
@%p2 st.shared.f32 [%rd3], %f0;
bar.sync 0;
setp.ne.u32 %p3, %r1, 0;
@%p3 bra $end;
ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [sums];
add.f32 %f1, %f1, %f2;
add.f32 %f1, %f1, %f3;
add.f32 %f1, %f1, %f4;
mul.wide.u32 %rd4, %r2, 4;
add.s64 %rd1, %rd1, %rd4;
st.global.f32 [%rd1], %f1;
$end:
""",
        ".shared .align 16 .b8 sums[16];\n",
    ),
    **{
        f"shfl.{mode} {arguments}": _kernel(
            2,
            at("%rd1", 4)
            + f"""
mul.lo.s32 %r5, %r0, 3;
shfl.sync.{mode}.b32 %r4|%p0, %r5, {arguments}, -1;
selp.u32 %r6, 1, 0, %p0;
st.global.u32 [%rd1], %r6;
"""
            + _WRITE_R4,
        )
        for mode, arguments in (
            ("up", "3, 0"),
            ("up", "1, 0x1800"),
            ("down", "5, 31"),
            ("down", "2, 0x181f"),
            ("bfly", "16, 31"),
            ("bfly", "4, 0x1c1f"),
            ("idx", "7, 31"),
            ("idx", "2, 0x181f"),
        )
    },
    "votes": _kernel(
        1,
        """
setp.lt.u32 %p0, %r1, 20;
vote.sync.any.pred %p1, %p0, -1;
vote.sync.all.pred %p2, %p0, -1;
vote.sync.uni.pred %p3, !%p0, -1;
vote.sync.ballot.b32 %r5, %p0, -1;
selp.u32 %r6, 1, 0, %p1;
selp.u32 %r7, 2, 0, %p2;
selp.u32 %r8, 4, 0, %p3;
or.b32 %r6, %r6, %r7;
or.b32 %r6, %r6, %r8;
popc.b32 %r5, %r5;
mad.lo.s32 %r4, %r5, 8, %r6;
@!%p0 bra $end;
activemask.b32 %r9;
popc.b32 %r9, %r9;
mad.lo.s32 %r4, %r9, 1000, %r4;
$end:
"""
        + _WRITE_R4,
    ),
    "block votes": _kernel(
        1,
        """
setp.eq.u32 %p0, %r0, 70;
bar.red.popc.u32 %r5, 0, !%p0;
bar.red.or.pred %p1, 0, %p0;
bar.red.and.pred %p2, 0, !%p0;
selp.u32 %r6, 1000, 0, %p1;
selp.u32 %r7, 2000, 0, %p2;
add.s32 %r4, %r5, %r6;
add.s32 %r4, %r4, %r7;
"""
        + _WRITE_R4,
    ),
    # Only with the barrier of the warp may a lane read what another wrote.
    "warp barrier": _kernel(
        1,
        """
shl.b32 %r5, %r1, 2;
mov.u32 %r6, fixed;
add.s32 %r7, %r6, %r5;
st.shared.u32 [%r7], %r0;
bar.warp.sync -1;
xor.b32 %r8, %r5, 4;
add.s32 %r9, %r6, %r8;
ld.shared.u32 %r4, [%r9];
bar.warp.sync -1;
st.shared.u32 [%r7], 0;
"""
        + _WRITE_R4,
        ".shared .align 4 .b8 fixed[256];\n",
    ),
    # The last block to arrive adds up what all blocks wrote.
    "last block": _kernel(
        2,
        """
mul.wide.u32 %rd2, %r2, 4;
add.s64 %rd3, %rd0, %rd2;
add.s32 %r4, %r2, 1;
st.global.u32 [%rd3], %r4;
membar.gl;
mov.u32 %r5, %nctaid.x;
add.s32 %r6, %r5, -1;
atom.global.inc.u32 %r7, [%rd1], %r6;
setp.ne.u32 %p0, %r7, %r6;
@%p0 bra $end;
mov.u32 %r8, 0;
mov.u32 %r9, 0;
$loop:
ld.volatile.global.u32 %r10, [%rd0];
add.s32 %r9, %r9, %r10;
add.s64 %rd0, %rd0, 4;
add.s32 %r8, %r8, 1;
setp.lt.u32 %p1, %r8, %r5;
@%p1 bra $loop;
st.global.u32 [%rd1+4], %r9;
$end:
""",
    ),
}


def _atomic(name, kind):
    register = {"32": "%r", "64": "%rd"}[kind[1:]] if kind[0] != "f" else {"f32": "%f", "f64": "%fd"}[kind]
    size = int(kind[1:]) // 8
    plain = f"b{kind[1:]}"
    compare = f"{register}5, " if name == "cas" else ""
    return _kernel(
        3,
        at("%rd1", size)
        + at("%rd2", size)
        + f"""
ld.global.{plain} {register}4, [%rd1];
{"" if name != "cas" else f"mov.{plain} {register}5, 3;"}
atom.global.{name}.{kind} {register}6, [%rd0], {compare}{register}4;
st.global.{plain} [%rd2], {register}6;
"""
        + ("" if name in ("cas", "exch") else f"red.global.{name}.{kind} [%rd0+{size}], {register}4;\n"),
    )


ATOMICS = [
    *(("add", kind) for kind in ("u32", "s32", "u64", "f32", "f64")),
    *((name, kind) for name in ("and", "or", "xor", "exch", "cas") for kind in ("b32", "b64")),
    *((name, kind) for name in ("min", "max") for kind in ("u32", "s32", "u64", "s64")),
    ("inc", "u32"),
    ("dec", "u32"),
]
KERNELS |= {f"atom.{name}.{kind}": _atomic(name, kind) for name, kind in ATOMICS}
KERNELS["atom.shared"] = _kernel(
    1,
    """
setp.eq.u32 %p0, %r1, 0;
@%p0 st.shared.u32 [cell], 100;
bar.sync 0;
atom.shared.add.u32 %r5, [cell], %r1;
bar.sync 0;
ld.shared.u32 %r4, [cell];
"""
    + _WRITE_R4,
    ".shared .align 4 .u32 cell;\n",
)

# Kernels that are wrong: the error, and what its message says.
WRONG = {
    "beyond the end": (ptx.OutOfBounds, "outside, 264 bytes", at("%rd0", 4) + "ld.global.u32 %r4, [%rd0+12];"),
    "before the start": (ptx.OutOfBounds, "4-byte store", at("%rd0", 4) + "st.global.u32 [%rd0+-4], %r1;"),
    "half outside": (
        ptx.OutOfBounds,
        "outside, 256 bytes",
        at("%rd0", 8) + "setp.ne.u32 %p0, %r0, 32;\n@%p0 exit;\nld.global.v2.u64 {%rd1, %rd2}, [%rd0];",
    ),
    "misaligned word": (ptx.Misaligned, "4-byte access", at("%rd0", 4) + "ld.global.u32 %r4, [%rd0+2];"),
    "misaligned vector": (
        ptx.Misaligned,
        "16-byte access",
        at("%rd0", 8) + "setp.lt.u32 %p0, %r0, 8;\n@%p0 ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd0];",
    ),
    "misaligned shared": (ptx.Misaligned, "8-byte access at shared", "st.shared.u64 [fixed+4], 1;"),
    "outside shared": (
        ptx.OutOfBounds,
        "of 256",
        "mov.u64 %rd1, fixed;\nst.shared.u32 [%rd1+256], 1;",
    ),
    "outside local": (ptx.OutOfBounds, "local", "mov.u64 %rd1, depot;\nst.local.u32 [%rd1+-4], 1;"),
    "global race": (ptx.Race, "wrote the same global memory", "st.global.u32 [%rd0], %r0;"),
    "global race of blocks": (
        ptx.Race,
        "thread number 64 of the grid",
        "mul.wide.u32 %rd1, %r1, 4;\nadd.s64 %rd0, %rd0, %rd1;\nst.global.u32 [%rd0], %r0;",
    ),
    "global race of a half word": (
        ptx.Race,
        "wrote the same global memory",
        at("%rd0", 4) + "st.global.u32 [%rd0], %r0;\nxor.b32 %r4, %r0, 1;\nmul.wide.u32 %rd1, %r4, 4;\n"
        "mul.wide.u32 %rd2, %r0, 4;\nsub.s64 %rd0, %rd0, %rd2;\nadd.s64 %rd0, %rd0, %rd1;\n"
        "mov.b16 %h0, 1;\nst.global.b16 [%rd0+2], %h0;",
    ),
    "ld.nc of what was written": (
        ptx.Race,
        "ld.nc",
        at("%rd0", 4) + "st.global.u32 [%rd0], %r0;\nld.global.nc.u32 %r4, [%rd0];",
    ),
    "missing barrier": (
        ptx.Race,
        "without a barrier",
        "mul.wide.u32 %rd1, %r1, 4;\nmov.u64 %rd2, fixed;\nadd.s64 %rd1, %rd1, %rd2;\nst.shared.u32 [%rd1], %r0;\n"
        "xor.b32 %r4, %r1, 32;\nmul.wide.u32 %rd3, %r4, 4;\nadd.s64 %rd2, %rd2, %rd3;\nld.shared.u32 %r5, [%rd2];",
    ),
    "missing barrier in a warp": (
        ptx.Race,
        "without a barrier",
        "mul.wide.u32 %rd1, %r1, 4;\nmov.u64 %rd2, fixed;\nadd.s64 %rd1, %rd1, %rd2;\nst.shared.u32 [%rd1], %r0;\n"
        "xor.b32 %r4, %r1, 1;\nmul.wide.u32 %rd3, %r4, 4;\nadd.s64 %rd2, %rd2, %rd3;\nld.shared.u32 %r5, [%rd2];",
    ),
    "missing barrier before a write": (
        ptx.Race,
        "without a barrier",
        "setp.eq.u32 %p0, %r1, 0;\n@%p0 st.shared.u32 [fixed], 1;\nbar.sync 0;\nld.shared.u32 %r4, [fixed];\n"
        "@%p0 st.shared.u32 [fixed], 2;",
    ),
    "two writers in one instruction": (ptx.Race, "without a barrier", "st.shared.u32 [fixed], %r1;"),
    "an atomic beside a plain store": (
        ptx.Race,
        "an atomic operation",
        "setp.eq.u32 %p0, %r1, 0;\n@%p0 st.shared.u32 [fixed], 1;\natom.shared.add.u32 %r4, [fixed], 1;",
    ),
    "register read first": (ptx.Uninitialised, "a register", "add.s32 %r4, %r5, 1;"),
    "register of some threads": (
        ptx.Uninitialised,
        "thread 3 of block 0",
        "setp.lt.u32 %p0, %r0, 3;\n@%p0 mov.u32 %r5, 1;\nadd.s32 %r4, %r5, 1;",
    ),
    "shared memory read first": (ptx.Uninitialised, "shared memory", "ld.shared.u32 %r4, [fixed];"),
    "local memory read first": (ptx.Uninitialised, "local memory", "ld.local.u32 %r4, [depot];"),
    "barrier in a branch": (
        ptx.Divergence,
        "not every thread of the block",
        "setp.lt.u32 %p0, %r1, 32;\n@%p0 bra $end;\nbar.sync 0;\n$end:",
    ),
    "barrier after an exit": (ptx.Divergence, "not every thread", "setp.eq.u32 %p0, %r1, 5;\n@%p0 exit;\nbar.sync 0;"),
    "two barriers": (
        ptx.Divergence,
        "not every thread",
        "setp.lt.u32 %p0, %r1, 32;\n@%p0 bra $one;\nbar.sync 0;\nbra $end;\n$one:\nbar.sync 0;\n$end:",
    ),
    "shuffle in a branch": (
        ptx.Divergence,
        "do not execute this together",
        "setp.lt.u32 %p0, %r1, 16;\n@%p0 shfl.sync.bfly.b32 %r4, %r1, 16, 31, -1;",
    ),
    "shuffle from a lane beyond the mask": (
        ptx.Divergence,
        "a lane that is not active",
        "setp.lt.u32 %p0, %r1, 16;\n@%p0 shfl.sync.bfly.b32 %r4, %r1, 16, 31, 0xffff;",
    ),
    "vote in a branch": (
        ptx.Divergence,
        "do not execute this together",
        "setp.lt.u32 %p0, %r1, 16;\n@%p0 vote.sync.any.pred %p1, %p0, -1;",
    ),
    "warp barrier in a branch": (
        ptx.Divergence,
        "do not execute this together",
        "setp.lt.u32 %p0, %r1, 16;\n@%p0 bar.warp.sync -1;",
    ),
    "division by zero": (ptx.PTXError, "division by zero", "mov.u32 %r4, 0;\ndiv.u32 %r4, %r1, %r4;"),
    "trap": (ptx.PTXError, "trap", "trap;"),
}
_SHARED_AND_LOCAL = ".shared .align 8 .b8 fixed[256];\n.local .align 8 .b8 depot[16];\n"
WRONG_KERNELS = {name: _kernel(1, row[2] + "\n", _SHARED_AND_LOCAL) for name, row in WRONG.items()}
KERNELS |= {f"wrong: {name}": text for name, text in WRONG_KERNELS.items()}
