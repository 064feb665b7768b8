"""SQLite stores of a tracker are whole or absent, and what cannot be used is moved aside, not deleted."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from bgbench import BgbenchError
from bgbench.runs.databases import FIRST, VERSION, fault_of, is_damage, open_store, own_store
from bgbench.runs.mirroring import tracking_uri_of
from bgbench.runs.mlflow import _delete_doubles, _ElsewhereError, _fault_of, _parent, _refuse_files_elsewhere
from bgbench.runs.runfolder import RunFolder, new_plan


def tables_in(file, *names):
    with closing(sqlite3.connect(file)) as database, database:
        for name in names:
            database.execute(f"CREATE TABLE {name} (version_num)")
            database.execute(f"INSERT INTO {name} VALUES ('1')")


def make_whole(file):
    tables_in(file, *FIRST, VERSION)


def test_a_store_is_made_beside_its_place_and_renamed(tmp_path):
    store, places = tmp_path / "mlflow.db", []

    def make(file):
        places.append(file)
        assert not store.exists()
        make_whole(file)

    assert open_store(store, make) == ""
    assert open_store(store, make) == "", "it is there"
    assert [path.parent for path in places] == [tmp_path]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_what_is_killed_while_a_store_is_made_is_made_anew(tmp_path):
    store = tmp_path / "mlflow.db"

    def killed(file):
        tables_in(file, "experiments")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(store, killed)
    assert not store.exists()
    assert open_store(store, make_whole) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def damaged(file):
    file.write_bytes(b"SQLite format 3\0" + b"?" * 5000)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda file: file.write_text("no database at all"), "is damaged (file is not a database)"),
        (damaged, "is damaged"),
        (lambda file: tables_in(file, "experiments"), "was made by half"),
        (lambda file: tables_in(file, *FIRST), "was made by half"),
        (lambda file: tables_in(file, "experiments", VERSION), "was made by half"),
    ],
)
def test_a_broken_store_is_named_and_moved_aside(tmp_path, spoil, fault):
    store = tmp_path / "mlflow.db"
    spoil(store)
    before = store.read_bytes()
    (tmp_path / "mlflow.db-journal").write_bytes(b"")
    sentence = open_store(store, make_whole)
    aside = tmp_path / "mlflow.db.broken-1"
    assert sentence.startswith(f"the store {store} {fault}")
    assert sentence.endswith(f"it was moved to {aside}; a new one was made")
    assert aside.read_bytes() == before
    assert fault_of(store) == ""
    assert not (tmp_path / "mlflow.db-journal").exists()


def test_the_second_broken_store_does_not_replace_the_first(tmp_path):
    store = tmp_path / "mlflow.db"
    for text in ("one", "two"):
        store.write_text(text)
        open_store(store, make_whole)
    assert [(tmp_path / f"mlflow.db.broken-{k}").exists() for k in (1, 2)] == [True, True]
    assert (tmp_path / "mlflow.db.broken-1").read_text() == "one"


@pytest.mark.parametrize("tables", [("birds",), ("runs", "birds"), (VERSION, "birds")])
def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path, tables):
    store = tmp_path / "birds.db"
    tables_in(store, *tables)
    before = store.read_bytes()
    with pytest.raises(BgbenchError, match="is a database of something else"):
        open_store(store, make_whole)
    assert store.read_bytes() == before


def test_no_folder_is_made_for_a_store(tmp_path):
    with pytest.raises(BgbenchError, match=r"there is no folder .*moved; name a store with --tracking-uri"):
        open_store(tmp_path / "moved" / "mlflow.db", make_whole)
    assert not list(tmp_path.iterdir())


def test_errors_of_a_damaged_store_are_recognised_below_those_of_libraries():
    error = ValueError("(sqlite3) …")
    error.__cause__ = sqlite3.OperationalError("table experiments already exists")
    assert is_damage(error)
    assert not is_damage(sqlite3.OperationalError("database is locked"))
    assert not is_damage(ValueError("run already exists"))


def test_a_run_that_names_no_tracker_has_a_store_that_moves_with_it(tmp_path, make_cell):
    folder = RunFolder.create(tmp_path / "here", new_plan([make_cell()], "hash"))
    assert tracking_uri_of(folder) == f"sqlite:///{tmp_path}/here/mlflow.db"
    moved = folder.path.rename(tmp_path / "there")
    assert tracking_uri_of(RunFolder.open(moved)) == own_store(moved)


def test_a_store_that_was_moved_puts_no_files_where_it_was(tmp_path):
    place = Path("/no/such/run/mlartifacts").as_uri()
    with pytest.raises(_ElsewhereError, match="it puts files into /no/such/run/mlartifacts") as caught:
        _refuse_files_elsewhere(place, tmp_path / "mlflow.db")
    assert "came here with the run folder" in _fault_of(caught.value, own=True)
    assert _fault_of(caught.value, own=False) == "", "one that was named stays as it is"
    _refuse_files_elsewhere((tmp_path / "mlartifacts").as_uri(), tmp_path / "mlflow.db")
    _refuse_files_elsewhere("s3://bucket/mlartifacts", tmp_path / "mlflow.db")


class Server:
    """Runs as a tracking server holds them; `rival` is called once, amid the making of the next run."""

    def __init__(self, *runs):
        self.runs, self.deleted, self.rival = list(runs), [], None

    def search_runs(self, experiments, query, max_results=1000, page_token=None):
        found = Page(run for run in self.runs if run.info.run_id not in self.deleted)
        found.token = ""
        return found

    def create_run(self, experiment, tags, run_name):
        made = run_of("mine", 7, **tags)
        self.runs += [made, *([self.rival] if self.rival else [])]
        return made

    def log_param(self, *words):
        pass

    def delete_run(self, run_id):
        assert run_id not in self.deleted, "it is gone already"
        self.deleted.append(run_id)


class Page(list):
    token = ""


def run_of(run_id, start_time, **tags):
    info = SimpleNamespace(run_id=run_id, start_time=start_time, status="FINISHED")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


@pytest.mark.parametrize(("start", "chosen"), [(3, "theirs"), (9, "mine")])
def test_two_that_send_a_run_at_once_agree_on_one_parent(tmp_path, make_cell, start, chosen):
    server = Server()
    server.rival = run_of("theirs", start)
    folder = RunFolder.create(tmp_path / "run", new_plan([make_cell()], "hash"))
    assert _parent(server, "1", folder) == chosen
    assert server.deleted == (["mine"] if chosen == "theirs" else [])


def test_doubles_of_a_record_are_deleted_but_for_the_first():
    named = {"mlflow.runName": "AA-s0"}
    server = Server(
        run_of("b", 2, **named), run_of("a", 1, **named), run_of("c", 1, **{"mlflow.runName": "AA-s1"})
    )
    _delete_doubles(server, SimpleNamespace(experiment="1", id="parent"))
    assert server.deleted == ["b"]
