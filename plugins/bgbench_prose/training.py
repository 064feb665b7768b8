"""Maximum-likelihood training with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

import logging
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

import bgbench
from bgbench_prose.data import TrainingSet
from bgbench_prose.network import Config, Prose
from bgbench_prose.sampler import log_prior
from bgbench_prose.weights import save

MINI = Config(channels=64, n_blocks=8, n_layers=1, head_dim=32)
SIZES = {
    "prose-mini": MINI,
    "prose-mini-no-lookahead": replace(MINI, lookahead=False),
    "prose-mini-n2c": replace(
        MINI, orders=("n2c_residue-by-residue_standard", "n2c_residue-by-residue_standard_flip")
    ),
    "tarflow-mini": replace(MINI, conditioning="additive"),
    "tarflow-published": Config(conditioning="additive"),
    "prose-base": Config(channels=128, n_blocks=8, n_layers=4, head_dim=32),
    "prose-published": Config(),
}


@dataclass(frozen=True)
class Recipe:
    """How to train. The published recipe: 500,000 steps of 512 at 1e-4."""

    config: str = "prose-mini"
    data: str = "training"
    out: str = "prose-trained"
    steps: int = 5_000
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0
    save_every: int = 250

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> "Recipe":
        """Options as given on the command line.

        Raises:
            BgbenchError: for an unknown option, a value of the wrong kind, or an unknown size.
        """
        kinds = {name: type(value) for name, value in vars(cls()).items()}
        unknown = sorted(set(options) - set(kinds))
        if unknown:
            raise bgbench.BgbenchError(f"no training option {', '.join(unknown)}; known: {', '.join(kinds)}")
        try:
            recipe = replace(cls(), **{name: kinds[name](value) for name, value in options.items()})
        except ValueError as error:
            raise bgbench.BgbenchError(f"training option: {error}") from error
        if recipe.config not in SIZES:
            raise bgbench.BgbenchError(f"unknown size '{recipe.config}'; known: {', '.join(SIZES)}")
        return recipe


class Training(lightning.LightningModule):
    """The flow, its moving average, and the likelihood per dimension."""

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        self.flow = Prose(SIZES[recipe.config])
        self.average = AveragedModel(self.flow, multi_avg_fn=get_ema_multi_avg_fn(0.999))

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Batches are made from the step's number, so a resumed run sees what it would have seen."""
        del batch, index
        x, t = self.data.batch(self.global_step, self.recipe.batch)
        z, log_det = self.flow(x, t)
        present = t.mask.sum(1).repeat_interleave(len(x) // len(t.mask))
        # Padding holds z = 0: its prior constant is taken back.
        padding = 3 * (x.shape[1] - present)
        log_q = log_prior(z, 1.0) + 0.5 * padding * torch.log(torch.tensor(2 * torch.pi)) + log_det
        loss = -(log_q / (3 * present)).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW and a one-cycle cosine with 5 % warm-up from lr/500."""
        r = self.recipe
        adam = torch.optim.AdamW(self.flow.parameters(), lr=r.lr, betas=(0.9, 0.95), weight_decay=4e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, r.lr, total_steps=r.steps + 1, pct_start=0.05, div_factor=500.0
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class Losses(lightning.Callback):
    """Moves the average along, keeps the loss curve, prints a line every `every` steps where no bar is shown.

    A callback, not a hook of the module: those run after the checkpoint is written.
    """

    def __init__(self, every: int) -> None:
        self.every, self.started = every, time.perf_counter()
        self.curve: list[tuple[int, float]] = []
        self._sum, self._steps = 0.0, 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Average the weights, add up the loss; every so often, write down its mean."""
        del batch, index
        module.average.update_parameters(module.flow)
        self._sum += float(outputs["loss"])
        step = trainer.global_step
        if step % self.every == 0:
            self.curve.append((step, self._sum / self.every))
            if not sys.stderr.isatty():
                self._steps += self.every
                rate = self._steps / (time.perf_counter() - self.started)
                sys.stderr.write(f"step {step}: loss {self._sum / self.every:.4f}, {rate:.2f} steps/s\n")
            self._sum = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        return {"curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve."""
        self.curve = list(state_dict["curve"])


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the packaged weights' path."""
    recipe = Recipe.from_options(options)
    folder = Path(recipe.out)
    data = TrainingSet(Path(recipe.data), SIZES[recipe.config], recipe.seed)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(recipe.seed)
        module = Training(recipe, data)
    losses = Losses(50)
    bars = [TQDMProgressBar()] if sys.stderr.isatty() else []
    keep = ModelCheckpoint(
        folder, "last", every_n_train_steps=recipe.save_every, enable_version_counter=False
    )
    quieten()
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=recipe.steps,
        gradient_clip_val=1.0,
        callbacks=[keep, losses, *bars],
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
        logger=False,
    )
    last = folder / "last.ckpt"
    loader: Any = DataLoader(range(recipe.steps), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    path = folder / f"{recipe.config}.safetensors"
    averaged = module.average.module
    if not isinstance(averaged, Prose):
        raise TypeError(type(averaged))
    save(path, averaged, card(recipe, data, averaged, losses))
    return path


def quieten() -> None:
    """Lightning advertises and repeats PyTorch's notices at INFO."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in ("LeafSpec", "does not have many workers", "exists and is not empty", "You're resuming"):
        warnings.filterwarnings("ignore", message=f".*{message}")


def card(recipe: Recipe, data: TrainingSet, flow: Prose, losses: Losses) -> dict[str, Any]:
    """What the weights were trained on and how."""
    return {
        "name": recipe.config,
        "training_sequences": [peptide.name for peptide in data.peptides],
        "training_frames": sum(len(peptide.x) for peptide in data.peptides),
        "n_parameters": flow.n_parameters(),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "lr": recipe.lr,
        "seed": recipe.seed,
        "first_loss": losses.curve[0][1] if losses.curve else None,
        "final_loss": losses.curve[-1][1] if losses.curve else None,
        "training_hours": (time.perf_counter() - losses.started) / 3600,
        "git": bgbench.provenance()["git"],
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }
