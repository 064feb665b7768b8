"""What is read out of finished runs: replays, comparisons, statistics, curves, break-even, figures, pages."""
