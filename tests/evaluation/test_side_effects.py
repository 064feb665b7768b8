"""Nothing of the process is changed for good: by importing bgbench, or by running it in a notebook."""

import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bgbench import (
    AbstractSampler,
    BgbenchError,
    Card,
    Ensemble,
    Estimate,
    MetricCase,
    Proposal,
    Reference,
    peptide,
)
from bgbench.core.errors import BrokenContract
from bgbench.core.guard import contained
from bgbench.core.plugins import build_sampler, plugins
from bgbench.evaluation.bench import open_bench
from bgbench.evaluation.evaluate import evaluate
from bgbench.evaluation.stages import Stages, Watch
from bgbench.metrics.compute import compute_metrics

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


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_first_run_of_a_process_leaves_it_as_it_was(workers, tmp_path):
    """What libraries add when they are imported is theirs: filters with the door, loggers, threads."""
    code = f"""
import bgbench, torch
open("one@1.yaml", "w").write('systems: ["analytic:harmonic"]\\nenergy: analytic\\nbudget: 40\\nseeds: 1\\n')
run = bgbench.run
before = state()

def once(k):
    [record] = run(
        "prior", suite="one@1.yaml", estimator="snis", out=f"run{{k}}", workers={workers}, tracking_uri="none"
    )
    assert record.status == "ok", record.error

once(1)
after = state()
after["loggers"] = {{name: after["loggers"][name] for name in before["loggers"]}}
left = {{name: after[name] for name in ("descriptors", "threads")}}
refuse_changes({{**before, **left}}, after)
once(2)
refuse_changes({{**before, **left, "loggers": {{}}}}, {{**state(), "loggers": {{}}}})
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


def print_in_a_thread():
    thread = threading.Thread(target=print, args=("loud",))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "speak", [print_in_a_thread, lambda: print("loud", file=sys.__stdout__)], ids=["thread", "__stdout__"]
)
def test_what_a_thread_of_its_own_prints_is_the_plugins_and_so_is_the_original_stream(speak, capsys):
    streams = sys.stdout, sys.__stdout__
    with pytest.raises(BrokenContract, match="wrote 'loud"), contained():
        speak()
    assert (sys.stdout, sys.__stdout__) == streams
    assert capsys.readouterr().out == ""


def test_a_thread_that_outlives_the_block_prints_where_all_others_do(capsys):
    ended = threading.Event()

    def late():
        ended.wait(10)
        print("late")

    thread = threading.Thread(target=late)
    start = threading.Thread.start
    with contained():
        assert threading.Thread.start is not start
        thread.start()
    assert threading.Thread.start is start
    ended.set()
    thread.join()
    assert capsys.readouterr().out == "late\n"


def set_warnings():
    warnings.simplefilter("ignore")


def replace_stdout():
    sys.stdout = io.StringIO()


def set_level():
    logging.getLogger("bgbench.tests").setLevel(logging.CRITICAL)


GLOBAL_CHANGES = {
    "environment": (lambda: os.environ.update(BGBENCH_TEST_GUARD="1"), lambda: dict(os.environ), ""),
    "path": (lambda: sys.path.insert(0, "/nowhere"), lambda: list(sys.path), ""),
    "filters": (set_warnings, lambda: list(warnings.filters), ""),
    "level": (set_level, lambda: logging.getLogger("bgbench.tests").level, ""),
    "logging": (lambda: logging.disable(50), lambda: logging.root.manager.disable, "switched logging off"),
    "numpy": (lambda: np.seterr(all="ignore"), np.geterr, "handling of errors"),
    "stdout": (replace_stdout, lambda: sys.stdout, "replaced sys.stdout"),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device, "default device"),
    "precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
        "precision of matrix products",
    ),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
        "deterministic algorithms",
    ),
    "subnormals": (lambda: torch.set_flush_denormal(True), lambda: 1e-310 * len("1"), "subnormal numbers"),
}


@pytest.mark.parametrize("kind", GLOBAL_CHANGES)
def test_what_a_plugin_changes_is_restored_and_told_unless_libraries_change_it(kind):
    change, read, complaint = GLOBAL_CHANGES[kind]
    logging.getLogger("bgbench.tests")
    before = read()
    if complaint:
        with pytest.raises(BrokenContract, match=complaint), contained():
            change()
    else:
        with contained():
            change()
    assert read() == before


def test_a_system_changed_in_place_ends_its_cell_and_is_restored(make_cell, monkeypatch):
    """The tensor is shared by all cells of a process, through the cache of peptides."""

    class InPlace(AbstractSampler):
        card = Card("in place")

        def sample(self, task, n_samples):
            task.system.positions.mul_(2.0)
            return Proposal(task.system.positions.expand(n_samples, -1, -1))

    monkeypatch.setattr("bgbench.evaluation.evaluate.build_sampler", lambda name, options: InPlace())
    bench = open_bench(make_cell(system="PG", estimator="none", budget=4))
    before = bench.system.positions.clone()
    with pytest.raises(
        BrokenContract, match=r"the sampler '\w+' changed task.system.positions in place; change a"
    ):
        evaluate(bench, Watch(), Stages(lambda _: None))
    assert torch.equal(bench.system.positions, before)


def test_a_sampler_that_is_built_may_draw_and_print_but_change_nothing(monkeypatch, capsys):
    plugin, origin = plugins().samplers["prior"], plugins().samplers.origin("prior")
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()

    def build(options, *, changes):
        torch.manual_seed(0)
        print("loaded")
        if changes:
            torch.set_default_dtype(torch.float64)
        return plugin.build(options)

    for changes in (False, True):
        entry = replace(plugin, build=partial(build, changes=changes))
        monkeypatch.setitem(plugins().samplers._entries, "prior", (entry, origin))
        if changes:
            with pytest.raises(BgbenchError, match="building sampler 'prior' changed torch's default dtype"):
                build_sampler("prior", {})
        else:
            build_sampler("prior", {})
        assert capsys.readouterr() == ("", "loaded\n")
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (torch.get_num_threads(), torch.get_default_dtype()) == before[1:]


def change_folder(case):
    os.chdir("/")


def change_reference(case):
    case.reference.x.zero_()


def print_and_seed(case):
    print("scored")
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (change_folder, "changed the working folder"),
        (change_reference, "changed case.reference.x in place"),
        (print_and_seed, "drew from or seeded .* of torch.*, and wrote 'scored"),
    ],
)
def test_a_metric_leaves_everything_as_it_was(act, complaint, a_case, monkeypatch):
    plugin, origin = plugins().metrics["ess"], plugins().metrics.origin("ess")

    def compute(case):
        act(case)
        return plugin.compute(case)

    monkeypatch.setitem(plugins().metrics._entries, "ess", (replace(plugin, compute=compute), origin))
    case, reference = a_case, a_case.reference
    folder, frames, state = os.getcwd(), reference.x.clone(), torch.get_rng_state()
    with pytest.raises(BgbenchError, match=f"metric 'ess' .*{complaint}"):
        compute_metrics(case, ["ess"])
    assert os.getcwd() == folder
    assert torch.equal(reference.x, frames)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def a_case():
    system = peptide("GG")
    x = system.positions.expand(4, -1, -1).clone()
    reference = Reference("GG", x.clone(), torch.zeros(4), torch.arange(4), {"grade": "bronze"})
    estimate = Estimate(Ensemble.unweighted(x, torch.zeros(4)), Proposal(x))
    return MetricCase(system, estimate, reference, 4, torch.Generator().manual_seed(0))


def test_of_several_metrics_the_one_at_fault_is_named(a_case, monkeypatch):
    plugin, origin = plugins().metrics["torus_w2"], plugins().metrics.origin("torus_w2")

    def compute(case):
        torch.manual_seed(0)
        return {"torus_w2": 1.0}

    monkeypatch.setitem(plugins().metrics._entries, "torus_w2", (replace(plugin, compute=compute), origin))
    with pytest.raises(BgbenchError, match="metric 'torus_w2' drew from or seeded the global generator"):
        compute_metrics(a_case, ["ess", "torus_w2"])


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda: {}["weights"],
            r"metric 'ess' raised KeyError: 'weights' .test_side_effects.py, line",
        ),
        (lambda: sys.exit(3), r"metric 'ess' raised SystemExit: 3"),
        (lambda: {"ess": 10**400}, r"metric 'ess': 'ess' must be a number, got 1000+\.\.\.000+$"),
        (lambda: [0.5], r"metric 'ess' must return values by name, got \[0.5\]"),
    ],
)
def test_a_metric_that_raises_or_returns_no_number_is_named(act, sentence, a_case, monkeypatch):
    plugin, origin = plugins().metrics["ess"], plugins().metrics.origin("ess")
    entry = replace(plugin, compute=lambda case: act())
    monkeypatch.setitem(plugins().metrics._entries, "ess", (entry, origin))
    with pytest.raises(BgbenchError, match=f"plugin core of bgbench: {sentence}"):
        compute_metrics(a_case, ["ess"])
