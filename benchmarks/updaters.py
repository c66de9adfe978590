"""Adam's update alone, of one float32 variable with a gradient that is given: the op, the kernel, torch, a copy.

Each function returns an `Updater`.
"""

import functools
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.problems import BETA_1, BETA_2, EPSILON
from benchmarks.rivals import ADAMS

# Of an element: parameter and two slots read and written, the gradient read.
BYTES = 28
# Nothing moves far, and with a gradient that stays as it is nothing gets denormal.
LEARNING_RATE = 1e-6
# Steps in an iteration of TensorFlow's loop, whose own cost is of microseconds.
UNROLLED = 10


class Updater(NamedTuple):
    """An update that is set up.

    Attributes:
      run: takes a fixed number of steps.
      parameter: returns the parameter, which starts from 0; None for a copy.
    """

    run: Callable[[], None]
    parameter: Callable[[], np.ndarray] | None


def gradient(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 1.5, size).astype(np.float32)


def of_tensorflow(family: str, fused: bool, size: int, num_steps: int) -> Updater:
    """The op FusedStep, or stock's `apply_gradients`, in a loop of TensorFlow; num_steps is a multiple of UNROLLED."""
    import tensorflow as tf

    from fusemin.update.fused_step import fused_step
    from fusemin.update.plan import plan

    variable, optimizer = tf.Variable(tf.zeros([size])), ADAMS[family][0](LEARNING_RATE)
    update, loss = (plan(optimizer, [variable]).bind(), tf.constant(0.0)) if fused else (None, None)
    if family == "keras":
        optimizer.build([variable])

    def apply(gradient):
        if fused:
            fused_step(update, [gradient], loss)
        else:
            optimizer.apply_gradients([(gradient, variable)])

    @functools.partial(tf.function, autograph=False)
    def loop(gradient):
        def body(step):
            for _ in range(UNROLLED):
                apply(gradient)
            return step + UNROLLED

        return tf.while_loop(lambda step: step < num_steps, body, [0], parallel_iterations=1)

    given = tf.constant(gradient(size))
    return Updater(lambda: loop(given)[0].numpy(), variable.numpy)


def of_kernel(num_threads: int, size: int, num_steps: int) -> Updater:
    """The kernel on NumPy arrays, by `fusemin._core`."""
    from fusemin import _core

    values = {
        "learning_rate": LEARNING_RATE,
        "beta_1": BETA_1,
        "beta_2": BETA_2,
        "epsilon": EPSILON,
        "beta_1_power_base": BETA_1,
        "beta_2_power_base": BETA_2,
    }
    parameter, *slots = (np.zeros(size, np.float32) for _ in range(3))
    take_step = functools.partial(
        _core.step,
        "adam",
        [parameter],
        [gradient(size)],
        slots=[[slot] for slot in slots],
        hyperparameters=[values[name] for name in _core.rules()["adam"]["hyperparameters"]],
        num_threads=num_threads,
    )
    taken = 0

    def run():
        nonlocal taken
        for _ in range(num_steps):
            taken += 1
            take_step(step=taken)

    return Updater(run, lambda: parameter)


def of_torch(size: int, num_steps: int, **options) -> Updater:
    """`torch.optim.Adam.step`."""
    import torch

    parameter = torch.zeros(size, requires_grad=True)
    parameter.grad = torch.from_numpy(gradient(size))
    optimizer = torch.optim.Adam([parameter], LEARNING_RATE, (BETA_1, BETA_2), EPSILON, **options)

    def run():
        for _ in range(num_steps):
            optimizer.step()

    return Updater(run, lambda: parameter.detach().numpy())


def of_torch_kernel(size: int, num_steps: int) -> Updater:
    """The kernel of torch's fused Adam, called without its optimizer."""
    import torch

    parameter, momentum, velocity = (torch.zeros(size) for _ in range(3))
    given, taken = torch.from_numpy(gradient(size)), torch.zeros(())
    take_step = functools.partial(
        torch._fused_adam_,
        [parameter],
        [given],
        [momentum],
        [velocity],
        [],
        [taken],
        lr=LEARNING_RATE,
        beta1=BETA_1,
        beta2=BETA_2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )

    def run():
        with torch.no_grad():
            for _ in range(num_steps):
                taken.add_(1)
                take_step()

    return Updater(run, parameter.numpy)


def of_copy(num_threads: int, size: int, num_steps: int) -> Updater:
    """Each thread copies its part of 14 bytes an element again and again: 14 are read and 14 written."""
    sizes = [len(part) for part in np.array_split(np.empty(BYTES // 2 * size, np.uint8), num_threads)]
    # Written by hand, so that the memory is there.
    pairs = [(np.full(n, 1, np.uint8), np.full(n, 2, np.uint8)) for n in sizes]

    def copy(to, source):
        for _ in range(num_steps):
            np.copyto(to, source)

    def run():
        threads = [threading.Thread(target=copy, args=pair) for pair in pairs[1:]]
        for thread in threads:
            thread.start()
        copy(*pairs[0])
        for thread in threads:
            thread.join()

    return Updater(run, None)
