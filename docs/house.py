"""The map of the house, generated from the order that the tests check and from each room's own first line."""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("docs/house.md",)
START, END = "<!-- house: python docs/house.py -->\n", "<!-- /house -->"


def rooms() -> tuple[str, ...]:
    """The names of the rooms, from the terminal down to what every room speaks."""
    for node in ast.parse((ROOT / "tests" / "test_architecture.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return tuple(ast.literal_eval(node.value))
    raise LookupError("tests/test_architecture.py names no ROOMS")


def house() -> str:
    """A table with a row a room: what it is for, and its modules."""
    rows = ["| room | what it is for | modules |", "|---|---|---|"]
    for room in rooms():
        folder = ROOT / "bgbench" / room
        first = str(ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))).partition("\n")[0]
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        rows.append(f"| `{room}` | {first} | {', '.join(modules)} |")
    return "\n".join(rows) + "\n"


def rewritten(page: str) -> str:
    """A page with today's map between its marks."""
    return re.sub(f"(?<={re.escape(START)}).*?(?={END})", lambda _: house(), page, flags=re.DOTALL)


def main(words: Sequence[str]) -> int:
    """Complain of pages that do not show today's map; with `--write`, write it into them."""
    pages = {ROOT / name: (ROOT / name).read_text() for name in PAGES}
    stale = [path for path, page in pages.items() if page != rewritten(page)]
    if "--write" in words:
        for path in stale:
            path.write_text(rewritten(pages[path]))
        return 0
    for path in stale:
        print(f"{path} does not show today's map of rooms; write it with `make map`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
