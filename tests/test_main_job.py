"""The main job: the model, the published values, the fit, and what `python -m fusemin` prints.

What the posterior is comes from integrating it here on a grid, by formulas that share nothing with the package.
"""

import logging
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from fusemin import __main__ as job
from fusemin import _command_line
from fusemin.examples import eight_schools

Y, SIGMA = eight_schools.EFFECTS, eight_schools.STANDARD_ERRORS
NAMES = ["mu", "tau", *(f"theta {school}" for school in "ABCDEFGH")]

# A mean-field Gaussian cannot be nearer: its optimum is 0.21 published sds off at tau, 0.15 at theta A, less elsewhere.
MEAN_TOLERANCE_IN_SDS = 0.3
# Of the negative ELBO, in nats, found by minimizing `exact_negative_elbo` in NumPy for 6,000 steps of Adam.
BEST_NEGATIVE_ELBO = 31.597


def parse(*arguments):
    return _command_line.parser().parse_args(arguments)


def _fit(args):
    return job.fitted(job.run(args))


@pytest.fixture(scope="module")
def integrated():
    """`(mean, sd, log_evidence)` of the posterior, integrated over (mu, tau) on a grid.

    Given (mu, tau) the effects are independent, y_j ~ normal(mu, sigma_j^2 + tau^2), and theta_j is normal.
    """
    quantile = (np.arange(1000) + 0.5) / 1000  # Of the half-Cauchy: an even grid of its quantiles has equal weights.
    tau = 5 * np.tan(np.pi / 2 * quantile)[:, None, None]
    mu, spacing = np.linspace(-40, 40, 401, retstep=True)
    mu = mu[None, :, None]
    variance = SIGMA**2 + tau**2
    log_likelihood = (-0.5 * (Y - mu) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)).sum(-1)
    prior = np.exp(-0.5 * (mu[..., 0] / 5) ** 2) / (5 * math.sqrt(2 * math.pi)) * spacing / quantile.size
    joint = np.exp(log_likelihood) * prior
    weight = (joint / joint.sum())[..., None]
    theta_mean = (Y * tau**2 + mu * SIGMA**2) / variance
    theta_variance = SIGMA**2 * tau**2 / variance
    quantities = [(mu, 0), (tau, 0), (theta_mean, theta_variance)]
    mean = np.concatenate([(weight * m).sum((0, 1)) for m, _ in quantities])
    square = np.concatenate([(weight * (m**2 + v)).sum((0, 1)) for m, v in quantities])
    return mean, np.sqrt(square - mean**2), math.log(joint.sum())


def log_normal(x, mean, sd):
    return math.log(math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi)))


def log_density(mu, log_tau, eta):
    """Of one point, density by density."""
    tau = math.exp(log_tau)
    half_cauchy = 2 / (math.pi * 5 * (1 + (tau / 5) ** 2))
    total = log_normal(mu, 0, 5) + math.log(half_cauchy * tau)
    for y, sigma, e in zip(Y, SIGMA, eta, strict=True):
        total += log_normal(e, 0, 1) + log_normal(y, mu + tau * e, sigma)
    return total


def exact_negative_elbo(values):
    """By moments of Gaussians and log-normals, and Gauss-Hermite quadrature where there are none."""
    mu, log_tau, eta, log_sd_mu, log_sd_log_tau, log_sd_eta = (np.asarray(v, np.float64) for v in values)
    sd_mu, sd_log_tau, sd_eta = np.exp(log_sd_mu), np.exp(log_sd_log_tau), np.exp(log_sd_eta)
    tau, tau_square = np.exp(log_tau + sd_log_tau**2 / 2), np.exp(2 * log_tau + 2 * sd_log_tau**2)
    residual_square = (Y - mu) ** 2 + sd_mu**2 - 2 * (Y - mu) * tau * eta + tau_square * (eta**2 + sd_eta**2)
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    log_one_plus = weight @ np.log1p((np.exp(log_tau + sd_log_tau * node) / 5) ** 2) / weight.sum()
    likelihood = -0.5 * residual_square / SIGMA**2 - np.log(SIGMA) - 0.5 * math.log(2 * math.pi)
    prior = -0.5 * (mu**2 + sd_mu**2) / 25 - math.log(5) - 0.5 * math.log(2 * math.pi)
    prior += math.log(2 / (5 * math.pi)) + log_tau - log_one_plus
    prior += (-0.5 * (eta**2 + sd_eta**2) - 0.5 * math.log(2 * math.pi)).sum()
    entropy = log_sd_mu + log_sd_log_tau + log_sd_eta.sum() + 10 * 0.5 * math.log(2 * math.pi * math.e)
    return float(-likelihood.sum() - prior - entropy)


