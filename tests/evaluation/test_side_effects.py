"""Nothing of the process is changed for good: by importing bgbench, or by running it in a notebook."""

import subprocess
import sys
import threading

import pytest

from bgbench.core.errors import BrokenContract
from bgbench.evaluation.guard import contained

STATE = """
import logging, os, random, signal, sys, threading, warnings

def state():
    "What a process shares; loggers and descriptors that only libraries opened are named by what they are."
    found = {
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning],
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)},
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "random": random.getstate(),
        "loggers": {
            name: (one.level, list(one.handlers), one.propagate, one.disabled)
            for name, one in [*logging.root.manager.loggerDict.items(), ("", logging.root)]
            if isinstance(one, logging.Logger)
        },
    }
    if os.path.isdir("/proc/self/fd"):
        found["descriptors"] = len(os.listdir("/proc/self/fd"))
    if "torch" in sys.modules:
        import numpy, torch
        found["torch"] = [
            torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
            torch.get_rng_state().tolist(), numpy.geterr(), str(numpy.random.get_state()),
            str(numpy.get_printoptions()),
        ]
    return found

def refuse_changes(before, after):
    changed = {
        name: (before[name], after[name]) for name in before if before[name] != after.get(name)
    }
    if changed:
        sys.exit(f"changed: {changed}")
"""


def run_python(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", STATE + code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_importing_bgbench_changes_nothing(tmp_path):
    run_python("before = state()\nimport bgbench\nrefuse_changes(before, state())", tmp_path)


def test_public_names_and_plugins_change_nothing_that_libraries_do_not(tmp_path):
    """What torch, numba, OpenMM and MDTraj change when imported is theirs; bgbench adds nothing to it."""
    code = """
import deeptime, mdtraj, numba, omegaconf, openmm.app, pluggy, pydantic, scipy.optimize, sklearn.cluster
import threadpoolctl, torch, torch.func, psutil, importlib.metadata, torch._dynamo, torch.utils.data
before = state()
import bgbench, bgbench.api, bgbench.data, bgbench.testing
from bgbench.core.plugins import plugins
for name in bgbench.__all__:
    getattr(bgbench, name)
plugins()
after = state()
for name in set(after["loggers"]) - set(before["loggers"]):
    assert not name.startswith("bgbench"), name
    del after["loggers"][name]
refuse_changes(before, after)
"""
    run_python(code, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_leaves_the_process_as_it_was(workers, tmp_path):
    """The second run of a process, since the first one imports what it needs."""
    code = f"""
import bgbench
open("one@1.yaml", "w").write('systems: ["analytic:harmonic"]\\nenergy: analytic\\nbudget: 40\\nseeds: 1\\n')

def once(k):
    [record] = bgbench.run(
        "prior", suite="one@1.yaml", estimator="snis", out=f"run{{k}}", workers={workers}, tracking_uri="none"
    )
    assert record.status == "ok", record.error

once(1)
before = state()
once(2)
after = state()
if {workers}:  # Dask draws from Python's generator, as its users may expect
    before.pop("random")
refuse_changes(before, after)
"""
    run_python(code, tmp_path)


def test_a_run_beside_a_thread_that_prints(tmp_path):
    """As in a notebook: the cells are ok, and what the thread prints arrives."""
    code = """
import bgbench, itertools
open("one@1.yaml", "w").write('systems: ["analytic:harmonic"]\\nenergy: analytic\\nbudget: 400\\nseeds: 3\\n')
stop = threading.Event()

def chatter():
    for k in itertools.count():
        print("tick", k)
        if stop.wait(0.001):
            return

thread = threading.Thread(target=chatter)
thread.start()
records = list(bgbench.run("prior", suite="one@1.yaml", workers=0, out="run", tracking_uri="none"))
stop.set()
thread.join()
assert [record.status for record in records] == ["ok"] * 3, [record.error for record in records]
"""
    lines = run_python(code, tmp_path).splitlines()
    assert len(lines) > 3
    assert lines == [f"tick {k}" for k in range(len(lines))]


def test_each_thread_is_refused_for_its_own_output_and_the_stream_comes_back(capsys):
    """Two samplers in two threads, which begin and end in turn."""
    before, complaints = sys.stdout, {}
    inside, outside = threading.Event(), threading.Event()

    def loud():
        try:
            with contained():
                print("loud")
                inside.set()
                outside.wait(10)
        except BrokenContract as error:
            complaints["loud"] = str(error)

    def quiet():
        with contained():
            inside.wait(10)
        outside.set()

    threads = [threading.Thread(target=target) for target in (loud, quiet)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    print("beside them")
    for thread in threads:
        thread.join()
    assert list(complaints) == ["loud"]
    assert "wrote 'loud\\n' to standard output" in complaints["loud"]
    assert sys.stdout is before
    assert capsys.readouterr().out == "beside them\n"
