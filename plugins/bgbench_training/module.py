"""The Lightning module around a network: its moving average, optimiser, one cycle of the learning rate."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import bgbench
from bgbench_training.batches import Part
from bgbench_training.optimizers import optimizer_of
from bgbench_training.recipe import AbstractRecipe
from bgbench_training.throughput import Work, count_flops, device_peak

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Schedule:
    """Of AdamW (Muon has its own), and of the one-cycle cosine.

    The rate rises from lr / `start` over 5 % of the steps and falls to lr / `start` / `end`.
    """

    betas: tuple[float, float]
    weight_decay: float
    start: float
    end: float


class AbstractTraining(lightning.LightningModule, ABC, Generic[Net]):
    """A network under `name`, which is also its place in checkpoints, and its moving average.

    Attributes:
        schedule: of the learning rate.
        compiles: whether `run` is how the loss calls the network, so that torch.compile can speed it up.
        work: of a frame, and what the devices could do; None where that is not known.
    """

    schedule: Schedule
    compiles = False

    def __init__(self, recipe: AbstractRecipe, name: str, network: Net) -> None:
        super().__init__()
        self.recipe, self._name = recipe, name
        self.add_module(name, network)
        self.average = AveragedModel(network, multi_avg_fn=averaging)
        self.average.requires_grad_(False)
        self.work: Work | None = None
        self._fast: Callable[..., Any] | None = None
        if recipe.compile == "true" and not self.compiles:
            raise bgbench.BgbenchError(
                f"compile=true: {recipe.config} calls its network in parts, which are not compiled; "
                "leave compile at auto"
            )

    @abstractmethod
    def loss(self, number: int) -> Tensor:
        """Mean loss of pass `number`, of `recipe.part` frames, for this process (`global_rank`)."""

    def place(self, number: int) -> tuple[int, Part]:
        """The step that pass `number` of this process belongs to, and its part of the step's batch."""
        step, turn = divmod(number, self.recipe.accumulate)
        count = self.recipe.accumulate * self.recipe.devices
        return step, Part(turn * self.recipe.devices + self.global_rank, count)

    def run(self, *arguments: Any) -> Any:
        """The network's answer, by compiled kernels where the recipe asks for them and they can be had."""
        if self._fast is not None:
            try:
                return self._fast(*arguments)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:
                warnings.warn(
                    f"torch.compile failed ({type(error).__name__}); going on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._fast = None
        return self.network(*arguments)

    def on_train_start(self) -> None:
        """Count the work of the first pass, before the network is compiled."""
        peak = device_peak(self.device, self.recipe.precision)
        if peak is not None:
            with self.trainer.precision_plugin.forward_context():
                flops = count_flops(lambda: self.loss(0), self.network.parameters())
            self.work = Work(flops / self.recipe.part, peak * self.recipe.devices)
        if self.compiles and compiles_on(self.recipe, self.device):
            with warnings.catch_warnings():
                # torch.compile imports parts of PyTorch that PyTorch itself calls deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                # Peptides are of any size. A compiled module would be registered as a second network.
                self._fast = torch.compile(self.network.forward, dynamic=True)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Batches are made from the pass's number, so a resumed run sees what it would have seen."""
        del batch
        passes = self.recipe.accumulate
        loss = self.loss(self.global_step * passes + index % passes)
        self.log("loss", loss, prog_bar=True)
        return loss

    @property
    def network(self) -> Net:
        """The network in training."""
        return cast(Net, self.get_submodule(self._name))

    @property
    def averaged(self) -> Net:
        """The network with the moving average of the weights."""
        return cast(Net, self.average.module)

    def start_from(self, network: Net) -> None:
        """Take another network's weights, for the average too.

        Raises:
            BgbenchError: if they are of another shape.
        """
        try:
            self.network.load_state_dict(network.state_dict())
        except RuntimeError as error:
            wrong = str(error).splitlines()[1:3]
            raise bgbench.BgbenchError(
                f"{self.recipe.start} does not fit {self.recipe.config}: {' '.join(wrong)}"
            ) from None
        self.averaged.load_state_dict(network.state_dict())

    def configure_optimizers(self) -> Any:
        """As `schedule` says."""
        r, s = self.recipe, self.schedule
        optimizer, highest = optimizer_of(self.network, r, s.betas, s.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            highest,
            total_steps=r.steps + 1,
            pct_start=0.05,
            div_factor=s.start,
            final_div_factor=s.end,
            cycle_momentum=isinstance(optimizer, torch.optim.AdamW),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def compiles_on(recipe: AbstractRecipe, device: torch.device) -> bool:
    """Whether a recipe asks for compiled kernels on a device."""
    return recipe.compile == "true" or (recipe.compile == "auto" and device.type == "cuda")


def averaging(averages: Any, now: Any, count: Any) -> None:
    """Exponential moving average of 0.999, shorter while there are few weights to average."""
    n = float(count)
    torch._foreach_lerp_(averages, now, 1 - min(0.999, (1 + n) / (10 + n)))
