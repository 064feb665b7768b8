"""Stages of at most nine minutes for a machine with a GPU, which can be cut off and gone on with.

    python benchmarks/gpu/stages.py laws|speeds|data|train-verse|train-prose|suite --seconds 540 --out "$OUT"

README.md beside this file says how to prepare such a machine and which commands to run there. Each stage
writes STAGE.json (card, driver, versions, commit, figures) after every figure, stops before its limit, and
packs what it needs to go on into STAGE.state.* in the same folder. Hand that folder over with --from, and it
goes on. With --tiny everything is small enough to be rehearsed on a CPU.
"""

import argparse
import importlib.metadata
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("laws", "speeds", "data", "train-verse", "train-prose", "suite")

PART_BYTES, MOST_PARTS = 15 << 20, 4
"""What comes back from such a machine: 8 files of 16 MiB, 64 MiB in all, this stage's report among them."""

PACKING_SECONDS = 15.0
"""Before the limit, work stops for the packing of the state."""

PUBLISHED_DRAWS = {2: 400.0, 4: 230.0, 8: 90.0}
"""Draws with likelihood a second of the published Prose on one L40S, by number of residues, by issue 27."""

SEQUENCES = {2: "AR", 4: "ARIP", 8: "ARIPFSVE"}

GOALS = {"AA": 5e6, "ARIP": 1e6}
"""Energies with forces a second on one GPU that issue 27 wants."""

STEP = 0.002
"""ps, of the dynamics."""

REHEARSED_CARD = "NVIDIA H100 80GB HBM3"
"""Whose limits stand beside the speeds of a rehearsal, for want of a card."""


@dataclass
class Work:
    """A stage under way.

    Args:
        stage: its name.
        device: `torch.device` to compute on.
        tiny: sizes of a rehearsal.
        deadline: of `time.monotonic`, when the work has to stop.
        out: folder of the report.
        state: folder of what goes on in a later call.
        report: as it is written.
    """

    stage: str
    device: Any
    tiny: bool
    deadline: float
    out: Path
    state: Path
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the work has to stop."""
        return self.deadline - time.monotonic()

    def measure(self, name: str, seconds: float, figure: Callable[[], Any]) -> None:
        """Add a figure unless the report has it; without `seconds` left it is listed as left out.

        A figure that fails is an entry of its own, and the others go on.
        """
        if name in self.report["figures"]:
            return
        self.report["left_out"] = [word for word in self.report["left_out"] if word != name]
        if not self.tiny and self.left < seconds:
            self.report["left_out"].append(name)
            self.save()
            return
        started = time.monotonic()
        try:
            value = figure()
            self.report["failed"].pop(name, None)
            self.report["figures"][name] = {"value": value, "seconds": round(time.monotonic() - started, 2)}
        except Exception as error:
            self.report["failed"][name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {self.report['figures'].get(name, self.report['failed'].get(name))}", flush=True)
        self.save()

    def save(self) -> None:
        """Write the report; what is there already is replaced whole."""
        path = self.out / f"{self.stage}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(self.report, indent=2, sort_keys=True) + "\n")
        os.replace(fresh, path)

    def synchronise(self) -> None:
        """Wait for the device."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds_of(self, call: Callable[[], Any], repeats: int = 3) -> float:
        """Seconds of one call, the least of some, after one that compiles."""
        call()
        best = float("inf")
        for _ in range(1 if self.tiny else repeats):
            self.synchronise()
            started = time.perf_counter()
            call()
            self.synchronise()
            best = min(best, time.perf_counter() - started)
        return best


# Laws: is it right there?


def laws(work: Work) -> None:
    """Energies, walkers, samplers and the command on the device, each against the CPU or a known answer."""
    systems = ["AA"] if work.tiny else ["AA", "ARIP"]
    for name in systems:
        for engine in engines_of(work):
            words = f"energies {name} {engine}"
            work.measure(words, 30, lambda name=name, engine=engine: law_of_energies(work, name, engine))
    work.measure("ladder keeps the reference's energy", 60, lambda: law_of_walkers(work))
    work.measure("a recorded step is the step", 30, lambda: law_of_recording(work))
    for precision in ("float32", "bfloat16"):
        words = f"decoder of prose {precision}"
        work.measure(words, 30, lambda precision=precision: law_of_decoder(work, precision))
    for name in ("verse", "prose"):
        work.measure(f"draws of {name}", 40, lambda name=name: law_of_draws(work, name))
    work.measure("data simulate", 60, lambda: law_of_the_command(work))


