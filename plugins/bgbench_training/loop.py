"""Lightning's trainer as every sampler uses it: checkpoints, resuming, devices, MLflow; the card."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader

import bgbench
import bgbench.data
from bgbench_training.curves import Curves
from bgbench_training.module import AbstractTraining, Net
from bgbench_training.recipe import AbstractRecipe


@contextmanager
def seeded(recipe: AbstractRecipe) -> Iterator[None]:
    """Fresh weights follow the recipe's seed; PyTorch's generator is left as it was."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(recipe.seed)
        yield


def fit(module: AbstractTraining[Any], recipe: AbstractRecipe, curves: Curves) -> None:
    """Train, or go on from the last checkpoint in `recipe.out`."""
    quieten()
    last = Path(recipe.out) / "last.ckpt"
    loader: Any = DataLoader(range(recipe.steps * recipe.accumulate), batch_size=1)  # type: ignore[arg-type]
    trainer(recipe, curves).fit(
        module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True
    )


def trainer(recipe: AbstractRecipe, curves: Curves) -> lightning.Trainer:
    """Lightning's trainer: one process a device; more than one makes it data-parallel."""
    bars = [TQDMProgressBar()] if sys.stderr.isatty() else []
    keep = ModelCheckpoint(
        Path(recipe.out), "last", every_n_train_steps=recipe.save_every, enable_version_counter=False
    )
    tracked = MLFlowLogger("bgbench-train", recipe.config, recipe.track) if recipe.track else False
    if isinstance(tracked, MLFlowLogger):
        tracked.log_hyperparams(asdict(recipe))
    device = bgbench.data.find_device(recipe.device)
    # Several devices are the first ones of their kind; a GPU that is named is that one.
    chosen = [device.index or 0] if device.type == "cuda" and recipe.devices == 1 else recipe.devices
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=chosen,
        precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
        strategy="ddp" if recipe.devices > 1 else "auto",
        # Every process makes its own batches, from its rank.
        use_distributed_sampler=False,
        max_steps=recipe.steps,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=1.0,
        callbacks=[keep, curves, *bars],
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
        logger=tracked,
    )


def quieten() -> None:
    """Lightning advertises and repeats PyTorch's notices at INFO."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in ("LeafSpec", "does not have many workers", "exists and is not empty", "You're resuming"):
        warnings.filterwarnings("ignore", message=f".*{message}")


@dataclass(frozen=True)
class TrainingData:
    """What a network was trained on: sequences, number of frames, the card of the weights it began from."""

    names: Sequence[str]
    n_frames: int
    before: Mapping[str, Any] = field(default_factory=dict)


def count_evaluations(recipe: AbstractRecipe) -> int:
    """Energy evaluations that the training files of local simulations and draws cost."""
    return sum(
        bgbench.data.evaluations_of(path) for folder in recipe.folders for path in folder.glob("*.npz")
    )


def card(recipe: AbstractRecipe, data: TrainingData, n_parameters: int, curves: Curves) -> dict[str, Any]:
    """What the weights were trained on and how; the training of the weights that it began from is added."""
    before = data.before
    return {
        "name": recipe.config,
        "training_sequences": sorted({*data.names, *before.get("training_sequences", ())}),
        "training_frames": data.n_frames,
        "training_evaluations": count_evaluations(recipe) + int(before.get("training_evaluations", 0)),
        "n_parameters": n_parameters,
        **{name: getattr(recipe, name) for name in ("steps", "batch", "lr", "optimizer", "start", "seed")},
        "first_loss": curves.curve[0][1] if curves.curve else None,
        "final_loss": curves.curve[-1][1] if curves.curve else None,
        "validation": curves.looks,
        "training_hours": curves.hours + float(before.get("training_hours", 0.0)),
        "before": {key: value for key, value in before.items() if key != "training_sequences"},
        "git": bgbench.data.provenance()["git"],
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }


def fit_and_save(
    module: AbstractTraining[Net],
    recipe: AbstractRecipe,
    curves: Curves,
    data: TrainingData,
    save: Callable[[Path, Net, Mapping[str, Any]], None],
) -> Path:
    """Train, or go on from the last checkpoint, and write the averaged weights.

    Args:
        module: in training.
        recipe: says how, and where.
        curves: the callback that looks at it.
        data: what it is trained on, for the card.
        save: writes a network and its card to a path; it is called by the first process alone.

    Returns:
        The path of the weights.
    """
    fit(module, recipe, curves)
    path = Path(recipe.out) / f"{recipe.config}.safetensors"
    if module.global_rank == 0:
        n_parameters = sum(parameter.numel() for parameter in module.network.parameters())
        save(path, module.averaged, card(recipe, data, n_parameters, curves))
    return path
