"""What a plugin author may rely on: refusals raise, questions return a bool, typos are found at once."""

import doctest
import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bgbench
import bgbench.data
import bgbench.testing
from bgbench import (
    AbstractDensitySampler,
    AbstractSampler,
    BgbenchError,
    Card,
    Conventions,
    Invertible,
    MetricPlugin,
    Proposal,
    SamplerPlugin,
    System,
    SystemPlugin,
    TrackerPlugin,
    Tunable,
    Unsupported,
)
from bgbench.core.abstract import refuse_unsupported
from bgbench.core.errors import BrokenContract
from bgbench.core.plugins import (
    Origin,
    Plugins,
    build_estimator,
    build_reference,
    build_sampler,
    build_system,
    plugins,
)
from bgbench.data import EnginePlugin
from bgbench.evaluation.audit import audit
from bgbench.testing import Wide, peptide_task

CONTRACT = ("abstract", "errors", "hookspecs", "plugins")
"""Modules of the core that say what a plugin must be."""


class Copies(AbstractSampler):
    """The start structure, again and again."""

    def sample(self, task, n_samples):
        return Proposal(task.system.positions.expand(n_samples, -1, -1))


class Cloud(AbstractDensitySampler):
    """Every coordinate normal around the start structure, 0.1 nm wide."""

    def draw(self, task, n_samples):
        noise = torch.randn(n_samples, task.system.n_atoms, 3, generator=task.generator)
        x = task.system.positions + 0.1 * noise
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        return torch.distributions.Normal(task.system.positions, 0.1).log_prob(x).sum((1, 2))


@pytest.mark.parametrize("name", CONTRACT)
def test_examples_of_the_contract_run(name):
    outcome = doctest.testmod(importlib.import_module(f"bgbench.core.{name}"))
    assert outcome.attempted >= 2
    assert outcome.failed == 0


DOORS = (bgbench, bgbench.data, bgbench.testing)
"""The modules that a plugin may import."""

PUBLIC = sorted(
    (door.__name__, name)
    for door in DOORS
    for name in {*door.__all__} - {"__version__", "hookimpl", "WIDTHS"}
)
"""Public names with a docstring of their own, which a version, the mark of hooks and numbers have not."""


def functions():
    """Every public function, and every method that a public class defines, but the laws pytest calls."""
    for door, name in PUBLIC:
        value = inspect.unwrap(getattr(importlib.import_module(door), name))
        if inspect.isfunction(value):
            yield pytest.param(value, id=f"{door}.{name}")
        for method, member in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(member, "__func__", member)
            field = method in getattr(value, "__dataclass_fields__", {})
            if inspect.isfunction(function) and not method.startswith(("_", "test_")) and not field:
                yield pytest.param(function, id=f"{door}.{name}.{method}")


@pytest.mark.parametrize(("door", "name"), PUBLIC)
def test_the_example_of_every_public_name_runs(door, name):
    value = getattr(importlib.import_module(door), name)
    examples = doctest.DocTestFinder(recurse=False).find(
        value, name, globs=vars(importlib.import_module(value.__module__)).copy()
    )
    assert sum(len(test.examples) for test in examples) > 0, f"{door}.{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("function", list(functions()))
def test_every_public_function_and_method_says_what_it_takes_gives_and_raises(function):
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    if {*signature.parameters} - {"self", "cls"}:
        assert "Args:" in text
    if signature.return_annotation not in (None, "None"):
        assert "Returns:" in text or "Yields:" in text
    if "raise " in inspect.getsource(function).replace(text, ""):
        assert "Raise" in text


CLASSES = [
    (door, name) for door, name in PUBLIC if inspect.isclass(getattr(importlib.import_module(door), name))
]


@pytest.mark.parametrize(("door", "name"), CLASSES)
def test_every_public_class_says_what_it_is_made_of(door, name):
    value = getattr(importlib.import_module(door), name)
    text = value.__doc__
    own = "__init__" in vars(value) and not issubclass(value, Exception)
    for field in inspect.signature(value).parameters if own else ():
        assert f"{field}:" in text, f"{door}.{name} does not say what {field} is"
    for member, code in vars(value).items():
        if isinstance(code, property) and not member.startswith("_"):
            assert code.__doc__, f"{door}.{name}.{member} has no docstring"


