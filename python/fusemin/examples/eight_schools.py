"""The eight schools model and a mean-field approximation of its posterior, which `python -m fusemin` fits.

Eight schools coached students for the SAT-V, each in its own randomized experiment. Given are the estimated effect of
coaching and its standard error for every school, in points of the test; sought are the true effects `theta`:

    mu    ~ normal(0, 5)
    tau   ~ half-Cauchy(0, 5)
    eta_j ~ normal(0, 1)               theta_j = mu + tau eta_j
    y_j   ~ normal(theta_j, sigma_j)   y and sigma are given, j = 1 ... 8

This is the non-centered form: `eta`, not `theta`, is a parameter, as the posterior of `theta` is a funnel where `tau`
is small. The data are those of Rubin (1981), "Estimation in parallel randomized experiments", Journal of Educational
Statistics 6(4), 377-401; the priors are those of the published posterior, see `PUBLISHED_SOURCE`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
STANDARD_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

_PRIOR_SCALE = 5.0  # Of mu and of tau.
_NUM_PARAMETERS = 2 + EFFECTS.size
_LOG_NORMALIZER = float(
    (1 + 2 * EFFECTS.size) * 0.5 * math.log(2 * math.pi)
    + np.log(STANDARD_ERRORS).sum()
    + math.log(_PRIOR_SCALE)
    + math.log(math.pi * _PRIOR_SCALE / 2)
)


class Moments(NamedTuple):
    """Means and standard deviations of a distribution of (mu, tau, theta), in points of the test.

    Attributes:
      mean: float64 array of shape [10]: of mu, of tau, of the theta of the eight schools.
      sd: float64 array of shape [10].
    """

    mean: np.ndarray
    sd: np.ndarray


class PublishedMoments(NamedTuple):
    """As `Moments`, estimated by Markov chain Monte Carlo.

    Attributes:
      mean, sd: see `Moments`.
      mean_error: float64 array of shape [10], the Monte Carlo standard error of `mean`.
    """

    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray


PUBLISHED_SOURCE = (
    "posteriordb (github.com/stan-dev/posteriordb, commit 28f8d3d), reference posterior "
    "eight_schools-eight_schools_noncentered: Stan's NUTS, 10 chains of 10,000 draws after warm-up, each tenth kept"
)

# As published in reference_posteriors/summary_statistics, the files mean_value and mean_squared_value, rounded to six
# digits; the draws behind them have these means and mean squares.
_PUBLISHED_MEAN = np.array([4.41052, 3.60206, 6.15050, 4.93958, 3.90591, 4.79602, 3.61444, 4.05115, 6.31717, 4.88400])
_PUBLISHED_MEAN_SQUARE = np.array(
    [30.40302, 23.20407, 69.36345, 45.97870, 43.13923, 45.76135, 34.35767, 39.41350, 64.93269, 52.12845]
)
_PUBLISHED_MEAN_ERROR = np.array(
    [0.0330375, 0.0318615, 0.0557375, 0.0462294, 0.0542314, 0.0474936, 0.0461451, 0.0485195, 0.0498767, 0.0542512]
)

PUBLISHED = PublishedMoments(
    mean=_PUBLISHED_MEAN,
    sd=np.sqrt(_PUBLISHED_MEAN_SQUARE - _PUBLISHED_MEAN**2),
    mean_error=_PUBLISHED_MEAN_ERROR,
)


def log_density(mu, log_tau, eta) -> tf.Tensor:
    """The log of the joint density of data and parameters, with respect to (mu, log tau, eta).

    Args:
      mu: float `Tensor` of shape [...], in points of the test.
      log_tau: float `Tensor` of shape [...], the logarithm of tau in points.
      eta: float `Tensor` of shape [..., 8].

    Returns:
      `Tensor` of shape [...], all constants included. Its exponential integrates to the probability of the data.

    >>> from fusemin.examples import eight_schools
    >>> round(float(eight_schools.log_density(0.0, 0.0, [0.0] * 8)), 3)
    -43.436
    """
    mu, log_tau, eta = (tf.convert_to_tensor(t) for t in (mu, log_tau, eta))
    effects, standard_errors = EFFECTS.astype(mu.dtype.name), STANDARD_ERRORS.astype(mu.dtype.name)
    tau = tf.exp(log_tau)
    theta = mu[..., tf.newaxis] + tau[..., tf.newaxis] * eta
    squares = tf.square((effects - theta) / standard_errors) + tf.square(eta)
    # Half-Cauchy in tau, and the derivative of tau by its logarithm.
    prior_of_log_tau = log_tau - tf.math.log1p(tf.square(tau / _PRIOR_SCALE))
    gaussian = tf.reduce_sum(squares, -1) + tf.square(mu / _PRIOR_SCALE)
    return prior_of_log_tau - 0.5 * gaussian - _LOG_NORMALIZER


class MeanField:
    """A Gaussian of (mu, log tau, eta) with independent components: the approximation of the posterior.

    Args:
      num_samples: int, draws that `negative_elbo` averages over.

    Attributes:
      variables: six float32 variables: the locations of mu, log tau (scalars) and eta (shape [8]), then the logarithms
        of their standard deviations in the same order, all 0 at first.

    >>> import keras, fusemin
    >>> from fusemin.examples import eight_schools
    >>> posterior = eight_schools.MeanField(num_samples=16)
    >>> losses = fusemin.minimize(
    ...     posterior.negative_elbo, num_steps=500, optimizer=keras.optimizers.Adam(learning_rate=0.02), seed=(1, 2))
    >>> bool(losses[-1] < losses[0])
    True
    """

    def __init__(self, num_samples: int):
        self.num_samples = num_samples
        shapes = {"mu": [], "log_tau": [], "eta": [EFFECTS.size]}
        self.variables = [tf.Variable(tf.zeros(shape), name=f"{name}_location") for name, shape in shapes.items()]
        self.variables += [tf.Variable(tf.zeros(shape), name=f"{name}_log_scale") for name, shape in shapes.items()]

    def negative_elbo(self, seed) -> tf.Tensor:
        """An unbiased estimate of the negative evidence lower bound, in nats.

        The entropy is exact; the expectation of `log_density` is an average over draws that depend on the variables by
        location and scale, so that it can be differentiated (Kingma and Welling 2014, "Auto-encoding variational
        Bayes"). Its expectation is never below minus the log of the probability of the data.

        Args:
          seed: int32 `Tensor` of shape [2]; the same seed gives the same estimate.

        Returns:
          float32 scalar `Tensor`.
        """
        noise = tf.random.stateless_normal([self.num_samples, _NUM_PARAMETERS], seed)
        mu, log_tau, eta, log_scale_mu, log_scale_log_tau, log_scale_eta = self.variables
        expected = tf.reduce_mean(
            log_density(
                mu + tf.exp(log_scale_mu) * noise[:, 0],
                log_tau + tf.exp(log_scale_log_tau) * noise[:, 1],
                eta + tf.exp(log_scale_eta) * noise[:, 2:],
            )
        )
        entropy = log_scale_mu + log_scale_log_tau + tf.reduce_sum(log_scale_eta)
        return -expected - entropy - 0.5 * _NUM_PARAMETERS * math.log(2 * math.pi * math.e)


def mean_field_moments(values: Sequence) -> Moments:
    """Exact moments of (mu, tau, theta) under a `MeanField`: no draws are needed, tau is log-normal.

    Args:
      values: of the six variables, in the order of `MeanField.variables`.

    >>> from fusemin.examples import eight_schools
    >>> moments = eight_schools.mean_field_moments(eight_schools.MeanField(num_samples=1).variables)
    >>> moments.mean.shape, float(moments.mean[0]), float(moments.sd[0])
    ((10,), 0.0, 1.0)
    """
    mu, log_tau, eta, *log_scales = (np.asarray(v, np.float64) for v in values)
    var_mu, var_log_tau, var_eta = (np.exp(2 * log_scale) for log_scale in log_scales)
    mean_tau, mean_tau_square = np.exp(log_tau + var_log_tau / 2), np.exp(2 * log_tau + 2 * var_log_tau)
    var_theta = var_mu + mean_tau_square * (eta**2 + var_eta) - (mean_tau * eta) ** 2
    return Moments(
        mean=np.concatenate([[mu, mean_tau], mu + mean_tau * eta]),
        sd=np.sqrt(np.concatenate([[var_mu, mean_tau_square - mean_tau**2], var_theta])),
    )
