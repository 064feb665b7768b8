"""`samples`: frames of files in place of a sampler that runs."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch

import bgbench
from bgbench_samples.frames import Frames, read_samples
from bgbench_samples.options import SampleOptions


class Samples(bgbench.AbstractSampler):
    """Frames of files. Nothing is drawn: of more frames than are scored, each seed takes a part of its own.

    Fewer frames than the protocol scores are judged as they are, at floors of as many.

    Args:
        options: which files.
    """

    def __init__(self, options: SampleOptions) -> None:
        self.options = options
        self.card = card_of(options)

    def check_supports(self, system: bgbench.System) -> None:
        read_samples(self.options, system)

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        return take_frames(self.options, task, n_samples)

    def remarks(self, system: bgbench.System) -> Sequence[str]:
        return read_samples(self.options, system).remarks

    def weighted(self, task: bgbench.Task, n_samples: int) -> tuple[bgbench.Proposal, torch.Tensor]:
        """Frames with the log-weights `(n,)` that they came with.

        Raises:
            BgbenchError: if they came with none.
        """
        frames = read_samples(self.options, task.system)
        if frames.log_w is None:
            raise bgbench.BgbenchError("these samples have no weights; add --set weights=FILE")
        index = choose_frames(frames, task, n_samples)
        return bgbench.Proposal(frames.x[index]), frames.log_w[index]


class DensitySamples(bgbench.AbstractDensitySampler):
    """Frames of files with the log-densities that they came with. Those of other conformers are not known.

    Args:
        options: which files.
    """

    def __init__(self, options: SampleOptions) -> None:
        self.options = options
        self.card = card_of(options)

    def check_supports(self, system: bgbench.System) -> None:
        read_samples(self.options, system)

    def sample(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        # All at once: parts of `chunk` frames would be chosen each for itself, and overlap.
        return take_frames(self.options, task, n_samples)

    def draw(self, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
        return take_frames(self.options, task, n_samples)

    def log_prob(self, task: bgbench.Task, x: torch.Tensor) -> torch.Tensor:
        raise bgbench.BgbenchError(
            f"log_q of {len(x)} other conformers of {task.system.name} is asked for, and files hold that of "
            "their samples alone; use --estimator snis or none"
        )

    def remarks(self, system: bgbench.System) -> Sequence[str]:
        return read_samples(self.options, system).remarks


def build_samples(options: Mapping[str, str]) -> bgbench.AbstractSampler:
    """The sampler of these options.

    Raises:
        BgbenchError: for an unknown option, or a file that does not exist.
    """
    parsed = bgbench.parse_options(SampleOptions, options, owner="samples")
    return Samples(parsed) if parsed.log_q is None else DensitySamples(parsed)


def take_frames(options: SampleOptions, task: bgbench.Task, n_samples: int) -> bgbench.Proposal:
    """At most `n_samples` frames of the task's system, with their log_q where there is one."""
    frames = read_samples(options, task.system)
    index = choose_frames(frames, task, n_samples)
    task.progress(len(index))
    return bgbench.Proposal(frames.x[index], None if frames.log_q is None else frames.log_q[index])


def choose_frames(frames: Frames, task: bgbench.Task, n_samples: int) -> torch.Tensor:
    """Places `(m,)` of all frames, or of `n_samples` of them by chance, in the order of the file."""
    order = torch.randperm(len(frames.x), generator=task.generator)
    return order[:n_samples].sort().values


def card_of(options: SampleOptions) -> bgbench.Card:
    """A card that says where the samples are from, and that the sampler was not run here."""
    return bgbench.Card(
        options.name or options.file.stem,
        weights_sha256=sha256_of(tuple(options.files())),
        notes=f"samples read from {options.file.name}; the sampler was not run here",
        run_here=False,
    )


def sha256_of(files: Sequence[Path]) -> str:
    """sha256 over the names and contents of files."""
    lines = [f"{path.name} {_sha256(path, path.stat().st_mtime_ns, path.stat().st_size)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _sha256(path: Path, changed: int, size: int) -> str:
    """sha256 of a file of that age and size."""
    del changed, size
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