def test_a_sampler_supports_every_system_unless_it_says_otherwise():
    refuse_unsupported(Copies(), bgbench.peptide("GG"))


def test_a_refusal_is_raised_and_names_the_system():
    class Choosy(Copies):
        def check_supports(self, system):
            raise Unsupported("only on Sundays")

    with pytest.raises(Unsupported, match=r"^GG: only on Sundays$"):
        refuse_unsupported(Choosy(), bgbench.peptide("GG"))


@pytest.mark.parametrize("answer", [True, False, "", "no"])
def test_a_refusal_that_is_returned_does_not_go_unnoticed(answer):
    class Answering(Copies):
        def check_supports(self, system):
            return answer

    with pytest.raises(BrokenContract, match=r"Answering\.check_supports returned .*raise Unsupported"):
        refuse_unsupported(Answering(), bgbench.peptide("GG"))


def test_the_old_method_supports_is_refused_where_the_class_is_defined():
    """Nobody calls it any more: a sampler that relied on it would be run on systems it cannot sample."""
    with pytest.raises(
        BgbenchError, match=r"Old has a method supports.*rename it check_supports.*Unsupported"
    ):

        class Old(Copies):
            def supports(self, system):
                return "" if system.atoms else "no atoms"


@pytest.mark.parametrize(("method", "capability"), [("latent", "Invertible"), ("finetuned", "Tunable")])
def test_the_methods_of_a_capability_without_the_capability_are_refused(method, capability):
    with pytest.raises(
        BgbenchError, match=rf"Half has a method {method} .*derive from bgbench\.{capability}"
    ):
        type("Half", (Cloud,), {method: lambda self, task, x: None})


def test_a_typo_in_measure_is_refused_where_the_class_is_defined():
    """It meant "the centre of mass is divided out" before."""
    with pytest.raises(
        BgbenchError, match=r"Typo\.measure must be one of .*got 'cartesain'; did you mean 'cartesian'\?"
    ):

        class Typo(Cloud):
            measure = "cartesain"


@pytest.fixture
def register():
    """Registers a sampler for one test, as a plugin of its own; returns what builds it."""
    names = []

    def add(build):
        name = f"of-a-test-{len(names)}"
        plugins().samplers.add(name, SamplerPlugin(name, "of a test", build), Origin("tests", "tests", "1"))
        names.append(name)
        return lambda: build_sampler(name, {})

    yield add
    for name in names:
        del plugins().samplers._entries[name]


def test_a_typo_in_measure_of_one_object_is_refused_where_it_is_built(register):
    def build(options):
        sampler = Cloud()
        sampler.measure = "shapes"
        return sampler

    complaint = r"plugin tests of tests: .*Cloud\.measure .*did you mean 'shape'\?"
    with pytest.raises(BgbenchError, match=complaint):
        register(build)()


def test_what_is_built_must_be_a_sampler_with_a_card(register):
    with pytest.raises(BgbenchError, match="must give an AbstractSampler, got 7"):
        register(lambda options: 7)()

    class Method(Copies):
        def card(self):
            return Card("a method")

    with pytest.raises(
        BgbenchError, match=r"must be a bgbench\.Card \(an attribute or a property\), got <bound"
    ):
        register(lambda options: Method())()
    assert register(lambda options: Copies())().card == Card("Copies")


def test_a_card_is_an_attribute_of_class_or_object_or_a_property():
    class OfClass(Copies):
        card = Card("of the class")

    class OfObject(Copies):
        def __init__(self):
            self.card = Card("of the object")

    class Computed(Copies):
        @property
        def card(self):
            return Card("computed")

    @dataclass(frozen=True)
    class Frozen(Copies):
        width: float = 0.1

    names = [kind().card.name for kind in (OfClass, OfObject, Computed, Frozen, Copies)]
    assert names == ["of the class", "of the object", "computed", "Frozen", "Copies"]


@pytest.mark.parametrize(
    ("field", "word", "nearest"),
    [("com", "gausian", "gaussian"), ("handedness", "flipped", "flip"), ("com", "None", "none")],
)
def test_a_typo_in_conventions_is_refused(field, word, nearest):
    with pytest.raises(
        BgbenchError, match=rf"{field} must be one of .*got '{word}'; did you mean '{nearest}'\?"
    ):
        Conventions(**{field: word})


