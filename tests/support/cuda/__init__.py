"""What the tests of the CUDA kernels share: the interpreter of PTX, drivers and machines, cases, mutants."""
