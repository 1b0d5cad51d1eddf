"""A headless browser that opens pages, runs a few lines of script in them and says what it sees.

It is started once and spoken to through a pipe (the DevTools protocol), since starting it takes longer than a page.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.packages import BROWSER, program
from tests.support.waiting import PATIENCE_S

_PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 500))))"
_COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class PageError(AssertionError):
    """A page said something to the console, which a good page does not."""


class Browser:
    """One tab of a headless browser.

    Raises:
        FileNotFoundError: no browser is installed.
    """

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="sgp-browser-", ignore_cleanup_errors=True)
        its_input, self._send = _high(os.pipe())
        self._receive, its_output = _high(os.pipe())
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}"]

        def connect() -> None:  # the protocol is spoken on the descriptors 3 and 4
            os.dup2(its_input, 3)
            os.dup2(its_output, 4)

        self._process = subprocess.Popen(
            [_program(), *options, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=connect,
            pass_fds=(3, 4),
            start_new_session=True,
        )
        os.close(its_input)
        os.close(its_output)
        self._number, self._buffer = 0, b""
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def see(self, page: Path, expression: str, *, width: int = 1200, dark: bool = False) -> Any:
        """Open ``page`` and return the value of a JavaScript expression, once its own scripts have run.

        Raises:
            PageError: there was a message on the console: an error, or something that could not be loaded.
        """
        self._open(page, width, 1000, dark)
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        complaints = [event["params"] for event in self._events if event["method"] in _COMPLAINTS]
        if complaints or "exceptionDetails" in answer:
            raise PageError(json.dumps(complaints or answer["exceptionDetails"], indent=1)[:3000])
        return answer["result"].get("value")

    def photograph(
        self, page: Path, image: Path, *, width: int = 1200, dark: bool = False, scale: float = 1.0, script: str = ""
    ) -> None:
        """Save the whole of ``page`` as a PNG of ``scale`` pixels a point, after running ``script`` in it."""
        self._open(page, width, 1000, dark)
        if script:
            self._call("Runtime.evaluate", expression=script)
        height = self._call("Page.getLayoutMetrics")["cssContentSize"]["height"]
        self._size(width, math.ceil(height), scale)
        self._call("Runtime.evaluate", expression=_PAINTED, awaitPromise=True)
        image.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser, all of its processes."""
        with contextlib.suppress(OSError, TimeoutError):
            self._session = None
            self._call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._send)
        os.close(self._receive)
        self._profile.cleanup()

    def _open(self, page: Path, width: int, height: int, dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._size(width, height)
        self._events.clear()
        self._call("Page.navigate", url=page.absolute().as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def _size(self, width: int, height: int, scale: float = 1.0) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        session = {"sessionId": self._session} if self._session else {}
        os.write(
            self._send, json.dumps({"id": number, "method": method, "params": parameters, **session}).encode() + b"\0"
        )
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, wanted: Any) -> dict[str, Any]:
        """Return the message that is wanted; events before it are kept."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while b"\0" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\0")
                message: dict[str, Any] = json.loads(line)
                if "method" in message:
                    self._events.append(message)
                if wanted(message):
                    return message
            if not select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the browser has not answered in {PATIENCE_S:g} s")
            new = os.read(self._receive, 1 << 20)
            if not new:
                raise OSError("the browser is gone")
            self._buffer += new


def _program() -> str:
    """Return the path of a browser."""
    [names] = BROWSER.packages.values()
    if found := next(filter(None, map(program, names)), None):
        return found
    raise FileNotFoundError(f"{BROWSER.name} is not installed: none of {', '.join(names)} is on PATH")


def _high(ends: tuple[int, int]) -> tuple[int, int]:
    """Return the ends of a pipe under numbers that the child does not need for something else."""
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
