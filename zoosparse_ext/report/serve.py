"""The report of a study that is still running: served on this machine alone, loaded again when it changes."""

from __future__ import annotations

import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from zoosparse_ext.errors import InputError

HOST = "127.0.0.1"
# Asks for the state of the report every two seconds; a study that has ended leaves the page as it is.
_RELOAD = b"""<script>
(() => {
  let known = null;
  const look = async () => {
    try {
      const state = await (await fetch("/state", { cache: "no-store" })).text();
      if (known !== null && state !== known) location.reload();
      known = state;
      setTimeout(look, 2000);
    } catch { /* the server is gone */ }
  };
  look();
})();
</script>
"""


class ReportServer(ThreadingHTTPServer):
    """Serves the folder of a report; use as a context manager.

    >>> import tempfile
    >>> from urllib.request import urlopen
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "report.html").write_text("<p>done</p>")
    ...     with ReportServer(folder, port=0) as server:
    ...         urlopen(server.url).read().startswith(b"<p>done</p>")
    True

    Args:
        folder: what `write_report` has written to; nothing outside it is served, and only to this machine.
        port: 0 takes a free one, see `url`.

    Raises:
        InputError: the port is taken, or not allowed.
    """

    daemon_threads = True

    def __init__(self, folder: str | Path, port: int = 8000) -> None:
        try:
            super().__init__((HOST, port), partial(_Handler, directory=str(folder)))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot serve on port {port}: {reason}; choose another with --port") from None
        self.state = 0  # counts how often the report was written anew
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def renew(self) -> None:
        """The report was written anew: open pages load it again."""
        self.state += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless a browser only left in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __exit__(self, *failure: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(SimpleHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # A page elsewhere must not read this one through a name of its own that leads here.
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
        elif self.path == "/state":
            self._send(str(self.server.state).encode(), "text/plain")
        elif self.path in ("/", "/report.html"):
            self._send(Path(self.directory, "report.html").read_bytes() + _RELOAD, "text/html; charset=utf-8")
        else:
            super().do_GET()

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to whoever started the server."""
