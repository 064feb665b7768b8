"""Muon for the matrices of a network, AdamW for everything else, as one optimiser."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import bgbench
from bgbench_training.recipe import OPTIMIZERS, AbstractRecipe

SMALLEST = 8
"""Rows and columns a weight needs to count as a matrix: orthogonal steps mean little on a few numbers."""


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers that step together (Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The parameter groups are theirs, the matrices' first, so that a schedule of the learning rate moves both.
    """

    def __init__(self, matrices: torch.optim.Optimizer, others: torch.optim.Optimizer) -> None:
        self._parts = (matrices, others)
        super().__init__([{"params": group["params"]} for group in self._groups()], {})
        self.param_groups = self._groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Both steps, after `closure` has made the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both, in order."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from both states.

        Raises:
            BgbenchError: for the checkpoint of a run with another optimiser.
        """
        if "parts" not in state_dict:
            raise bgbench.BgbenchError(
                "the checkpoint is of a run with optimizer=adamw; give that, or a new out"
            )
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]


def optimizer_of(
    network: nn.Module, recipe: AbstractRecipe, betas: tuple[float, float], weight_decay: float
) -> tuple[torch.optim.Optimizer, list[float]]:
    """What `recipe.optimizer` names, and the highest learning rate of each of its groups.

    Raises:
        BgbenchError: for Muon where PyTorch has none (before 2.9).
    """
    if recipe.optimizer == OPTIMIZERS[0]:
        adam = torch.optim.AdamW(network.parameters(), lr=recipe.lr, betas=betas, weight_decay=weight_decay)
        return adam, [recipe.lr]
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise bgbench.BgbenchError(f"optimizer=muon needs PyTorch 2.9 or newer, here is {torch.__version__}")
    matrices = list(matrices_of(network))
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in network.parameters() if id(weight) not in known]
    both = MuonAdamW(
        muon(matrices, lr=recipe.matrix_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.lr, betas=betas, weight_decay=weight_decay),
    )
    return both, [recipe.matrix_lr, recipe.lr]


def matrices_of(network: nn.Module) -> Iterable[Tensor]:
    """Weights of the linear maps, but the narrow ones."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= SMALLEST:
            yield module.weight
