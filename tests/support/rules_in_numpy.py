"""Each rule of `fusemin._core.rules()` in NumPy, written from the papers and the stock implementations.

A rule is one function, which takes

    h               a dict of the hyperparameters and scalars, Python floats (C doubles)
    step            counted from 1
    gradient, param, *slots    arrays of one value type V, float32 or float64

and returns `[param, *slots]`, then the addends of the step's sums if the rule has some, and one row of `RULES`. A
function rounds to V where stock rounds to V, and does its operations in the order of stock, so that the kernels can be
held to a few units in the last place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

Range = tuple[float, float]

# A hyperparameter, scalar or slot is drawn uniformly from a range. The square of any of SIGNED is less than any of
# POSITIVE, so that a variance is positive which a rule makes of a mean and a mean square.
SIGNED: Range = (-0.5, 0.5)
POSITIVE: Range = (0.3, 2.0)
RATE: Range = (1e-3, 0.1)
DECAY: Range = (0.5, 0.9999)
EPSILON: Range = (1e-8, 1e-3)


NEGLIGIBLE = {"epsilon", "epsilon_outside", "l1", "l2", "l2_shrinkage", "beta", "weight_decay"}
SAME = {
    "beta_1_power_base": "beta_1",
    "beta_2_power_base": "beta_2",
    "product_beta_1": "beta_1",
    "product_decay": "decay",
}


@dataclass(frozen=True)
class Row:
    """A rule: its function, and from where to draw its inputs, by name, in the order of the kernel."""

    function: Callable[..., list]
    hyperparameters: dict[str, Range]
    slots: dict[str, Range] = field(default_factory=dict)
    scalars: dict[str, Range] = field(default_factory=dict)
    # Whether the hyperparameters must come rounded to V, because stock holds them in tensors of that type and computes
    # with those before it meets a parameter.
    rounded: bool = False
    # Whether a parameter depends on sums over its tensor, whose order of additions is free. The move then cancels
    # against the parameter, so that a unit in the last place of the norm is many of a small result: differences count
    # in units of the largest element.
    has_sums: bool = False
    # From h and the step: the scalars after it.
    next_scalars: Callable[[dict, int], dict] = lambda h, step: {}
    # The sums of a step, and from h, the step and the sums: the scalars after it.
    step_sums: tuple[str, ...] = ()
    finish: Callable[[dict, int, list[float]], dict] | None = None
    # From h: the scalars before the first step.
    first_scalars: Callable[[dict], dict] = lambda h: {}
    # From h and t: how far, in all, t steps of the constant gradient 1 move a parameter that starts at 1 with slots of
    # zero. Algebra on paper, so it would show a misreading that the function and the kernel share. With all of
    # NEGLIGIBLE at 0, and all of SAME equal.
    displacement: Callable[[dict, int], float] | None = None


def _number_type(array):
    return array.dtype.type


def _power(x, exponent):
    """By the C library, as in the kernels: NumPy has a pow of its own, and Ftrl magnifies the last bit of a power."""

    def power(base, exponent):
        try:
            return math.pow(base, exponent)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.inf if base == 0 else math.nan

    V = x.dtype.type
    return np.frompyfunc(lambda base: V(power(base, exponent)), 1, 1)(x).astype(V)


def _moved(V, h, k, complement, old, new):
    """A mean after another value."""
    return old + (new - old) * complement


def _decayed(V, h, k, complement, old, new):
    """The same in the form of stock's sparse updates in tf_keras.optimizers.legacy and tf.compat.v1.train."""
    return old * V(h[f"beta_{k}"]) + new * complement


def _adam_update(V, h, powers, complements, gradient, param, slots, maximum=np.maximum, mean=_moved):
    """What Adam does with beta^t and 1 - beta, which the two stock implementations round at different places."""
    m, v, *old_hat = slots
    alpha = V(h["learning_rate"]) * np.sqrt(V(1) - powers[1]) / (V(1) - powers[0])
    m = mean(V, h, 1, complements[0], m, gradient)
    v = mean(V, h, 2, complements[1], v, np.square(gradient))
    v_hat = [maximum(old, v) for old in old_hat]
    param = param - (m * alpha) / (np.sqrt(v_hat[0] if v_hat else v) + V(h["epsilon"]))
    return [param, m, v, *v_hat]


