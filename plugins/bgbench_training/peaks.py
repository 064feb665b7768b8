"""What GPUs can do at most, by the makers' data sheets: dense matrix products, and memory traffic."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """Of one card.

    Attributes:
        float32: TFLOP/s of products of float32, outside of the matrix units.
        tf32: TFLOP/s of products with factors rounded to TF32; that of float32 where the card has no faster.
        bfloat16: TFLOP/s of products of bfloat16, summed in float32, without sparsity.
        memory: GB/s.
    """

    float32: float
    tf32: float
    bfloat16: float
    memory: float

    def flops(self, precision: str) -> float:
        """FLOP/s in a precision: float32, TF32 or bfloat16.

        Raises:
            KeyError: for another precision.
        """
        return 1e12 * {"float32": self.float32, "TF32": self.tf32, "bfloat16": self.bfloat16}[precision]

    def seconds(self, flops: float, n_bytes: float, precision: str) -> float:
        """The least time of work: products at the peak, or memory traffic, whichever takes longer."""
        return max(flops / self.flops(precision), n_bytes / (1e9 * self.memory))


PEAKS: dict[str, Peak] = {
    r"B200": Peak(75.0, 1125.0, 2250.0, 8000.0),
    r"GH200": Peak(67.0, 494.7, 989.4, 4000.0),
    r"H200 NVL": Peak(60.0, 417.5, 835.5, 4800.0),
    r"H200": Peak(67.0, 494.7, 989.4, 4800.0),
    r"H100 NVL": Peak(60.0, 417.5, 835.5, 3938.0),
    r"H100 PCIe": Peak(51.2, 378.0, 756.0, 2039.0),
    r"H100": Peak(67.0, 494.7, 989.4, 3352.0),
    r"A100-SXM4-40GB|A100-PCIE-40GB": Peak(19.5, 156.0, 312.0, 1555.0),
    r"A100": Peak(19.5, 156.0, 312.0, 2039.0),
    r"L40S": Peak(91.6, 183.0, 362.0, 864.0),
    r"L4": Peak(30.3, 60.0, 121.0, 300.0),
    r"A40": Peak(37.4, 74.8, 149.7, 696.0),
    r"A10": Peak(31.2, 62.5, 125.0, 600.0),
    r"RTX A6000": Peak(38.7, 77.4, 154.8, 768.0),
    r"RTX 5090": Peak(104.8, 104.8, 209.5, 1792.0),
    r"RTX 4090": Peak(82.6, 82.6, 165.2, 1008.0),
    r"RTX 3090": Peak(35.6, 35.6, 71.0, 936.0),
}
"""By what their names contain, special ones first; of boards for servers with NVLink where several exist."""

WEAKER = re.compile(r"laptop|max-q|mobile|\b(?:4090|5090) D\b|MIG ", re.IGNORECASE)
"""What the names of weaker cards contain: their peaks are not these."""


def find_peak(name: str) -> Peak | None:
    """The peak of a card by the name that its driver gives it; None for one that is not listed.

    >>> find_peak("NVIDIA H100 80GB HBM3").bfloat16, find_peak("NVIDIA GeForce RTX 4090 Laptop GPU")
    (989.4, None)
    """
    if WEAKER.search(name):
        return None
    found = (peak for pattern, peak in PEAKS.items() if re.search(rf"\b(?:{pattern})\b", name))
    return next(found, None)
