"""How good a reference is: split-R̂, effective samples, replica-against-replica floor, grade.

R̂ and effective samples as in Vehtari et al. 2021 (rank-free form), on functions of the slow coordinates.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Reference, System, TicaModel
from bgbench.metrics.distances import torus_points
from bgbench.metrics.transport import exact_transport
from bgbench.systems.broken import broken_fractions, cis_fractions
from bgbench.systems.features import chi1_atoms, dihedral, proline_omega_atoms, tica_features, torsions

RHAT_LIMIT = 1.05
FEWEST = 4
"""Frames of a replica: two in each half, which have a spread."""

FLOOR_FRAMES = 1000
"""Frames a side for the certificate's own floor: a stated size, small enough to solve exactly at once."""


BACKBONE = ("phi", "psi", "omega")
"""What names of the slow coordinates of the backbone hold."""


def split_chains(series: Tensor, replica: Tensor) -> Tensor:
    """`series (n, k)` cut into half replicas of equal length: `(2 · replicas, m, k)`."""
    parts = [series[replica == r] for r in torch.unique(replica)]
    half = min(len(part) for part in parts) // 2
    return torch.stack([piece for part in parts for piece in (part[:half], part[-half:])])


def split_rhat(chains: Tensor) -> Tensor:
    """R̂ of each column of `chains (c, m, k)`."""
    m = chains.shape[1]
    within = chains.var(1).mean(0)
    between = m * chains.mean(1).var(0)
    return torch.sqrt(((m - 1) / m * within + between / m) / within.clamp_min(1e-12))


def effective_samples(chains: Tensor) -> Tensor:
    """Effective number of samples of each column of `chains (c, m, k)` (Geyer's positive pairs)."""
    c, m, k = chains.shape
    centred = chains - chains.mean((0, 1))
    spectrum = torch.fft.rfft(centred, n=2 * m, dim=1)
    auto = torch.fft.irfft(spectrum.abs().square(), dim=1)[:, :m].mean(0)
    rho = auto / auto[0].clamp_min(1e-12)
    pairs = rho[: m // 2 * 2].reshape(-1, 2, k).sum(1)
    positive = (pairs > 0).long().cumprod(0)
    tau = (2 * (pairs * positive).sum(0) - 1).clamp_min(1.0)
    return c * m / tau


def slow_coordinates(system: System, x: Tensor, tica: TicaModel | None) -> dict[str, Tensor]:
    """Columns to judge convergence on: sin and cos of φ, ψ, ω before proline and χ₁; the first two TICs."""
    angles, side = torsions(system, x.double()), chi1_atoms(system)
    isomers = dihedral(x.double(), proline_omega_atoms(system))
    columns = {
        "phi": angles.phi,
        "psi": angles.psi,
        # Numbered among the bonds before proline.
        "omega_": isomers,
        # Numbered among the residues that have one; the stroke, so that no name looks like χ₂.
        "chi1_": dihedral(x.double(), side),
    }
    named = {
        f"{part}_{kind}{k + 1}": function(values[:, k])
        for kind, values in columns.items()
        for k in range(values.shape[1])
        for part, function in (("sin", torch.sin), ("cos", torch.cos))
    }
    if tica is not None:
        tics = tica.transform(tica_features(system, x.double()).to(tica.mean))
        named |= {f"tic{k + 1}": tics[:, k] for k in range(min(2, tics.shape[1]))}
    return named


def replica_floor(system: System, x: Tensor, replica: Tensor) -> dict[str, float]:
    """Torus-W2 (rad) between the two halves of the replicas, at FLOOR_FRAMES evenly taken frames a side."""
    names = torch.unique(replica)
    sides = [torch.isin(replica, half) for half in names.tensor_split(2)]
    points = torus_points(system, x)
    a, b = (_evenly(points[side]).numpy() for side in sides)
    cost = exact_transport(a, b, periodic=True).cost
    return {"torus_w2": math.sqrt(cost), "frames": float(min(len(a), len(b)))}


def _evenly(points: Tensor) -> Tensor:
    n = min(FLOOR_FRAMES, len(points))
    return points[torch.linspace(0, len(points) - 1, n).long()]


def certify(system: System, frames: Mapping[str, Tensor], tica: TicaModel | None) -> dict[str, Any]:
    """Diagnostics and grade of frames `x`, `u`, `replica`.

    gold: R̂ ≤ 1.05 on every slow coordinate. silver: on φ, ψ and ω before proline. bronze: anything less.
    `cis` is the fraction of frames with each bond before proline cis.

    Raises:
        BgbenchError: if a replica has fewer than FEWEST frames.
    """
    x, replica = frames["x"], frames["replica"]
    least = int(torch.unique(replica, return_counts=True)[1].min()) if len(replica) else 0
    if least < FEWEST:
        raise BgbenchError(
            f"{system.name}: a replica has {least} whole frames, {FEWEST} are needed to say how they mix; "
            "simulate more, with a shorter step if most were broken"
        )
    named = slow_coordinates(system, x, tica)
    varying = {name: values for name, values in named.items() if float(values.std()) > 1e-3}
    chains = split_chains(torch.stack(list(varying.values()), dim=1), replica)
    rhat = dict(zip(varying, split_rhat(chains).tolist(), strict=True))
    samples = dict(zip(varying, effective_samples(chains).tolist(), strict=True))
    backbone = [value for name, value in rhat.items() if any(kind in name for kind in BACKBONE)]
    independent = len(torch.unique(replica)) > 1
    grade = "bronze"
    if independent and max(backbone) <= RHAT_LIMIT:
        grade = "gold" if max(rhat.values()) <= RHAT_LIMIT and tica is not None else "silver"
    return {
        "rhat": rhat,
        "effective_samples": samples,
        "floor": replica_floor(system, x, replica) if independent else {},
        "broken": broken_fractions(system, x),
        "cis": cis_fractions(system, x),
        "grade": grade,
        "frames": int(x.shape[0]),
    }


def recertify(system: System, reference: Reference) -> dict[str, Any] | None:
    """The certificate by today's rules, from the stored frames; None where it looks at the same already."""
    frames = {"x": reference.x.double(), "u": reference.u, "replica": reference.replica}
    found = certify(system, frames, reference.tica)
    before = reference.certificate
    if found["rhat"].keys() == before["rhat"].keys() and found["grade"] == before["grade"]:
        return None
    return {**before, **found}
