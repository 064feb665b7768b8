"""Wherever cells run, the records are the same, and what a sampler breaks is its own cell."""

import io
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

import bgbench
from bgbench import BgbenchError
from bgbench.api import Observer
from bgbench.evaluation.cell import Cell
from bgbench.runs.clusters import Slurm, local, slurm
from bgbench.runs.dask import OnDask
from bgbench.runs.executors import InProcess
from bgbench.runs.placement import executor_for
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder, new_plan
from bgbench.runs.subprocesses import CellProcess, Limits, environment
from bgbench.runs.throttle import Throttle
from bgbench.runs.worker import Reports

HOSTILE = {
    "budget": ("budget_exhausted", "1 evaluations asked for, 0 left of a budget of 100", "sampling"),
    "nan": ("nonfinite", "none of 100 samples has a finite energy", "sampling"),
    "shape": ("crash", "x has shape (100, 1, 2)", "sampling"),
    "few": ("crash", "returned 50 frames, the protocol scores 100", "sampling"),
    "foreign": ("crash", "x has shape (100, 23, 3)", "sampling"),
    "seed": ("crash", "global generator of torch", "sampling"),
    "threads": ("crash", "changed torch's threads", "sampling"),
    "prints": ("crash", "look at me", "sampling"),
    "hangs": ("timeout", "passed the limit of 20 s", "sampling"),
    "segfault": ("crash", "the worker died (SIGSEGV)", "sampling"),
    "raises": ("crash", "no luck today", "sampling"),
    "memory": ("out_of_memory", "the limit is 2000 MB", "sampling"),
    "energies": ("crash", "of those looked at are not those of their conformers", "sampling"),
    "numpy_seed": ("crash", "global generator of numpy", "sampling"),
    "folder": ("crash", "changed the working folder", "sampling"),
    "exits": ("crash", "SystemExit: 3", "sampling"),
    "garbles": ("crash", "wrote into the pipe on which its worker reports: 'garbage'", "sampling"),
}


@pytest.fixture
def make_folder(tmp_path, troubles, analytic_suite):
    """A run folder with a cell for every named sampler: seed k, system k of the suite."""

    def make(name, samplers):
        systems = ["analytic:harmonic", "analytic:double-well", "analytic:torus-mixture"]
        cells = [
            Cell(
                sampler=sampler, estimator="none", protocol="bgbench@1", suite="analytic@1", budget=100,
                system=systems[k % 3], seed=k, temperature=310.0, energy="analytic",
            )
            for k, sampler in enumerate(samplers)
        ]  # fmt: skip
        return RunFolder.create(tmp_path / name, new_plan(cells, "hash"), Path(analytic_suite))

    return make


def run_all(where, folder):
    return list(where.map(folder, folder.plan.cells, lambda cell, n: None))


def test_hostile_plugins_fail_as_their_own_cells_and_nothing_else(make_folder, timeless):
    samplers = [name for trouble in HOSTILE for name in (trouble, "good")]
    folder = make_folder("hostile", samplers)
    limits = Limits(timeout=20, memory=2000)
    records = {record.cell.sampler: record for record in run_all(OnDask(local(2), limits), folder)}
    for name, (status, error, phase) in HOSTILE.items():
        assert (records[name].status, records[name].phase) == (status, phase), name
        assert error in records[name].error, name
        explained = folder.traceback_path(records[name].cell).exists()
        assert explained or status == "out_of_memory" or name == "garbles", name
    assert "in hangs" in folder.traceback_path(records["hangs"].cell).read_text()
    assert "in segfault" in folder.traceback_path(records["segfault"].cell).read_text()
    untroubled = [record for record in folder.records() if record.cell.sampler == "good"]
    assert [record.status for record in untroubled] == ["ok"] * len(HOSTILE)
    alone = make_folder("alone", samplers)
    good = [cell for cell in alone.plan.cells if cell.sampler == "good"][:3]
    expected = timeless(InProcess().map(alone, good, lambda cell, n: None))
    assert timeless(untroubled[:3]) == expected


def test_conformers_of_another_peptide_of_the_suite_are_named_by_their_bonds(
    troubles, own_references, make_reference, tmp_path
):
    make_reference(own_references, "AL")
    suite = tmp_path / "pair@1.yaml"
    suite.write_text("systems: [LA, AL]\nenergy: batched\nbudget: 60\nseeds: 1\n")
    arguments = {"suite": str(suite), "only": ("AL",), "workers": 0, "tracking_uri": "none"}
    (record,) = bgbench.run("backwards", out=tmp_path / "run", **arguments)
    assert (record.status, record.phase) == ("crash", "sampling")
    assert "gave conformers of LA, AL was asked for" in record.error


def test_the_command_line_limits_a_cell_and_ends_with_one_where_one_failed(
    cli, troubles, analytic_suite, tmp_path
):
    arguments = ["--suite", analytic_suite, "--only", "analytic:harmonic", "--tracking-uri", "none"]
    limits = ["--workers", 1, "--timeout", 1, "--memory", 5000]
    code, printed, _ = cli("run", "hangs", "--out", tmp_path / "run", *limits, *arguments)
    assert code == 1
    assert " timeout " in printed
    (record,) = RunFolder.open(tmp_path / "run").records()
    assert record.error == "passed the limit of 1 s"


def test_a_cell_process_killed_from_outside_gets_one_more_try(make_folder, monkeypatch):
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "0.5")
    folder = make_folder("killed", ["slow"])
    (cell,) = folder.plan.cells
    killed = []

    def kill_once(_, n):
        if n and not killed:
            children = psutil.Process().children()
            killed.extend(child.pid for child in children if "bgbench.runs.worker" in child.cmdline())
            os.kill(killed[0], signal.SIGKILL)

    process = CellProcess(folder.path, Limits())
    try:
        ending = process.run(cell, kill_once, threading.Event())
    finally:
        process.close()
    assert killed
    assert ending.status == "ok"
    assert folder.records()[0].status == "ok"


def test_a_worker_that_dies_after_its_record_was_written_leaves_an_ok_cell(make_folder):
    """It dies between two looks at its reports: the last one says that it is done."""
    folder = make_folder("late", ["good"])
    (cell,) = folder.plan.cells
    process = CellProcess(folder.path, Limits())

    def look_too_early():
        """Sees nothing; by the next look the worker has said that it is done, and has died."""
        while not folder.record_path(cell).exists():
            time.sleep(0.05)
        time.sleep(1)
        process._process.kill()
        process._process.wait()
        return []

    process._read = look_too_early
    try:
        ending = process.run(cell, lambda cell, n: None, threading.Event())
    finally:
        process.close()
    assert ending.status == "ok"
    assert folder.records()[0].status == "ok"


def test_a_worker_is_heard_where_more_files_are_open_than_select_can_count(make_folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("needs 1,200 open files")
    folder = make_folder("many", ["good"])
    (cell,) = folder.plan.cells
    process = CellProcess(folder.path, Limits())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        assert process.run(cell, lambda cell, n: None, threading.Event()).status == "ok"
    finally:
        process.close()
        for fd in others:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_progress_is_reported_seldom_and_whole():
    sent = io.StringIO()
    reports = Reports(sent)
    for _ in range(10_000):
        reports.advanced(3)
    reports.send(done="cell")
    messages = [json.loads(line) for line in sent.getvalue().splitlines()]
    assert sum(message["advanced"] for message in messages) == 30_000
    assert messages[0] == {"advanced": 3}
    assert messages[-1]["done"] == "cell"
    assert len(messages) < 100


def test_a_throttle_passes_on_every_number_once():
    sums = []
    throttle = Throttle(sums.append, every=3600.0)
    for n in (3, 4, 5):
        throttle.add(n)
    assert sums == [3], "the first at once, the others not yet"
    assert throttle.take() == 9
    throttle.add(1)
    throttle.flush()
    assert sums == [3, 1]
    assert throttle.take() == 0


def test_in_process_samplers_are_put_back_in_their_place(make_folder):
    names = ["seed", "numpy_seed", "threads", "prints", "folder", "exits", "good"]
    before = torch.get_rng_state(), torch.get_num_threads(), random.getstate(), os.getcwd()
    records = run_all(InProcess(), make_folder("in", names))
    assert [record.status for record in records] == ["crash"] * 6 + ["ok"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), random.getstate(), os.getcwd())


class Killer(Observer):
    """Kills a Dask worker under `roots` once two cells are amid their samples; counts samples reported."""

    def __init__(self, roots):
        self.roots = roots
        self.busy = set()
        self.killed = 0
        self.samples = 0

    def finished(self, record):
        self.busy.discard(record.cell.name)

    def advanced(self, cell, n):
        self.samples += n
        if 0 < n < 100:
            self.busy.add(cell.name)
        if len(self.busy) == 2 and not self.killed:
            self.killed = worker_under(self.roots)
            os.kill(self.killed, signal.SIGKILL)


def worker_under(roots):
    """The process id of a Dask worker that holds a cell process."""
    below = [child for root in roots for child in psutil.Process(root).children(recursive=True)]
    cells = [process for process in below if "bgbench.runs.worker" in process.cmdline()]
    return cells[0].parent().pid


@pytest.fixture
def dask_cluster(tmp_path, monkeypatch, troubles):
    """A scheduler and two workers, each a process of its own: the address, and the process ids."""
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "1")
    file = tmp_path / "scheduler.json"
    log = (tmp_path / "dask.log").open("ab")
    quiet = {"stdout": log, "stderr": log, "start_new_session": True}
    shared = ["--no-dashboard", "--scheduler-file", str(file)]
    scheduler = ["dask_scheduler", "--port", "0", "--host", "127.0.0.1", *shared]
    worker = ["dask_worker", "--nthreads", "1", "--local-directory", str(tmp_path), *shared]
    processes = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]], **quiet)
        for words in (scheduler, worker, worker)
    ]
    try:
        yield address_in(file, processes[0]), [process.pid for process in processes]
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def address_in(file, scheduler):
    while scheduler.poll() is None and not (file.exists() and file.stat().st_size):
        time.sleep(0.1)
    return json.loads(file.read_text())["address"]


@pytest.mark.slow
def test_a_scheduler_and_two_workers_run_a_suite_and_replace_a_killed_worker(
    dask_cluster, analytic_suite, tmp_path, timeless, monkeypatch
):
    arguments = {"suite": analytic_suite, "seeds": 2, "tracking_uri": "none"}
    address, processes = dask_cluster
    killer = Killer(processes)
    there = bgbench.run("slow", out=tmp_path / "there", scheduler=address, observer=killer, **arguments)
    assert killer.killed
    assert killer.samples > 800
    assert [record.status for record in there] == ["ok"] * 8
    monkeypatch.setenv("BGBENCH_TEST_SECONDS", "0")
    here = bgbench.run("slow", out=tmp_path / "here", workers=0, **arguments)
    assert timeless(there) == timeless(here)


