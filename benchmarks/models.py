"""Real models on data that ship with scikit-learn, written in TensorFlow. Each is small, as such models are."""

import functools
import math

import numpy as np
import tensorflow as tf
from sklearn import datasets, preprocessing

from benchmarks.problems import Problem
from fusemin.examples import eight_schools


class _Model(Problem):
    libraries = ("tensorflow",)


class EightSchools(_Model):
    """Mean-field variational inference of the eight schools (Rubin 1981), six variables, 16 samples a step."""

    name = "eight schools, variational"
    seeded = True

    def start(self):
        return [v.numpy() for v in eight_schools.MeanField(num_samples=1).variables]

    def bind(self, math):
        del math
        posterior = eight_schools.MeanField(num_samples=16)

        def loss(variables, seed):
            posterior.variables = list(variables)
            return posterior.negative_elbo(seed)

        return loss


class LogisticRegression(_Model):
    """Bayesian logistic regression by mean-field variational inference: 569 rows, 30 features, 8 samples a step."""

    name = "logistic regression, variational"
    seeded = True
    _samples = 8

    def start(self):
        return [np.zeros(31, np.float32), np.full(31, -2.0, np.float32)]

    def bind(self, math):
        del math
        features, labels = datasets.load_breast_cancer(return_X_y=True)
        features = np.concatenate([preprocessing.scale(features), np.ones((len(features), 1))], 1)
        features = tf.constant(features, tf.float32)
        labels = tf.constant(labels[:, np.newaxis], tf.float32)

        def loss(variables, seed):
            location, log_scale = variables
            noise = tf.random.stateless_normal([31, self._samples], seed)
            weights = location[:, tf.newaxis] + tf.exp(log_scale)[:, tf.newaxis] * noise
            logits = features @ weights
            likelihood = tf.reduce_sum(labels * logits - tf.nn.softplus(logits)) / self._samples
            # From the standard normal prior.
            divergence = 0.5 * tf.reduce_sum(tf.exp(2 * log_scale) + location**2 - 1 - 2 * log_scale)
            return divergence - likelihood

        return loss


class GaussianProcess(_Model):
    """Hyperparameters of a Gaussian process: 442 rows of the diabetes data, ten length scales, amplitude, noise."""

    name = "Gaussian process"

    def start(self):
        return [np.full(10, 1.0, np.float32), np.float32(0.0), np.float32(0.0)]

    def bind(self, math_of_library):
        del math_of_library
        features, targets = datasets.load_diabetes(return_X_y=True)
        features = tf.constant(preprocessing.scale(features), tf.float32)
        targets = tf.constant(preprocessing.scale(targets)[:, np.newaxis], tf.float32)
        num_rows = len(features)

        def loss(variables):
            log_lengths, log_amplitude, log_noise = variables
            scaled = features * tf.exp(-log_lengths)
            norms = tf.reduce_sum(scaled**2, 1)
            distances = norms[:, tf.newaxis] + norms - 2 * tf.matmul(scaled, scaled, transpose_b=True)
            kernel = tf.exp(2 * log_amplitude - 0.5 * distances)
            kernel += (tf.exp(2 * log_noise) + 1e-3) * tf.eye(num_rows)
            cholesky = tf.linalg.cholesky(kernel)
            whitened = tf.linalg.triangular_solve(cholesky, targets)
            log_determinant = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(cholesky)))
            return 0.5 * tf.reduce_sum(whitened**2) + log_determinant + 0.5 * num_rows * math.log(2 * math.pi)

        return loss


@functools.cache
def _digits():
    images, labels = datasets.load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int32)


class DigitsPerceptron(_Model):
    """A 64-64-64-10 multilayer perceptron on the digits, minibatches of 64."""

    name = "perceptron on digits"
    seeded = True

    def start(self):
        random, values = np.random.default_rng(0), []
        for fan_in, fan_out in [(64, 64), (64, 64), (64, 10)]:
            values.append(random.normal(0, 1 / np.sqrt(fan_in), (fan_in, fan_out)).astype(np.float32))
            values.append(np.zeros(fan_out, np.float32))
        return values

    def bind(self, math):
        del math
        images, labels = map(tf.constant, _digits())

        def loss(variables, seed):
            rows = tf.random.stateless_uniform([64], seed, 0, len(labels), tf.int32)
            hidden = tf.gather(images, rows)
            for i in range(0, 4, 2):
                hidden = tf.nn.relu(hidden @ variables[i] + variables[i + 1])
            logits = hidden @ variables[4] + variables[5]
            return tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.gather(labels, rows), logits=logits)
            )

        return loss


class MatrixFactorisation(_Model):
    """Embeddings of 1,797 images and 64 pixels of the digits, 16 numbers each, whose products are the grey values;
    minibatches of 256, so the gradients are sparse."""

    name = "matrix factorisation, sparse"
    seeded = True

    def start(self):
        random = np.random.default_rng(0)
        return [random.normal(0, 0.3, (n, 16)).astype(np.float32) for n in (1797, 64)]

    def bind(self, math):
        del math
        images = tf.constant(_digits()[0].ravel())

        def loss(variables, seed):
            entries = tf.random.stateless_uniform([256], seed, 0, len(images), tf.int32)
            of_images, of_pixels = (
                tf.gather(embedding, at) for embedding, at in zip(variables, (entries // 64, entries % 64), strict=True)
            )
            return tf.reduce_mean((tf.reduce_sum(of_images * of_pixels, 1) - tf.gather(images, entries)) ** 2)

        return loss


MODELS = [EightSchools(), LogisticRegression(), GaussianProcess(), DigitsPerceptron(), MatrixFactorisation()]
