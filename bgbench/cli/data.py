"""`bgbench data …`: simulate references and training sets, fetch published ones, check and compare them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bgbench.cli.commands import App, Device
from bgbench.cli.targets import Target, targets_of
from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known, parse_changes, parse_settings
from bgbench.core.resources import data_path

if TYPE_CHECKING:
    from bgbench.references.draws import ReweightedDraws, ReweightingPlan
    from bgbench.references.simulate import Job

app = App(help="Make and check references and training sets.", no_args_is_help=True)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

TOGETHER = 8
"""Systems simulated at once on a GPU, which one of a few hundred walkers leaves mostly idle."""

REFERENCE_FRAMES = 10_000
TRAINING_FRAMES = 480


Targets = Annotated[list[str], typer.Argument(help="suites, or sequences such as AA")]
Temperature = Annotated[float | None, typer.Option(help="in K; default: the suite's, for sequences 310")]
Cover = Annotated[
    list[Path] | None,
    typer.Option(
        help="folder of training peptides: choose sequences whose neighbours it lacks; repeat for more; "
        "default: sequences in random order"
    ),
]


LENGTH, COUNT = 2, 100
"""Residues and number of the peptides that are chosen where none is named."""


def refuse_idle(values: Mapping[str, object], reason: str) -> None:
    """Raise BgbenchError naming the first option that has a value, though no effect for a `reason`."""
    for name, value in values.items():
        if value not in (None, False, []):
            raise BgbenchError(f"{name} has no effect {reason}; leave it out")


def sequences_to_train_on(length: int | None, count: int | None, cover: list[Path] | None) -> list[str]:
    """Training sequences in their random order, or those whose pairs of neighbours the `cover` folders lack.

    Of `LENGTH` residues and `COUNT` where that is None.

    Raises:
        BgbenchError: for a folder without peptides, or if there are fewer than `count` sequences.
    """
    from bgbench.references.training import covering_sequences, training_sequences

    length, count = LENGTH if length is None else length, COUNT if count is None else count
    if not cover:
        return training_sequences(length, count)
    for folder in cover:
        if not any(folder.glob("*.npz")):
            raise BgbenchError(f"--cover {folder}: the folder holds no training peptides (*.npz)")
    return covering_sequences(length, count, [path.stem for folder in cover for path in folder.glob("*.npz")])


def chosen_targets(targets: list[Target], only: list[str]) -> list[Target]:
    """The targets whose names are among `only`; all of them where that is empty.

    Raises:
        BgbenchError: for a name that no target has.
    """
    from bgbench.evaluation.suites import spell

    names = {spell(name) for name in only}
    for name in sorted(names - {target.name for target in targets}):
        raise BgbenchError(f"--only {name}: it is not among the systems that are named")
    return [target for target in targets if not names or target.name in names]


@app.command("simulate", example="bgbench data simulate GS --engine softened --frames 2000 --ns 0.1")
def simulate_(
    targets: Annotated[list[str] | None, typer.Argument(help="suites, or sequences such as AA")] = None,
    engine: Annotated[
        str,
        typer.Option(help="an engine that `bgbench list engines` names; softened is the best for references"),
    ] = "batched",
    replicas: Annotated[
        int | None, typer.Option(help="independent simulations of each system; default: the engine's")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="frames of each system, over all replicas; default: 10000, for training sets 480"),
    ] = None,
    ns: Annotated[
        float | None,
        typer.Option(help="nanoseconds of each replica; default: what the engine's spacing of frames makes"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="simulate this system alone; repeat for more; default: all"),
    ] = None,
    temperature: Temperature = None,
    step: Annotated[
        float | None,
        typer.Option(help="time step in fs; above 1 fs with heavier hydrogens; default: the engine's"),
    ] = None,
    hydrogen_mass: Annotated[
        float | None, typer.Option(help="in Da; 0: the force field's; default: the engine's")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the starts, the dynamics and the exchanges")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="another setting of the engine, as `bgbench options ENGINE` lists them; repeat for more; "
            "default: none",
            metavar="KEY=VALUE",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="folder of the results; default: your references, with --train training/, with --short "
            "validation/",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a simulation that was stopped")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="make a training set of many short simulations")
    ] = False,
    short: Annotated[
        bool,
        typer.Option("--short", help="simulate the named peptides as training sets are: for validation"),
    ] = False,
    length: Annotated[
        int | None, typer.Option(help="with --train and no targets: residues of a peptide; default: 2")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="with --train and no targets: number of peptides; default: 100")
    ] = None,
    cover: Cover = None,
    device: Annotated[
        str,
        typer.Option(
            help="where to simulate: auto (a GPU where there is one and the engine can use it), cpu, cuda or "
            "cuda:K"
        ),
    ] = "auto",
    together: Annotated[
        int | None,
        typer.Option(help=f"systems simulated at once; default: {TOGETHER} on a GPU, 1 on the CPU", min=1),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Simulate references, or with --train a training set. Systems whose file exists are skipped."""
    from bgbench.core.devices import AUTO, CPU, find_device
    from bgbench.core.plugins import plugins
    from bgbench.dynamics.engines import find_engine
    from bgbench.references.providers import own_folder
    from bgbench.references.simulate import Job, spacing
    from bgbench.references.training import refuse_held_out

    place = find_device(device)
    chosen = plugins().engines[engine].engine
    choosing = {"--length": length, "--count": count, "--cover": cover}
    if targets:
        refuse_idle(choosing, "where peptides are named")
    if not train:
        refuse_idle(choosing, "without --train")
    if train:
        refuse_idle({"--short": short}, "with --train, whose simulations are short")
    words = targets or (sequences_to_train_on(length, count, cover) if train else [])
    systems = chosen_targets(targets_of(words, temperature), only or [])
    if not systems:
        raise BgbenchError("name suites or sequences to simulate, or add --train")
    if train:
        refuse_held_out([target.name for target in systems])
    training = train or short
    changes: dict[str, Any] = {
        "replicas": replicas,
        "step": step,
        "hydrogen_mass": hydrogen_mass,
        "seed": seed,
    }
    words_of_engine = parse_settings(option)
    for name in (*changes, "engine"):
        if name in words_of_engine:
            flag = f"--{name.replace('_', '-')}"
            raise BgbenchError(f"--set {name}={words_of_engine[name]}: write {flag} {words_of_engine[name]}")
    settings = replace(
        parse_changes(
            chosen.training_settings() if training else chosen.reference_settings(),
            words_of_engine,
            owner=f"engine {engine}",
        ),
        **{name: value for name, value in changes.items() if value is not None},
    )
    n_frames = frames if frames is not None else TRAINING_FRAMES if training else REFERENCE_FRAMES
    if ns is not None:
        frame = {"--set rounds_per_frame": words_of_engine.get("rounds_per_frame")}
        refuse_idle(frame, "with --ns, which says how far apart frames are")
        settings = replace(settings, rounds_per_frame=spacing(settings, n_frames, ns))
    if device == AUTO and not chosen.any_device:
        place = CPU
    find_engine(settings, place)
    folder = to or (Path("training") if train else Path("validation") if short else own_folder())
    jobs = (
        Job(target.system(), settings, n_frames, folder / target.path, training, place) for target in systems
    )
    simulate_all(jobs, together or (1 if place == CPU else TOGETHER), resume, quiet)


