"""Every optimizer that has a fused rule, in each of its families and in each of its variants: the rows of the tests."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.families import FAMILY


@dataclass(frozen=True)
class Row:
    """An optimizer with the arguments of its constructor.

    Attributes:
      num_variables: how many variables are updated at once.
      unstable: by dtype, why stock itself is far from its float64 result there: see `STOCK_LIMITS`.
      no_kernel: dtypes for which stock has no kernel.
    """

    family: str
    optimizer: str
    arguments: dict[str, object] = field(default_factory=dict)
    num_variables: int = 3
    unstable: dict[str, str] = field(default_factory=dict)
    no_kernel: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return "-".join([self.family, self.optimizer, *(f"{k}={v}" for k, v in self.arguments.items())])

    @property
    def make(self) -> Callable:
        """The constructor, with the arguments of the row."""
        return functools.partial(getattr(FAMILY[self.family].optimizers, self.optimizer), **self.arguments)


_KERAS = ("keras", "tf_keras", "tf_keras legacy")
_NEW_KERAS = ("keras", "tf_keras")
_V1 = ("tf.compat.v1.train",)
_OWN = ("fusemin.optimizers",)

# How far stock in a dtype may be from stock in float64 for a row not to be called unstable.
STOCK_LIMITS = {"float32": 2e-6, "float16": 0.02, "bfloat16": 0.1}

# What turns the sign turns a whole step, by 2 lr, whatever the precision.
_SIGN = "the sign of a momentum near zero depends on its rounding"
_LION = {"float16": _SIGN, "bfloat16": _SIGN}
# The linear slot takes up (s(a + g^2) - s(a)) p / lr, of which 1 / lr times the rounding of s(a) is error.
_DIFFERENCE = "the linear slot sums small differences of large roots, divided by the learning rate"
_FTRL_UNSTABLE = {"float32": _DIFFERENCE, "float16": _DIFFERENCE, "bfloat16": _DIFFERENCE}

_BETAS = {"beta_1": 0.85, "beta_2": 0.99}
_FTRL = {"l1_regularization_strength": 0.02, "l2_regularization_strength": 0.03}
_SHRINKAGE = {"l2_shrinkage_regularization_strength": 0.01}


def _rows(families, optimizer, *variants, **options):
    return [Row(family, optimizer, variant, **options) for family in families for variant in variants]


ROWS: list[Row] = [
    *_rows(_KERAS, "SGD", {}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
    *_rows(_V1, "GradientDescentOptimizer", {}),
    *_rows(_V1, "MomentumOptimizer", {"momentum": 0.9}, {"momentum": 0.9, "use_nesterov": True}),
    *_rows(_KERAS, "Adam", {}, _BETAS | {"epsilon": 1e-3}, {"amsgrad": True}),
    *_rows(_V1, "AdamOptimizer", {}, {"beta1": 0.85, "beta2": 0.99, "epsilon": 1e-3}),
    *_rows(_NEW_KERAS, "AdamW", {"weight_decay": 0.0}),
    *_rows(("keras",), "Lamb", {}, unstable={"bfloat16": "1 - beta_2 is 0 in bfloat16, and stock divides by it"}),
    *_rows(("keras",), "Lamb", _BETAS | {"epsilon": 1e-3}),
    *_rows(_NEW_KERAS, "Adamax", {}, _BETAS | {"epsilon": 1e-3}),
    *_rows(("tf_keras legacy",), "Adamax", {}, _BETAS | {"epsilon": 1e-3}, no_kernel=frozenset({"bfloat16"})),
    *_rows(("keras", "tf_keras legacy"), "Nadam", {}, _BETAS | {"epsilon": 1e-3}),
    # With more variables it is not fused: see test_fallback_reasons.py.
    *_rows(("tf_keras",), "Nadam", {}, _BETAS | {"epsilon": 1e-3}, num_variables=1),
    *_rows(("tf_keras legacy",), "Nadam", {"schedule_decay": 0.5}),
    *_rows(
        _KERAS,
        "RMSprop",
        {},
        {"rho": 0.8, "epsilon": 1e-3},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.9, "epsilon": 1e-3},
    ),
    *_rows(
        _V1,
        "RMSPropOptimizer",
        {},
        {"decay": 0.8, "momentum": 0.9, "epsilon": 1e-3},
        {"centered": True, "momentum": 0.9, "epsilon": 1e-3},
    ),
    *_rows(_KERAS, "Adagrad", {}, {"initial_accumulator_value": 0.5, "epsilon": 1e-2}),
    *_rows(_V1, "AdagradOptimizer", {}),
    *_rows(_KERAS, "Adadelta", {}, {"rho": 0.8, "epsilon": 1e-3}),
    *_rows(_V1, "AdadeltaOptimizer", {}, {"rho": 0.8, "epsilon": 1e-3}),
    *_rows(
        _KERAS,
        "Ftrl",
        {},
        _FTRL | {"beta": 0.1},
        _FTRL | _SHRINKAGE,
        _FTRL | _SHRINKAGE | {"beta": 0.1, "learning_rate_power": -0.3},
        unstable=_FTRL_UNSTABLE,
    ),
    *_rows(
        _V1,
        "FtrlOptimizer",
        {},
        _FTRL | {"beta": 0.1},
        _FTRL | _SHRINKAGE,
        _FTRL | _SHRINKAGE | {"beta": 0.1, "learning_rate_power": -0.3},
        unstable=_FTRL_UNSTABLE,
    ),
    *_rows(_NEW_KERAS, "Lion", {}, _BETAS, unstable=_LION),
    *_rows(
        _OWN,
        "Adan",
        {},
        {"weight_decay": 0.1},
        {"beta_1": 0.9, "beta_2": 0.8, "beta_3": 0.95, "epsilon": 1e-3},
        unstable={"bfloat16": "a mean that moves by 1/50 a step is rounded to 8 bits, which a step divides by"},
    ),
    *_rows(
        _OWN,
        "ScheduleFreeAdamW",
        {},
        {"weight_decay": 0.1, "warmup_steps": 400},
        _BETAS | {"r": 1.5, "weight_lr_power": 1.0, "epsilon": 1e-3},
    ),
    *_rows(
        _OWN,
        "Prodigy",
        {},
        {"weight_decay": 0.1, "use_bias_correction": True},
        _BETAS | {"beta_3": 0.9, "d_coef": 2.0, "epsilon": 1e-3},
    ),
]

# Options, for a rule without slots, one with, and one with a trust ratio.
_SURROUNDED = ("SGD", "Adam", "AdamW")
_CLIPPING = [{"clipvalue": 0.2}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}]
_DECAY = {"weight_decay": 0.1}
_EMA = {"use_ema": True, "ema_momentum": 0.9}
_ACCUMULATION = {"gradient_accumulation_steps": 3}

OPTION_ROWS: list[Row] = [
    *(
        row
        for optimizer in _SURROUNDED
        for row in _rows(
            _NEW_KERAS,
            optimizer,
            *_CLIPPING,
            _DECAY,
            _EMA,
            _EMA | {"ema_overwrite_frequency": 3},
            _DECAY | _EMA | {"clipnorm": 0.3},
        )
    ),
    *_rows(("tf_keras legacy",), "SGD", *_CLIPPING),
    *_rows(("tf_keras legacy",), "Adam", *_CLIPPING),
    *(
        row
        for optimizer in (*_SURROUNDED, "Nadam", "Lamb")
        for row in _rows(
            ("keras",),
            optimizer,
            {"loss_scale_factor": 8.0},
            _ACCUMULATION,
            _ACCUMULATION | {"clipvalue": 0.1, "loss_scale_factor": 3.0},
            _ACCUMULATION | _DECAY | _EMA | {"global_clipnorm": 0.3, "ema_overwrite_frequency": 2},
        )
    ),
    *_rows(("keras",), "Lamb", _DECAY | {"clipnorm": 0.3}, _DECAY | _EMA),
    *(
        row
        for optimizer, no_prox in (("Adan", {"no_prox": True}), ("ScheduleFreeAdamW", {}), ("Prodigy", {}))
        for row in _rows(
            _OWN,
            optimizer,
            _DECAY | no_prox | _EMA | {"clipnorm": 0.3},
            _ACCUMULATION | _DECAY | {"global_clipnorm": 0.3, "loss_scale_factor": 3.0},
        )
    ),
]
