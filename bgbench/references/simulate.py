"""Simulate references and training sets, resumable at any point: a kill loses the current chunk of frames.

Several systems can be simulated at once, which keeps a GPU busy: each in turn collects the frame that it
started and starts the next.
"""

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.devices import CPU, describe_device
from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file, digest, plain
from bgbench.core.simulation import AbstractEngine, SimulationSettings
from bgbench.core.types import Reference, System, TicaModel
from bgbench.dynamics.engines import count_evaluations, count_steps, find_engine, start_engine
from bgbench.references.diagnostics import FEWEST, certify
from bgbench.references.store import write_reference
from bgbench.references.tica import MIN_FRAMES, fit_tica
from bgbench.systems.broken import broken
from bgbench.systems.features import tica_features

CHUNK_FRAMES = 25
"""Frames of each replica between two saves."""

TICA_ROUNDS = 200
TICA_LAG = 10
"""TICA is fitted on plain Langevin runs from the last frames: number of rounds of 1 ps, and lag in rounds."""


@dataclass(frozen=True)
class Job:
    """One system to simulate.

    Args:
        system: at the temperature and with the force field that are simulated.
        settings: of the engine.
        frames: over all replicas, before broken ones are left out.
        out: the file to write.
        training: a training set, which has no TICA model, for no training needs one.
        device: where the walkers are.
        progress: called after each chunk with frames done, frames in all (of a replica) and ns a day.

    Raises:
        BgbenchError: for too few frames to compare replicas with each other, or for an engine that is not
            registered or refuses the settings or the device.
    """

    system: System
    settings: SimulationSettings
    frames: int
    out: Path
    training: bool = False
    device: torch.device = CPU
    progress: Callable[[int, int, float], None] = lambda done, total, speed: None

    def __post_init__(self) -> None:
        find_engine(self.settings, self.device)
        least = FEWEST * self.settings.replicas
        if self.frames < least:
            raise BgbenchError(
                f"{self.frames} frames of {self.settings.replicas} replicas are too few to compare; ask "
                f"for {least} or more, or for fewer replicas"
            )

    @property
    def work(self) -> Path:
        """The folder of saved chunks; it is deleted when the reference is written."""
        return self.out.with_suffix(".work")


@dataclass(frozen=True)
class _Frames:
    """Whole frames of a simulation, and how many broken ones of each kind were left out."""

    x: Tensor
    replica: Tensor
    left_out: Mapping[str, int]


Simulation = Generator[None, None, Reference]
"""A simulation under way: it stops after each frame that it has started, and returns what it wrote."""


def simulate(job: Job) -> Reference:
    """Run or resume a simulation, certify it and write the frames, those of references with a TICA model.

    Returns:
        The reference or the training set as it was written.

    Raises:
        BgbenchError: if the work folder belongs to other settings, or a file cannot be written.
    """
    [(_, reference)] = simulate_together([job], 1)
    return reference


def simulate_together(jobs: Iterable[Job], at_once: int) -> Iterator[tuple[Job, Reference]]:
    """Simulate several systems, up to `at_once` of them at the same time, as `simulate` does each.

    Their frames depend on neither the order nor on what runs beside them.

    Yields:
        Each job with what it wrote, as soon as that is written.

    Raises:
        BgbenchError: as `simulate` does.
    """
    waiting = iter(jobs)
    running: list[tuple[Job, Simulation]] = []
    while True:
        for job in itertools.islice(waiting, at_once - len(running)):
            running.append((job, _simulation(job)))
        if not running:
            return
        for pair in list(running):
            job, simulation = pair
            try:
                next(simulation)
            except StopIteration as finished:
                running.remove(pair)
                yield job, finished.value


def _simulation(job: Job) -> Simulation:
    engine = _engine(job)
    frames = yield from _frames(job, engine)
    tica = None if job.training else (yield from _fit_tica(job, engine))
    return _write(job, engine, _whole_frames(job, frames), tica)


def _whole_frames(job: Job, arrays: np.ndarray) -> _Frames:
    """The frames `(per replica, replicas, atoms, 3)` in one row, broken ones left out."""
    frames = torch.from_numpy(arrays)
    replica = torch.arange(frames.shape[1]).repeat(frames.shape[0])[: job.frames]
    x = frames.flatten(0, 1)[: job.frames]
    flags = broken(job.system, x)
    whole = ~torch.stack(list(flags.values())).any(0)
    return _Frames(x[whole], replica[whole], {name: int(flag.sum()) for name, flag in flags.items()})


def _write(job: Job, engine: AbstractEngine, frames: _Frames, tica: TicaModel | None) -> Reference:
    certificate = {
        **_provenance(job),
        "device": describe_device(job.device),
        **engine.describe(),
        **certify(job.system, {"x": frames.x, "replica": frames.replica}, tica),
        "tica_lag_ps": None if tica is None else TICA_LAG,
        "left_out": dict(frames.left_out),
    }
    u = engine.energy.energy(frames.x.double())
    reference = Reference(job.system.name, frames.x, u, frames.replica, certificate, tica)
    written = write_reference(job.out, job.system, reference)
    for path in job.work.iterdir():
        path.unlink()
    job.work.rmdir()
    return written


