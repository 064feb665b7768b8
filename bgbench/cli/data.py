"""`bgbench data …`: simulate references and training sets, verify what is packaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bgbench.cli.targets import Target, targets_of
from bgbench.core.errors import BgbenchError
from bgbench.core.options import parse_settings
from bgbench.core.resources import data_path
from bgbench.core.types import Reference, Suite
from bgbench.dynamics.engines import ENGINES, SOFTENED, Settings
from bgbench.evaluation.protocols import get_protocol
from bgbench.evaluation.suites import load_suite
from bgbench.references.certificates import write_certificate
from bgbench.references.diagnostics import certify_again, is_current
from bgbench.references.providers import own_folder, reference_path
from bgbench.references.simulate import Job, simulate_reference, simulate_training_set, spacing
from bgbench.references.store import read_reference
from bgbench.references.training import covering_sequences, refuse_held_out, training_sequences
from bgbench.systems.peptides import peptide

if TYPE_CHECKING:
    from bgbench.references.draws import ReweightedDraws, ReweightingPlan

app = typer.Typer(help="References and training data.", no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

TRAINING = Settings(
    replicas=32, rungs=2, high=400.0, step=2.0, hydrogen_mass=3.0, round_steps=100, rounds_per_frame=4,
    warm_up=30, anneal_steps=10_000,
)  # fmt: skip
"""Short and broad: hydrogens of 3 Da allow 2 fs and leave the distribution of conformations alone."""

SOFTENED_TRAINING = replace(SOFTENED, anneal_steps=5_000, warm_up=50)
"""Short: torsion moves make broad starts unnecessary."""


def reference_settings(engine: str) -> Settings:
    """Settings of an engine for references."""
    return SOFTENED if engine == "softened" else replace(Settings(), engine=engine)


def training_settings(engine: str) -> Settings:
    """Settings of an engine for training and validation sets."""
    return SOFTENED_TRAINING if engine == "softened" else replace(TRAINING, engine=engine)


Temperature = Annotated[float | None, typer.Option(help="K; default: the suite's, 310 of sequences")]
Cover = Annotated[
    list[Path] | None,
    typer.Option(help="training peptides: choose sequences with neighbours those lack; repeat for more"),
]


def sequences_to_train_on(length: int, count: int, cover: list[Path] | None) -> list[str]:
    """Training sequences in a random order, or those that cover neighbours which the folders' peptides lack.

    Raises:
        BgbenchError: for a folder without peptides, or if there are not so many sequences.
    """
    if not cover:
        return training_sequences(length, count)
    for folder in cover:
        if not any(folder.glob("*.npz")):
            raise BgbenchError(f"--cover {folder}: the folder holds no training peptides (*.npz)")
    return covering_sequences(length, count, [path.stem for folder in cover for path in folder.glob("*.npz")])


@app.command("simulate")
def simulate_(
    targets: Annotated[list[str] | None, typer.Argument(help="suites or sequences")] = None,
    engine: Annotated[
        str, typer.Option(help="batched, softened (best for references) or openmm")
    ] = "batched",
    replicas: Annotated[int | None, typer.Option(help="independent starts")] = None,
    frames: Annotated[int | None, typer.Option(help="frames a system, over all replicas")] = None,
    ns: Annotated[
        float | None, typer.Option(help="nanoseconds of each replica; sets the frame spacing")
    ] = None,
    temperature: Temperature = None,
    step: Annotated[float | None, typer.Option(help="fs; above 1, with heavier hydrogens")] = None,
    hydrogen_mass: Annotated[float | None, typer.Option(help="Da; 0: as the force field has it")] = None,
    seed: Annotated[int, typer.Option(help="seed of starts, dynamics and swaps")] = 0,
    to: Annotated[Path | None, typer.Option("--out", help="folder; default: your references")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a run was stopped")] = False,
    train: Annotated[bool, typer.Option("--train", help="a training set of many short runs")] = False,
    short: Annotated[
        bool, typer.Option("--short", help="named peptides, simulated as training sets are: for validation")
    ] = False,
    length: Annotated[int, typer.Option(help="with --train and no sequences: residues")] = 2,
    count: Annotated[int, typer.Option(help="with --train and no sequences: how many peptides")] = 100,
    cover: Cover = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Simulate references, or with --train a training set; systems that have a file are skipped."""
    if engine not in ENGINES:
        raise BgbenchError(f"--engine {engine}: choose one of {', '.join(ENGINES)}")
    systems = targets_of(
        targets or (sequences_to_train_on(length, count, cover) if train else []), temperature
    )
    if not systems:
        raise BgbenchError("name suites or sequences to simulate, or add --train")
    if train:
        refuse_held_out([target.name for target in systems])
    quick = train or short
    settings = replace(training_settings(engine) if quick else reference_settings(engine), seed=seed)
    options: dict[str, Any] = {"replicas": replicas, "step": step, "hydrogen_mass": hydrogen_mass}
    settings = replace(settings, **{name: value for name, value in options.items() if value is not None})
    n = frames if frames is not None else 480 if quick else 10_000
    if ns is not None:
        settings = replace(settings, rounds_per_frame=spacing(settings, n, ns))
    folder = to or (Path("training") if train else Path("validation") if short else own_folder())
    simulate = simulate_training_set if quick else simulate_reference
    for target in systems:
        simulate_one(Job(target.system(), settings, n, folder / target.path), simulate, resume, quiet)


