"""Whether a reference file is sound: its certificate agrees with its frames, down to the last of them."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.guard import contained
from bgbench.core.plugins import energy, named, plugins
from bgbench.core.types import ForceFieldSpec, Reference, System
from bgbench.energies.batched import BatchedEnergy
from bgbench.references.certificates import DAMAGE, check_certificate, read_certificate, target_temperature
from bgbench.references.diagnostics import FEWEST, measure_mixing
from bgbench.references.physics import COLDEST, FEWEST_FRAMES, HOTTEST, TYPICAL, mean_bond_energy
from bgbench.references.providers import PACKAGED_TEMPERATURE
from bgbench.references.store import read_reference
from bgbench.references.sums import refuse_unlisted
from bgbench.systems.chirality import is_wrong
from bgbench.systems.features import tica_features
from bgbench.systems.peptides import peptide
from bgbench.systems.residues import parse_chain

MOST_ENERGY_ERROR = 5.0
"""kT that a stored energy may differ from that of its rounded positions; packaged ones are within 0.25."""

MOST_RHAT_ERROR = 0.002
"""Largest difference of R̂ between a certificate and its rounded frames: ten times the most in `datasets`."""

SAMPLED = 32
"""Frames whose energies a run's plan recomputes."""

LEAST_DISTINCT = 0.9
"""Fraction of frames that must differ from all others."""

MOST_MIRRORED = 0.01
"""Fraction of frames that may have a mirrored stereocentre."""

MOST_TIC = 10.0
"""Median of |TIC| over frames. A model's own dynamics have about 1; an ensemble that also holds states they
never reached has more, up to 2.8 among those packaged (KKAP)."""

OTHER_FORCE_FIELD = "*-" + 8 * "[0-9a-f]"
"""Folders of references of other force fields, as `reference_path` names them."""

GRADES = ("gold", "silver", "bronze")


class SoundReference(NamedTuple):
    """A reference that passed every check, and the largest |Δu| (kT) between stored energies and those of the
    rounded positions."""

    reference: Reference
    energy_error: float


def references_in(place: Path) -> list[Path]:
    """Reference files of a folder, of the temperature folders (`500K`) in it, and of those of other force
    fields (`NAME-HASH`) with theirs; of a file, the file.

    Raises:
        BgbenchError: if there is none.
    """
    folders = ("", "*K/", f"{OTHER_FORCE_FIELD}/", f"{OTHER_FORCE_FIELD}/*K/")
    paths = [place] if place.is_file() else [f for at in folders for f in sorted(place.glob(f"{at}*.npz"))]
    if not paths:
        raise BgbenchError(f"{place} holds no reference")
    return paths


def verify_reference(path: Path) -> SoundReference:
    """Read the reference of a file and check it: checksums, shapes, counts, R̂, grade and every energy.

    Its peptide is what its name begins with (`AA`, `AA-500K`), its temperature and force field are what its
    certificate says.

    Raises:
        BgbenchError: for a file that is damaged, whose certificate disagrees with its frames, or whose sha256
            is not that in the list beside it.
    """
    refuse_unlisted(path)
    certificate = read_certificate(path)
    check_certificate(certificate, path)
    system = system_of(path, certificate)
    reference = read_reference(path, system)
    refuse_other_place(path, system.temperature)
    try:
        refuse_nonfinite(reference)
        refuse_other_counts(reference)
        refuse_other_grade(system, reference)
        refuse_other_bonds(system, reference)
    except Unsound as error:
        raise BgbenchError(f"{path} is not sound: {error}; fetch or simulate it again") from error
    energy_error = float((BatchedEnergy(system, "compiled").energy(reference.x) - reference.u).abs().max())
    if not energy_error <= MOST_ENERGY_ERROR:
        raise BgbenchError(
            f"{path} is not sound: stored energies are off by up to {energy_error:.1f} kT; simulate it again"
        )
    return SoundReference(reference, energy_error)


def refuse_unsound(system: System, reference: Reference, backend: str) -> None:
    """Refuse a reference that no run may be judged by: the rules of `verify_reference` that take no second.

    Energies are recomputed for `SAMPLED` frames. A reference that was reweighted or came with its system has
    no counts and no R̂ of its own to compare with.

    Args:
        system: that the run samples.
        reference: what it would be judged by.
        backend: name of the energy that references of systems without a force field are compared with.

    Raises:
        BgbenchError: naming the system and what is wrong.

    >>> from bgbench.references.providers import find_reference
    >>> refuse_unsound(peptide("PG"), find_reference(peptide("PG")), "openmm")
    """
    try:
        refuse_shapeless(system, reference)
        refuse_nonfinite(reference)
        if system.atoms:
            refuse_mirrored(system, reference)
            refuse_other_scale(system, reference)
        refuse_other_energies(system, reference, backend)
        if reference.sha256 and "reweighted" not in reference.certificate:
            refuse_other_counts(reference)
            refuse_other_grade(system, reference)
    except Unsound as error:
        advice = "simulate or fetch it again" if reference.sha256 else "mend or uninstall its plugin"
        raise BgbenchError(f"the reference of {system.name} is not sound: {error}; {advice}") from error


