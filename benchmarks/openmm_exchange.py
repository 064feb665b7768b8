"""OpenMM's dynamics with temperature exchange against our references: `python benchmarks/openmm_exchange.py`.

An independent check of the references, which bgbench's own engines made: energies, forces, integrator and
random numbers are OpenMM's, and the exchanges are the few lines below. Four independent ladders of four
temperatures for each peptide, 2 fs with hydrogens of 3 Da, an exchange every ps. Their means are compared
with the packaged reference's: the energy, and the fraction of frames in parts of the φ, ψ plane. Errors are
those of the means of independent ladders and replicas.

Finished ladders are kept in `--work`, so that a stopped run goes on. Writes the page beside it when all are
done; one thread takes about an hour.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import openmm
import torch

import bgbench

PAGE = Path(__file__).with_suffix(".md")
PEPTIDES = ("AA", "DG")
LADDERS, ROUNDS, WARM_UP = 4, 400, 50
"""Independent ladders; picoseconds of each, and how many of the first are left out."""

STEPS, STEP, FRICTION = 500, 0.002, 1.0
"""Of a round, in ps, in 1/ps."""

REGIONS = {
    "φ > 0": lambda phi, psi: phi > 0,
    "α (−120° < ψ < 30°, φ < 0)": lambda phi, psi: (phi < 0) & (psi > -2 * math.pi / 3) & (psi < math.pi / 6),
    "β (φ < −100°, ψ elsewhere)": lambda phi, psi: (
        (phi < -math.radians(100)) & ~((psi > -2 * math.pi / 3) & (psi < math.pi / 6))
    ),
}


class Ladder:
    """One ladder in one OpenMM context, whose state is exchanged for that of each temperature in turn."""

    def __init__(self, system: bgbench.System, seed: int) -> None:
        self.kts = [bgbench.kt(float(t)) for t in np.geomspace(system.temperature, 500.0, 4)]
        self.random = np.random.default_rng(seed)
        molecule = bgbench.openmm_system(system)
        for i, j in system.bonds:
            light, heavy = sorted((i, j), key=lambda k: molecule.getParticleMass(k)._value)
            mass = molecule.getParticleMass(light)._value
            if mass < 2:
                molecule.setParticleMass(light, 3.0)
                molecule.setParticleMass(heavy, molecule.getParticleMass(heavy)._value - 3.0 + mass)
        self.integrator = openmm.LangevinMiddleIntegrator(system.temperature, FRICTION, STEP)
        self.integrator.setRandomNumberSeed(seed + 1)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(molecule, self.integrator, platform, {"Threads": "1"})
        self.context.setPositions(system.positions.double().numpy())
        openmm.LocalEnergyMinimizer.minimize(self.context)
        start = self.context.getState(getPositions=True).getPositions(asNumpy=True)._value
        self.x = [start.copy() for _ in self.kts]
        self.v = [self._maxwell(kt) for kt in self.kts]

    def _maxwell(self, kt: float) -> np.ndarray:
        molecule = self.context.getSystem()
        masses = np.array([molecule.getParticleMass(k)._value for k in range(molecule.getNumParticles())])
        return self.random.standard_normal((len(masses), 3)) * np.sqrt(kt / masses)[:, None]

    def round(self, number: int) -> tuple[np.ndarray, float]:
        """A picosecond of every temperature and an exchange; positions and energy (kJ/mol) at the first."""
        energies = []
        for k, kt in enumerate(self.kts):
            self.integrator.setTemperature(kt / bgbench.kt(1.0))
            self.context.setPositions(self.x[k])
            self.context.setVelocities(self.v[k])
            self.integrator.step(STEPS)
            state = self.context.getState(getPositions=True, getVelocities=True, getEnergy=True)
            self.x[k] = state.getPositions(asNumpy=True)._value.copy()
            self.v[k] = state.getVelocities(asNumpy=True)._value.copy()
            energies.append(state.getPotentialEnergy()._value)
        for k in range(number % 2, len(self.kts) - 1, 2):
            gain = (1 / self.kts[k] - 1 / self.kts[k + 1]) * (energies[k] - energies[k + 1])
            if math.log(self.random.random()) < gain:
                self.x[k], self.x[k + 1] = self.x[k + 1], self.x[k]
                energies[k], energies[k + 1] = energies[k + 1], energies[k]
                # Maxwell's velocities anew leave the distribution of each temperature as it is.
                self.v[k], self.v[k + 1] = self._maxwell(self.kts[k]), self._maxwell(self.kts[k + 1])
        return self.x[0], energies[0]


def simulate(name: str, number: int, work: Path) -> dict[str, np.ndarray]:
    """Frames `x (rounds, atoms, 3)` and energies `u (rounds,)` in kT of one ladder, read if there."""
    path = work / f"{name}-{number}.npz"
    if not path.exists():
        system = bgbench.peptide(name)
        ladder = Ladder(system, 1000 * number + 17)
        x, u = [], []
        for k in range(ROUNDS):
            frame, energy = ladder.round(k)
            x.append(frame.astype(np.float32))
            u.append(energy / bgbench.kt(system.temperature))
        np.savez(path.with_suffix(".part.npz"), x=np.stack(x), u=np.array(u))
        path.with_suffix(".part.npz").rename(path)
        print(f"{path}: done", flush=True)
    with np.load(path) as stored:
        return {key: stored[key][WARM_UP:] for key in ("x", "u")}


def observables(system: bgbench.System, x: torch.Tensor, u: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per frame: the energy, and whether the inner φ, ψ are in each region."""
    angles = bgbench.torsions(system, x.double())
    phi, psi = angles.phi[:, 0], angles.psi[:, 0]
    inside = {name: region(phi, psi).double() for name, region in REGIONS.items()}
    return {"energy (kT)": u.double(), **inside}


