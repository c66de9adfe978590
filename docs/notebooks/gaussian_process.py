# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Gaussian process regression
#
# Disease progression against body mass index: the hyperparameters are fitted by the marginal likelihood.

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
index = features[:150, 2:3] / features[:, 2].std()
observed = (progression[:150] - progression.mean()) / progression.std()

# %%


def fit(minimize):
    amplitude, length, noise = (
        tfp.util.TransformedVariable(start, tfb.Softplus(), dtype=tf.float64) for start in (1.0, 1.0, 0.5)
    )

    def process(points):
        kernel = tfp.math.psd_kernels.ExponentiatedQuadratic(amplitude, length)
        return tfd.GaussianProcess(kernel, points, observation_noise_variance=noise)

    started = time.perf_counter()
    losses = minimize(
        lambda: -process(index).log_prob(observed),
        num_steps=150,
        optimizer=keras.optimizers.Adam(0.05),
        trainable_variables=[*amplitude.trainable_variables, *length.trainable_variables, *noise.trainable_variables],
    )
    return losses.numpy(), (amplitude, length, noise), time.perf_counter() - started


stock_losses, _, stock_seconds = fit(tfp.math.minimize)
losses, (amplitude, length, noise), seconds = fit(fusemin.minimize)
np.testing.assert_allclose(losses, stock_losses, rtol=1e-8)
print(f"TensorFlow Probability {stock_seconds:.2f} s, fusemin {seconds:.2f} s, tracing included")

# %% [markdown]
# Nearly all of the time goes into the Cholesky decomposition, so there is little to gain here.

# %%
points = np.linspace(index.min(), index.max(), 100)[:, None]
regression = tfd.GaussianProcessRegressionModel(
    tfp.math.psd_kernels.ExponentiatedQuadratic(amplitude, length), points, index, observed, noise
)
mean, deviation = regression.mean().numpy(), regression.stddev().numpy()
figure, axes = plt.subplots(figsize=(9, 3.5), layout="constrained")
axes.scatter(index[:, 0], observed, s=8, color="black")
axes.plot(points[:, 0], mean)
axes.fill_between(points[:, 0], mean - 2 * deviation, mean + 2 * deviation, alpha=0.3)
axes.set(xlabel="body mass index, standardized", ylabel="progression, standardized")
plt.show()
