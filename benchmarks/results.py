"""Write the README's results table from the records kept in `benchmarks/results/*.json`.

Those files are the output of `bgbench show RUN --json`.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
START, END = "<!-- results: python benchmarks/results.py -->", "<!-- /results -->"
METRICS = ("ess", "energy_w2", "torus_w2", "tica_w2", "validity")


def table(folder: Path) -> str:
    """The markdown table of every stored run."""
    heads = [
        "sampler",
        "system",
        "grade",
        "ess ↑",
        "energy_w2 (kT) ↓",
        "torus_w2 (rad) ↓",
        "tica_w2 ↓",
        "validity ↑",
    ]
    lines = ["| " + " | ".join([*heads, "used"]) + " |", "|" + "---|" * (len(heads) + 1)]
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        for cell in run["cells"]:
            row = [run["run"]["sampler"], cell["system"], cell["reference"].get("grade", "–")]
            row += [value(cell, name) for name in METRICS] + [f"{cell['budget']['used']:,}"]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def value(cell: dict, name: str) -> str:
    """A metric with its floor."""
    if cell["status"] != "ok":
        return cell["status"]
    found, floor = cell["metrics"].get(name), cell["floors"].get(name)
    text = "–" if found is None else f"{found:.3g}"
    return text if floor is None else f"{text} [{floor:.2g}]"


def rewritten(readme: str, folder: Path) -> str:
    """The README with a fresh table."""
    before, _, rest = readme.partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{table(folder)}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(), ROOT / "benchmarks" / "results"))
