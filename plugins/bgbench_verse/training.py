"""Maximum-likelihood training of Verse with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

import bgbench
from bgbench_verse.data import TrainingSet
from bgbench_verse.density import log_density
from bgbench_verse.network import Verse
from bgbench_verse.recipe import Recipe
from bgbench_verse.validation import Validation
from bgbench_verse.weights import Trained, save


class Training(lightning.LightningModule):
    """The network, its moving average, and −log q per degree of freedom."""

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        self.net = Verse(recipe.network(len(data.vocabulary)))
        self.average = AveragedModel(self.net, multi_avg_fn=averaging)
        self.average.requires_grad_(False)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Batches are made from the step's number, so a resumed run sees what it would have seen."""
        del batch, index
        x, m = self.data.batch(self.global_step, self.recipe.batch)
        present = m.mask.sum(1).repeat_interleave(len(x) // len(m.mask))
        loss = -(log_density(self.net, x, m) / (3 * present - 6)).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    @property
    def averaged(self) -> Verse:
        """The network with the moving average of the weights."""
        net = self.average.module
        if not isinstance(net, Verse):
            raise TypeError(type(net))
        return net

    def configure_optimizers(self) -> Any:
        """AdamW and a one-cycle cosine with 5 % warm-up."""
        r = self.recipe
        adam = torch.optim.AdamW(self.net.parameters(), lr=r.lr, betas=(0.9, 0.99), weight_decay=1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, r.lr, total_steps=r.steps + 1, pct_start=0.05, div_factor=100.0, final_div_factor=100.0
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class Curves(lightning.Callback):
    """Moves the average along; keeps the loss and the looks at validation; prints where no bar is shown.

    A callback, not a hook of the module: those run after the checkpoint is written.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, every: int = 50) -> None:
        self.recipe, self.every, self.started = recipe, every, time.perf_counter()
        self.loss: list[tuple[int, float]] = []
        self.looks: list[tuple[int, float, dict[str, float]]] = []
        self.before, self._sum, self._steps = 0.0, 0.0, 0
        self._validation = Validation(Path(recipe.validation), data) if recipe.validation else None

    @property
    def hours(self) -> float:
        """Hours of training so far, those before a resumption too."""
        return self.before + (time.perf_counter() - self.started) / 3600

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Average the weights; every so often write the mean loss and look at validation."""
        del batch, index
        module.average.update_parameters(module.net)
        self._sum += float(outputs["loss"])
        self._steps += 1
        step = trainer.global_step
        if step % self.every == 0:
            rate = self._steps * self.recipe.batch / (time.perf_counter() - self.started)
            self.loss.append((step, self._sum / self.every))
            self._tell(step, {"loss": self._sum / self.every, "frames/s": rate, "hours": self.hours})
            self._sum = 0.0
        due = step % self.recipe.validate_every == 0 or step == self.recipe.steps
        if self._validation is not None and due:
            self.looks.append((step, self.hours, dict(self._validation.look(module.averaged))))
            self._tell(step, self.looks[-1][2])

    @staticmethod
    def _tell(step: int, values: Mapping[str, float]) -> None:
        if not sys.stderr.isatty():
            text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            sys.stderr.write(f"step {step}: {text}\n")

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {"loss": self.loss, "looks": self.looks, "hours": self.hours}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves."""
        self.loss, self.looks = list(state_dict["loss"]), list(state_dict["looks"])
        self.before = float(state_dict["hours"])


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the weights' path."""
    recipe = Recipe.from_options(options)
    folder = Path(recipe.out)
    data = TrainingSet([Path(name) for name in recipe.data.split(",")], recipe.seed)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(recipe.seed)
        module = Training(recipe, data)
    curves = Curves(recipe, data)
    quieten()
    bars = [TQDMProgressBar()] if sys.stderr.isatty() else []
    keep = ModelCheckpoint(
        folder, "last", every_n_train_steps=recipe.save_every, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=recipe.steps,
        gradient_clip_val=1.0,
        callbacks=[keep, curves, *bars],
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
        logger=False,
    )
    last = folder / "last.ckpt"
    loader: Any = DataLoader(range(recipe.steps), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    path = folder / f"{recipe.config}.safetensors"
    save(path, Trained(module.averaged, data.vocabulary, data.table, card(recipe, data, module, curves)))
    return path


def averaging(averages: Any, now: Any, count: Any) -> None:
    """Exponential moving average of 0.999, shorter while there are few weights to average."""
    n = float(count)
    torch._foreach_lerp_(averages, now, 1 - min(0.999, (1 + n) / (10 + n)))


def quieten() -> None:
    """Lightning advertises and repeats PyTorch's notices at INFO."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in ("LeafSpec", "does not have many workers", "exists and is not empty", "You're resuming"):
        warnings.filterwarnings("ignore", message=f".*{message}")


def card(recipe: Recipe, data: TrainingSet, module: Training, curves: Curves) -> dict[str, Any]:
    """What the weights were trained on and how."""
    return {
        "name": recipe.config,
        "training_sequences": sorted(peptide.name for peptide in data.peptides),
        "training_frames": sum(len(peptide.x) for peptide in data.peptides),
        "n_parameters": module.net.n_parameters(),
        **{name: getattr(recipe, name) for name in ("steps", "batch", "lr", "seed")},
        "first_loss": curves.loss[0][1] if curves.loss else None,
        "final_loss": curves.loss[-1][1] if curves.loss else None,
        "validation": curves.looks,
        "training_hours": curves.hours,
        "git": bgbench.provenance()["git"],
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }
