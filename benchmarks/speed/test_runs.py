"""Many cells, and two workers against one: `pytest benchmarks/speed/test_runs.py -m "" -s`."""

import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bgbench.runs.runfolder import RunFolder

CELLS = 2_000
WORKERS = "1"
"""Of 10 ms a cell: the tracker is slower than one worker, and a second one adds 350 MB and no speed."""


@pytest.fixture
def samplers(tmp_path, monkeypatch):
    """The samplers of `tests/troubles` on the path of child processes: `good` has no density to audit."""
    info = tmp_path / "bgbench_troubles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bgbench-troubles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bgbench]\ntroubles = bgbench_troubles\n")
    shutil.copy(Path(__file__).parents[2] / "tests" / "troubles" / "bgbench_troubles.py", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


@dataclass(frozen=True)
class Cost:
    """Of a command and its children: seconds, seconds of processors, MB held together at most."""

    seconds: float
    processor: float
    peak: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s ({self.processor:.0f} s of processors, {self.peak:.0f} MB)"


def watched(*words: str) -> Cost:
    """Run a command to its end."""
    started, before, peak = time.perf_counter(), processor_seconds(), 0.0
    process = subprocess.Popen([sys.executable, "-m", "bgbench", *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.25)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with exit code {process.returncode}")
    return Cost(time.perf_counter() - started, processor_seconds() - before, peak)


def processor_seconds() -> float:
    """Of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(pid: int) -> float:
    """Memory of a process and its children in MB; pages that they share count once among them."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family) / 2**20
    except psutil.Error:
        return 0.0


@pytest.mark.usefixtures("samplers")
def test_two_thousand_cells_in_two_minutes_and_a_gigabyte(tmp_path):
    suite = tmp_path / "analytic@1.yaml"
    suite.write_text(
        'systems: ["analytic:harmonic", "analytic:double-well", "analytic:torus-mixture", '
        f'"analytic:correlated"]\nenergy: analytic\nbudget: 100\nseeds: {CELLS // 4}\n'
    )
    out = tmp_path / "run"
    words = ("run", "good", "--suite", str(suite), "--out", str(out), "--workers", WORKERS, "--quiet")
    run = watched(*words)
    folder = RunFolder.open(out)
    for cell in folder.plan.cells[::10]:
        folder.record_path(cell).unlink()
    resumed = watched(*words, "--resume")
    shown = watched("show", str(out))
    print(f"\n{CELLS} cells, {WORKERS} worker, with tracking: {run}")
    print(f"{CELLS // 10} resumed: {resumed}; shown: {shown}")
    print(f"load of the machine: {os.getloadavg()}")
    assert len(folder.records()) == CELLS
    assert run.seconds + resumed.seconds + shown.seconds < 120
    assert max(run.peak, resumed.peak) < 1_000


def test_two_workers_against_one(tmp_path):
    """MD on the default suite, three seeds, start-up and figures included, after a run that compiles."""
    watched("run", "md", "--budget", "1000", "--seeds", "1", "--quiet", "--out", str(tmp_path / "first"))
    cost = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        words = ("--seeds", "3", "--workers", str(workers), "--tracking-uri", "none", "--quiet")
        cost[workers] = watched("run", "md", "--out", str(out), *words)
        cells = sum(record.seconds["total"] for record in RunFolder.open(out).records())
        print(f"\n{workers} workers: {cost[workers]}, cells {cells:.0f} s")
    ratio = cost[1].seconds / cost[2].seconds
    print(f"throughput of two workers over one: {ratio:.2f} (goal 1.7); load {os.getloadavg()}")
    assert ratio >= 1.7
