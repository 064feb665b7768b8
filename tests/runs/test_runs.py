"""Runs that survive: kill -9, Ctrl-C, damage, full disks, other people's processes."""

import concurrent.futures
import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import bgbench
import bgbench.runs.interrupts
from bgbench import BgbenchError
from bgbench.api import Observer, cells_to_run, open_run
from bgbench.core.resources import data_path
from bgbench.reports.replay import replay, verify
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder, locked
from bgbench.systems.analytic import KINDS

SECONDS = 0.4
"""What a cell of a run that is to be killed takes, at least."""

EARLY = 2.0
"""Every fourth kill comes within so many seconds of the start, whatever the run is at by then."""


def command(*words):
    return [sys.executable, "-m", "bgbench", *[str(word) for word in words]]


def killed_at_random(moments, out, arguments):
    """Start a run and kill it: in its first seconds, or some time after its 0th, 1st or 2nd new record;
    whether it still ran.

    It is forked off a process that has bgbench imported, to save the time. What the later kills count is not
    the time but what has been written: the test goes as far on a busy machine.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bgbench.runs.worker", "bgbench.runs.dask"])
    ready, records = set(out.glob(".worker-*")), len(list(out.glob("cells/*.json")))
    words = {"out": out, "resume": (out / "run.json").exists(), **arguments}
    process = context.Process(target=bgbench.run, args=("slow",), kwargs=words)
    process.start()
    if moments.randrange(4) == 0:
        time.sleep(moments.uniform(0, EARLY))
    else:
        due = records + moments.randrange(3)
        while process.is_alive() and not set(out.glob(".worker-*")) - ready:
            time.sleep(0.01)
        while process.is_alive() and len(list(out.glob("cells/*.json"))) < due:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, SECONDS))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def left_over(out):
    """Cells without a record; None before there is a plan."""
    return len(RunFolder.open(out).missing()) if (out / "run.json").exists() else None


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_as_if_never_killed(
    kills, seed, tmp_path, troubles, analytic_suite, timeless, monkeypatch
):
    moments = random.Random(seed)
    arguments = {"suite": analytic_suite, "seeds": kills, "tracking_uri": "none"}
    n_cells = len(KINDS) * arguments["seeds"]
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", str(SECONDS))
    out, left, started = tmp_path / "killed", [], time.monotonic()
    for _ in range(kills):
        assert killed_at_random(moments, out, {"workers": 2, **arguments})
        left.append(left_over(out))
    took = time.monotonic() - started
    print(f"seed {seed}: {kills} kills in {took:.0f} s; of {n_cells} cells were left {left}")
    assert 0 < left[-1] < n_cells
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "0")
    survived = bgbench.run("slow", out=out, resume=(out / "run.json").exists(), workers=2, **arguments)
    expected = bgbench.run("slow", out=tmp_path / "whole", workers=0, **arguments)
    assert len(survived.records) == n_cells
    assert timeless(survived) == timeless(expected)
    assert verify(RunFolder.open(out)) == []
    assert [path.name for path in out.rglob("*.part")] == []


@pytest.fixture
def interruptible():
    """Ctrl-C is heard, here and in what is started, though a shell may have started the tests deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, troubles, analytic_suite, monkeypatch):
    out = tmp_path / "run"
    arguments = ["--suite", analytic_suite, "--seeds", 3, "--workers", 1, "--tracking-uri", "none"]
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "0.5")
    process = subprocess.Popen(
        command("run", "slow", "--out", out, *arguments), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(out.glob("cells/*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    done = len(RunFolder.open(out).records())
    assert f"{done} of 12 cells are finished and kept" in printed
    assert f"`bgbench run slow --out {out} --resume`" in printed
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "0")
    result = bgbench.run("slow", out=out, resume=True, workers=0)
    assert [record.status for record in result] == ["ok"] * 12


class Deaf(Observer):
    """Gets Ctrl-C and drops it, as Python does in a finalizer."""

    heard = 0

    def finished(self, record):
        self.heard += 1
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_that_a_library_drops_still_ends_the_run(workers, tmp_path, troubles, analytic_suite):
    deaf = Deaf()
    with pytest.raises(KeyboardInterrupt):
        bgbench.run(
            "good", suite=analytic_suite, out=tmp_path / "run", workers=workers, observer=deaf,
            tracking_uri="none",
        )  # fmt: skip
    assert deaf.heard == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_a_run_watches_no_signals(tmp_path, troubles, analytic_suite):
    choices = {"suite": analytic_suite, "tracking_uri": "none", "workers": 0, "out": tmp_path / "run"}
    with concurrent.futures.ThreadPoolExecutor() as threads:
        assert len(threads.submit(bgbench.run, "good", **choices).result().records) == len(KINDS)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory, troubles, analytic_suite):
    out = tmp_path_factory.mktemp("finished") / "run"
    bgbench.run("good", suite=analytic_suite, out=out, workers=0, tracking_uri="none")
    return out


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished run of four cells, untracked."""
    return RunFolder.open(shutil.copytree(finished_once, tmp_path / "run"))


def resumed(folder, **choices):
    ran = Ran()
    result = bgbench.run("good", out=folder.path, resume=True, workers=0, observer=ran, **choices)
    return [cell.system for cell in ran.cells], result, ran.notices


class Ran(Observer):
    def __init__(self):
        self.cells = []
        self.notices = []

    def started(self, folder, cells):
        self.cells = cells

    def notice(self, message):
        self.notices.append(message)


def test_resume_runs_what_is_missing_or_failed_of_the_systems_named(finished):
    harmonic, well, torus, _ = finished.plan.cells
    assert resumed(finished)[0] == []
    for cell in (harmonic, well):
        finished.record_path(cell).unlink()
    assert resumed(finished, only=(well.system,))[0] == [well.system]
    assert resumed(finished)[0] == [harmonic.system]
    record = json.loads(finished.record_path(torus).read_text())
    finished.record_path(torus).write_text(json.dumps({**record, "status": "crash"}))
    assert resumed(finished)[0] == []
    assert resumed(finished, retry_failed=True)[0] == [torus.system]
    with pytest.raises(BgbenchError, match=r"--only AA: not in this run \(analytic:"):
        resumed(finished, only=("AA",))


def test_large_systems_come_first_and_each_before_any_comes_again(tmp_path):
    request = RunRequest(sampler="prior", suite="dipeptides-mini", seeds=2, out=tmp_path / "run")
    with open_run(request) as folder:
        cells = cells_to_run(folder, request, Observer())
    assert [(cell.system, cell.seed) for cell in cells] == [
        (system, seed) for seed in (0, 1) for system in ("WS", "HM", "DI", "AA")
    ]


@pytest.mark.parametrize(
    ("sampler", "choices", "complaint"),
    [
        ("slow", {}, "planned with sampler good, not slow"),
        ("good", {"budget": 7}, "planned with budget 100, not 7"),
        ("good", {"seeds": 2}, "planned with seed 0, not 0 to 1"),
        ("good", {"first_seed": 5}, "planned with seed 0, not 5"),
        ("good", {"suite": "dipeptides-mini"}, "planned with suite analytic@1, not dipeptides-mini@1"),
        ("good", {"estimator": "snis"}, "planned with estimator none, not snis"),
        ("good", {"protocol": "paper@1"}, "planned with protocol bgbench@1, not paper@1"),
        ("good", {"options": {"width": "2"}}, r"planned with options\.width unset, not 2"),
        ("good", {"options": {"estimator.cut": "psis"}}, r"with estimator_options\.cut unset, not psis"),
        ("good", {"tracking_uri": "sqlite:///x.db"}, "planned with tracking_uri none, not sqlite:///x.db"),
        ("good", {"options": {"quux.a": "2"}}, "unknown prefix 'quux.'; known prefixes: estimator."),
    ],
)
def test_a_run_is_resumed_as_it_was_planned(finished, sampler, choices, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        bgbench.run(sampler, out=finished.path, resume=True, workers=0, **choices)


def test_changed_inputs_and_other_versions_do_not_mix_in_silence(finished):
    path = finished.path / "run.json"
    plan = json.loads(path.read_text())
    assert plan["inputs"]["plugins"]["sampler"] == "bgbench-troubles 1.0"
    old = finished.records()[0]
    finished.record_path(old.cell).write_text(
        old.model_copy(update={"provenance": {**old.provenance, "libraries": {}}}).model_dump_json()
    )
    assert "other library versions" in resumed(finished)[2][0]
    plan["inputs"]["plugins"]["sampler"] = "bgbench-troubles 0.9"
    path.write_text(json.dumps(plan))
    with pytest.raises(BgbenchError, match=r"other plugins .*0\.9.*results would mix"):
        resumed(finished)


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("changed", ["references", "weights"])
def test_data_changed_since_the_plan_stop_a_resume(changed, own_references, make_reference, tmp_path):
    """The checksums in the plan are those of the files as they were read."""
    weights = shutil.copy(next(data_path("weights").rglob("prose-mini.safetensors")), tmp_path)
    suite = tmp_path / "one@1.yaml"
    suite.write_text("systems: [AA]\nenergy: batched\nbudget: 20\nseeds: 1\n")
    arguments = {
        "out": tmp_path / "run",
        "workers": 0,
        "tracking_uri": "none",
        "options": {"weights": weights},
    }
    bgbench.run("prose", suite=str(suite), **arguments)
    before = (tmp_path / "run" / "cells" / "AA-s0.json").read_bytes()
    if changed == "references":
        make_reference(own_references, "AA", n=100)
    else:
        altered(weights)
    with pytest.raises(BgbenchError, match=f"other {changed}.*results would mix"):
        bgbench.run("prose", resume=True, **arguments)
    assert (tmp_path / "run" / "cells" / "AA-s0.json").read_bytes() == before


def altered(path):
    """One weight of a safetensors file is another now."""
    with open(path, "r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        last = stream.read(4)
        stream.seek(-4, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1, *last[1:]]))


def test_run_ids_follow_what_determines_the_result(finished, tmp_path, analytic_suite):
    again = bgbench.run("good", suite=analytic_suite, out=tmp_path / "b", workers=0, tracking_uri="none")
    ids = [record.id for record in finished.records()]
    assert [record.id for record in again] == ids
    assert RunFolder.open(tmp_path / "b").plan.id == finished.plan.id
    changed = finished.plan.model_copy(update={"suite_sha256": "other"})
    assert changed.record_id(finished.plan.cells[0]) not in ids


def test_a_damaged_record_is_named_and_run_again_and_others_stay(finished, cli):
    cell = finished.plan.cells[1]
    before = finished.record_path(cell).read_bytes()
    others = {path: path.read_bytes() for path in finished.path.glob("cells/*") if path.stem != cell.name}
    finished.record_path(cell).write_bytes(before[:200])
    code, printed, err = cli("show", finished.path)
    assert code == 2
    assert printed.count(" ok ") == 3
    assert f"{cell.name}.json is not a valid record" in err
    code, printed, _ = cli("verify", finished.path)
    assert code == 1
    assert printed.count(".json is not a valid record") == 1
    systems, result, notices = resumed(finished)
    assert systems == [cell.system]
    assert "its cell runs again" in notices[0]
    assert len(result.records) == 4
    assert all(path.read_bytes() == content for path, content in others.items())
    assert cli("verify", finished.path)[0] == 0


def test_verify_names_every_file_that_is_wrong(finished, cli):
    assert cli("verify", finished.path)[0] == 0
    first, second, *_ = finished.plan.cells
    with finished.arrays_path(first).open("ab") as stream:
        stream.write(b"x")
    finished.arrays_path(second).unlink()
    (finished.path / "analytic@1.yaml").write_text("systems: []\n")
    code, printed, _ = cli("verify", finished.path)
    assert code == 1
    lines = printed.strip().splitlines()
    assert len(lines) == 3
    assert "analytic@1.yaml does not match the sha256" in lines[0]
    assert f"{first.name}.npz does not match the sha256" in lines[1]
    assert f"{second.name}.npz is missing" in lines[2]


def test_replay_agrees_to_the_bit_here_and_within_rounding_elsewhere(finished):
    assert replay(finished) == []
    record = finished.records()[0]
    nudged = record.model_copy(
        update={"metrics": {name: value and value * (1 + 1e-9) for name, value in record.metrics.items()}}
    )
    finished.record_path(record.cell).write_text(nudged.model_dump_json())
    assert {line.metric for line in replay(finished)} == {
        name for name, value in record.metrics.items() if value
    }
    host = {**record.provenance["host"], "cpu": "another"}
    elsewhere = nudged.model_copy(update={"provenance": {**record.provenance, "host": host}})
    finished.record_path(record.cell).write_text(elsewhere.model_dump_json())
    assert replay(finished) == []
    judged_later = nudged.model_copy(update={"diagnostics": {**record.diagnostics, "rejudged": {}}})
    finished.record_path(record.cell).write_text(judged_later.model_dump_json())
    assert replay(finished) == [], "who judged it anew is not its provenance"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB, or a skipped test where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place]).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_one_sentence_and_loses_nothing_else(small_disk, troubles, analytic_suite, tmp_path):
    out = small_disk / "run"
    arguments = {"suite": analytic_suite, "out": out, "workers": 1, "tracking_uri": "none"}
    ran = Ran()
    with pytest.raises(BgbenchError, match="No space left on device; nothing else was lost"):
        bgbench.run("good", budget=2_000, seeds=10, observer=ran, **arguments)
    folder = RunFolder.open(out)
    done = len(folder.records())
    assert 0 < done < 40
    assert verify(folder) == []
    assert f"{done} of 40 cells are finished and kept" in ran.notices[-1]
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    result = bgbench.run("good", out=moved, resume=True, workers=0)
    assert [record.status for record in result] == ["ok"] * 40


def test_a_read_only_folder_is_one_sentence(small_disk, troubles, analytic_suite, cli):
    arguments = ["run", "good", "--suite", analytic_suite, "--workers", 0, "--tracking-uri", "none"]
    out = small_disk / "run"
    assert cli(*arguments, "--out", out, "--only", "analytic:harmonic")[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for place, words in ((small_disk / "new", ()), (out, ("--resume",))):
        code, _, err = cli(*arguments, "--out", place, *words)
        assert code == 2
        assert "Read-only file system; choose another folder" in err
        assert len(err.strip().splitlines()) == 1
    assert cli("show", out)[0] == 0
    assert cli("verify", out)[0] == 0


def test_a_second_process_is_refused_and_a_crash_leaves_no_lock(finished):
    hold = (
        "import sys, time; from pathlib import Path; from bgbench.runs.runfolder import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", hold, str(finished.path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BgbenchError, match=f"in use by process {process.pid}"):
            resumed(finished)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert resumed(finished)[0] == []


def test_a_truncated_checkpoint_and_a_wrong_reference_are_one_sentence(cli, tmp_path, own_references):
    weights = data_path("weights")
    whole = next(weights.rglob("*.safetensors"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:5000])
    code, _, err = cli("run", "prose", "--set", f"weights={cut}", "--out", tmp_path / "r")
    assert code == 2
    assert "cut.safetensors" in err
    path = own_references / "AA.npz"
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = cli("run", "prior", "--only", "AA", "--out", tmp_path / "r")
    assert code == 2
    assert "AA.npz" in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "r" / "run.json").exists()


@pytest.mark.usefixtures("interruptible")
def test_a_dropped_interrupt_is_not_printed_but_others_are(capsys, monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)

    class Dropping:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            raise self.error

    with bgbench.runs.interrupts.interrupts():
        Dropping(KeyboardInterrupt())
        Dropping(ValueError("heard"))
    printed = capsys.readouterr().err
    assert "heard" in printed
    assert "KeyboardInterrupt" not in printed


def test_a_file_system_without_locks_keeps_nobody_off(tmp_path, monkeypatch):
    def unsupported(stream, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
