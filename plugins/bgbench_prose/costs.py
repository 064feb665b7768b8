"""What drawing costs at least, in FLOPs and memory traffic: to set a limit of the device beside a time."""

from dataclasses import dataclass

from bgbench_prose.network import Config


@dataclass(frozen=True)
class Cost:
    """Of one conformer.

    Attributes:
        flops: of matrix products and attention, two for a multiply-add.
        n_bytes: read from and written to a device's memory if all that a step makes stays on the chip: the
            weights, once a token for all samples of a batch, and keys and values.
    """

    flops: float
    n_bytes: float


def drawing_cost(config: Config, n_atoms: int, samples: int, number_bytes: int) -> Cost:
    """The least that a conformer costs which is drawn token by token with cached keys and values.

    The last token has no step: nothing is read off it. What the samples of a peptide share, its conditioning,
    is not counted.

    Args:
        config: sizes of the flow.
        n_atoms: atoms of the peptide.
        samples: conformers of a batch.
        number_bytes: bytes of a number: 4 in float32 and TF32, 2 in bfloat16.
    """
    steps, c = max(0, n_atoms - 1), config.channels
    weights = (24 if config.conditioning == "adaptive" else 12) * c * c
    ends = 3 * c + 6 * c
    # Token i looks back on i + 1 keys and as many values.
    looks = steps * (steps + 1) // 2
    flops = 2 * (steps * (config.n_layers * weights + ends) + config.n_layers * 2 * c * looks)
    read = steps * (config.n_layers * weights + ends) / samples
    cached = config.n_layers * 2 * c * (looks + steps)
    return Cost(float(config.n_blocks * flops), config.n_blocks * number_bytes * (read + cached))
