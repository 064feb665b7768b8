"""Whether a reference file is sound: its certificate says what its frames say, down to the last of them."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Reference, System
from bgbench.dynamics.engines import ENGINES
from bgbench.energies.batched import BatchedEnergy
from bgbench.references.diagnostics import certify
from bgbench.references.providers import USUAL
from bgbench.references.store import DAMAGE, check_certificate, read_reference, target_temperature
from bgbench.references.sums import refuse_unlisted
from bgbench.systems.peptides import peptide

NEAR = 5.0
"""kT that a stored energy may be off that of its rounded positions. All that is packaged is within 0.25."""

SAME = 0.002
"""R̂ that a certificate may be off that of its rounded frames: ten times the most met in `datasets`."""

GRADES = ("gold", "silver", "bronze")


def references_in(place: Path) -> list[Path]:
    """Reference files of a folder and of the temperature folders (`500K`) in it; of a file, the file.

    Raises:
        BgbenchError: if there is none.
    """
    paths = [place] if place.is_file() else [*sorted(place.glob("*.npz")), *sorted(place.glob("*K/*.npz"))]
    if not paths:
        raise BgbenchError(f"{place} holds no reference")
    return paths


def verified(path: Path) -> tuple[Reference, float]:
    """The reference of a file, and the largest |Δu| (kT) of its stored energies to those of its positions.

    Its sequence is what its name begins with (`AA`, `AA-500K`), its temperature what its certificate says.

    Raises:
        BgbenchError: for a file that is damaged, or whose frames are not what its certificate says, or
            whose sha256 is not what the list beside it says.
    """
    refuse_unlisted(path)
    system = system_of(path, certificate_of(path))
    reference = read_reference(path, system)
    refuse_other_place(path, system.temperature)
    wrong = infinite(reference) or miscounted(reference) or misgraded(system, reference)
    if wrong:
        raise BgbenchError(f"{path} is not sound: {wrong}; fetch or simulate it again")
    worst = float((BatchedEnergy(system, "compiled").energy(reference.x) - reference.u).abs().max())
    if not worst <= NEAR:
        raise BgbenchError(
            f"{path} is not sound: stored energies are off by up to {worst:.1f} kT; simulate it again"
        )
    return reference, worst


def certificate_of(path: Path) -> Mapping[str, Any]:
    """A file's certificate, with every entry that one must have.

    Raises:
        BgbenchError: if the file or its certificate is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            told = json.loads(str(stored["certificate"]))
    except DAMAGE as error:
        raise BgbenchError(
            f"{path} is no readable reference ({error}); fetch or simulate it again"
        ) from error
    check_certificate(told, path)
    return told


def system_of(path: Path, certificate: Mapping[str, Any]) -> System:
    """The peptide a file is named after, at the temperature (K) that its certificate begins its ladder with.

    Raises:
        BgbenchError: for a name or a temperature that is none.
    """
    kelvin = target_temperature(certificate, path)
    try:
        return peptide(path.stem.partition("-")[0], kelvin)
    except BgbenchError as error:
        raise BgbenchError(f"{path} is not named after a peptide: {error}") from error


def refuse_other_place(path: Path, kelvin: float) -> None:
    """Raise BgbenchError if a run would take the file for one of another temperature than `kelvin`.

    Names with a dash (`AA-500K`) are never looked for, and may lie anywhere.
    """
    if "-" in path.stem:
        return
    folder = re.fullmatch(r"(\d+(?:\.\d+)?)K", path.resolve().parent.name)
    wanted = float(folder[1]) if folder else USUAL
    if not math.isclose(kelvin, wanted, rel_tol=1e-5):
        home = "out of that folder" if kelvin == USUAL else f"into a folder {kelvin:g}K"
        raise BgbenchError(
            f"{path} was simulated at {kelvin:g} K, and lies where references of {wanted:g} K are looked "
            f"for; move it {home}"
        )


def infinite(reference: Reference) -> str:
    """What of positions, energies and TICA model is NaN or infinite; nothing if they are whole."""
    arrays = {"positions": reference.x, "energies": reference.u}
    if reference.tica is not None:
        arrays |= {"TICA means": reference.tica.mean, "TICA projections": reference.tica.projection}
    bad = [name for name, values in arrays.items() if not bool(torch.isfinite(values).all())]
    return f"{' and '.join(bad)} are not all finite" if bad else ""


def miscounted(reference: Reference) -> str:
    """How frames and replicas differ from those that the certificate counts; nothing if they do not.

    A replica may be missing where as many frames as it had were left out.
    """
    told, n = reference.certificate, reference.n_samples
    if told["frames"] != n:
        return f"it holds {n} frames, its certificate says {told['frames']}"
    names, counts = torch.unique(reference.replica, return_counts=True)
    if not _is_number(told["replicas"]) or not set(names.tolist()) <= set(range(int(told["replicas"]))):
        return f"replicas are numbered up to {int(names.max())}, its certificate says {told['replicas']}"
    lost = (int(told["replicas"]) - len(names)) * (int(counts.max()) - 1)
    left_out = told.get("left_out")
    if lost > (sum(left_out.values()) if isinstance(left_out, dict) else 0):
        return f"it holds frames of {len(names)} replicas, its certificate says {told['replicas']}"
    return ""


def misgraded(system: System, reference: Reference) -> str:
    """How R̂ and grade differ from those of the stored frames by the rules of `certify`; nothing if not.

    Certificates of before χ₁ or ω before proline were looked at are whole without them. What was
    not simulated may be called bronze whatever its R̂.

    Raises:
        BgbenchError: if a replica has too few frames.
    """
    told, grade = reference.certificate["rhat"], reference.grade
    if grade not in GRADES:
        return f"grade '{grade}' is none of {', '.join(GRADES)}"
    if not isinstance(told, dict):
        return "its certificate has no table of R̂"
    if reference.tica is None and any(name.startswith("tic") for name in told):
        return "it has no TICA model, and R̂ of TICs"
    frames = {"x": reference.x.double(), "u": reference.u, "replica": reference.replica}
    found = certify(system, frames, reference.tica)
    strange = [name for name in {**told, **found["rhat"]} if not _agree(name, told, found["rhat"])]
    if strange:
        name = strange[0]
        values = [f"{table[name]}" if name in table else "absent" for table in (told, found["rhat"])]
        return f"R̂ of {name} is {values[0]} in its certificate and {values[1]} by its frames"
    modest = grade == "bronze" and str(reference.certificate["engine"]) not in ENGINES
    if grade != found["grade"] and not modest:
        return f"grade {grade} is {found['grade']} by its frames (`bgbench data certify` grades anew)"
    return ""


def _agree(name: str, told: Mapping[str, Any], found: Mapping[str, float]) -> bool:
    if name not in told:
        return any(kind in name for kind in ("chi1", "omega"))
    return name in found and _is_number(told[name]) and abs(told[name] - found[name]) <= SAME


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
