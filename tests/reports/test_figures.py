"""The page of a run: figures and tables that people read, and nothing that asks another host."""

import re

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bgbench import Ensemble
from bgbench.api import run
from bgbench.metrics.names import HEADLINE
from bgbench.reports.axes import log_ticks, set_log, set_scale
from bgbench.reports.compare import Comparison, draw_comparison
from bgbench.reports.figures import CAPTIONS, HIGHEST, maps, weight_diagnostics
from bgbench.reports.page import write_report
from bgbench.reports.statistics import Interval
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
    fractions, line = ax.lines
    assert list(fractions.get_xdata()) == [100, 1000, 5000]
    assert list(fractions.get_ydata()) == [0.5, 0.25, 0.1]
    assert list(line.get_ydata()) == pytest.approx([0.01, 0.001, 0.0002])
    assert "pareto_k 0.7" in ax.get_title()


def test_a_table_shows_what_leads_with_skill_and_means_below(page):
    heads = re.findall(r'<th scope="col">([^<]*)</th>', page.split("<tbody>")[0])
    assert [head.split()[0] for head in heads[:4]] == ["system", "seed", "status", "skill"]
    assert [head.split()[0] for head in heads[4:-3]] == list(HEADLINE)
    foot = re.search(r"<tfoot>(.*?)</tfoot>", page, re.DOTALL).group(1)
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in foot.split("</tr>")[:3]]
    assert [row[0] for row in rows] == [
        "mean of finished cells",
        "exact draws (noise floor)",
        "Gaussian around the start",
    ]
    assert [row[1] for row in rows[1:]] == ["1", "0"]
    torus = 2 + HEADLINE.index("torus_w2")
    assert float(rows[1][torus]) < float(rows[2][torus])
    assert "<caption>Every metric</caption>" in page
    assert "torus_jsd" in page.split("<caption>Every metric</caption>")[1]


def test_every_figure_has_a_caption_and_every_run_a_verdict(page):
    for kind in ("ramachandran", "tica", "energy", "weights", "free-energy"):
        assert CAPTIONS[kind] in page
    assert 'alt="free-energy of AA' in page, "it was called energy"
    assert "Skill is that of torus_w2: 1 on the noise floor" in page


@pytest.fixture
def clouds(generator):
    """Reference and sampler: points of one Gaussian, and an ensemble of as many with uneven weights."""
    n = 4000
    points = torch.randn(2, n, 2, generator=generator).numpy()
    log_w = torch.full((n,), -30.0)
    log_w[:50] = 0.0
    return points[0], points[1], Ensemble(torch.randn(n, 1, 3, generator=generator), torch.zeros(n), log_w)


def test_maps_share_one_scale_which_a_bar_explains(clouds):
    """Panels had a zero each, and where few points carry the weight all others were one yellow."""
    truth, ours, ensemble = clouds
    figure, ((reference, unweighted, weighted),) = maps(
        [(truth, ours)], [np.array([[-4.0, 4.0], [-4.0, 4.0]])], ensemble, "gold"
    )
    images = [ax.images[0] for ax in (reference, unweighted, weighted)]
    assert {image.get_clim() for image in images} == {(0.0, HIGHEST)}
    assert images[0].get_array().min() == pytest.approx(0.0)
    (bar,) = [ax for ax in figure.axes if ax.get_ylabel() == "−log density (kT)"]
    assert bar.get_ylim() == (0.0, HIGHEST)
    assert weighted.get_title() == "weighted: 50 of 4,000 count"
    shown = [int((~np.ma.getmaskarray(image.get_array())).sum()) for image in images]
    assert shown[2] <= 50 < shown[1], (
        "points without weight are no colour, and the unweighted ones stand beside"
    )


def test_equal_weights_have_one_map(clouds):
    truth, ours, ensemble = clouds
    equal = Ensemble.unweighted(ensemble.x, ensemble.u)
    _, axes = maps([(truth, ours)], [np.array([[-4.0, 4.0], [-4.0, 4.0]])], equal, "gold")
    assert [ax.get_title() for ax in axes[0]] == ["reference (gold)", "sampler"]


@pytest.mark.parametrize(("low", "high"), [(100, 300), (0.2, 0.6), (3e-4, 3.1e-4), (1, 1e7), (0.61, 1.3)])
def test_logarithmic_axes_have_labels_whatever_they_span(low, high):
    """Within one decade there were none."""
    figure = Figure()
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.plot([low, high], [low, high])
    set_scale(ax, "x", [low, 11 * high])
    assert ax.get_xscale() == "log"
    figure.canvas.draw()
    first, last = ax.get_xlim()
    labels = [label.get_text() for label in ax.get_xticklabels() if first <= label.get_position()[0] <= last]
    assert len([label for label in labels if label]) >= 3
    assert 3 <= len(log_ticks(low, high * 1.02)) <= 9


@pytest.mark.parametrize(("low", "high"), [(1e-20, 1.0), (1e-8, 1e5), (1e-9, 1e31), (1e-200, 1e200)])
def test_axes_of_poor_runs_have_labels_over_any_number_of_decades(low, high):
    """Scores of a poor sampler: ticks fell back to linear ones, and the logarithm of the first, 0, failed."""
    set_log(Figure().subplots(), "y", [low, high])
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert all(low <= tick <= high and tick == float(f"{tick:.0e}") for tick in ticks)


def test_linear_axes_stay_where_numbers_lie_close():
    ax = Figure().subplots()
    for values in ([1.0, 9.0], [-1.0, 100.0], [0.0, 5.0], []):
        set_scale(ax, "x", values)
        assert ax.get_xscale() == "linear", values


def test_the_comparison_shows_the_floor_and_is_not_squashed_by_the_worst(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *words, **options: figures.append(self))
    intervals = {"good": Interval(0.3, 0.2, 0.4, 0.3), "worst": Interval(500.0, 400.0, 600.0, 500.0)}
    item = Comparison(
        "energy_w2", "lower", "kT", ("good", "worst", "walk"), ("AA",), intervals, {}, (), {}, floor=0.25
    )
    draw_comparison([item], tmp_path / "f.png")
    (ax,) = figures[0].axes
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "energy_w2 (kT), lower is better"
    assert [list(line.get_xdata()) for line in ax.lines if line.get_label() == "noise floor"] == [
        [0.25, 0.25]
    ]
    assert [text.get_text() for text in ax.texts] == ["equal weights"]
    low, high = ax.get_xlim()
    assert low < 0.2 < 600 < high
