"""`tfp.vi` with fusemin: TensorFlow Probability's own functions, which take their steps by `fusemin.minimize`.

>>> import tensorflow as tf, tensorflow_probability as tfp, tf_keras, fusemin
>>> tfd = tfp.distributions
>>> surrogate = tfd.Normal(tf.Variable(0.0), tfp.util.TransformedVariable(1.0, tfp.bijectors.Softplus()))
>>> losses = fusemin.vi.fit_surrogate_posterior(
...     tfd.Normal(2.0, 0.5).log_prob, surrogate, tf_keras.optimizers.Adam(0.1), num_steps=200, seed=(1, 2))
>>> losses.shape
TensorShape([200])
"""

import tensorflow_probability as tfp

from fusemin.api.tfp_replacement import with_fusemin

__all__ = ["fit_surrogate_posterior", "fit_surrogate_posterior_stateless"]

fit_surrogate_posterior = with_fusemin(tfp.vi.fit_surrogate_posterior)
fit_surrogate_posterior_stateless = with_fusemin(tfp.vi.fit_surrogate_posterior_stateless)