def _kernel_maximum(a, b):
    """Eigen's cwiseMax: the first if either is NaN."""
    return np.where(a < b, b, a)


def adam(h, step, gradient, param, *slots, mean=_moved):
    """Kingma & Ba 2014 before section 2.1, Reddi et al. 2018 with a third slot; keras.optimizers.Adam.update_step."""
    V = _number_type(param)
    powers = [V(math.pow(V(h[f"beta_{k}_power_base"]), V(step))) for k in (1, 2)]
    complements = [V(1 - h[f"beta_{k}"]) for k in (1, 2)]
    return _adam_update(V, h, powers, complements, gradient, param, slots, mean=mean)


def amsgrad_kernel(h, step, gradient, param, *slots):
    """tf_keras.optimizers.legacy.Adam(amsgrad=True), i.e. ResourceApplyAdamWithAmsgrad."""
    V = _number_type(param)
    powers = [V(math.pow(V(h[f"beta_{k}_power_base"]), V(step))) for k in (1, 2)]
    complements = [V(1) - V(h[f"beta_{k}"]) for k in (1, 2)]
    return _adam_update(V, h, powers, complements, gradient, param, slots, _kernel_maximum)


def adam_powers(h, step, gradient, param, *slots, mean=_moved):
    """tf.compat.v1.train.AdamOptimizer, i.e. ResourceApplyAdam: the powers are variables, so `step` plays no part."""
    V = _number_type(param)
    powers = [V(h[f"beta_{k}_power"]) for k in (1, 2)]
    complements = [V(1) - V(h[f"beta_{k}"]) for k in (1, 2)]
    return _adam_update(V, h, powers, complements, gradient, param, slots, mean=mean)


def sgd(h, step, gradient, param):
    V = _number_type(param)
    return [param - gradient * V(h["learning_rate"])]


def sgd_momentum(h, step, gradient, param, m):
    """keras.optimizers.SGD: the slot is a velocity, the learning rate already in it."""
    V = _number_type(param)
    m = m * V(h["momentum"]) - gradient * V(h["learning_rate"])
    return [param + m, m]


def sgd_nesterov(h, step, gradient, param, m):
    """keras.optimizers.SGD(nesterov=True); Sutskever et al. 2013 with the parameter at the point looked ahead to."""
    V = _number_type(param)
    m = m * V(h["momentum"]) - gradient * V(h["learning_rate"])
    return [param + (m * V(h["momentum"]) - gradient * V(h["learning_rate"])), m]


def momentum(h, step, gradient, param, accumulation):
    """ResourceApplyMomentum: the learning rate multiplies the accumulated gradients."""
    V = _number_type(param)
    accumulation = accumulation * V(h["momentum"]) + gradient
    return [param - accumulation * V(h["learning_rate"]), accumulation]


def momentum_nesterov(h, step, gradient, param, accumulation):
    """ResourceApplyMomentum with use_nesterov."""
    V = _number_type(param)
    rate, decay = V(h["learning_rate"]), V(h["momentum"])
    accumulation = accumulation * decay + gradient
    return [param - (gradient * rate + accumulation * decay * rate), accumulation]


def lamb(h, step, gradient, param, m, v):
    """keras.optimizers.Lamb.update_step; the norms are of the whole tensor."""
    V = _number_type(param)
    corrections = [V(1) - V(math.pow(V(h[f"beta_{k}_power_base"]), V(step))) for k in (1, 2)]
    m = m + (gradient - m) * V(1 - h["beta_1"])
    v = v + (np.square(gradient) - v) * V(1 - h["beta_2"])
    direction = m / corrections[0] / (np.sqrt(v / corrections[1]) + V(h["epsilon"]))
    norms = [V(np.sqrt(np.sum(np.square(x, dtype=np.float64)))) for x in (param, direction)]
    ratio = norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else V(1)
    return [param - ratio * V(h["learning_rate"]) * direction, m, v]


