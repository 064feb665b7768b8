"""The reduced energy u(x) = U/RT and its force: OpenMM as the truth, a batched copy, the meter of a budget.

Open `openmm` first: `OpenMMEnergy` is the energy that every other one is checked against, and `openmm_system`
makes the OpenMM system of a molecule from its own atoms and bonds. `batched` holds `BatchedEnergy`, which
computes the same energy for many conformers at once. `meter` holds `MeteredEnergy`, through which samplers
and estimators reach an energy: each conformer costs one evaluation, and what would exceed the budget is
refused.

Below `batched`, read `parameters` (the numbers of the force field, read off OpenMM's system), then `eager`
(plain torch, on any device), then `compiled` (numba, on a CPU) with its parts `packed` (the numbers as
kernels take them), `kernels` (pair terms and generalised Born of many conformers side by side), `bonded`
(bonds, angles, torsions) and `lanes` (exp, log and the like). `single` is the faster way for a few
conformers, such as the walkers of a ladder. For GPUs the parts are `triton_engine`, `triton_tables`
(parameters in the kernels' order), `triton_pairs`, `triton_bonded` and `triton_lanes`; `triton_cost` counts
what they compute and move. Energies are in kT outside and in kJ/mol inside these modules; forces are −∂u/∂x,
lengths in nm.

Two tools are left: `minimise` relaxes a structure, and `spotcheck` compares two energies of some conformers.

Nothing here moves conformers in time, which is what the room `dynamics` does. A backend is registered in
`bgbench.builtin` and looked up by name in `core.plugins`.
"""
