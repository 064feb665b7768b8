"""One cell from start to end: a sampler draws, an estimator weights, a protocol judges, an audit checks.

A `Cell` is all that determines one result: sampler, estimator, protocol, suite, system, energy budget, seed
and options. Open `evaluate` first: its function of the same name is the whole way of a cell on one page, and
returns an `Outcome`. Then read `cell`, and `bench`, where `open_bench` collects what the cell is judged on:
the system, its reference, the protocol, the metered energy. Two kinds of named, versioned terms come with it:
`suites` reads the lists of systems, and `protocols` the rules of judging, which name the metrics; both are
YAML files, which `versioned` reads.

The modules follow the way of a cell: `checks` refuses samples or energies of another system, `judging`
(`judge`) computes the metrics beside the scores of exact draws and of a Gaussian around the start structure,
which `floors` measures, and `diagnostics` adds what else can be said of the sampler. `audit` tests whether
log q really is the density of the draws, by the statistics of `law_of_draws`; `leakage` compares the
sampler's declared training sequences with the test system. `stages` times every step.

No record is written here, and an error ends the cell: the room `runs` catches it, writes the records and runs
many cells.
"""