def _rmsprop(V, h, mean, gradient, param, slots, centered):
    """What RMSprop does with either of the two forms of a mean."""
    v, *slots = slots
    new = [mean(v, np.square(gradient))]
    square = new[0]
    if centered:
        average, *slots = slots
        new.append(mean(average, gradient))
        square = square - np.square(new[1])
    descent = V(h["learning_rate"]) * gradient / (np.sqrt(square + V(h["epsilon"])) + V(h["epsilon_outside"]))
    if slots:
        descent = V(h["momentum"]) * slots[0] + descent
        new.append(descent)
    return [param - descent, *new]


def rmsprop(h, step, gradient, param, *slots, centered=False):
    """keras.optimizers.RMSprop; epsilon_outside is that of tf_keras.optimizers.legacy.RMSprop without momentum."""
    V = _number_type(param)

    def mean(old, value):
        return V(h["rho"]) * old + V(1 - h["rho"]) * value

    return _rmsprop(V, h, mean, gradient, param, slots, centered)


def rmsprop_kernel(h, step, gradient, param, *slots, centered=False):
    """ResourceApplyRMSProp, ResourceApplyCenteredRMSProp."""
    V = _number_type(param)

    def mean(old, value):
        return old + (value - old) * (V(1) - V(h["rho"]))

    return _rmsprop(V, h, mean, gradient, param, slots, centered)


def adagrad(h, step, gradient, param, accumulator):
    """keras.optimizers.Adagrad; epsilon_outside is that of ResourceApplyAdagradV2."""
    V = _number_type(param)
    accumulator = accumulator + np.square(gradient)
    root = np.sqrt(accumulator + V(h["epsilon"])) + V(h["epsilon_outside"])
    return [param - V(h["learning_rate"]) * gradient / root, accumulator]


def adadelta(h, step, gradient, param, squares, displacements, by_difference=False):
    """keras.optimizers.Adadelta, ResourceApplyAdadelta."""
    V = _number_type(param)
    rho, complement, epsilon = V(h["rho"]), V(1 - h["rho"]), V(h["epsilon"])
    decayed = squares + V(h["rho"] - 1) * squares if by_difference else rho * squares
    squares = decayed + complement * np.square(gradient)
    displacement = np.sqrt(displacements + epsilon) * gradient / np.sqrt(squares + epsilon)
    displacements = rho * displacements + complement * np.square(displacement)
    return [param - V(h["learning_rate"]) * displacement, squares, displacements]


def adamax(h, step, gradient, param, m, u, maximum=np.maximum, mean=_moved):
    """keras.optimizers.Adamax; with the other maximum ResourceApplyAdaMax."""
    V = _number_type(param)
    m = mean(V, h, 1, V(1 - h["beta_1"]), m, gradient)
    u = maximum(V(h["beta_2"]) * u, np.abs(gradient))
    correction = V(1) - V(math.pow(V(h["beta_1_power_base"]), V(step)))
    return [param - V(h["learning_rate"]) * m / (correction * (u + V(h["epsilon"]))), m, u]


def adamax_kernel(h, step, gradient, param, m, u):
    return adamax(h, step, gradient, param, m, u, _kernel_maximum)


def _scheduled(V, beta_1, decay, exponent, step):
    """The momentum of Nadam at a step: Dozat 2016, with the constants of Keras."""
    return V(beta_1) * (V(1) - V(0.5) * V(math.pow(V(decay), V(exponent) * V(step))))


def _next_product(h, step):
    factor = _scheduled(float, h["product_beta_1"], h["product_decay"], h["decay_exponent"], step)
    return {"momentum_product": h["momentum_product"] * factor}


def nadam(h, step, gradient, param, m, v, legacy=False):
    """keras.optimizers.Nadam; with `legacy` the means of tf_keras.optimizers.legacy.Nadam."""
    V = _number_type(param)
    now, after = (_scheduled(V, h["beta_1"], h["decay"], h["decay_exponent"], step + i) for i in (0, 1))
    product = V(_next_product(h, step)["momentum_product"])
    complements = [V(1 - h[f"beta_{k}"]) for k in (1, 2)]
    if legacy:
        m = V(h["beta_1"]) * m + complements[0] * gradient
        v = V(h["beta_2"]) * v + complements[1] * np.square(gradient)
    else:
        m = m + (gradient - m) * complements[0]
        v = v + (np.square(gradient) - v) * complements[1]
    m_hat = after * m / (V(1) - product * after) + (V(1) - now) * gradient / (V(1) - product)
    v_hat = v / (V(1) - V(math.pow(V(h["beta_2"]), V(step))))
    return [param - m_hat * V(h["learning_rate"]) / (np.sqrt(v_hat) + V(h["epsilon"])), m, v]


