"""The numbers of an OpenMM `System`, as arrays: bonded terms, pairs, generalised Born.

Everything is read off the system itself, its Born expressions included; a force that is not known here
is an error, never ignored. Units as OpenMM's: kJ/mol, nm, elementary charges, rad.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgbench.core.errors import BgbenchError

COULOMB = 138.93545764438198
"""1/(4πε₀) in kJ nm / (mol e²), CODATA 2018, as OpenMM has it."""

MAX_PERIODICITY = 6


@dataclass(frozen=True)
class BornTerms:
    """OBC generalised Born: `offset_radius`, `scaled_radius`, `radius`, `self_energy`, `surface (atoms,)`.

    ψ = I · offset_radius, B = 1/(1/offset_radius − tanh(Σ tanh_k ψ^k)/radius) for k = 1, 2, 3; the pair
    energy is `pair_scale` q q (1/f − shift). Source: Onufriev, Bashford, Case 2004, in OpenMM's words.
    """

    offset_radius: np.ndarray
    scaled_radius: np.ndarray
    radius: np.ndarray
    self_energy: np.ndarray
    surface: np.ndarray
    tanh: np.ndarray
    charge: np.ndarray
    pair_scale: float
    shift: float
    cutoff: float


@dataclass(frozen=True)
class Parameters:
    """Parameters of one molecule; index arrays are int64, values float64.

    `pair_*` run over the upper triangle row by row, zero where an exception replaces the pair;
    `torsion_coefficients` holds cos and sin amplitudes for periodicities 1 to 6: E = Σ k (1 + cos(nφ−δ)).
    """

    n_atoms: int
    masses: np.ndarray
    bonds: np.ndarray
    bond_values: np.ndarray
    angles: np.ndarray
    angle_values: np.ndarray
    torsions: np.ndarray
    torsion_coefficients: np.ndarray
    torsion_constant: float
    pair_charge: np.ndarray
    pair_c12: np.ndarray
    pair_c6: np.ndarray
    exceptions: np.ndarray
    exception_values: np.ndarray
    cutoff: float
    reaction_k: float
    reaction_c: float
    born: BornTerms | None


def read_parameters(system: Any) -> Parameters:
    """Read an `openmm.System` of one molecule without constraints or virtual sites.

    Raises:
        BgbenchError: for a force, an option or a Born expression that is not known here, naming it.
    """
    n = system.getNumParticles()
    if system.getNumConstraints():
        raise BgbenchError("the batched energy knows no constraints; set constraints: null")
    fields = _no_terms(n)
    readers: dict[str, Callable[[Any, int], dict[str, Any]]] = {
        "HarmonicBondForce": _bonds,
        "HarmonicAngleForce": _angles,
        "PeriodicTorsionForce": _torsions,
        "NonbondedForce": _nonbonded,
        "CustomGBForce": _born,
        "GBSAOBCForce": _gbsa_obc,
        "CMMotionRemover": lambda force, n: {},
    }
    kinds = [type(force).__name__ for force in system.getForces()]
    for kind, force in zip(kinds, system.getForces(), strict=True):
        if kind not in readers:
            raise BgbenchError(
                f"the batched energy does not know {kind}; use energy: openmm, or --engine openmm to simulate"
            )
        if kinds.count(kind) > 1:
            raise BgbenchError(
                f"the batched energy knows one {kind} a system, not {kinds.count(kind)}; use energy: openmm"
            )
        if {"CustomGBForce", "GBSAOBCForce"} <= set(kinds):
            raise BgbenchError("the batched energy knows one force of implicit solvent; use energy: openmm")
        if force.usesPeriodicBoundaryConditions():
            raise BgbenchError(
                f"the batched energy knows no periodic boxes, as {kind} has; use energy: openmm"
            )
        fields |= readers[kind](force, n)
    masses = np.array([system.getParticleMass(i)._value for i in range(n)])
    if (masses <= 0).any():
        raise BgbenchError("the batched energy knows no massless particles; use energy: openmm")
    return Parameters(n_atoms=n, masses=masses, **fields)


def _no_terms(n: int) -> dict[str, Any]:
    """What a system of n atoms without any force has."""
    empty = np.zeros((0, 2))
    pairs = n * (n - 1) // 2
    return {
        "bonds": empty.astype(np.int64),
        "bond_values": empty,
        "angles": np.zeros((0, 3), np.int64),
        "angle_values": empty,
        "torsions": np.zeros((0, 4), np.int64),
        "torsion_coefficients": np.zeros((0, 2 * MAX_PERIODICITY)),
        "torsion_constant": 0.0,
        "pair_charge": np.zeros(pairs),
        "pair_c12": np.zeros(pairs),
        "pair_c6": np.zeros(pairs),
        "exceptions": empty.astype(np.int64),
        "exception_values": np.zeros((0, 3)),
        "cutoff": np.inf,
        "reaction_k": 0.0,
        "reaction_c": 0.0,
        "born": None,
    }


def _plain(values: Any) -> list[float]:
    """OpenMM quantities and numbers as plain numbers in OpenMM's own units."""
    return [float(getattr(value, "_value", value)) for value in values]


