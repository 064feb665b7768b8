"""Mirror images in the proposals of a flow that does not distinguish left from right: a named rule for them,
with the rates in the record.
"""

from dataclasses import replace
from typing import Any, Literal

import torch

from bgbench.core.types import Proposal, System
from bgbench.systems.chirality import is_mirrored, is_wrong

HandednessOption = Literal["protocol", "zero", "fold", "flip"]
"""What `estimator.handedness` may be: a rule of `apply_chirality_rule`; `protocol`: that of the protocol."""


def apply_chirality_rule(system: System, proposal: Proposal, rule: str) -> tuple[Proposal, dict[str, Any]]:
    """Apply a rule for wrong chirality to a proposal, and report the rates before it.

    Args:
        system: The system; one without atoms (an analytic one) has no chirality and passes through.
        proposal: Samples `x (n, atoms, 3)` nm.
        rule: `flip`: mirror images become −x and keep the log_q of x (the published rule, arXiv 2508.18175).
            `fold`: the same, where log_q is already log(q(x) + q(−x)). `zero`: samples stay as they are, and
            the caller gives those of wrong chirality no weight (`densities.outside_target`).

    Returns:
        The proposal under the rule, and for the record the rule with the fractions of samples before it that
        have wrong chirality (`wrong_hand`), that are mirror images as a whole (`mirrored`), and that have
        wrong chirality and are no mirror images (`unrepairable`). No rates for a system without atoms.
    """
    if not system.atoms:
        return proposal, {}
    wrong, mirrored = is_wrong(system, proposal.x), is_mirrored(system, proposal.x)
    rates: dict[str, Any] = {
        "rule": rule,
        "wrong_hand": float(wrong.double().mean()) if len(wrong) else 0.0,
        "mirrored": float(mirrored.double().mean()) if len(wrong) else 0.0,
        "unrepairable": float((wrong & ~mirrored).double().mean()) if len(wrong) else 0.0,
    }
    if rule == "zero":
        return proposal, rates
    x = torch.where(mirrored[:, None, None], -proposal.x, proposal.x)
    return replace(proposal, x=x), rates
