"""Warnings to users, which name the line of theirs that called."""

import sys
import warnings
from pathlib import Path
from types import FrameType

import tensorflow as tf

_OURS = (str(Path(__file__).parent), str(Path(tf.__file__).parent), "<string>")


def warn(message: str, category=UserWarning) -> None:
    """Warns as `warnings.warn`, at the innermost line that is neither of fusemin nor of TensorFlow."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
