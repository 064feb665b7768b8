"""How Verse does on peptides nobody trained on, by length and by how much of them it met in training.

`python benchmarks/links.py` draws 1,024 conformers each of random peptides that are in no training,
validation or test list, and writes `benchmarks/results/verse-links.md`. A link is two neighbours and their
places in the chain (first, inner, last): what a network must know to make the bond between them.
"""

import math
import random
from pathlib import Path
from statistics import median

import torch

import bgbench
from bgbench.references.training import held_out, links
from bgbench_training.values import ess_fraction
from bgbench_verse.molecule import batch_molecules, build_molecule
from bgbench_verse.sampling import sample_conformers
from bgbench_verse.weights import TrainedVerse, load

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "verse-links.md"
WEIGHTS = ROOT / "datasets" / "weights" / "verse-mini.safetensors"
DRAWS, PEPTIDES, RESIDUES = 1024, {2: 0, 3: 24, 4: 48}, "ACDEFGHIKLMNPQRSTVWY"
BROKEN = 1_000.0
"""kT over the best draw: no temperature mends what lies above."""


def unseen(trained: TrainedVerse) -> dict[int, list[str]]:
    """Peptides by length, none of them in any list."""
    known = held_out("validation", "test") | set(trained.card["training_sequences"])
    generator, chosen = random.Random(0), dict[int, list[str]]()
    for length, count in PEPTIDES.items():
        chosen[length] = []
        while len(chosen[length]) < count:
            sequence = "".join(generator.choices(RESIDUES, k=length))
            if sequence not in known:
                chosen[length].append(sequence)
    return chosen


def fractions(trained: TrainedVerse, sequence: str) -> dict[str, float]:
    """ESS of all draws and without the top 0.2 %, and the fraction that is broken."""
    system = bgbench.peptide(sequence)
    molecule = build_molecule(system.atoms, system.bonds, trained.vocabulary, trained.table)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x, log_q = sample_conformers(trained.net, batch_molecules([molecule]), DRAWS, generator)
    u = bgbench.energy(system, "batched").energy(x[:, molecule.zmatrix.step_of_atom].double())
    log_w = -u - log_q.double()
    log_w_cut = log_w.sort().values[: DRAWS - math.ceil(0.002 * DRAWS)]
    return {
        "ess": ess_fraction(log_w),
        "cut": ess_fraction(log_w_cut),
        "broken": float((u > u.min() + BROKEN).double().mean()),
    }


def table(rows: list[dict[str, float]]) -> str:
    """A line for each length and number of links met."""
    counts = ("residues", "links never met", "peptides")
    heads = (*counts, "ESS, median (mean)", "cut ESS, median", "broken, median (worst)")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|"]
    for key in sorted({(row["length"], row["missing"]) for row in rows}):
        group = [row for row in rows if (row["length"], row["missing"]) == key]
        ess, cut, broken = ([row[name] for row in group] for name in ("ess", "cut", "broken"))
        lines.append(
            f"| {key[0]:.0f} | {key[1]:.0f} | {len(group)} | {median(ess):.3f} ({sum(ess) / len(ess):.3f}) | "
            f"{median(cut):.3f} | {median(broken):.1%} ({max(broken):.0%}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Draw, group, write."""
    trained = load(WEIGHTS)
    met = set().union(*(links(sequence) for sequence in trained.card["training_sequences"]))
    rows = []
    for length, sequences in unseen(trained).items():
        for sequence in sequences:
            rows.append(
                {
                    "length": length,
                    "missing": len(links(sequence) - met),
                    **fractions(trained, sequence),
                }
            )
            print(sequence, rows[-1], flush=True)
    text = f"# Verse on {len(rows)} peptides of no list\n\n    python benchmarks/links.py\n\n"
    text += f"Weights `{trained.sha256[:12]}…`, {DRAWS:,} draws each, all weights. {table.__doc__}\n\n"
    KEPT.write_text(text + table(rows) + "\n")


if __name__ == "__main__":
    main()
