"""Replica exchange with solute scaling, and torsion moves.

Like REST2 (Wang, Friesner and Berne, J. Phys. Chem. B 115, 9431 (2011)), here of the whole molecule: at the
target temperature rung k follows the energy A + s_k · B. B holds the torsions about bonds that are free to
turn, all non-bonded terms and generalised Born; A holds bonds, angles, rings, peptide bonds, planes and the
surface term. The stiff terms are not scaled, so a few rungs span a wide range of s, and at the top neither
stereocentres nor peptide bonds invert.

Barriers that scaling alone crosses seldom, φ > 0 and rotamers above all, are crossed by torsion moves: one
side of the molecule is turned rigidly about a φ, a ψ or a bond of a side chain, and the move is accepted by
Metropolis at every rung. The two isomers of a peptide bond before proline are exchanged by moves of its ω by
about half a turn; all other peptide bonds stay trans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from bgbench.core.types import System
from bgbench.dynamics.langevin import Integrator, Walkers
from bgbench.dynamics.tempering import draw_swaps
from bgbench.energies.compiled import each
from bgbench.energies.packed import Packed, pack
from bgbench.energies.parameters import Parameters
from bgbench.energies.single import sweep_energies, sweep_forces
from bgbench.systems.features import torsion_atoms

EVALUATIONS_AROUND_MOVES = 3
"""Energies of each walker and round besides those of its moves: before them, after them, and B for the
exchange."""

BACKBONE = ("N", "CA", "C")
"""Atoms of the bonds that φ, ψ and ω are about; a bond of any other is of a side chain or an end."""

FLIP_WIDTH = 0.3
"""Standard deviation (rad), around π, of a move of ω before proline: isomers are planar within this."""


@dataclass(frozen=True, eq=False)
class TorsionMoves:
    """Rigid rotations of one side of a molecule about φ, ψ and bonds of its side chains.

    Of side chains: every bond whose move takes along a heavy atom besides the bond's own, so arginine's stiff
    NE–CZ is one of them.

    Args:
        axes: `(moves, 2)`, the atoms of each bond.
        sides: `(moves, atoms)`, True for the atoms that move: the smaller side.
        scaled_terms: `(terms,)`, True for the torsion terms of the energy about a bond that is free to turn,
            in no ring and no peptide bond. Terms that keep groups planar are not among them.
        flips: `(moves,)`, True for peptide bonds before proline, which move by π ± FLIP_WIDTH instead of by
            any angle.
    """

    axes: np.ndarray
    sides: np.ndarray
    scaled_terms: np.ndarray
    flips: np.ndarray

    @classmethod
    def of_system(cls, system: System, terms: np.ndarray) -> "TorsionMoves":
        """The moves of `system`, whose energy has torsion terms on the atoms `terms (n, 4)`."""
        bonds = {frozenset(pair) for pair in system.bonds}
        backbone_bonds = {name: rows[:, 1:3].tolist() for name, rows in torsion_atoms(system).items()}
        peptide_bonds = {frozenset(pair) for pair in backbone_bonds["omega"]}
        sides = {bond: _side(system, bond) for bond in bonds - peptide_bonds}
        free = {bond: side for bond, side in sides.items() if side.any()}
        scaled = [
            frozenset((j, k)) in free and frozenset((i, j)) in bonds and frozenset((k, m)) in bonds
            for i, j, k, m in terms.tolist()
        ]
        heavy = np.array([atom.element != "H" for atom in system.atoms])
        backbone = {k for k, atom in enumerate(system.atoms) if atom.name in BACKBONE}
        chi = [sorted(b) for b, side in free.items() if b - backbone and (side & heavy).sum() > 1]
        turning = backbone_bonds["phi"] + backbone_bonds["psi"]
        axes = [pair for pair in turning if frozenset(pair) in free] + sorted(chi)
        prolines = [pair for pair in backbone_bonds["omega"] if system.atoms[pair[1]].residue_name == "PRO"]
        sides = free | {frozenset(pair): _side(system, frozenset(pair)) for pair in prolines}
        return cls(
            axes=np.array(axes + prolines, np.int64).reshape(-1, 2),
            sides=np.array([sides[frozenset(pair)] for pair in axes + prolines], bool).reshape(
                -1, system.n_atoms
            ),
            scaled_terms=np.array(scaled, bool),
            flips=np.arange(len(axes) + len(prolines)) >= len(axes),
        )

    def draw_angles(self, which: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Random angles `(n,)` in rad for moves `which (n,)`; an angle is as likely as its opposite."""
        angle = random.uniform(-np.pi, np.pi, len(which))
        if not self.flips.any():
            return angle
        return np.where(self.flips[which], random.normal(np.pi, FLIP_WIDTH, len(which)), angle)

    def rotation_matrices(self, x: np.ndarray, which: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """`(n, 3, 3)`: by `angle (n,)` rad about the axes of moves `which (n,)` in `x (n, atoms, 3)`."""
        rows = np.arange(len(x))
        axis = x[rows, self.axes[which, 1]] - x[rows, self.axes[which, 0]]
        return Rotation.from_rotvec(axis * (angle / np.linalg.norm(axis, axis=-1))[:, None]).as_matrix()

    def apply(self, x: np.ndarray, which: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """`x (n, atoms, 3)` after moves `which (n,)` by the matrices `rotations (n, 3, 3)`."""
        origin = x[np.arange(len(x)), self.axes[which, 1]][:, None]
        y = np.einsum("nij,naj->nai", rotations, x - origin) + origin
        return np.where(self.sides[which][..., None], y, x).astype(x.dtype)


def _side(system: System, bond: frozenset[int]) -> np.ndarray:
    """`(atoms,)` True for the atoms on the smaller side of a bond; for none, if the bond is in a ring."""
    i, j = sorted(bond)
    first, second = (i, *system.atoms_beyond(j, i)), (j, *system.atoms_beyond(i, j))
    side = np.zeros(system.n_atoms, bool)
    if i not in second:
        side[list(first if len(first) <= len(second) else second)] = True
    return side


def scale_solute(p: Parameters, moves: TorsionMoves, s: float, stiff: float = 1.0) -> Parameters:
    """`p` with B times s and A times `stiff`; the torsions' constant belongs to neither and is dropped."""
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
        torsion_coefficients=p.torsion_coefficients * np.where(moves.scaled_terms, s, stiff)[:, None],
        torsion_constant=0.0,
        pair_charge=s * p.pair_charge,
        pair_c12=s * p.pair_c12,
        pair_c6=s * p.pair_c6,
        exception_values=s * p.exception_values,
        born=born,
    )


@dataclass
class SoluteScaling:
    """`replicas` independent ladders, all at one temperature; walker k·replicas + r is replica r at rung k.

    Random numbers of round m come from streams of (seed, m), so a run goes on from `walkers` and `rounds`.

    Args:
        walkers: of all rungs and replicas.
        scales: `(rungs,)`, s of each rung, falling from 1.
        packed: the scaled energy of each rung.
        scaled_part: the energy B alone.
        moves: the torsion moves of the molecule.
        moves_per_round: tried by each walker; each costs an energy.
        seed: of moves and exchanges.
        swaps_tried, swaps_accepted: `(rungs − 1,)`, between neighbouring rungs.
        moves_accepted: `(rungs,)`.
        rounds: rounds done.
    """

    walkers: Walkers
    scales: np.ndarray
    packed: list[Packed]
    scaled_part: Packed
    moves: TorsionMoves
    moves_per_round: int
    seed: int
    swaps_tried: np.ndarray
    swaps_accepted: np.ndarray
    moves_accepted: np.ndarray
    rounds: int = 0

    @classmethod
    def start(
        cls,
        system: System,
        p: Parameters,
        walkers: Walkers,
        scales: np.ndarray,
        moves_per_round: int,
        seed: int,
    ) -> "SoluteScaling":
        """Ladders of `walkers`, `len(scales)` for each replica, rung by rung."""
        moves = TorsionMoves.of_system(system, p.torsions)
        return cls(
            walkers=walkers,
            scales=scales,
            packed=[pack(scale_solute(p, moves, float(s)), np.float32) for s in scales],
            scaled_part=pack(scale_solute(p, moves, 1.0, stiff=0.0), np.float32),
            moves=moves,
            moves_per_round=moves_per_round,
            seed=seed,
            swaps_tried=np.zeros(len(scales) - 1, np.int64),
            swaps_accepted=np.zeros(len(scales) - 1, np.int64),
            moves_accepted=np.zeros(len(scales), np.int64),
        )

    @property
    def replicas(self) -> int:
        """Independent ladders."""
        return len(self.walkers.x) // len(self.scales)

    @property
    def target_positions(self) -> np.ndarray:
        """Positions of the walkers under the unscaled energy, `(replicas, atoms, 3)` nm."""
        return self.walkers.x[: self.replicas]

    def round(self, integrator: Integrator, steps: int, threads: int) -> np.ndarray:
        """`steps` of dynamics, the torsion moves of every walker, then one exchange between neighbours.

        Between steps the integrator's velocities lag half a kick behind the positions. Moves and exchanges
        leave the target density unchanged only for velocities that do not depend on the positions, so the
        velocities are brought level with the positions first; otherwise the walkers would heat up.

        Returns:
            Energies `(walkers,)` in kJ/mol after the exchange, each of its rung, without the torsions'
            constant.
        """
        b, u = np.empty(len(self.walkers.x)), np.empty(len(self.walkers.x))

        def run_rung(k: int) -> None:
            mine = self._rung(k)
            integrator.advance(mine, steps, self.packed[k], 1)
            self._try_moves(mine, self._kick(integrator, mine, k, 0.5), k)
            sweep_energies(mine.x, b[k * self.replicas : (k + 1) * self.replicas], self.scaled_part)

        each(run_rung, len(self.scales), threads)
        self.exchange(b)

        def kick_back(k: int) -> None:
            rows = slice(k * self.replicas, (k + 1) * self.replicas)
            u[rows] = self._kick(integrator, self._rung(k), k, -0.5)

        each(kick_back, len(self.scales), threads)
        return u

    def _rung(self, k: int) -> Walkers:
        """Views of the walkers of rung k."""
        rows, w = slice(k * self.replicas, (k + 1) * self.replicas), self.walkers
        return Walkers(w.x[rows], w.v[rows], w.random[rows], w.kt[rows])

    def _kick(self, integrator: Integrator, walkers: Walkers, k: int, part: float) -> np.ndarray:
        """Add this part of a step's kick at rung k to the velocities; returns energies `(n,)` in kJ/mol."""
        u, force = np.empty(len(walkers.x)), np.empty_like(walkers.x)
        sweep_forces(walkers.x, u, force, self.packed[k])
        walkers.v += (part * integrator.step / integrator.masses[:, None]).astype(force.dtype) * force
        return u

    def _try_moves(self, walkers: Walkers, u: np.ndarray, k: int) -> None:
        """Torsion moves by random angles, accepted by Metropolis at rung k; `u (n,)` is kJ/mol before them.

        Velocities are rotated with their atoms, so that no stiff bond is kicked.
        """
        n, random = len(walkers.x), np.random.default_rng([self.seed, 2, self.rounds, k])
        moves, proposed = self.moves, np.empty(n)
        for _ in range(self.moves_per_round if len(moves.axes) else 0):
            which = random.integers(0, len(moves.axes), n)
            angle = moves.draw_angles(which, random)
            rotations = moves.rotation_matrices(walkers.x, which, angle)
            y = moves.apply(walkers.x, which, rotations)
            sweep_energies(y, proposed, self.packed[k])
            accept = np.log(random.random(n)) < (u - proposed) / walkers.kt
            moved = accept[:, None] & moves.sides[which]
            walkers.v[moved] = np.einsum("nij,naj->nai", rotations, walkers.v)[moved]
            walkers.x[accept] = y[accept]
            u = np.where(accept, proposed, u)
            self.moves_accepted[k] += accept.sum()

    def exchange(self, b: np.ndarray) -> None:
        """Metropolis exchange of neighbouring rungs by B `(walkers,)` in kJ/mol."""
        ladders = b.reshape(len(self.scales), -1).T
        beta = self.scales / self.walkers.kt.astype(np.float64).reshape(len(self.scales), -1).T
        swaps = draw_swaps(ladders, beta, self.seed, self.rounds)
        self.rounds += 1
        self.swaps_tried[swaps.lower] += len(ladders)
        self.swaps_accepted[swaps.lower] += swaps.accepted.sum(0)
        rows = np.arange(len(ladders))[:, None] + swaps.order * len(ladders)
        self.walkers.reorder(rows.T.reshape(-1))

    def freeze(self) -> dict[str, np.ndarray]:
        """Walkers and counts, under the names that saved states have."""
        counts = {"tried": self.swaps_tried, "taken": self.swaps_accepted, "turned": self.moves_accepted}
        return {**self.walkers.freeze(), "rounds": np.array(self.rounds), **counts}

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        """Set walkers and counts to those of a frozen state."""
        self.walkers = Walkers.thaw(state)
        self.rounds = int(state["rounds"])
        self.swaps_tried, self.swaps_accepted = state["tried"].copy(), state["taken"].copy()
        self.moves_accepted = state["turned"].copy()
