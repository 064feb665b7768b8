"""Where samplers compute: the device that was asked for, found or refused; what it is, and what was used."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bgbench.core.errors import BgbenchError
from bgbench.core.options import nearest_word

AUTO = "auto"
"""A GPU where there is one, else the CPU."""

CPU = torch.device("cpu")

DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux says which driver of GPUs is loaded."""

_WORDS = (AUTO, "cpu", "cuda", "cuda:0")
_CUDA = re.compile(r"cuda(?::(\d+))?")


def refuse_unknown_device(word: str) -> None:
    """Refuse a word that names no device on any machine.

    Raises:
        BgbenchError: saying which words there are.

    >>> refuse_unknown_device("cuda:1")
    >>> refuse_unknown_device("gpu")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: device must be auto, cpu, cuda or cuda:K (K counts GPUs from 0), got \
'gpu'; did you mean 'cpu'?
    """
    if word in _WORDS or _CUDA.fullmatch(word):
        return
    nearest = nearest_word(word, _WORDS)
    advice = f"; did you mean '{nearest}'?" if nearest else ""
    raise BgbenchError(
        f"device must be auto, cpu, cuda or cuda:K (K counts GPUs from 0), got '{word}'{advice}"
    )


def find_device(word: str = AUTO) -> torch.device:
    """The device of this machine that a word names.

    Args:
        word: `auto` (a GPU where there is one), `cpu`, `cuda` (the first GPU) or `cuda:K`.

    Returns:
        The device; of a GPU with its number.

    Raises:
        BgbenchError: for another word, or a GPU that is not there.

    >>> find_device("cpu")
    device(type='cpu')
    """
    refuse_unknown_device(word)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if word == "cpu" or (word == AUTO and not found):
        return CPU
    number = 0 if word == AUTO else gpu_number(word) or 0
    if not found:
        raise BgbenchError(
            f"device={word}: PyTorch {torch.__version__} finds no GPU on this machine; choose cpu or auto"
        )
    if number >= found:
        names = "cuda:0" if found == 1 else f"cuda:0 to cuda:{found - 1}"
        raise BgbenchError(f"device={word}: this machine has {names}; choose one of them")
    return torch.device("cuda", number)


def gpu_number(word: str) -> int | None:
    """The K of `cuda:K`; None for any other word.

    >>> gpu_number("cuda:2"), gpu_number("cuda")
    (2, None)
    """
    match = _CUDA.fullmatch(word)
    return int(match[1]) if match and match[1] else None


def describe_device(device: torch.device, precision: str = "float32") -> dict[str, str]:
    """What a device is, for records.

    Args:
        device: of this machine.
        precision: of matrix products, as the sampler declares it.

    Returns:
        `device`; `precision`, which is TF32 or bfloat16 where PyTorch rounds the factors of float32 products
        so; of a GPU also its `name`, the `driver`, and `cuda`, the version that PyTorch was built for.

    >>> describe_device(torch.device("cpu"))
    {'device': 'cpu', 'precision': 'float32'}
    """
    entries = {"device": str(device), "precision": _rounded(device, precision)}
    if device.type != "cuda":
        return entries
    name = torch.cuda.get_device_name(device)
    return {**entries, "name": name, "driver": driver_version(), "cuda": torch.version.cuda or ""}


def format_device(entries: Mapping[str, Any]) -> str:
    """What `describe_device` and a record say of a device, in a line for people.

    Args:
        entries: of a record also `task_device`, which is named where the sampler did not compute there.

    >>> format_device({"device": "cuda:0", "precision": "TF32", "name": "NVIDIA L4", "driver": "550.54.15"})
    'cuda:0, NVIDIA L4, TF32, driver 550.54.15'
    >>> format_device({"device": "cpu", "precision": "float32", "task_device": "cuda:0"})
    'cpu, float32, not on cuda:0 as it could have'
    """
    words = [str(entries[key]) for key in ("device", "name", "precision") if entries.get(key)]
    if entries.get("driver"):
        words.append(f"driver {entries['driver']}")
    if entries.get("task_device") not in (None, "", entries.get("device")):
        words.append(f"not on {entries['task_device']} as it could have")
    return ", ".join(words)


def _rounded(device: torch.device, precision: str) -> str:
    """The precision of products, given PyTorch's leave to round the factors of float32 ones."""
    if precision == "TF32":
        return precision if device.type == "cuda" else "float32"
    leave = torch.get_float32_matmul_precision()
    if precision != "float32" or leave == "highest":
        return precision
    if device.type == "cuda":
        return "TF32"
    return "bfloat16" if leave == "medium" else precision


def driver_version() -> str:
    """The version of NVIDIA's driver, such as 550.54.15; empty where the system does not say."""
    try:
        words = DRIVER.read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""
    match = re.search(r"\s(\d+(?:\.\d+)+)\s", words)
    return match[1] if match else ""


class DeviceWatch:
    """Finds out which devices this process used after the watch was made.

    A sampler is handed a device and may ignore it. Whoever computes on a GPU allocates memory there, which
    PyTorch counts.

    >>> DeviceWatch().used()
    (device(type='cpu'),)
    """

    def __init__(self) -> None:
        self._before = _allocations()

    def used(self) -> tuple[torch.device, ...]:
        """GPUs on which memory was allocated since; the CPU if there are none."""
        now = _allocations()
        busy = [k for k, count in now.items() if count > self._before.get(k, 0)]
        return tuple(torch.device("cuda", k) for k in busy) or (CPU,)


def _allocations() -> dict[int, int]:
    """How often memory was allocated on each GPU, so far."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    counts: dict[int, int] = {}
    for k in range(torch.cuda.device_count()):
        statistics: dict[str, Any] = torch.cuda.memory_stats(k)
        counts[k] = int(statistics.get("allocation.all.allocated", 0))
    return counts
