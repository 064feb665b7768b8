"""Which metrics lead: the one list behind tables, ranks, curves, floors and the board.

Every name is that of a registered metric (`bgbench list metrics`).
"""

RANKED = ("energy_w2", "torus_w2", "tica_w2", "mode_weights")
"""Distances to the reference that samplers are ranked by."""

COMPARED = ("ess", *RANKED)
"""What runs are compared on."""

HEADLINE = (*COMPARED, "validity")
"""Columns of the tables."""

CURVES = ("torus_w2", "energy_w2")
"""Distances drawn against the cost; break-even numbers are read off the first."""

DIVERGENCES = ("torus_jsd", "tica_jsd")
"""Distances that are squares already: noise adds to them, not to their squares."""

OF_WEIGHTS = ("ess", "ess_after_cut", "ess_truncated", "max_weight_share", "pareto_k")
"""What says nothing where all weights are equal, as those of a walk."""

WITH_FLOOR = ("energy_w2", "torus_w2", "tica_w2", *DIVERGENCES, "mode_weights")
"""Metrics of bgbench with a noise floor: all distances to the reference."""

WITH_SKILL = WITH_FLOOR[1:]
"""Metrics with a control: the prior, a Gaussian around the start structure. The energy has none, because any
sampler that relaxes a bond beats the prior there."""
