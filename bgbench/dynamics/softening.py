"""Replica exchange with softened terms (Wang, Friesner and Berne 2011, REST2, here of the whole molecule).

Rung k feels A + s_k · B at the target temperature: B holds the torsions about bonds that turn, all non-bonded
terms and generalised Born; A holds bonds, angles, rings, peptide bonds, planes and the surface. Stiff terms
stay cold, so few rungs span a wide range of s, and neither chirality nor peptide bonds flip at the top.
What heat alone crosses seldom, φ > 0 and rotamers above all, is met by rigid turns about φ, ψ and the bonds
of side chains, accepted by Metropolis at every rung. So are the two isomers of a peptide bond before proline:
its ω is turned by about half a circle, the other peptide bonds are left trans.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from bgbench.core.types import System
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.dynamics.tempering import metropolis
from bgbench.energies.compiled import Packed, each, energy_sweep, force_sweep, pack
from bgbench.energies.parameters import Parameters
from bgbench.systems.features import torsion_atoms

AROUND = 3
"""Energies a walker is asked for around its turns: before, after, and B for the exchange."""

BACKBONE = ("N", "CA", "C")
"""Atoms between which φ, ψ and ω turn; a bond with any other is of a side chain or an end."""

FLIP_WIDTH = 0.3
"""Standard deviation (rad) of a turn about ω before proline, around π: isomers are planar within this."""


@dataclass(frozen=True)
class Turns:
    """Turns about φ, ψ and bonds of side chains: `axes (bonds, 2)`, `moved (bonds, atoms)`, the smaller side.

    Of side chains those that move a heavy atom beside the bond's own; arginine's stiff NE–CZ is one of them.
    `flips (bonds,)` marks peptide bonds before proline, turned by π ± FLIP_WIDTH instead of any angle.

    `torsions (n,)` tells which torsion terms of the energy are about any bond that is free to turn: of no
    ring and no peptide bond; planes are not.
    """

    axes: np.ndarray
    moved: np.ndarray
    torsions: np.ndarray
    flips: np.ndarray

    @classmethod
    def of(cls, system: System, torsions: np.ndarray) -> "Turns":
        """Those of `system`, whose energy has torsion terms about `torsions (n, 4)`."""
        bonds = {frozenset(pair) for pair in system.bonds}
        named = {name: rows[:, 1:3].tolist() for name, rows in torsion_atoms(system).items()}
        stiff = {frozenset(pair) for pair in named["omega"]}
        sides = {bond: _side(bonds, bond, system.n_atoms) for bond in bonds - stiff}
        free = {bond: side for bond, side in sides.items() if side.any()}
        terms = [
            frozenset((j, k)) in free and frozenset((i, j)) in bonds and frozenset((k, m)) in bonds
            for i, j, k, m in torsions.tolist()
        ]
        heavy = np.array([atom.element != "H" for atom in system.atoms])
        backbone = {k for k, atom in enumerate(system.atoms) if atom.name in BACKBONE}
        chi = [sorted(b) for b, side in free.items() if b - backbone and (side & heavy).sum() > 1]
        axes = [pair for pair in named["phi"] + named["psi"] if frozenset(pair) in free] + sorted(chi)
        prolines = [pair for pair in named["omega"] if system.atoms[pair[1]].residue_name == "PRO"]
        sides = free | {frozenset(pair): _side(bonds, frozenset(pair), system.n_atoms) for pair in prolines}
        moved = np.array([sides[frozenset(pair)] for pair in axes + prolines], bool)
        flips = np.arange(len(axes) + len(prolines)) >= len(axes)
        return cls(
            np.array(axes + prolines, np.int64).reshape(-1, 2),
            moved.reshape(-1, system.n_atoms),
            np.array(terms, bool),
            flips,
        )

    def angles(self, which: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A random angle `(n,)` in rad for a turn of each of `which (n,)`; as likely as its opposite."""
        angle = random.uniform(-np.pi, np.pi, len(which))
        if not self.flips.any():
            return angle
        return np.where(self.flips[which], random.normal(np.pi, FLIP_WIDTH, len(which)), angle)

    def rotations(self, x: np.ndarray, which: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """`(n, 3, 3)`: by `angle (n,)` rad about the axes of bonds `which (n,)` in `x (n, atoms, 3)`."""
        rows = np.arange(len(x))
        axis = x[rows, self.axes[which, 1]] - x[rows, self.axes[which, 0]]
        return Rotation.from_rotvec(axis * (angle / np.linalg.norm(axis, axis=-1))[:, None]).as_matrix()

    def turned(self, x: np.ndarray, which: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """`x (n, atoms, 3)` with one side of bonds `which (n,)` turned about them."""
        origin = x[np.arange(len(x)), self.axes[which, 1]][:, None]
        y = np.einsum("nij,naj->nai", rotations, x - origin) + origin
        return np.where(self.moved[which][..., None], y, x).astype(x.dtype)


def _side(bonds: set[frozenset[int]], bond: frozenset[int], n_atoms: int) -> np.ndarray:
    """Atoms `(atoms,)` on the smaller side of a bond; none of a bond in a ring."""
    i, j = np.array([sorted(pair) for pair in bonds - {bond}]).reshape(-1, 2).T
    _, part = connected_components(coo_array((np.ones(len(i)), (i, j)), (n_atoms, n_atoms)))
    first, second = (part == part[atom] for atom in sorted(bond))
    if (first == second).all():
        return np.zeros(n_atoms, bool)
    return first if first.sum() <= second.sum() else second


def softened(p: Parameters, turns: Turns, s: float, stiff: float = 1.0) -> Parameters:
    """`p` with B scaled by s and A by `stiff`; the constant of torsions belongs to neither and is dropped."""
    born = p.born and replace(
        p.born,
        self_energy=s * p.born.self_energy,
        pair_scale=s * p.born.pair_scale,
        surface=stiff * p.born.surface,
    )
    return replace(
        p,
        bond_values=p.bond_values * [1.0, stiff],
        angle_values=p.angle_values * [1.0, stiff],
        torsion_coefficients=p.torsion_coefficients * np.where(turns.torsions, s, stiff)[:, None],
        torsion_constant=0.0,
        pair_charge=s * p.pair_charge,
        pair_c12=s * p.pair_c12,
        pair_c6=s * p.pair_c6,
        exception_values=s * p.exception_values,
        born=born,
    )


@dataclass
class Softening:
    """`replicas` independent ladders, all at one temperature; walker k·replicas + r is replica r at rung k.

    `scales (rungs,)` fall from 1; `tries` turns a walker and round, each an energy. Random numbers of round m
    come from streams of (seed, m). `tried`, `taken` count swaps of neighbours, `turns_taken` turns of a rung.
    """

    walkers: Walkers
    scales: np.ndarray
    packed: list[Packed]
    soft: Packed
    turns: Turns
    tries: int
    seed: int
    rounds: int
    tried: np.ndarray
    taken: np.ndarray
    turns_taken: np.ndarray

    @classmethod
    def start(
        cls, system: System, p: Parameters, walkers: Walkers, scales: np.ndarray, tries: int, seed: int
    ) -> "Softening":
        """Ladders of `walkers`, `len(scales)` for each replica, rung by rung; `tries` turns a round."""
        turns = Turns.of(system, p.torsions)
        packed = [pack(softened(p, turns, float(s)), np.float32) for s in scales]
        soft = pack(softened(p, turns, 1.0, stiff=0.0), np.float32)
        swaps, taken = np.zeros((2, len(scales) - 1), np.int64)
        turned = np.zeros(len(scales), np.int64)
        return cls(
            walkers,
            scales,
            packed,
            soft,
            turns,
            tries,
            seed,
            0,
            swaps,
            taken,
            turned,
        )

    @property
    def replicas(self) -> int:
        return len(self.walkers.x) // len(self.scales)

    @property
    def cold(self) -> np.ndarray:
        """Positions under the full energy `(replicas, atoms, 3)`."""
        return self.walkers.x[: self.replicas]

    def round(self, integrator: Integrator, steps: int, threads: int) -> None:
        """`steps` of dynamics, `tries` turns of every walker, then one exchange between neighbours.

        Between steps the integrator's velocities lag half a kick behind the positions. For turns and
        exchanges they are brought level, for there they do not depend on positions: a blow would heat.
        """
        b = np.empty(len(self.walkers.x))

        def move(k: int) -> None:
            mine = self._rung(k)
            integrator.advance(mine, steps, self.packed[k], 1)
            u = self._kick(integrator, mine, k, 0.5)
            self._turn(mine, u, k)
            energy_sweep(mine.x, b[k * self.replicas : (k + 1) * self.replicas], self.soft)

        each(move, len(self.scales), threads)
        self.exchange(b)
        each(lambda k: self._kick(integrator, self._rung(k), k, -0.5), len(self.scales), threads)

    def _rung(self, k: int) -> Walkers:
        """Walkers of rung k, changed in place with the others."""
        rows, w = slice(k * self.replicas, (k + 1) * self.replicas), self.walkers
        return Walkers(w.x[rows], w.v[rows], w.random[rows], w.kt[rows])

    def _kick(self, integrator: Integrator, walkers: Walkers, k: int, part: float) -> np.ndarray:
        """Add this part of a step's kick at rung k to the velocities; energies `(n,)` in kJ/mol."""
        u, force = np.empty(len(walkers.x)), np.empty_like(walkers.x)
        force_sweep(walkers.x, u, force, self.packed[k])
        walkers.v += (part * integrator.step / integrator.masses[:, None]).astype(force.dtype) * force
        return u

    def _turn(self, walkers: Walkers, u: np.ndarray, k: int) -> None:
        """Rigid turns of bonds by random angles, accepted by Metropolis at rung k.

        Velocities turn with their atoms, so that stiff bonds do not feel it.
        """
        n, random = len(walkers.x), np.random.default_rng([self.seed, 2, self.rounds, k])
        new = np.empty(n)
        for _ in range(self.tries if len(self.turns.axes) else 0):
            which = random.integers(0, len(self.turns.axes), n)
            angle = self.turns.angles(which, random)
            rotations = self.turns.rotations(walkers.x, which, angle)
            y = self.turns.turned(walkers.x, which, rotations)
            energy_sweep(y, new, self.packed[k])
            accept = np.log(random.random(n)) < (u - new) / walkers.kt
            moved = accept[:, None] & self.turns.moved[which]
            walkers.v[moved] = np.einsum("nij,naj->nai", rotations, walkers.v)[moved]
            walkers.x[accept] = y[accept]
            u = np.where(accept, new, u)
            self.turns_taken[k] += accept.sum()

    def exchange(self, b: np.ndarray) -> None:
        """Metropolis exchange of neighbouring rungs by B `(walkers,)` in kJ/mol."""
        ladders = b.reshape(len(self.scales), -1).T
        beta = self.scales / self.walkers.kt.astype(np.float64).reshape(len(self.scales), -1).T
        order, low, accept = metropolis(ladders, beta, self.seed, self.rounds)
        self.rounds += 1
        self.tried[low] += len(ladders)
        self.taken[low] += accept.sum(0)
        rows = np.arange(len(ladders))[:, None] + order * len(ladders)
        self.walkers.take(rows.T.reshape(-1))
