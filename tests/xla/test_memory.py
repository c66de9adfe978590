"""What XLA makes of a loop on a large variable: no copy of the parameter, and the update in place."""

import json
import pathlib
import re

import pytest

from tests.support.minimize_runs import run_program

# One process for all: the flag that has XLA dump its programs is read once in a process.
PROGRAM = """
    import os, pathlib, sys
    import keras, tensorflow as tf, fusemin

    dump = pathlib.Path(sys.argv[1])
    for form in sys.argv[2].split(","):
        for optimizer in sys.argv[3:]:
            os.environ["FUSEMIN_XLA_FORM"] = form
            x = tf.Variable(tf.zeros([4_000_000]))
            losses = fusemin.minimize(lambda: tf.reduce_sum((x - 5.0) ** 2), 6, eval(optimizer),
                                      trainable_variables=[x], jit_compile=True)
            assert losses.shape[0] == 6
            files = [file for file in dump.iterdir() if file.is_file()]
            (dump / form / optimizer).mkdir(parents=True)
            for file in files:
                file.rename(dump / form / optimizer / file.name)
"""
FORMS = ["", "hlo", "loops", "call"]
OPTIMIZERS = ["keras.optimizers.Adam(0.1)", "keras.optimizers.SGD(0.1)", "tf.compat.v1.train.AdamOptimizer(0.1)"]
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


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """A folder, in which a form and an optimizer have one each."""
    folder = tmp_path_factory.mktemp("dump")
    flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
    run_program(PROGRAM, str(folder), ",".join(FORMS), *OPTIMIZERS, XLA_FLAGS=flags)
    return folder


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("form", FORMS)
def test_no_copy_of_the_parameter_in_the_loop(form, optimizer, dump):
    body = loop_body(dump / form / optimizer)
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
