"""Maximum-likelihood training with Lightning: EMA, one-cycle, clip, mixed peptides, resumable."""

import logging
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

import bgbench
from bgbench_prose.data import AbstractTrainingSet, open_training_set
from bgbench_prose.network import Prose, log_prior
from bgbench_prose.recipe import SIZES, Recipe
from bgbench_prose.validation import Validation
from bgbench_prose.weights import save


class Training(lightning.LightningModule):
    """The flow, its moving average, and the likelihood per dimension."""

    def __init__(self, recipe: Recipe, data: AbstractTrainingSet) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        self.flow = Prose(SIZES[recipe.config])
        self.average = AveragedModel(self.flow, multi_avg_fn=averaging)
        self.average.requires_grad_(False)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Batches are made from the step's number, so a resumed run sees what it would have seen."""
        del batch
        r = self.recipe
        number = self.global_step * r.accumulate + index % r.accumulate
        x, t = self.data.batch(number, r.part, self.global_rank)
        z, log_det = self.flow(x, t)
        present = t.mask.sum(1).repeat_interleave(len(x) // len(t.mask))
        # Padding holds z = 0: its prior constant is taken back.
        padding = 3 * (x.shape[1] - present)
        log_q = log_prior(z, 1.0) + 0.5 * padding * torch.log(torch.tensor(2 * torch.pi)) + log_det
        loss = -(log_q / (3 * present)).mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    @property
    def averaged(self) -> Prose:
        """The flow with the moving average of the weights."""
        flow = self.average.module
        if not isinstance(flow, Prose):
            raise TypeError(type(flow))
        return flow

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

    def __init__(self, recipe: Recipe, every: int) -> None:
        self.recipe, self.every, self.started = recipe, every, time.perf_counter()
        self.curve: list[tuple[int, float]] = []
        self.looks: list[tuple[int, dict[str, float]]] = []
        self.before = 0.0
        folder = Path(recipe.validation) if recipe.validation else None
        self._validation = Validation(folder, SIZES[recipe.config]) if folder else None
        self._sum, self._passes, self._steps = 0.0, 0, 0

    @property
    def hours(self) -> float:
        """Hours of training so far, those before a resumption too."""
        return self.before + (time.perf_counter() - self.started) / 3600

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Average the weights, add up the loss; every so often, write its mean, look at validation."""
        del batch
        self._sum, self._passes = self._sum + float(outputs["loss"]), self._passes + 1
        if (index + 1) % self.recipe.accumulate:
            return
        module.average.update_parameters(module.flow)
        step = trainer.global_step
        if step % self.every == 0:
            self._write(trainer, step)
        if self._validation is not None and trainer.is_global_zero and self._due(step):
            self.looks.append((step, dict(self._validation.look(module.averaged.eval()))))
            self._tell(trainer, step, self.looks[-1][1])

    def _due(self, step: int) -> bool:
        return step % self.recipe.validate_every == 0 or step == self.recipe.steps

    def _write(self, trainer: Any, step: int) -> None:
        self.curve.append((step, self._sum / self._passes))
        self._steps += self.every
        rate = self._steps / (time.perf_counter() - self.started)
        self._tell(
            trainer,
            step,
            {"loss": self._sum / self._passes, "steps/s": rate, "frames/s": rate * self.recipe.batch},
        )
        self._sum, self._passes = 0.0, 0

    @staticmethod
    def _tell(trainer: Any, step: int, values: Mapping[str, float]) -> None:
        if trainer.logger is not None:
            trainer.logger.log_metrics({name.replace("/", "_per_"): v for name, v in values.items()}, step)
        if not sys.stderr.isatty() and trainer.is_global_zero:
            text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            sys.stderr.write(f"step {step}: {text}\n")

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {"curve": self.curve, "looks": self.looks, "hours": self.hours}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves."""
        self.curve, self.looks = list(state_dict["curve"]), list(state_dict["looks"])
        self.before = float(state_dict["hours"])


def train(options: Mapping[str, str]) -> Path:
    """Train, or go on from the last checkpoint in `out`; returns the packaged weights' path."""
    recipe = Recipe.from_options(options)
    folder = Path(recipe.out)
    data = open_training_set(Path(recipe.data), SIZES[recipe.config], recipe.seed)
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(recipe.seed)
        module = Training(recipe, data)
    losses = Losses(recipe, 50)
    quieten()
    last = folder / "last.ckpt"
    loader: Any = DataLoader(range(recipe.steps * recipe.accumulate), batch_size=1)  # type: ignore[arg-type]
    trainer(recipe, losses).fit(
        module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True
    )
    path = folder / f"{recipe.config}.safetensors"
    if module.global_rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save(path, module.averaged, card(recipe, data, module.averaged, losses))
    return path


def trainer(recipe: Recipe, losses: Losses) -> lightning.Trainer:
    """Lightning's trainer: one process a device; more than one makes it data-parallel."""
    bars = [TQDMProgressBar()] if sys.stderr.isatty() else []
    keep = ModelCheckpoint(
        Path(recipe.out), "last", every_n_train_steps=recipe.save_every, enable_version_counter=False
    )
    tracked = MLFlowLogger("bgbench-train", recipe.config, recipe.track) if recipe.track else False
    if isinstance(tracked, MLFlowLogger):
        tracked.log_hyperparams(asdict(recipe))
    return lightning.Trainer(
        accelerator="auto",
        devices=recipe.devices,
        strategy="ddp" if recipe.devices > 1 else "auto",
        # Every process makes its own batches, from its rank.
        use_distributed_sampler=False,
        max_steps=recipe.steps,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=1.0,
        callbacks=[keep, losses, *bars],
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
        logger=tracked,
    )


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


def card(recipe: Recipe, data: AbstractTrainingSet, flow: Prose, losses: Losses) -> dict[str, Any]:
    """What the weights were trained on and how."""
    return {
        "name": recipe.config,
        "training_sequences": data.names,
        "training_frames": data.n_frames,
        "n_parameters": flow.n_parameters(),
        **{name: getattr(recipe, name) for name in ("steps", "batch", "lr", "seed")},
        "first_loss": losses.curve[0][1] if losses.curve else None,
        "final_loss": losses.curve[-1][1] if losses.curve else None,
        "validation": losses.looks,
        "training_hours": losses.hours,
        "git": bgbench.provenance()["git"],
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }
