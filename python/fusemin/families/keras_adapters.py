"""Adapters of the classes that are alike in `keras` and `tf_keras`, down to the names of their attributes.

Both turn a number into a tensor in one of two ways: `tf.cast` makes it float32 first, an operation with a tensor gives
it that tensor's dtype at once. Which of the two meets a hyperparameter differs from class to class.
"""

from fusemin.families.family import Adapter, SparseUpdate
from fusemin.families.numbers import through_float32

# The base of the momentum schedule of every Nadam.
NADAM_DECAY = 0.96


def momentum_rule(optimizer) -> str:
    """The rule of an SGD that has a momentum slot."""
    return "sgd_nesterov" if optimizer.nesterov else "sgd_momentum"


def rmsprop_rule(centered: bool, momentum: bool, kernel: bool = False) -> str:
    """The rule of an RMSprop, from what decides which slots it has, and whether it is a kernel of TensorFlow."""
    return "rmsprop" + "_centered" * bool(centered) + "_momentum" * bool(momentum) + "_kernel" * bool(kernel)


ADAM = Adapter(
    rule=lambda o: "amsgrad" if o.amsgrad else "adam",
    slots={"momentum": "_momentums", "velocity": "_velocities", "velocity_hat": "_velocity_hats"},
    hyperparameters=lambda o: {
        "beta_1": o.beta_1,
        "beta_2": o.beta_2,
        "epsilon": o.epsilon,
        "beta_1_power_base": through_float32(o.beta_1),
        "beta_2_power_base": through_float32(o.beta_2),
    },
)

RMSPROP = Adapter(
    rule=lambda o: rmsprop_rule(o.centered, o.momentum > 0),
    slots={"velocity": "_velocities", "momentum": "_momentums", "average_gradient": "_average_gradients"},
    hyperparameters=lambda o: {
        "rho": o.rho,
        "momentum": o.momentum,
        "epsilon": o.epsilon,
        "epsilon_outside": 0.0,
    },
    # With momentum every row moves.
    sparse=lambda o: SparseUpdate("every" if o.momentum > 0 else "slots_of_every"),
)

ADAGRAD = Adapter(
    rule=lambda o: "adagrad",
    slots={"accumulator": "_accumulators"},
    hyperparameters=lambda o: {"epsilon": o.epsilon, "epsilon_outside": 0.0},
    sparse=lambda o: SparseUpdate("touched"),
)

ADADELTA = Adapter(
    rule=lambda o: "adadelta",
    slots={"accumulated_gradient": "_accumulated_grads", "accumulated_displacement": "_accumulated_delta_vars"},
    hyperparameters=lambda o: {"rho": o.rho, "epsilon": o.epsilon},
)

ADAMAX = Adapter(
    rule=lambda o: "adamax",
    slots={"momentum": "_m", "norm": "_u"},
    hyperparameters=lambda o: {
        "beta_1": o.beta_1,
        "beta_2": o.beta_2,
        "epsilon": o.epsilon,
        "beta_1_power_base": through_float32(o.beta_1),
    },
)

FTRL = Adapter(
    rule=lambda o: "ftrl" if o.learning_rate_power == -0.5 else "ftrl_power",
    slots={"accumulator": "_accumulators", "linear": "_linears"},
    hyperparameters=lambda o: {
        "learning_rate_power": o.learning_rate_power,
        "l1": o.l1_regularization_strength,
        "l2": o.l2_regularization_strength,
        "l2_shrinkage": o.l2_shrinkage_regularization_strength,
        "beta": o.beta,
    },
)


def one_dtype(optimizer, variables) -> str | None:
    """No option, unless the variables have several dtypes: the product of a Nadam is of one, and rounded to it."""
    if len({v.dtype for v in variables}) > 1:
        return "a momentum product of one dtype for variables of several"
    return None


def nadam(through_product) -> Adapter:
    """Nadam; `through_product` is what a number goes through before it becomes a factor of the momentum product."""
    return Adapter(
        rule=lambda o: "nadam",
        slots={"momentum": "_momentums", "velocity": "_velocities"},
        scalars={"momentum_product": "_u_product"},
        hyperparameters=lambda o: {
            "beta_1": through_float32(o.beta_1),
            "beta_2": through_float32(o.beta_2),
            "epsilon": o.epsilon,
            "decay": through_float32(NADAM_DECAY),
            "decay_exponent": 1.0,
            "product_beta_1": through_product(o.beta_1),
            "product_decay": through_product(NADAM_DECAY),
        },
        unsupported=one_dtype,
    )


def lion(momentums: str) -> Adapter:
    """Lion; `momentums` is the attribute that holds its slots."""
    return Adapter(
        rule=lambda o: "lion",
        slots={"momentum": momentums},
        hyperparameters=lambda o: {"beta_1": through_float32(o.beta_1), "beta_2": through_float32(o.beta_2)},
    )


# The classes that need nothing of their own in either family.
ALIKE = {
    "Adam": ADAM,
    # Its weight decay is an option of every optimizer.
    "AdamW": ADAM,
    "Adamax": ADAMAX,
    "RMSprop": RMSPROP,
    "Adagrad": ADAGRAD,
    "Adadelta": ADADELTA,
    "Ftrl": FTRL,
}
