"""What every room speaks: values, interfaces, the plugin contract, options, files, errors, units.

Open `types` first. It holds the frozen values that travel between stages: `System` (atoms, bonds, a start
structure, temperature, force field), `Proposal` (the conformers that a sampler returns), `Ensemble`
(conformers with weights) and `Reference` (the conformers that count as the truth). Then read `abstract`, the
interfaces of samplers, energies and estimators with the values that they exchange (`Task`, `Estimate`,
`MetricCase`), `simulation`, the interface of engines that simulate references, and `hookspecs`, the whole
contract of plugins on one page. `plugins` finds what is installed, and its function `energy` builds the
energy of a system from the name of a backend. `calls` is how the core calls a sampler: what comes back is
checked and moved. `counting` counts evaluations of the target, so that those made past the meter are noticed.
`devices` finds the device that samplers compute on and says afterwards which one did, `noise` draws the same
random numbers for every device, and `elsewhere` is a device that is not there, for tests without a GPU.
`guard` notices when a plugin changes anything global, and restores it.

The other modules are tools. `options` fills a dataclass from the words of a command line, `errors` says what
ends a run or only one cell, `files` writes files that are either whole or absent, `shapes` says what open
tables must hold that others read, `resources` locates packaged files, `streams` sends what a thread prints
elsewhere, `threads` lets threads inherit from the block that starts them, `kernels` compiles functions by
numba, with a cache where there is a place for one, and `units` gives kT. Lengths are in nm, temperatures in K
and energies in kT, that is in RT at the temperature of the system.

No sampler, energy, estimator or metric is implemented here: those are in the rooms above and in plugins.
"""
