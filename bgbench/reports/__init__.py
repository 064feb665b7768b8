"""What is read out of finished runs: replays, comparisons, statistics, curves, break-even, figures, pages.

Everything here reads run folders and starts no sampler. Open `compare` first: `compare` puts several runs
side by side by one metric, and refuses runs that do not belong in one table; `comparability` says what must
be equal for that, and in what two runs differ. `statistics` has the intervals, tests and ranks that it rests
on. Then read `curves` (`curve`: the error of a run after 100, 1,000 …
evaluations, from its stored arrays) and `breakeven` (after how many systems a trained sampler has repaid its
training).

`replay` recomputes every metric from the stored arrays and lists what differs from the records. `figures`
draws the pictures of a cell, `axes` labels their logarithmic axes, `headings` says how tables show a metric,
`verdict` what a run's numbers say and what to do next, and `page` (`write_report`) combines all this in one
HTML file. `saving` writes figures as PNG, SVG or PDF. `results` makes tables of runs for analysis and papers,
`notebook` the view of one in a notebook, and `exports` trajectory files for other programs.
`agreement` stands alone: it compares two references of a system.

How a table or verdict is printed is in the room `cli`; what is published, and trusted, is in `leaderboard`.
"""
