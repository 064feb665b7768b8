"""Why distances stand beside floors: few exact points look worse than many biased ones, and are not."""

import numpy as np
import pytest

from bgbench.metrics.transport import exact_transport

N, DISTINCT, MINOR = 1_500, 60, 0.03


def draws(random, n, minor=MINOR):
    """Two modes on a torus of four angles; the minor one lies 0.7 rad away in each angle."""
    mode = random.random(n) < minor
    points = 0.9 * random.normal(size=(n, 4)) + 0.7 * mode[:, None]
    return np.mod(points + np.pi, 2 * np.pi) - np.pi, mode


def w2(a, b):
    return exact_transport(a, b, periodic=True).cost ** 0.5


@pytest.fixture(scope="module")
def sides():
    random = np.random.default_rng(0)
    truth, truth_mode = draws(random, N)
    few, few_mode = draws(random, DISTINCT)
    again = random.integers(0, DISTINCT, N)
    biased, biased_mode = draws(random, N, minor=0.0)
    other, _ = draws(random, N)
    floor_few = w2(draws(random, DISTINCT)[0][random.integers(0, DISTINCT, N)], other)
    return {
        "truth": truth, "exact": few[again], "biased": biased, "floor at n": w2(other, truth),
        "floor at few": floor_few, "modes": (truth_mode, few_mode, biased_mode),
    }  # fmt: skip


def test_raw_distance_ranks_the_exact_sampler_below_the_biased_one(sides):
    assert w2(sides["exact"], sides["truth"]) > 1.3 * w2(sides["biased"], sides["truth"])


def test_beside_its_own_floor_the_exact_sampler_is_not_worse(sides):
    """At its number of distinct points the exact sampler is where independent exact draws are."""
    assert w2(sides["exact"], sides["truth"]) == pytest.approx(sides["floor at few"], rel=0.1)
