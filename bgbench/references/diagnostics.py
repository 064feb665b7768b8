"""How good a reference is: split-R̂, effective samples, distance between halves of its replicas, grade.

R̂ and effective samples as in Vehtari et al. 2021 (without ranks), on functions of the slow coordinates.
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
"""Least frames of a replica: two in each half, so that each half has a variance."""

FLOOR_FRAMES = 1000
"""Frames a side for the certificate's own floor: few enough that transport is solved at once."""

BACKBONE = ("phi", "psi", "omega")
"""Parts of the names of slow coordinates of the backbone."""


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
    """The coordinates that convergence is judged on, `(n,)` each by name.

    They are sin and cos of φ, ψ, of ω before proline and of χ₁, and the first two TICs where there is a
    model. φ and ψ are numbered along the chain, ω among the bonds before proline, χ₁ among the residues
    that have one.
    """
    angles = torsions(system, x.double())
    columns = {
        "phi": angles.phi,
        "psi": angles.psi,
        "omega_": dihedral(x.double(), proline_omega_atoms(system)),
        # The stroke, so that no name looks like χ₂.
        "chi1_": dihedral(x.double(), chi1_atoms(system)),
    }
    coordinates = {
        f"{part}_{angle}{k + 1}": function(values[:, k])
        for angle, values in columns.items()
        for k in range(values.shape[1])
        for part, function in (("sin", torch.sin), ("cos", torch.cos))
    }
    if tica is not None:
        tics = tica.transform(tica_features(system, x.double()).to(tica.mean))
        coordinates |= {f"tic{k + 1}": tics[:, k] for k in range(min(2, tics.shape[1]))}
    return coordinates


def replica_floor(system: System, x: Tensor, replica: Tensor) -> dict[str, float]:
    """Torus-W2 (rad) between the two halves of the replicas, on FLOOR_FRAMES evenly spaced frames a side."""
    names = torch.unique(replica)
    sides = [torch.isin(replica, half) for half in names.tensor_split(2)]
    points = torus_points(system, x)
    a, b = (_evenly_spaced(points[side]).numpy() for side in sides)
    distance = math.sqrt(exact_transport(a, b, periodic=True).cost)
    return {"torus_w2": distance, "frames": float(min(len(a), len(b)))}


def _evenly_spaced(points: Tensor) -> Tensor:
    n = min(FLOOR_FRAMES, len(points))
    return points[torch.linspace(0, len(points) - 1, n).long()]


def certify(system: System, frames: Mapping[str, Tensor], tica: TicaModel | None) -> dict[str, Any]:
    """Diagnostics and grade of a reference's frames, as entries of its certificate.

    gold: R̂ ≤ 1.05 on every slow coordinate. silver: on φ, ψ and ω before proline. bronze: anything less.

    Args:
        system: that the frames are of.
        frames: `x (n, atoms, 3)` nm and `replica (n,)`, the independent replica of each frame.
        tica: the model of the slow coordinates; without one nothing is gold.

    Returns:
        `rhat` and `effective_samples` by slow coordinate; `floor`, torus-W2 between the halves of the
        replicas; `broken`, the fraction of broken frames of each kind; `cis`, the fraction of frames with
        each bond before proline cis; `grade`; `frames`.

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
    independent = len(torch.unique(replica)) > 1
    return {
        **measure_mixing(system, x, replica, tica),
        "floor": replica_floor(system, x, replica) if independent else {},
        "broken": broken_fractions(system, x),
        "cis": cis_fractions(system, x),
        "frames": int(x.shape[0]),
    }


def measure_mixing(system: System, x: Tensor, replica: Tensor, tica: TicaModel | None) -> dict[str, Any]:
    """The entries `rhat`, `effective_samples` and `grade` of `certify`, which take a fraction of its time."""
    coordinates = slow_coordinates(system, x, tica)
    varying = {name: values for name, values in coordinates.items() if float(values.std()) > 1e-3}
    chains = split_chains(torch.stack(list(varying.values()), dim=1), replica)
    rhat = dict(zip(varying, split_rhat(chains).tolist(), strict=True))
    samples = dict(zip(varying, effective_samples(chains).tolist(), strict=True))
    backbone = [value for name, value in rhat.items() if any(angle in name for angle in BACKBONE)]
    independent = len(torch.unique(replica)) > 1
    grade = "bronze"
    if independent and max(backbone) <= RHAT_LIMIT:
        grade = "gold" if max(rhat.values()) <= RHAT_LIMIT and tica is not None else "silver"
    return {"rhat": rhat, "effective_samples": samples, "grade": grade}


def certify_again(system: System, reference: Reference) -> dict[str, Any]:
    """The certificate by today's rules, from the stored frames; entries on how they were made stay."""
    frames = {"x": reference.x.double(), "u": reference.u, "replica": reference.replica}
    return {**reference.certificate, **certify(system, frames, reference.tica)}


def is_current(before: Mapping[str, Any], fresh: Mapping[str, Any]) -> bool:
    """Whether a certificate looks at the same coordinates as a fresh one and gives the same grade."""
    return before["rhat"].keys() == fresh["rhat"].keys() and before["grade"] == fresh["grade"]
