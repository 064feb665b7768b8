"""What training does a second beside what the device could do at most."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bgbench_training.peaks import find_peak


@dataclass(frozen=True)
class Work:
    """The work of training on one frame, and what the devices could do.

    Attributes:
        flops: of the matrix products for a frame's loss and gradients.
        peak: FLOP/s of all devices in the precision of training.
    """

    flops: float
    peak: float

    def share(self, frames: float) -> float:
        """The share of the peak, in %, at so many frames a second."""
        return 100 * self.flops * frames / self.peak


def count_flops(loss: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """FLOPs of the matrix products of a loss and its gradients, of which none are left behind."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(loss(), trained, allow_unused=True)
    return int(counter.get_total_flops())


def device_peak(device: torch.device, precision: str) -> float | None:
    """FLOP/s of a GPU in a precision of training; None for a device whose peak is not known."""
    if device.type != "cuda":
        return None
    rounds = torch.get_float32_matmul_precision() != "highest"
    peak = find_peak(torch.cuda.get_device_name(device))
    return peak.flops("TF32" if precision == "float32" and rounds else precision) if peak else None
