"""`bgbench check`: each broken plugin is named by its fault, and a sound one passes."""

import json
import random
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch

import bgbench
import bgbench.authoring.check as module
from bgbench import AbstractDensitySampler, Proposal, SamplerPlugin
from bgbench.authoring.advice import ADVICE
from bgbench.core.plugins import Origin, plugins
from bgbench.testing import LAW_BOOKS, check

LOG_2PI = 1.8378770664093453


@dataclass(frozen=True)
class Cloud(AbstractDensitySampler):
    """Normal around the start structure. It keeps every law; the broken ones override a part of it."""

    width: float = 0.004
    """Standard deviation of every coordinate, nm."""

    def positions(self, task, n):
        start = task.system.positions.float().to(task.device)
        return start + self.width * task.normal(n, *start.shape)

    def draw(self, task, n_samples):
        x = self.positions(task, n_samples)
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        x = x.to(task.device)
        z = (x - task.system.positions.to(x)) / self.width
        constant = torch.tensor(self.width).log().item() + 0.5 * LOG_2PI
        return -0.5 * z.square().sum((1, 2)) - 3 * task.system.n_atoms * constant


class Angstrom(Cloud):
    def positions(self, task, n):
        return 10 * super().positions(task, n)


class Half(Cloud):
    def draw(self, task, n_samples):
        proposal = super().draw(task, n_samples)
        return Proposal(proposal.x.half(), proposal.log_q)


class Bare(Cloud):
    def draw(self, task, n_samples):
        return self.positions(task, n_samples)


class Flat(Cloud):
    def draw(self, task, n_samples):
        proposal = super().draw(task, n_samples)
        return Proposal(proposal.x.flatten(1), proposal.log_q)


class OwnGenerator(Cloud):
    def positions(self, task, n):
        return super().positions(task, n) + 1e-4 * random.random()


class Printing(Cloud):
    def draw(self, task, n_samples):
        print("drawing")
        return super().draw(task, n_samples)


class Unmetered(Cloud):
    def draw(self, task, n_samples):
        bgbench.energy(task.system, "batched").energy(task.system.positions[None])
        return super().draw(task, n_samples)


class Unnormalised(Cloud):
    def log_prob(self, task, x):
        return super().log_prob(task, x) + 1.5


class Disagreeing(Cloud):
    def draw(self, task, n_samples):
        proposal = super().draw(task, n_samples)
        return Proposal(proposal.x, 0.5 * proposal.log_q)


class OnTheCpu(Cloud):
    def positions(self, task, n):
        return super().positions(task, n) + torch.zeros(1, 1, 3)


class NoProline(Cloud):
    def positions(self, task, n):
        if any(atom.residue_name == "PRO" for atom in task.system.atoms):
            raise KeyError("PRO")
        return super().positions(task, n)


class Remembering(Cloud):
    def positions(self, task, n):
        seen = self.__dict__.setdefault("seen", [0.0])
        seen[0] += 1e-3
        return super().positions(task, n) + seen[0]


class Mirrored(Cloud):
    def positions(self, task, n):
        return -super().positions(task, n)


def swallow(options):
    return Cloud()


BROKEN = [
    (Angstrom, "units", "its positions are in Å; divide them by 10"),
    (Half, "shapes", "float16"),
    (Bare, "shapes", "Bare.draw returned"),
    (Flat, "shapes", "shape (20, 69)"),
    (OwnGenerator, "global state", "drew from or seeded the global generator of Python"),
    (Printing, "global state", "wrote 'drawing"),
    (Unmetered, "budget", "evaluated 1 energies and was charged for 0"),
    (Unnormalised, "normalisation", "normalisation"),
    (Disagreeing, "density", "draw and log_prob differ by"),
    (OnTheCpu, "device", "expected all tensors to be on the same device"),
    (NoProline, "residues", "fails on PQ with KeyError: 'PRO'"),
    (Remembering, "state", "state was kept"),
    (Mirrored, "chirality", "every conformer of AA is a mirror image"),
    (swallow, "options", "accepts --set no_such_option=1"),
]


