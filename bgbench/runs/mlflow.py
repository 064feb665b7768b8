"""MLflow as a mirror of run folders: a parent run for the suite, a nested run for each cell.

The records on disk are the source. Runs are found again by their tags, so that sending twice adds nothing.
"""

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.runs.databases import (
    ARTIFACTS,
    SCHEME,
    file_of,
    is_damage,
    move_aside,
    one_sender,
    open_store,
    own_store,
    refuse_missing_folder,
)
from bgbench.runs.records import Record, read_record
from bgbench.runs.runfolder import RunFolder

EXPERIMENT = "bgbench"

SCHEMES = (
    "sqlite", "postgresql", "mysql", "mssql", "file", "http", "https", "databricks", "databricks-uc", "uc",
    *(point.name for point in entry_points(group="mlflow.tracking_store")),
)  # fmt: skip
"""Schemes of URIs that MLflow tracks to, with those that its own plugins add."""


PAGE = 1_000
"""Runs that are looked up at once; servers refuse many more."""


class _ElsewhereError(BgbenchError):
    """The store's files are below a folder that is not its own; the message names it."""


def mirror_to_mlflow(path: Path, uri: str, sent: dict[str, int]) -> str:
    """Send every record of the run folder `path` that `uri` does not hold yet.

    To be called in a process of its own, whose environment, log levels and database connections it changes.

    Args:
        path: the run folder.
        uri: MLflow's tracking URI, the same at every call in one process.
        sent: for each cell whose record this process has sent, when that was written. It is brought up to
            date here; these records are neither read nor looked for again.

    Returns:
        A sentence where a store that could not be used was moved aside, else nothing.

    Raises:
        Exception: whatever MLflow raises; the records stay where they are.
    """
    folder, file = RunFolder.open(path), file_of(uri)
    _prepare_process(uri)
    with one_sender(uri, _key_of(folder)):
        if file is None:
            refuse_missing_folder(uri)
            _send_new(folder, uri, sent)
            return ""
        notices = [open_store(file, _make_store)]
        if any(notices):
            sent.clear()
        try:
            _send_new(folder, uri, sent)
        except Exception as error:
            fault = _fault_of(error, own=uri == own_store(path))
            if not fault:
                raise
            notices += [move_aside(file, fault), open_store(file, _make_store)]
            sent.clear()
            _send_new(folder, uri, sent)
    return "; ".join(filter(None, notices))


def _fault_of(error: Exception, *, own: bool) -> str:
    """Why a store has to be made anew; empty for any other error. A run's own store can be: it is a copy."""
    if isinstance(error, _ElsewhereError):
        return f"came here with the run folder: {error}" if own else ""
    return f"is damaged ({type(error).__name__})" if is_damage(error) else ""


def _make_store(file: Path) -> None:
    """Make a SQLite store with its tables and its experiment."""
    from mlflow import MlflowClient

    artifacts = file.resolve().parent / ARTIFACTS
    MlflowClient(f"{SCHEME}{file}").create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri())


def _send_new(folder: RunFolder, uri: str, sent: dict[str, int]) -> None:
    """Send the records that are not in `sent` and not in the store; the caller holds the store's lock."""
    from mlflow import MlflowClient

    written = {cell.name: _written(folder.record_path(cell)) for cell in folder.plan.cells}
    waiting = [cell for cell in folder.plan.cells if written[cell.name] not in (None, sent.get(cell.name))]
    client = MlflowClient(tracking_uri=uri)
    experiment = _experiment(client, uri)
    suite_run = _SuiteRun(experiment, _parent(client, experiment, folder))
    all_new = sent and not any(cell.name in sent for cell in waiting)
    stored = {} if all_new else _stored_runs(client, suite_run)
    for cell in waiting:
        with suppress(BgbenchError):  # `--resume` names a damaged record and runs its cell again
            record = read_record(folder.record_path(cell))
            item = _Item(folder, record, sha256_file(folder.record_path(cell)))
            _replace(client, suite_run, item, stored.get(cell.name, []))
            sent[cell.name] = written[cell.name] or 0
    if waiting and file_of(uri) is None:
        _delete_doubles(client, suite_run)
    status = "FINISHED" if len(sent) == len(folder.plan.cells) else "RUNNING"
    client.set_terminated(suite_run.id, status)


def _written(path: Path) -> int | None:
    """When a record was written, in ns; None if it is not there. Records are replaced, never changed."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class _SuiteRun:
    """MLflow's ids of the experiment and of the run that stands for the suite."""

    experiment: str
    id: str


@dataclass(frozen=True)
class _Item:
    """A record to send, and the hash of its file."""

    folder: RunFolder
    record: Record
    fingerprint: str


def _experiment(client: Any, uri: str) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise BgbenchError(
            f"its experiment '{EXPERIMENT}' was deleted; restore it with `MLFLOW_TRACKING_URI={uri} mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}`"
        )
    file = file_of(uri)
    if experiment is not None:
        if file is not None:
            _refuse_files_elsewhere(experiment.artifact_location, file)
        return str(experiment.experiment_id)
    if file is not None:
        artifacts = file.resolve().parent / ARTIFACTS
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri()))
    return str(client.create_experiment(EXPERIMENT))


def _refuse_files_elsewhere(location: str, file: Path) -> None:
    """Raise if the files of a store were beside it before it was moved or copied: they would be put there,
    and a folder that is gone would be made anew."""
    place = Path(url2pathname(location.removeprefix("file://")))
    if location.startswith("file://") and place.name == ARTIFACTS and place.parent != file.resolve().parent:
        raise _ElsewhereError(f"it puts files into {place}; name another store with --tracking-uri")


