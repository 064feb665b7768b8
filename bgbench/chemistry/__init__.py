"""Sequence → atoms, bonds, start structure; names, residues, chirality. Knows no energies."""

from bgbench.chemistry.build import Built, build_peptide
from bgbench.chemistry.encodings import Encoding, encode
from bgbench.chemistry.residues import ONE_TO_THREE, Atom, parse_sequence

__all__ = ["ONE_TO_THREE", "Atom", "Built", "Encoding", "build_peptide", "encode", "parse_sequence"]
