"""A run in a notebook: its table, and the figures of one cell."""

import base64
from collections.abc import Sequence
from html import escape

from bgbench.reports.results import summary_of
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def html_of(run: RunFolder, records: Sequence[Record]) -> str:
    """A table of means over systems beside their noise floors, what failed, and figures of the first cell."""
    heads, rows = summary_of([run])
    cells = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    failed = "".join(
        f"<li>{escape(record.cell.name)}: {escape(record.status)}: {escape(record.error)}</li>"
        for record in records
        if record.status != "ok"
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{failed}</ul>" if failed else "")
        + "".join(_figures(run, records))
        + f"<p>{escape(str(run.path))}</p>"
    )


def _figures(run: RunFolder, records: Sequence[Record]) -> list[str]:
    """The figures of the first finished cell that has any."""
    for record in records:
        paths = sorted((run.path / "figures").glob(f"{record.cell.name}-*.png"))
        if record.status == "ok" and paths:
            return [
                f'<img alt="{escape(path.stem)}" style="max-width: 100%" src="data:image/png;base64,'
                f'{base64.b64encode(path.read_bytes()).decode()}">'
                for path in paths
            ]
    return []
