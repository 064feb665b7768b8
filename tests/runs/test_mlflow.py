"""MLflow mirrors a run; a server that is down, or dies, costs no record and leaves no double."""

import concurrent.futures
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest

import bgbench
from bgbench.api import Observer
from bgbench.cli.main import app, guarded
from bgbench.runs import mirroring
from bgbench.runs.databases import own_store
from bgbench.runs.mirroring import Mirror
from bgbench.runs.runfolder import RunFolder


class Server:
    """`mlflow server` on loopback with artifacts, to be stopped and started again."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process = None

    def start(self):
        store, artefacts = f"sqlite:///{self._folder}/server.db", f"{self._folder}/kept"
        words = ["--backend-store-uri", store, "--artifacts-destination", artefacts, "--workers", "1"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health"):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self._folder / "server.log").read_text())

    def stop(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


def held(uri):
    """The nested runs a store holds: names, statuses, artifacts."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bgbench")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    nested = {run.data.tags["mlflow.runName"]: run for run in runs if run not in parents}
    assert len(nested) == len(runs) - 1
    return client, parents[0], nested


@pytest.fixture(scope="module")
def finished(tmp_path_factory, troubles, analytic_suite):
    """A finished run of four cells, untracked: not to be changed, but copied."""
    out = tmp_path_factory.mktemp("finished") / "run"
    bgbench.run("good", suite=analytic_suite, out=out, workers=0, tracking_uri="none")
    return out


class StopsTheServer(Observer):
    """Stops the server once it holds something and half of the cells are done."""

    def __init__(self, server):
        self.server = server
        self.done = 0
        self.before = 0
        self.notices = []

    def finished(self, record):
        self.done += 1
        if self.done == 6:
            while not self.before:
                time.sleep(0.3)
                self.before = self._complete()
            self.server.stop()

    def _complete(self):
        from mlflow import MlflowClient

        client = MlflowClient(self.server.uri)
        experiment = client.get_experiment_by_name("bgbench")
        if experiment is None:
            return 0
        runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
        return len(runs)

    def notice(self, message):
        self.notices.append(message)


@pytest.mark.slow
def test_a_server_that_dies_halfway_is_completed_later_without_doubles(
    server, tmp_path, troubles, analytic_suite, monkeypatch
):
    monkeypatch.setattr(mirroring, "REST", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    out, observer = tmp_path / "run", StopsTheServer(server)
    result = bgbench.run(
        "good", suite=analytic_suite, seeds=3, out=out, workers=1, tracking_uri=server.uri, observer=observer
    )
    assert [record.status for record in result] == ["ok"] * 12
    assert observer.before
    assert "records are safe" in observer.notices[-1]
    assert f"`bgbench track {out}`" in observer.notices[-1]
    assert guarded(lambda **options: app(["track", str(out)], **options)) == 2
    server.start()
    for _ in range(2):
        assert guarded(lambda **options: app(["track", str(out)], **options)) == 0
        client, parent, nested = held(server.uri)
        assert set(nested) == {cell.name for cell in RunFolder.open(out).plan.cells}
    assert parent.info.status == "FINISHED"
    for run in nested.values():
        assert run.info.status == "FINISHED"
        assert "energy_w2" in run.data.metrics
        names = [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
        assert names == [f"{run.data.tags['mlflow.runName']}.json"]
    copy = client.download_artifacts(run.info.run_id, names[0], tmp_path)
    with open(copy, "rb") as stream:
        assert stream.read() == (out / "cells" / names[0]).read_bytes()


@pytest.mark.slow
def test_a_record_that_changed_replaces_its_copy(tmp_path, troubles, analytic_suite):
    out, uri = tmp_path / "run", f"sqlite:///{tmp_path}/store.db"
    arguments = {"suite": analytic_suite, "only": ("analytic:harmonic",), "out": out, "workers": 0}
    bgbench.run("raises", tracking_uri=uri, **arguments)
    client, _, nested = held(uri)
    (run,) = nested.values()
    assert run.info.status == "FAILED"
    assert run.data.tags["status"] == "crash"
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"analytic_harmonic-s0.json", "analytic_harmonic-s0.traceback.txt"}
    bgbench.run("raises", resume=True, retry_failed=True, out=out, workers=0)
    assert held(uri)[2].keys() == nested.keys()
    assert held(uri)[2]["analytic_harmonic-s0"].info.run_id != run.info.run_id


def test_an_untracked_run_names_where_to_go(tmp_path, finished, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    assert not (out / "mlflow.db").exists()
    assert guarded(lambda **options: app(["track", str(out)], **options)) == 2
    assert "--tracking-uri none; name a store" in capsys.readouterr().err


SCRIPT = """
import logging, os, sys
import bgbench
from bgbench.runs.mirroring import NOWHERE
before = dict(os.environ), logging.getLogger("mlflow").level, logging.getLogger("alembic").level
(record,) = bgbench.run("prior", only=["AA"], budget=20, out="R", workers=0, tracking_uri="sqlite:///store.db")
after = dict(os.environ), logging.getLogger("mlflow").level, logging.getLogger("alembic").level
print(record.status, before == after, sorted({"mlflow", "sqlalchemy", "alembic"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_tracking_changes_nothing_about_the_process_of_the_run(tmp_path):
    """No environment variable, log level or listener: MLflow works in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "ok True []", done.stderr
    assert len(held(f"sqlite:///{tmp_path}/store.db")[2]) == 1


def test_a_tracker_of_a_third_party_is_chosen_by_the_scheme_of_the_uri(tmp_path, troubles, analytic_suite):
    place, out = tmp_path / "elsewhere.txt", tmp_path / "run"
    bgbench.run("good", suite=analytic_suite, out=out, workers=0, tracking_uri=f"notebook://{place}")
    assert place.read_text().split() == [cell.name for cell in RunFolder.open(out).plan.cells]


def test_a_tracker_whose_process_dies_costs_a_notice(tmp_path, troubles, analytic_suite):
    observer = StopsTheServer(None)
    observer.finished = lambda record: None
    arguments = {"suite": analytic_suite, "out": tmp_path / "run", "workers": 0, "observer": observer}
    result = bgbench.run("good", tracking_uri="notebook://die", **arguments)
    assert [record.status for record in result] == ["ok"] * 4
    (notice,) = observer.notices
    assert "tracking to notebook://die failed (its process ended with exit code 3: no paper left)" in notice


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("notebook://ask", "(ValueError: the answer was '')"),
        ("notebook://wordless", "(ValueError)"),
        ("notebook://asleep", "(the tracker did not answer for 5 s and was ended)"),
    ],
)
def test_a_tracker_that_waits_or_says_nothing_costs_a_notice(
    cli, tmp_path, finished, monkeypatch, uri, complaint
):
    out = tmp_path / "run"
    if "asleep" in uri:
        monkeypatch.setattr("bgbench.runs.mirroring.LIMIT", 5.0)
    shutil.copytree(finished, out)
    code, _, err = cli("track", out, "--tracking-uri", uri)
    assert code == 2
    assert f"tracking to {uri} failed {complaint}" in err