def _provenance(job: Job) -> dict[str, Any]:
    forcefield = job.system.forcefield
    packages = ["bgbench", "openmm", "numba", "numpy", *(["torch"] if job.device != CPU else [])]
    return {
        "forcefield_sha256": forcefield.sha256 if forcefield else "",
        **({"forcefield": plain(asdict(forcefield))} if forcefield else {}),
        "engine": job.settings.engine,
        "versions": {name: version(name) for name in packages},
        "settings": job.settings.to_record(),
        "replicas": job.settings.replicas,
        "temperature": job.system.temperature,
        "steps": count_steps(job.settings, job.frames),
        "evaluations": count_evaluations(job.settings, job.frames),
    }


def _fingerprint(job: Job) -> str:
    """What a saved state goes on from; one of a GPU goes on on every GPU, and not on a CPU."""
    place = {} if job.device == CPU else {"device": job.device.type}
    return digest({**_provenance(job), "frames": job.frames, "system": job.system.name, **place})


def _engine(job: Job) -> AbstractEngine:
    """The engine, newly started or as it was last saved.

    Raises:
        BgbenchError: for a work folder of other settings.
    """
    saved = job.work / "state.npz"
    engine = start_engine(job.system, job.settings, job.device)
    if saved.exists():
        with np.load(saved, allow_pickle=False) as state:
            if str(state["fingerprint"]) != _fingerprint(job):
                raise BgbenchError(
                    f"{job.work} belongs to a simulation with other settings or of another device; delete "
                    "it, or repeat those"
                )
            engine.thaw(state)
    else:
        engine.advance(job.settings.warm_up)
        _save(saved, {"fingerprint": np.array(_fingerprint(job)), "chunks": np.array(0), **engine.freeze()})
    return engine


def _frames(job: Job, engine: AbstractEngine) -> Generator[None, None, np.ndarray]:
    """All frames `(per replica, replicas, atoms, 3)`, those of saved chunks read back."""
    per_replica = math.ceil(job.frames / job.settings.replicas)
    with np.load(job.work / "state.npz", allow_pickle=False) as state:
        done = int(state["chunks"])
    for chunk in range(done, math.ceil(per_replica / CHUNK_FRAMES)):
        started = time.perf_counter()
        rows = []
        for _ in range(min(CHUNK_FRAMES, per_replica - chunk * CHUNK_FRAMES)):
            engine.advance(job.settings.rounds_per_frame)
            yield
            rows.append(engine.copy_target_positions())
        _save(job.work / f"chunk{chunk:05d}.npz", {"x": np.stack(rows)})
        state = {"fingerprint": np.array(_fingerprint(job)), "chunks": np.array(chunk + 1), **engine.freeze()}
        _save(job.work / "state.npz", state)
        seconds = time.perf_counter() - started
        ps = len(rows) * job.settings.rounds_per_frame * job.settings.round_steps * job.settings.step / 1000
        speed = ps / 1000 * job.settings.replicas * 86400 / seconds
        job.progress(min(per_replica, (chunk + 1) * CHUNK_FRAMES), per_replica, speed)
    chunks = sorted(job.work.glob("chunk*.npz"))[: math.ceil(per_replica / CHUNK_FRAMES)]
    return np.concatenate([np.load(path, allow_pickle=False)["x"] for path in chunks])


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _fit_tica(job: Job, engine: AbstractEngine) -> Generator[None, None, TicaModel | None]:
    """TICA of continuous Langevin runs at the target temperature, one from each replica's last frame."""
    plain = engine.start_langevin()
    rounds = max(1, round(1000 / plain.settings.step / plain.settings.round_steps))
    series = []
    for _ in range(TICA_ROUNDS):
        plain.advance(rounds)
        yield
        series.append(plain.copy_target_positions())
    trajectories = np.stack(series, axis=1)
    features = [tica_features(job.system, torch.from_numpy(t).double()).numpy() for t in trajectories]
    return fit_tica(features, TICA_LAG) if len(series) >= MIN_FRAMES else None


def spacing(settings: SimulationSettings, frames: int, ns: float) -> int:
    """Rounds between frames so that `frames` (over all replicas) span `ns` nanoseconds of each replica.

    Raises:
        BgbenchError: if `ns` is not positive and finite, or spans less than one round a frame.
    """
    rounds = ns * 1e6 / settings.step / settings.round_steps
    if not ns > 0 or not math.isfinite(rounds):
        raise BgbenchError(
            f"--ns must be a positive number of nanoseconds, got {ns:g}; for 0.1 ns of each replica, --ns 0.1"
        )
    per_frame = int(rounds / max(1.0, frames / settings.replicas))
    if per_frame < 1:
        raise BgbenchError(f"--ns {ns:g} is too short for {frames} frames; ask for fewer frames or more time")
    return per_frame
