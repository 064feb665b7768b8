"""Walkers that follow an energy: Langevin dynamics, parallel tempering, solute scaling, reference engines.

A walker is one copy of a system that moves in time. Open `langevin` first: `Walkers` holds the state of many
independent walkers, and `Integrator` moves them in compiled code (steps in ps, masses in Da, positions in nm,
energies in kJ/mol). Then read `tempering`: `Tempering` exchanges walkers between the temperatures of a
`ladder`, and its lowest rung is the target temperature. `solute_scaling` exchanges walkers between copies of
the energy in which torsions, contacts and the solvent are scaled down at one temperature (as REST2 does), and
adds torsion moves. `device` holds ladders of both kinds in torch, all walkers of a molecule in one batch on
any device: what a GPU runs. `tempered` offers one ladder of either kind to samplers (`Tempered`,
`SoluteScaled`). They charge its energy evaluations to their budget before they run it.

`engines` is what makes reference frames: bgbench's own engines, registered like those of any plugin for
`bgbench data simulate --engine`. Each can be saved and resumed. Their interface and their settings are in
`core.simulation`. `find_engine` gives the engine that settings name, `start_engine` one on a device: on a CPU
the compiled walkers, elsewhere those of `device`.

Nothing is metered and no file is written here: `references.simulate` runs the engines and stores the frames.
The one Langevin step of an annealing is `estimators.langevin`, an estimator's own; the energies are in the
room `energies`.
"""
