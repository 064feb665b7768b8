"""Reference files: one npz a system, positions in whole steps, energies, replicas, TICA, certificate."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file, plain, sha256_file
from bgbench.core.types import Atom, Reference, System, TicaModel
from bgbench.references.packing import pack, unpack
from bgbench.systems.features import n_tica_features

DAMAGE = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, TypeError)
"""What reading a damaged file may raise; TypeError: one bare array in place of an archive."""
RESOLUTION = 1e-4
"""Positions are stored in steps of this many nm, or finer; energies are of the unrounded positions."""


def atom_names(system: System) -> list[str]:
    """`residue:RES:NAME` of every atom."""
    return [f"{atom.residue}:{atom.residue_name}:{atom.name}" for atom in system.atoms]


def write_reference(path: Path, system: System, reference: Reference) -> Reference:
    """Write a reference, centred and rounded; returns it as it will be read.

    Raises:
        BgbenchError: if `path` cannot be written.
    """
    x = (reference.x - reference.x.mean(1, keepdim=True)).double().numpy()
    scale = min(RESOLUTION, float(np.abs(x).max()) / 32767)
    if float(np.abs(x).max()) / 32767 > RESOLUTION:
        raise BgbenchError(f"{system.name} is too long for int16 positions at {RESOLUTION} nm")
    arrays: dict[str, Any] = {
        **pack(np.round(x / scale).astype(np.int16), system.bonds),
        "scale": np.float64(scale),
        "energies": reference.u.double().numpy(),
        "replica": reference.replica.numpy().astype(np.int16),
        "atoms": np.array(atom_names(system)),
        "certificate": np.array(json.dumps(plain(reference.certificate), sort_keys=True)),
    }
    if reference.tica is not None:
        arrays["tica_mean"] = reference.tica.mean.float().numpy()
        arrays["tica_projection"] = reference.tica.projection.float().numpy()
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)
    return read_reference(path, system)


def read_reference(path: Path, system: System) -> Reference:
    """Read the reference of `system`, atoms put in the system's order.

    Raises:
        BgbenchError: if the file is damaged, of other atoms, or its certificate lacks something.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        certificate = json.loads(str(arrays["certificate"]))
        order = _order(system, [str(name) for name in arrays["atoms"]], path)
        x = torch.from_numpy(_positions(arrays)[:, order])
        reference = Reference(
            system=system.name,
            x=x,
            u=torch.from_numpy(arrays["energies"]),
            replica=torch.from_numpy(arrays["replica"].astype(np.int64)),
            certificate=certificate,
            tica=_tica(arrays, system),
        )
    except DAMAGE as error:
        raise BgbenchError(
            f"{path} is no readable reference ({error}); fetch or simulate it again"
        ) from error
    check_certificate(certificate, path)
    refuse_other_target(certificate, system, path)
    return replace(reference, sha256=sha256_file(path))


def write_certificate(path: Path, certificate: Mapping[str, Any]) -> None:
    """Give a readable reference file another certificate; every other array stays as it is.

    Raises:
        BgbenchError: for a certificate that lacks something, or a file that cannot be written.
    """
    check_certificate(certificate, path)
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["certificate"] = np.array(json.dumps(plain(certificate), sort_keys=True))
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)


def read_frames(path: Path) -> tuple[tuple[Atom, ...], Tensor]:
    """Atoms and positions `(n, atoms, 3)` nm of a reference or training file, in the file's order.

    Raises:
        BgbenchError: if the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = [str(name).split(":") for name in stored["atoms"]]
            x = _positions(stored)
    except DAMAGE as error:
        raise BgbenchError(f"{path} holds no readable frames ({error}); simulate it again") from error
    atoms = tuple(Atom(int(residue), kind, name, name[0]) for residue, kind, name in names)
    return atoms, torch.from_numpy(x)


def read_energies(path: Path) -> Tensor:
    """Energies `(n,)` kT of the frames of a reference or training file, of their positions before rounding.

    Raises:
        BgbenchError: if the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return torch.from_numpy(stored["energies"])
    except DAMAGE as error:
        raise BgbenchError(f"{path} holds no readable energies ({error}); simulate it again") from error