@pytest.fixture(scope="module")
def default_fit():
    return _fit(parse())


class TestModel:
    @pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-14), (np.float32, 1e-6)])
    def test_log_density_is_the_product_of_its_densities(self, dtype, limit):
        rng = np.random.default_rng(1)
        mu, log_tau, eta = rng.normal(4, 5, [20]), rng.normal(1, 1, [20]), rng.normal(0, 1, [20, 8])
        expected = [log_density(*point) for point in zip(mu, log_tau, eta, strict=True)]
        result = eight_schools.log_density(mu.astype(dtype), log_tau.astype(dtype), eta.astype(dtype))
        assert result.dtype == dtype
        difference = np.max(np.abs(result - expected) / np.abs(expected))
        print(f"log density, {result.dtype.name}: largest relative difference {difference:.1e}, limit {limit:.0e}")
        assert difference < limit

    @pytest.mark.parametrize("scale", [0.0, 0.5])
    def test_the_elbo_is_unbiased(self, scale):
        num_samples = 400_000
        posterior = eight_schools.MeanField(num_samples)
        rng = np.random.default_rng(2)
        for variable in posterior.variables:
            variable.assign(scale * rng.normal(size=variable.shape))
        estimate = float(posterior.negative_elbo(tf.constant([1, 2])))
        exact = exact_negative_elbo(posterior.variables)
        # The sd of one sample is at most 6 nats at these values.
        limit = 4 * 6 / math.sqrt(num_samples)
        print(f"negative ELBO: {estimate:.4f}, exact {exact:.4f}, limit of the difference {limit:.4f}")
        assert abs(estimate - exact) < limit

    def test_the_same_seed_gives_the_same_estimate(self):
        posterior = eight_schools.MeanField(num_samples=4)
        first, again, other = (float(posterior.negative_elbo(tf.constant(seed))) for seed in ([1, 2], [1, 2], [1, 3]))
        assert first == again != other

    def test_moments_are_those_of_draws(self):
        rng = np.random.default_rng(3)
        values = [
            np.array(1.5),
            np.array(0.7),
            rng.normal(size=8),
            np.array(0.4),
            np.array(-0.5),
            rng.normal(size=8) / 3,
        ]
        draws = 400_000
        mu = values[0] + np.exp(values[3]) * rng.normal(size=[draws, 1])
        tau = np.exp(values[1] + np.exp(values[4]) * rng.normal(size=[draws, 1]))
        theta = mu + tau * (values[2] + np.exp(values[5]) * rng.normal(size=[draws, 8]))
        drawn = np.concatenate([mu, tau, theta], axis=1)
        moments = eight_schools.mean_field_moments(values)
        np.testing.assert_allclose(moments.mean, drawn.mean(0), atol=4 * drawn.std(0).max() / math.sqrt(draws))
        np.testing.assert_allclose(moments.sd, drawn.std(0), rtol=0.02)


class TestPublished:
    def test_means_agree_with_integration(self, integrated):
        distance = np.abs(eight_schools.PUBLISHED.mean - integrated[0]) / eight_schools.PUBLISHED.mean_error
        print(f"published means: at most {distance.max():.2f} Monte Carlo errors off, at {NAMES[distance.argmax()]}")
        assert distance.max() < 3.5

    def test_standard_deviations_agree_with_integration(self, integrated):
        # Of 10,000 draws from a distribution with the tails of a normal the sd has an error of 0.7%; tails are longer.
        difference = np.abs(eight_schools.PUBLISHED.sd / integrated[1] - 1)
        print(f"published sds: at most {difference.max():.2%} off, at {NAMES[difference.argmax()]}")
        assert difference.max() < 0.03

    def test_monte_carlo_errors_are_those_of_ten_thousand_draws(self):
        ratio = eight_schools.PUBLISHED.mean_error / (eight_schools.PUBLISHED.sd / math.sqrt(10_000))
        assert np.all((ratio > 0.95) & (ratio < 1.1))


