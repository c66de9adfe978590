# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A structural time series: carbon dioxide at Mauna Loa
#
# Trend and season, fitted by variational inference: TensorFlow Probability's own function, with its steps and with
# fusemin's.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
import tensorflow_probability as tfp
import tf_keras

import fusemin

monthly = sm.datasets.co2.load_pandas().data["co2"].resample("MS").mean().interpolate()["1993":"1999"]
observed, held_out = monthly[:-24].to_numpy(np.float32), monthly[-24:]

# %%
model = tfp.sts.Sum(
    [
        tfp.sts.LocalLinearTrend(observed_time_series=observed),
        tfp.sts.Seasonal(12, observed_time_series=observed),
    ],
    observed_time_series=observed,
)


def fit(fit_surrogate_posterior):
    surrogate = tfp.sts.build_factored_surrogate_posterior(model=model, seed=(1, 2))
    started = time.perf_counter()
    losses = fit_surrogate_posterior(
        target_log_prob_fn=model.joint_distribution(observed_time_series=observed).log_prob,
        surrogate_posterior=surrogate,
        optimizer=tf_keras.optimizers.Adam(0.1),
        num_steps=40,
        seed=(3, 4),
    )
    return losses.numpy(), surrogate, time.perf_counter() - started


stock_losses, _, stock_seconds = fit(tfp.vi.fit_surrogate_posterior)
losses, surrogate, seconds = fit(fusemin.vi.fit_surrogate_posterior)
np.testing.assert_allclose(losses, stock_losses, rtol=1e-2)
print(f"TensorFlow Probability {stock_seconds:.1f} s, fusemin {seconds:.1f} s, tracing included")

# %%
forecast = tfp.sts.forecast(
    model, observed, parameter_samples=surrogate.sample(20, seed=(5, 6)), num_steps_forecast=len(held_out)
)
mean, deviation = forecast.mean().numpy()[:, 0], forecast.stddev().numpy()[:, 0]
figure, axes = plt.subplots(figsize=(9, 3.5), layout="constrained")
axes.plot(monthly.index, monthly, color="black", linewidth=1, label="observed")
axes.plot(held_out.index, mean, label="forecast")
axes.fill_between(held_out.index, mean - 2 * deviation, mean + 2 * deviation, alpha=0.3)
axes.set(ylabel="carbon dioxide, ppm")
axes.legend()
plt.show()
