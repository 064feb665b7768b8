"""Of each law: its topic, why it matters, and what to change where it does not hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """What to say beside a law that does not hold.

    Attributes:
        topic: what the law is about, in one or two words.
        why: what goes wrong in a run of a plugin that breaks it.
        change: what to change.
    """

    topic: str
    why: str
    change: str


_GLOBALS = Advice(
    "global state",
    "cells share a process: what one leaves behind changes the numbers of the next",
    "draw from task.generator (case.generator in metrics), report with task.progress, change copies of "
    "tensors",
)
_OPTIONS = Advice(
    "options",
    "a misspelt --set would run the benchmark with the default, in silence",
    "build with bgbench.parse_options, which refuses unknown names and values",
)
_DESCRIBED = Advice(
    "options",
    "`bgbench options NAME` is where people look for what they can set",
    "write a docstring below every field of the dataclass of options",
)
_SEEDS = Advice(
    "generator",
    "seeds are the repetitions of the benchmark, and a resumed run must give the numbers of an unbroken one",
    "take every random number from the generator that is handed in (task.normal, task.uniform)",
)
_EXISTS = Advice(
    "names",
    "a run that names what is not there is refused before its first cell",
    "correct the name in the file, or let the package depend on the distribution that registers it",
)
_DEVICE = Advice(
    "device",
    "on a GPU the run ends with an error, or its numbers are not those of the CPU",
    "move weights to task.device once, draw noise with task.normal, make tensors with device=x.device",
)
_DENSITY = Advice(
    "normalisation",
    "weights are e^(−u)/q: with another q than that of the draws every reweighted number is wrong",
    "compute log_q as the exact density of what draw returns, over all coordinates in nm: Jacobians, "
    "constants, and the centre of mass as the conventions say (see AbstractDensitySampler.measure)",
)
_AGREE = Advice(
    "density",
    "the same conformer would get two weights",
    "let draw call log_prob, and do not drop terms in one of them",
)

ADVICE = {
    "test_returns_what_was_asked_within_the_budget": Advice(
        "shapes",
        "a cell fails with another number of conformers, another dtype or atoms in another shape",
        "return bgbench.Proposal(x) with x a float32 or float64 tensor (n_samples, atoms, 3) in nm",
    ),
    "test_declares_itself": Advice(
        "card",
        "records, tables and the check for leakage read what a sampler was trained on from its card",
        "set card = bgbench.Card('NAME', …) on the class, or as a property",
    ),
    "test_is_reproducible_and_follows_its_generator": _SEEDS,
    "test_is_reproducible": _SEEDS,
    "test_leaves_globals_alone": _GLOBALS,
    "test_meters_every_energy": Advice(
        "budget",
        "the comparison is one at equal energy evaluations, and such a cell ends with an error",
        "ask task.oracle, not bgbench.energy; charge an engine of your own with task.oracle.charge(n)",
    ),
    "test_positions_are_in_nanometres": Advice(
        "units",
        "everything is computed in nm; samples in Å have broken bonds and u = 1e6 kT",
        "divide positions in Å by 10 before they are returned",
    ),
    "test_conformers_have_the_chirality_of_the_system": Advice(
        "chirality",
        "mirror images are D-peptides, which the protocol gives no weight",
        "turn conformers over (−x), or check the sign of dihedrals in a reconstruction",
    ),
    "test_energies_are_those_of_the_samples": Advice(
        "energies",
        "energies that come with the samples are not computed again, and weights rest on them",
        "return u in kT, of the same frames in the same order; or leave it out",
    ),
    "test_samples_or_refuses_every_residue": Advice(
        "residues",
        "suites hold all twenty residues; a cell that fails is a failure in the table, a refusal is not",
        "support every residue, or raise bgbench.Unsupported with the reason in check_supports",
    ),
    "test_samples_or_refuses_systems_without_atoms": Advice(
        "analytic systems",
        "systems with known answers are one particle without elements, and suites may hold them",
        "raise bgbench.Unsupported in check_supports where `not system.atoms`",
    ),
    "test_works_on_two_systems_in_turn": Advice(
        "state",
        "one process runs many systems in any order, and the order must not show in the numbers",
        "keep nothing of a system on the sampler; return a fitted copy from prepare",
    ),
    "test_refuses_systems_with_a_reason_or_not_at_all": Advice(
        "refusals",
        "a value that check_supports returns would go unnoticed",
        "raise bgbench.Unsupported with a reason, or return nothing",
    ),
    "test_computes_on_any_device": _DEVICE,
    "test_density_is_the_same_on_any_device": _DEVICE,
    "test_draw_and_log_prob_agree": _AGREE,
    "test_gradient_is_that_of_the_density": Advice(
        "gradient",
        "annealing and Langevin moves follow it, and go astray",
        "compute log_prob in differentiable operations of x, without detach or in-place changes",
    ),
    "test_density_passes_the_audit": _DENSITY,
    "test_chunks_are_one_sequence": Advice(
        "shapes",
        "draws come in batches, each with its densities",
        "return from draw as many conformers as it is asked for, with log_q (n,)",
    ),
    "test_refuses_an_unknown_option": _OPTIONS,
    "test_describes_its_options": _DESCRIBED,
    "test_returns_a_weighted_ensemble_within_the_budget": Advice(
        "shapes",
        "metrics judge the points by their weights; without finite ones there is nothing to judge",
        "return bgbench.Estimate(bgbench.Ensemble(x, u, log_w), proposal); impossible points get -inf",
    ),
    "test_energies_are_those_of_the_points": Advice(
        "energies",
        "energy distances and free energies are computed from them",
        "reorder and cut u together with x",
    ),
    "test_weights_are_of_the_kind_it_declares": Advice(
        "weights",
        "the leaderboard recomputes weights that are declared equal or importance weights",
        "declare weights='other', or let log w be −u − log q",
    ),
    "test_gives_finite_numbers_under_its_own_name": Advice(
        "shapes",
        "tables look a score up by the metric's name, and records hold finite numbers only",
        "return {NAME: float}; an empty dict for a system that has nothing to compute it of",
    ),
    "test_ranks_exact_samples_before_noisy_ones": Advice(
        "direction",
        "ranks and skills follow `better`",
        "set better='lower' or 'higher'; an empty one for a number that ranks nobody",
    ),
    "test_energies_are_finite_and_one_a_conformer": Advice(
        "shapes",
        "every conformer has one energy, in kT at the system's temperature",
        "return a tensor (n,) from _energy",
    ),
    "test_rows_are_independent": Advice(
        "independence",
        "conformers are evaluated in batches of any size",
        "sum over atoms, never over conformers",
    ),
    "test_forces_are_the_gradient": Advice(
        "gradient",
        "dynamics and annealing follow forces",
        "return −∂u/∂x in kT/nm from _energy_and_force, of the same u as _energy",
    ),
    "test_names_what_exists": _EXISTS,
}
"""By the name of the law."""

BUILDS = Advice(
    "build",
    "nothing runs with a plugin that cannot be built without options",
    "give every option a default; read weights from the package, and name the file in the error",
)
"""Where the plugin cannot be built."""

WORKERS = Advice(
    "workers",
    "cells run in worker processes, which build the plugin again from its name and its options",
    "keep everything that the draws depend on in the options and in files of the package, nothing in the "
    "process that registered it",
)
"""Of a plugin that a fresh process builds otherwise."""

SUPPORTS = Advice(
    "refusals",
    "a sampler that refuses everything that it is tried on has not been checked",
    "support peptides or the systems without atoms in check_supports",
)
"""Of a sampler that refuses all systems of a check."""