def refuse_shapeless(system: System, reference: Reference) -> None:
    """Raise Unsound for another name, an unknown grade, too few or repeated frames, or odd replicas."""
    if reference.system != system.name:
        raise Unsound(f"it is called {reference.system!r}")
    grade = reference.certificate.get("grade")
    if not isinstance(grade, str) or grade not in GRADES:
        raise Unsound(f"grade {grade!r} is not one of {', '.join(GRADES)}")
    n, replica = reference.n_samples, reference.replica
    if n < FEWEST_FRAMES:
        raise Unsound(f"it has {n} frames, {FEWEST_FRAMES} are needed to know a distribution")
    if replica.is_floating_point() or bool((replica < 0).any()) or len(torch.unique(replica)) < 2:
        raise Unsound("its replicas must be numbered from 0, two at least")
    distinct = len({frame.tobytes() for frame in reference.x.numpy()})
    if distinct < LEAST_DISTINCT * n and "reweighted" not in reference.certificate:
        raise Unsound(f"only {distinct} of its {n} frames differ from each other")


def refuse_mirrored(system: System, reference: Reference) -> None:
    """Raise Unsound if stereocentres of more than MOST_MIRRORED of the frames are not natural."""
    fraction = float(is_wrong(system, reference.x).double().mean())
    if fraction > MOST_MIRRORED:
        raise Unsound(f"{fraction:.0%} of its frames have a mirrored stereocentre")


def refuse_other_scale(system: System, reference: Reference) -> None:
    """Raise Unsound if TICs of its frames lie far beyond those of the dynamics its model was fitted to."""
    if reference.tica is None:
        return
    x = reference.x[_sampled(reference.n_samples, 256)].double()
    tics = reference.tica.transform(tica_features(system, x).to(reference.tica.mean))
    largest = float(tics.abs().median(0).values.max())
    if largest > MOST_TIC:
        raise Unsound(f"its TICA model is of other frames: half of a TIC's values are beyond ±{largest:.0f}")


def refuse_other_energies(system: System, reference: Reference, backend: str) -> None:
    """Raise Unsound if stored energies of `SAMPLED` frames are not those of the frames."""
    index = _sampled(reference.n_samples, SAMPLED)
    # OpenMM knows every force field; the batched energy is the faster one to build.
    name = "openmm" if system.forcefield is not None else backend
    origin, what = plugins().energies.origin(name), f"energy '{name}'"
    with named(origin, what), contained(f"{origin}: {what}"):
        u = energy(system, name).energy(reference.x[index].double())
    worst = float((u.cpu() - reference.u[index]).abs().max())
    if not worst <= MOST_ENERGY_ERROR:
        raise Unsound(f"stored energies are off by up to {worst:.1f} kT")


def _sampled(n: int, most: int) -> torch.Tensor:
    return torch.linspace(0, n - 1, min(n, most)).long()


class Unsound(BgbenchError):
    """What is wrong with a reference, without the name of its file."""


def system_of(path: Path, certificate: Mapping[str, Any]) -> System:
    """The peptide a file is named after, at the temperature (K) that its certificate begins its ladder with,
    with the force field that it names; older ones name none, and are of the default one.

    Raises:
        BgbenchError: if the name does not begin with a peptide, the temperature is not a number above 0, or
            the force field is damaged.
    """
    kelvin = target_temperature(certificate, path)
    stored = certificate.get("forcefield")
    try:
        spec = None if stored is None else ForceFieldSpec(**{**stored, "files": tuple(stored["files"])})
    except DAMAGE as error:
        raise BgbenchError(f"the certificate of {path} names no force field: {error}") from error
    try:
        return peptide(named_peptide(path), kelvin, spec)
    except BgbenchError as error:
        raise BgbenchError(f"{path} is not named after a peptide: {error}") from error


def named_peptide(path: Path) -> str:
    """The longest part of a file's name, from its begin to a dash or its end, that names a peptide; without
    one, what is before the first dash.

    >>> [named_peptide(Path(f"{stem}.npz")) for stem in ("AA", "AA-500K", "ACE-A-NME", "ACE-A-NME-openmm")]
    ['AA', 'AA', 'ACE-A-NME', 'ACE-A-NME']
    """
    words = path.stem.split("-")
    for end in range(len(words), 0, -1):
        with suppress(BgbenchError):
            return parse_chain("-".join(words[:end])).name
    return words[0]


