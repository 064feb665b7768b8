"""Where the code of a plugin came from, and what it is: its distribution's source and a hash of its files."""

import json
import subprocess
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

UNPUBLISHED = "not published"
"""The source of a distribution that nobody else can install."""

SECONDS = 10.0
"""That git may take to answer."""


@cache
def code_sha256(package: str) -> str:
    """Hash of the Python files of an importable package or module, by their names and contents, hex.

    Empty for one that has no files, such as a module that was made in memory.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    files = {path.relative_to(root).as_posix(): path for root in roots for path in root.rglob("*.py")}
    if not roots and spec.origin and Path(spec.origin).is_file():
        files = {Path(spec.origin).name: Path(spec.origin)}
    total = sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest() if files else ""


@cache
def source_of(name: str) -> str:
    """Where a distribution was installed from, as others can install it (PEP 610, `direct_url.json`).

    Returns:
        `git+URL@COMMIT` for a commit of a repository, the address of an archive, empty for a package index;
        `UNPUBLISHED` for a folder of this machine that is not a clean checkout of a repository with an
        address.
    """
    try:
        text = distribution(name).read_text("direct_url.json")
        origin: dict[str, Any] = json.loads(text) if text else {}
    except (PackageNotFoundError, ValueError):
        return UNPUBLISHED
    url = str(origin.get("url", ""))
    if vcs := origin.get("vcs_info"):
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url.startswith("file:"):
        return _source_of_folder(Path(unquote(urlparse(url).path)))
    return url


def _source_of_folder(folder: Path) -> str:
    """The commit that a folder is a checkout of, where others can get it."""
    if _git(folder, "status", "--porcelain", "--", ".") != "":
        return UNPUBLISHED  # uncommitted changes, or no repository
    commit, tracked = _git(folder, "rev-parse", "HEAD"), _git(folder, "ls-files", "--", ".")
    pushed = _git(folder, "branch", "--remotes", "--contains", "HEAD")
    address = _address(_git(folder, "remote", "get-url", "origin") or "")
    if not (commit and tracked and pushed and address):
        return UNPUBLISHED
    inside = (_git(folder, "rev-parse", "--show-prefix") or "").removesuffix("/")
    return f"git+{address}@{commit}" + (f"#subdirectory={inside}" if inside else "")


def _address(remote: str) -> str:
    """A remote as pip reads it, without the password of whoever cloned it; empty for a folder."""
    if "://" not in remote:  # git@host:path, or a folder
        host, colon, path = remote.partition(":")
        return f"ssh://{host}/{path}" if colon and "/" not in host else ""
    parts = urlparse(remote)
    if parts.scheme == "file" or not parts.hostname:
        return ""
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{user}{parts.hostname}{port}").geturl()


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None if it fails or there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
