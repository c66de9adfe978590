"""Gradients, dense and sparse: what the op can take of them."""

from collections.abc import Sequence

import tensorflow as tf

INDEX_DTYPES = (tf.int32, tf.int64)


def is_sparse(gradient) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def find_gradient_reason(gradient, variable: tf.Variable, xla: bool) -> str | None:
    """Why the op cannot take this gradient of this variable, where XLA compiles the step or not; or None."""
    what = _find_mismatch(gradient, variable, xla)
    return None if what is None else f"the gradient of '{variable.name}' {what}"


def _find_mismatch(gradient, variable: tf.Variable, xla: bool) -> str | None:
    # Asked of each gradient at each step of a fused optimizer: what is the same object is not compared.
    if is_sparse(gradient):
        return _find_sparse_mismatch(gradient, variable, xla)
    if not isinstance(gradient, tf.Tensor):
        return _not_a_tensor(gradient)
    dtype, shape = gradient.dtype, gradient.shape
    if dtype is not variable.dtype and dtype != variable.dtype:
        return _of_another_dtype(gradient, variable)
    if not shape.is_compatible_with(variable.shape):
        return f"has shape {shape}, not {variable.shape}"
    return None


def _not_a_tensor(given) -> str:
    return "is None" if given is None else f"is a {type(given).__name__}, not a tensor"


def _of_another_dtype(gradient, variable: tf.Variable) -> str:
    return f"is of {gradient.dtype.name}, not of {variable.dtype.name}"


def _find_sparse_mismatch(gradient: tf.IndexedSlices, variable: tf.Variable, xla: bool) -> str | None:
    for tensor in (gradient.values, gradient.indices):
        if not isinstance(tensor, tf.Tensor):
            return f"is a {type(tensor).__name__}, not a tensor"
    if gradient.dtype != variable.dtype:
        return _of_another_dtype(gradient, variable)
    if gradient.indices.dtype not in INDEX_DTYPES:
        return f"has indices of {gradient.indices.dtype.name}"
    slices = tf.TensorShape([None]).concatenate(variable.shape[1:])
    if variable.shape.rank == 0 or not gradient.values.shape.is_compatible_with(slices):
        return f"has slices of shape {gradient.values.shape}, not of {variable.shape}"
    if "GPU" in variable.device:
        return f"is sparse, and '{variable.name}' is on a GPU"
    if xla:
        return "is sparse, and XLA compiles the step"
    return None


def flatten(gradients: Sequence) -> list[tf.Tensor]:
    """The tensors that gradients consist of."""
    return [t for g in gradients for t in ([g.values, g.indices] if is_sparse(g) else [g])]


def kinds(gradients: Sequence) -> tuple[tf.DType | None, ...]:
    """For each gradient None if it is dense, else the dtype of its indices."""
    return tuple(g.indices.dtype if is_sparse(g) else None for g in gradients)


def specs(variables: Sequence[tf.Variable], kinds: Sequence[tf.DType | None]) -> list[tf.TensorSpec]:
    """TensorSpecs of the tensors that `flatten` returns for gradients of these kinds."""
    result = []
    for variable, kind in zip(variables, kinds, strict=True):
        if kind is None:
            result.append(tf.TensorSpec(variable.shape, variable.dtype))
        else:
            slices = tf.TensorShape([None]).concatenate(variable.shape[1:])
            result += [tf.TensorSpec(slices, variable.dtype), tf.TensorSpec([None], kind)]
    return result


def unflatten(tensors: Sequence[tf.Tensor], kinds: Sequence[tf.DType | None]) -> list:
    """The gradients again, of what `flatten` gave."""
    tensors = iter(tensors)
    return [next(tensors) if kind is None else tf.IndexedSlices(next(tensors), next(tensors)) for kind in kinds]


def densify(gradient, variable: tf.Variable) -> tf.Tensor:
    """A gradient as a dense tensor of the shape of its variable. Slices of one row are added."""
    if not is_sparse(gradient):
        return tf.convert_to_tensor(gradient)
    dense = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return tf.ensure_shape(dense, variable.shape)


def is_finite(tensor: tf.Tensor) -> tf.Tensor:
    """Whether all elements are finite, a bool scalar."""
    if tensor.dtype.is_complex:
        return is_finite(tf.math.real(tensor)) & is_finite(tf.math.imag(tensor))
    return tf.reduce_all(tf.math.is_finite(tensor))
