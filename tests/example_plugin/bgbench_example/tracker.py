"""The tracker: appends a line for each record to a file. `example://PLACE` is the folder PLACE."""

import json
from pathlib import Path


def append_records(folder: Path, uri: str, sent: dict[str, int]) -> None:
    """Append the cells whose records are new: name, status, and every metric."""
    place = Path(uri.removeprefix("example://"))
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("cells/*.json")):
        written = path.stat().st_mtime_ns
        if sent.get(path.stem) == written:
            continue
        record = json.loads(path.read_text())
        line = {"cell": path.stem, "status": record["status"], "metrics": record["metrics"]}
        with (place / "records.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        sent[path.stem] = written
