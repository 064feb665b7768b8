"""The plugin contract: nine hooks, each documented, tested by name, used by a shipped plugin."""

import inspect
import types

import pytest

from bgbench import BgbenchError, SamplerPlugin, hookimpl
from bgbench.core import hookspecs
from bgbench.core.plugins import Origin, Plugins, plugins

HOOKS = [name for name in vars(hookspecs) if name.startswith("bgbench_")]


def module(**hooks):
    made = types.ModuleType("third_party")
    for name, function in hooks.items():
        setattr(made, name, hookimpl(function))
    return made


def sampler(name):
    return SamplerPlugin(name, "a test", build=lambda options: None)


def test_the_contract_is_nine_typed_documented_hooks():
    assert len(HOOKS) == 9
    assert {hook.removeprefix("bgbench_") for hook in HOOKS} == set(Plugins().registries)
    for name in HOOKS:
        hook = getattr(hookspecs, name)
        assert inspect.getdoc(hook)
        assert "return" in hook.__annotations__


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_used_by_a_shipped_plugin(hook):
    assert getattr(plugins().manager.hook, hook).get_hookimpls()


def test_a_misspelt_hook_is_an_error():
    with pytest.raises(BgbenchError, match="bgbench_samplres"):
        Plugins().register(module(bgbench_samplres=lambda: []), Origin("typo", "typo-dist", "1"))


def test_a_duplicate_name_names_both_distributions():
    registry = Plugins()
    registry.register(module(bgbench_samplers=lambda: [sampler("x")]), Origin("one", "dist-one", "1"))
    with pytest.raises(BgbenchError, match=r"dist-one .* dist-two"):
        registry.register(module(bgbench_samplers=lambda: [sampler("x")]), Origin("two", "dist-two", "1"))


def test_shipped_samplers_come_through_the_same_door():
    registry = plugins()
    for name in ("md", "prose", "prior", "reference"):
        assert registry.samplers.origin(name).distribution == "bgbench"
    with pytest.raises(BgbenchError, match="unknown sampler 'nosuch'; known: "):
        registry.samplers["nosuch"]
