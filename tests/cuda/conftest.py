import pathlib
import sys

from fusemin._build import HAS_CUDA_KERNELS

# The table of rules and the draws of their inputs are those of the CPU kernels' tests.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "kernels"))

# Built with FUSEMIN_CUDA=OFF.
if not HAS_CUDA_KERNELS:
    collect_ignore_glob = ["test_*.py"]