def nadam_legacy(h, step, gradient, param, m, v):
    return nadam(h, step, gradient, param, m, v, legacy=True)


def _ftrl_linear(h, scale, gradient, param, accumulator, linear):
    """The slots, and what the last line of Ftrl divides by."""
    V = _number_type(param)
    rate = V(h["learning_rate"])
    new = accumulator + np.square(gradient)
    with_shrinkage = gradient + V(2 * h["l2_shrinkage"]) * param
    linear = linear + (with_shrinkage - (scale(new) - scale(accumulator)) / rate * param)
    quadratic = scale(new) / rate + V(2) * (V(h["l2"]) + V(h["beta"]) / (V(2) * rate))
    return new, linear, quadratic


def ftrl(h, step, gradient, param, accumulator, linear, scale=np.sqrt):
    """keras.optimizers.Ftrl: McMahan et al. 2013."""
    l1 = _number_type(param)(h["l1"])
    accumulator, linear, quadratic = _ftrl_linear(h, scale, gradient, param, accumulator, linear)
    return [(np.maximum(np.minimum(linear, l1), -l1) - linear) / quadratic, accumulator, linear]


def ftrl_kernel(h, step, gradient, param, accumulator, linear, scale=np.sqrt):
    """ResourceApplyFtrl, ResourceApplyFtrlV2."""
    V = _number_type(param)
    l1 = V(h["l1"])
    accumulator, linear, quadratic = _ftrl_linear(h, scale, gradient, param, accumulator, linear)
    return [np.where(np.abs(linear) > l1, (l1 * np.sign(linear) - linear) / quadratic, V(0)), accumulator, linear]


def _by_power(function):
    """A function of Ftrl with the learning rate power instead of the root."""

    def with_power(h, step, gradient, param, *slots):
        exponent = _number_type(param)(-h["learning_rate_power"])
        return function(h, step, gradient, param, *slots, scale=lambda x: _power(x, exponent))

    return with_power


def lion(h, step, gradient, param, m):
    """Chen et al. 2023; keras.optimizers.Lion."""
    V = _number_type(param)
    direction = np.sign(m * V(h["beta_1"]) + gradient * V(1 - h["beta_1"]))
    return [param - V(h["learning_rate"]) * direction, m * V(h["beta_2"]) + gradient * V(1 - h["beta_2"])]


def lion_buffered(h, step, gradient, param, m):
    """tf_keras.optimizers.Lion with a sparse gradient."""
    V = _number_type(param)
    beta_1, beta_2 = V(h["beta_1"]), V(h["beta_2"])
    m = m * beta_1 + gradient * V(1 - h["beta_1"])
    param = param - V(h["learning_rate"]) * np.sign(m)
    return [param, m * beta_2 / beta_1 + gradient * (V(1) - beta_2 / beta_1)]


def adan(h, step, gradient, param, m, v, n, previous):
    """Xie et al. 2022, Algorithm 1, with the corrections and the proximal decay of the authors' code."""
    V = _number_type(param)
    rate, (b1, b2, b3) = h["learning_rate"], (h[f"beta_{k}"] for k in (1, 2, 3))
    difference = (gradient - previous) * V(step > 1)
    m = V(b1) * m + V(1 - b1) * gradient
    v = V(b2) * v + V(1 - b2) * difference
    n = V(b3) * n + V(1 - b3) * np.square(gradient + V(b2) * difference)
    moved = m * V(rate / (1 - math.pow(b1, step))) + v * V(rate * b2 / (1 - math.pow(b2, step)))
    root = np.sqrt(n) / V(math.sqrt(1 - math.pow(b3, step))) + V(h["epsilon"])
    return [(param - moved / root) * V(1 / (1 + rate * h["weight_decay"])), m, v, n, gradient]


