"""Energies: the OpenMM truth, and the meter every sampler pays at."""
