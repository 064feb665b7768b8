"""Walkers that follow an energy: Langevin dynamics, parallel tempering, solute scaling, reference engines."""
