"""What a kernel does wrong is an error that says where; what the PTX interpreter does not know, it refuses."""

import re

import numpy as np
import pytest

from tests.support.cuda import ptx
from tests.support.cuda.ptx_kernels import KERNELS, WRONG, WRONG_KERNELS, run
from tests.support.cuda.ptx_snippets import HEADER


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels(name):
    error, message, body = WRONG[name]
    with pytest.raises(ptx.PTXError, match=message) as caught:
        run(WRONG_KERNELS[name], 2 if "blocks" in name else 1, 64, [np.zeros(66, np.uint32)])
    assert type(caught.value) is error
    where = re.search(r"\(thread \d+ of block \d+, kernel kernel, at: (.*)\)$", str(caught.value))
    assert where, str(caught.value)
    assert where[1] in " ".join(body.split())


def test_the_message_names_thread_and_address():
    memory = ptx.Memory()
    address = memory.put(np.zeros(66, np.uint32), name="gradient of w")
    with pytest.raises(ptx.OutOfBounds) as caught:
        ptx.launch(
            ptx.Kernel(ptx.parse(WRONG_KERNELS["beyond the end"]), "kernel"), 1, 64, [np.uint64(address)], memory
        )
    assert str(caught.value) == (
        f"4-byte load at {address + 264:#x}: outside, 264 bytes after the start of gradient of w [{address:#x}, +264) "
        "(thread 63 of block 0, kernel kernel, at: ld.global.u32 %r4, [%rd0+12])"
    )


def test_a_loop_without_an_end(monkeypatch):
    monkeypatch.setattr("tests.support.cuda.ptx.execution._MAX_STEPS", 1000)
    text = KERNELS["guards"].replace("mov.u32 %r4, 1;", "$again:\nbra $again;\nmov.u32 %r4, 1;")
    with pytest.raises(ptx.PTXError, match="no end after 1000 steps"):
        run(text, 1, 32, [np.zeros(32, np.uint32)])


def test_a_loop_without_an_end_that_does_something(monkeypatch):
    monkeypatch.setattr("tests.support.cuda.ptx.execution._MAX_STEPS", 1000)
    text = KERNELS["guards"].replace(
        "mov.u32 %r4, 1;", "$again:\nmov.u32 %r4, 1;\nsetp.eq.u32 %p0, %r1, 3;\n@%p0 bra $again;"
    )
    with pytest.raises(ptx.PTXError, match="no end after 1000 steps"):
        run(text, 1, 32, [np.zeros(32, np.uint32)])


# Opcodes, modifiers, types and operands that the interpreter does not have; most are PTX.
UNKNOWN = [
    "ex3.f32 %f0, %f1;",
    "bar.sync 1;",
    "bar.sync 0, 64;",
    "bar.arrive 0, 64;",
    "add.rz.f32 %f0, %f1, %f2;",
    "fma.rm.f32 %f0, %f1, %f2, %f3;",
    "fma.f32 %f0, %f1, %f2, %f3;",
    "div.f32 %f0, %f1, %f2;",
    "sqrt.f32 %f0, %f1;",
    "add.cc.u32 %r0, %r1, %r2;",
    "add.sat.s32 %r0, %r1, %r2;",
    "add.u32 %r0, %r1, %rd2;",
    "add.u64 %rd0, %rd1, %r2;",
    "add.f32 %r0, %f1, %rd2;",
    "add.u32 %r0, %r1, 0f3F800000;",
    "add.f32 %f0, %f1, 1;",
    "add.f16x2 %r0, %r1, %r2;",
    "add.u32 %r0, %r1;",
    "add.u32 %r0, %r1, %r2, %r3;",
    "add.u32 %r0, %r1, %zz;",
    "mul.u32 %r0, %r1, %r2;",
    "mul.wide.u64 %rd0, %rd1, %rd2;",
    "mul24.lo.u32 %r0, %r1, %r2;",
    "setp.lt.b32 %p0, %r0, %r1;",
    "setp.ltu.u32 %p0, %r0, %r1;",
    "setp.lt.and.u32 %p0, %r0, %r1;",
    "set.lt.u32.u32 %r0, %r1, %r2;",
    "slct.u32.s32 %r0, %r1, %r2, %r3;",
    "cvt.rz.f16.f32 %h0, %f1;",
    "cvt.f32.f64 %f0, %fd1;",
    "cvt.u32.f32 %r0, %f1;",
    "cvt.rn.f32.f32 %f0, %f1;",
    "cvt.rn.bf16.f64 %h0, %fd1;",
    "cvt.rna.tf32.f32 %r0, %f1;",
    "shfl.up.b32 %r0, %r1, 1, 0;",
    "shfl.sync.up.b64 %rd0, %rd1, 1, 0, -1;",
    "match.any.sync.b32 %r0, %r1, -1;",
    "vote.any.pred %p0, %p1;",
    "redux.sync.add.u32 %r0, %r1, -1;",
    "prmt.b32.f4e %r0, %r1, %r2, %r3;",
    "shf.l.b32 %r0, %r1, %r2, %r3;",
    "ld.global.b128 %rd0, [%rd1];",
    "ld.global.v2.u32 %r0, [%rd1];",
    "ld.global.v8.f32 {%f0, %f1}, [%rd1];",
    "ld.global.u32 %h0, [%rd1];",
    "ld.global.u32 %r0, [%rd1+%rd2];",
    "ld.global.u32 %r0, %rd1;",
    "ld.global.u32 %r0, [%r1];",
    "ld.shared.global.u32 %r0, [%rd1];",
    "st.global.u32 [%rd1], %h0;",
    "st.async.u32 [%rd1], %r0;",
    "cp.async.ca.shared.global [%rd1], [%rd2], 16;",
    "atom.global.add.b32 %r0, [%rd0], %r1;",
    "atom.global.add.noftz.f16 %h0, [%rd0], %h1;",
    "atom.global.cas.b16 %h0, [%rd0], %h1, %h2;",
    "tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%rd0, {%f4, %f5}];",
    "mov.u32 %r0, %clock;",
    "mov.u32 %r0, %smid;",
    "mov.u64 %rd0, kernel;",
    "call (%r0), %rd1, ();",
    "brx.idx %r0, table;",
    "bra $nowhere;",
    "mad.lo.cc.u32 %r0, %r1, %r2, %r3;",
    "min.xorsign.abs.f32 %f0, %f1, %f2;",
    "neg.bf16 %h0, %h1;",
    "wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r0}, [%rd0];",
    ".reg .v4 %v;",
    ".local .align 4 .b7 x[4];",
]


