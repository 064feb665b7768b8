"""The map of the house, generated from the order that the tests check and from each room's own first line."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("docs/house.md", "README.md")
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


def main() -> None:
    """Write the map into every page that shows it."""
    for name in PAGES:
        path = ROOT / name
        path.write_text(rewritten(path.read_text()))


if __name__ == "__main__":
    sys.exit(main())
