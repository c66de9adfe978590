import pathlib
import sys

# The table of rules and the draws of their inputs are those of the CPU kernels' tests.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "kernels"))
