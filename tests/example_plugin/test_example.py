"""The example plugin against the law books, as in any repository of a plugin."""

import importlib.util
from pathlib import Path

import pytest

from bgbench.testing import DensitySamplerLaws, SamplerPluginLaws

SPEC = importlib.util.spec_from_file_location("bgbench_example", Path(__file__).parent / "bgbench_example.py")
bgbench_example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bgbench_example)


class TestWobble(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self):
        return bgbench_example.Wobble()


class TestPlugin(SamplerPluginLaws):
    @pytest.fixture
    def plugin(self):
        return bgbench_example.bgbench_samplers()[0]
