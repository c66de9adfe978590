"""What is said where a user's function asks a tensor for a value while it is traced."""

import contextlib
import re

import tensorflow as tf

# What Python, TensorFlow and Keras say of a tensor without a value.
_OF_TRACING = re.compile(
    r"SymbolicTensor|symbolic `?tf\.Tensor|KerasTensor|numpy\(\) is only available|[Ee]ager execution|graph mode"
    r"|inside a `?tf\.function|out of scope"
)
_LIBRARIES = ("builtins", "tensorflow", "keras", "tf_keras")


@contextlib.contextmanager
def explained_tracing(name: str):
    """Says in errors that come of it that a function is traced. All others, and all in eager mode, are left alone.

    Args:
      name: what users call the function, `loss_fn` for example.
    """
    try:
        yield
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        # An error of the user's own is of a class of theirs, or says something else.
        is_of_library = type(error).__module__.split(".")[0] in _LIBRARIES
        if tf.executing_eagerly() or not is_of_library or not _OF_TRACING.search(str(error)):
            raise
        explained = type(error)(
            f"`{name}` is traced, as in a tf.function: it is called once, not at every step, and its tensors have no "
            "values yet. Use TensorFlow's functions in it (tf.reduce_sum for np.sum, tf.print for print, model(x) for "
            "model.predict(x)), or have `trace_fn` return what you want to see and look at it afterwards. "
            f"TensorFlow says: {error}"
        )
        # With the line of the user's in its traceback: TensorFlow drops the cause of an error in a tf.function.
        raise explained.with_traceback(error.__traceback__) from error