def demand(holds: bool, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a law that holds.

    Raises:
        ArithmeticError: with the figures, of one that does not.
    """
    if not holds:
        raise ArithmeticError(json.dumps(figures))
    return figures


def engines_of(work: Work) -> list[str]:
    """Engines of the batched energy that compute on the device."""
    from bgbench.energies.batched import EngineName

    if work.device.type == "cpu":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return ["compiled", "eager", *(["triton"] if interpreted else [])]
    return [name for name in get_args(EngineName) if name not in ("auto", "compiled")]


def frames_of(name: str, n: int) -> tuple[Any, Any]:
    """A peptide and `n` frames of its packaged reference, which are repeated where there are too few."""
    from bgbench import peptide
    from bgbench.references.providers import find_reference

    system = peptide(name)
    x = find_reference(system).x
    return system, x.repeat(-(-n // len(x)), 1, 1)[:n]


def law_of_energies(work: Work, name: str, engine: Any) -> dict[str, Any]:
    """Against the eager engine in float64 and OpenMM's Reference platform, both on the CPU.

    Energies within 1e-4 kT in float64 and 1e-2 kT in float32, forces to 1e-3 of the largest; Triton has to
    have computed all that is in float32 if it is named.
    """
    from bgbench.energies.batched import BatchedEnergy
    from bgbench.energies.openmm import OpenMMEnergy

    n = 4 if work.tiny else 512
    system, x = frames_of(name, n)
    # Float32 rounds positions, which alone moves an energy by more than the law allows.
    x = x.float()
    exact, force = BatchedEnergy(system, "eager").energy_and_force(x.double())
    reference = OpenMMEnergy(system, "Reference").energy(x[:64].double())
    there = BatchedEnergy(system, engine)
    figures: dict[str, Any] = {}
    for kind, bound in (("float64", 1e-4), ("float32", 1e-2)):
        placed = (x.double() if kind == "float64" else x).to(work.device)
        u, f = (values.cpu().double() for values in there.energy_and_force(placed))
        figures[f"{kind} energy kT"] = float((u - exact).abs().max())
        figures[f"{kind} OpenMM kT"] = float((u[: len(reference)] - reference).abs().max())
        figures[f"{kind} force"] = float((f - force).abs().max() / force.abs().max())
        right = figures[f"{kind} energy kT"] <= bound and figures[f"{kind} force"] <= 1e-3
        demand(right and figures[f"{kind} OpenMM kT"] <= bound, figures)
    figures.update(there.describe())
    return demand(engine != "triton" or figures["engines"].get("triton") == n, figures)


def ladder_of(
    work: Work, name: str, replicas: int, *, friction: float = 0.3, moves: int = 20, capture: bool = True
) -> Any:
    """Softened ladders of three rungs from frames of the reference, and the parameters of their energy."""
    import numpy as np

    from bgbench.dynamics.device import DeviceLadders, Rungs
    from bgbench.dynamics.langevin import Integrator, with_hydrogen_mass
    from bgbench.dynamics.solute_scaling import TorsionMoves
    from bgbench.dynamics.tempering import ladder
    from bgbench.energies.batched import BatchedEnergy

    system, x = frames_of(name, replicas)
    p = BatchedEnergy(system, "eager").parameters
    torsion_moves = TorsionMoves.of_system(system, p.torsions)
    scales = system.temperature / ladder(system.temperature, 550.0, 3)
    rungs = Rungs.by_scale(p, torsion_moves, np.asarray(scales), system.temperature, work.device)
    integrator = Integrator(with_hydrogen_mass(p.masses, p.bonds, 3.0), STEP, friction)
    walk = DeviceLadders(
        x.numpy(), rungs, integrator, work.device, [0, 0], torsion_moves, moves, capture=capture
    )
    return walk, p, system


def law_of_walkers(work: Work) -> dict[str, Any]:
    """Mean energy of the target rung after dynamics, moves and exchanges: the reference's within 5 errors.

    Each error has the reference's spread and as many independent values as there are replicas.
    """
    import torch

    from bgbench.energies.batched import BatchedEnergy
    from bgbench.references.providers import find_reference

    replicas, rounds = (16, 2) if work.tiny else (1024, 100)
    walk, _, system = ladder_of(work, "AA", replicas, friction=10.0, moves=2 if work.tiny else 20)
    for _ in range(rounds):
        walk.round(2 if work.tiny else 50)
    u = BatchedEnergy(system, "eager").energy(torch.from_numpy(walk.target_positions).double())
    reference = find_reference(system).u
    error = float(reference.std()) * (2 / replicas) ** 0.5
    figures = {"difference kT": float(u.mean() - reference.mean()), "error kT": error}
    figures["swap rates"] = (walk.swaps_accepted / walk.swaps_tried.clip(1)).tolist()
    return demand(abs(figures["difference kT"]) < 5 * error, figures)


def law_of_recording(work: Work) -> dict[str, Any]:
    """Six steps replayed from a CUDA graph and six that are not: the same noise, so the same positions."""
    import numpy as np

    one, two = (ladder_of(work, "AA", 8, capture=capture)[0] for capture in (True, False))
    for walk in (one, two):
        walk.advance(6)
    gap = float(np.abs(one.target_positions - two.target_positions).max())
    return demand(gap < 1e-4, {"largest gap nm": gap})


def law_of_decoder(work: Work, precision: str) -> dict[str, Any]:
    """Steps of the decoder recorded as a CUDA graph, the same steps called one by one, and the plain way.

    The plain way is in float64 on the CPU. In bfloat16 its conformers are not expected, only those of steps
    that are called.
    """
    import warnings
    from unittest.mock import patch

    import torch

    from bgbench import peptide
    from bgbench_prose import cuda
    from bgbench_prose.decode import invert
    from bgbench_prose.network import Config, Prose, tokens
    from bgbench_training.devices import moved

    config = Config(channels=64, n_blocks=2, n_layers=2, head_dim=32)
    flow, atoms = random_flow(Prose, config), peptide("AA" if work.tiny else "ARIPFSVE").atoms
    z = torch.randn(4, len(atoms), 3, generator=torch.Generator().manual_seed(0))
    t = tokens([atoms], config)
    plain, log_det = invert(flow.double(), z.double(), t)
    flow = flow.float().to(work.device)
    there, placed = moved(t, work.device), z.to(work.device)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    results = []
    with torch.autocast(work.device.type, dtype, enabled=precision != "float32"), torch.inference_mode():
        for recorded in (True, False):
            graphs = {} if recorded else {"has_graphs": lambda device: False}
            with warnings.catch_warnings(), patch.multiple(cuda, **graphs) if graphs else nullcontext():
                # A graph that cannot be recorded is a warning.
                warnings.simplefilter("error", RuntimeWarning)
                decoder = cuda.Decoder(flow, len(z), len(atoms), dtype)
                # The second time nothing but graphs that are there is launched.
                decoder.invert(placed, there)
                results.append([values.cpu().double() for values in decoder.invert(placed, there)])
    gap = [float((one - two).abs().max()) for one, two in zip(*results, strict=True)]
    figures = {"recorded": cuda.has_graphs(work.device), "gap to calls": gap[0], "of log det": gap[1]}
    holds = max(gap) <= 1e-4
    if precision == "float32":
        figures["gap to the plain way"] = float((results[0][0] - plain).abs().max())
        figures["of its log det"] = float((results[0][1] - log_det).abs().max())
        holds = holds and figures["gap to the plain way"] <= 1e-3 and figures["of its log det"] <= 1e-2
    return demand(holds, figures)


def law_of_draws(work: Work, name: str) -> dict[str, Any]:
    """The same seed gives the CPU's conformers, up to the rounding that the laws of samplers allow."""
    from bgbench.core.calls import call_sample
    from bgbench.core.plugins import build_sampler
    from bgbench.testing import DensitySamplerLaws, peptide_task

    sampler = build_sampler(name, {})
    here = call_sample(sampler, peptide_task("AA"), 4)
    there = call_sample(sampler, replace(peptide_task("AA"), device=work.device), 4)
    figures = {"gap nm": float((there.x.cpu() - here.x).abs().max())}
    figures["gap of log q"] = float((there.log_q.cpu() - here.log_q).abs().max())
    return demand(figures["gap nm"] <= DensitySamplerLaws.rounding, figures)


def law_of_the_command(work: Work) -> dict[str, Any]:
    """`bgbench data simulate --device` writes frames whose certificate names the device."""
    from bgbench.cli.main import app, guarded

    with tempfile.TemporaryDirectory() as folder:
        words = ["data", "simulate", "GG", "--short", "--engine", "softened"]
        words += ["--replicas", "2", "--frames", "8"]
        sizes = {"rungs": 2, "anneal_steps": 20, "warm_up": 2, "round_steps": 4, "torsion_moves": 2}
        settings = [word for key, value in sizes.items() for word in ("--set", f"{key}={value}")]
        words += [*settings, "--device", str(work.device), "--out", folder]
        code = guarded(lambda **options: app(words, **options))
        if code:
            raise RuntimeError(f"the command ended with exit code {code}")
        content = json.loads((Path(folder) / "GG.certificate.json").read_text())
    device = content["certificate"]["device"]
    return demand(device["device"] == str(work.device), {"device": device})


# Speeds: how fast is it, and how fast could it be?


def speeds(work: Work) -> None:
    """Energies, ladders, draws and training steps, each beside what the card could do."""
    work.report["peak"] = peak_of(work) and asdict(peak_of(work))
    systems = ["AA"] if work.tiny else [*GOALS]
    for name in systems:
        for engine in engines_of(work):
            words = f"energies and forces {name} {engine}"
            work.measure(words, 20, lambda name=name, engine=engine: speed_of_energies(work, name, engine))
        for replicas in [4] if work.tiny else [256, 2048]:
            words = f"softened ladder {name} {replicas} replicas"
            work.measure(
                words, 40, lambda name=name, replicas=replicas: speed_of_ladder(work, name, replicas)
            )
    for residues in [2] if work.tiny else [*PUBLISHED_DRAWS]:
        for path in prose_paths():
            words = f"draws of prose {residues} residues {path}"
            work.measure(words, 90, lambda residues=residues, path=path: speed_of_draws(work, residues, path))
    for precision in ("float32", "TF32", "bfloat16"):
        words = f"training step of prose {precision}"
        work.measure(words, 40, lambda precision=precision: speed_of_training(work, precision))


def peak_of(work: Work) -> Any:
    """What the maker's data sheet says of the card; None of one that is not listed."""
    import torch

    from bgbench_training.peaks import find_peak

    if work.tiny:
        return find_peak(REHEARSED_CARD)
    return find_peak(torch.cuda.get_device_name(work.device)) if work.device.type == "cuda" else None


def beside(rate: float, limit: float | None) -> dict[str, float | None]:
    """A rate a second, the limit of the card, and the share of it, in %."""
    return {"a second": rate, "limit": limit, "share %": 100 * rate / limit if limit else None}


def limit_of_forces(work: Work, parameters: Any) -> float | None:
    """Energies with forces a second that the card could compute at most, in float32."""
    from bgbench.energies.triton_cost import cost_of_forces

    peak = peak_of(work)
    return peak and cost_of_forces(parameters).limit(peak.flops("float32"), 1e9 * peak.memory)


def speed_of_energies(work: Work, name: str, engine: Any) -> dict[str, Any]:
    """Conformers a second at the batch that is fastest, in float32."""
    from bgbench.energies.batched import BatchedEnergy

    rates = {}
    for n in [64] if work.tiny else [1024, 8192, 65536]:
        system, x = frames_of(name, n)
        energy, placed = BatchedEnergy(system, engine), x.float().to(work.device)
        seconds = work.seconds_of(lambda e=energy, x=placed: e.energy_and_force(x))
        rates[n] = n / seconds
    best = max(rates, key=lambda n: rates[n])
    return {
        "batch": best,
        **beside(rates[best], limit_of_forces(work, energy.parameters)),
        "goal": GOALS[name],
        "by batch": {str(n): rate for n, rate in rates.items()},
        **energy.describe(),
    }


def speed_of_ladder(work: Work, name: str, replicas: int) -> dict[str, Any]:
    """ns a second over all walkers of all rungs; exchanges and torsion moves are among the time.

    The limit is that of the steps alone, one energy with forces each.
    """
    moves = 2 if work.tiny else 20
    walk, parameters, _ = ladder_of(work, name, replicas, moves=moves)
    steps, rounds = (4, 1) if work.tiny else (50, 10)

    def several() -> None:
        for _ in range(rounds):
            walk.round(steps)

    seconds = work.seconds_of(several)
    limit = limit_of_forces(work, parameters)
    ns_a_step = STEP * 1e-3
    rate = 3 * replicas * rounds * steps * ns_a_step / seconds
    figures = beside(rate, limit and limit * ns_a_step)
    figures["ns a second of all walkers"] = figures.pop("a second")
    return {**figures, "walkers": 3 * replicas, "moves a round of steps": f"{moves} in {steps}"}


def prose_paths() -> list[str]:
    """Ways through Prose's network; the one that torch.compile makes needs minutes and a compiler."""
    from bgbench_prose.fast import FlowPath

    return [path for path in get_args(FlowPath) if path != "compile"]


def random_flow(kind: Any, config: Any) -> Any:
    """Prose with random weights, far enough from the identity that every layer counts."""
    import torch

    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        flow = kind(config)
        for block in flow.blocks:
            # Any further, 8 of them leave the range of float32.
            block.proj_out.weight.data.normal_(0, 0.01)
    return flow


def published_prose(work: Work) -> Any:
    """Prose at published size (288 M parameters) with random weights: for speed alone."""
    from bgbench_prose.network import Config, Prose

    config = Config(channels=32, n_blocks=2, n_layers=1, head_dim=16) if work.tiny else Config()
    return random_flow(Prose, config)


def speed_of_draws(work: Work, residues: int, path: str) -> dict[str, Any]:
    """Draws with their likelihood a second, beside the published figure of an L40S."""
    from bgbench.core.calls import call_sample
    from bgbench.testing import peptide_task
    from bgbench_prose.costs import drawing_cost
    from bgbench_prose.cuda import MOST
    from bgbench_prose.sampler import ProseSampler

    flow = published_prose(work)
    sampler = ProseSampler(flow, path)
    task = replace(peptide_task(SEQUENCES[residues]), device=work.device)
    n = 4 if work.tiny else MOST
    seconds = work.seconds_of(lambda: call_sample(sampler, task, n), 1)
    precision, peak = sampler.precision, peak_of(work)
    n_bytes = 2 if precision == "bfloat16" else 4
    cost = drawing_cost(flow.config, task.system.n_atoms, n, n_bytes)
    published = PUBLISHED_DRAWS[residues]
    return {
        "batch": n,
        "parameters": flow.n_parameters(),
        "weights": "random",
        "precision": precision,
        "peptide": SEQUENCES[residues],
        **beside(n / seconds, peak and 1 / peak.seconds(cost.flops, cost.n_bytes, precision)),
        "published on one L40S": published,
        "times the published": n / seconds / published,
    }


def speed_of_training(work: Work, precision: str) -> dict[str, Any]:
    """Frames a second in gradient steps at published size on ARIP: ours, and the plain implementation's.

    Plain is the same network that computes its conditioning for each sample, not once a peptide. Optimizer
    and data are in neither.
    """
    import torch

    from bgbench import peptide
    from bgbench_prose.fast import rounded_factors
    from bgbench_prose.network import Tokens, tokens
    from bgbench_training.devices import moved
    from bgbench_training.throughput import count_flops

    flow = published_prose(work).to(work.device)
    batch = 2 if work.tiny else 64
    system = peptide("AA" if work.tiny else "ARIP")
    t = moved(tokens([system.atoms], flow.config), work.device)
    fields = (t.atom_type, t.residue_type, t.residue_position, t.sequence_length, t.mask)
    each_row = Tokens(*(values.repeat(batch, 1) for values in fields), t.orders.repeat(1, batch, 1))
    x = torch.randn(batch, system.n_atoms, 3, device=work.device)

    def loss(tokens_of: Any) -> Any:
        with torch.autocast(work.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            z, log_det = flow(x, tokens_of)
        return 0.5 * z.float().square().sum((1, 2)).mean() - log_det.float().mean()

    def step(tokens_of: Any) -> None:
        flow.zero_grad(set_to_none=True)
        loss(tokens_of).backward()

    with rounded_factors() if precision == "TF32" else nullcontext():
        ours, plain = (work.seconds_of(lambda t=t: step(t)) for t in (t, each_row))
        flops = count_flops(lambda: loss(t), flow.parameters()) / batch
    peak = peak_of(work)
    return {
        "batch": batch,
        **beside(batch / ours, peak and peak.flops(precision) / flops),
        "plain a second": batch / plain,
        "times the plain": plain / ours,
    }


# Data, training, a suite: work that goes on in a later call.


def data(work: Work) -> None:
    """Training peptides by the softened ladder, several at once, until the time is up."""
    from bgbench import peptide
    from bgbench.dynamics.engines import SoluteScalingEngine
    from bgbench.references.simulate import Job, simulate_together
    from bgbench.references.training import training_sequences

    settings = replace(SoluteScalingEngine.training_settings(), replicas=64)
    names, frames, at_once = training_sequences(2, 200) + training_sequences(4, 100), 1024, 8
    if work.tiny:
        settings = replace(
            settings, replicas=2, rungs=1, anneal_steps=4, warm_up=1, round_steps=2, torsion_moves=1
        )
        names, frames, at_once = ["GG"], 8, 1
    folder = work.state / "training"
    done = {path.stem for path in folder.glob("*.npz")}

    def jobs() -> Iterator[Job]:
        for name in names:
            if name not in done:
                yield Job(
                    peptide(name),
                    settings,
                    frames,
                    folder / f"{name}.npz",
                    training=True,
                    device=work.device,
                    progress=stop_when_late,
                )

    def stop_when_late(_done: int, _total: int, _speed: float) -> None:
        if work.left < 0:
            raise OutOfTime

    started = time.monotonic()
    n_before = len(done)
    simulations = simulate_together(jobs(), at_once)
    try:
        for job, reference in simulations:
            done.add(job.system.name)
            print(f"{job.system.name}: {reference.n_samples} frames", flush=True)
            stop_when_late(0, 0, 0.0)
    except OutOfTime:
        simulations.close()
    work.report["done"] = len(done) >= len(names)
    seconds = time.monotonic() - started
    made = len(done) - n_before
    work.report["figures"]["data"] = {"value": {"peptides": len(done), "of": len(names), "here": made}}
    work.report["figures"]["data"]["seconds"] = round(seconds, 2)


class OutOfTime(Exception):
    """The time of the stage is up; what was saved goes on later."""


def train(work: Work, sampler: str, config: str, options: dict[str, str]) -> None:
    """`bgbench train` as a process of its own, which is ended when the time is up.

    Each checkpoint is copied when it is whole, so that no moment is wrong for ending the process.
    """
    made = work.state.parent / "data" / "training"
    folder = made if any(made.glob("*.npz")) else ROOT / "datasets" / "training"
    live, kept = Path(tempfile.mkdtemp()), work.state / "trained"
    kept.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir():
        shutil.copy2(path, live / path.name)
    if work.tiny:
        folder = make_tiny_training(live / "data")
        options = {**options, "config": f"{sampler}-tiny", "batch": "2", "steps": "2", "save_every": "1"}
    else:
        options = {**options, "config": config}
    options = {"data": str(folder), "out": str(live), **options}
    settings = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    started = time.monotonic()
    code = run_until(
        work, ["train", sampler, "--device", str(work.device), *settings], lambda: keep(live, kept)
    )
    keep(live, kept)
    steps = steps_of(kept / "last.ckpt")
    work.report["done"] = code == 0
    figures = {"steps": steps, "of": int(options["steps"]), "config": options["config"]}
    work.report["figures"]["training"] = {"value": figures, "seconds": round(time.monotonic() - started, 2)}
    if code not in (0, None):
        work.report["failed"]["training"] = f"bgbench train ended with exit code {code}"
    shutil.rmtree(live)


def make_tiny_training(folder: Path) -> Path:
    """One training peptide, the smallest file of all, in a folder of its own."""
    folder.mkdir(parents=True)
    files = sorted((ROOT / "datasets" / "training").glob("*.npz"), key=lambda path: path.stat().st_size)
    for path in files[0].parent.glob(f"{files[0].stem}.*"):
        shutil.copy2(path, folder / path.name)
    return folder


def keep(live: Path, kept: Path) -> None:
    """Copy the checkpoint and weights that are whole; one that is being written is left for the next time."""
    for path in [live / "last.ckpt", *live.glob("*.safetensors")]:
        target = kept / path.name
        if not path.exists() or (target.exists() and target.stat().st_mtime == path.stat().st_mtime):
            continue
        fresh = target.with_suffix(".new")
        shutil.copy2(path, fresh)
        if path.suffix == ".ckpt" and steps_of(fresh) is None:
            fresh.unlink()
        else:
            os.replace(fresh, target)


def steps_of(checkpoint: Path) -> int | None:
    """Steps that a checkpoint has behind it; None for one that cannot be read."""
    import torch

    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except (OSError, RuntimeError, EOFError, KeyError, ValueError):
        return None


def suite(work: Work) -> None:
    """`bgbench run prose --suite tetrapeptides30 --budget 1000000`, cell by cell."""
    words = ["--suite", "tetrapeptides30", "--budget", "1000000"]
    if work.tiny:
        words = ["--only", "AA", "--budget", "20", "--seeds", "1"]
    folder = work.state / "run"
    going_on = ["--resume"] if (folder / "plan.json").exists() or any(folder.glob("*")) else []
    started = time.monotonic()
    place = ["--device", str(work.device), "--workers", "0", "--out", str(folder)]
    code = run_until(work, ["run", "prose", *words, *place, *going_on], lambda: None)
    records = sum(1 for path in folder.rglob("*.json*") for line in path.open() if '"status"' in line)
    work.report["done"] = code == 0
    work.report["figures"]["suite"] = {
        "value": {"records": records},
        "seconds": round(time.monotonic() - started, 2),
    }
    if code not in (0, None):
        work.report["failed"]["suite"] = f"bgbench run ended with exit code {code}"


def run_until(work: Work, words: list[str], look: Callable[[], None]) -> int | None:
    """A command of bgbench, ended when the time is up; `look` is called every other second.

    Returns:
        Its exit code; None if it was ended.
    """
    process = subprocess.Popen([sys.executable, "-m", "bgbench", *words], cwd=ROOT, start_new_session=True)
    try:
        while process.poll() is None and work.left > 0:
            time.sleep(0.2 if work.tiny else 2.0)
            look()
        return process.poll()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# What all stages need.


@contextmanager
def installed() -> Iterator[None]:
    """Let Python know bgbench's version and plugins where only its source is at hand, not a package."""
    try:
        importlib.metadata.version("bgbench")
        yield
        return
    except importlib.metadata.PackageNotFoundError:
        pass
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as site:
        folder = Path(site) / f"bgbench-{project['version']}.dist-info"
        folder.mkdir()
        lines = [f"{name} = {value}" for name, value in project["entry-points"]["bgbench"].items()]
        (folder / "entry_points.txt").write_text("\n".join(["[bgbench]", *lines, ""]))
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: bgbench\nVersion: {project['version']}\n"
        )
        sys.path.append(site)
        os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), site])
        yield


