"""Hydrogens on one atom that only their names tell apart, and which of the two is which.

The force field treats them alike, but start structures name them by chance, and nothing exchanges them in a
simulation. The flow therefore knows one naming: of two rivals a and b with dihedrals against the same atoms,
sin φ_b > sin φ_a; where b is placed against a, cos φ_a > cos(φ_a + φ_b). One of two namings satisfies it.
Samples are named by chance again, each naming with one half of the density.
"""

import math

import torch
from torch import Tensor

from bgbench_verse.internal import at, internals, widen
from bgbench_verse.tree import Trees


def chained(tree: Trees) -> Tensor:
    """`(b, N)` where an atom is placed against its own rival."""
    return (tree.third == tree.rival) & contested(tree)


def contested(tree: Trees) -> Tensor:
    """`(b, N)` where an atom has a rival."""
    return tree.rival != torch.arange(tree.rival.shape[1], device=tree.rival.device)


def n_pairs(tree: Trees) -> Tensor:
    """How many pairs of rivals there are, `(b,)`."""
    return contested(tree).sum(1)


def allowed(first: Tensor, chain: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half the length of the arc in which the second of two rivals lies, given φ of the first."""
    beyond = torch.where(chain, math.pi - first, torch.full_like(first, math.pi / 2))
    turned = torch.remainder(first + math.pi, 2 * math.pi) - math.pi
    half = torch.where(chain, math.pi - turned.abs(), math.pi / 2 - torch.asin(torch.sin(first).clamp(-1, 1)))
    return beyond, half


def outside(phi: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    """Whether φ lies off the arc about `middle`."""
    return (torch.remainder(phi - middle + math.pi, 2 * math.pi) - math.pi).abs() >= half


def in_order(phi: Tensor, tree: Trees) -> Tensor:
    """`(n, N)`: whether each atom and its rival have the flow's names, from dihedrals `phi (n, N)`."""
    first, chain = at(phi, tree.rival), widen(chained(tree), len(phi))
    right = torch.where(chain, torch.cos(first) > torch.cos(first + phi), torch.sin(phi) > torch.sin(first))
    return right | ~widen(contested(tree), len(phi))


def renamed(x: Tensor, tree: Trees) -> Tensor:
    """`x (n, N, 3)` in placing order with rivals exchanged where they had the other names."""
    _, _, phi = internals(x, tree)
    return exchanged_rivals(x, tree, ~in_order(phi, tree))


def exchanged_rivals(x: Tensor, tree: Trees, swap: Tensor) -> Tensor:
    """`x (n, N, 3)` with each atom and its rival exchanged where `swap (n, N)` says so of the second."""
    places = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    rival = widen(tree.rival, len(x))
    swap = swap & (rival != places)
    order = torch.where(swap, rival, places)
    # Where a second takes its rival's place, the rival takes the second's.
    order = order.scatter(1, torch.where(swap, rival, places), torch.where(swap, places, order))
    return x.gather(1, order[..., None].expand_as(x))
