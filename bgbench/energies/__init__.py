"""u(x) and its force: OpenMM as the truth, the same in batches, and the meter that counts evaluations."""
