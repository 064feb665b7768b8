"""Badges of the README, made from `pyproject.toml`: plain SVG files, which need no network.

`python docs/badges.py --write` writes them; without the flag it complains of those that are out of date.
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "images"
LETTER = 6.6
"""Width of a letter, in pixels."""


def badge(label: str, value: str) -> str:
    """Two boxes of text beside each other, as SVG."""
    left, right = (round(LETTER * len(text) + 12) for text in (label, value))
    middle = left + right / 2
    font = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{label}: {value}">\n'
        f'<rect width="{left + right}" height="20" rx="3" fill="#555"/>\n'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" fill="#0a6"/>\n'
        f'<g fill="#fff" text-anchor="middle" {font}>\n'
        f'<text x="{left / 2}" y="14">{label}</text>\n'
        f'<text x="{middle}" y="14">{value}</text>\n</g>\n</svg>\n'
    )


def badges() -> dict[str, str]:
    """Every badge by the name of its file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    values = {
        "version": project["version"],
        "python": project["requires-python"].removeprefix(">=") + " or newer",
        "licence": project["license"],
    }
    return {f"badge-{name}.svg": badge(name, value) for name, value in values.items()}


def main(words: Sequence[str]) -> int:
    """Complain of badges that are out of date; with `--write`, write them."""
    made = badges()
    stale = [
        name
        for name, text in made.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != text
    ]
    for name in stale:
        if "--write" in words:
            (FOLDER / name).write_text(made[name])
        else:
            print(f"docs/images/{name} is out of date; write it with `make map`", file=sys.stderr)
    return 1 if stale and "--write" not in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