@app.command("weigh", example="bgbench data weigh verse AS GS --out training")
def weigh_(
    sampler: Annotated[str, typer.Argument(help="a sampler with a density")],
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="sequences such as AA; default: --count peptides of --length residues"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="an option of the sampler; repeat for more; default: none", metavar="KEY=VALUE"
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="draws of each peptide, one energy evaluation each")] = 4096,
    frames: Annotated[int, typer.Option(help="frames that are resampled from the draws and stored")] = 640,
    least: Annotated[
        float, typer.Option(help="leave out peptides whose draws are worth fewer effective samples")
    ] = 100.0,
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
    to: Annotated[Path, typer.Option("--out", help="folder of the results")] = Path("training"),
    length: Annotated[
        int | None, typer.Option(help="without sequences: residues of a peptide; default: 2")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="without sequences: number of peptides; default: 100")
    ] = None,
    cover: Cover = None,
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make training peptides from a sampler's own draws, reweighted to the target.

    Peptides whose file exists are skipped.
    """
    from bgbench.cli.progress import steps
    from bgbench.core.devices import find_device
    from bgbench.references.draws import ReweightingPlan, reweight_draws
    from bgbench.references.training import refuse_held_out
    from bgbench.systems.peptides import peptide

    if targets:
        refuse_idle({"--length": length, "--count": count, "--cover": cover}, "where peptides are named")
    place = find_device(device)
    systems = targets_of(targets or sequences_to_train_on(length, count, cover))
    refuse_held_out([target.name for target in systems])
    plan = ReweightingPlan(sampler, parse_settings(option), draws, frames, least, seed)
    instance = plan.build()
    missing = [target for target in systems if not (to / target.path).exists()]
    with steps(err, "reweighting", quiet, len(missing)) as begin:
        for target in missing:
            begin(target.name)
            result = reweight_draws(peptide(target.name), instance, plan, to / target.path, place)
            if not quiet:
                # On one terminal, through the console of the bar, which is then drawn below.
                screen = err if out.is_terminal and err.is_terminal else out
                screen.print(f"{target.name}: {outcome(result, plan, to / target.path)}", soft_wrap=True)


def outcome(result: "ReweightedDraws", plan: "ReweightingPlan", path: Path) -> str:
    """What became of a peptide's draws, as text."""
    effective, reference = result.effective_samples, result.reference
    if reference is None:
        return (
            f"{effective:.1f} effective samples of {plan.draws}, fewer than {plan.least:g}: no file written"
        )
    return f"{reference.n_samples} frames of {effective:.0f} effective samples → {path}"


