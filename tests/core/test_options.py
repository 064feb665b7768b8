"""Words into options, for everyone alike; and the law that nobody accepts a misspelt one."""

import doctest
import math
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

import bgbench
from bgbench.core import options as module
from bgbench.core.options import (
    describe_options,
    parse_options,
    parse_settings,
    refuse_below,
    refuse_outside,
    refuse_unknown_prefixes,
    refuse_unknown_words,
    select_prefixed,
    select_sampler_options,
)
from bgbench.core.plugins import plugins
from bgbench.estimators.smc import SMCOptions
from bgbench.runs.clusters import Slurm
from bgbench.testing import EstimatorPluginLaws, SamplerPluginLaws


class Colour(Enum):
    """An enum, written by value."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Everything:
    """One option of each type."""

    steps: int = 3
    """Steps in all,
    counted from 1."""
    width: float = 0.1
    limit: float = math.inf
    """Upper limit, kT."""
    fast: bool = False
    name: str = "x"
    file: Path = Path("a.txt")
    cut: Literal["none", "psis"] = "none"
    gpus: Literal[0, 1] = 0
    colour: Colour = Colour.RED
    seed: int | None = None

    def __post_init__(self):
        refuse_below("steps", self.steps, 1)
        if self.fast and self.steps > 100:
            raise bgbench.BgbenchError("a fast walk has 100 steps at most")
        if self.name == "bad":
            raise ValueError("name must not be bad")


@dataclass(frozen=True)
class Needy:
    """An option without a default."""

    file: Path


def parse(**words):
    return parse_options(Everything, words, owner="walker")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("steps=7", 7),
        ("steps=1_000", 1000),
        ("width=1e-3", 1e-3),
        ("width=2", 2.0),
        ("limit=inf", math.inf),
        ("limit=5", 5.0),
        ("name=", ""),
        ("name=a=b", "a=b"),
        ("file=/tmp/b", Path("/tmp/b")),
        ("cut=psis", "psis"),
        ("gpus=1", 1),
        ("colour=blue", Colour.BLUE),
        ("seed=4", 4),
        ("seed=none", None),
        ("seed=None", None),
        *((f"fast={word}", True) for word in ("true", "yes", "1", "True", "YES")),
        *((f"fast={word}", False) for word in ("false", "no", "0", "No")),
    ],
)
def test_a_word_is_read_by_the_annotation_of_its_field(word, value):
    name = word.partition("=")[0]
    read = getattr(parse(**parse_settings([word])), name)
    assert read == value
    assert type(read) is type(value)


def test_without_words_the_defaults_hold():
    assert parse() == Everything()


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("steps=many", "--set steps=many: 'many' is not a whole number"),
        ("steps=2.5", "--set steps=2.5: '2.5' is not a whole number"),
        ("steps=", "--set steps=: '' is not a whole number"),
        ("width=abc", "--set width=abc: 'abc' is not a number"),
        ("width=nan", "--set width=nan: 'nan' is not a number"),
        ("width=inf", "--set width=inf: 'inf' is not a finite number"),
        ("width=-inf", "--set width=-inf: '-inf' is not a finite number"),
        ("limit=nan", "--set limit=nan: 'nan' is not a number"),
        ("fast=maybe", "--set fast=maybe: 'maybe' is not one of true, false, yes, no, 1, 0"),
        ("fast=none", "--set fast=none: 'none' is not one of true, false, yes, no, 1, 0"),
        ("file=", "--set file=: '' is not a path"),
        ("cut=psi", "--set cut=psi: 'psi' is not one of none, psis; did you mean 'psis'?"),
        ("gpus=2", "--set gpus=2: '2' is not one of 0, 1"),
        ("colour=RED", "--set colour=RED: 'RED' is not one of red, blue"),
        ("seed=x", "--set seed=x: 'x' is not a whole number"),
        ("steps=0", "--set steps must be 1 or more, got 0"),
        ("name=bad", "--set name must not be bad"),
        (
            "widht=1",
            "--set widht=1: walker has no option 'widht'; did you mean 'width'? Its options are steps, "
            "width, limit, fast, name, file, cut, gpus, colour, seed",
        ),
        (
            "qqq=1",
            "--set qqq=1: walker has no option 'qqq'; its options are steps, width, limit, fast, name, file, "
            "cut, gpus, colour, seed",
        ),
    ],
)
def test_what_is_refused_and_the_sentence(word, complaint):
    with pytest.raises(bgbench.BgbenchError) as error:
        parse(**parse_settings([word]))
    assert str(error.value) == complaint


def test_prefixes_stand_in_messages_as_on_the_command_line():
    for word, complaint in (
        ("steps=0", "--set estimator.steps must be 1 or more, got 0"),
        ("steps=many", "--set estimator.steps=many: 'many' is not a whole number"),
    ):
        with pytest.raises(bgbench.BgbenchError) as error:
            parse_options(Everything, parse_settings([word]), owner="walker", prefix="estimator")
        assert str(error.value) == complaint
    with pytest.raises(bgbench.BgbenchError, match=r"'estimator\.stepz'; did you mean 'estimator\.steps'\?"):
        parse_options(Everything, {"stepz": "1"}, owner="walker", prefix="estimator")


def test_a_refusal_of_several_options_together_names_the_owner():
    with pytest.raises(bgbench.BgbenchError, match=r"^walker: a fast walk has 100 steps at most$"):
        parse(fast="yes", steps="101")


def test_an_option_without_a_default_must_be_set():
    with pytest.raises(bgbench.BgbenchError, match=r"^walker needs --set cluster\.file=PATH$"):
        parse_options(Needy, {}, owner="walker", prefix="cluster")
    assert parse_options(Needy, {"file": "a"}, owner="walker") == Needy(Path("a"))


def test_an_option_list_that_no_word_can_fill_is_the_authors_mistake():
    @dataclass(frozen=True)
    class Listed:
        names: tuple[str, ...] = ()

    @dataclass(frozen=True)
    class Either:
        name: int | str = 0

    for kind in (Listed, Either):
        with pytest.raises(TypeError, match=r"option names?: .* is not read from words"):
            parse_options(kind, {}, owner="walker")
    with pytest.raises(TypeError, match="fields of a frozen dataclass, and dict is none"):
        parse_options(dict, {}, owner="walker")


def test_options_are_described_for_people():
    lines = [str(option) for option in describe_options(Everything)]
    assert lines == [
        "steps=3 (whole number): Steps in all, counted from 1.",
        "width=0.1 (number)",
        "limit=inf (number): Upper limit, kT.",
        "fast=no (yes or no)",
        "name=x (text)",
        "file=a.txt (path)",
        "cut=none (none | psis)",
        "gpus=0 (0 | 1)",
        "colour=red (red | blue)",
        "seed=none (whole number or none)",
    ]
    assert str(describe_options(Needy)[0]) == "file (path)"


def test_a_described_default_is_read_back_as_the_default():
    for kind in (Everything, SMCOptions, Slurm):
        words = {option.name: option.default for option in describe_options(kind)}
        assert parse_options(kind, words, owner="walker") == kind()


def test_every_option_of_the_core_has_a_meaning():
    for kind in (SMCOptions, Slurm):
        assert [option.name for option in describe_options(kind) if not option.meaning] == []


def test_options_of_derived_dataclasses_keep_the_meanings_of_the_base():
    @dataclass(frozen=True)
    class Derived(Everything):
        steps: int = 9

    described = {option.name: option for option in describe_options(Derived)}
    assert (described["steps"].default, described["limit"].meaning) == ("9", "Upper limit, kT.")


def test_settings_and_prefixes():
    settings = parse_settings(["a=1", "temperature=300", "estimator.cut=psis", "cluster.gpu=1"])
    assert select_sampler_options(settings) == {"a": "1"}
    with pytest.raises(
        bgbench.BgbenchError, match="--set a is there twice, as '1' and as '2'; leave one out"
    ):
        parse_settings(["a=1", "a=2"])
    assert select_prefixed(settings, "estimator") == {"cut": "psis"}
    refuse_unknown_prefixes(settings)
    with pytest.raises(bgbench.BgbenchError) as error:
        refuse_unknown_prefixes({"estimatr.cut": "psis"})
    assert str(error.value) == (
        "--set estimatr.cut=psis: unknown prefix 'estimatr.'; did you mean 'estimator.cut'? "
        "Known prefixes: estimator., cluster."
    )
    for word in ("a", "=1"):
        with pytest.raises(bgbench.BgbenchError, match="write KEY=VALUE"):
            parse_settings([word])


def test_ranges_refuse_what_is_not_a_number():
    for value in (math.nan, -1.0, 2.0):
        with pytest.raises(bgbench.BgbenchError, match="width must lie between 0 and 1, got"):
            refuse_outside("width", value, 0, 1)
    for value in (math.nan, math.inf, 0.5):
        with pytest.raises(bgbench.BgbenchError, match="width must be 1 or more, got"):
            refuse_below("width", value, 1)
    refuse_outside("width", 1.0, 0, 1)
    refuse_below("width", 1, 1)
    with pytest.raises(bgbench.BgbenchError, match="cut must be one of none, psis, got 'psi'"):
        refuse_unknown_words(Everything(cut="psi"))
    refuse_unknown_words(Everything(cut="psis"))


def test_the_examples_of_the_docstrings_run():
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted >= 4
    assert bgbench.parse_options is parse_options


def plugin(build):
    """The two fields that the laws look at, whichever kind of plugin it is."""
    return SimpleNamespace(name="theirs", build=build)


def crash(options):
    raise KeyError(*options)


def refuse_silently(options):
    if options:
        raise bgbench.BgbenchError("wrong options")


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda options: float(options.get("width", "0.1")), "theirs accepts --set no_such_option=1; read"),
        (crash, "theirs fails on an unknown option with KeyError, not BgbenchError"),
        (refuse_silently, "theirs refuses an unknown option without naming it: wrong options"),
    ],
)
@pytest.mark.parametrize("laws", [SamplerPluginLaws, EstimatorPluginLaws])
def test_the_law_fails_for_plugins_that_swallow_options(build, complaint, laws):
    with pytest.raises(AssertionError, match=complaint):
        laws().test_refuses_an_unknown_option(plugin(build))


def test_the_law_holds_for_plugins_that_use_the_parser():
    build = partial(parse_options, Everything, owner="theirs")
    SamplerPluginLaws().test_refuses_an_unknown_option(plugin(build))


SHIPPED_ESTIMATORS = [
    name for name in plugins().estimators if plugins().estimators.origin(name).distribution == "bgbench"
]


def test_every_shipped_estimator_is_under_the_law():
    assert {"none", "snis", "mcmc"} < set(SHIPPED_ESTIMATORS)


class TestShippedEstimators(EstimatorPluginLaws):
    @pytest.fixture(params=SHIPPED_ESTIMATORS)
    def plugin(self, request):
        return plugins().estimators[request.param]


def test_an_option_that_the_run_would_keep_for_itself_is_refused():
    @dataclass(frozen=True)
    class Warm:
        temperature: float = 300.0

    with pytest.raises(bgbench.BgbenchError, match="my has an option 'temperature', which is the run's"):
        parse_options(Warm, {}, owner="my")
    assert parse_options(Warm, {"temperature": "350"}, owner="my", prefix="estimator").temperature == 350
