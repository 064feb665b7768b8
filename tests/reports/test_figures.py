"""The page of a run: figures and tables that people read, and nothing that asks another host."""

import re

import pytest

from bgbench.api import run
from bgbench.reports.figures import weight_diagnostics
from bgbench.reports.page import write_report
from bgbench.runs.runfolder import RunFolder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        # Other tests have references of their own, without a TICA model.
        patch.setenv("BGBENCH_REFERENCES", str(folder))
        run("verse", only=("AA",), budget=200, seeds=1, workers=0, out=folder / "run", tracking_uri="none")
    return write_report([RunFolder.open(folder / "run")], folder / "report.html").read_text()


def test_no_other_host_is_asked(page):
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "<script src" not in page


@pytest.mark.parametrize("kind", ["ramachandran", "tica", "energy", "weights"])
def test_every_kind_of_figure_is_there(page, kind):
    assert f'alt="{kind} of AA, sampler beside reference"' in page


def test_the_ledger_and_the_origin_are_tables(page):
    ledger = re.search(r"<caption>Budget ledger</caption>(.*?)</table>", page, re.DOTALL).group(1)
    assert "<td>sample</td><td>energy</td><td>200</td>" in ledger
    assert "<td>sample</td><td>drawn</td><td>200</td>" in ledger
    facts = re.search(r"<caption>Provenance</caption>(.*?)</table>", page, re.DOTALL).group(1)
    named = re.findall(r"<th scope=\"row\">(.*?)</th><td>(.+?)</td>", facts)
    assert {name for name, _ in named} >= {
        "record",
        "commit",
        "versions",
        "host",
        "weights",
        "reference",
        "seconds",
    }


def test_the_weights_figure_draws_each_share_and_the_line_of_one_weight():
    against = {"100": 0.5, "1000": 0.25, "5000": 0.1}
    (ax,) = weight_diagnostics(against, {"pareto_k": 0.7}).axes
    drawn, line = ax.lines
    assert list(drawn.get_xdata()) == [100, 1000, 5000]
    assert list(drawn.get_ydata()) == [0.5, 0.25, 0.1]
    assert list(line.get_ydata()) == pytest.approx([0.01, 0.001, 0.0002])
    assert "pareto_k 0.7" in ax.get_title()
