"""The published reference data, `transferable-samplers/many-peptides-md`, as references of bgbench.

Layout (Hugging Face data set, or a folder in the same layout): `pdb_tarfiles/test.tar` holding
`pdbs/test/SEQ.pdb`, and `trajectories_subsampled/test/4AA/SEQ_subsampled.npz` with `positions
(frames, atoms, 3)` nm, `tica_mean (features,)`, `tica_projection (features, k)`. Atoms, and so the distances
among the features of the TICA model, are in the order of the PDB file.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from openmm.app import PDBFile
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.core.types import ForceFieldSpec, Reference, System, TicaModel
from bgbench.energies.batched import BatchedEnergy
from bgbench.references.certificates import DAMAGE
from bgbench.references.diagnostics import certify
from bgbench.references.hub import fetch
from bgbench.references.physics import refuse_other_physics, refuse_other_tica
from bgbench.references.providers import PACKAGED_TEMPERATURE
from bgbench.references.store import write_reference
from bgbench.systems.broken import broken_fractions
from bgbench.systems.features import heavy_pairs, n_tica_features

REPOSITORY = "hf:datasets/transferable-samplers/many-peptides-md"
PINNED = "1af9336878122eb1d62894fe2fb3ff4b801a3216"
"""The commit a public comparison of samplers pins; `--revision main` gives the newest."""
MOST_BROKEN = 0.01
"""Largest fraction of frames with a D-residue or a broken bond; with more, atoms were mixed up."""

FAULTS = {"wrong_hand": "have a stereocentre of the wrong chirality", "torn": "have broken bonds"}
"""What mixed-up atoms look like, by the keys of `broken_fractions`."""


@dataclass(frozen=True)
class Source:
    """Where files of the published layout come from: a folder, or the hub at a revision."""

    folder: Path | None = None
    revision: str = PINNED

    def file(self, name: str) -> tuple[Path, str]:
        """The local path of `name`, and where it came from.

        Raises:
            BgbenchError: if the folder lacks it or the hub cannot be reached.
        """
        if self.folder is None:
            download = fetch(f"{REPOSITORY}/{name}@{self.revision}")
            return download.path, f"{download.address}, commit {download.commit}"
        path = self.folder / name
        if not path.is_file():
            raise BgbenchError(f"{path} does not exist; give a folder in the published layout")
        return path, str(name)


def import_published(system: System, source: Source, target: Path, part: str = "test") -> Reference:
    """Fetch one system's trajectory, put its atoms in our order, compute energies, certify, write.

    Raises:
        BgbenchError: for another temperature or force field than the published, a missing or damaged file,
            atoms that differ, an invalid TICA model, or frames that are none of the published target.
    """
    refuse_unpublished(system)
    length = f"{len(system.sequence)}AA"
    trajectory, origin = source.file(f"trajectories_subsampled/{part}/{length}/{system.name}_subsampled.npz")
    pdbs, _ = source.file(f"pdb_tarfiles/{part}.tar")
    order = atom_order(system, read_member(pdbs, f"pdbs/{part}/{system.name}.pdb"))
    arrays = _read(trajectory)
    x = _frames(system, arrays, order, trajectory)
    tica = _tica(system, arrays, order, trajectory)
    try:
        refuse_other_physics(system, x)
        refuse_other_tica(system, x, tica)
    except BgbenchError as error:
        raise BgbenchError(f"{trajectory}: {error}") from error
    replica = torch.zeros(len(x), dtype=torch.long)
    forcefield = system.forcefield
    certificate = {
        **certify(system, {"x": x, "replica": replica}, tica),
        "forcefield_sha256": forcefield.sha256 if forcefield else "",
        "engine": "published MD",
        "versions": {"origin": origin, "sha256": sha256_file(trajectory)},
        "replicas": 1,
        "temperatures": [system.temperature],
        "steps": "5 µs, subsampled",
        "floor": {"note": "one trajectory: its first half against its second"},
    }
    u = BatchedEnergy(system).energy(x.double())
    return write_reference(target, system, Reference(system.name, x, u, replica, certificate, tica))


def refuse_unpublished(system: System) -> None:
    """Raise BgbenchError unless the published data are of this system's temperature and force field."""
    if system.temperature != PACKAGED_TEMPERATURE or system.forcefield != ForceFieldSpec():
        named = system.forcefield.name if system.forcefield else "none"
        raise BgbenchError(
            f"the published data are of {PACKAGED_TEMPERATURE:g} K and the force field "
            f"'{ForceFieldSpec().name}', not of {system.temperature:g} K and '{named}'; simulate with "
            "`bgbench data simulate`"
        )


