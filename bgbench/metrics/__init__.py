"""Ensemble against reference, in numbers: each metric is a function of a `MetricCase`."""
