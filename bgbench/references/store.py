"""Reference files: positions in whole steps, energies, replicas and TICA model in `AA.npz`, and the
certificate beside it in `AA.certificate.json`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file
from bgbench.core.types import Atom, Reference, System, TicaModel
from bgbench.references.certificates import (
    DAMAGE,
    certificate_beside,
    check_certificate,
    load_arrays,
    read_certificate,
    refuse_other_target,
    save_certificate,
    sha256_of,
    unreadable,
)
from bgbench.references.packing import pack, unpack
from bgbench.systems.features import n_tica_features

RESOLUTION = 1e-4
"""Positions are stored in steps of this many nm, or finer; energies are of the unrounded positions."""


def atom_names(system: System) -> list[str]:
    """`residue:RES:NAME` of every atom."""
    return [f"{atom.residue}:{atom.residue_name}:{atom.name}" for atom in system.atoms]


def write_reference(path: Path, system: System, reference: Reference) -> Reference:
    """Write a reference, centred and rounded, and its certificate beside it.

    Args:
        path: where, ending in `.npz`.
        system: that the frames are of.
        reference: positions in nm, energies in kT; its own `sha256` is not looked at.

    Returns:
        The reference as it will be read; its `sha256` is that of the arrays alone (`reference_sha256`).

    Raises:
        BgbenchError: for a molecule that is too long, a certificate that lacks an entry, or a file that
            cannot be written.
    """
    arrays = _pack_reference(system, reference)
    # The certificate first: what a crash leaves is then no reference, instead of one without a certificate.
    save_certificate(path, reference.certificate, arrays)
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **arrays)
    return read_reference(path, system)


def _pack_reference(system: System, reference: Reference) -> dict[str, Any]:
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
    }
    if reference.tica is not None:
        arrays["tica_mean"] = reference.tica.mean.float().numpy()
        arrays["tica_projection"] = reference.tica.projection.float().numpy()
    return arrays


def read_reference(path: Path, system: System) -> Reference:
    """Read the reference of `system`, atoms put in the system's order.

    Raises:
        BgbenchError: if the file is damaged, of other atoms, or its certificate lacks something.
    """
    arrays = load_arrays(path)
    certificate = certificate_beside(path, arrays)
    try:
        order = _order(system, [str(name) for name in arrays["atoms"]], path)
        reference = Reference(
            system=system.name,
            x=torch.from_numpy(_positions(arrays)[:, order]),
            u=torch.from_numpy(arrays["energies"]),
            replica=torch.from_numpy(arrays["replica"].astype(np.int64)),
            certificate=certificate,
            tica=_tica(arrays, system),
        )
    except DAMAGE as error:
        raise unreadable(path, error) from error
    check_certificate(certificate, path)
    refuse_other_target(certificate, system, path)
    return replace(reference, sha256=sha256_of(path, arrays))


def read_frames(path: Path) -> tuple[tuple[Atom, ...], Tensor]:
    """Atoms and positions `(n, atoms, 3)` nm of a reference or training file, in the file's order.

    Args:
        path: the file, ending in `.npz`.

    Returns:
        Atoms, and positions `(n, atoms, 3)` in nm, float32.

    Raises:
        BgbenchError: if the file is damaged.

    >>> from bgbench.core.resources import data_path
    >>> atoms, x = read_frames(data_path("references", "AA.npz"))
    >>> len(atoms), x.shape[1:]
    (23, torch.Size([23, 3]))
    """
    arrays = load_arrays(path)
    try:
        return _atoms(arrays), torch.from_numpy(_positions(arrays))
    except DAMAGE as error:
        raise unreadable(path, error) from error


def read_atoms(path: Path) -> tuple[Atom, ...]:
    """Atoms of a reference or training file, in the file's order; its frames are not read.

    Raises:
        BgbenchError: if the file is damaged.

    >>> from bgbench.core.resources import data_path
    >>> read_atoms(data_path("references", "AA.npz"))[0].residue_name
    'ALA'
    """
    try:
        return _atoms(load_arrays(path, ["atoms"]))
    except DAMAGE as error:
        raise unreadable(path, error) from error


def _atoms(arrays: dict[str, np.ndarray]) -> tuple[Atom, ...]:
    names = [str(name).split(":") for name in arrays["atoms"]]
    return tuple(Atom(int(residue), kind, name, name[0]) for residue, kind, name in names)


def read_energies(path: Path) -> Tensor:
    """Energies `(n,)` kT of the frames of a reference or training file, of their positions before rounding.

    Args:
        path: the file, ending in `.npz`.

    Returns:
        `(n,)` in kT, float64.

    Raises:
        BgbenchError: if the file is damaged.

    >>> from bgbench.core.resources import data_path
    >>> u = read_energies(data_path("references", "AA.npz"))
    >>> u.dtype, bool(u.isfinite().all())
    (torch.float64, True)
    """
    try:
        return torch.from_numpy(load_arrays(path, ["energies"])["energies"])
    except DAMAGE as error:
        raise unreadable(path, error) from error


def evaluations_of(path: Path) -> int:
    """Energy evaluations that a reference or training file cost, as its certificate says.

    Args:
        path: the file, ending in `.npz`.

    Returns:
        Evaluations, one a conformer.

    Raises:
        BgbenchError: if the file or its certificate is damaged.

    >>> from bgbench.core.resources import data_path
    >>> evaluations_of(data_path("references", "PG.npz")) > 1_000_000
    True
    """
    certificate = read_certificate(path)
    try:
        if "evaluations" in certificate:
            return int(certificate["evaluations"])
        # Files of before that entry: steps are of each walker, anneals not among them.
        replicas, anneal_steps = int(certificate["replicas"]), int(certificate["settings"]["anneal_steps"])
        walkers = replicas * len(certificate["temperatures"])
        return walkers * int(certificate["steps"]) + replicas * anneal_steps
    except DAMAGE as error:
        raise BgbenchError(
            f"the certificate of {path} does not say how many evaluations it cost ({error}); simulate again"
        ) from error


def _positions(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Positions `(n, atoms, 3)` float32 nm; files of before `packing` hold them as they are."""
    q = arrays["positions"] if "positions" in arrays else unpack(arrays)
    return q.astype(np.float32) * np.float32(arrays["scale"])


def _order(system: System, stored: list[str], path: Path) -> list[int]:
    if sorted(stored) != sorted(atom_names(system)):
        raise BgbenchError(f"{path} holds other atoms than {system.name}; fetch or simulate it again")
    place = {name: k for k, name in enumerate(stored)}
    return [place[name] for name in atom_names(system)]


def _tica(arrays: dict[str, np.ndarray], system: System) -> TicaModel | None:
    if "tica_mean" not in arrays:
        return None
    mean, projection = (torch.from_numpy(arrays[f"tica_{part}"]).double() for part in ("mean", "projection"))
    features = n_tica_features(system)
    if mean.shape != (features,) or projection.ndim != 2 or len(projection) != features:
        shapes = f"{tuple(mean.shape)} and {tuple(projection.shape)}"
        raise ValueError(f"a TICA model of shapes {shapes} for {features} features")
    return TicaModel(mean, projection)
