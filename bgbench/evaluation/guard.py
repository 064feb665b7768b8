"""What a sampler may not touch while it samples: global generators, threads, dtype, folder, output.

Whatever it changed is restored, so that the next cell of the process finds things as they were, and an error
says what was changed.
"""

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bgbench.core.errors import BrokenContract
from bgbench.core.streams import STDOUT

SHOWN = 200
"""Characters of forbidden output that the error quotes."""


@dataclass(frozen=True)
class Global:
    """Something global: how to read it, how to restore it, and what to say of a sampler that changed it."""

    read: Callable[[], Any]
    restore: Callable[[Any], Any]
    complaint: str


GENERATOR = "drew from or seeded the global generator of {}; draw from task.generator"
GLOBALS = (
    Global(torch.get_rng_state, torch.set_rng_state, GENERATOR.format("torch")),
    Global(
        lambda: np.random.get_state(),  # noqa: NPY002
        lambda state: np.random.set_state(state),  # noqa: NPY002
        GENERATOR.format("numpy"),
    ),
    Global(random.getstate, random.setstate, GENERATOR.format("Python")),
    Global(torch.get_num_threads, torch.set_num_threads, "changed torch's threads, which executors set"),
    Global(torch.get_default_dtype, torch.set_default_dtype, "changed torch's default dtype"),
    Global(torch.is_grad_enabled, torch.set_grad_enabled, "left gradients switched over"),
    Global(os.getcwd, os.chdir, "changed the working folder"),
)


@contextmanager
def contained() -> Iterator[None]:
    """Run a sampler in this block.

    Only what this thread prints counts: other threads, as of a notebook, print where they always do.

    Raises:
        BrokenContract: if the block ended well but changed something global or wrote to standard output.
    """
    before = [(item, item.read()) for item in GLOBALS]
    printed = io.StringIO()
    try:
        with STDOUT.diverted(printed):
            yield
    finally:
        changed = [item.complaint for item, value in before if _restore(item, value)]
    if text := printed.getvalue()[:SHOWN]:
        changed.append(f"wrote {text!r} to standard output; report with task.progress")
    if changed:
        raise BrokenContract(f"the sampler {', and '.join(changed)}")


def _restore(item: Global, value: Any) -> bool:
    """Restore the value; True where it had been changed."""
    if _same(item.read(), value):
        return False
    item.restore(value)
    return True


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)