def _schedule_free_weights(h, step):
    """The rate of the step, its weight in the average, and the scalars after it."""
    rate = h["learning_rate"] * math.sqrt(1 - math.pow(h["beta_2"], step))
    if step < h["warmup_steps"]:
        rate = h["learning_rate"] * (step / h["warmup_steps"]) * math.sqrt(1 - math.pow(h["beta_2"], step))
    largest = max(rate, h["largest_rate"])
    weight = math.pow(step, h["r"]) * math.pow(largest, h["weight_lr_power"])
    return rate, weight, {"weight_sum": h["weight_sum"] + weight, "largest_rate": largest}


def schedule_free_adamw(h, step, gradient, param, z, v):
    """Defazio et al. 2024, Algorithm 1, without x as in the authors' code."""
    V = _number_type(param)
    rate, weight, scalars = _schedule_free_weights(h, step)
    c = weight / scalars["weight_sum"]
    v = V(h["beta_2"]) * v + V(1 - h["beta_2"]) * np.square(gradient)
    u = gradient / (np.sqrt(v) + V(h["epsilon"])) + V(h["weight_decay"]) * param
    param = param + (z - param) * V(c) - u * V(rate * (1 - h["beta_1"] * (1 - c)))
    return [param, z - u * V(rate), v]


def _schedule_free_displacement(h, t):
    """z, x and y by their definitions in the paper, where the gradient over its own size is 1; from z = 0, y = 1."""
    z, x, y, total, largest = 0.0, 1 / h["beta_1"], 1.0, 0.0, 0.0
    for i in range(1, t + 1):
        rate = h["learning_rate"] * min(1, i / h["warmup_steps"]) * math.sqrt(1 - h["beta_2"] ** i)
        largest = max(largest, rate)
        weight = i ** h["r"] * largest ** h["weight_lr_power"]
        total += weight
        # The mean of i squares of 1 is 1 - beta_2^i.
        z -= rate / math.sqrt(1 - h["beta_2"] ** i)
        x += (z - x) * weight / total
        y = (1 - h["beta_1"]) * z + h["beta_1"] * x
    return y - 1


def _prodigy_gamma(h, step):
    corrected = math.sqrt(1 - math.pow(h["beta_2"], step)) / (1 - math.pow(h["beta_1"], step))
    return h["learning_rate"] * (corrected if h["use_bias_correction"] > 0 else 1)


def prodigy(h, step, gradient, param, m, v, s, start):
    """Mishchenko & Defazio 2023, Algorithm 4, with m divided by d, and v and s by its square."""
    V = _number_type(param)
    gamma, ratio = _prodigy_gamma(h, step), h["d_ratio"]
    rate = gamma * h["d"]
    descent = gradient * (start - param)
    m = m * V(h["beta_1"] * ratio) + gradient * V(1 - h["beta_1"])
    v = v * V(h["beta_2"] * ratio * ratio) + np.square(gradient) * V(1 - h["beta_2"])
    s = s * V(h["beta_3"] * ratio * ratio) + gradient * V((1 - h["beta_3"]) * gamma)
    param = param * V(1 - rate * h["weight_decay"]) - m * V(rate) / (np.sqrt(v) + V(h["epsilon"]))
    return [param, m, v, s, start, descent, np.abs(s)]


def _prodigy_finish(h, step, sums):
    r = h["r"] * h["beta_3"] * h["d_ratio"] ** 2 + sums[0] * (1 - h["beta_3"]) * _prodigy_gamma(h, step)
    estimate = h["d_coef"] * r / sums[1] if sums[1] > 0 else 0.0
    d = estimate if h["d"] < estimate else h["d"]
    return {"d": d, "d_ratio": h["d"] / d, "r": r}


def _prodigy_displacement(h, t):
    """The algorithm as in the paper, where nothing is divided by d; from x = 1 with x0 = 0, for one element: r and |s|
    of n are n times those."""
    x, d, m, v, r, s = 1.0, _PRODIGY_FIRST["d"], 0.0, 0.0, 0.0, 0.0
    for i in range(1, t + 1):
        gamma = _prodigy_gamma(h, i)
        m = h["beta_1"] * m + (1 - h["beta_1"]) * d
        v = h["beta_2"] * v + (1 - h["beta_2"]) * d**2
        r = h["beta_3"] * r - (1 - h["beta_3"]) * gamma * d**2 * x
        s = h["beta_3"] * s + (1 - h["beta_3"]) * gamma * d**2
        x -= gamma * d * m / math.sqrt(v)
        d = max(d, h["d_coef"] * r / s)
    assert d > _PRODIGY_FIRST["d"]
    return x - 1