def evaluations_of(path: Path) -> int:
    """Energy evaluations that a reference or training file cost, as its certificate says.

    Raises:
        BgbenchError: if the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            told = json.loads(str(stored["certificate"]))
        if "evaluations" in told:
            return int(told["evaluations"])
        # Files of before that entry: steps are of each walker, anneals not among them.
        walkers = int(told["replicas"]) * len(told["temperatures"])
        return walkers * int(told["steps"]) + int(told["replicas"]) * int(told["settings"]["anneal_steps"])
    except DAMAGE as error:
        raise BgbenchError(f"{path} has no readable certificate ({error}); simulate it again") from error


REQUIRED = (
    "forcefield_sha256", "engine", "versions", "replicas", "temperatures", "steps", "frames", "rhat",
    "effective_samples", "floor", "grade",
)  # fmt: skip


def refuse_other_target(certificate: Mapping[str, Any], system: System, path: Path) -> None:
    """Raise BgbenchError unless the frames are of the system's own force field and temperature."""
    wanted, found = system.forcefield, str(certificate["forcefield_sha256"])
    if found != (wanted.sha256 if wanted else ""):
        named = f"'{wanted.name}' ({wanted.sha256[:12]})" if wanted else "none"
        raise BgbenchError(
            f"{path} is of another force field ({found[:12]}) than {system.name}'s here, {named}: "
            "another target; move it away and simulate this one"
        )
    kelvin = target_temperature(certificate, path)
    if abs(kelvin - system.temperature) > 1e-6:
        raise BgbenchError(
            f"{path} was simulated at {kelvin:g} K, and stands where a reference of {system.temperature:g} K "
            "belongs; move it away and simulate this one"
        )


def target_temperature(certificate: Mapping[str, Any], path: Path) -> float:
    """The temperature (K) of the frames, the first of the certificate's ladder.

    Raises:
        BgbenchError: if that is no number above 0.
    """
    told = certificate["temperatures"]
    kelvin = told[0] if isinstance(told, list) else None
    if isinstance(kelvin, bool) or not isinstance(kelvin, int | float) or not 0 < kelvin < math.inf:
        raise BgbenchError(f"the certificate of {path} gives no temperature but {told}; simulate it again")
    return float(kelvin)


def check_certificate(certificate: Mapping[str, Any], path: Path) -> None:
    """Raise BgbenchError for a certificate with an empty or missing entry."""
    if not isinstance(certificate, Mapping):
        raise BgbenchError(f"the certificate of {path} is no table of names and values; simulate it again")
    missing = [name for name in REQUIRED if certificate.get(name) in (None, "", {}, [])]
    if missing:
        raise BgbenchError(f"the certificate of {path} lacks {', '.join(missing)}; simulate it again")


def _positions(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Positions `(n, atoms, 3)` float32 nm; files of before `packing` hold them as they are."""
    q = arrays["positions"] if "positions" in arrays else unpack(arrays)
    return q.astype(np.float32) * np.float32(arrays["scale"])


def _order(system: System, stored: list[str], path: Path) -> list[int]:
    if sorted(stored) != sorted(atom_names(system)):
        raise BgbenchError(f"{path} holds other atoms than {system.name}; fetch or simulate it again")
    place = {name: k for k, name in enumerate(stored)}
    return [place[name] for name in atom_names(system)]


def _tica(arrays: Mapping[str, np.ndarray], system: System) -> TicaModel | None:
    if "tica_mean" not in arrays:
        return None
    mean, projection = (torch.from_numpy(arrays[f"tica_{part}"]).double() for part in ("mean", "projection"))
    features = n_tica_features(system)
    if mean.shape != (features,) or projection.ndim != 2 or len(projection) != features:
        shapes = f"{tuple(mean.shape)} and {tuple(projection.shape)}"
        raise ValueError(f"a TICA model of shapes {shapes} for {features} features")
    return TicaModel(mean, projection)