def unpack(source: Path | None, stage: str, state: Path) -> None:
    """The state that an earlier call packed; what is on this machine already is further, and stays."""
    parts = sorted(source.glob(f"{stage}.state.*")) if source else []
    if parts and not any(state.iterdir()):
        joined = io.BytesIO(b"".join(part.read_bytes() for part in parts))
        with tarfile.open(fileobj=joined) as archive:
            archive.extractall(state, filter="data")


def pack(stage: str, state: Path, out: Path) -> str:
    """Pack the state into files that come back from such a machine; says what became of it."""
    if not any(state.iterdir()):
        return "nothing to go on with"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add(state, ".")
    content = stream.getvalue()
    if len(content) > MOST_PARTS * PART_BYTES:
        return f"{len(content) >> 20} MiB, which is more than can come back: it stays on this machine"
    for k in range(0, len(content), PART_BYTES):
        (out / f"{stage}.state.{k // PART_BYTES:02d}").write_bytes(content[k : k + PART_BYTES])
    return f"{len(content) / 2**20:.1f} MiB"


def opening(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    """The report as it begins, with the figures of an earlier call on such a card and commit."""
    from bgbench.core.devices import describe_device
    from bgbench.runs.provenance import provenance

    known = provenance()
    report = {
        "stage": args.stage,
        "tiny": args.tiny,
        "device": describe_device(device),
        "versions": {"bgbench": known["bgbench"], "python": known["python"], **known["libraries"]},
        "commit": args.commit or str(known["git"]),
        "done": True,
        "figures": {},
        "failed": {},
        "left_out": [],
    }
    earlier = args.source / f"{args.stage}.json" if args.source else None
    if earlier and earlier.exists():
        before = json.loads(earlier.read_text())
        if all(before[key] == report[key] for key in ("device", "commit", "tiny")):
            report["figures"] = before["figures"]
    return report


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--seconds", type=float, default=540.0, help="the stage stops before")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the report and of the packed state"
    )
    parser.add_argument("--from", dest="source", type=Path, help="folder with what an earlier call put out")
    parser.add_argument(
        "--work", type=Path, help="folder of the state; default: one on this machine that stays"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    parser.add_argument("--commit", default="", help="of the source, where git is not at hand")
    parser.add_argument("--tiny", action="store_true", help="sizes of a rehearsal")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run one stage. Returns 1 if something in it failed, else 0."""
    args = parse(words)
    started = time.monotonic()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(ROOT / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
    args.out.mkdir(parents=True, exist_ok=True)
    state = args.work or Path(tempfile.gettempdir()) / "bgbench-gpu" / args.stage
    state.mkdir(parents=True, exist_ok=True)
    unpack(args.source, args.stage, state)
    if args.stage.startswith("train"):
        # They train on what the stage `data` made, where that is at hand.
        (state.parent / "data").mkdir(exist_ok=True)
        unpack(args.source, "data", state.parent / "data")
    with installed():
        from bgbench.core.devices import find_device

        device = find_device(args.device)
        work = Work(
            args.stage, device, args.tiny, started + args.seconds - PACKING_SECONDS, args.out, state,
            opening(args, device),
        )  # fmt: skip
        stages: dict[str, Callable[[], None]] = {
            "laws": lambda: laws(work),
            "speeds": lambda: speeds(work),
            "data": lambda: data(work),
            "train-verse": lambda: train(
                work, "verse", "verse-midi", {"steps": "20000", "save_every": "250"}
            ),
            "train-prose": lambda: train(
                work, "prose", "prose-midi", {"steps": "60000", "save_every": "500"}
            ),
            "suite": lambda: suite(work),
        }
        stages[args.stage]()
    report = work.report
    report["done"] = report["done"] and not report["left_out"] and not report["failed"]
    report["state"] = pack(args.stage, state, args.out)
    report["seconds"] = round(time.monotonic() - started, 1)
    work.save()
    print(
        f"{args.stage}: {'done' if report['done'] else 'to be gone on with'}; {report['state']}", flush=True
    )
    for name, complaint in report["failed"].items():
        print(f"failed: {name}: {complaint}", file=sys.stderr)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