def _momentum_displacement(h, t):
    """Sum over the steps 1..t of -lr (1 + d + ... + d^(i-1)), i.e. of -lr (1 - d^i) / (1 - d)."""
    d = h["momentum"]
    return -h["learning_rate"] * (t - d * (1 - d**t) / (1 - d)) / (1 - d)


def _nesterov_displacement(h, t):
    """Looking ahead adds one more power of d to each of the sums: it is d times the above, plus -lr for each step."""
    return h["momentum"] * _momentum_displacement(h, t) - h["learning_rate"] * t


def _adam_displacement(h, t):
    """Both bias corrections undo exactly what zero slots did, so each step is the learning rate long."""
    return -h["learning_rate"] * t


def _steps(length):
    """Of the lengths of the steps, from h and the number of a step, in units of the learning rate, the displacement."""
    return lambda h, t: -h["learning_rate"] * math.fsum(length(h, i) for i in range(1, t + 1))


def _with_momentum(length):
    """As `_steps`, where each step goes on by its momentum."""

    def total(h, t):
        d = h["momentum"]
        return -h["learning_rate"] * math.fsum(length(h, i) * (1 - d ** (t - i + 1)) / (1 - d) for i in range(1, t + 1))

    return total


def _one(h, i):
    """The gradient over its own size."""
    return 1.0


def _rmsprop_length(h, i):
    """The mean of i squares of 1, from 0, is 1 - rho^i."""
    return 1 / math.sqrt(1 - h["rho"] ** i)


def _centered_length(h, i):
    """The mean of the gradients is 1 - rho^i too, so the variance is (1 - rho^i) rho^i."""
    return 1 / math.sqrt((1 - h["rho"] ** i) * h["rho"] ** i)


def _adagrad_length(h, i):
    return 1 / math.sqrt(i)


def _nadam_length(h, i):
    """v / (1 - beta_2^i) is 1, and m is 1 - beta_1^i."""

    def u(j):
        return h["beta_1"] * (1 - h["decay"] ** (h["decay_exponent"] * j) / 2)

    product = math.prod(u(j) for j in range(1, i + 1))
    return u(i + 1) * (1 - h["beta_1"] ** i) / (1 - product * u(i + 1)) + (1 - u(i)) / (1 - product)


_ADAM = {"learning_rate": RATE, "beta_1": DECAY, "beta_2": DECAY, "epsilon": EPSILON}
_POWER_BASES = {"beta_1_power_base": DECAY, "beta_2_power_base": DECAY}
_MOMENTS = {"momentum": SIGNED, "velocity": POSITIVE}
_MOMENTUM = {"learning_rate": RATE, "momentum": DECAY}
_RMSPROP = {"learning_rate": RATE, "rho": DECAY, "epsilon": EPSILON, "epsilon_outside": EPSILON}
_RMSPROP_MOMENTUM = _RMSPROP | {"momentum": DECAY}
_VELOCITY = {"velocity": POSITIVE}
_VARIANCE = _VELOCITY | {"average_gradient": SIGNED}
_ADAGRAD = {"learning_rate": RATE, "epsilon": EPSILON, "epsilon_outside": EPSILON}
_ADADELTA = {"learning_rate": RATE, "rho": DECAY, "epsilon": EPSILON}
_ADADELTA_SLOTS = {"accumulated_gradient": POSITIVE, "accumulated_displacement": POSITIVE}
_ADAMAX = _ADAM | {"beta_1_power_base": DECAY}
_ADAMAX_SLOTS = {"momentum": SIGNED, "norm": POSITIVE}
_NADAM = _ADAM | {"decay": DECAY, "decay_exponent": (0.004, 1.0), "product_beta_1": DECAY, "product_decay": DECAY}
_NADAM_SCALARS = {
    "scalars": {"momentum_product": DECAY},
    "next_scalars": _next_product,
    "first_scalars": lambda h: {"momentum_product": 1.0},
}
_STRENGTH = (0.0, 0.1)
# The mean of the range is -1/2.
_FTRL = {"learning_rate": RATE, "learning_rate_power": (-0.9, -0.1)}
_FTRL |= {name: _STRENGTH for name in ("l1", "l2", "l2_shrinkage", "beta")}
_FTRL_SLOTS = {"accumulator": POSITIVE, "linear": SIGNED}

