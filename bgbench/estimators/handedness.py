"""Mirrored samples of a flow that does not know left from right: a named step, never silent."""

from dataclasses import replace
from typing import Any

import torch

from bgbench.core.types import Proposal, System
from bgbench.systems.chirality import is_mirrored, is_wrong


def settle(system: System, proposal: Proposal, rule: str) -> tuple[Proposal, dict[str, Any]]:
    """Apply a protocol's rule to a proposal and report the rates before it.

    `flip`: mirrored samples become −x, with log q of the unflipped one (the published rule). `fold`: the
    same, and log q must already be log(q(x) + q(−x)). `zero`: wrong-handed samples get no weight (the
    caller sets it from `wrong`). Systems without chemistry pass through.
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
