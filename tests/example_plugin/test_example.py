"""The example plugin against the law books, as in any repository of a plugin."""

import sys
from pathlib import Path

import pytest

from bgbench.testing import DensitySamplerLaws, EstimatorPluginLaws, SamplerPluginLaws


@pytest.fixture(scope="module")
def example():
    """The package from its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        import bgbench_example

        yield bgbench_example
    for name in [name for name in sys.modules if name.partition(".")[0] == "bgbench_example"]:
        del sys.modules[name]


class TestWobble(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self, example):
        return example.Wobble()


class TestSampler(SamplerPluginLaws):
    @pytest.fixture
    def plugin(self, example):
        return example.bgbench_samplers()[0]


class TestEstimator(EstimatorPluginLaws):
    @pytest.fixture
    def plugin(self, example):
        return example.bgbench_estimators()[0]