_ADAN = _ADAM | {"beta_3": DECAY, "weight_decay": _STRENGTH}
# In the order of the kernel.
_ADAN = {k: _ADAN[k] for k in ("learning_rate", "beta_1", "beta_2", "beta_3", "epsilon", "weight_decay")}
_ADAN_SLOTS = {"momentum": SIGNED, "difference": SIGNED, "velocity": POSITIVE, "previous_gradient": SIGNED}
_SCHEDULE_FREE = _ADAM | {"weight_decay": _STRENGTH, "warmup_steps": (1.0, 2000.0), "r": (0.0, 2.0)}
_SCHEDULE_FREE |= {"weight_lr_power": (0.0, 2.0)}
_SCHEDULE_FREE_SCALARS = {
    "scalars": {"weight_sum": POSITIVE, "largest_rate": RATE},
    "next_scalars": lambda h, step: _schedule_free_weights(h, step)[2],
    "first_scalars": lambda h: {"weight_sum": 0.0, "largest_rate": 0.0},
}

_PRODIGY = _ADAN | {"d_coef": (0.5, 2.0), "use_bias_correction": (-1.0, 1.0)}
# So large that the parameter is soon far from its start, which the estimate then follows.
_PRODIGY_FIRST = {"d": 20.0, "d_ratio": 1.0, "r": 0.0}

_POWERS = {
    "scalars": {"beta_1_power": DECAY, "beta_2_power": DECAY},
    "next_scalars": lambda h, step: {f"beta_{k}_power": h[f"beta_{k}_power"] * h[f"beta_{k}"] for k in (1, 2)},
    "first_scalars": lambda h: {f"beta_{k}_power": h[f"beta_{k}"] for k in (1, 2)},
}
_HAT = _MOMENTS | {"velocity_hat": POSITIVE}

