"""The board: nothing vanishes, nothing moves unsaid, ranks are ranges, incomplete entries have none."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bgbench.core.errors import BgbenchError
from bgbench.leaderboard import checks
from bgbench.leaderboard.board import accept, entry_folders, guard, validate_board, withdraw
from bgbench.leaderboard.entries import open_entry
from bgbench.leaderboard.ledger import read_ledger
from bgbench.leaderboard.problems import Refused
from bgbench.leaderboard.reproduce import fresh_seed, gap, reproduce
from bgbench.leaderboard.site import build
from bgbench.leaderboard.tables import tables_of
from bgbench.leaderboard.validate import validate
from bgbench.references import superseded
from bgbench.references.superseded import Superseded
from bgbench.runs.records import Budget, Record
from bgbench.runs.runfolder import Inputs

ROOT_BOARD = "leaderboard"


def reasons(problems):
    return {problem.reason for problem in problems}


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_published_board_is_sound(board):
    assert guard(board) == []
    report = validate_board(board)
    assert set(report) == {"verse", "prior", "ledger"}
    assert not any(report.values())


def test_an_entry_cannot_vanish(board):
    shutil.rmtree(board / "records" / "prior")
    assert reasons(guard(board)) == {"vanished"}


def test_a_cell_cannot_vanish(board):
    folder = board / "records" / "prior"
    edit(folder / "run.json", lambda plan: plan["cells"].pop())
    last = json.loads((folder / "run.json").read_text())["cells"][-1]
    assert last["system"] == "GS"
    assert last["seed"] == 1
    (folder / "cells" / "GS-s2.json").unlink()
    assert reasons(guard(board)) == {"vanished", "ledger"}


def test_a_score_cannot_move(board):
    path = board / "records" / "prior" / "cells" / "AA-s1.json"
    edit(path, lambda record: record["metrics"].update(torus_w2=record["metrics"]["torus_w2"] * (1 + 1e-5)))
    moved, changed = guard(board)
    assert (moved.reason, changed.reason) == ("moved", "changed")
    assert "torus_w2" in moved.text


def test_a_cell_cannot_fail_afterwards(board):
    path = board / "records" / "prior" / "cells" / "AA-s1.json"
    failed = {"status": "crash", "error": "ValueError: no", "metrics": {}, "arrays": None}
    edit(path, lambda record: record.update(failed))
    assert reasons(guard(board)) == {"moved", "changed"}


def test_an_entry_without_an_event_is_not_on_the_board(board):
    shutil.copytree(board / "records" / "prior", board / "records" / "again")
    assert reasons(guard(board)) == {"ledger"}


def test_a_pull_request_cannot_rewrite_the_ledger(board, published):
    edit(board / "ledger" / "prior-001.json", lambda event: event["scores"]["AA-s0"].update(torus_w2=9.0))
    assert "ledger" in reasons(guard(board, published))
    (board / "ledger" / "prior-001.json").unlink()
    assert "ledger" in reasons(guard(board, published))
    assert guard(published, published) == []


def test_a_pull_request_cannot_drop_an_entry_with_its_event(board, published):
    shutil.rmtree(board / "records" / "prior")
    (board / "ledger" / "prior-001.json").unlink()
    assert reasons(guard(board, published)) == {"ledger", "vanished"}


def test_a_pull_request_cannot_withdraw_or_reproduce(board, published):
    withdraw("prior", board, "because")
    assert "ledger" in reasons(guard(board, published))


def test_a_pull_request_cannot_say_that_it_was_reproduced(board, published):
    event = json.loads((board / "ledger" / "prior-001.json").read_text())
    claim = {**event, "number": 2, "kind": "changed", "tier": "reproduced"}
    (board / "ledger" / "prior-002.json").write_text(json.dumps(claim))
    assert reasons(guard(board, published)) == {"verdict", "ledger", "owner"}
    (board / "ledger" / "prior-002.json").rename(board / "ledger" / "prior-007.json")
    with pytest.raises(Refused, match="holds prior-002"):
        guard(board, published)


def test_a_new_version_needs_a_reason_and_gets_an_event(board, tmp_path):
    folder = shutil.copytree(board / "records" / "verse", tmp_path / "verse")
    assert accept(folder, board) is None
    edit(
        folder / "curve.json", lambda curve: curve["points"][0].update(seconds=curve["points"][0]["seconds"])
    )
    (folder / "verdict.json").unlink()
    with pytest.raises(BgbenchError, match="--why"):
        accept(folder, board)
    event = accept(folder, board, why="the same run, written anew")
    assert (event.kind, event.version) == ("changed", 2)
    assert open_entry(board / "records" / "verse").entry.version == 2
    assert guard(board) == []
    assert len(read_ledger(board).events) == 3


def test_a_withdrawn_entry_stays_in_the_ledger(board, cli):
    code, _out, err = cli("leaderboard", "withdraw", "prior", "--why", "an error of ours", "--board", board)
    assert code == 0, err
    assert [event.kind for event in read_ledger(board).events if event.entry == "prior"] == [
        "added",
        "withdrawn",
    ]
    assert guard(board) == []
    code, _, err = cli("leaderboard", "withdraw", "prior", "--why", "again", "--board", board)
    assert code == 2
    assert "has no entry" in err


def test_tampering_is_reported_by_name_and_exit_code(board, cli):
    edit(board / "records" / "verse" / "cells" / "AA-s0.json", lambda r: r["metrics"].update(ess=0.99))
    code, out, _ = cli("leaderboard", "validate", board)
    assert code == 1
    assert "verse: refused" in out
    assert "[metrics]" in out
    assert "[moved]" in out


def test_a_refused_submission_is_not_accepted(submission, tmp_path, cli):
    edit(submission / "cells" / "AA-s0.json", lambda r: r["metrics"].update(ess=0.99))
    with pytest.raises(Refused):
        accept(submission, tmp_path / "board")
    assert not (tmp_path / "board").exists()
    code, _, err = cli("leaderboard", "accept", submission, "--board", tmp_path / "board")
    assert code == 2
    assert "refused" in err


def test_controls_and_incomplete_entries_are_not_ranked(published):
    entries = [open_entry(folder) for folder in entry_folders(published)]
    (table,) = tables_of(entries)
    assert {row.name for row in table.rows if row.ranked} == {"verse", "prior"}
    backs = {row.name: row.back for row in table.rows}
    assert backs["prior"] is None
    assert backs["verse"][0] == "prior"
    control = entries[0].entry.model_copy(update={"control": True})
    (table,) = tables_of([replace(entries[0], entry=control), entries[1]])
    ranks = {row.name: row.ranks for row in table.rows}
    assert ranks["prior"] == {}
    assert ranks["verse"]["torus_w2"] == (1, 1)
    assert [row.name for row in table.rows] == ["verse", "prior"]
    assert all(row.back is None for row in table.rows), "a control is nobody's rival"


def test_unverified_densities_have_a_table_of_their_own(published):
    from dataclasses import replace

    verse = open_entry(published / "records" / "verse")
    unverified = {"density": {"verified": False, "error": "no"}}
    records = tuple(
        r.model_copy(update={"diagnostics": {**r.diagnostics, **unverified}}) for r in verse.records
    )
    first, second = tables_of([verse, replace(verse, records=records)])
    assert first.key.exact
    assert not second.key.exact
    assert "not verified" in second.key.title


def test_entries_judged_on_different_references_share_no_table(published):
    """A reference that was made anew put entries of both into one table, with ranks."""
    from dataclasses import replace

    verse, prior = (open_entry(published / "records" / name) for name in ("verse", "prior"))
    inputs = prior.plan.inputs.model_copy(
        update={"references": {**prior.plan.inputs.references, "GS": "e" * 64}}
    )
    other = replace(prior, plan=prior.plan.model_copy(update={"inputs": inputs}))
    unknown = prior.plan.model_copy(update={"inputs": Inputs()})
    old = replace(prior, plan=unknown, records=(), curve=None)
    for entries in ([old, verse, other], [verse, other, old]):
        first, second = tables_of(entries)
        assert {row.name for row in first.rows} == {"verse", "prior"}
        assert [row.name for row in second.rows] == ["prior"]
        assert second.key.slug == f"{first.key.slug}-2"
        assert second.key.title == f"{first.key.title} · table 2"
        assert second.key.apart.startswith("the reference of GS is ")
        assert first.key.apart == ""


def test_entries_judged_by_a_replaced_reference_stay_and_nothing_new_joins_them(
    board, published, packed, tmp_path, monkeypatch
):
    judged_on = dict(open_entry(board / "records" / "verse").comparability.references)
    todays = {**judged_on, "GS": "f" * 64}
    monkeypatch.setattr(checks, "reference_sha256", lambda name, cell, suite: todays[name])
    assert {problem.reason for problem in validate(board / "records" / "verse").problems} == {"reference"}

    listed = {judged_on["GS"]: Superseded("GS", "2026-11-28", "too short")}
    monkeypatch.setattr(superseded, "superseded_references", lambda: listed)
    # The published verdict claims that its metrics were recomputed; they were, on the earlier reference.
    assert not any(validate_board(board).values())
    assert guard(board, published) == []
    (verse,) = [problem for problem in guard(board, tmp_path / "empty") if problem.where == "verse"]
    assert (verse.reason, "too short" in verse.text) == ("reference", True)
    with pytest.raises(Refused, match=r"GS is the one packaged until 2026-11-28 \(too short\); run it again"):
        accept(packed["verse"], tmp_path / "fresh")

    entries = [open_entry(folder) for folder in entry_folders(board)]
    references = {**entries[0].plan.inputs.references, "GS": "f" * 64}
    inputs = entries[0].plan.inputs.model_copy(update={"references": references})
    renewed = replace(entries[0], plan=entries[0].plan.model_copy(update={"inputs": inputs}))
    tables = tables_of([*entries, renewed])
    assert [bool(table.key.terms.superseded) for table in tables if table.key.exact] == [False, True]
    pages = build(board, tmp_path / "site").parent
    for page in (*pages.glob("tables/*.html"), pages / "entries" / "verse.html"):
        assert "packaged until 2026-11-28 (too short)" in page.read_text()


def copy_of(entry, tmp_path, name, **verdict):
    """An entry of the same records under another name, with other words in its verdict."""
    folder = shutil.copytree(entry, tmp_path / name)
    edit(folder / "verdict.json", lambda stored: stored.update(verdict))
    return open_entry(folder)


def test_ranks_are_ranges_and_ties_overlap(published, tmp_path):
    verse = open_entry(published / "records" / "verse")
    (table,) = tables_of([verse, copy_of(verse.folder, tmp_path, "twin")])
    assert {row.ranks["torus_w2"] for row in table.rows} == {(1, 1)}


def test_ranks_are_places_within_a_tier(published, tmp_path):
    """A better entry of a lower tier takes no place from one that was reproduced."""
    verse, prior = (published / "records" / name for name in ("verse", "prior"))
    again = copy_of(prior, tmp_path, "again", tier="reproduced", reproduction={"ess": 0.0})
    (table,) = tables_of([open_entry(verse), open_entry(prior), again])
    (alone,) = tables_of([open_entry(verse), open_entry(prior)])
    assert [row.name for row in table.rows] == ["again", *(row.name for row in alone.rows)]
    assert [row.ranks for row in table.rows[1:]] == [row.ranks for row in alone.rows]
    assert set(table.rows[0].ranks.values()) == {(1, 1)}


def test_what_is_reported_stands_beside_nothing_that_was_recomputed(published, tmp_path):
    verse, prior = (open_entry(published / "records" / name) for name in ("verse", "prior"))
    claimed = copy_of(verse.folder, tmp_path, "claimed", tier="reported", cells={})
    first, second = tables_of([claimed, verse, prior])
    assert {row.name for row in first.rows} == {"verse", "prior"}
    assert [row.name for row in second.rows] == ["claimed"]
    assert "reported, not recomputed" in second.key.title
    assert second.key.slug == f"{first.key.slug}-reported"


def test_a_suspect_entry_is_marked_and_has_no_rank(board):
    folder = board / "records" / "verse"
    assert open_entry(folder).suspect is None
    edit(folder / "verdict.json", lambda verdict: verdict.update(chances={"torus_w2": 3e-9}))
    (table,) = tables_of([open_entry(path) for path in entry_folders(board)])
    assert {row.name: row.ranked for row in table.rows} == {"verse": False, "prior": True}
    assert table.rows[-1].name == "verse"
    reproduced = {"tier": "reproduced", "reproduction": {"ess": 0.0}}
    page = build(board, board / "site").parent / "entries" / "verse.html"
    assert "Suspect: its distances are smaller than independent exact draws reach" in page.read_text()
    edit(folder / "verdict.json", lambda verdict: verdict.update(reproduced))
    assert open_entry(folder).suspect is None


def test_a_reproduction_on_fresh_seeds_raises_the_tier(board, make_run, tmp_path, cli):
    code, out, _ = cli("leaderboard", "reproduce", "prior", "--board", board)
    assert code == 0
    assert "--first-seed" in out
    again = make_run("prior", tmp_path / "again", first_seed=fresh_seed())
    verdict = reproduce("prior", board, again)
    assert verdict.tier == "reproduced"
    assert all(abs(value) <= 4 for value in verdict.reproduction.values())
    assert open_entry(board / "records" / "prior").tier == "reproduced"
    assert guard(board) == []
    assert read_ledger(board).events[-1].tier == "reproduced"


def test_the_submissions_own_seeds_reproduce_nothing(board, runs):
    with pytest.raises(Refused, match="fixed afterwards"):
        reproduce("prior", board, runs["prior"])


def test_another_samplers_run_reproduces_nothing(board, runs):
    with pytest.raises(Refused, match="another sampler"):
        reproduce("prior", board, runs["verse"])


def test_numbers_too_far_apart_are_no_reproduction(board, make_run, tmp_path):
    again = make_run("prior", tmp_path / "again", first_seed=500)
    for path in (board / "records" / "prior" / "cells").glob("*.json"):
        edit(path, lambda r: r["metrics"].update(torus_w2=r["metrics"]["torus_w2"] * 0.2))
    with pytest.raises(Refused, match="torus_w2 lies"):
        reproduce("prior", board, again)


def test_the_gap_is_in_standard_errors(published, rng):
    records = list(open_entry(published / "records" / "prior").records)

    def shifted(by):
        noise = 0.1 * rng.standard_normal(len(records))
        return [
            r.model_copy(update={"metrics": {"m": 1.0 + by + float(e)}})
            for r, e in zip(records, noise, strict=True)
        ]

    near = [gap(shifted(0.0), shifted(0.0), "m") for _ in range(200)]
    # Two systems, three seeds a side: Student with eight degrees of freedom spreads by 1.15.
    assert abs(np.mean(near)) < 5 * 1.3 / np.sqrt(200)
    assert 0.8 < np.std(near) < 2.0
    assert gap(shifted(0.0), shifted(2.0), "m") > 4


@pytest.mark.parametrize(
    ("trained_on", "system", "stamp", "is_refused"),
    [
        (["GGGG"], "theirs:pep", "seen", False),
        (["GGGG"], "theirs:pep", "similar", False),
        (["chignolin"], "theirs:pep", "seen", False),
        (["theirs:pep"], "theirs:pep", "similar", True),
        (["theirs:pep"], "theirs:pep", "unseen", True),
        (["GGGG"], "theirs:pep", "unknown", True),
        (["GGGG"], "AA", "seen", True),
    ],
)
def test_the_stamp_of_a_registered_peptide_may_weigh_more_than_its_name_says_and_not_less(
    make_cell, trained_on, system, stamp, is_refused
):
    """Its sequence, by which it is stamped where it is run, is in no record."""
    card = {"name": "mine", "training_sequences": trained_on, "n_parameters": 1}
    cell = make_cell(system=system)
    record = Record(id="1", cell=cell, status="ok", budget=Budget(limit=1, used=1), card=card, leakage=stamp)
    problems = list(checks.honest_leakage(SimpleNamespace(records=(record,))))
    assert [problem.reason for problem in problems] == ["leakage"] * is_refused