class TestFit:
    def test_means_are_near_the_integrated_posterior(self, default_fit, integrated):
        mean, sd, _ = integrated
        distance = np.abs(eight_schools.mean_field_moments(default_fit[1]).mean - mean) / sd
        print(
            f"means of the fit: at most {distance.max():.2f} posterior sds off, at {NAMES[distance.argmax()]}, "
            f"limit {MEAN_TOLERANCE_IN_SDS}"
        )
        assert distance.max() < MEAN_TOLERANCE_IN_SDS

    def test_the_fit_is_at_the_optimum_of_its_family(self, default_fit):
        excess = exact_negative_elbo(default_fit[1]) - BEST_NEGATIVE_ELBO
        print(f"exact negative ELBO: {excess:.4f} nats above the best, limit 0.01")
        assert -1e-3 < excess < 0.01

    def test_the_loss_bounds_the_log_evidence(self, default_fit, integrated):
        losses = default_fit[0]
        assert losses.shape == (2000,)
        assert integrated[2] == pytest.approx(-BEST_NEGATIVE_ELBO, abs=0.5)
        assert -integrated[2] < losses[1000:].mean() < BEST_NEGATIVE_ELBO + 0.1

    @pytest.mark.parametrize("jit", [False, True])
    def test_is_deterministic_given_the_seed(self, jit):
        arguments = ["--steps=60", "--seed=5"] + ["--jit"] * jit
        (losses, values), (losses_again, values_again) = _fit(parse(*arguments)), _fit(parse(*arguments))
        np.testing.assert_array_equal(losses, losses_again)
        for value, again in zip(values, values_again, strict=True):
            np.testing.assert_array_equal(value, again)
        assert not np.array_equal(losses, _fit(parse("--steps=60", "--seed=6"))[0])

    def test_takes_the_arguments(self):
        losses, _ = _fit(parse("--steps=5", "--samples=3", "--learning-rate=0.5", "--seed=1"))
        assert losses.shape == (5,)
        assert not np.array_equal(losses, _fit(parse("--steps=5", "--samples=4", "--learning-rate=0.5"))[0])


def row(output: str, name: str) -> list[str]:
    """The cells of the row of a table that `name` heads."""
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│|]", line)[1:-1]]
        if cells and cells[0] == name:
            return cells[1:]
    raise AssertionError(f"no row {name!r} in\n{output}")


@pytest.fixture
def one_repetition(monkeypatch):
    monkeypatch.setattr(job, "_REPETITIONS", 1)


