"""A step of Adam on variables of which a `tf.distribute` strategy keeps copies: stock, fused, and the sum alone."""

from __future__ import annotations

STOCK, FUSED, SUM = "stock", "fused", "the sum alone"


def build_step(name: str, strategy, number: int, size: int):
    """A function that takes a step on each replica, and the variables: so many, of so many elements, in float32."""
    import keras
    import tensorflow as tf

    import fusemin

    with strategy.scope():
        variables = [tf.Variable(tf.ones([size]), name=f"x{i}") for i in range(number)]
        optimizer = keras.optimizers.Adam(1e-3)
        if name == FUSED:
            optimizer = fusemin.fuse(optimizer)
        optimizer.build(variables)

    def on_replica():
        gradients = [0.5 * x for x in variables]
        if name == SUM:
            # Not returned: handing over 300 tensors takes longer than the update.
            tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        else:
            optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))

    return tf.function(lambda: strategy.run(on_replica)), variables
