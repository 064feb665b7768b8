"""Where a plugin's code came from: what others can install, or a word that they cannot."""

import json
import subprocess
import sys

import pytest

from bgbench.runs.distributions import UNPUBLISHED, code_sha256, source_of


@pytest.fixture(autouse=True)
def fresh():
    for function in (source_of, code_sha256):
        function.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """An installed distribution `mine` with this `direct_url.json`."""

    def make(direct_url):
        info = tmp_path / "site" / "mine-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        monkeypatch.syspath_prepend(tmp_path / "site")

    return make


@pytest.fixture
def checkout(tmp_path):
    """A git repository with a plugin in a folder of it."""
    folder = tmp_path / "repository" / "plugin"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("")
    git(folder.parent, "init", "-q", "-b", "main")
    commit(folder.parent)
    return folder


def git(folder, *words):
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder):
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a commit")


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (None, ""),
        (
            {"url": "https://example.org/mine", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://example.org/mine@abc",
        ),
        ({"url": "https://example.org/mine.whl", "archive_info": {}}, "https://example.org/mine.whl"),
        ({"url": "file:///nowhere/at/all", "dir_info": {"editable": True}}, UNPUBLISHED),
    ],
)
def test_the_source_is_what_pip_noted(install, direct_url, source):
    install(direct_url)
    assert source_of("mine") == source


def test_a_distribution_that_is_not_there_is_not_published():
    assert source_of("no-such-distribution") == UNPUBLISHED


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://me:secret@example.org/mine.git", "https://example.org/mine.git"),
        ("git@example.org:me/mine.git", "ssh://git@example.org/me/mine.git"),
        ("ssh://git@example.org:22/mine.git", "ssh://git@example.org:22/mine.git"),
        ("/srv/git/mine.git", None),
        ("file:///srv/git/mine.git", None),
    ],
)
def test_a_folder_is_the_commit_that_others_can_get(install, checkout, remote, address):
    """Its own repository's commit, not that of the current directory."""
    install({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    root = checkout.parent
    assert source_of("mine") == UNPUBLISHED, "no remote"
    git(root, "remote", "add", "origin", remote)
    source_of.cache_clear()
    assert source_of("mine") == UNPUBLISHED, "not pushed"
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    source_of.cache_clear()
    here = git(root, "rev-parse", "HEAD")
    expected = UNPUBLISHED if address is None else f"git+{address}@{here}#subdirectory=plugin"
    assert source_of("mine") == expected
    (checkout / "mine.py").write_text("changed = True\n")
    source_of.cache_clear()
    assert source_of("mine") == UNPUBLISHED, "uncommitted changes"
    commit(root)
    source_of.cache_clear()
    assert source_of("mine") == UNPUBLISHED, "a commit that was not pushed"


def test_code_is_known_by_the_contents_of_its_files(tmp_path, monkeypatch):
    package = tmp_path / "code_of_a_test"
    (package / "inner").mkdir(parents=True)
    for path in (package / "__init__.py", package / "inner" / "part.py"):
        path.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = code_sha256("code_of_a_test")
    code_sha256.cache_clear()
    assert code_sha256("code_of_a_test") == first
    (package / "inner" / "part.py").write_text("x = 2\n")
    assert code_sha256("code_of_a_test") == first, "a process has read its code"
    code_sha256.cache_clear()
    assert code_sha256("code_of_a_test") != first
    assert "code_of_a_test" not in sys.modules


def test_modules_without_files_have_no_code():
    assert [code_sha256(name) for name in ("", "no_such_module", "sys")] == ["", "", ""]
    assert len(code_sha256("this")) == 64
