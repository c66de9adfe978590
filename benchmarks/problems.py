"""What is minimized: `Problem`, and the synthetic ones. The real models are in `models.py`."""

import abc
import dataclasses
import functools
from collections.abc import Callable

import numpy as np

TARGET = 5.0
# All rivals use these; the optimizers of TensorFlow and torch differ in their defaults.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


@dataclasses.dataclass(frozen=True)
class Math:
    """The functions of a library that losses need beside operators.

    Attributes:
      constant: from a NumPy array to one of the library.
    """

    constant: Callable
    reduce_sum: Callable
    add_n: Callable
    tanh: Callable
    softplus: Callable


class Problem(abc.ABC):
    """A loss, and the values to start from.

    Attributes:
      name: of the case in tables.
      libraries: whose functions the loss is written in; by default those of every `Math`.
      seeded: whether the loss is a function of a seed too, as of Monte Carlo samples or a minibatch.
      tolerance: how far the losses of a rival may be from the reference, as a fraction of the first.
    """

    name: str
    libraries = ("tensorflow", "torch", "jax")
    seeded = False
    tolerance = 1e-3

    @abc.abstractmethod
    def start(self) -> list[np.ndarray]:
        """The float32 values to start from, the same at each call."""

    @abc.abstractmethod
    def bind(self, math: Math) -> Callable:
        """The loss as a function of a list of variables, and of a seed if `seeded`; its data converted once."""

    def reference(self, learning_rate: float, num_steps: int) -> np.ndarray | None:
        """The losses of Adam in float64, or None: then those of stock Adam are the reference."""
        del learning_rate, num_steps
        return None


@dataclasses.dataclass(frozen=True)
class Quadratic(Problem):
    """The sum of (x - 5)^2, the example of TFP's documentation, over variables of one shape.

    As cheap as a loss can be, so that a step is mostly what is compared: the loop, the update, the trace.
    """

    name: str
    num_variables: int
    shape: tuple[int, ...]

    def start(self):
        random = np.random.default_rng(0)
        return [np.asarray(random.uniform(-1, 1, self.shape), np.float32) for _ in range(self.num_variables)]

    def bind(self, math):
        def loss(variables):
            squares = [(x - TARGET) ** 2 for x in variables]
            if self.shape:
                squares = [math.reduce_sum(square) for square in squares]
            return math.add_n(squares) if len(squares) > 1 else squares[0]

        return loss

    # Every rival asks for the same.
    @functools.lru_cache(maxsize=4)  # noqa: B019 - a module's few constants.
    def reference(self, learning_rate, num_steps):
        x = np.stack(self.start()).astype(np.float64)
        momentum, velocity, losses = np.zeros_like(x), np.zeros_like(x), []
        for step in range(1, num_steps + 1):
            losses.append(np.sum((x - TARGET) ** 2))
            gradient = 2 * (x - TARGET)
            momentum += (1 - BETA_1) * (gradient - momentum)
            velocity += (1 - BETA_2) * (gradient**2 - velocity)
            alpha = learning_rate * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            x -= alpha * momentum / (np.sqrt(velocity) + EPSILON)
        return np.array(losses)


@dataclasses.dataclass(frozen=True)
class Perceptron(Problem):
    """A 30-64-64-64-1 multilayer perceptron on the 569 rows of scikit-learn's breast cancer data, the full batch."""

    name: str = "perceptron 30-64-64-64-1"
    sizes: tuple[int, ...] = (30, 64, 64, 64, 1)

    def start(self):
        random = np.random.default_rng(0)
        values = []
        for fan_in, fan_out in zip(self.sizes, self.sizes[1:], strict=False):
            values.append(random.normal(0, 1 / np.sqrt(fan_in), (fan_in, fan_out)).astype(np.float32))
            values.append(np.zeros(fan_out, np.float32))
        return values

    def bind(self, math):
        from sklearn import datasets, preprocessing

        features, labels = datasets.load_breast_cancer(return_X_y=True)
        features = math.constant(preprocessing.scale(features).astype(np.float32))
        labels = math.constant(labels.astype(np.float32)[:, np.newaxis])

        def loss(variables):
            hidden = features
            for i in range(0, len(variables) - 2, 2):
                hidden = math.tanh(hidden @ variables[i] + variables[i + 1])
            logits = hidden @ variables[-2] + variables[-1]
            return math.reduce_sum(math.softplus(logits) - labels * logits) / len(features)

        return loss


SCALAR = Quadratic("one scalar", 1, ())
FIFTY = Quadratic("50 variables of 100", 50, (100,))
FOUR_MILLION = Quadratic("1 variable of 4,000,000", 1, (4_000_000,))
TWO_HUNDRED = Quadratic("200 variables of 10,000", 200, (10_000,))
PERCEPTRON = Perceptron()