def simulate_all(jobs: "Iterable[Job]", at_once: int, resume: bool, quiet: bool) -> None:
    """Simulate systems unless their files exist, with a bar each on a terminal.

    Raises:
        BgbenchError: if an earlier simulation of one is unfinished, unless it is to be resumed.
    """
    from bgbench.cli.progress import simulation_bars
    from bgbench.references.simulate import simulate_together

    with simulation_bars(err, quiet) as begin:

        def missing() -> "Iterator[Job]":
            for job in jobs:
                if job.out.exists():
                    if not quiet:
                        err.print(f"{job.system.name}: {job.out} exists already")
                    continue
                if job.work.exists() and not resume:
                    raise BgbenchError(
                        f"{job.work} holds an unfinished simulation; add --resume to go on with it, or "
                        "delete it"
                    )
                yield replace(job, progress=begin(job.system.name))

        for job, reference in simulate_together(missing(), at_once):
            if quiet:
                continue
            left_out = sum(reference.certificate["left_out"].values())
            # On one terminal, through the console of the bars, which are then drawn below.
            screen = err if out.is_terminal and err.is_terminal else out
            screen.print(
                f"{job.system.name}: {reference.n_samples} frames, grade {reference.grade}, {left_out} left "
                f"out → {job.out}",
                soft_wrap=True,
            )


