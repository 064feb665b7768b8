"""Show a built site on this machine alone."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bgbench.core.errors import BgbenchError

LOOPBACK = "127.0.0.1"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line on the terminal for each, and lists no folder."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def list_directory(self, path: Any) -> None:
        """Not found."""
        del path
        self.send_error(404)


def server(site: Path, port: int) -> ThreadingHTTPServer:
    """A server of the built site in `site` on 127.0.0.1; port 0 stands for any free one.

    Raises:
        BgbenchError: if there is no site, or another process listens on the port.
    """
    if not (site / "index.html").is_file():
        raise BgbenchError(f"{site} holds no site; make it with `bgbench leaderboard build --out {site}`")
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(Quiet, directory=str(site)))
    except OSError as error:
        raise BgbenchError(
            f"cannot listen on port {port}: {error.strerror}; choose another --port"
        ) from error
