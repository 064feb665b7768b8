"""The published reference data, `transferable-samplers/many-peptides-md`, as references of ours.

Layout (Hugging Face data set, or a folder in the same layout): `pdb_tarfiles/test.tar` holding
`pdbs/test/SEQ.pdb`, and `trajectories_subsampled/test/4AA/SEQ_subsampled.npz` with `positions
(frames, atoms, 3)` nm, `tica_mean (features,)`, `tica_projection (features, k)`.
"""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bgbench.chemistry.features import tica_features
from bgbench.energies.batched import BatchedEnergy
from bgbench.errors import BgbenchError
from bgbench.hub import fetch
from bgbench.records import sha256_file
from bgbench.references.diagnostics import certify
from bgbench.references.store import DAMAGE, write_reference
from bgbench.types import Reference, System, TicaModel

REPOSITORY = "hf:datasets/transferable-samplers/many-peptides-md"
PINNED = "1af9336878122eb1d62894fe2fb3ff4b801a3216"
"""The commit a public comparison of samplers pins; `--revision main` gives the newest."""


@dataclass(frozen=True)
class Source:
    """Gives a file of the published layout: from a folder, or from the hub at a revision."""

    folder: Path | None = None
    revision: str = PINNED

    def file(self, name: str) -> tuple[Path, str]:
        """A local path of `name`, and where it came from.

        Raises:
            BgbenchError: if the folder lacks it or the hub cannot be reached.
        """
        if self.folder is None:
            found = fetch(f"{REPOSITORY}/{name}@{self.revision}")
            return found.path, f"{found.address}, commit {found.commit}"
        path = self.folder / name
        if not path.is_file():
            raise BgbenchError(f"{path} does not exist; give a folder in the published layout")
        return path, str(name)


def take_published(system: System, source: Source, target: Path, part: str = "test") -> Reference:
    """Fetch one system's trajectory, put its atoms in our order, compute energies, certify, write.

    Raises:
        BgbenchError: for a missing or damaged file, atoms that differ, or an invalid TICA model.
    """
    length = f"{len(system.sequence)}AA"
    trajectory, origin = source.file(f"trajectories_subsampled/{part}/{length}/{system.name}_subsampled.npz")
    pdbs, _ = source.file(f"pdb_tarfiles/{part}.tar")
    order = atom_order(system, read_member(pdbs, f"pdbs/{part}/{system.name}.pdb"))
    arrays = _read(trajectory)
    x = torch.from_numpy(arrays["positions"][:, order].astype(np.float32))
    if not bool(torch.isfinite(x).all()):
        raise BgbenchError(f"{trajectory} holds positions that are not finite; fetch it again")
    tica = _tica(system, arrays, trajectory)
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


def read_member(archive: Path, name: str) -> str:
    """Text of one member of a tar file; nothing is unpacked.

    Raises:
        BgbenchError: if the archive is damaged or lacks it.
    """
    try:
        with tarfile.open(archive) as tar:
            stream = tar.extractfile(name)
            if stream is None:
                raise KeyError(name)
            return stream.read().decode()
    except (OSError, KeyError, tarfile.TarError) as error:
        raise BgbenchError(f"{archive} holds no readable {name} ({error}); fetch it again") from error


def atom_order(system: System, pdb: str) -> list[int]:
    """For each atom of the system, its place in the PDB text.

    Raises:
        BgbenchError: if the two hold different atoms.
    """
    lines = [line for line in pdb.splitlines() if line.startswith(("ATOM", "HETATM"))]
    residues = {key: k for k, key in enumerate(dict.fromkeys(line[21:27] for line in lines))}
    place = {(residues[line[21:27]], line[12:16].strip()): k for k, line in enumerate(lines)}
    ours = system.atom_index
    if set(place) != set(ours):
        strange = sorted(set(place) ^ set(ours))[:3]
        raise BgbenchError(f"the published PDB of {system.name} holds other atoms: {strange}")
    return [place[key] for key in ours]


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("positions", "tica_mean", "tica_projection")}
    except DAMAGE as error:
        raise BgbenchError(f"{path} is damaged ({error}); fetch it again") from error


def _tica(system: System, arrays: dict[str, Any], path: Path) -> TicaModel:
    features = tica_features(system, system.positions[None]).shape[1]
    mean = torch.from_numpy(arrays["tica_mean"]).double()
    projection = torch.from_numpy(arrays["tica_projection"]).double()
    if len(mean) != features or projection.shape[0] != features:
        raise BgbenchError(
            f"{path} holds a TICA model of {len(mean)} features, not {features}: one of the invalid "
            "8-residue models uploaded before 2025-12-15; fetch a later revision"
        )
    return TicaModel(mean, projection)