class TestCommand:
    def test_prints_its_sections(self, tmp_path):
        run = subprocess.run(
            [sys.executable, "-m", "fusemin", "--steps", "300"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        print(run.stdout)
        losses, values = _fit(parse("--steps=300"))
        assert row(run.stdout, "first 100") == [f"{losses[:100].mean():.3f}"]
        assert row(run.stdout, "last 100") == [f"{losses[-100:].mean():.3f}"]
        moments, published = eight_schools.mean_field_moments(values), eight_schools.PUBLISHED
        for i, name in enumerate(NAMES):
            shown = [moments.mean[i], published.mean[i], moments.sd[i], published.sd[i]]
            assert row(run.stdout, name)[2:] == [f"{value:.2f}" for value in shown]
        for i, school in enumerate("ABCDEFGH"):
            assert row(run.stdout, f"theta {school}")[:2] == [f"{Y[i]:.0f}", f"{SIGMA[i]:.0f}"]
        text = " ".join(run.stdout.split())
        assert "posteriordb" in text
        assert "Smaller sd than published: mu, tau, theta A" in text
        # From one start, with one seed, the updates lead to one loss.
        assert row(run.stdout, "fusemin, fused")[-1] == row(run.stdout, "fusemin, stock")[-1]
        assert "fused, rule 'adam'" in text
        assert "- fusemin, fused: rule 'adam'" in text
        assert "- fusemin, stock: OwnUpdate.apply_gradients does the update" in text

    def test_times_tfp_where_it_is_installed(self, one_repetition, capsys):
        pytest.importorskip("tensorflow_probability")
        assert job.main(["--steps=3"]) == 0
        output = capsys.readouterr().out
        losses = {row(output, name)[-1] for name in ("fusemin, fused", "fusemin, stock", "tfp.math.minimize")}
        assert len(losses) == 1

    def test_says_that_tfp_is_not_installed(self, one_repetition, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
        assert job.main(["--steps=1"]) == 0
        assert "tensorflow_probability is not installed" in capsys.readouterr().out

    def test_says_in_truth_what_xla_compiles(self, one_repetition, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
        assert job.main(["--steps=2", "--jit"]) == 0
        output = capsys.readouterr().out
        assert "compiled by XLA" in output
        fused = "fusemin, fused: rule 'adam'" in output
        assert row(output, "fusemin, fused" if fused else "fusemin, not fused")

    def test_says_when_the_fit_diverges(self, capsys):
        assert job.main(["--steps=50", "--learning-rate=1000"]) == 1
        assert "smaller --learning-rate" in capsys.readouterr().err

    def test_leaves_the_logger_as_it_was(self):
        logger = logging.getLogger("fusemin")
        before = logger.level, logger.propagate, list(logger.handlers)
        with job._debug_log() as messages:
            logger.debug("a %s", "line")
        assert messages == ["a line"]
        assert (logger.level, logger.propagate, list(logger.handlers)) == before

    def test_help_lists_the_arguments_with_their_defaults(self, capsys):
        with pytest.raises(SystemExit) as exit_:
            job.main(["--help"])
        assert exit_.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert text.startswith("usage: python -m fusemin ")
        for option, default in [("steps", "2000"), ("samples", "16"), ("learning-rate", "0.02"), ("seed", "0")]:
            assert re.search(rf"--{option} [NX] [^-]*\(default: {default}\)", text), option
        assert "--jit" in text

    @pytest.mark.parametrize(("argument", "status", "said"), [("--help", 0, "usage: "), ("--steps=0", 2, "error: ")])
    @pytest.mark.parametrize("module", [["-m", "fusemin"], ["-mfusemin"]], ids=len)
    def test_help_and_mistakes_need_no_tensorflow(self, module, argument, status, said):
        """Each line of `importtime` is an import. TensorFlow's takes seconds, and has a log."""
        command = [sys.executable, "-X", "importtime", *module, argument]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line]
        assert done.returncode == status
        assert said in done.stdout + done.stderr
        assert "fusemin._command_line" in imported
        assert not {"tensorflow", "numpy", "keras"} & set(imported)

    def test_other_programs_keep_their_arguments(self):
        """What is in the package, and what imports it."""
        program = "import sys; sys.argv = ['-m', '--help']; import fusemin._command_line as c; print(c._is_starting())"
        command = [sys.executable, "-c", program, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--steps=-1"], "argument --steps: must be from 1 to 10000000, it is -1"),
            (["--steps=0"], "argument --steps: must be from 1 to 10000000, it is 0"),
            (["--steps=ten"], "argument --steps: must be an integer, it is 'ten'"),
            (["--steps=1.5"], "argument --steps: must be an integer, it is '1.5'"),
            (["--samples=0"], "argument --samples: must be from 1 to 100000, it is 0"),
            (["--learning-rate=0"], "argument --learning-rate: must be positive and finite, it is 0"),
            (["--learning-rate=nan"], "argument --learning-rate: must be positive and finite, it is nan"),
            (["--learning-rate=inf"], "argument --learning-rate: must be positive and finite, it is inf"),
            (["--learning-rate=fast"], "argument --learning-rate: must be a number, it is 'fast'"),
            (["--seed=-1"], "argument --seed: must be from 0 to 2147483647, it is -1"),
            (["--seed=2147483648"], "argument --seed: must be from 0 to 2147483647, it is 2147483648"),
            (["--stepz=3"], "unrecognized arguments: --stepz=3"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as exit_:
            job.main(arguments)
        assert exit_.value.code == 2
        output = capsys.readouterr()
        assert message in output.err
        assert not output.out
