"""Pack a run into a submission folder, ready for a pull request."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from bgbench.authoring.check import CheckReport
from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file, write_json
from bgbench.leaderboard.details import laws_of, machine
from bgbench.leaderboard.entries import Entry, EntryFiles, Remote, digest_of, open_entry
from bgbench.leaderboard.folders import CURVE, ENTRY, LAWS, NAME, PLAN
from bgbench.leaderboard.problems import Problem, Refused, refusal
from bgbench.leaderboard.rules import FOLDER_BYTES
from bgbench.leaderboard.validate import SILENT, validate
from bgbench.reports.curves import curve
from bgbench.reports.headings import is_control
from bgbench.runs.records import Record
from bgbench.runs.runfolder import Plan, RunFolder


def default_name(plan: Plan) -> str:
    """Sampler, options, estimator, suite and budget, as a file name."""
    cell = plan.cells[0]
    options = [
        value.rpartition("/")[2] for value in (*cell.options.values(), *cell.estimator_options.values())
    ]
    words = "-".join([plan.sampler, *options, plan.estimator, plan.suite, plan.protocol, str(plan.budget)])
    return "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in words.lower())[:100]


def submit(
    run: Path,
    to: Path,
    entry_fields: Mapping[str, Any],
    arrays_url: str | None = None,
    progress: Callable[[str], None] = SILENT,
    check: CheckReport | None = None,
) -> EntryFiles:
    """Pack the run in `run` into a folder of its name below `to`, and validate what was packed.

    Args:
        run: a finished run.
        to: the folder that gets the entry's folder.
        entry_fields: fields of `Entry`, and `name`, the entry's. Without `control`, the entry is a control if
            its sampler is registered as one.
        arrays_url: if given, arrays stay out of the entry: FILE is at `arrays_url/FILE`; if it is "", with
            the authors, who may no longer have all of them.
        progress: called with the name of the cell being recomputed.
        check: what `bgbench check` found of the sampler, to be packed and shown.

    Raises:
        Refused: if the run is incomplete, was edited, or would not be taken; the folder is removed again.
        BgbenchError: if there is no run, its curve is damaged, or the folder cannot be written.
    """
    source = RunFolder.open(run)
    refuse_unfinished(source)
    fields = dict(entry_fields)
    name = fields.pop("name", "") or default_name(source.plan)
    fields.setdefault("control", is_control(source.plan.sampler))
    target = to / name
    if not NAME.fullmatch(name):
        raise refusal("path", name[:60], "entries are named in lower case: letters, digits, . _ -")
    if target.exists():
        raise refusal("layout", str(target), "is there already; choose another --name, or delete it")
    try:
        _pack(source, target, fields, arrays_url)
        if check is not None:
            write_json(target / LAWS, check)
        validate(target, source.path / "arrays", progress=progress).required()
        return open_entry(target)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise BgbenchError(f"cannot write {target}: {error.strerror}; nothing was packed") from error
        raise


def refuse_unfinished(run: RunFolder) -> None:
    """Raise Refused for damaged records, and for cells that never ran."""
    records, damaged = run.readable()
    if damaged:
        raise Refused(*(Problem("schema", run.path.name, sentence) for sentence in damaged))
    recorded = {record.cell.name for record in records}
    absent = [cell.name for cell in run.plan.cells if cell.name not in recorded]
    if absent:
        text = f"{len(absent)} of {len(run.plan.cells)} cells never ran ({absent[0]} …); finish with --resume"
        raise refusal("incomplete", run.path.name, text)


def _pack(source: RunFolder, target: Path, fields: dict[str, Any], arrays_url: str | None) -> None:
    records = source.records()
    curve(source)
    for folder in ("cells", "arrays"):
        (target / folder).mkdir(parents=True)
    write_json(target / PLAN, source.plan.model_copy(update={"tracking_uri": ""}))
    for record in records:
        write_json(target / "cells" / f"{record.cell.name}.json", record)
    if (points := source.read_curve()) is not None:
        write_json(target / CURVE, points)
    remote = _arrays(source, records, target, arrays_url)
    made_by = source.plan.inputs.plugins.get("sampler", "")
    pin = pin_of(made_by, source.plan.sources.get("sampler"))
    try:
        write_json(target / ENTRY, Entry(**{"pin": pin, **fields, "remote": remote}))
    except ValidationError as error:
        first = error.errors()[0]
        raise refusal("schema", ENTRY, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def pin_of(made_by: str, source: str | None) -> str:
    """What to install to get a sampler again.

    Args:
        made_by: `distribution version`.
        source: where the distribution came from (`source_of`); None where the plan does not say.

    >>> pin_of("mine 1.0", "git+https://example.org/mine@abc"), pin_of("mine 1.0", "")
    ('mine==1.0 @ git+https://example.org/mine@abc', 'mine==1.0')
    """
    pin = made_by.replace(" ", "==")
    return f"{pin} @ {source}" if source else pin


def _arrays(source: RunFolder, records: list[Record], target: Path, url: str | None) -> dict[str, Remote]:
    """Copy the arrays, or say where they will be."""
    remote, total = {}, 0
    for record in records:
        path = source.arrays_path(record.cell)
        if record.arrays is None:
            continue
        gone = url == "" and not path.exists()
        if not gone and (not path.is_file() or sha256_file(path) != record.arrays.sha256):
            raise refusal("hash", f"arrays/{path.name}", "missing, or changed since the run")
        size = None if gone else path.stat().st_size
        total += size or 0
        if url is not None:
            address = f"{url.rstrip('/')}/{quote(path.name)}" if url else ""
            remote[record.cell.name] = Remote(url=address, sha256=record.arrays.sha256, size=size)
        elif total > FOLDER_BYTES:
            text = f"over {FOLDER_BYTES:,} bytes of arrays: publish them, give --arrays-url; or --no-arrays"
            raise refusal("size", source.path.name, text)
        else:
            shutil.copyfile(path, target / "arrays" / path.name)
    return remote


def public(files: EntryFiles) -> list[str]:
    """A line for each thing that a submission makes public."""
    paths = [path for path in files.folder.rglob("*") if path.is_file()]
    first = files.records[0]
    system = first.provenance.get("host", {}).get("system", "?")
    cell = files.plan.cells[0]
    settings = {**cell.options, **{f"estimator.{k}": v for k, v in cell.estimator_options.items()}}
    remote = list(files.entry.remote.values())
    where = "in the folder"
    if remote:
        url, gone = remote[0].url, sum(item.size is None for item in remote)
        place = "kept by the authors" + (f" but {gone} of {len(remote)}, which are gone" if gone else "")
        place = f"all {gone} are gone" if gone == len(remote) else place
        where = f"at {url.rpartition('/')[0]}" if url else f"{place}: tier reported"
    return [
        f"{len(paths)} files, {sum(path.stat().st_size for path in paths):,} bytes, sha256 of the records "
        f"{digest_of(files.folder)[:16]}…",
        f"authors: {', '.join(files.entry.authors)}; licence: {files.entry.licence}",
        f"plugin: {files.entry.pin}" + (f", source {files.entry.source}" if files.entry.source else ""),
        f"settings: {', '.join(f'{k}={v}' for k, v in settings.items()) or 'none'} (paths among them too)",
        *(f"{name}: {text}" for name, text in (("system", system), *machine(files.records))),
        f"card: {len(first.card.get('training_sequences', ()))} training sequences, "
        f"{first.card.get('training_hours', 0):g} hours, {first.card.get('n_parameters', 0):,} parameters",
        f"arrays: {where}",
        f"laws: {laws_of(files)}",
        *(f"failed: {name}: {why}" for name, why in files.missing),
    ]
