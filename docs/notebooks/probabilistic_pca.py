# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Probabilistic PCA of handwritten digits
#
# A maximum a posteriori fit, as in TensorFlow Probability's tutorial, by `tfp.math.minimize` and by `fusemin.minimize`,
# with the same result.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import load_digits

import fusemin

tfd = tfp.distributions
pixels, digits = load_digits(return_X_y=True)
images = tf.constant((pixels - pixels.mean(0)) / pixels.std(), tf.float32)
num_images, num_pixels = images.shape

# %% [markdown]
# Each image is a linear map of two latent numbers, plus noise.

# %%
generator = np.random.default_rng(0)
starts = {
    "w": generator.normal(size=[num_pixels, 2]).astype(np.float32),
    "z": generator.normal(size=[num_images, 2]).astype(np.float32),
}


def fit(minimize):
    w, z = tf.Variable(starts["w"]), tf.Variable(starts["z"])

    def loss():
        prior = tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(w)) + tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(z))
        likelihood = tfd.Normal(tf.linalg.matmul(z, w, transpose_b=True), 0.5).log_prob(images)
        return -(prior + tf.reduce_sum(likelihood)) / num_images

    started = time.perf_counter()
    losses = minimize(loss, num_steps=200, optimizer=keras.optimizers.Adam(0.05), trainable_variables=[w, z])
    return losses.numpy(), z.numpy(), time.perf_counter() - started


stock_losses, stock_z, stock_seconds = fit(tfp.math.minimize)
losses, z, seconds = fit(fusemin.minimize)
np.testing.assert_allclose(losses, stock_losses, rtol=1e-3)
print(f"TensorFlow Probability {stock_seconds:.2f} s, fusemin {seconds:.2f} s, tracing included")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(stock_losses, label="TensorFlow Probability", linewidth=4, alpha=0.4)
left.plot(losses, label="fusemin")
left.set(xlabel="step", ylabel="loss")
left.legend()
shown = right.scatter(*z.T, c=digits, cmap="tab10", s=6)
right.set(xlabel="first component", ylabel="second component")
figure.colorbar(shown, label="digit", ax=right)
plt.show()
