"""What is sampled: peptides, analytic systems, those of plugins; their atoms, bonds, chirality and features.

Open `peptides` first: `peptide` makes a `System` from a one-letter sequence, with hydrogens and an extended
start structure, and needs no network. `residues` lists the 20 residues and checks sequences; `topology` reads
the sequence and the bonds of a list of named atoms. `analytic` holds systems of one particle whose log Z and
moments are known in closed form, by which samplers and estimators are tested; they are registered like the
systems of any plugin. `named` (`find_system`) finds a system by the name that a suite lists, whichever it is.
`structures` makes systems of PDB files that lie beside a suite's file, and says what it cannot take.

Most other modules compute properties of conformers, tensors of shape `(n, atoms, 3)` in nm. Read `features`
first (backbone torsions in rad, and the inputs of TICA, which finds the slowest coordinates), then
`chirality` (whether each stereocentre is natural or a mirror image), `bonds` (whether bonds are broken) and
`broken`, which uses all three to flag frames that no reference should hold; `faults` notes in eight bits what
is wrong with each of many draws. `encodings` numbers the types of
atoms and residues for networks that work on any peptide.

Files of other programs come in by `trajectories` (`read_trajectory`: mdtraj's formats and npz, with their
atoms) and `matching` (`match_atoms` by their names, Å brought to nm, what is wrong with frames).

The lists of systems that a run goes through, the suites, are in `evaluation.suites`. The energies of peptides
are in the room `energies`; only those of analytic systems are here, because their exact answers are.
"""
