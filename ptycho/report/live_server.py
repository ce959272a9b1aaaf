"""Serves the page of a scan that is being measured to this machine, and to no other."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from ptycho.errors import ConfigError
from ptycho.report.live_page import LiveState, live_page, live_state

__all__ = ["PORT", "LiveServer"]

PORT = 8117
"""Of the page, where nobody says another and it is free."""
_POLL = 0.1
"""Seconds after which it looks whether it is to end."""
_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost")
"""By which this machine is asked; a page of somebody else that had its own name lead here would ask by that."""


class LiveServer:
    """The page, in threads of its own; in a `with` block.

    Args:
        name: of the scan.
        port: to listen on; None: `PORT`, or where that is taken one that the system chooses, as with 0.

    Raises:
        ConfigError: the port that was asked for is taken.
    """

    def __init__(self, name: str, port: int | None = None) -> None:
        self.name = name
        self._page = live_page(name).encode("utf-8")
        self._state, self._picture = LiveState("waiting"), b""
        self._lock = threading.Lock()
        self._server = self._bound(port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), name="live page", daemon=True)

    def _bound(self, port: int | None) -> ThreadingHTTPServer:
        for tried in (PORT, 0) if port is None else (port,):
            try:
                server = ThreadingHTTPServer((_HOST, tried), _handler(self))
            except OSError as error:
                if tried and port is None:
                    continue
                raise ConfigError(f"--port {tried}: expected one that is free, found {error.strerror}") from error
            server.daemon_threads = True
            return server
        raise AssertionError("the system has chosen no port")

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{_HOST}:{self._server.server_address[1]}/"

    def show(self, state: LiveState, picture: bytes | None) -> None:
        """Have the page show this from now on."""
        with self._lock:
            self._state, self._picture = state, picture or b""

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Type and content of what there is at a path; None where there is nothing."""
        with self._lock:
            state, picture = self._state, self._picture
        if path == "/":
            return "text/html; charset=utf-8", self._page
        if path == "/state.json":
            return "application/json", live_state(state, self.name).encode("utf-8")
        return ("image/png", picture) if path == "/picture.png" and picture else None

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(server: LiveServer) -> type[BaseHTTPRequestHandler]:
    """What answers the requests to a server."""

    class Handler(BaseHTTPRequestHandler):
        """Answers what is asked for by this machine's own name."""

        def do_GET(self) -> None:
            """Answer."""
            asked = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            found = server.answer(self.path.partition("?")[0]) if asked in _NAMES else None
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            kind, content = found
            self.send_response(HTTPStatus.OK)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not told."""

    return Handler
