"""A fit that is killed again and again: `python -m tests.runs.killed_fit`. One that comes to its end begins anew.

TensorFlow is imported once. Each try is a fork of the process before TensorFlow has begun to run anything, which takes
a tenth of the time of a new process.
"""

import argparse
import os
import random
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import fusemin

NUM_STEPS = 600


def fit(directory, jit_compile, started=None):
    """Takes the steps, as far as it gets, and writes what came of it into `directory`/end.npz."""
    x, y = tf.Variable(tf.linspace(-1.0, 2.0, 5), name="x"), tf.Variable(0.5, name="y")
    adam = keras.optimizers.Adam(0.1, name="adam")
    data = tf.data.Dataset.range(20).map(lambda i: tf.cast(i, tf.float32) / 20.0).shuffle(20, seed=3)

    def loss(batch, seed):
        noise = tf.random.stateless_normal([5], seed)
        return tf.reduce_sum((x - y + 0.1 * noise) ** 2) + tf.cos(y * batch)

    minimizer = fusemin.Minimizer(
        loss,
        adam,
        trainable_variables=[x, y],
        jit_compile=jit_compile,
        convergence_criterion=fusemin.LossNotDecreasing(atol=-1e9),
        trace_fn=lambda q: {"loss": q.loss, "x": q.parameters[0], "state": q.convergence_criterion_state},
    )
    reduce = fusemin.ReduceOnPlateau(adam, 0.7, patience=2)
    result = minimizer.run(
        NUM_STEPS,
        seed=7,
        data=data,
        keep_best=True,
        callbacks=[reduce, lambda state: started() if started else None],
        every=6,
        checkpoint=fusemin.Checkpoint(os.path.join(directory, "checkpoints"), every=2),
    )
    arrays = [*tf.nest.flatten(result.trace), x, y, *adam.variables, *result.best.parameters, result.best.step]
    end = os.path.join(directory, "end")
    np.savez(end + ".new.npz", *[np.asarray(a) for a in arrays], steps=result.steps)
    os.replace(end + ".new.npz", end + ".npz")


def attempt(directory, jit_compile, kill_after) -> str:
    """One try in a process of its own. `kill_after`: seconds after its first callback at which it is killed; None for
    never; or how often a file is put in its place by `os.replace` before the process kills itself in its stead."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        replaced, replace = [], os.replace

        def replace_or_die(source, target):
            replaced.append(target)
            if isinstance(kill_after, int) and len(replaced) > kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = replace_or_die
        fit(directory, jit_compile, started=lambda: os.write(write, b"."))
        os._exit(0)
    os.close(write)
    os.read(read, 1)
    if isinstance(kill_after, float):
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(read)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    return "ended" if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else f"failed, status {status}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--jit", action="store_true")
    args = parser.parse_args()

    def attempt_in(name, kill_after):
        directory = os.path.join(args.directory, name)
        os.makedirs(directory, exist_ok=True)
        return attempt(directory, args.jit, kill_after)

    print("whole:", attempt_in("whole", None), flush=True)
    random.seed(0)
    kills = ends = 0
    while kills < args.kills:
        after = random.randrange(4) if kills % 5 == 4 else random.uniform(0.0, 0.05)
        outcome = attempt_in(f"killed_{ends}", after)
        if outcome == "ended":
            ends += 1
        elif outcome == "killed":
            kills += 1
        else:
            sys.exit(outcome)
    print("last:", attempt_in(f"killed_{ends}", None), flush=True)
    print("kills:", kills, flush=True)


if __name__ == "__main__":
    main()
