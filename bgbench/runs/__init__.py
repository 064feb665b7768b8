"""Many cells: planned, run in worker processes or on clusters, kept in a run folder, mirrored to trackers."""
