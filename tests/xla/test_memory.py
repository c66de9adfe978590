"""What XLA makes of a loop on a large variable: no copy of the parameter, and the update in place."""

import json
import re

import pytest

from tests.support.minimize_runs import run_program

# One process for all: the flag that has XLA dump its programs is read once in a process.
PROGRAM = """
    import json, os, pathlib, sys
    import keras, tensorflow as tf, fusemin

    dump = pathlib.Path(sys.argv[1])
    for form, optimizer, trace in json.loads(sys.argv[2]):
        os.environ["FUSEMIN_XLA_FORM"] = form
        x = tf.Variable(tf.zeros([4_000_000]))
        losses = fusemin.minimize(lambda: tf.reduce_sum((x - 5.0) ** 2), 6, eval(optimizer),
                                  trainable_variables=[x], jit_compile=True, trace_fn=eval(f"lambda q: {trace}"))
        assert losses.shape[0] == 6
        files = [file for file in dump.iterdir() if file.is_file()]
        folder = dump / form / optimizer / trace.replace("/", "over")
        folder.mkdir(parents=True)
        for file in files:
            file.rename(folder / file.name)
"""
FORMS = ["", "hlo", "loops", "call"]
OPTIMIZERS = ["keras.optimizers.Adam(0.1)", "keras.optimizers.SGD(0.1)", "tf.compat.v1.train.AdamOptimizer(0.1)"]
LOSS = "q.loss"
OTHER_TRACES = ["q.loss / 7.0", "q.parameters[0][:3]", "q.step", "tf.norm(q.gradients[0])"]
RUNS = [(form, optimizer, LOSS) for form in FORMS for optimizer in OPTIMIZERS]
RUNS += [("", OPTIMIZERS[0], trace) for trace in OTHER_TRACES]
SHAPE = r"f32\[4000000\]"


@pytest.fixture(scope="module")
def loop_body(tmp_path_factory):
    """Function from a run to the optimized HLO of the body of its only loop with a large variable."""
    dump = tmp_path_factory.mktemp("dump")
    run_program(PROGRAM, str(dump), json.dumps(RUNS), XLA_FLAGS=f"--xla_dump_to={dump} --xla_dump_hlo_as_text")

    def body(form, optimizer, trace):
        for path in (dump / form / optimizer / trace.replace("/", "over")).glob("*cpu_after_optimizations.txt"):
            text = path.read_text()
            body = re.search(r"while\(.*body=%([\w.]+)", text)
            if body and re.search(SHAPE, text):
                start = re.search(rf"^%{re.escape(body.group(1))} .*{{$", text, re.MULTILINE)
                return text[start.end() : text.index("\n}", start.end())]
        raise AssertionError("there is no loop in the dump")

    return body


def copies(body):
    return re.findall(rf"= {SHAPE}\S* copy\(.*", body)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("form", FORMS)
def test_no_copy_of_the_parameter_in_the_loop(form, optimizer, loop_body):
    body = loop_body(form, optimizer, LOSS)
    assert re.search(rf"= {SHAPE}\S* (fusion|get-tuple-element)\(", body), "no large array is in the loop"
    assert not copies(body), json.dumps(copies(body), indent=1)
    assert ('custom_call_target="fusemin_step"' in body) == (form == "call")
    # SGD replaces one array only, for which XLA makes a loop by itself. What a loop replaces must have kept its place
    # among the operands, whatever XLA has fused into it.
    loops = re.findall(r" fusion\((.*?)\), .*output_to_operand_aliasing=\{(.*?)\}, calls", body)
    assert bool(loops) == (form in ("", "loops") and "SGD" not in optimizer)
    for operands, aliases in loops:
        for position in re.findall(r"\((\d+), ", aliases):
            operand = operands.split(", ")[int(position)]
            assert re.search(rf"{re.escape(operand)} = {SHAPE}", body), f"{operand} is replaced by a large array"


@pytest.mark.parametrize("trace", OTHER_TRACES)
def test_no_copy_where_the_loss_is_not_traced(trace, loop_body):
    body = loop_body("", OPTIMIZERS[0], trace)
    assert re.search(rf"= {SHAPE}\S* (fusion|get-tuple-element)\(", body), "no large array is in the loop"
    assert not copies(body), json.dumps(copies(body), indent=1)
