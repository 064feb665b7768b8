"""What a list of named atoms is: its chain, and its bonds by the templates of the standard residues."""

from collections.abc import Sequence
from functools import lru_cache

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Atom
from bgbench.systems.residues import END_CAP, ONE_TO_THREE, START_CAP, Chain

THREE_TO_ONE = {
    **{three: one for one, three in ONE_TO_THREE.items()},
    "HIE": "H",
    "HID": "H",
    "HIP": "H",
    "CYX": "C",
    "ASH": "D",
    "GLH": "E",
    "LYN": "K",
}
"""Residue names, Amber's names of protonation states among them, to one-letter codes."""


def sequence_of(atoms: Sequence[Atom]) -> str:
    """The one-letter sequence of atoms by the names of their residues, whatever their file is called.

    Args:
        atoms: in any order.

    Returns:
        The sequence.

    Raises:
        BgbenchError: for a residue that is not one of the 20 standard ones, caps included.

    >>> sequence_of([Atom(1, "SER", "N", "N"), Atom(0, "ALA", "N", "N"), Atom(0, "ALA", "CA", "C")])
    'AS'
    """
    chain = chain_of(atoms)
    if chain.start_cap or chain.end_cap:
        raise BgbenchError(f"{chain.name} has caps, and is no peptide of the 20 standard residues alone")
    return chain.sequence


def chain_of(atoms: Sequence[Atom]) -> Chain:
    """The sequence and the caps of atoms by the names of their residues, whatever their file is called.

    Args:
        atoms: in any order.

    Returns:
        The chain; of protonation states and ends without a cap it says nothing.

    Raises:
        BgbenchError: for a residue that is not one of the 20 standard ones, or a cap that is not at its end.

    >>> chain_of([Atom(1, "SER", "N", "N"), Atom(0, "ACE", "C", "C"), Atom(1, "SER", "CA", "C")]).name
    'ACE-S'
    """
    names = {atom.residue: atom.residue_name for atom in atoms}
    residues = [names[number] for number in sorted(names)]
    start_cap, end_cap = residues[0] == START_CAP, residues[-1] == END_CAP
    middle = residues[start_cap : len(residues) - end_cap]
    strange = [name for name in middle if name not in THREE_TO_ONE]
    if strange:
        raise BgbenchError(
            f"residue '{strange[0]}' is not one of the 20 standard residues, nor the cap {START_CAP} before "
            f"the first or {END_CAP} behind the last of them"
        )
    return Chain("".join(THREE_TO_ONE[name] for name in middle), start_cap, end_cap)


def letters_of(atoms: Sequence[Atom]) -> str:
    """The one-letter sequence of atoms, whatever their caps; empty where they are no peptide's.

    >>> letters_of([Atom(0, "ACE", "C", "C"), Atom(1, "SER", "CA", "C")]), letters_of(())
    ('S', '')
    """
    try:
        return chain_of(atoms).sequence if atoms else ""
    except BgbenchError:
        return ""


@lru_cache(maxsize=1024)
def template_bonds(atoms: tuple[Atom, ...]) -> tuple[tuple[int, int], ...]:
    """Bonds by OpenMM's templates of the standard residues, as pairs of places in `atoms`.

    Nothing is built, which takes a thousandth of the time of a start structure. An atom whose name the
    templates do not know has no bond.
    """
    import openmm.app as app

    topology, order = app.Topology(), sorted(range(len(atoms)), key=lambda k: atoms[k].residue)
    chain = topology.addChain()
    residues = {
        number: topology.addResidue(name, chain)
        for number, name in {atoms[k].residue: atoms[k].residue_name for k in order}.items()
    }
    for k in order:
        element = app.Element.getBySymbol(atoms[k].element)
        topology.addAtom(atoms[k].name, element, residues[atoms[k].residue])
    topology.createStandardBonds()
    return tuple((order[a.index], order[b.index]) for a, b in topology.bonds())
