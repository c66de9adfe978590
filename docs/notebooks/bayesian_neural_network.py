# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A Bayesian neural network
#
# A posterior over the weights of a small network, by variational inference: many small variables, where fusemin gains
# most.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import load_diabetes

import fusemin

tfd, tfb = tfp.distributions, tfp.bijectors
features, progression = load_diabetes(return_X_y=True)
x = tf.constant(features[:, 2:3] / features[:, 2].std(), tf.float32)
y = tf.constant((progression - progression.mean()) / progression.std(), tf.float32)
SHAPES = ([1, 16], [16], [16, 16], [16], [16, 1], [1])


def network(weights, inputs):
    w1, b1, w2, b2, w3, b3 = weights
    hidden = tf.tanh(tf.matmul(inputs, w1) + b1)
    hidden = tf.tanh(tf.matmul(hidden, w2) + b2)
    return (tf.matmul(hidden, w3) + b3)[:, 0]


# %%


def fit(minimize):
    generator = np.random.default_rng(0)
    means = [tf.Variable(0.5 * generator.normal(size=shape).astype(np.float32)) for shape in SHAPES]
    rhos = [tf.Variable(tf.fill(shape, -3.0)) for shape in SHAPES]

    def loss(seed):
        weights, divergence = [], 0.0
        for i, (mean, rho) in enumerate(zip(means, rhos, strict=True)):
            scale = tf.nn.softplus(rho)
            noise = tf.random.stateless_normal(mean.shape, tf.random.experimental.stateless_fold_in(seed, i))
            weights.append(mean + scale * noise)
            divergence += tf.reduce_sum(tfd.kl_divergence(tfd.Normal(mean, scale), tfd.Normal(0.0, 1.0)))
        return divergence - tf.reduce_sum(tfd.Normal(network(weights, x), 0.8).log_prob(y))

    started = time.perf_counter()
    losses = minimize(
        loss,
        num_steps=1_000,
        optimizer=keras.optimizers.Adam(0.01),
        trainable_variables=[*means, *rhos],
        seed=(1, 2),
    )
    return losses.numpy(), means, rhos, time.perf_counter() - started


stock_losses, _, _, stock_seconds = fit(tfp.math.minimize)
losses, means, rhos, seconds = fit(fusemin.minimize)
np.testing.assert_allclose(losses[:100], stock_losses[:100], rtol=1e-3)
print(f"TensorFlow Probability {stock_seconds:.2f} s, fusemin {seconds:.2f} s, tracing included")

# %%
points = tf.linspace(tf.reduce_min(x), tf.reduce_max(x), 100)[:, None]
draws = []
for seed in range(50):
    noise = [tf.random.stateless_normal(m.shape, [seed, i]) for i, m in enumerate(means)]
    draws.append(network([m + tf.nn.softplus(r) * n for m, r, n in zip(means, rhos, noise, strict=True)], points))
mean, deviation = np.mean(draws, 0), np.std(draws, 0)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(stock_losses, label="TensorFlow Probability", linewidth=4, alpha=0.4)
left.plot(losses, label="fusemin")
left.set(xlabel="step", ylabel="loss")
left.legend()
right.scatter(x[:, 0], y, s=6, color="black")
right.plot(points[:, 0], mean)
right.fill_between(points[:, 0], mean - 2 * deviation, mean + 2 * deviation, alpha=0.3)
right.set(xlabel="body mass index, standardized", ylabel="progression, standardized")
plt.show()
