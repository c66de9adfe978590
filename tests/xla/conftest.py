"""The tables and helpers of the other folders: what they test is tested here inside XLA."""

import pathlib
import sys

for folder in ("optimizers", "minimize", "fuse"):
    sys.path.append(str(pathlib.Path(__file__).parent.parent / folder))
