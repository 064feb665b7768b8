"""Fit the TICA model of a reference (Pérez-Hernández et al. 2013; Koopman weights: Wu et al. 2017)."""

from collections.abc import Sequence

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.types import TicaModel

MIN_FRAMES = 50
MAX_DIM = 4


def fit_tica(trajectories: Sequence[np.ndarray], lag: int) -> TicaModel:
    """Koopman-reweighted TICA of `trajectories`, each `(frames, features)`, at `lag` frames (deeptime).

    Of few frames Koopman's weights are so uncertain that they may be no numbers, or so many of them negative
    that the weighted matrix is no covariance (VPFY: 3,200 frames, 514 features, a fifth of the weights below
    zero). All frames count alike then.

    Raises:
        BgbenchError: for NaN, for features that never change, or for trajectories shorter than the lag.
    """
    from deeptime.covariance import KoopmanWeightingEstimator
    from deeptime.decomposition import TICA

    stacked = np.concatenate(trajectories)
    if not np.isfinite(stacked).all():
        raise BgbenchError("TICA features hold NaN or infinity; look at the frames they came from")
    if min(len(t) for t in trajectories) <= lag:
        raise BgbenchError(f"TICA with a lag of {lag} frames needs longer trajectories; simulate more")
    if not (stacked.std(0) > 1e-9).any():
        raise BgbenchError("TICA features never change; there is nothing slow to find")
    estimator = TICA(lagtime=lag, dim=min(MAX_DIM, stacked.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = KoopmanWeightingEstimator(lagtime=lag).fit(list(trajectories)).fetch_model()
        covariances = estimator.covariance_estimator(lagtime=lag).fit(list(trajectories), weights=weights)
    if not is_covariance(covariances.fetch_model().cov_00, estimator.epsilon):
        covariances = estimator.covariance_estimator(lagtime=lag).fit(list(trajectories))
    model = estimator.fit_from_covariances(covariances).fetch_model()
    mean = np.asarray(model.mean_0)
    unit = np.eye(stacked.shape[1]) + mean
    projection = np.asarray(model.transform(unit)) - np.asarray(model.transform(mean[None]))
    return TicaModel(torch.from_numpy(mean), torch.from_numpy(projection))


def is_covariance(matrix: np.ndarray, epsilon: float) -> bool:
    """Whether no variance in `matrix` is negative, but for the `epsilon` that TICA rounds to zero."""
    return bool(np.isfinite(matrix).all() and np.linalg.eigvalsh(matrix)[0] > -epsilon)
