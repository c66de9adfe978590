"""What is said of a step whose loss or gradient is not finite."""


class NonFiniteError(FloatingPointError):
    """A loss or gradient was not finite.

    Attributes:
      step: the index of the step, counted from 0.
      variable: the name of the variable whose gradient it is, or None if it is the loss.
    """

    def __init__(self, step: int, variable: str | None) -> None:
        # "skip" is about gradients.
        skip = "" if variable is None else ", or on_nonfinite='skip' to go on without such steps"
        super().__init__(
            f"{described(step, variable)}; the variables are those before this step. Try a smaller learning rate or "
            f"clipnorm{skip}"
        )
        self.step, self.variable = step, variable


def described(step: int, variable: str | None) -> str:
    """What was not finite, in words."""
    what = "the loss" if variable is None else f"the gradient of '{variable}'"
    return f"{what} is not finite at step {step}"


def culprit(cause: int, variables: list) -> str | None:
    """The name of the variable that `NonFinite.cause` stands for; None for the loss."""
    return None if cause == 1 else variables[cause - 2].name
