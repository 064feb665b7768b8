"""The truth: reference ensembles, how they are made, stored, graded, fetched and checked."""
