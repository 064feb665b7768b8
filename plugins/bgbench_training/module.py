"""The Lightning module around a network: its moving average, optimiser, one cycle of the learning rate."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import bgbench
from bgbench_training.optimizers import optimizer_of
from bgbench_training.recipe import AbstractRecipe

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
    """A network under `name`, which is also its place in checkpoints, and its moving average."""

    schedule: Schedule

    def __init__(self, recipe: AbstractRecipe, name: str, network: Net) -> None:
        super().__init__()
        self.recipe, self._name = recipe, name
        self.add_module(name, network)
        self.average = AveragedModel(network, multi_avg_fn=averaging)
        self.average.requires_grad_(False)

    @abstractmethod
    def loss(self, number: int) -> Tensor:
        """Mean loss of batch `number`, of `recipe.part` frames, for this process (`global_rank`)."""

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Batches are made from the step's number, so a resumed run sees what it would have seen."""
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


def averaging(averages: Any, now: Any, count: Any) -> None:
    """Exponential moving average of 0.999, shorter while there are few weights to average."""
    n = float(count)
    torch._foreach_lerp_(averages, now, 1 - min(0.999, (1 + n) / (10 + n)))
