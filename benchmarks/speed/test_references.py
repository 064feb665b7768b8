"""Effective samples a CPU second of the two engines that make references, on a validation peptide.

The reference is parallel tempering as the first references were made (six temperatures to 700 K), with the
same hydrogens and step. Both start from their own anneals; 20 ps are thrown away, 96 ps kept. Effective
samples are those of sin and cos of φ, ψ and χ₁, the fewest and the median; of the fewest one run tells
little.
"""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bgbench import peptide
from bgbench.core.plugins import plugins
from bgbench.core.simulation import SimulationSettings
from bgbench.dynamics.engines import SOLUTE_SCALING
from bgbench.references.diagnostics import effective_samples, split_chains, split_rhat
from bgbench.systems.features import chi1_atoms, dihedral, torsions

SETTINGS = {
    "batched": SimulationSettings(step=2.0, hydrogen_mass=3.0, warm_up=50),
    "softened": SOLUTE_SCALING,
}
FRAMES, APART_FS = 240, 400


def slow_angles(system, x):
    """φ, ψ and χ₁ of N, F and L, `(n, 9)` rad."""
    backbone = torsions(system, x)
    return torch.cat([backbone.phi, backbone.psi, dihedral(x, chi1_atoms(system))], dim=1)


@pytest.mark.parametrize("sequence", ["GNFL"])
def test_effective_samples_a_second(sequence):
    system, rates = peptide(sequence), {}
    for name, settings in SETTINGS.items():
        engine = plugins().engines[name].engine(system, replace(settings, seed=1))
        engine.advance(settings.warm_up)
        started, rows = time.process_time(), []
        for _ in range(FRAMES):
            engine.advance(round(APART_FS / settings.step / settings.round_steps))
            rows.append(engine.copy_target_positions())
        seconds = time.process_time() - started
        angles = slow_angles(system, torch.from_numpy(np.concatenate(rows)).double())
        chains = split_chains(torch.cat([angles.sin(), angles.cos()], 1), torch.arange(16).repeat(FRAMES))
        samples, rhat = effective_samples(chains).sort().values.tolist(), split_rhat(chains)
        rates[name] = samples[len(samples) // 2] / seconds
        print(
            f"\n{sequence}, {name}: {seconds:.0f} s, R̂ at most {float(rhat.max()):.2f}, effective "
            f"samples {samples[0]:.0f} at least, {samples[len(samples) // 2]:.0f} median; "
            f"{rates[name]:.2f} a second"
        )
    ratio = rates["softened"] / rates["batched"]
    print(f"{sequence}: {ratio:.1f} × the effective samples a second")
    assert ratio > 3
