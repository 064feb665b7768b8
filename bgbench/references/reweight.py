"""A reference at another temperature, from the frames of one that is at hand: reweighted, and labelled so."""

from dataclasses import replace

import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.files import digest
from bgbench.core.types import Reference, System
from bgbench.estimators.weights import ess, points_at, resampling_places

LEAST_ESS = 0.1
"""With a smaller effective share of the frames the temperatures are too far apart: simulate instead."""


def reweighted(reference: Reference, temperature: float, system: System) -> Reference:
    """Frames drawn at `temperature` (K), resampled to equal weights at the system's temperature.

    log w = u (1 − T/T'), for a potential that does not depend on temperature (Amber with OBC does not). The
    grade becomes bronze; the certificate says `reweighted`, from where and with what ESS.

    Raises:
        BgbenchError: if the ESS is too small, with the command that simulates instead.
    """
    u = reference.u.double()
    log_w = u * (1 - temperature / system.temperature)
    share = ess(log_w)
    if share < LEAST_ESS:
        raise BgbenchError(
            f"the {temperature:g} K reference of {system.name} reweighted to {system.temperature:g} K keeps "
            f"{share:.2g} of its frames, less than {LEAST_ESS:g}; simulate it with "
            f"`bgbench data simulate {system.name} --temperature {system.temperature:g}`"
        )
    n = reference.n_samples
    places = resampling_places(n, torch.Generator().manual_seed(0), "systematic")
    index = points_at(torch.softmax(log_w, 0), places)
    told = {"from": temperature, "ess": share, "distinct_frames": len(torch.unique(index))}
    return replace(
        reference,
        x=reference.x[index],
        u=u[index] * (temperature / system.temperature),
        replica=reference.replica[index],
        certificate={**reference.certificate, "grade": "bronze", "reweighted": told},
        sha256=digest([reference.sha256, system.temperature]) if reference.sha256 else "",
    )
