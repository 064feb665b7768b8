"""The core's metrics, as registered."""

from bgbench.abstract import MetricPlugin
from bgbench.metrics.distances import energy_w2, tica_w2, torus_w2
from bgbench.metrics.histograms import mode_weights, tica_jsd, torus_jsd
from bgbench.metrics.validity import validity
from bgbench.metrics.weights import importance

PROSE = "arXiv 2508.18175"

METRICS = (
    MetricPlugin("ess", "Kish ESS over all weights, with companions", importance, "", "higher", "Kish 1965"),
    MetricPlugin("energy_w2", "W2 of the energy, exact", energy_w2, "kT", "lower", PROSE),
    MetricPlugin("torus_w2", "exact W2 over φ, ψ", torus_w2, "rad", "lower", PROSE),
    MetricPlugin("tica_w2", "exact W2 on two TICs", tica_w2, "", "lower", PROSE),
    MetricPlugin("torus_jsd", "divergence over 20 torsion cells", torus_jsd, "bit", "lower", PROSE),
    MetricPlugin("tica_jsd", "divergence over 20 TICA cells", tica_jsd, "bit", "lower", PROSE),
    MetricPlugin("mode_weights", "error of state populations", mode_weights, "", "lower"),
    MetricPlugin("validity", "chemically sensible samples", validity, "", "higher"),
)
