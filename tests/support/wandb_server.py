"""The part of a Weights & Biases server that uploads of runs need, on this machine.

Like the real one it keeps a run's history as numbered lines: an upload that begins at line 0 replaces what is there
(wandb issues 3841 and 5865), one that resumes the run begins where it ended.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StoredRun:
    """What the server has of one run."""

    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of the history in their order."""
        return [self.history[number] for number in sorted(self.history)]


@dataclass
class WandbServer:
    """A server, while it runs."""

    url: str
    runs: dict[str, StoredRun] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    refuses: bool = False
    """As one whose key is not known there."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Run a server until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.state = WandbServer(f"http://127.0.0.1:{http.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield http.state  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve, and do not mind clients that leave without a word."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        self.body()
        self.answer({})

    def do_PUT(self) -> None:
        self.body()
        self.answer({})

    def do_POST(self) -> None:
        body = self.body()
        if self.path.startswith("/graphql"):
            request = json.loads(body)
            matched = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            name = matched.group(1) if matched else ""
            self.state.operations.append(name)
            method = getattr(self, f"on_{name}", None)
            self.answer({"data": method(request.get("variables") or {}) if method else {}})
        elif self.path.endswith("/file_stream"):
            self.on_stream(self.path.split("/")[4], json.loads(body))
            self.answer({})
        else:
            self.answer({})

    @property
    def state(self) -> WandbServer:
        return self.server.state  # type: ignore[attr-defined, no-any-return]

    def body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def answer(self, content: dict[str, Any]) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(401 if self.state.refuses else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    # -- questions ------------------------------------------------------------------------------------------------
    def on_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.state.runs.setdefault(variables["name"], StoredRun())
        run.settings |= {name: value for name, value in variables.items() if value is not None}
        project = {"id": "p", "name": variables.get("project") or "none", "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": "UnVu",
            "name": variables["name"],
            "displayName": run.settings.get("displayName"),
            "description": None,
            "config": "{}",
            "sweepName": None,
            "project": project,
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def on_RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        model = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}, "bucket": None}
        run = self.state.runs.get(variables["name"])
        if run is not None:
            model["bucket"] = {
                "id": "UnVu",
                "name": variables["name"],
                "summaryMetrics": json.dumps(run.summary),
                "displayName": None,
                "logLineCount": 0,
                "historyLineCount": len(run.history),
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in run.rows()[-1:]]),
                "eventsTail": "[]",
                "config": "{}",
                "tags": [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": model}

    def on_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "x", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def on_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{self.headers['Host']}/upload"
        files = [{"name": name, "uploadUrl": url} for name in variables["files"]]
        return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}

    def on_CreateArtifact(self, _: dict[str, Any]) -> dict[str, Any]:
        """Say that this very content is there already, so that no file has to be received."""
        latest = {"id": "a", "versionIndex": 0}
        sequence = {"id": "s", "latestArtifact": latest}
        return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}

    def on_stream(self, run_id: str, content: dict[str, Any]) -> None:
        run = self.state.runs[run_id]
        files = content.get("files", {})
        if "wandb-history.jsonl" in files:
            chunk = files["wandb-history.jsonl"]
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                run.history[number] = json.loads(line)
        if "wandb-summary.json" in files:
            run.summary = json.loads(files["wandb-summary.json"]["content"][-1])
        if content.get("complete"):
            run.exit_code = content.get("exitcode")
