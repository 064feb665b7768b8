"""Files from the Hugging Face hub, by a pinned revision, hashed; one clear sentence without a network."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from bgbench.core.errors import BgbenchError
from bgbench.core.files import sha256_file

ADDRESS = re.compile(
    r"hf:(?P<kind>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+?)(?:@(?P<revision>[\w./-]+))?"
)


@dataclass(frozen=True)
class HubFile:
    """A file at hand: where it is, the commit it came from, its sha256."""

    path: Path
    address: str
    commit: str
    sha256: str


def is_hub_address(text: str) -> bool:
    """Whether `text` is meant as `hf:owner/name/path[@revision]`."""
    return text.startswith("hf:")


def fetch(address: str) -> HubFile:
    """Fetch `hf:[datasets/]owner/name/path[@revision]`; what is cached is not fetched again.

    The revision defaults to `main`; the commit it stood for is returned, and belongs in the record.

    Raises:
        BgbenchError: for another form of address, a file the hub lacks, a wrong checksum, or no network.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise BgbenchError(f"'{address}' is no hub address; write hf:owner/name/path/in/repo[@revision]")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        path = hf_hub_download(
            match["repo"],
            match["file"],
            repo_type="dataset" if match["kind"] else "model",
            revision=match["revision"],
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BgbenchError(f"{address}: the hub has no such repository or revision") from error
    except EntryNotFoundError as error:
        if "offline" not in str(error).lower() and "connection" not in str(error).lower():
            raise BgbenchError(f"{address}: the repository has no such file") from error
        raise Unreachable(unreachable(address)) from error
    except Exception as error:
        raise Unreachable(unreachable(address)) from error
    commit = Path(path).parts[Path(path).parts.index("snapshots") + 1]
    return HubFile(Path(path), address, commit, checked(Path(path), address))


def checked(path: Path, address: str) -> str:
    """The sha256 of a fetched file, which is what the hub said it is.

    The hub's cache names a file by what the hub promised: large ones by their sha256, small ones by git's
    hash of a blob. Another file than that is deleted.

    Raises:
        BgbenchError: if it is another.
    """
    found, promised = sha256_file(path), path.resolve().name
    here = git_hash(path) if len(promised) == 40 else found
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", promised) and promised != here:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise BgbenchError(
            f"{address}: hash {here[:12]}… instead of {promised[:12]}…, damaged on its way or on disk; "
            "it is deleted, fetch it again"
        )
    return found


def git_hash(path: Path) -> str:
    """What git calls a file of this content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Unreachable(BgbenchError):
    """No network, or no hub behind it: whatever is asked for next will not come either."""


def unreachable(address: str) -> str:
    """What to do without the hub."""
    return (
        f"the hub cannot be reached for {address}; fetch the file on a machine with a network and give its "
        "path, or import it with `bgbench weights import SAMPLER FILE`"
    )
