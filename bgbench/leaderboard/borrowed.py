"""Conformers of other entries, or of another seed, passed off as draws of one's own.

Entries of one sampler share their draws honestly: other protocols and estimators judge the same ones, and
seeds of samples that were made elsewhere are parts of one file. Records may not be published twice, though.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bgbench.evaluation.suites import load_suite
from bgbench.leaderboard.archives import read_archive
from bgbench.leaderboard.copies import Copies, copies_of, shapes_of
from bgbench.leaderboard.entries import EntryFiles, digest_of
from bgbench.leaderboard.problems import Problem, Refused
from bgbench.leaderboard.recompute import array_file
from bgbench.runs.records import Record
from bgbench.systems.named import find_system


def published_twice(files: EntryFiles, others: Sequence[EntryFiles]) -> Iterator[Problem]:
    """The records of another entry under another name."""
    digest = digest_of(files.folder)
    for other in others:
        if digest_of(other.folder) == digest:
            yield Problem("copied", files.name, f"holds the records of {other.name}")


def borrowed(
    files: EntryFiles, others: Sequence[EntryFiles], elsewhere: Path | None = None
) -> dict[str, list[Copies]]:
    """Of each cell with arrays, how many distinct conformers are those of other samplers', or of other seeds.

    Args:
        files: an entry that is no control.
        others: entries whose arrays are compared with, as far as they are in their folders.
        elsewhere: folder with arrays that `files` does not hold itself.
    """
    found: dict[str, list[Copies]] = {}
    own = _shapes(files, elsewhere)
    strangers = [(other.name, _shapes(other)) for other in others if not _of_one_sampler(files, other)]
    for record in files.records:
        name, system = record.cell.name, record.cell.system
        if name not in own:
            continue
        sources: dict[str, np.ndarray] = {}
        for earlier in files.records:
            if earlier.cell.name == name:
                break
            if files.run_here and earlier.cell.system == system and earlier.cell.name in own:
                sources[f"its own {earlier.cell.name}"] = own[earlier.cell.name]
        for stranger, shapes in strangers:
            beginning = name.rpartition("-s")[0]
            parts = [values for cell, values in shapes.items() if cell.rpartition("-s")[0] == beginning]
            parts = [values for values in parts if values.shape[1] == own[name].shape[1]]
            if parts:
                sources[stranger] = np.concatenate(parts)
        if copies := copies_of(own[name], sources):
            found[name] = copies
    return found


def _of_one_sampler(one: EntryFiles, other: EntryFiles) -> bool:
    """Whether both are of one sampler of one distribution, of whatever version."""
    made_by = [entry.plan.inputs.plugins.get("sampler", "").partition(" ")[0] for entry in (one, other)]
    return (one.plan.sampler, made_by[0]) == (other.plan.sampler, made_by[1])


def _shapes(files: EntryFiles, elsewhere: Path | None = None) -> Mapping[str, np.ndarray]:
    """The shapes of the conformers of each finished cell whose arrays are at hand, by the cell's name."""
    found = {}
    for record in files.records:
        path = array_file(files, record, elsewhere) if record.status == "ok" else None
        if path is not None and (shapes := _shapes_of_cell(record, path)) is not None:
            found[record.cell.name] = shapes
    return found


def _shapes_of_cell(record: Record, path: Path) -> np.ndarray | None:
    """Those of distinct conformers: many walkers have one start, which other seeds share.

    None for analytic systems, and where the arrays of a published entry cannot be read.
    """
    system = find_system(
        record.cell.system, record.cell.temperature, load_suite(record.cell.suite).forcefield
    )
    try:
        x = read_archive(path, path.name)["x"]
    except Refused:
        return None
    if not system.atoms or x.ndim != 3 or x.shape[1] != system.n_atoms:
        return None
    return shapes_of(system, np.unique(x, axis=0))
