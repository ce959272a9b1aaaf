"""A headless Chromium, driven through its DevTools protocol over a pipe: what playwright would do, without it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Browser", "Page", "found_browser", "started"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_SECONDS = 30


def found_browser() -> str | None:
    """The program, where there is one."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """The browser process; commands go out and answers and events come in, JSON between zero bytes."""

    def __init__(self, program: str, profile: Path) -> None:
        down, up = os.pipe(), os.pipe()

        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (down[0], up[1])]  # 3 and 4 may be among the pipes

        def connect() -> None:
            for end, number in zip(high, (3, 4), strict=True):
                os.dup2(end, number)

        flags = [*_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            [program, *flags, "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (down[0], up[1], *high):
            os.close(end)
        self._out, self._in = os.fdopen(down[1], "wb", 0), os.fdopen(up[0], "rb", 0)
        self._number, self._left = 0, b""
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def wait(self, event: str) -> None:
        """Until an event has come."""
        until = time.monotonic() + _SECONDS
        while not any(one.get("method") == event for one in self.events):
            if time.monotonic() > until:
                raise RuntimeError(f"no {event} within {_SECONDS} s")
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            block = self._in.read(1 << 16)
            if not block:
                raise RuntimeError("the browser has ended")
            self._left += block
        text, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._out.close()
        self._in.close()
        self.process.terminate()
        self.process.wait(_SECONDS)


class Page:
    """One page, a file or what is at an address, as wide as it is asked to be, light or dark."""

    def __init__(self, browser: Browser, path: Path | str, width: int, scheme: str = "light") -> None:
        self.browser = browser
        target = browser.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.events.clear()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        begun = time.monotonic()
        self.call("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
        browser.wait("Page.loadEventFired")
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.seconds = time.monotonic() - begun

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this page."""
        return self.browser.command(method, self.session, **params)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """What the console says that is no plain log."""
        told = []
        for event in self.browser.events:
            if event["method"] == "Runtime.exceptionThrown":
                told.append(str(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded":
                told.append(str(event["params"]["entry"]["text"]))
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                told.append(str(event["params"]["args"]))
        return told

    @property
    def requests(self) -> list[str]:
        """What was asked for beside the page itself and what is in it."""
        sent = [
            e["params"]["request"]["url"] for e in self.browser.events if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith("data:")][1:]

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Turn the wheel over a point of the window, up for a negative delta."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)
        self.run("new Promise(done => setTimeout(done, 50))")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Press, move or release the left button there: 'mousePressed', 'mouseMoved', 'mouseReleased'."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str) -> None:
        """Type a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def screenshot(self, path: Path, whole: bool = True) -> Path:
        """Write a picture of the page, all of it or the window."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _clip(self, whole: bool) -> dict[str, Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if whole else {}


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser that ends with the block."""
    program = found_browser()
    if program is None:
        raise RuntimeError(f"no browser: none of {', '.join(_NAMES)} is installed")
    with Browser(program, profile) as browser:
        yield browser