@app.command("weigh")
def weigh_(
    sampler: Annotated[str, typer.Argument(help="a sampler with a density")],
    targets: Annotated[
        list[str] | None, typer.Argument(help="sequences; default: --length and --count")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, the sampler's")] = None,
    draws: Annotated[int, typer.Option(help="draws a peptide, one energy evaluation each")] = 4096,
    frames: Annotated[int, typer.Option(help="frames resampled from the draws")] = 640,
    least: Annotated[
        float, typer.Option(help="effective samples below which a peptide gets no file")
    ] = 100.0,
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
    to: Annotated[Path, typer.Option("--out", help="folder")] = Path("training"),
    length: Annotated[int, typer.Option(help="without sequences: residues")] = 2,
    count: Annotated[int, typer.Option(help="without sequences: how many peptides")] = 100,
    cover: Cover = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make training sets from a sampler's draws, reweighted to the target and resampled to equal weights.

    Peptides that have a file are skipped.
    """
    from bgbench.cli.progress import steps
    from bgbench.references.draws import ReweightingPlan, reweight_draws

    names = [target.name for target in targets_of(targets or sequences_to_train_on(length, count, cover))]
    refuse_held_out(names)
    plan = ReweightingPlan(sampler, parse_settings(option), draws, frames, least, seed)
    built = plan.build()
    paths = {name: to / reference_path(name, 310.0) for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    with steps(err, "reweighting", quiet, len(missing)) as begin_step:
        for name in missing:
            begin_step(name)
            result = reweight_draws(peptide(name), built, plan, paths[name])
            if not quiet:
                # On one terminal, through the console of the bar, which is then drawn below.
                screen = err if out.is_terminal and err.is_terminal else out
                screen.print(f"{name}: {outcome(result, plan, paths[name])}", soft_wrap=True)


def outcome(result: "ReweightedDraws", plan: "ReweightingPlan", path: Path) -> str:
    """What became of a peptide's draws, as text."""
    effective, reference = result.effective_samples, result.reference
    if reference is None:
        return (
            f"{effective:.1f} effective samples of {plan.draws}, fewer than {plan.least:g}: no file written"
        )
    return f"{reference.n_samples} frames of {effective:.0f} effective samples → {path}"


def simulate_one(job: Job, simulate: Callable[[Job], Reference], resume: bool, quiet: bool) -> None:
    """Simulate one system unless it has a file, with a progress bar on a terminal."""
    name = job.system.name
    if job.out.exists():
        if not quiet:
            err.print(f"{name}: ready in {job.out}")
        return
    if job.work.exists() and not resume:
        raise BgbenchError(f"{job.work} holds an unfinished run; add --resume to go on, or delete it")
    from bgbench.cli.progress import simulation_bar

    with simulation_bar(err, name, quiet) as progress:
        reference = simulate(replace(job, progress=progress))
    if not quiet:
        left_out = sum(reference.certificate["left_out"].values())
        out.print(
            f"{name}: {reference.n_samples} frames, grade {reference.grade}, {left_out} left out → {job.out}"
        )


@app.command("fetch")
def fetch_(
    data_set: Annotated[str, typer.Argument(help="many-peptides-md, the published reference data")],
    suite: Annotated[str, typer.Option(help="whose systems")],
    folder: Annotated[Path | None, typer.Option("--from", help="a folder in the published layout")] = None,
    revision: Annotated[
        str | None, typer.Option(help="revision of the data set; default: a pinned commit")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="folder; default: your references")] = None,
) -> None:
    """Fetch published references; those that have a file are skipped, those that are refused are named."""
    from bgbench.references.hub import HubUnreachable
    from bgbench.references.published import PINNED, Source, import_published

    if data_set != "many-peptides-md":
        raise BgbenchError(f"unknown data set '{data_set}'; known: many-peptides-md")
    wanted = load_suite(suite)
    source, refused = Source(folder, revision or PINNED), list[str]()
    for name in wanted.systems:
        target = Target(name, wanted.temperature, wanted.forcefield)
        path = (to or own_folder()) / target.path
        if path.is_file():
            err.print(f"{name}: ready in {path}")
            continue
        try:
            reference = import_published(target.system(), source, path)
        except HubUnreachable:
            raise
        except BgbenchError as error:
            err.print(f"{name}: {error}", soft_wrap=True)
            refused.append(name)
            continue
        out.print(f"{name}: {reference.n_samples} frames, grade {reference.grade} → {path}", soft_wrap=True)
    if refused:
        raise BgbenchError(f"refused: {', '.join(refused)}; the same command tries them again")


@app.command("compare")
def compare_(
    targets: Annotated[list[str], typer.Argument(help="suites or sequences")],
    other: Annotated[
        Path | None, typer.Option("--with", help="a folder; default: your own against the packaged ones")
    ] = None,
    temperature: Temperature = None,
) -> None:
    """Measure two references of a system against each other, beside the noise floors of both."""
    from bgbench.reports.agreement import MEANING, both, gaps

    protocol = get_protocol(Suite.protocol)
    for target in targets_of(targets, temperature):
        name, system = target.name, target.system()
        first, second = both(system, other)
        notes = [f"{r.certificate['engine']}, {r.n_samples} frames, {r.grade}" for r in (first, second)]
        out.print(f"{name}: {notes[0]} against {notes[1]}")
        for gap in gaps(system, (first, second), protocol):
            out.print(f"  {gap}", soft_wrap=True)
    out.print(MEANING, soft_wrap=True)


@app.command("certify")
def certify_(
    targets: Annotated[list[str], typer.Argument(help="suites or sequences")],
    place: Annotated[Path | None, typer.Option("--in", help="folder; default: your references")] = None,
    temperature: Temperature = None,
) -> None:
    """Grade references again from their frames, where their certificates lack a coordinate of today's.

    The new certificate is written beside the reference (SEQ.certificate.json); its frames are not touched.
    """
    for target in targets_of(targets, temperature):
        name, system = target.name, target.system()
        path = (place or own_folder()) / target.path
        reference = read_reference(path, system)
        if reference.certificate["engine"] not in ENGINES:
            raise BgbenchError(
                f"{path} was not simulated but made by '{reference.certificate['engine']}', and its frames "
                "alone cannot say how good it is; only simulated references are certified"
            )
        fresh = certify_again(system, reference)
        if is_current(reference.certificate, fresh):
            out.print(f"{name}: {reference.grade}, as its certificate says")
        else:
            write_certificate(path, fresh)
            out.print(
                f"{name}: {reference.grade} → {fresh['grade']}, R̂ up to {max(fresh['rhat'].values()):.2f}"
            )


@app.command()
def verify(
    folder: Annotated[Path | None, typer.Argument(help="default: the packaged references")] = None,
) -> None:
    """Check every reference: checksums, shapes, and certificate and energies against all its frames."""
    from bgbench.references.soundness import references_in, verify_reference
    from bgbench.references.sums import missing_files

    place = folder or data_path("references")
    absent = missing_files(place) if place.is_dir() else []
    for name in absent:
        err.print(f"bgbench: {place / name} is listed and not there; fetch or simulate it", soft_wrap=True)
    paths = references_in(place)
    unsound = len(absent)
    for path in paths:
        try:
            reference, energy_error = verify_reference(path)
        except BgbenchError as error:
            err.print(f"bgbench: {error}", soft_wrap=True)
            unsound += 1
            continue
        name = path.stem if path == place else path.relative_to(place).with_suffix("")
        out.print(
            f"{name}: {reference.n_samples} frames, {reference.grade}, stored energies within "
            f"{energy_error:.2g} kT of those of the rounded positions, sha256 {reference.sha256[:12]}",
            soft_wrap=True,
        )
    if unsound:
        raise typer.Exit(2)
