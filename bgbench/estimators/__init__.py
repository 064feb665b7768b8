"""From a proposal to a weighted ensemble: importance sampling, annealed SMC, self-improvement, averages."""
