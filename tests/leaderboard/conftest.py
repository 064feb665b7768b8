"""One small board for all tests: a sampler with a density and one without, on two tiny made-up references."""

import json
import shutil
from pathlib import Path

import pytest

from bgbench.core.files import write_json
from bgbench.core.plugins import plugins
from bgbench.leaderboard import building
from bgbench.leaderboard.board import accept
from bgbench.leaderboard.entries import Entry, Verdict, digest_of, open_entry
from bgbench.leaderboard.ledger import LEDGER, Ledger, file_name, publication
from bgbench.leaderboard.site import build
from bgbench.leaderboard.submit import submit
from bgbench.runs.cells import execute
from bgbench.runs.planning import resolve
from bgbench.runs.request import RunRequest
from bgbench.runs.runfolder import RunFolder

SAID = {"authors": ["Nobody"], "licence": "CC-BY-4.0"}
BUDGET = 100


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory, make_reference):
    """`tiny@1`: AA and GS on made-up references, known to the board through an installed plugin."""
    site = tmp_path_factory.mktemp("site")
    suite = site / "tiny@1.yaml"
    suite.write_text(f"systems: [AA, GS]\nenergy: openmm\nbudget: {BUDGET}\nseeds: 3\n")
    other = site / "other@1.yaml"
    other.write_text(f"systems: [AA, GS]\nenergy: openmm\nbudget: {BUDGET}\nseeds: 2\n")
    (site / "tiny_suite.py").write_text(
        "from pathlib import Path\n\nimport bgbench\n\n\n@bgbench.hookimpl\ndef bgbench_suites():\n"
        "    return sorted(Path(__file__).parent.glob('*@1.yaml'))\n"
    )
    info = site / "tiny_suite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-suite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bgbench]\ntiny = tiny_suite\n")
    references = tmp_path_factory.mktemp("references")
    for name in ("AA", "GS"):
        make_reference(references, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", str(site), prepend=":")
        patch.setenv("BGBENCH_REFERENCES", str(references))
        plugins.cache_clear()
        yield "tiny@1"
    plugins.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def pages_in_this_process():
    """Pages of what is checked are built without pictures, and here: a process of their own takes seconds."""

    def build_here(board, out, *_):
        try:
            build(board, out, pictures=False)
        except Exception as error:
            return f"its pages cannot be built: {error}"
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "build_limited", build_here)
        yield


@pytest.fixture(scope="session")
def make_run(tiny_suite):
    """Runs a sampler on the tiny suite, without drawing figures; returns the run folder."""

    def make(sampler: str, out: Path, **choices) -> Path:
        request = RunRequest.from_keywords(sampler, **{"suite": tiny_suite, **choices})
        folder = RunFolder.create(out, resolve(request, "sqlite:////home/somebody/mlflow.db"))
        records = [execute(cell, folder) for cell in folder.plan.cells]
        assert all(record.status == "ok" for record in records), [record.error for record in records]
        return out

    return make


@pytest.fixture(scope="session")
def runs(make_run, tmp_path_factory) -> dict[str, Path]:
    """Finished runs by sampler."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(name, folder / name) for name in ("verse", "prior")}


@pytest.fixture(scope="session")
def packed(runs, tmp_path_factory) -> dict[str, Path]:
    """Submission folders by sampler."""
    to = tmp_path_factory.mktemp("packed")
    return {
        name: submit(run, to, {**SAID, "name": name, "control": False}).folder for name, run in runs.items()
    }


@pytest.fixture
def submission(packed, tmp_path) -> Path:
    """A sound submission of `verse`, to be tampered with."""
    return Path(shutil.copytree(packed["verse"], tmp_path / "verse"))


@pytest.fixture(scope="session")
def published(packed, tmp_path_factory) -> Path:
    """A board with both entries."""
    board = tmp_path_factory.mktemp("published") / "leaderboard"
    for folder in packed.values():
        accept(folder, board)
    return board


@pytest.fixture
def board(published, tmp_path) -> Path:
    """A copy of the published board, to be changed."""
    return Path(shutil.copytree(published, tmp_path / "board"))


@pytest.fixture(scope="session")
def clone_entries(published):
    """Writes a board of many entries: the published ones under other names, options and numbers."""

    def make(board: Path, count: int) -> Path:
        template = open_entry(published / "records" / "verse")
        for k in range(count):
            folder = board / "records" / f"entry-{k:03d}"
            clone(template, folder, k)
            opened = open_entry(folder)
            event = publication(opened, Ledger(), "added", f"synthetic {k}")
            write_json(board / LEDGER / file_name(event), event)
        return board

    return make


def clone(template, folder: Path, k: int) -> None:
    (folder / "cells").mkdir(parents=True)
    options = {"variant": f"v{k}"}
    factor = 1.0 + 0.01 * (k % 97)
    cells = [cell.model_copy(update={"options": options}) for cell in template.plan.cells]
    write_json(folder / "run.json", template.plan.model_copy(update={"cells": cells}))
    for record, cell in zip(template.records, cells, strict=True):
        metrics = {n: v if v is None or n == "ess" else v * factor for n, v in record.metrics.items()}
        changed = record.model_copy(update={"cell": cell, "metrics": metrics})
        if k % 10 == 9 and cell.seed == 0:
            changed = record.model_copy(
                update={
                    "cell": cell,
                    "status": "crash",
                    "error": "ValueError: <made up>",
                    "metrics": {},
                    "arrays": None,
                }
            )
        write_json(folder / "cells" / f"{cell.name}.json", changed)
    curve = json.loads((template.folder / "curve.json").read_text())
    if k % 10 != 9:
        (folder / "curve.json").write_text(json.dumps(curve))
    write_json(folder / "entry.json", Entry(authors=["Nobody"], licence="CC0-1.0", pin="bgbench==0.1.0"))
    done = {cell.name: "recomputed" for cell in cells}
    write_json(
        folder / "verdict.json",
        Verdict(tier="recomputed", digest=digest_of(folder), bgbench="0.1.0", cells=done),
    )