def test_slurm_jobs_are_described_and_run_cells_without_slurm(
    tmp_path, monkeypatch, troubles, analytic_suite, timeless
):
    """`sbatch` is a script that runs the job at once."""
    tools = tmp_path / "tools"
    tools.mkdir()
    pid = tmp_path / "job.pid"
    (tools / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/job.sh\nsetsid sh {tmp_path}/job.sh >{tmp_path}/job.log 2>&1 &\n'
        f"echo $! >{pid}\necho Submitted batch job 7\n"
    )
    (tools / "scancel").write_text(f"#!/bin/sh\nkill -9 -$(cat {pid}) || true\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    options = {"cluster.queue": "long", "cluster.walltime": "2:00:00", "cluster.gpu": "1"}
    arguments = {"suite": analytic_suite, "only": ("analytic:harmonic",), "tracking_uri": "none"}
    there = bgbench.run(
        "good", out=tmp_path / "r", cluster="slurm", workers=1, threads=3, options=options, **arguments
    )
    script = (tmp_path / "r" / "slurm.sh").read_text()
    for line in ("-p long", "-t 2:00:00", "--cpus-per-task=3", "--mem=8G", "--gres=gpu:1"):
        assert f"#SBATCH {line}" in script
    assert "--nthreads 1 " in script
    here = bgbench.run("good", out=tmp_path / "here", workers=0, threads=3, **arguments)
    assert timeless(there) == timeless(here)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"quux": "1"}, r"cluster slurm has no option 'cluster\.quux'; .*cluster\.queue"),
        ({"cores": "many"}, r"--set cluster\.cores=many: 'many' is not a whole number"),
        ({"gpu": "2"}, r"--set cluster\.gpu=2: '2' is not one of 0, 1"),
        ({"cores": "0"}, r"--set cluster\.cores must be 1 or more, got 0"),
    ],
)
def test_wrong_cluster_options_are_one_sentence(options, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        slurm(options, 1)


def test_without_slurm_its_cluster_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BgbenchError, match="--cluster slurm needs sbatch on PATH"):
        bgbench.run("prior", cluster="slurm", out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_slurm_options_reach_the_job(tmp_path):
    from dask_jobqueue.slurm import SLURMJob

    arguments = {"account": "phys", "directives": "--exclusive; --nice=5", "prologue": "module load cuda"}
    job = SLURMJob(scheduler="tcp://10.0.0.1:8786", name="w", **Slurm.build(arguments).keywords())
    script = job.job_script()
    for line in ("-A phys", "--exclusive", "--nice=5", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script
    # A `random.py` in the folder where the job starts is the user's own.
    assert script.index("export PYTHONSAFEPATH=1\n") < script.index("tcp://10.0.0.1:8786")
    assert script.index("module load cuda") < script.index("tcp://10.0.0.1:8786")


def test_every_library_of_a_worker_has_its_threads_and_its_device(monkeypatch):
    # Dask leaves its own value in the environment of a process that started workers.
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    variables = environment(Limits(threads=3, visible_devices="1"))
    assert int(variables["MALLOC_TRIM_THRESHOLD_"]) >= 2**30
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        assert variables[f"{name}_NUM_THREADS"] == "3"
    assert variables["OPENMM_CPU_THREADS"] == "3"
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE"
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"


def test_devices_are_dealt_out_one_a_worker_and_recorded(make_folder):
    """There is no GPU here: what a worker may see is, and what it found."""
    folder = make_folder("devices", ["good"] * 6)
    records = run_all(OnDask(local(2), Limits(threads=2), ("0", "5")), folder)
    hosts = [record.provenance["host"] for record in records]
    assert {host["visible_devices"] for host in hosts} == {"0", "5"}
    assert {host["torch_threads"] for host in hosts} == {2}
    devices = [record.provenance["device"] for record in records]
    assert devices == [{"device": "cpu", "task_device": "cpu", "precision": "float32"}] * 6


@pytest.mark.parametrize(
    ("named", "expected"), [(None, ("0", "1", "2")), ("4,7", ("4", "7")), ("GPU-8f1a", ("GPU-8f1a",))]
)
def test_by_default_there_is_a_worker_for_every_device(named, expected, monkeypatch):
    """Three devices are made up: what counts is who is started with which."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("bgbench.runs.clusters.local", lambda n_workers: n_workers)
    monkeypatch.setattr("bgbench.runs.dask.OnDask", lambda *words: words)
    monkeypatch.setattr("bgbench.runs.placement.cores", lambda: 8)
    workers, limits, devices = executor_for(RunRequest(sampler="good"))
    assert (workers, limits.threads, limits.device, devices) == (
        len(expected),
        8 // len(expected),
        "cuda",
        expected,
    )


@pytest.mark.parametrize(
    ("word", "workers", "threads", "expected", "in_process"),
    [
        ("auto", 3, 5, ("cuda", ("0", "1", "2")), "cuda:0"),
        ("cuda", 3, 5, ("cuda", ("0", "1", "2")), "cuda:0"),
        ("cuda:1", 1, 16, ("cuda", ("1",)), "cuda:1"),
        ("cpu", 4, 1, ("cpu", ("",)), "cpu"),
    ],
)
def test_a_device_says_who_sees_which_gpu(word, workers, threads, expected, in_process, monkeypatch):
    """With `cpu` workers see no GPU, so that nothing can be computed there unnoticed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("bgbench.runs.clusters.local", lambda n_workers: n_workers)
    monkeypatch.setattr("bgbench.runs.dask.OnDask", lambda *words: words)
    monkeypatch.setattr("bgbench.runs.placement.cores", lambda: 16)
    started, limits, visible = executor_for(RunRequest(sampler="good", device=word))
    assert (started, limits.threads) == (workers, threads)
    assert (limits.device, visible) == expected
    assert str(executor_for(RunRequest(sampler="good", device=word, workers=0))._device) == in_process
    if word == "cpu":
        assert environment(Limits(visible_devices=visible[0]))["CUDA_VISIBLE_DEVICES"] == ""


def test_workers_elsewhere_look_for_the_device_on_their_own_machine(make_folder):
    folder = make_folder("gpu", ["good"])
    with pytest.raises(
        BgbenchError, match=r"device=cuda: PyTorch .* finds no GPU on this machine; choose cpu"
    ):
        run_all(OnDask(local(1), Limits(device="cuda")), folder)


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"workers": -1}, "--workers must be at least 0, got -1"),
        ({"threads": 0}, "--threads must be at least 1, got 0"),
        ({"timeout": 0.0}, "--timeout must be positive, got 0"),
        ({"memory": math.nan}, "--memory must be positive, got nan"),
        ({"workers": 0, "memory": 100.0}, "--memory needs worker processes"),
        ({"scheduler": "tcp://h:1", "cluster": "slurm"}, "exclude each other"),
        ({"cluster": "pbs"}, "unknown cluster 'pbs'; known: slurm"),
        ({"options": {"cluster.queue": "long"}}, "cluster.queue has no effect without --cluster"),
    ],
)
def test_impossible_executors_are_one_sentence(keywords, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        RunRequest.from_keywords("good", **keywords)


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path, troubles, analytic_suite, monkeypatch):
    monkeypatch.setattr("bgbench.runs.clusters.PATIENCE", 4)
    with pytest.raises(BgbenchError, match="no Dask scheduler answers at tcp://127"):
        bgbench.run("good", suite=analytic_suite, out=tmp_path / "r", scheduler="tcp://127.0.0.1:9")
