"""What a plugin may not touch: global generators, threads, dtype, folder, output, the tensors it is handed.

Whatever it changed is restored, so that the next cell of the process finds things as they were, and an error
says what was changed.
"""

import io
import logging
import os
import random
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BrokenContract
from bgbench.core.streams import STDOUT

NOTHING: Mapping[str, Tensor] = MappingProxyType({})

SHOWN = 200
"""Characters of forbidden output that the error quotes."""


@dataclass(frozen=True)
class Global:
    """Something global: how to read it, how to restore it, and what to say of a plugin that changed it.

    A `complaint` that is empty: libraries change this when they are first imported or used, so it is restored
    without a word.
    """

    read: Callable[[], Any]
    restore: Callable[[Any], Any]
    complaint: str = ""


GENERATOR = "drew from or seeded the global generator of {}; draw from task.generator"


def _restore_environment(value: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(value):
        del os.environ[name]
    os.environ.update(value)


def _restore_filters(value: Sequence[Any]) -> None:
    # Resetting makes Python forget which warnings it has shown; assigning alone would not.
    warnings.resetwarnings()
    warnings.filters[:] = value  # type: ignore[index]


def _restore_path(value: Sequence[str]) -> None:
    sys.path[:] = value


def _read_loggers() -> dict[str, tuple[int, bool, tuple[logging.Handler, ...]]]:
    loggers = [("", logging.root), *logging.root.manager.loggerDict.items()]
    return {
        name: (one.level, one.disabled, tuple(one.handlers))
        for name, one in loggers
        if isinstance(one, logging.Logger)
    }


def _restore_loggers(value: Mapping[str, tuple[int, bool, tuple[logging.Handler, ...]]]) -> None:
    """Restore the loggers that there were; those that are new are their library's own."""
    for name, (level, disabled, handlers) in value.items():
        logger = logging.getLogger(name) if name else logging.root
        logger.setLevel(level)
        logger.disabled, logger.handlers[:] = disabled, handlers


def _restore_device(value: torch.device) -> None:
    torch.set_default_device(None if value == torch.device("cpu") else value)


def _read_determinism() -> tuple[bool, bool]:
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warn_only


def _restore_determinism(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


RESOURCES = tuple(getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_"))


def read_limits() -> dict[int, tuple[int, int]]:
    """The limits of this process, soft and hard, as of open files or the size of a file.

    >>> read_limits() == read_limits()
    True
    """
    return {number: resource.getrlimit(number) for number in RESOURCES}


def _restore_limits(value: Mapping[int, tuple[int, int]]) -> None:
    """Restore limits as far as this process may: only root can raise a hard limit again."""
    for number, (soft, hard) in value.items():
        now = resource.getrlimit(number)
        if now == (soft, hard):
            continue
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError):
            bounds = [limit for limit in (soft, now[1]) if limit != resource.RLIM_INFINITY]
            with suppress(ValueError, OSError):
                resource.setrlimit(number, (min(bounds, default=resource.RLIM_INFINITY), now[1]))


SUBNORMAL = 1e-310


def _flushes_subnormals() -> bool:
    return SUBNORMAL * 1.0 == 0.0


def _restore_stdout(value: TextIO) -> None:
    sys.stdout = value


def _restore_stderr(value: TextIO) -> None:
    sys.stderr = value


GENERATORS = (
    Global(torch.get_rng_state, torch.set_rng_state, GENERATOR.format("torch")),
    Global(
        lambda: np.random.get_state(),  # noqa: NPY002
        lambda state: np.random.set_state(state),  # noqa: NPY002
        GENERATOR.format("numpy"),
    ),
    Global(random.getstate, random.setstate, GENERATOR.format("Python")),
)
GLOBALS = (
    Global(torch.get_default_device, _restore_device, "changed torch's default device"),
    *GENERATORS,
    Global(torch.get_num_threads, torch.set_num_threads, "changed torch's threads, which executors set"),
    Global(torch.get_default_dtype, torch.set_default_dtype, "changed torch's default dtype"),
    Global(torch.is_grad_enabled, torch.set_grad_enabled, "left gradients switched over"),
    Global(_read_determinism, _restore_determinism, "changed torch's use of deterministic algorithms"),
    Global(
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        "changed torch's precision of matrix products",
    ),
    Global(_flushes_subnormals, torch.set_flush_denormal, "changed what becomes of subnormal numbers"),
    Global(np.geterr, lambda value: np.seterr(**value), "changed numpy's handling of errors (np.seterr)"),
    Global(os.getcwd, os.chdir, "changed the working folder"),
    Global(lambda: sys.stdout, _restore_stdout, "replaced sys.stdout"),
    Global(lambda: sys.stderr, _restore_stderr, "replaced sys.stderr"),
    Global(read_limits, _restore_limits, "changed the limits of its process (resource.setrlimit)"),
    Global(lambda: logging.root.manager.disable, logging.disable, "switched logging off (logging.disable)"),
    Global(lambda: dict(os.environ), _restore_environment),
    Global(lambda: list(warnings.filters), _restore_filters),
    Global(lambda: list(sys.path), _restore_path),
    Global(_read_loggers, _restore_loggers),
)


@contextmanager
def contained(
    who: str = "the sampler", tensors: Mapping[str, Tensor] = NOTHING, may_draw: bool = False
) -> Iterator[None]:
    """Run a plugin's code in this block.

    Only what this thread prints counts, and what the threads print that it starts: others, as of a notebook,
    print where they always do. What is written to descriptor 1, as by a process that a sampler starts, is out
    of sight; worker processes and the command line send it to standard error.

    Args:
        who: what the error calls the code.
        tensors: what the code is handed and may not change, by what the error calls it.
        may_draw: whether it may draw from global generators, as networks do that are built; they are restored
            all the same.

    Raises:
        BrokenContract: if the block ended well but changed something global or one of `tensors`, or wrote to
            standard output.

    >>> start = torch.zeros(2)
    >>> with contained("this example", {"start": start}):
    ...     start += 1
    Traceback (most recent call last):
    bgbench.core.errors.BrokenContract: this example changed start in place; change a copy (start.clone())
    >>> start
    tensor([0., 0.])
    """
    copies = {name: value.detach().clone() for name, value in tensors.items()}
    imported = len(sys.modules)
    printed = io.StringIO()
    with STDOUT.diverted(printed):
        before = [(item, item.read()) for item in GLOBALS]
        try:
            yield
        finally:
            # Python's generator is drawn from by libraries that are imported for the first time.
            excused = GENERATORS if may_draw else GENERATORS[-1:] if len(sys.modules) > imported else ()
            changed = [
                item.complaint for item, value in before if _restore(item, value) and item not in excused
            ]
            changed += [
                f"changed {name} in place; change a copy ({name}.clone())"
                for name, value in tensors.items()
                if _restore_tensor(value, copies[name])
            ]
    if text := printed.getvalue()[:SHOWN]:
        changed.append(f"wrote {text!r} to standard output; report with task.progress")
    if changed := [complaint for complaint in changed if complaint]:
        raise BrokenContract(f"{who} {', and '.join(changed)}")


@contextmanager
def restored() -> Iterator[None]:
    """Restore everything global at the end of this block, without a word.

    >>> with restored():
    ...     torch.set_default_dtype(torch.float64)
    >>> torch.get_default_dtype()
    torch.float32
    """
    before = [(item, item.read()) for item in GLOBALS]
    try:
        yield
    finally:
        for item, value in before:
            _restore(item, value)


def _restore(item: Global, value: Any) -> bool:
    """Restore the value; True where it had been changed."""
    if _same(item.read(), value):
        return False
    item.restore(value)
    return True


def _restore_tensor(value: Tensor, before: Tensor) -> bool:
    """Restore a tensor's values; True where they had been changed."""
    now = value.detach()
    if now.shape == before.shape and torch.equal(now.nan_to_num(), before.nan_to_num()):
        return False
    if now.shape == before.shape and now.dtype == before.dtype:
        now.copy_(before)
    else:
        value.data = before
    return True


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)
