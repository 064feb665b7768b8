"""From a proposal to a weighted ensemble: importance sampling, annealed SMC, self-improvement, time averages.

An estimator spends the energy budget of a `Task` on a sampler's proposals and returns an `Estimate`, whose
ensemble has a log weight for each conformer. Open `snis` first: `SNIS` is self-normalised importance
sampling, log w = −u − log q, where q is the density of the sampler. Two estimators need no density: `plain`
(`--estimator none`), which weights all samples equally, and `mcmc`, which averages over a trajectory. `smc`
moves particles from q to the target in steps (annealed sequential Monte Carlo), and `self_improve` first
fine-tunes a copy of the sampler on its own weighted samples and then weights the samples of that copy.

The parts of `smc` are `annealing` (reweight, resample, move), `schedule` (how the path from q to the target
is divided) and `langevin` (one step of all particles; simulation in physical time is in `dynamics.langevin`).
Shared tools are `weights` (effective sample size, log Z, cuts, resampling), `reservoir` (conformers drawn by
their weights while a long stream of draws passes), `pareto` (how heavy the tail of the weights is),
`densities` (log q and its gradient), `handedness` (the rules for mirror images) and `controls` (a control
variate for the mean energy).

Samplers are not here; they are plugins. Nor are energies: an estimator evaluates them only through the oracle
of its `Task`.
"""