def read_member(archive: Path, name: str) -> str:
    """Text of one member of a tar file, whose name may begin with `./`; nothing is unpacked.

    Raises:
        BgbenchError: if the archive is damaged or lacks it.
    """
    try:
        with tarfile.open(archive) as tar:
            member = next((item for item in tar if PurePosixPath(item.name) == PurePosixPath(name)), None)
            stream = tar.extractfile(member) if member else None
            if stream is None:
                raise KeyError(name)
            return stream.read().decode()
    except (OSError, EOFError, KeyError, UnicodeDecodeError, tarfile.TarError) as error:
        raise BgbenchError(f"{archive} holds no readable {name} ({error}); fetch it again") from error


def atom_order(system: System, pdb: str) -> list[int]:
    """For each atom of the system, its place in the PDB text; names are OpenMM's for any it knows (H1 is H).

    Raises:
        BgbenchError: if the text is not a PDB file, or the two hold different atoms.
    """
    try:
        atoms = list(PDBFile(io.StringIO(pdb)).topology.atoms())
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise BgbenchError(f"the published PDB of {system.name} cannot be read ({error})") from error
    place = {(atom.residue.index, atom.name): k for k, atom in enumerate(atoms)}
    ours = system.atom_index
    if set(place) != set(ours) or len(atoms) != len(ours):
        strange = sorted(set(place) ^ set(ours))[:3]
        raise BgbenchError(f"the published PDB of {system.name} holds other atoms: {strange}")
    return [place[key] for key in ours]


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("positions", "tica_mean", "tica_projection")}
    except DAMAGE as error:
        raise BgbenchError(f"{path} is damaged ({error}); fetch it again") from error


def _numbers(arrays: dict[str, Any], name: str, dimensions: int, path: Path) -> np.ndarray:
    """An array of so many dimensions, all of it finite."""
    values = arrays[name]
    if values.dtype.kind not in "fiu" or values.ndim != dimensions:
        raise BgbenchError(
            f"{path} holds {name} of shape {values.shape} and type {values.dtype}; fetch it again"
        )
    if not np.isfinite(values).all():
        raise BgbenchError(f"{path} holds {name} that are not finite; fetch it again")
    return values


def _frames(system: System, arrays: dict[str, Any], order: list[int], path: Path) -> Tensor:
    """Positions `(n, atoms, 3)` nm in our order."""
    x = _numbers(arrays, "positions", 3, path)
    if x.shape[1:] != (len(order), 3):
        raise BgbenchError(
            f"{path} holds positions of shape {x.shape}; its PDB file lists {len(order)} atoms"
        )
    frames = torch.from_numpy(x[:, order].astype(np.float32))
    fractions = broken_fractions(system, frames)
    wrong = [f"{fractions[key]:.1%} {fault}" for key, fault in FAULTS.items() if fractions[key] > MOST_BROKEN]
    if wrong:
        raise BgbenchError(
            f"{path} and its PDB file do not belong together: of its frames {' and '.join(wrong)}; "
            "fetch both again"
        )
    return frames


def _tica(system: System, arrays: dict[str, Any], order: list[int], path: Path) -> TicaModel:
    """The model with its rows in the order of our features."""
    features = n_tica_features(system)
    mean, projection = (
        _numbers(arrays, f"tica_{part}", k, path) for part, k in (("mean", 1), ("projection", 2))
    )
    if len(mean) != features or len(projection) != features:
        raise BgbenchError(
            f"{path} holds a TICA model of {len(mean)} features, not {features}: one of the invalid "
            "8-residue models uploaded before 2025-12-15; fetch a later revision"
        )
    rows = feature_rows(system, order, features)
    return TicaModel(*(torch.from_numpy(values[rows]).double() for values in (mean, projection)))


def feature_rows(system: System, order: list[int], features: int) -> np.ndarray:
    """For each of our features, its place among those of the file, whose atom `order[k]` is our atom k.

    Distances are between pairs of atoms counted through the file (upper triangle, all C, N and S atoms);
    torsions come after them, residue by residue, in both.
    """
    pairs = heavy_pairs(system).numpy()
    heavy = sorted(order[k] for k in np.unique(pairs))
    rank = {place: k for k, place in enumerate(heavy)}
    row = np.zeros((len(heavy), len(heavy)), dtype=int)
    above = np.triu_indices(len(heavy), 1)
    row[above] = np.arange(len(above[0]))
    row += row.T
    distances = [row[rank[order[i]], rank[order[j]]] for i, j in pairs.T]
    return np.array([*distances, *range(len(distances), features)])