def test_a_typo_in_what_is_better_is_refused():
    with pytest.raises(BgbenchError, match=r"metric 'mine': better must be .*did you mean 'higher'\?"):
        MetricPlugin("mine", "a test", lambda case: {}, better="highest")
    assert MetricPlugin("mine", "a test", lambda case: {}, better="").better == ""


def test_a_card_in_place_of_an_estimator_is_refused():
    """Plugins of older versions passed a function there."""
    with pytest.raises(BgbenchError, match=r"sampler 'mine': estimator must be .*attribute `card`"):
        SamplerPlugin("mine", "a test", lambda options: Copies(), lambda options: Card("mine"))


def test_only_invertible_samplers_have_a_jacobian_to_check():
    class Map(Cloud, Invertible):
        def latent(self, task, x):
            z = (x - task.system.positions) / 0.1
            return z, torch.full((len(x),), -x[0].numel() * torch.tensor(0.1).log())

    system = bgbench.peptide("GG")
    names = {kind: {check.name for check in audit(kind(), system)} for kind in (Cloud, Map)}
    assert "Jacobian" not in names[Cloud]
    assert "Jacobian" in names[Map]


def test_a_capability_without_its_methods_cannot_be_built():
    class Forgetful(Cloud, Tunable):
        def save(self, path, notes):
            path.write_text("")

    with pytest.raises(TypeError, match="finetuned"):
        Forgetful()


def test_the_core_moves_a_proposal_to_the_cpu():
    """A tensor on PyTorch's meta device stands for one on a GPU: moving it is what raises."""
    x = torch.zeros(2, 3, 3)
    for field in ("x", "log_q", "u"):
        tensors = {"x": x, "log_q": torch.zeros(2), "u": torch.zeros(2)}
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            Proposal(**{**tensors, field: tensors[field].to("meta")})
    assert Proposal(x).x is x


def test_what_a_tunable_sampler_lacks_is_said_before_anything_is_spent():
    from bgbench.estimators.self_improve import SelfImprove

    task = peptide_task("GG", budget=100)
    with pytest.raises(Unsupported, match="Cloud cannot be fine-tuned"):
        SelfImprove().estimate(Cloud(), task)
    assert task.oracle.remaining == 100


def plugin_module(**hooks):
    return SimpleNamespace(
        __name__="third_party", **{name: bgbench.hookimpl(hook) for name, hook in hooks.items()}
    )


def raises(*arguments):
    raise RuntimeError("no network\ntoday")


def exits(*arguments):
    sys.exit(0)


def leaves(*arguments):
    raise GeneratorExit("left")


@pytest.mark.parametrize(
    ("hook", "entries", "complaint"),
    [
        (
            "bgbench_samplers",
            raises,
            r"bgbench_samplers raised RuntimeError: no network today \(test_contract\.py, line \d+\); update",
        ),
        ("bgbench_samplers", exits, "bgbench_samplers raised SystemExit: 0"),
        ("bgbench_samplers", leaves, "bgbench_samplers raised GeneratorExit: left"),
        ("bgbench_metrics", lambda: None, "bgbench_metrics must return a list of MetricPlugin, got None"),
        (
            "bgbench_samplers",
            lambda: SamplerPlugin("one", "", lambda options: Copies()),
            r"bgbench_samplers must return a list of SamplerPlugin, got SamplerPlugin\(",
        ),
        (
            "bgbench_protocols",
            lambda: [Path("nowhere@1.yaml")],
            r"bgbench_protocols: nowhere@1\.yaml does not exist; does its package contain the file\?",
        ),
        (
            "bgbench_suites",
            lambda: [Path(__file__)],
            r"suite 'test_contract' is no name for the command line; call the file NAME@1\.yaml",
        ),
        (
            "bgbench_samplers",
            lambda: [SamplerPlugin("my sampler!", "", lambda options: Copies())],
            "sampler 'my sampler!' is no name for the command line; letters, digits",
        ),
        (
            "bgbench_systems",
            lambda: [SystemPlugin("water", "", lambda: None)],
            "system 'water' is no name for the command line; write FAMILY:NAME",
        ),
        (
            "bgbench_trackers",
            lambda: [TrackerPlugin("My", "", lambda folder, uri, sent: None)],
            "tracker 'My' is no name .*a scheme of URIs is of lower-case letters",
        ),
        (
            "bgbench_engines",
            lambda: [EnginePlugin("mine", "", Copies)],
            "engine 'mine': engine must be a class derived from bgbench.data.AbstractEngine, got <class",
        ),
        (
            "bgbench_suites",
            lambda: ["a@1.yaml"],
            "bgbench_suites must return a list of .*Path, got 'a@1.yaml'",
        ),
        ("bgbench_samplers", lambda: [Wide([1.0])], "bgbench_samplers must return a list of SamplerPlugin"),
        (
            "bgbench_metrics",
            lambda: [MetricPlugin("m", "", lambda case: {}, better="best")],
            "bgbench_metrics: metric 'm': better must be one of",
        ),
        ("bgbench_samplers", lambda seed: [], "hook 'bgbench_samplers' hookimpl definition: .*seed"),
    ],
)
def test_what_goes_wrong_in_a_hook_is_one_line_that_names_the_plugin(hook, entries, complaint):
    with pytest.raises(BgbenchError, match=complaint) as caught:
        Plugins().register(plugin_module(**{hook: entries}), Origin("theirs", "their-dist", "1"))
    assert str(caught.value).startswith("plugin theirs of their-dist: ")
    assert "\n" not in str(caught.value)


