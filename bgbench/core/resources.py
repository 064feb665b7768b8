"""Where packaged files are: inside an installed wheel, or in the checkout of an editable install."""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_PACKED = _PACKAGE / "_data"
_PLACES = {
    "suites": "benchmarks/suites",
    "protocols": "benchmarks/protocols",
    "datasets": "datasets",
    "site": "leaderboard/site",
}


def _folder(kind: str) -> Path:
    return _PACKED / kind if _PACKED.is_dir() else _PACKAGE.parent / _PLACES[kind]


def suites_path() -> Path:
    """The folder of suite files."""
    return _folder("suites")


def protocols_path() -> Path:
    """The folder of protocol files."""
    return _folder("protocols")


def data_path(*parts: str) -> Path:
    """Give the place of a file or folder under `datasets/`, there or not.

    Args:
        parts: of its path, below `datasets/`.

    Returns:
        The path, in an installed wheel as in a checkout.

    >>> data_path("references", "AA.npz").is_file()
    True
    """
    return _folder("datasets").joinpath(*parts)


def site_path() -> Path:
    """The folder of page templates."""
    return _folder("site")


def rules_path() -> Path:
    """The rules of the leaderboard."""
    return _PACKED / "rules.md" if _PACKED.is_dir() else _PACKAGE.parent / "leaderboard" / "rules.md"
