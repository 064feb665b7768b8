"""Dynamics of many walkers at once on the compiled energy: Langevin and parallel tempering."""
