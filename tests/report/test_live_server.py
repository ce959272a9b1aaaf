"""The page is served to this machine alone, and shows what it is told."""

from __future__ import annotations

import importlib
import json
import socket
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from ptycho.errors import ConfigError
from ptycho.figures.live import live_png
from ptycho.report.live_page import LiveState
from ptycho.report.live_server import LiveServer


def asked(server: LiveServer, path: str, host: str | None = None) -> tuple[int, str, bytes]:
    address = server.address.removeprefix("http://").rstrip("/")
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.getheader("Content-Type", ""), answer.read()
    connection.close()
    return found


def test_it_shows_what_it_is_told() -> None:
    with LiveServer("scan", 0) as server:
        assert server.address.startswith("http://127.0.0.1:")
        status, kind, page = asked(server, "/")
        assert status == 200 and kind.startswith("text/html") and b"Live reconstruction" in page
        assert asked(server, "/picture.png")[0] == 404
        server.show(LiveState("measuring", joined=7, picture=1), b"\x89PNG one")
        assert json.loads(asked(server, "/state.json")[2])["texts"]["joined"] == "7"
        assert asked(server, "/picture.png?1") == (200, "image/png", b"\x89PNG one")
        server.show(LiveState("measuring", joined=9, picture=2), b"\x89PNG two")
        assert json.loads(asked(server, "/state.json")[2])["texts"]["joined"] == "9"
        assert asked(server, "/picture.png?2")[2] == b"\x89PNG two"
        assert asked(server, "/../../etc/passwd")[0] == 404


def test_who_asks_by_another_name_gets_nothing() -> None:
    """A page of somebody else whose name was made to lead here could read what is shown."""
    with LiveServer("scan", 0) as server:
        assert asked(server, "/", "example.org")[0] == asked(server, "/", "127.0.0.1.example.org:80")[0] == 404
        assert asked(server, "/", "localhost:9000")[0] == 200  # through a tunnel


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: expected one that is free"):
            LiveServer("scan", port)
        monkeypatch.setattr("ptycho.report.live_server.PORT", port)
        with LiveServer("scan") as server:
            assert server.address != f"http://127.0.0.1:{port}/"


def test_a_browser_sees_it_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    driver = importlib.import_module("browser")
    if driver.found_browser() is None:
        pytest.skip("no Chromium here")
    y, x = np.mgrid[:60, :90]
    with driver.started(tmp_path) as running, LiveServer("scan 7", 0) as server:
        page = driver.Page(running, server.address, 900)
        server.show(LiveState("measuring", joined=12, picture=1), live_png(np.exp(1j * x / 9), np.ones(x.shape)))
        _until(lambda: page.run("document.getElementById('joined').textContent") == "12")
        _until(lambda: page.run("document.getElementById('picture').naturalWidth") > 100)
        wide = page.run("document.getElementById('picture').naturalWidth")
        server.show(
            LiveState("measuring", joined=40, picture=2), live_png(np.exp(1j * y / 9)[:, :50], np.ones((60, 50)))
        )
        _until(lambda: page.run("document.getElementById('joined').textContent") == "40")
        _until(lambda: page.run("document.getElementById('picture').naturalWidth") not in (0, wide))
        assert page.complaints == []
        assert all(url.startswith(server.address) for url in page.requests)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.run("document.getElementById('gone').hidden") is True
        gone = page
        server.__exit__(None, None, None)
        _until(lambda: gone.run("document.getElementById('gone').hidden") is False)


def _until(holds: object, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)
