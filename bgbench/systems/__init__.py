"""What is sampled: peptides from sequences, analytic systems, and their atoms, bonds, chirality and features.

Knows no energies, but those of the analytic systems, whose answers are known.
"""
