import errno
import json
import math
import os
import re
import subprocess

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bgbench import BgbenchError, Ensemble, Estimate, Proposal
from bgbench.core.files import atomic_file, plain, write_json
from bgbench.evaluation.cell import Cell
from bgbench.runs.provenance import _git, described
from bgbench.runs.records import Budget, Record, read_arrays, read_record, write_arrays
from bgbench.runs.runfolder import RunFolder, new_plan


def a_cell(**changes):
    fields = {
        "sampler": "md",
        "estimator": "mcmc",
        "protocol": "bgbench@1",
        "suite": "dipeptides-mini@1",
        "system": "AA",
        "budget": 10,
        "seed": 0,
        "temperature": 310.0,
        "energy": "openmm",
    }
    return Cell(**{**fields, **changes})


def a_record(**changes):
    fields = {"id": "x", "cell": a_cell(), "status": "ok", "budget": Budget(limit=10, used=7)}
    return Record(**{**fields, **changes})


def test_record_round_trips_through_its_file(tmp_path):
    record = a_record(metrics={"ess": 0.25, "tica_w2": math.nan}, diagnostics={"a": np.float64(2.0)})
    write_json(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json") == record
    stored = json.loads((tmp_path / "r.json").read_text())
    assert stored["metrics"] == {"ess": 0.25, "tica_w2": None}
    assert stored["schema_version"] == 1


def test_unknown_keys_and_foreign_versions_are_refused(tmp_path):
    stored = a_record().model_dump()
    with pytest.raises(ValidationError, match="extra"):
        Record(**stored, extra=1)
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**stored, "schema_version": 99}))
    with pytest.raises(BgbenchError, match=r"r\.json is not a valid record: schema_version"):
        read_record(path)
    path.write_text(json.dumps(stored)[:40])
    with pytest.raises(BgbenchError, match="not a valid record"):
        read_record(path)


def test_plain_turns_arrays_and_infinities_into_json():
    assert plain({"t": torch.tensor([1.0, math.inf]), "n": np.int64(3), 1: (True, None)}) == {
        "t": [1.0, None],
        "n": 3,
        "1": [True, None],
    }


def test_arrays_carry_their_hash_and_refuse_change(tmp_path):
    x = torch.rand(3, 2, 3)
    ensemble = Ensemble(x, torch.arange(3.0), torch.zeros(3))
    named = write_arrays(tmp_path / "a.npz", Estimate(ensemble, Proposal(x, log_q=torch.ones(3))))
    stored = read_arrays(tmp_path / "a.npz", named)
    assert set(stored) == {"x", "u", "log_w", "log_q"}
    assert np.array_equal(stored["x"], x.numpy())
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    (tmp_path / "a.npz").write_bytes(raw[:-5])
    with pytest.raises(BgbenchError, match="sha256"):
        read_arrays(tmp_path / "a.npz", named)
    (tmp_path / "a.npz").unlink()
    with pytest.raises(BgbenchError, match="missing"):
        read_arrays(tmp_path / "a.npz", named)


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BgbenchError, match="No space left"), atomic_file(tmp_path / "r.json") as stream:
        stream.write(b"half")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BgbenchError, match="cannot write"), atomic_file(tmp_path / "file" / "r.json"):
        pass


def test_run_folder_plans_resumes_and_refuses_a_second_start(tmp_path):
    cells = [a_cell(system=name) for name in ("AA", "DI", "HM")]
    folder = RunFolder.create(tmp_path / "run", new_plan(cells, "hash"))
    write_json(folder.record_path(cells[0]), a_record(cell=cells[0]))
    write_json(folder.record_path(cells[1]), a_record(cell=cells[1], status="crash"))
    again = RunFolder.open(tmp_path / "run")
    assert [cell.system for cell in again.missing()] == ["HM"]
    assert [cell.system for cell in again.missing(retry_failed=True)] == ["DI", "HM"]
    with pytest.raises(BgbenchError, match="--resume"):
        RunFolder.create(tmp_path / "run", new_plan(cells, "hash"))
    with pytest.raises(BgbenchError, match="holds no run"):
        RunFolder.open(tmp_path / "elsewhere")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(BgbenchError, match="damaged"):
        RunFolder.open(tmp_path / "run")


def test_cell_hash_follows_what_determines_the_result():
    assert a_cell().sha256 == a_cell().sha256
    assert a_cell().sha256 != a_cell(seed=1).sha256
    assert a_cell().sha256 != a_cell(options={"a": "b"}).sha256


def test_processors_of_one_name_differ_by_generation_and_features():
    """Virtual machines call generations by one name; sums differ in the last bit between them."""
    sapphire = "model name : Xeon\ncpu family : 6\nmodel : 143\nstepping : 8\nflags : sse avx512f amx_tile\n"
    two_cores = f"{sapphire}\n{sapphire}"
    assert described(sapphire) == described(two_cores)
    assert described(sapphire).startswith("Xeon, family 6, model 143, stepping 8, features ")
    assert described(sapphire) == described(sapphire.replace("sse avx512f", "avx512f sse"))
    emerald = sapphire.replace("143", "207")
    assert len({described(text) for text in (sapphire, emerald, sapphire.replace(" amx_tile", ""))}) == 3
    assert "features" in described("Features : fp asimd")


def test_a_checkout_is_dirty_by_what_results_rest_on_alone(tmp_path):
    package = tmp_path / "bgbench"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*words):
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", tmp_path, *named, *words], check=True, capture_output=True)

    git("init", "-q")
    assert _git(package) == {}, "not in any commit: an installed wheel inside somebody's checkout"
    git("add", ".")
    git("commit", "-qm", "first")
    assert _git(package)["dirty"] is False
    (tmp_path / "README.md").write_text("a table")
    (tmp_path / "benchmarks" / "headline").mkdir(parents=True)
    (tmp_path / "benchmarks" / "headline" / "run.json").write_text("{}")
    assert _git(package)["dirty"] is False
    (package / "more.py").write_text("")
    assert _git(package)["dirty"] is True


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("metrics", "many", "metrics: Input should be an object"),
        ("metrics", {"ess": []}, "metrics.ess: Input should be a valid number"),
        ("provenance", {"host": "here"}, "provenance: Value error, host: Input should be"),
        ("diagnostics", {"warnings": "text"}, "diagnostics: Value error, warnings: Input should be"),
        ("diagnostics", {"density": {"checks": {"a": 1}}}, "density.checks.a: Input should be"),
        ("energy", {"openmm_difference": "small"}, "energy: Value error, openmm_difference: Input should"),
        ("reference", {"reweighted": {"from": 300.0}}, "reference: Value error, reweighted.ess: Field req"),
    ],
)
def test_a_record_with_a_field_of_another_kind_is_refused_by_its_name(
    tmp_path, make_cell, field, value, complaint
):
    record = Record(id="1", cell=make_cell(), status="ok", budget=Budget(limit=1, used=1))
    path = tmp_path / "AA-s0.json"
    path.write_text(json.dumps({**record.model_dump(mode="json"), field: value}))
    with pytest.raises(BgbenchError, match=re.escape(complaint)):
        read_record(path)


def test_what_an_estimator_of_others_reports_does_not_end_its_cell(make_cell):
    """Entries that bgbench does not know may hold anything: JSON keeps the text of what has no word for."""
    own = {"model": object, "names": {"a"}, "share": float("nan")}
    record = Record(id="1", cell=make_cell(), status="ok", budget=Budget(limit=1, used=1), diagnostics=own)
    assert record.diagnostics["names"] == "{'a'}"
    assert record.diagnostics["share"] is None
