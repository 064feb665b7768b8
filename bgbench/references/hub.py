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
    """A downloaded file.

    Attributes:
        path: where it is on this machine.
        address: that it was fetched by.
        commit: that the address stood for.
        sha256: of the file, hex.

    >>> HubFile(Path("weights.safetensors"), "hf:owner/name/weights.safetensors@main", "1af9336", "").commit
    '1af9336'
    """

    path: Path
    address: str
    commit: str
    sha256: str


class HubUnreachable(BgbenchError):
    """There is no network, or no hub behind it: other files cannot be fetched either."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the hub cannot be reached for {address}; fetch the file on a machine with a network and give "
            "its path, or import it with `bgbench weights import SAMPLER FILE`"
        )


def is_hub_address(text: str) -> bool:
    """Whether `text` is meant as an address on the hub, `hf:owner/name/path[@revision]`.

    Args:
        text: what a user wrote for a file.

    Returns:
        True for a text that begins with ``hf:``.

    >>> is_hub_address("hf:owner/name/weights.safetensors"), is_hub_address("weights.safetensors")
    (True, False)
    """
    return text.startswith("hf:")


def fetch(address: str) -> HubFile:
    """Fetch `hf:[datasets/]owner/name/path[@revision]`, unless it is in the hub's local cache already.

    The revision defaults to `main`; the commit it stood for is returned, and belongs in the record.

    Args:
        address: of the file.

    Returns:
        The file with its commit and its hash.

    Raises:
        BgbenchError: for another form of address, a file the hub lacks, or a wrong checksum.
        HubUnreachable: without a network.

    >>> fetch("hf:owner/name")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: 'hf:owner/name' is not a hub address; write hf:owner/name/...
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise BgbenchError(f"'{address}' is not a hub address; write hf:owner/name/path/in/repo[@revision]")
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
        raise HubUnreachable(address) from error
    except Exception as error:
        raise HubUnreachable(address) from error
    commit = Path(path).parts[Path(path).parts.index("snapshots") + 1]
    return HubFile(Path(path), address, commit, verify_download(Path(path), address))


def verify_download(path: Path, address: str) -> str:
    """The sha256 (hex) of a fetched file, after it was compared with the hash that the hub promised.

    The hub's cache names a file by that hash: a large one by its sha256, a small one by git's hash of a
    blob. A file with another hash is deleted.

    Raises:
        BgbenchError: if the hashes differ.
    """
    sha256, promised = sha256_file(path), path.resolve().name
    actual = git_hash(path) if len(promised) == 40 else sha256
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", promised) and promised != actual:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise BgbenchError(
            f"{address}: hash {actual[:12]}… instead of {promised[:12]}…, damaged on its way or on disk; "
            "it is deleted, fetch it again"
        )
    return sha256


def git_hash(path: Path) -> str:
    """The hash (hex) that git gives a file of this content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
