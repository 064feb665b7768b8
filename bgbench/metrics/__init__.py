"""Ensemble against reference, in numbers: each metric is a function of a `MetricCase`.

A `MetricCase` is an estimate beside the reference of its system. A metric returns its value, and perhaps
companions, by name. Open `registry` first: `METRICS` lists every metric of the core with its unit and the
direction that is better, and leads to the function behind it. `compute` computes metrics by name, those of
plugins included, and `names` says which of them tables show and ranks rest on.

Then read `sides`, which selects the frames of both sides that are compared, and the metrics themselves:
`distances` (Wasserstein distances of the energy in kT, of torsions in rad, and in TICA coordinates),
`histograms` (divergences in bit, and populations of states), `weights` (effective sample size) and `validity`
(chirality, bonds, clashes). `free_energy` compares free-energy differences in kT; they are diagnostics of the
record and no registered metric. `transport` with its inner loop `pricing` solves optimal transport exactly,
and `clusters` is k-means.

Noise floors, skills and the rules of judging (protocols) are in `evaluation`, statistics over systems and
seeds are in `reports.statistics`. No energy is evaluated here.
"""