def of_groups(values: torch.Tensor, groups: torch.Tensor) -> tuple[float, float]:
    """Mean over independent groups, and its standard error from theirs."""
    means = torch.stack([values[groups == k].mean() for k in groups.unique()])
    return float(means.mean()), float(means.std() / math.sqrt(len(means)))


def rows(name: str, work: Path) -> list[str]:
    """Table rows of a peptide."""
    system = bgbench.peptide(name)
    reference = bgbench.find_reference(system)
    runs = [simulate(name, number, work) for number in range(LADDERS)]
    x, u = (torch.from_numpy(np.concatenate([run[key] for run in runs])) for key in ("x", "u"))
    groups = torch.arange(LADDERS).repeat_interleave(ROUNDS - WARM_UP)
    ours = observables(system, reference.x, reference.u)
    lines = []
    for what, values in observables(system, x, u).items():
        mean, error = of_groups(values, groups)
        expected, its_error = of_groups(ours[what], reference.replica)
        z = (mean - expected) / math.hypot(error, its_error)
        lines.append(
            f"| {name} | {what} | {mean:.3f} ± {error:.3f} | {expected:.3f} ± {its_error:.3f} | {z:+.1f} |"
        )
    return lines


def main() -> None:
    """Simulate what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/unfinished/openmm-exchange"))
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    lines = [line for name in PEPTIDES for line in rows(name, work)]
    method = (
        f"`python benchmarks/openmm_exchange.py`, OpenMM {openmm.__version__}: {LADDERS} ladders of four "
        f"temperatures (to 500 K) for {ROUNDS} ps each, the first {WARM_UP} left out. Errors are standard "
        "errors over ladders and over the reference's replicas; z is the difference in both."
    )
    title = "# OpenMM's dynamics with exchanges against our references"
    header = ["| peptide | what | OpenMM | reference | z |", "|---|---|---|---|---|"]
    PAGE.write_text("\n".join([title, "", method, "", *header, *lines, ""]))


if __name__ == "__main__":
    main()