@pytest.mark.parametrize("statement", UNKNOWN)
def test_what_is_not_known_is_refused(statement):
    text = KERNELS["guards"].replace("exit;", f"exit;\n{statement}")
    with pytest.raises(NotImplementedError) as caught:
        run(text, 1, 32, [np.zeros(32, np.uint32)])
    assert statement.split()[0].rstrip(";") in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        ".visible .func f() { ret; } nonsense here;",
        ".tex .u64 picture;",
        ".visible .entry kernel() .maxclusterrank 2 { ret; }",
        ".visible .entry kernel(.param .u128 x) { ret; }",
        ".visible .entry kernel() { ret",
        ".visible .entry kernel() { bra $a; $a: ret; $a: ret; }",
        ".func f() { call f, (); ret; } .visible .entry kernel() { call f, (); ret; }",
        ".visible .entry other() { ret; } .visible .entry kernel() { call.uni other, (); }  .visible .entry kernel(",
    ],
)
def test_modules_that_are_not_known_are_refused(text):
    with pytest.raises(NotImplementedError):
        ptx.Kernel(ptx.parse(HEADER + text), "kernel")


def test_a_kernel_that_is_not_there():
    with pytest.raises(KeyError, match="the kernels are kernel"):
        ptx.Kernel(ptx.parse(KERNELS["guards"]), "step")


@pytest.mark.parametrize(
    ("instruction", "input_value", "expected"),
    [
        ("ex2.approx.ftz.f32", 3.0, 8.0),
        ("lg2.approx.f32", 8.0, 3.0),
        ("rsqrt.approx.f32", 4.0, 0.5),
        ("rcp.approx.f32", 4.0, 0.25),
        ("sqrt.approx.f32", 4.0, 2.0),
        ("sin.approx.f32", 0.0, 0.0),
        ("cos.approx.f32", 0.0, 1.0),
        ("tanh.approx.f32", 0.0, 0.0),
        ("rsqrt.approx.f64", 4.0, 0.5),
    ],
)
def test_approximations_are_executed_only_where_they_are_allowed(instruction, input_value, expected):
    kind = instruction[-3:]
    register = {"f32": "%f", "f64": "%fd"}[kind]
    text = KERNELS["ld"].replace(
        "ld.u32 %r4, [%rd0];", f"ld.{kind} {register}1, [%rd0];\n{instruction} {register}2, {register}1;"
    )
    text = text.replace("st.global.u32 [%rd1], %r4;", f"st.global.{kind} [%rd1], {register}2;")
    values = np.array([input_value], {"f32": np.float32, "f64": np.float64}[kind])
    with pytest.raises(NotImplementedError, match=re.escape(f"{instruction} is an approximation")):
        run(text, 1, 1, [values, values * 0])
    assert run(text, 1, 1, [values, values * 0], approximations=[instruction])[1][0] == expected