def _key_of(folder: RunFolder) -> str:
    """What identifies a run in a store, whatever its folder is called."""
    return f"{folder.plan.id}-{folder.plan.created}"


def _parent(client: Any, experiment: str, folder: RunFolder) -> str:
    """The run of the suite; of two that were made at once, both senders choose the same one."""
    key, plan = f"tags.bgbench_run = '{_key_of(folder)}'", folder.plan
    if runs := client.search_runs([experiment], key):
        return _first(runs)
    name = f"{plan.sampler} {plan.suite}"
    run = client.create_run(
        experiment, tags={"bgbench_run": _key_of(folder), "mlflow.runName": name}, run_name=name
    )
    for field in ("sampler", "suite", "estimator", "protocol", "budget"):
        client.log_param(run.info.run_id, field, getattr(plan, field))
    first = _first(client.search_runs([experiment], key))
    if first != run.info.run_id:
        client.delete_run(run.info.run_id)
    return first


def _first(runs: list[Any]) -> str:
    """Of several runs, the id of the one that was made first."""
    return str(min(runs, key=lambda run: (run.info.start_time, run.info.run_id)).info.run_id)


def _stored_runs(client: Any, suite_run: _SuiteRun) -> dict[str, list[Any]]:
    """The nested runs that the store holds, by cell name."""
    nested = f"tags.`mlflow.parentRunId` = '{suite_run.id}'"
    stored: dict[str, list[Any]] = {}
    token: str | None = None
    while token != "":
        page = client.search_runs([suite_run.experiment], nested, max_results=PAGE, page_token=token)
        for run in page:
            stored.setdefault(run.data.tags["mlflow.runName"], []).append(run)
        token = page.token or ""
    return stored


def _delete_doubles(client: Any, suite_run: _SuiteRun) -> None:
    """Delete all but the first of the runs of one cell: a sender on another machine may have been as fast."""
    for runs in _stored_runs(client, suite_run).values():
        first = _first(runs)
        for run in runs:
            if run.info.run_id != first:
                with suppress(Exception):  # the other sender may have deleted it by now
                    client.delete_run(run.info.run_id)


def _is_complete(run: Any, item: _Item) -> bool:
    same = run.data.tags.get("bgbench_record") == item.fingerprint
    return same and run.info.status in ("FINISHED", "FAILED")


def _replace(client: Any, suite_run: _SuiteRun, item: _Item, stored: list[Any]) -> None:
    """Send a record unless one of the runs `stored` for its cell is its copy; delete the others."""
    copies = [run for run in stored if _is_complete(run, item)]
    first = _first(copies) if copies else ""
    for run in stored:
        if run.info.run_id != first:
            client.delete_run(run.info.run_id)
    if not copies:
        _send(client, suite_run, item)


def _send(client: Any, suite_run: _SuiteRun, item: _Item) -> None:
    record = item.record
    tags = {
        "mlflow.parentRunId": suite_run.id,
        "mlflow.runName": record.cell.name,
        "bgbench_record": item.fingerprint,
        "status": record.status,
        "leakage": record.leakage,
    }
    run = client.create_run(suite_run.experiment, tags=tags, run_name=record.cell.name).info
    client.log_batch(run.run_id, metrics=_metrics(record), params=_params(record))
    _send_files(client.tracking_uri, run.artifact_uri, item)
    client.set_terminated(run.run_id, "FINISHED" if record.status == "ok" else "FAILED")


def _send_files(uri: str, place: str, item: _Item) -> None:
    """Send record, traceback and figures to `place`, the address of the new run's artifacts.

    `client.log_artifact` would ask the server for that address again, once for each file.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files, cell = get_artifact_repository(place, tracking_uri=uri), item.record.cell
    files.log_artifact(str(item.folder.record_path(cell)))
    traceback = item.folder.traceback_path(cell)
    if traceback.exists():
        files.log_artifact(str(traceback))
    for figure in sorted((item.folder.path / "figures").glob(f"{cell.name}-*.png")):
        files.log_artifact(str(figure), "figures")


def _params(record: Record) -> list[Any]:
    from mlflow.entities import Param

    values = record.cell.model_dump().items()
    return [Param(key, json.dumps(value) if isinstance(value, dict) else str(value)) for key, value in values]


def _metrics(record: Record) -> list[Any]:
    from mlflow.entities import Metric

    numbers = {**record.metrics, **{f"floor_{name}": value for name, value in record.floors.items()}}
    numbers["budget_used"] = record.budget.used
    now = int(time.time() * 1000)
    return [Metric(key, value, now, 0) for key, value in numbers.items() if value is not None]


@cache
def _prepare_process(uri: str) -> None:
    """Settings of the tracking process, which mirrors to one `uri` and does nothing else.

    MLflow reports home unless it is forbidden. A server that is down should fail soon: two more tries, 20 s a
    request, whatever rest the server asks for. Connections to a SQLite store end with each use, since the
    file may be moved aside. What the environment says already, stays.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
    if uri.startswith(SCHEME):
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    import mlflow  # noqa: F401  (importing it sets its log level)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if uri.startswith("sqlite:"):
        _write_without_waiting()


def _write_without_waiting() -> None:
    """SQLite no longer waits for the disk at each of the seven commits of a record.

    If the machine crashes, the mirror may be lost, and `bgbench track` makes it again.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def opened(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", opened)