@pytest.mark.slow
def test_two_that_track_one_run_at_once_send_nothing_twice(tmp_path, finished):
    """On a new store and on one that is there; one run folder, and a copy of it elsewhere."""
    out, copy, uri = tmp_path / "run", tmp_path / "copy", f"sqlite:///{tmp_path}/store.db"
    for path in (out, copy):
        shutil.copytree(finished, path)
    for paths in ((out, out), (out, copy)):
        mirrors = [Mirror(RunFolder.open(path), uri) for path in paths]  # each with a process of its own
        with concurrent.futures.ThreadPoolExecutor() as threads:
            list(threads.map(Mirror.send, mirrors))
        for mirror in mirrors:
            mirror.close()
        assert [mirror.complaint for mirror in mirrors] == ["", ""]
        assert len(held(uri)[2]) == 4
        for record in out.glob("cells/*.json"):  # both have something to send again
            for path in (out, copy):
                (path / "cells" / record.name).write_bytes(record.read_bytes() + b"\n")


@pytest.mark.slow
def test_a_run_folder_takes_its_store_along_and_leaves_nothing_where_it_was(tmp_path, finished):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(finished, here)
    for path, n_notices in ((here, 0), (there, 1), (there, 0)):
        if path == there and here.exists():
            here.rename(there)
        with closing(Mirror(RunFolder.open(path), own_store(path))) as mirror:
            mirror.send()
        assert (mirror.complaint, len(mirror.notices)) == ("", n_notices)
        assert len(held(own_store(path))[2]) == 4
    assert not here.exists()
    assert (there / "mlflow.db.broken-1").exists()
    assert len(list((there / "mlartifacts").glob("*/artifacts/*.json"))) == 8


def test_a_deleted_experiment_is_named_with_how_to_restore_it(tmp_path, finished):
    from mlflow import MlflowClient

    out, uri = tmp_path / "run", f"sqlite:///{tmp_path}/store.db"
    shutil.copytree(finished, out)
    client = MlflowClient(uri)
    number = client.create_experiment("bgbench")
    client.delete_experiment(number)
    advice = f"was deleted; restore it with `MLFLOW_TRACKING_URI={uri} mlflow experiments restore"
    with closing(Mirror(RunFolder.open(out), uri)) as mirror:
        mirror.send()
        assert f"{advice} --experiment-id {number}`" in mirror.complaint
        client.restore_experiment(number)
        mirror.send()
        assert not mirror.complaint
    assert len(held(uri)[2]) == 4


@pytest.mark.slow
def test_runs_that_start_together_make_their_store_once(tmp_path, finished):
    uri, runs = f"sqlite:///{tmp_path}/store.db", [tmp_path / str(k) for k in range(3)]
    for out in runs:
        shutil.copytree(finished, out)
    words = [sys.executable, "-m", "bgbench", "track", "--tracking-uri", uri]
    every = [subprocess.Popen([*words, str(out)]) for out in runs]
    assert [process.wait() for process in every] == [0, 0, 0]