RULES: dict[str, Row] = {
    "adam": Row(adam, _ADAM | _POWER_BASES, _MOMENTS, displacement=_adam_displacement),
    "amsgrad": Row(adam, _ADAM | _POWER_BASES, _HAT, displacement=_adam_displacement),
    "lamb": Row(lamb, _ADAM | _POWER_BASES, _MOMENTS, has_sums=True),
    "adam_powers": Row(adam_powers, _ADAM, _MOMENTS, **_POWERS, rounded=True, displacement=_adam_displacement),
    "adam_decayed": Row(partial(adam, mean=_decayed), _ADAM | _POWER_BASES, _MOMENTS, displacement=_adam_displacement),
    "amsgrad_decayed": Row(partial(adam, mean=_decayed), _ADAM | _POWER_BASES, _HAT, displacement=_adam_displacement),
    "adam_powers_decayed": Row(
        partial(adam_powers, mean=_decayed),
        _ADAM,
        _MOMENTS,
        **_POWERS,
        rounded=True,
        displacement=_adam_displacement,
    ),
    "amsgrad_kernel": Row(
        amsgrad_kernel,
        _ADAM | _POWER_BASES,
        _HAT,
        rounded=True,
        displacement=_adam_displacement,
    ),
    "adamax": Row(adamax, _ADAMAX, _ADAMAX_SLOTS, displacement=_steps(_one)),
    "adamax_kernel": Row(adamax_kernel, _ADAMAX, _ADAMAX_SLOTS, rounded=True, displacement=_steps(_one)),
    "adamax_decayed": Row(partial(adamax, mean=_decayed), _ADAMAX, _ADAMAX_SLOTS, displacement=_steps(_one)),
    "nadam": Row(nadam, _NADAM, _MOMENTS, **_NADAM_SCALARS, displacement=_steps(_nadam_length)),
    "nadam_legacy": Row(
        nadam_legacy, _NADAM, _MOMENTS, **_NADAM_SCALARS, rounded=True, displacement=_steps(_nadam_length)
    ),
    "rmsprop": Row(rmsprop, _RMSPROP, _VELOCITY, displacement=_steps(_rmsprop_length)),
    "rmsprop_momentum": Row(
        rmsprop, _RMSPROP_MOMENTUM, _VELOCITY | {"momentum": SIGNED}, displacement=_with_momentum(_rmsprop_length)
    ),
    "rmsprop_centered": Row(
        partial(rmsprop, centered=True), _RMSPROP, _VARIANCE, displacement=_steps(_centered_length)
    ),
    "rmsprop_centered_momentum": Row(
        partial(rmsprop, centered=True),
        _RMSPROP_MOMENTUM,
        _VARIANCE | {"momentum": SIGNED},
        displacement=_with_momentum(_centered_length),
    ),
    "rmsprop_momentum_kernel": Row(
        rmsprop_kernel,
        _RMSPROP_MOMENTUM,
        _VELOCITY | {"momentum": SIGNED},
        rounded=True,
        displacement=_with_momentum(_rmsprop_length),
    ),
    "rmsprop_centered_momentum_kernel": Row(
        partial(rmsprop_kernel, centered=True),
        _RMSPROP_MOMENTUM,
        _VARIANCE | {"momentum": SIGNED},
        rounded=True,
        displacement=_with_momentum(_centered_length),
    ),
    "adagrad": Row(adagrad, _ADAGRAD, {"accumulator": POSITIVE}, displacement=_steps(_adagrad_length)),
    # Its first step from zero slots is of the size of epsilon.
    "adadelta_by_difference": Row(partial(adadelta, by_difference=True), _ADADELTA, _ADADELTA_SLOTS),
    "adadelta": Row(adadelta, _ADADELTA, _ADADELTA_SLOTS),
    # Without penalties it is Adagrad: McMahan 2011.
    "ftrl": Row(ftrl, _FTRL, _FTRL_SLOTS, displacement=_steps(_adagrad_length)),
    "ftrl_power": Row(_by_power(ftrl), _FTRL, _FTRL_SLOTS, displacement=_steps(_adagrad_length)),
    "ftrl_kernel": Row(ftrl_kernel, _FTRL, _FTRL_SLOTS, rounded=True, displacement=_steps(_adagrad_length)),
    "ftrl_power_kernel": Row(
        _by_power(ftrl_kernel), _FTRL, _FTRL_SLOTS, rounded=True, displacement=_steps(_adagrad_length)
    ),
    "lion_buffered": Row(
        lion_buffered,
        {"learning_rate": RATE, "beta_1": DECAY, "beta_2": DECAY},
        {"momentum": SIGNED},
        displacement=_steps(_one),
    ),
    "lion": Row(
        lion, {"learning_rate": RATE, "beta_1": DECAY, "beta_2": DECAY}, {"momentum": SIGNED}, displacement=_steps(_one)
    ),
    "adan": Row(adan, _ADAN, _ADAN_SLOTS, displacement=_adam_displacement),
    "schedule_free_adamw": Row(
        schedule_free_adamw,
        _SCHEDULE_FREE,
        {"z": SIGNED, "velocity": POSITIVE},
        **_SCHEDULE_FREE_SCALARS,
        displacement=_schedule_free_displacement,
    ),
    "prodigy": Row(
        prodigy,
        _PRODIGY,
        _MOMENTS | {"s": SIGNED, "start": SIGNED},
        {"d": (0.3, 1.0), "d_ratio": (0.3, 1.0), "r": POSITIVE},
        has_sums=True,
        step_sums=("descent", "magnitude"),
        finish=_prodigy_finish,
        first_scalars=lambda h: _PRODIGY_FIRST,
        displacement=_prodigy_displacement,
    ),
    "sgd": Row(sgd, {"learning_rate": RATE}, displacement=lambda h, t: -h["learning_rate"] * t),
    "sgd_momentum": Row(sgd_momentum, _MOMENTUM, {"momentum": SIGNED}, displacement=_momentum_displacement),
    "sgd_nesterov": Row(sgd_nesterov, _MOMENTUM, {"momentum": SIGNED}, displacement=_nesterov_displacement),
    "momentum": Row(momentum, _MOMENTUM, {"momentum": SIGNED}, displacement=_momentum_displacement),
    "momentum_nesterov": Row(momentum_nesterov, _MOMENTUM, {"momentum": SIGNED}, displacement=_nesterov_displacement),
}
