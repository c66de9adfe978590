"""Numbers to try: the edges of each type, and drawn ones."""

from __future__ import annotations

import itertools
import random

from tests.support.cuda.exact_floats import FORMATS


def float_edges(kind):
    """Bits of zeros, denormals, numbers around 1 and the ends of the range, of both signs, and NaN."""
    form = FORMATS[kind]
    one = form.round(1)
    half_way = form.smallest_normal >> 1
    magnitudes = [0, 1, 2, half_way + 1, form.smallest_normal - 1, form.smallest_normal, form.smallest_normal + 1]
    magnitudes += [one - 1, one, one + 1, one + half_way, form.round(3), form.infinity - 1, form.infinity]
    return [*magnitudes, *(x | form.sign_bit for x in magnitudes), form.nan]


def drawn_floats(kind, count, seed):
    """Drawn bits, and drawn numbers whose exponents are close to each other, so that sums round."""
    form, rng = FORMATS[kind], random.Random(seed)
    one = form.round(1)
    near = one - 30 * form.smallest_normal if kind in ("f32", "f64") else one - 4 * form.smallest_normal
    span = 2 * (one - near)
    numbers = []
    for i in range(count):
        if i % 3 == 0:
            numbers.append(rng.getrandbits(form.bits))
        else:
            numbers.append(near + rng.randrange(span) | (form.sign_bit if rng.random() < 0.5 else 0))
    return numbers


def integer_edges(bits):
    """Bits of the ends of both ranges, of small numbers and of patterns."""
    top = 1 << (bits - 1)
    edges = [0, 1, 2, 3, 7, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2, 2 * top - 7]
    pattern = int("A5" * (bits // 8), 16)
    return [*edges, pattern, pattern >> 3, (1 << bits // 2) - 1, 1 << bits // 2]


def drawn_integers(bits, count, seed):
    """Drawn bits of drawn lengths."""
    rng = random.Random(seed)
    return [rng.getrandbits(rng.randrange(1, bits + 1)) for _ in range(count)]


def crossed(*edges):
    """All combinations, as one list for each input."""
    return [list(column) for column in zip(*itertools.product(*edges), strict=True)]


def joined(*tables):
    """The cases of several tables."""
    return [list(itertools.chain(*columns)) for columns in zip(*tables, strict=True)]
