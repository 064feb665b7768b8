"""The rules of the board as constants. `leaderboard/rules.md` says the same; a test compares the two."""

from bgbench.metrics import names

FEWEST_SEEDS = 3
"""Seeds a system, at least."""

LICENCES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "BSD-3-Clause")
"""SPDX names under which records and arrays may be published."""

TIERS = ("samples-only", "reported", "recomputed", "reproduced")
"""Samples made elsewhere, whose sampler nobody ran; from the record alone; recomputed by trusted code from
the arrays; run again on seeds fixed afterwards."""

RANKED = names.RANKED
"""Metrics with rank ranges."""

SHOWN = names.HEADLINE
"""Metrics with a column."""

ORDER = "torus_w2"
"""The metric whose rank range orders a table."""

JSON_BYTES = 2_000_000
"""Size of one JSON file, at most."""

JSON_DEPTH = 12
"""Levels of nesting in a JSON file, at most."""

STRING_LENGTH = 20_000
"""Characters of one string, at most."""

ARRAYS_BYTES = 300_000_000
"""Size of one array file unpacked, at most; checked before anything of it is read."""

FOLDER_BYTES = 12_000_000
"""Size of a submission in this repository, at most; larger arrays stand elsewhere, by URL and sha256."""

FOLDER_FILES = 2_000
"""Files of a submission, at most."""

FALSE_FRACTION = 1e-3
"""Fraction of false energies in a cell that is found with probability FOUND, one false energy at least."""

FOUND = 0.99
"""See FALSE_FRACTION. Which energies are evaluated again follows from the sha256 of the arrays."""

HEAVIEST = 64
"""Conformers of largest weight whose energies are always evaluated again."""

CLASH = 1e6
"""kT above which float32 positions say nothing of the energy, but that it is at least half of this."""

ENERGY_TOLERANCE = 0.05
"""kT by which a stored energy may differ from the one evaluated again, besides its relative tolerance."""

ENERGY_RELATIVE = 1e-4
"""The relative tolerance of energies."""

WEIGHT_TOLERANCE = 1e-6
"""By which log w may differ from −u − log q where the estimator says that it is that."""

METRIC_RELATIVE = 1e-6
"""Relative agreement of metrics recomputed on another platform; on the record's own they agree to the bit."""

COPIED_FRACTION = 0.01
"""Fraction of conformers that are copies of the reference's or another entry's, at most, but for controls."""

COPIES = 3
"""Copies that are never too many: walkers begin at one start, and some keep it."""

COPY_DISTANCE = 0.002
"""nm an atom (root mean square) within which a conformer is a copy, after rigid motion and relabelling."""

SUSPECT = 1e-4
"""Probability below which distances are too small for independent exact draws; the entry is not ranked."""

LOG_Z_ERRORS = 6.0
"""Standard errors by which log Z of one system may differ between the seeds of an entry, at most."""

BUILD_SECONDS = 600
"""Seconds in which the pages of an entry must be built, at most."""

BUILD_BYTES = 8_000_000_000
"""Memory in which they must be built, at most."""

REPRODUCED_ERRORS = 4.0
"""Standard errors by which a reproduction may differ from what was submitted."""

REASONS = {
    "layout": "a file that has no place in a submission, or one that is missing",
    "path": "a name that leads out of the folder",
    "link": "a symbolic link, a device, anything but plain files and folders",
    "size": "larger than the rules allow",
    "json": "not JSON: broken, nested too deep, or numbers without end",
    "duplicate": "the same key twice in one JSON object",
    "nonfinite": "NaN or infinity where a finite number belongs",
    "markup": "HTML, control or direction characters in a string",
    "schema": "a field that is unknown, missing or of the wrong kind",
    "check": "a report of `bgbench check` on another sampler, code or options than those of the run",
    "licence": "no licence that lets the board publish",
    "pin": "the plugin is not pinned to what the run says made it",
    "identity": "ids that are not those of what they name",
    "suite": "a suite, version or terms that the board does not know",
    "protocol": "a protocol or estimator that the board does not know",
    "incomplete": "cells, systems or seeds that are missing",
    "reference": "judged on another reference than the board's, or published anew on an earlier one",
    "leakage": "a leakage stamp that does not follow from the card",
    "implausible": "impossible numbers",
    "archive": "not a plain npz file of known arrays",
    "hash": "a file that is not the one its record names",
    "shape": "arrays of the wrong shape, type or number",
    "weights": "log w that does not follow from u and log q, or −infinity without a cause",
    "energies": "stored energies that are not those of the conformers",
    "metrics": "metrics, floors or skills that the arrays do not give",
    "curve": "a curve that the arrays do not give",
    "copied": "conformers of the reference or of another entry passed off as samples",
    "seeds": "seeds that were chosen: they are 0, 1, 2 and so on",
    "name": "a name that can be taken for another's, or is not plain letters",
    "site": "pages that cannot be built of it, within the limits of time and memory",
    "verdict": "a tier that was not earned",
    "vanished": "a published entry or cell that is gone",
    "moved": "a published score that moved without a new version",
    "changed": "a file of a published entry that changed without an event in the ledger",
    "owner": "a change of somebody else's entry",
    "ledger": "the list of what was published rewritten, or not carried on",
    "reproduction": "a run that does not reproduce what was submitted",
}
"""Why a submission is refused."""
