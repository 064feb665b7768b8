"""Samples of the flow, atom by atom, with their log q.

The conditionals are those of `density`, computed for one atom at a time: keys and values of the atoms placed
so far are cached, so that a sample costs as much attention as one pass over all atoms. φ comes first, θ given
φ, then r given both; the atom is put into Cartesian space before the next one is sampled.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import bgbench.data
from bgbench_verse.density import (
    SHORTEST_ARC,
    angle_bounds,
    length_bounds,
    log_prob_on_arc,
)
from bgbench_verse.internal_coordinates import local_axes, to_cartesian
from bgbench_verse.mixtures import WrappedNormalMixture
from bgbench_verse.molecule import MoleculeBatch
from bgbench_verse.network import KeysValues, Verse
from bgbench_verse.prochiral import Arc, canonical_arc, is_measured_from_partner
from bgbench_verse.reference_geometry import expected_angle
from bgbench_verse.truncation import LEAST_MASS, TruncatedMixture


def sample_conformers(
    net: Verse, molecules: MoleculeBatch, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """n conformers of one peptide and their log q.

    Args:
        net: The network.
        molecules: The one peptide (b = 1).
        n: Number of samples.
        generator: Source of all random numbers.

    Returns:
        `(n, N, 3)` nm in placing order, hydrogens under canonical names, and log q `(n,)` as `log_density`
        gives it.
    """
    n_atoms = molecules.mask.shape[1]
    embedding = net.atoms(molecules.atom_codes)
    workspace = _Workspace(net, molecules, embedding.new_zeros(n, n_atoms, 3))
    log_q, phi = embedding.new_zeros(n), embedding.new_zeros(n, n_atoms)
    for k in range(n_atoms):
        atom = embedding[:, k : k + 1].expand(n, -1, -1)
        coordinates = _sample_atom(workspace, k, workspace.state(k, atom), _arc(molecules, phi, k), generator)
        phi[:, k] = coordinates.phi
        log_q += coordinates.log_q
        token = net.token(atom, coordinates.r[:, None], coordinates.theta[:, None], coordinates.phi[:, None])
        workspace.remember(k + 1, net.keys_values(token))
    return workspace.x, log_q


@dataclass(frozen=True)
class _SampledCoordinates:
    """Standardised r, θ and φ of one atom, and their part of log q, `(n,)` each."""

    r: Tensor
    theta: Tensor
    phi: Tensor
    log_q: Tensor


class _Workspace:
    """Conformers `x (n, N, 3)` while they are built, and the keys and values of the atoms that are placed."""

    def __init__(self, net: Verse, molecules: MoleculeBatch, x: Tensor) -> None:
        self.net, self.molecules, self.x = net, molecules, x
        n, n_tokens = len(x), x.shape[1] + 1
        start = net.keys_values(net.nothing)
        self._cache = [
            KeysValues(_allocate(layer.keys, n, n_tokens), _allocate(layer.values, n, n_tokens))
            for layer in start
        ]
        self.remember(0, start)

    def remember(self, token: int, layers: list[KeysValues]) -> None:
        """Store the keys and values of one token, `(n, heads, 1, ·)` each, of every layer."""
        for cache, new in zip(self._cache, layers, strict=True):
            cache.keys[:, :, token] = new.keys[:, :, 0]
            cache.values[:, :, token] = new.values[:, :, 0]

    def frame(self, k: int) -> tuple[Tensor, Tensor]:
        """Parent `(n, 3)` and local axes `(n, 3, 3)` of the atom of step k; unit axes before the fourth."""
        zmatrix, x = self.molecules.zmatrix, self.x
        columns = (zmatrix.parent, zmatrix.angle_reference, zmatrix.dihedral_reference)
        parent, angle_reference, dihedral_reference = (x[:, int(column[0, k])] for column in columns)
        if k >= 3:
            return parent, local_axes(parent, angle_reference, dihedral_reference)
        return parent, torch.eye(3, dtype=x.dtype, device=x.device).expand(len(x), 3, 3)

    def state(self, k: int, embedding: Tensor) -> Tensor:
        """The state of the atom of step k with this `embedding (n, 1, width)`, from the atoms before it."""
        parent, local = self.frame(k)
        geometry = self.net.pair_geometry(self.x[:, :k], parent[:, None], local[:, None])
        geometry = geometry * (1.0 if k >= 3 else 0.0)
        tokens = [KeysValues(c.keys[:, :, : k + 1], c.values[:, :, : k + 1]) for c in self._cache]
        return self.net.states(embedding, tokens, geometry, None)


def _allocate(like: Tensor, n: int, n_tokens: int) -> Tensor:
    """Memory for the keys or values of n samples, with heads and channels as in `like`."""
    return like.new_empty(n, like.shape[1], n_tokens, like.shape[3])


def _arc(molecules: MoleculeBatch, phi: Tensor, k: int) -> Arc | None:
    """The arc of canonical φ of the atom of step k, `(n, 1)`; None without a prochiral partner."""
    zmatrix = molecules.zmatrix
    partner = int(zmatrix.prochiral_partner[0, k])
    if partner == k:
        return None
    first = phi[:, partner : partner + 1]
    return canonical_arc(first, is_measured_from_partner(zmatrix)[:, k : k + 1].expand_as(first))


def _sample_dihedral(
    dihedral: WrappedNormalMixture, arc: Arc | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """φ and its log probability, `(n, 1)` each, by rejection where an arc restricts it."""
    phi = dihedral.sample(generator)
    if arc is None:
        return phi, dihedral.log_prob(phi)
    mass = dihedral.arc_mass(arc.middle, arc.half_length)
    fraction = 2 * bgbench.data.uniform_noise(generator, phi.shape, phi) - 1
    uniform = torch.remainder(arc.middle + arc.half_length * fraction + math.pi, 2 * math.pi) - math.pi
    phi = torch.where(mass < LEAST_MASS, uniform, phi)
    while bool((rejected := arc.excludes(phi) & (mass >= LEAST_MASS)).any()):
        phi = torch.where(rejected, dihedral.sample(generator), phi)
    return phi, log_prob_on_arc(dihedral.log_prob(phi), mass, arc.half_length.clamp_min(SHORTEST_ARC))


def _sample_atom(
    workspace: _Workspace, k: int, state: Tensor, arc: Arc | None, generator: torch.Generator
) -> _SampledCoordinates:
    """Sample the coordinates of the atom of step k from its `state (n, 1, width)`, and place it in `x`."""
    net, molecules, x = workspace.net, workspace.molecules, workspace.x
    geometry = molecules.geometry.of_step(k)
    zero = x.new_zeros(len(x), 1)
    r_std, theta_std, phi, log_q = zero, zero, zero, zero
    if k >= 3:
        phi, log_prob = _sample_dihedral(net.dihedral(state, geometry), arc, generator)
        log_q = log_q + log_prob
    parent, local = workspace.frame(k)
    angle_reference = x[:, int(molecules.zmatrix.angle_reference[0, k])]
    placement = molecules.zmatrix.placement[:, k : k + 1]
    expected = expected_angle(parent[:, None], angle_reference[:, None], placement, geometry)
    if k >= 2:
        angle = TruncatedMixture(net.angle(state, phi), angle_bounds(expected, geometry))
        theta_std = angle.sample(generator)
        log_q = log_q + angle.log_prob(theta_std)
    if k == 0:
        return _SampledCoordinates(r_std[:, 0], theta_std[:, 0], phi[:, 0], log_q[:, 0])
    length = TruncatedMixture(net.length(state, phi, theta_std), length_bounds(geometry))
    r_std = length.sample(generator)
    log_q = log_q + length.log_prob(r_std)
    r = geometry.length + geometry.length_width * r_std
    log_q = log_q - torch.log(geometry.length_width) - 2 * torch.log(r)
    theta = zero
    if k >= 2:
        theta = expected + geometry.angle_width * theta_std
        log_q = log_q - torch.log(geometry.angle_width) - torch.log(torch.sin(theta))
    if k == 2:
        # The third atom may turn about the first bond: any axes with that bond for e_z will do.
        local = local_axes(parent, angle_reference, angle_reference + x.new_tensor([1.0, 0.0, 0.0]))
    x[:, k] = to_cartesian(parent, local, r[:, 0], theta[:, 0], phi[:, 0])
    return _SampledCoordinates(r_std[:, 0], theta_std[:, 0], phi[:, 0], log_q[:, 0])
