"""MLflow as a mirror of run folders: a parent run for the suite, a nested run for each cell.

Records are the source. What was sent is found again by tags, so sending twice adds nothing.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file
from bgbench.runs.records import Record, read_record
from bgbench.runs.runfolder import RunFolder

EXPERIMENT = "bgbench"


def mirror_to_mlflow(path: Path, uri: str, sent: dict[str, int]) -> None:
    """Send every record of the run folder `path` that `uri` does not hold yet.

    `sent` says when the record of each cell that this process has sent was written, and is kept up to date:
    those are neither read nor asked for again.

    Raises:
        Exception: whatever MLflow raises; the records stay where they are.
    """
    folder = RunFolder.open(path)
    written = {cell.name: _written(folder.record_path(cell)) for cell in folder.plan.cells}
    waiting = [cell for cell in folder.plan.cells if written[cell.name] not in (None, sent.get(cell.name))]
    with _quiet_mlflow(), patient(uri), unhurried(uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, uri)
        parent = _parent(client, experiment, folder)
        new = sent and not any(cell.name in sent for cell in waiting)
        held = {} if new else _held(client, experiment, parent)
        for cell in waiting:
            with suppress(BgbenchError):  # a damaged record is told of, and mended, by `--resume`
                record = read_record(folder.record_path(cell))
                item = _Item(folder, record, sha256_file(folder.record_path(cell)))
                _replace(client, (experiment, parent), item, held.get(cell.name, []))
                sent[cell.name] = written[cell.name] or 0
        client.set_terminated(parent, "FINISHED" if len(sent) == len(folder.plan.cells) else "RUNNING")


def _written(path: Path) -> int | None:
    """When a record was written; records are replaced, never changed. None before the first."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


class _Item:
    def __init__(self, folder: RunFolder, record: Record, fingerprint: str) -> None:
        self.folder = folder
        self.record = record
        self.fingerprint = fingerprint


def _experiment(client: Any, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    if uri.startswith("sqlite:///"):
        artifacts = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri()))
    return str(client.create_experiment(EXPERIMENT))


def _parent(client: Any, experiment: str, folder: RunFolder) -> str:
    plan = folder.plan
    key = f"{plan.id}-{plan.created}"
    found = client.search_runs([experiment], f"tags.bgbench_run = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    name = f"{plan.sampler} {plan.suite}"
    run = client.create_run(experiment, tags={"bgbench_run": key, "mlflow.runName": name}, run_name=name)
    for field in ("sampler", "suite", "estimator", "protocol", "budget"):
        client.log_param(run.info.run_id, field, getattr(plan, field))
    return str(run.info.run_id)


def _held(client: Any, experiment: str, parent: str) -> dict[str, list[Any]]:
    """The nested runs the store holds, by cell name."""
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=50_000)
    held: dict[str, list[Any]] = {}
    for run in found:
        held.setdefault(run.data.tags["mlflow.runName"], []).append(run)
    return held


def _is_complete(run: Any, item: _Item) -> bool:
    same = run.data.tags.get("bgbench_record") == item.fingerprint
    return same and run.info.status in ("FINISHED", "FAILED")


def _replace(client: Any, place: tuple[str, str], item: _Item, held: list[Any]) -> None:
    """Send a record, unless one of the runs `held` for its cell is it; the others are deleted."""
    stale = [run for run in held if not _is_complete(run, item)]
    for run in stale:
        client.delete_run(run.info.run_id)
    if len(stale) == len(held):
        _send(client, place, item)


def _send(client: Any, place: tuple[str, str], item: _Item) -> None:
    record, (experiment, parent) = item.record, place
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": record.cell.name,
        "bgbench_record": item.fingerprint,
        "status": record.status,
        "leakage": record.leakage,
    }
    run = client.create_run(experiment, tags=tags, run_name=record.cell.name).info
    client.log_batch(run.run_id, metrics=_metrics(record), params=_params(record))
    _send_files(client.tracking_uri, run.artifact_uri, item)
    client.set_terminated(run.run_id, "FINISHED" if record.status == "ok" else "FAILED")


def _send_files(uri: str, place: str, item: _Item) -> None:
    """Record, traceback and figures, to where the run just made says; `client.log_artifact` asks again."""
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


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """MLflow and alembic talk at INFO on a new store; MLflow reports home unless told not to."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401  (importing it resets its log level)

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def unhurried(uri: str) -> Iterator[None]:
    """A SQLite store does not wait for the disk at each of the seven commits a record takes.

    What a crash of the machine could cost is the mirror, and `bgbench track` makes it again.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def opened(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    if not uri.startswith("sqlite:"):
        yield
        return
    event.listen(Engine, "connect", opened)
    try:
        yield
    finally:
        event.remove(Engine, "connect", opened)


@contextmanager
def patient(uri: str) -> Iterator[None]:
    """A server that is down should fail soon: two more tries, 20 s a request."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = {
        key: value for key, value in patience.items() if uri.startswith("http") and key not in os.environ
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)
