"""Where references are looked for: what the user names is there, and nobody needs a home folder."""

from pathlib import Path

import pytest

from bgbench import BgbenchError, peptide
from bgbench.references.providers import find_reference, own_folder, reference_folders


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_named_and_is_none_is_refused(tmp_path, monkeypatch, cli, kind):
    named = tmp_path / "references"
    if kind == "file":
        named.write_text("no folder")
    monkeypatch.setenv("BGBENCH_REFERENCES", str(named))
    with pytest.raises(BgbenchError, match=f"BGBENCH_REFERENCES={named} is not a folder; make it"):
        find_reference(peptide("AA"))
    code, _, complaint = cli("run", "prior", "--only", "AA", "--budget", 20, "--out", tmp_path / "r")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "is not a folder" in complaint


def test_a_tilde_stands_for_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BGBENCH_REFERENCES", "~/refs")
    (tmp_path / "refs").mkdir()
    assert reference_folders()[0] == own_folder() == tmp_path / "refs"


def test_a_user_without_a_home_folder_has_the_packaged_references(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BGBENCH_REFERENCES", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert find_reference(peptide("AA")).grade == "gold"
    with pytest.raises(BgbenchError, match="no home folder for references; name a folder with BGBENCH_REF"):
        own_folder()
