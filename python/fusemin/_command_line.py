"""The arguments of `python -m fusemin`, parsed before TensorFlow is imported.

Python imports the package `fusemin` before the program, and the package imports this module before all others. So
`--help` and a mistake are answered at once, not after the seconds and the log of TensorFlow's import.
"""

import argparse
import sys
from collections.abc import Callable


def _integer(least: int, greatest: int) -> Callable[[str], int]:
    """An argparse type: an int in [least, greatest]."""

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, it is {text!r}") from None
        if not least <= value <= greatest:
            raise argparse.ArgumentTypeError(f"must be from {least} to {greatest}, it is {value}")
        return value

    return parse


def _positive(text: str) -> float:
    """An argparse type: a positive, finite float."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, it is {text!r}") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite, it is {text}")
    return value


def parser() -> argparse.ArgumentParser:
    """The parser of what `python -m fusemin` takes."""
    parser = argparse.ArgumentParser(
        prog="python -m fusemin",
        description="Fits the eight schools model (Rubin 1981) by mean-field variational inference with "
        "fusemin.minimize, prints the posterior beside the published one, and times the loop with the fused update and "
        "with the optimizer's own, beside tfp.math.minimize where tensorflow_probability is installed.",
        epilog="The report goes to stdout, TensorFlow's own messages to stderr. On one machine the same arguments give "
        "the same fit.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--steps", metavar="N", type=_integer(1, 10_000_000), default=2_000, help="optimization steps of the fit"
    )
    parser.add_argument(
        "--samples", metavar="N", type=_integer(1, 100_000), default=16, help="Monte Carlo samples in each step"
    )
    parser.add_argument("--learning-rate", metavar="X", type=_positive, default=0.02, help="of keras.optimizers.Adam")
    parser.add_argument(
        "--seed", metavar="N", type=_integer(0, 2**31 - 1), default=0, help="of the Monte Carlo samples"
    )
    parser.add_argument("--plot", metavar="FILE", help="write the curve of the loss into this file; needs matplotlib")
    parser.add_argument("--jit", action="store_true", help="compile all loops with XLA (jit_compile=True)")
    return parser


def _is_starting() -> bool:
    """Whether `python -m fusemin` is looking for the program, which it is in while it imports the package."""
    # What `sys.argv` begins with then is documented. It does not say the name of the module.
    return sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in ("fusemin", "-mfusemin")


if _is_starting():
    parser().parse_args()
