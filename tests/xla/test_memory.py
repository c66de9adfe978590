"""What XLA makes of a loop on a large variable: no copy of the parameter, and the update in place."""

import json
import pathlib
import re

import pytest

from tests.support.minimize_runs import run_program

PROGRAM = """
    import keras, tensorflow as tf, fusemin

    x = tf.Variable(tf.zeros([4_000_000]))
    losses = fusemin.minimize(lambda: tf.reduce_sum((x - 5.0) ** 2), 6, {optimizer},
                              trainable_variables=[x], jit_compile=True, trace_fn={trace_fn})
    print(losses.shape[0])
"""
SHAPE = r"f32\[4000000\]"


def loop_body(directory):
    """The optimized HLO of the body of the only loop with a large variable."""
    for path in pathlib.Path(directory).glob("*cpu_after_optimizations.txt"):
        text = path.read_text()
        body = re.search(r"while\(.*body=%([\w.]+)", text)
        if body and re.search(SHAPE, text):
            start = re.search(rf"^%{re.escape(body.group(1))} .*{{$", text, re.MULTILINE)
            return text[start.end() : text.index("\n}", start.end())]
    raise AssertionError("there is no loop in the dump")


@pytest.mark.parametrize(
    "optimizer", ["keras.optimizers.Adam(0.1)", "keras.optimizers.SGD(0.1)", "tf.compat.v1.train.AdamOptimizer(0.1)"]
)
@pytest.mark.parametrize("form", ["", "hlo", "loops", "call"])
def test_no_copy_of_the_parameter_in_the_loop(form, optimizer, tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    program = PROGRAM.format(optimizer=optimizer, trace_fn="lambda q: q.loss")
    assert run_program(program, XLA_FLAGS=flags, FUSEMIN_XLA_FORM=form) == "6\n"
    body = loop_body(tmp_path)
    assert re.search(rf"= {SHAPE}\S* (fusion|get-tuple-element)\(", body), "no large array is in the loop"
    copies = re.findall(rf"= {SHAPE}\S* copy\(.*", body)
    assert not copies, json.dumps(copies, indent=1)
    assert ('custom_call_target="fusemin_step"' in body) == (form == "call")
    # SGD replaces one array only, for which XLA makes a loop by itself. What a loop replaces must have kept its place
    # among the operands, whatever XLA has fused into it.
    loops = re.findall(r" fusion\((.*?)\), .*output_to_operand_aliasing=\{(.*?)\}, calls", body)
    assert bool(loops) == (form in ("", "loops") and "SGD" not in optimizer)
    for operands, aliases in loops:
        for position in re.findall(r"\((\d+), ", aliases):
            operand = operands.split(", ")[int(position)]
            assert re.search(rf"{re.escape(operand)} = {SHAPE}", body), f"{operand} is replaced by a large array"


@pytest.mark.parametrize("trace_fn", ["q.loss / 7.0", "q.parameters[0][:3]", "q.step"])
def test_no_copy_where_the_loss_is_not_traced(trace_fn, tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    program = PROGRAM.format(optimizer="keras.optimizers.Adam(0.1)", trace_fn=f"lambda q: {trace_fn}")
    assert run_program(program, XLA_FLAGS=flags) == "6\n"
    assert not re.findall(rf"= {SHAPE}\S* copy\(.*", loop_body(tmp_path))
