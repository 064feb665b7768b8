"""Langevin dynamics, exchanges and torsion moves of many walkers in torch, on any device.

The integrator is the one of `langevin` (LangevinMiddle: kick, half drift, Ornstein–Uhlenbeck, half drift);
exchanges and moves are those of `tempering` and `solute_scaling`. Here all walkers of a molecule are one
batch of tensors that stay on the device. On a GPU the ladders of each molecule have a stream of their own, so
that several molecules compute at the same time, and one step is recorded as a CUDA graph: otherwise most of
the time would go into launching some two hundred small kernels a step.

Random numbers come from a generator of PyTorch on the device of the walkers where PyTorch has generators
there, which is on GPUs, and from one of the CPU otherwise, whose numbers are then moved. A seed gives the
same numbers on every GPU, and others on a CPU. On a CPU it gives the same trajectory, and a saved state goes
on as if nothing had happened. On a GPU that holds where the energy adds its terms in one order. An energy
that adds them in any order (`index_add_`) differs in the last digit, and some picoseconds later in everything
but the averages.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator
from bgbench.dynamics.solute_scaling import FLIP_WIDTH, TorsionMoves, scale_solute
from bgbench.energies.eager import EagerEngine
from bgbench.energies.parameters import Parameters
from bgbench.energies.triton_engine import TritonEngine, try_triton

WARM_STEPS = 3
"""Steps that a GPU takes before one is recorded: what is compiled or set up at first use is done by then."""


DeviceEnergy: TypeAlias = EagerEngine | TritonEngine
"""What gives energies `(n,)` and forces in kJ/mol and nm of conformers `x (n, atoms, 3)`, where x lies."""


def build_energy(p: Parameters, device: torch.device) -> DeviceEnergy:
    """The energy of these parameters for walkers of a device: Triton's on a GPU where it works, else eager.

    Both make their tables at the first call and keep them: none is made while a step is recorded.
    """
    if device.type == "cuda":
        found = try_triton(p, torch.zeros(1, p.n_atoms, 3, device=device))
        if not isinstance(found, str):
            return found
    return EagerEngine(p)


def make_generator(device: torch.device, *seed: int) -> torch.Generator:
    """A generator of the device, of the CPU where PyTorch has none of the device; of several numbers."""
    place = device if device.type == "cuda" else torch.device("cpu")
    entropy = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return torch.Generator(place).manual_seed(entropy >> 1)


@dataclass(frozen=True, eq=False)
class Rungs:
    """What the walkers of a ladder follow, rung by rung.

    Args:
        kt: `(rungs,)` kJ/mol, of the dynamics.
        energies: of each rung; one alone is of all rungs.
        exchanged: the energy whose differences decide about exchanges; None: the one of the rungs.
        coldness: `(rungs,)` mol/kJ. Neighbours exchange with the probability
            min(1, exp((coldness_k − coldness_k+1)(e_k − e_k+1))).
    """

    kt: np.ndarray
    energies: Sequence[DeviceEnergy]
    exchanged: DeviceEnergy | None
    coldness: np.ndarray

    @classmethod
    def by_temperature(cls, p: Parameters, temperatures: np.ndarray, device: torch.device) -> "Rungs":
        """Parallel tempering: one energy, `temperatures (rungs,)` in K."""
        kts = np.array([kt(float(t)) for t in temperatures])
        return cls(kts, [build_energy(p, device)], None, 1.0 / kts)

    @classmethod
    def by_scale(
        cls, p: Parameters, moves: TorsionMoves, scales: np.ndarray, temperature: float, device: torch.device
    ) -> "Rungs":
        """Solute scaling: one temperature in K, `scales (rungs,)` of the scaled part of the energy."""
        kts = np.full(len(scales), kt(temperature))
        energies = [build_energy(scale_solute(p, moves, float(s)), device) for s in scales]
        scaled_part = build_energy(scale_solute(p, moves, 1.0, stiff=0.0), device)
        return cls(kts, energies, scaled_part, np.asarray(scales) / kts)


class DeviceLadders:
    """Independent ladders of walkers of one molecule; walker k·replicas + r is replica r at rung k.

    Args:
        starts: `(replicas, atoms, 3)` nm; each rung of a replica starts there.
        rungs: what the walkers follow, on `device`.
        integrator: its step, friction and masses.
        device: where the walkers are.
        seed: numbers from which velocities, noise, moves and exchanges are drawn.
        moves: torsion moves of the molecule; None: none are tried.
        moves_per_round: tried by each walker and round.
        capture: on a GPU, whether a step is recorded once and then replayed.
    """

    def __init__(
        self,
        starts: np.ndarray,
        rungs: Rungs,
        integrator: Integrator,
        device: torch.device,
        seed: Sequence[int],
        moves: TorsionMoves | None = None,
        moves_per_round: int = 0,
        capture: bool = True,
    ) -> None:
        self.replicas, self.moves_per_round, self.rounds = len(starts), moves_per_round, 0
        self._rungs, self._device, self._generator = rungs, device, make_generator(device, *seed)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._captures, self._n_warm = capture and self._stream is not None, 0
        self._graph: Any = None
        n = len(rungs.kt)
        self.swaps_tried = np.zeros(n - 1, np.int64)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))
        with self._on_stream():
            put = self._put
            self._x = put(np.tile(starts, (n, 1, 1)).astype(np.float32))
            self._kt = put(np.repeat(rungs.kt, self.replicas))
            sigma = put(
                np.sqrt(np.repeat(rungs.kt, self.replicas)[:, None, None] / integrator.masses[:, None])
            )
            self._v = (sigma * self._normal(self._x.shape)).float()
            decay = math.exp(-integrator.friction * integrator.step)
            self._step_size, self._decay = integrator.step, decay
            self._gain = put((integrator.step / integrator.masses)[:, None].astype(np.float32))
            self._kick_of_noise = (math.sqrt(1.0 - decay**2) * sigma).float()
            self._taken = put(np.zeros(n - 1, np.int64))
            self._turned = put(np.zeros(n, np.int64))
            self._rows = put(np.arange(len(self._x)))
            if moves is not None and len(moves.axes) and moves_per_round:
                self._axes, self._sides, self._flips = put(moves.axes), put(moves.sides), put(moves.flips)
            else:
                self.moves_per_round = 0
            # Between steps velocities lag half a kick behind; Maxwell's are level with the positions.
            self._kick(-0.5)

    @property
    def target_positions(self) -> np.ndarray:
        """Positions of the walkers at the first rung, `(replicas, atoms, 3)` nm, copied to the CPU."""
        return self._copy(self._x[: self.replicas])

    @property
    def swaps_accepted(self) -> np.ndarray:
        """`(rungs − 1,)`, between neighbouring rungs."""
        return self._copy(self._taken)

    @property
    def moves_accepted(self) -> np.ndarray:
        """`(rungs,)`."""
        return self._copy(self._turned)

    def round(self, steps: int) -> Tensor:
        """`steps` of dynamics, the torsion moves of every walker, then one exchange between neighbours.

        As in `solute_scaling`, velocities are brought level with the positions before moves and exchanges,
        and half a kick back after them. A ladder of one rung without moves has neither.

        Returns:
            Energies `(walkers,)` in kJ/mol after the exchange, each of its rung, on the device.
        """
        with self._on_stream():
            self._advance(steps)
            self.rounds += 1
            if len(self._rungs.kt) == 1 and not self.moves_per_round:
                return self._energy(self._x)
            u = self._try_moves(self._kick(0.5))
            self._exchange(u if self._rungs.exchanged is None else self._rungs.exchanged.energy(self._x))
            return self._kick(-0.5)

    def advance(self, steps: int) -> None:
        """`steps` of dynamics of every walker, without moves and exchanges."""
        with self._on_stream():
            self._advance(steps)

    def freeze(self) -> dict[str, np.ndarray]:
        """Everything needed to go on, as arrays of the CPU."""
        return {
            "x": self._copy(self._x),
            "v": self._copy(self._v),
            "random": self._generator.get_state().numpy(),
            "rounds": np.array(self.rounds),
            "tried": self.swaps_tried.copy(),
            "taken": self.swaps_accepted,
            "turned": self.moves_accepted,
        }

    def thaw(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a frozen state of a device of the same kind."""
        with self._on_stream():
            targets = {"x": self._x, "v": self._v, "taken": self._taken, "turned": self._turned}
            for name, tensor in targets.items():
                tensor.copy_(self._put(state[name]))
        self._generator.set_state(torch.from_numpy(state["random"].copy()))
        self.rounds, self.swaps_tried = int(state["rounds"]), state["tried"].copy()

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def _copy(self, tensor: Tensor) -> np.ndarray:
        with self._on_stream():
            return tensor.to("cpu", copy=True).numpy()

    def _normal(self, shape: Sequence[int]) -> Tensor:
        g = self._generator
        return torch.randn(tuple(shape), generator=g, device=g.device).to(self._device)

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        g = self._generator
        return torch.rand(tuple(shape), generator=g, device=g.device, dtype=torch.float64).to(self._device)

    def _energy(self, x: Tensor) -> Tensor:
        return torch.cat([energy.energy(part) for energy, part in self._by_rung(x)])

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [energy.energy_and_force(part) for energy, part in self._by_rung(x)]
        return (
            parts[0]
            if len(parts) == 1
            else (torch.cat([u for u, _ in parts]), torch.cat([f for _, f in parts]))
        )

    def _by_rung(self, x: Tensor) -> list[tuple[DeviceEnergy, Tensor]]:
        energies = self._rungs.energies
        return (
            [(energies[0], x)]
            if len(energies) == 1
            else list(zip(energies, x.split(self.replicas), strict=True))
        )

    def _advance(self, steps: int) -> None:
        """Every tensor of the state is changed in place: a recorded step reads and writes the same memory."""
        if not self._captures:
            for _ in range(steps):
                self._step()
            return
        n_warm = min(steps, WARM_STEPS - self._n_warm)
        for _ in range(n_warm):
            self._step()
        self._n_warm += n_warm
        if self._graph is None and steps > n_warm:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self._generator)
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._step()
        for _ in range(steps - n_warm):
            self._graph.replay()

    def _step(self) -> None:
        _, force = self._energy_and_force(self._x)
        self._v.add_(self._gain * force)
        after = self._decay * self._v + self._kick_of_noise * self._normal(self._v.shape)
        self._x.add_(0.5 * self._step_size * (self._v + after))
        self._v.copy_(after)

    def _kick(self, part: float) -> Tensor:
        """Add this part of a step's kick to the velocities; returns energies `(walkers,)` in kJ/mol."""
        u, force = self._energy_and_force(self._x)
        self._v.add_(part * self._gain * force)
        return u

    def _try_moves(self, u: Tensor) -> Tensor:
        """Torsion moves by random angles, accepted by Metropolis; `u (walkers,)` is kJ/mol before them.

        Velocities are rotated with their atoms, so that no stiff bond is kicked.
        """
        n = len(self._x)
        for _ in range(self.moves_per_round):
            which = (self._uniform((n,)) * len(self._axes)).long()
            angle = self._draw_angles(which)
            side = self._sides[which][..., None]
            i, j = self._axes[which].unbind(1)
            origin = self._x[self._rows, j][:, None]
            axis = origin - self._x[self._rows, i][:, None]
            turn = _rotation(axis / axis.norm(dim=-1, keepdim=True), angle)
            y = torch.where(side, origin + turn(self._x - origin), self._x)
            proposed = self._energy(y)
            accepted = torch.log(self._uniform((n,))) < (u - proposed) / self._kt
            moved = accepted[:, None, None]
            self._v.copy_(torch.where(moved & side, turn(self._v), self._v))
            self._x.copy_(torch.where(moved, y, self._x))
            u = torch.where(accepted, proposed, u)
            self._turned.add_(accepted.view(-1, self.replicas).sum(1))
        return u

    def _draw_angles(self, which: Tensor) -> Tensor:
        """Random angles `(walkers,)` in rad, float32: any, or about half a turn for flips."""
        any_angle = 2 * math.pi * self._uniform(which.shape) - math.pi
        half_turn = math.pi + FLIP_WIDTH * self._normal(which.shape)
        return torch.where(self._flips[which], half_turn.double(), any_angle).float()

    def _exchange(self, e: Tensor) -> None:
        """Metropolis exchange of neighbouring rungs by energies `e (walkers,)` kJ/mol, as `draw_swaps`."""
        ladders, coldness = e.view(-1, self.replicas), self._rungs.coldness
        order = self._rows.view(-1, self.replicas).clone()
        for k in range((self.rounds - 1) % 2, len(coldness) - 1, 2):
            gain = float(coldness[k] - coldness[k + 1]) * (ladders[k] - ladders[k + 1])
            accepted = torch.log(self._uniform((self.replicas,))) < gain
            low, high = order[k].clone(), order[k + 1].clone()
            order[k].copy_(torch.where(accepted, high, low))
            order[k + 1].copy_(torch.where(accepted, low, high))
            self._taken[k].add_(accepted.sum())
            self.swaps_tried[k] += self.replicas
        rows = order.view(-1)
        speed = (self._kt / self._kt[rows]).sqrt().float()[:, None, None]
        self._v.copy_(self._v[rows] * speed)
        self._x.copy_(self._x[rows])


def _rotation(axis: Tensor, angle: Tensor) -> Callable[[Tensor], Tensor]:
    """Rotate vectors `(n, atoms, 3)` about unit vectors `axis (n, 1, 3)` by `angle (n,)` rad.

    Written out by Rodrigues' formula: a matrix product may be rounded to TF32, which no bond would survive.
    """
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]

    def turn(v: Tensor) -> Tensor:
        along = axis * (v * axis).sum(-1, keepdim=True)
        return along + cosine * (v - along) + sine * torch.linalg.cross(axis.expand_as(v), v)

    return turn