@pytest.fixture
def register():
    """Registers a sampler `mine`, as an installed plugin would be."""
    plugins.cache_clear()

    def register(build):
        if isinstance(build, type):
            kind = build
            build = lambda options: bgbench.parse_options(kind, options, owner="mine")  # noqa: E731
        made = ModuleType("mine")

        @bgbench.hookimpl
        def bgbench_samplers():
            return [SamplerPlugin("mine", "broken", build, options=Cloud)]

        made.bgbench_samplers = bgbench_samplers
        plugins().register(made, Origin("mine", "mine-dist", "1.2", ""))

    yield register
    plugins.cache_clear()


@pytest.mark.parametrize(("broken", "topic", "fault"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_a_broken_plugin_is_named_by_its_fault(register, broken, topic, fault):
    register(broken)
    report = check("mine", fresh_process=False)
    assert not report.passed
    (finding,) = [one for one in report.failed if one.topic == topic and fault in one.message][:1]
    assert finding.why
    assert finding.change
    # The first thing that is said is the fault itself, or what follows from it at once.
    assert report.failed.index(finding) <= 2


def test_a_sound_plugin_passes_every_law(register):
    register(Cloud)
    report = check("mine", fresh_process=False)
    assert [finding for finding in report.findings if finding.verdict != "passed"] == []
    assert (report.distribution, report.version) == ("mine-dist", "1.2")


def test_draws_that_a_worker_would_not_make_are_named(register, monkeypatch):
    register(Cloud)
    monkeypatch.setattr(module, "draw_in_fresh_process", lambda *words: 1 + module.draw(*words))
    (finding,) = check("mine", seconds=0.0).failed
    assert finding.topic == "workers"
    assert "in a fresh process conformers lie 1 nm away" in finding.message
    monkeypatch.undo()
    # It was registered in this process only: a worker knows no such plugin.
    (finding,) = check("mine", seconds=0.0).failed
    assert "a fresh process fails: raised RuntimeError: " in finding.message
    assert "unknown sampler 'mine'" in finding.message


def test_one_that_cannot_be_built_is_a_finding(register):
    register(lambda options: None)
    (finding,) = check("mine", fresh_process=False).findings
    assert "must give an AbstractSampler, got None" in finding.message


def test_time_that_is_up_skips_laws_and_passes_nothing(register):
    register(Cloud)
    report = check("mine", seconds=0.0, fresh_process=False)
    assert {finding.verdict for finding in report.findings} == {"skipped"}
    assert not report.passed


def test_the_command_says_what_why_and_what_to_change_once(register, cli, monkeypatch):
    register(Half)
    monkeypatch.setattr(module, "draw_in_fresh_process", module.draw)
    code, printed, _ = cli("check", "mine", "--set", "width=0.003")
    assert code == 1
    assert "FAILED  shapes: returns what was asked within the budget" in printed
    assert printed.count("what: ") < printed.count("FAILED")
    assert "what to change: return bgbench.Proposal(x) with x a float32 or float64 tensor" in printed
    assert "mine of mine-dist 1.2: " in printed


def test_the_command_prints_json_for_ci(cli):
    code, printed, err = cli("check", "bgbench@1", "--json")
    assert (code, err) == (0, "")
    report = json.loads(printed)
    assert (report["kind"], report["findings"][0]["verdict"]) == ("protocols", "passed")
    assert report["code_sha256"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("energy_w3",), "no plugin 'energy_w3' to check; did you mean 'energy_w2'?"),
        (("energy_w2", "--kind", "metric"), "--kind metric: there are laws for samplers, estimators"),
        (("energy_w2", "--kind", "samplers"), "unknown sampler 'energy_w2'"),
    ],
)
def test_names_that_are_not_registered_are_refused(cli, words, complaint):
    code, _, err = cli("check", *words)
    assert code == 2
    assert complaint in err


def test_every_law_has_its_advice():
    laws = {
        law for books in LAW_BOOKS.values() for book in books for law in dir(book) if law.startswith("test_")
    }
    assert laws == set(ADVICE)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("snis", ""), ("none", "estimators"), ("mcmc", ""), ("analytic", "energies"), ("dipeptides-mini@1", "")],
)
def test_what_is_shipped_keeps_its_laws(name, kind):
    report = check(name, kind=kind)
    assert report.failed == []
    assert report.passed
