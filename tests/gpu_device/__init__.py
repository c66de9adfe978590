"""TensorFlow's own GPU device on a machine without a GPU: a stand-in for the driver, and tests that run on it.

TensorFlow's wheel is the CUDA build. It opens the driver and CUDA's libraries by name, so with stand-ins on
LD_LIBRARY_PATH it lists a GPU, places variables there and runs fusemin's GPU ops, whose kernels the PTX interpreter
executes. Of what the driver is called for it keeps counts. TensorFlow's own kernels, and XLA's, are counted and not
run: what they would compute is whatever was in memory. So values are compared where the loss is computed on the CPU,
and counts where it is computed on the device.

    python -m tests.gpu_device [--devices 2] [--capability 7.0] [arguments of pytest]

runs tests on it: those of `on_device` by default.
"""