def refuse_other_place(path: Path, kelvin: float) -> None:
    """Raise BgbenchError if a run would take the file for one of another temperature than `kelvin`.

    Names with more than the peptide's (`AA-500K`) are never looked up by a run, and may lie anywhere.
    """
    if path.stem != named_peptide(path):
        return
    folder = re.fullmatch(r"(\d+(?:\.\d+)?)K", path.resolve().parent.name)
    wanted = float(folder[1]) if folder else PACKAGED_TEMPERATURE
    if not math.isclose(kelvin, wanted, rel_tol=1e-5):
        home = "out of that folder" if kelvin == PACKAGED_TEMPERATURE else f"into a folder {kelvin:g}K"
        raise BgbenchError(
            f"{path} was simulated at {kelvin:g} K, and lies where runs look for references of {wanted:g} K; "
            f"move it {home}"
        )


def refuse_nonfinite(reference: Reference) -> None:
    """Raise Unsound if positions, energies or TICA model hold NaN or infinity."""
    arrays = {"positions": reference.x, "energies": reference.u}
    if reference.tica is not None:
        arrays |= {"TICA means": reference.tica.mean, "TICA projections": reference.tica.projection}
    bad = [name for name, values in arrays.items() if not bool(torch.isfinite(values).all())]
    if bad:
        raise Unsound(f"{' and '.join(bad)} are not all finite")


def refuse_other_counts(reference: Reference) -> None:
    """Raise Unsound if frames and replicas are not as many as the certificate says.

    A replica may be missing where as many frames as it had were left out.
    """
    certificate, n = reference.certificate, reference.n_samples
    replicas = certificate["replicas"]
    if certificate["frames"] != n:
        raise Unsound(f"it holds {n} frames, its certificate says {certificate['frames']}")
    names, counts = torch.unique(reference.replica, return_counts=True)
    if not _is_number(replicas) or not set(names.tolist()) <= set(range(int(replicas))):
        raise Unsound(f"replicas are numbered up to {int(names.max())}, its certificate says {replicas}")
    lost = (int(replicas) - len(names)) * (int(counts.max()) - 1)
    left_out = certificate.get("left_out")
    if lost > (sum(left_out.values()) if isinstance(left_out, dict) else 0):
        raise Unsound(f"it holds frames of {len(names)} replicas, its certificate says {replicas}")


def refuse_other_grade(system: System, reference: Reference) -> None:
    """Raise Unsound if R̂ or grade is not that of the stored frames by the rules of `certify`.

    Certificates from before χ₁ or ω before proline were looked at may lack those. A reference that was not
    simulated may be called bronze whatever its R̂.

    Raises:
        BgbenchError: if a replica has too few frames.
    """
    stored, grade = reference.certificate["rhat"], reference.grade
    if grade not in GRADES:
        raise Unsound(f"grade '{grade}' is not one of {', '.join(GRADES)}")
    if not isinstance(stored, dict):
        raise Unsound("its certificate has no table of R̂")
    if reference.tica is None and any(name.startswith("tic") for name in stored):
        raise Unsound("it has no TICA model, and R̂ of TICs")
    least = int(torch.unique(reference.replica, return_counts=True)[1].min())
    if least < FEWEST:
        raise Unsound(f"a replica has {least} frames, {FEWEST} are needed to say how they mix")
    fresh = measure_mixing(system, reference.x.double(), reference.replica, reference.tica)
    unlike = [name for name in {**stored, **fresh["rhat"]} if not _agree(name, stored, fresh["rhat"])]
    if unlike:
        name = unlike[0]
        values = [f"{table[name]}" if name in table else "absent" for table in (stored, fresh["rhat"])]
        raise Unsound(f"R̂ of {name} is {values[0]} in its certificate and {values[1]} by its frames")
    simulated = str(reference.certificate["engine"]) in plugins().engines
    if grade != fresh["grade"] and (simulated or grade != "bronze"):
        raise Unsound(
            f"grade {grade} is {fresh['grade']} by its frames (`bgbench data certify` grades it again)"
        )


def refuse_other_bonds(system: System, reference: Reference) -> None:
    """Raise Unsound if bonds are stretched as at another temperature than the certificate names."""
    energy = mean_bond_energy(system, reference.x)
    if not COLDEST <= energy <= HOTTEST:
        raise Unsound(
            f"bonds hold {energy:.2f} kT each on average instead of {TYPICAL:g}: its frames are of another "
            f"temperature than {system.temperature:g} K, or of constrained bonds"
        )


def _agree(name: str, stored: Mapping[str, Any], fresh: Mapping[str, float]) -> bool:
    if name not in stored:
        return any(coordinate in name for coordinate in ("chi1", "omega"))
    return name in fresh and _is_number(stored[name]) and abs(stored[name] - fresh[name]) <= MOST_RHAT_ERROR


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