def _table(rows: list[list[float]], n_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into index columns and value columns."""
    table = np.array(rows, dtype=np.float64)
    if not rows:
        return np.zeros((0, n_index), np.int64), np.zeros((0, 0))
    return table[:, :n_index].astype(np.int64), np.ascontiguousarray(table[:, n_index:])


def _bonds(force: Any, n: int) -> dict[str, Any]:
    del n
    index, values = _table([_plain(force.getBondParameters(k)) for k in range(force.getNumBonds())], 2)
    return {"bonds": index, "bond_values": values}


def _angles(force: Any, n: int) -> dict[str, Any]:
    del n
    index, values = _table([_plain(force.getAngleParameters(k)) for k in range(force.getNumAngles())], 3)
    return {"angles": index, "angle_values": values}


def _torsions(force: Any, n: int) -> dict[str, Any]:
    """Terms on the same four atoms become one row of cos and sin amplitudes."""
    del n
    merged: dict[tuple[int, ...], np.ndarray] = {}
    constant = 0.0
    for term in range(force.getNumTorsions()):
        *atoms, periodicity, phase, strength = _plain(force.getTorsionParameters(term))
        order = int(periodicity)
        if not 1 <= order <= MAX_PERIODICITY:
            raise BgbenchError(f"the batched energy knows torsions of periodicity 1 to 6, not {order}")
        row = merged.setdefault(tuple(int(a) for a in atoms), np.zeros(2 * MAX_PERIODICITY))
        row[order - 1] += strength * np.cos(phase)
        row[MAX_PERIODICITY + order - 1] += strength * np.sin(phase)
        constant += strength
    return {
        "torsions": np.array(list(merged), dtype=np.int64).reshape(-1, 4),
        "torsion_coefficients": np.array(list(merged.values())).reshape(-1, 2 * MAX_PERIODICITY),
        "torsion_constant": constant,
    }


def _nonbonded(force: Any, n: int) -> dict[str, Any]:
    offsets = force.getNumParticleParameterOffsets() + force.getNumExceptionParameterOffsets()
    if force.getUseSwitchingFunction() or offsets:
        raise BgbenchError("the batched energy knows no switching function and no parameter offsets")
    charge, sigma, epsilon = np.array([_plain(force.getParticleParameters(i)) for i in range(n)]).T
    i, j = np.triu_indices(n, 1)
    s6 = (0.5 * (sigma[i] + sigma[j])) ** 6
    depth = 4.0 * np.sqrt(epsilon[i] * epsilon[j])
    pairs = {"charge": COULOMB * charge[i] * charge[j], "c12": depth * s6**2, "c6": depth * s6}
    rows = [_plain(force.getExceptionParameters(k)) for k in range(force.getNumExceptions())]
    index, values = _table(rows, 2)
    for a, b in np.sort(index, axis=1):
        place = a * n - a * (a + 1) // 2 + b - a - 1
        for table in pairs.values():
            table[place] = 0.0
    nonzero = (values[:, 0] != 0) | (values[:, 2] != 0) if len(index) else np.zeros(0, bool)
    q, s, e = values[nonzero].T if nonzero.any() else np.zeros((3, 0))
    cut = force.getNonbondedMethod() == force.CutoffNonPeriodic
    rc, eps = force.getCutoffDistance()._value, force.getReactionFieldDielectric()
    return {
        **{f"pair_{name}": table for name, table in pairs.items()},
        "exceptions": index[nonzero],
        "exception_values": np.stack([COULOMB * q, 4 * e * s**12, 4 * e * s**6], axis=1),
        "cutoff": rc if cut else np.inf,
        "reaction_k": (eps - 1) / (2 * eps + 1) / rc**3 if cut else 0.0,
        "reaction_c": 3 * eps / (2 * eps + 1) / rc if cut else 0.0,
    }


_NUMBER = r"([-+]?[\d.]+(?:e[-+]?\d+)?)"
_INTEGRAL = (
    "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);"
    "U=r+sr2;L=max(or1,D);D=abs(r-sr2)"
)
_RADIUS = (
    rf"1/\(1/or-tanh\((?:{_NUMBER}\*)?psi(?:-{_NUMBER}\*psi\^2)?\+{_NUMBER}\*psi\^3\)/radius\);"
    rf"psi=I\*or;radius=or\+offset;offset={_NUMBER}"
)
_SELF = rf"-0\.5\*{_NUMBER}\*\(1/soluteDielectric-1/solventDielectric\)\*charge\^2/B;.*"
_SURFACE = rf"{_NUMBER}\*\(radius\+{_NUMBER}\)\^2\*\(radius/B\)\^6;.*"
_PAIR = (
    rf"-{_NUMBER}\*\(1/soluteDielectric-1/solventDielectric\)\*charge1\*charge2(?:/f|\*\(1/f-{_NUMBER}\));"
    r"f=sqrt\(r\^2\+B1\*B2\*exp\(-r\^2/\(4\*B1\*B2\)\)\);.*"
)


def _born(force: Any, n: int) -> dict[str, Any]:
    values = [force.getComputedValueParameters(k) for k in range(force.getNumComputedValues())]
    terms = [force.getEnergyTermParameters(k)[0] for k in range(force.getNumEnergyTerms())]
    names = [force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())]
    known = names == ["charge", "or", "sr"] and [value[0] for value in values] == ["I", "B"]
    if not known or force.getNumExclusions() or len(terms) not in (2, 3):
        raise BgbenchError("the batched energy knows OpenMM's OBC1 and OBC2 CustomGBForce only")
    if _bare(values[0][1]) != _INTEGRAL:
        raise BgbenchError(f"unknown Born integral in CustomGBForce: {values[0][1]}; use energy: openmm")
    linear, square, cubic, offset = _match(_RADIUS, values[1][1])
    (scale,) = _match(_SELF, terms[0])
    tension, probe = _match(_SURFACE, terms[1]) if len(terms) == 3 else (0.0, 0.0)
    pair_scale, shift = _match(_PAIR, terms[-1])
    solvent, solute = (
        _match(rf".*{name}Dielectric={_NUMBER}.*", terms[0])[0] for name in ("solvent", "solute")
    )
    factor = 1.0 / solute - 1.0 / solvent
    charge, offset_radius, scaled = np.array([_plain(force.getParticleParameters(i)) for i in range(n)]).T
    radius = offset_radius + offset
    cut = force.getNonbondedMethod() == force.CutoffNonPeriodic
    born = BornTerms(
        offset_radius=offset_radius,
        scaled_radius=scaled,
        radius=radius,
        self_energy=-0.5 * scale * factor * charge**2,
        surface=tension * (radius + probe) ** 2 * radius**6,
        tanh=np.array([1.0 if linear is None else linear, -(square or 0.0), cubic]),
        charge=charge,
        pair_scale=-pair_scale * factor,
        shift=shift or 0.0,
        cutoff=force.getCutoffDistance()._value if cut else np.inf,
    )
    return {"born": born}


OBC2 = (1.0, 0.8, 4.85)
"""α, β and γ of the tanh in OpenMM's GBSAOBCForce: OBC2 of Onufriev et al., Proteins 55, 383 (2004)."""

OBC_OFFSET, PROBE = 0.009, 0.14
"""By how much OpenMM's GBSAOBCForce lessens radii, and the radius of its probe, nm."""


def _gbsa_obc(force: Any, n: int) -> dict[str, Any]:
    """OpenMM's own force for OBC2, that of `amber99_obc.xml` and its kin."""
    charge, radius, scale = np.array([_plain(force.getParticleParameters(i)) for i in range(n)]).T
    factor = 1.0 / force.getSoluteDielectric() - 1.0 / force.getSolventDielectric()
    cut = force.getNonbondedMethod() == force.CutoffNonPeriodic
    cutoff = force.getCutoffDistance()._value if cut else np.inf
    offset_radius = radius - OBC_OFFSET
    (tension,) = _plain([force.getSurfaceAreaEnergy()])
    alpha, beta, gamma = OBC2
    born = BornTerms(
        offset_radius=offset_radius,
        scaled_radius=scale * offset_radius,
        radius=radius,
        self_energy=-0.5 * COULOMB * factor * charge**2,
        surface=4 * np.pi * tension * (radius + PROBE) ** 2 * radius**6,
        tanh=np.array([alpha, -beta, gamma]),
        charge=charge,
        pair_scale=-COULOMB * factor,
        shift=1.0 / cutoff,
        cutoff=cutoff,
    )
    return {"born": born}


def _bare(expression: str) -> str:
    return expression.replace(" ", "")


def _match(pattern: str, expression: str) -> tuple[Any, ...]:
    """The numbers of an expression of a known form.

    Raises:
        BgbenchError: if it has another form.
    """
    match = re.fullmatch(pattern, _bare(expression))
    if match is None:
        raise BgbenchError(f"unknown expression in CustomGBForce: {expression}; use energy: openmm")
    return tuple(None if text is None else float(text) for text in match.groups())
