"""What a first half hour on a machine with a GPU is for, by one command:

    python -m tests.gpu.kit --out kit.json

needs the NVIDIA driver, NumPy, ml_dtypes and `fusemin._core` for this Python, whose TensorFlow is not imported.
PyTorch, compute-sanitizer and ncu are used where they are. Each part is a process with a limit of time, so that one
that hangs or breaks the device leaves the others: what it found until then is in the JSON, as is why something was left
out. The exit status is 1 if a part failed, 2 without a GPU.
"""
