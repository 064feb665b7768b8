"""Shared fixtures. Every random test takes `seed`, which pytest prints in the test's name."""

import numpy as np
import pytest
import torch

from bgbench import System


@pytest.fixture(params=[0], ids=lambda seed: f"seed{seed}")
def seed(request) -> int:
    return request.param


@pytest.fixture
def generator(seed) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rng(seed) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def alanine() -> System:
    """AA: 23 atoms, the smallest peptide of the default suite."""
    return System.from_sequence("AA")
