"""Build the board's pages: static files from records alone, pictures where the arrays are at hand."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from bgbench.core.errors import BgbenchError
from bgbench.core.resources import rules_path, site_path
from bgbench.leaderboard.details import entry_view, system_view
from bgbench.leaderboard.downloads import as_csv, as_dict, board_dict, to_json
from bgbench.leaderboard.entries import EntryFiles, open_entry
from bgbench.leaderboard.history import entry_folders
from bgbench.leaderboard.ledger import Event, read_ledger
from bgbench.leaderboard.rules import REASONS, TIERS
from bgbench.leaderboard.tables import Table, TableRow, tables_of
from bgbench.leaderboard.views import curve_rows, curves_view, heads, number, systems_of, table_view
from bgbench.reports.figures import chemical

FIRST = 12
"""Rows of each table on the first page."""

MARK = ".bgbench-site"
"""File that says a folder is a built site, which may be replaced."""


def build(
    board: Path,
    out: Path,
    url: str = "",
    progress: Callable[[str], None] = lambda text: None,
    *,
    pictures: bool = True,
) -> Path:
    """Write the site of the board in `board`.

    Args:
        board: the folder with `records/` and `ledger/`.
        out: the folder of the site; an older site there is replaced.
        url: where the site will be, for the feed's links.
        progress: called with the name of the page being written.
        pictures: draw what the arrays of the first seed look like.

    Raises:
        Refused: for an entry that cannot be read safely.
        BgbenchError: if `out` holds anything but an older site.
    """
    entries = [open_entry(folder) for folder in entry_folders(board)]
    tables = tables_of(entries)
    events = read_ledger(board).events
    clear(out)
    site = Site(out, {"tables": tables, "events": events, "url": url.rstrip("/")})
    site.write(
        "index.html",
        "index.html.j2",
        tables_shown=[table_view(t, FIRST) for t in tables],
        published=published(),
    )
    for table in tables:
        progress(table.key.title)
        _table_page(site, table)
        for row in table.rows:
            progress(row.name)
            _entry_page(site, row, table, events, _pictures(site, row) if pictures else [])
    for suite, system in _systems(entries):
        beside = [table for table in tables if table.key.suite == suite]
        path = f"systems/{slug(suite)}--{slug(system)}.html"
        site.write(path, "system.html.j2", view=system_view(suite, system, beside))
    site.write("rules.html", "rules.html.j2", text=rules_html())
    site.text("data/board.json", to_json(board_dict(tables)))
    site.write("feed.xml", "feed.xml.j2", changes=list(reversed(events))[:100])
    return out / "index.html"


class Site:
    """A folder of pages that share templates and what every page knows."""

    def __init__(self, out: Path, shared: dict[str, Any]) -> None:
        self.out = out
        loader = FileSystemLoader(site_path())
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {"slug": slug, "number": number}
        self._environment.globals |= {"heads": heads(), "tiers": TIERS, **shared}
        (out / "assets").mkdir(parents=True)
        for name in ("board.css", "board.js", "theme.js"):
            shutil.copyfile(site_path() / name, out / "assets" / name)
        self.text(MARK, "built by bgbench leaderboard build\n")
        self.text(".nojekyll", "")

    def write(self, path: str, template: str, **values: Any) -> None:
        """Render a template to `path` below the site."""
        root = "../" * path.count("/")
        self.text(path, self._environment.get_template(template).render(root=root, page=path, **values))

    def text(self, path: str, text: str) -> None:
        """Write a file below the site."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def clear(out: Path) -> None:
    """An empty folder for the site.

    Raises:
        BgbenchError: if it holds anything but an older site.
    """
    if out.exists() and not out.is_dir():
        raise BgbenchError(f"{out} is a file; choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise BgbenchError(f"{out} holds files that are not those of a site; choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def slug(text: str) -> str:
    """`text` as part of a file name."""
    return "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in text)


def published() -> dict[str, Any]:
    """The numbers printed in the paper, which bgbench did not measure."""
    loaded: dict[str, Any] = yaml.safe_load((site_path() / "published.yaml").read_text(encoding="utf-8"))
    return loaded


def rules_html() -> Markup:
    """`leaderboard/rules.md` as HTML; HTML in it is text."""
    text = rules_path().read_text(encoding="utf-8")
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


def _table_page(site: Site, table: Table) -> None:
    name = table.key.slug
    site.write(
        f"tables/{name}.html",
        "table.html.j2",
        table=table_view(table),
        curves=curves_view(table),
        points=curve_rows(table),
        missing=[s for s in table.rows if s.missing],
        systems=list(dict.fromkeys(system for s in table.rows for system in systems_of(s.files))),
    )
    site.text(f"data/{name}.csv", as_csv(table))
    site.text(f"data/{name}.json", to_json(as_dict(table)))


def _entry_page(
    site: Site, row: TableRow, table: Table, events: Sequence[Event], pictures: Sequence[str]
) -> None:
    view = entry_view(row, table, events, pictures)
    site.write(f"entries/{row.name}.html", "entry.html.j2", view=view, reasons=REASONS)


def _pictures(site: Site, row: TableRow) -> list[str]:
    """Ramachandran, TICA, energy and free-energy pictures of the first seed, where its arrays are here."""
    files = row.files
    seed = min(cell.seed for cell in files.plan.cells)
    pictures = []
    for record in files.records:
        path = files.run.arrays_path(record.cell)
        has_arrays = record.status == "ok" and record.cell.seed == seed and path.is_file()
        if not has_arrays or files.tier == "reported":
            continue
        for kind, figure in chemical(files.run, record).items():
            name = f"pictures/{row.name}/{record.cell.name}~{kind}.png"
            target = site.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(target, dpi=80, format="png")
            pictures.append(name)
    return pictures


def _systems(entries: Sequence[EntryFiles]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((o.plan.suite, system) for o in entries for system in systems_of(o)))