@pytest.fixture
def installed(monkeypatch):
    """Puts one more entry point beside the installed ones, for as long as the test runs."""
    from bgbench.core import plugins as module

    def install(load):
        theirs = SimpleNamespace(
            name="theirs", dist=SimpleNamespace(name="their-dist", version="1"), load=load, value="theirs"
        )
        here = module.entry_points(group=module.GROUP)
        monkeypatch.setattr(module, "entry_points", lambda group: [*here, theirs])
        plugins.cache_clear()

    yield install
    monkeypatch.undo()
    plugins.cache_clear()


def unmarked():
    """A module whose author forgot `@hookimpl`."""
    return SimpleNamespace(__name__="third_party", bgbench_samplers=bgbench_samplers)


def bgbench_samplers():
    return [SamplerPlugin("forgotten", "a test", lambda options: Copies())]


@pytest.mark.parametrize(
    ("load", "complaint"),
    [
        (
            lambda: plugin_module(bgbench_samplers=raises),
            "bgbench_samplers raised RuntimeError: no network today",
        ),
        (lambda: plugin_module(bgbench_samplres=lambda: []), "unknown hook 'bgbench_samplres'"),
        (raises, "plugin theirs of their-dist could not be imported: RuntimeError: no network today"),
        (unmarked, "bgbench_samplers is not marked as a hook; write @bgbench.hookimpl above it"),
        (plugin_module, "it implements no hook; they are bgbench_samplers, "),
    ],
)
def test_a_broken_plugin_is_named_and_everything_else_goes_on(installed, cli, load, complaint):
    installed(load)
    code, printed, err = cli("list", "samplers")
    assert code == 0
    assert "prior" in printed
    assert complaint in err
    assert err.startswith("not loaded: plugin theirs of their-dist")
    assert len(err.strip().splitlines()) == 1
    code, _, err = cli("run", "forgotten", "--workers", 0)
    assert code == 2
    assert err.startswith("bgbench: unknown sampler 'forgotten'; ")
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


def test_after_a_mistake_nothing_of_a_plugin_is_registered():
    registered = Plugins()
    good = [SamplerPlugin("good", "", lambda options: Copies())]
    with pytest.raises(BgbenchError, match="bgbench_metrics raised"):
        registered.register(
            plugin_module(bgbench_samplers=lambda: good, bgbench_metrics=raises),
            Origin("theirs", "their-dist", "1"),
        )
    assert list(registered.samplers) == []
    registered.register(plugin_module(bgbench_samplers=lambda: good), Origin("ours", "our-dist", "1"))
    assert list(registered.samplers) == ["good"]


def test_a_name_that_two_plugins_register_is_neithers(installed, cli):
    """Nobody can tell which `prior` was meant; the others run."""
    installed(
        lambda: plugin_module(bgbench_samplers=lambda: [SamplerPlugin("prior", "", lambda options: Copies())])
    )
    code, _, err = cli("run", "prior", "--only", "AA", "--workers", 0)
    assert code == 2
    assert "two plugins register sampler 'prior': bgbench (controls) and their-dist (theirs)" in err
    assert "prior" not in plugins().samplers
    assert "reference" in plugins().samplers


