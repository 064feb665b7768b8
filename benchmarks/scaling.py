"""Loss against compute for several sizes of a sampler, from the folders they were trained in.

`python benchmarks/scaling.py NAME FOLDER…` keeps size, hours and loss curve of each in
`benchmarks/scaling/NAME.json` and draws `NAME.png`; without folders it draws again what is kept. The loss is
that of training: within one pass over the data every frame is new.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors import safe_open

KEPT = Path(__file__).parent / "scaling"
COST = 6.0
"""Floating-point operations a parameter and token of one training pass (forward 2, backward 4)."""


def read(folder: Path) -> dict[str, Any]:
    """Size and loss curve of a finished training run."""
    (weights,) = folder.glob("*.safetensors")
    with safe_open(weights, "pt") as stream:
        card = json.loads(stream.metadata()["card"])
    callbacks = torch.load(folder / "last.ckpt", weights_only=True)["callbacks"]
    (looks,) = [state for state in callbacks.values() if "looks" in state]
    curve = looks.get("curve") or looks["loss"]
    return {
        "name": card["name"],
        "parameters": card["n_parameters"],
        "hours": card["training_hours"],
        "batch": card["batch"],
        "frames": card["training_frames"],
        "curve": [[step * card["batch"], loss] for step, loss in curve],
    }


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Loss against 6 · parameters · frames, the compute of one atom."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    ax = figure.subplots()
    for run in runs:
        work = [COST * run["parameters"] * frames for frames, _ in run["curve"]]
        ax.plot(
            work, [loss for _, loss in run["curve"]], label=f"{run['name']}, {run['parameters'] / 1e6:.2f} M"
        )
    ax.set(xscale="log", xlabel="operations an atom, 6 · parameters · frames", ylabel="−log q a dimension")
    ax.legend(frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    name, *folders = sys.argv[1:]
    KEPT.mkdir(exist_ok=True)
    store = KEPT / f"{name}.json"
    if folders:
        runs = sorted((read(Path(folder)) for folder in folders), key=lambda run: run["parameters"])
        store.write_text(json.dumps(runs, indent=1))
    draw(json.loads(store.read_text()), KEPT / f"{name}.png")