@app.command("fetch", example="bgbench data fetch many-peptides-md --suite tetrapeptides30")
def fetch_(
    data_set: Annotated[str, typer.Argument(help="many-peptides-md, the published reference data")],
    suite: Annotated[str, typer.Option(help="the suite whose systems are fetched")],
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="read the published files from this folder; default: from the hub"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="revision of the data set; default: a pinned commit")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="folder of the results; default: your references")
    ] = None,
) -> None:
    """Fetch published references and convert them. Those that exist are skipped; refused ones are named."""
    from bgbench.evaluation.suites import load_suite
    from bgbench.references.hub import HubUnreachable
    from bgbench.references.providers import own_folder
    from bgbench.references.published import PINNED, Source, import_published

    if data_set != "many-peptides-md":
        raise BgbenchError(f"unknown data set '{data_set}'{describe_known(data_set, ['many-peptides-md'])}")
    if folder is not None:
        refuse_idle({"--revision": revision}, "with --from, whose files are read as they are")
    wanted = load_suite(suite)
    source, refused = Source(folder, revision or PINNED), list[str]()
    for name in wanted.systems:
        target = Target(name, wanted.temperature_of(name), wanted.forcefield_of(name))
        path = (to or own_folder()) / target.path
        if path.is_file():
            err.print(f"{name}: {path} exists already")
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


@app.command("compare", example="bgbench data compare AA --with references")
def compare_(
    targets: Targets,
    other: Annotated[
        Path | None,
        typer.Option(
            "--with", help="a folder of references; default: compare your own with the packaged ones"
        ),
    ] = None,
    temperature: Temperature = None,
) -> None:
    """Measure the distances between two references of a system, beside the noise floors of both."""
    from bgbench.core.types import Suite
    from bgbench.evaluation.protocols import get_protocol
    from bgbench.reports.agreement import MEANING, measure_gaps, read_pair

    protocol = get_protocol(Suite.protocol)
    for target in targets_of(targets, temperature):
        system = target.system()
        first, second = read_pair(system, other)
        described = [f"{r.certificate['engine']}, {r.n_samples} frames, {r.grade}" for r in (first, second)]
        out.print(f"{target.name}: {described[0]} against {described[1]}")
        for gap in measure_gaps(system, first, second, protocol):
            out.print(f"  {gap}", soft_wrap=True)
    out.print(MEANING, soft_wrap=True)


@app.command("certify", example="bgbench data certify AA --in references")
def certify_(
    targets: Targets,
    place: Annotated[
        Path | None, typer.Option("--in", help="folder of the references; default: your references")
    ] = None,
    temperature: Temperature = None,
) -> None:
    """Grade simulated references again from their frames, if their certificate lacks a diagnostic.

    The new certificate is written beside the reference (SEQ.certificate.json); its frames are not touched.
    """
    from bgbench.core.plugins import plugins
    from bgbench.references.certificates import write_certificate
    from bgbench.references.diagnostics import certify_again, is_current
    from bgbench.references.providers import own_folder
    from bgbench.references.store import read_reference

    for target in targets_of(targets, temperature):
        name, system = target.name, target.system()
        path = (place or own_folder()) / target.path
        reference = read_reference(path, system)
        if reference.certificate["engine"] not in plugins().engines:
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


@app.command(example="bgbench data verify")
def verify(
    folder: Annotated[Path | None, typer.Argument(help="references; default: the packaged ones")] = None,
) -> None:
    """Check references: all there, all whole, with the certificate and the energies of their frames.

    The exit code is 2 if one is not.
    """
    from bgbench.references.soundness import references_in, verify_reference
    from bgbench.references.sums import missing_files

    place = folder or data_path("references")
    absent = missing_files(place) if place.is_dir() else []
    for name in absent:
        err.print(
            f"bgbench: {place / name} is listed but does not exist; fetch or simulate it", soft_wrap=True
        )
    n_unsound = len(absent)
    for path in references_in(place):
        try:
            reference, energy_error = verify_reference(path)
        except BgbenchError as error:
            err.print(f"bgbench: {error}", soft_wrap=True)
            n_unsound += 1
            continue
        name = path.stem if path == place else str(path.relative_to(place).with_suffix(""))
        out.print(
            f"{name}: {reference.n_samples} frames, {reference.grade}, stored energies within "
            f"{energy_error:.2g} kT of those of the rounded positions, sha256 {reference.sha256[:12]}",
            soft_wrap=True,
        )
    if n_unsound:
        raise typer.Exit(2)