@pytest.mark.parametrize("command", [("run", "theirs", "--only", "AA", "--workers", 0), ("audit", "theirs")])
@pytest.mark.parametrize("build", [raises, exits, leaves, lambda options: None])
def test_what_goes_wrong_in_a_build_is_one_line_that_names_the_plugin(installed, cli, build, command):
    installed(
        lambda: plugin_module(
            bgbench_samplers=lambda: [SamplerPlugin("theirs", "", build)], bgbench_metrics=lambda: []
        )
    )
    code, _, err = cli(*command)
    assert code == 2
    assert err.startswith("bgbench: plugin theirs of their-dist: building ")
    assert len(err.strip().splitlines()) == 1


def test_estimators_energies_and_systems_are_checked_when_they_are_built(installed):
    installed(
        lambda: plugin_module(
            bgbench_estimators=lambda: [bgbench.EstimatorPlugin("theirs", "", lambda options: 7)],
            bgbench_energies=lambda: [bgbench.EnergyPlugin("theirs", "", lambda system: 7)],
            bgbench_systems=lambda: [
                SystemPlugin("their:x", "", lambda: bgbench.peptide("GG"), lambda: 7),
                SystemPlugin("their:y", "", raises),
                SystemPlugin("analytic:mine", "", lambda: System("analytic:mine", torch.zeros(1, 3)), raises),
            ],
        )
    )
    for call, complaint in (
        (lambda: build_estimator("theirs", {}), "building 'theirs' must give an AbstractEstimator, got 7"),
        (lambda: bgbench.energy(bgbench.peptide("GG"), "theirs"), "must give an AbstractEnergy, got 7"),
        (lambda: build_system("their:x"), "system 'their:x' calls itself 'GG'; it has one name"),
        (lambda: build_system("their:y"), "building system 'their:y' raised RuntimeError: no network today"),
        (lambda: build_reference("analytic:mine"), "the reference of 'analytic:mine' raised RuntimeError"),
    ):
        with pytest.raises(BgbenchError, match=f"plugin theirs of their-dist: .*{complaint}"):
            call()


@pytest.mark.parametrize("kind", [*Plugins().registries])
def test_an_unknown_name_points_to_a_list_that_exists(cli, kind):
    registry = getattr(plugins(), kind)
    with pytest.raises(BgbenchError, match=rf"see `bgbench list {kind}`"):
        registry["no such name"]
    assert cli("list", kind)[0] == 0


def test_controls_are_registered_as_controls():
    samplers = plugins().samplers
    assert {name for name in samplers if samplers[name].control} == {"prior", "reference"}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: bgbench.peptide(None), "sequence must be text such as 'AA', got None"),
        (lambda: bgbench.peptide(["A"]), "sequence must be text such as 'AA', got ['A']"),
        (lambda: bgbench.peptide("AA", "310"), "temperature must be a number of K, got '310'; write 310.0"),
        (lambda: bgbench.peptide("AA", True), "temperature must be a number of K, got True; write 310.0"),
        (lambda: bgbench.peptide("AA").at(None), "temperature must be a number of K, got None; write 310.0"),
        (
            lambda: bgbench.peptide("AA", 310.0, "amber"),
            "forcefield must be a bgbench.ForceFieldSpec, got 'am",
        ),
        (
            lambda: bgbench.find_reference("AA"),
            "system must be a bgbench.System, got 'AA'; write bgbench.pep",
        ),
        (lambda: bgbench.ess([0.0, 0.0]), "log_w must be a torch.Tensor, got a list; give a tensor"),
        (lambda: bgbench.ess(np.zeros(4)), "got a NumPy array; write torch.from_numpy(log_w)"),
        (lambda: bgbench.ess(torch.zeros(2, 2)), "log_w has shape (2, 2), expected (·)"),
        (lambda: bgbench.ess(torch.tensor([0.0, torch.nan])), "log_w holds NaN or +inf: give impossible"),
        (lambda: bgbench.ess(torch.tensor([0.0, torch.inf])), "log_w holds NaN or +inf: give impossible"),
    ],
)
def test_a_slip_in_a_call_is_one_sentence(call, sentence):
    with pytest.raises((bgbench.BgbenchError, TypeError, ValueError)) as caught:
        call()
    assert sentence in str(caught.value)
