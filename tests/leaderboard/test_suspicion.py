"""Distances that exact draws do not reach: copies have such, honest draws have not."""

import numpy as np

from bgbench.leaderboard.rules import SUSPECT
from bgbench.leaderboard.suspicion import HALVINGS, METRICS, Reach, suspicion

SYSTEMS = ("AA", "DI", "HM", "WS")


class Finished:
    """As much of a record as is looked at."""

    def __init__(self, system, value):
        self.cell = type("Cell", (), {"system": system})
        self.metrics = dict.fromkeys(METRICS, value)


def reach(rng):
    """Measured on exact draws, whose distances spread by a quarter, as on the packaged references."""
    draws = rng.normal(1.0, 0.25, HALVINGS)
    return Reach(dict.fromkeys(METRICS, draws.mean()), dict.fromkeys(METRICS, draws.std(ddof=1)))


def chance(values, rng):
    records = [Finished(name, value) for name in SYSTEMS for value in values[name]]
    return min(suspicion(records, {name: reach(rng) for name in SYSTEMS}).values())


def test_copies_of_the_reference_are_suspect(rng):
    chances = [chance({name: [1e-7] * 3 for name in SYSTEMS}, rng) for _ in range(100)]
    assert np.mean(np.array(chances) < SUSPECT) > 0.8


def test_exact_draws_are_not(rng):
    """By chance one in ten thousand would be, and fewer are, since means over seeds spread less."""
    for _ in range(300):
        assert chance({name: rng.normal(1.0, 0.25, 3) for name in SYSTEMS}, rng) > SUSPECT


def test_a_bad_system_excuses_no_copies(rng):
    values = {name: [1e-7] * 3 for name in SYSTEMS}
    assert chance({**values, "WS": [50.0] * 3}, np.random.default_rng(1)) < 1e-3
