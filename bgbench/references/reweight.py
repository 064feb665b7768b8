"""A reference at another temperature, reweighted from the frames of an existing one, and labelled so."""

from dataclasses import replace

import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.files import digest
from bgbench.core.types import Reference, System
from bgbench.estimators.weights import ess, points_at, resampling_places

LEAST_ESS = 0.1
"""Least effective fraction of the frames: below it the temperatures are too far apart, and one simulates."""


def reweight_reference(reference: Reference, temperature: float, system: System) -> Reference:
    """Resample frames of `temperature` (K) to equal weights at the system's temperature.

    log w = u (1 − T/T'), for a potential that does not depend on temperature (Amber with OBC does not). The
    grade becomes bronze; the certificate says `reweighted`, from what temperature and with what ESS.

    Args:
        reference: frames at `temperature`, energies in kT of it.
        temperature: of the frames, K.
        system: at the temperature that is wanted.

    Raises:
        BgbenchError: if the ESS is too small, with the command that simulates instead.
    """
    u = reference.u.double()
    log_w = u * (1 - temperature / system.temperature)
    fraction = ess(log_w)
    if fraction < LEAST_ESS:
        raise BgbenchError(
            f"the {temperature:g} K reference of {system.name} reweighted to {system.temperature:g} K keeps "
            f"{fraction:.2g} of its frames, less than {LEAST_ESS:g}; simulate it with "
            f"`bgbench data simulate {system.name} --temperature {system.temperature:g}`"
        )
    n = reference.n_samples
    places = resampling_places(n, torch.Generator().manual_seed(0), "systematic")
    index = points_at(torch.softmax(log_w, 0), places)
    notes = {"from": temperature, "ess": fraction, "distinct_frames": len(torch.unique(index))}
    return replace(
        reference,
        x=reference.x[index],
        u=u[index] * (temperature / system.temperature),
        replica=reference.replica[index],
        certificate={**reference.certificate, "grade": "bronze", "reweighted": notes},
        sha256=digest([reference.sha256, system.temperature]) if reference.sha256 else "",
    )
