"""A worker against a peer that speaks the dispatcher's side of the protocol and misbehaves on purpose."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm import attempt
from farm.worker import Worker, WorkerConfig
from integrations._shared.client import Client

REPOSITORY = Path(__file__).parents[3]
DONE = ["done", {"ok": True}]


@dataclass
class Peer:
    """A dispatcher by script. `heard` is every request that it answered: (verb, body)."""

    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    chunks: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Every claim, answered yet or not."""
    verdict: str | None = None
    accepts: bool = True
    answers: dict[str, list[int]] = field(default_factory=dict)
    """Verb → statuses to refuse the next requests with."""
    chained: bool = False
    """Whether a complete brings the next chunk along."""
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def up(self) -> None:
        """Begin, or begin again, to answer."""
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                status, reply = peer.answer(self.path.rpartition("/")[2], self.headers["Authorization"], body)
                raw = b"" if status == 204 else json.dumps(reply).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except OSError:
                    self.close_connection = True  # the worker hung up

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            connections: list[Any] = []  # noqa: RUF012 - one server, one list

            def process_request(self, request: Any, client_address: Any) -> None:
                self.connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, *_: object) -> None: ...

        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Go away, as a killed dispatcher does: open connections break."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.connections:  # type: ignore[attr-defined]
            try:
                connection.shutdown(2)
            except OSError:
                continue
            finally:
                connection.close()
        self._server.connections.clear()  # type: ignore[attr-defined]
        self._server = None

    def answer(self, verb: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert token == "Bearer secret"
        if refusals := self.answers.get(verb):
            return refusals.pop(0), {"error": "E", "message": "no", "hint": ""}
        if verb == "claim":
            self.asked.append(body)
            try:
                chunk = self.chunks.get(timeout=body["wait_s"])
            except queue.Empty:
                return 204, None
            self._note(verb, body)
            return 200, chunk
        self._note(verb, body)
        if verb == "progress":
            return 200, {"stop": self.verdict, "lease_s": 30}
        if verb == "complete":
            following = self.chunks.get() if self.chained and body["hello"] and not self.chunks.empty() else None
            return 200, {"accepted": self.accepts, "next": following}
        return 200, {"accepted": True} if verb == "fail" else {}

    def _note(self, verb: str, body: dict[str, Any]) -> None:
        with self._lock:
            self.heard.append((verb, body))

    def assign(self, *acts: list[Any], **more: Any) -> int:
        """Put a chunk into the queue; returns its number."""
        self._count += 1
        self.chunks.put(
            {
                "chunk_id": self._count, "attempt": 1, "job_id": 1, "take": 0, "step": "infer", "index": 0, "frames": "1-3",
                "context": "", "spec_json": json.dumps({"acts": acts}), "folder": "/nowhere", "inputs": [],
                "version": {"name": "v", "number": 1, "product": "p", "folder": "/v"}, "lease_s": 30.0,
                "no_progress_s": 60.0, "memory_mb": 1000, "model": "", "preview_folder": "/nowhere", **more,
            }
        )  # fmt: skip
        return self._count

    def said(self, verb: str, chunk: int | None = None) -> list[dict[str, Any]]:
        """Bodies of a verb, of one chunk when it is named."""
        with self._lock:
            return [b for v, b in self.heard if v == verb and chunk in (None, b.get("chunk_id"))]

    def wait(self, verb: str, chunk: int | None = None, *, count: int = 1, timeout_s: float = 20.0) -> dict[str, Any]:
        """The latest body of a verb, once there are `count`."""
        until(lambda: len(self.said(verb, chunk)) >= count, f"no {verb} of {chunk}: {self.heard}", timeout_s)
        return self.said(verb, chunk)[-1]


def until(true: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    peer.up()
    yield peer
    peer.down()


Start = Callable[..., Worker]


@pytest.fixture
def start(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts workers in threads, and ends them."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    started: list[tuple[Worker, threading.Thread]] = []

    def begin(**config: Any) -> Worker:
        given = {"name": "w", "memory_mb": 0, "warm": (), "session_module": "tests.unit.farm.light_session", **config}
        client = Client(f"http://127.0.0.1:{peer.port}", "secret", timeout_s=5)
        worker = Worker(client, WorkerConfig(**given), version="1")
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        started.append((worker, thread))
        return worker

    yield begin
    for worker, thread in started:
        worker.shut_down()
        thread.join(15)
        assert not thread.is_alive(), "the worker doesn't stop"


def sessions() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "tests.unit.farm.light_session" in " ".join(p.cmdline())]


def test_it_arrives_claims_reports_and_completes(peer: Peer, start: Start) -> None:
    chunk = peer.assign(
        ["log", "a line", "another"], ["progress", 0.5], ["preview", 2], ["frames", "1-2"], ["sleep", 1.0], DONE
    )
    start(pools=("gpu",), tags=("licence",))
    done = peer.wait("complete", chunk)
    assert [verb for verb, _ in peer.heard[:2]] == ["arrive", "claim"]
    hello = peer.said("arrive")[0]
    assert (hello["pools"], hello["tags"], hello["version"]) == (["gpu"], ["licence"], "1")
    told = peer.said("progress", chunk)
    assert {"fraction": 0.5, "done_frames": "1-2", "note": "light"}.items() <= told[-1].items()
    assert [p for body in told for p in body["previews"]] == [{"frame": 2, "path": "/p"}]
    lines = [line for body in (*told, done) for line in body["log"]]
    assert lines[0].startswith("infer chunk 0, frames 1-3, attempt 1")
    assert lines[1:] == ["a line", "another"]
    assert done["result"]["ok"] is True
    assert done["hello"]["warm"] == "light:1"


def test_a_thank_you_brings_the_next_chunk_along(peer: Peer, start: Start) -> None:
    peer.chained = True
    chunks = [peer.assign(DONE) for _ in range(4)]
    start()
    peer.wait("complete", chunks[-1])
    assert len(peer.said("claim")) == 1
    assert [body["chunk_id"] for body in peer.said("complete")] == chunks
    assert len({body["result"]["pid"] for body in peer.said("complete")}) == 1, "one warm session does them all"


def test_one_that_is_started_before_its_dispatcher_waits_for_it(peer: Peer, start: Start) -> None:
    peer.down()
    start()
    time.sleep(0.5)
    chunk = peer.assign(DONE)
    peer.up()
    peer.wait("complete", chunk)
    assert peer.heard[0][0] == "arrive"


def test_a_result_is_handed_in_when_the_dispatcher_is_back_and_no_line_of_its_log_is_lost(
    peer: Peer, start: Start, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    chunk = peer.assign(
        ["log", "before"], ["progress", 0.1], ["until", str(go)], ["log", "meanwhile"], ["progress", 0.6], ["sleep", 1.2],
        ["log", "last"], DONE,
    )  # fmt: skip
    start()
    peer.wait("progress", chunk)
    peer.down()
    go.write_text("")
    time.sleep(2.5)
    peer.up()
    done = peer.wait("complete", chunk)
    assert len(peer.said("complete", chunk)) == 1
    assert done["result"]["ok"] is True
    lines = [line for body in (*peer.said("progress", chunk), done) for line in body["log"]]
    assert lines[1:] == ["before", "meanwhile", "last"]
    second = peer.assign(DONE)
    peer.wait("complete", second)


@pytest.mark.parametrize("status", [500, 503, 401, 429])
def test_a_refusal_that_may_pass_is_answered_by_saying_it_again(peer: Peer, start: Start, status: int) -> None:
    peer.answers["complete"] = [status, status]
    peer.answers["claim"] = [status]
    chunk = peer.assign(DONE)
    start()
    peer.wait("complete", chunk)


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_result_that_nobody_wants_is_let_go(peer: Peer, start: Start, status: int) -> None:
    peer.answers["complete"] = [status]
    first, second = peer.assign(DONE), peer.assign(DONE)
    start()
    peer.wait("complete", second)
    assert peer.said("complete", first) == []


def test_a_result_that_comes_too_late_is_dropped_and_the_next_chunk_claimed(peer: Peer, start: Start) -> None:
    peer.accepts = False
    chunks = [peer.assign(DONE), peer.assign(DONE)]
    start()
    peer.wait("complete", chunks[1])
    assert [body["chunk_id"] for body in peer.said("complete")] == chunks, "each is said once"


@pytest.mark.parametrize("verdict", ["cancelled", "paused", "lost"])
def test_told_to_stop_it_stops_the_session_but_keeps_it_warm(peer: Peer, start: Start, verdict: str) -> None:
    first = peer.assign(DONE)
    start()
    pid = peer.wait("complete", first)["result"]["pid"]
    stopped = peer.assign(["progress", 0.1], ["until cancelled"], lease_s=1.0)
    peer.wait("progress", stopped)
    peer.verdict = verdict
    until(lambda: len(peer.said("progress", stopped)) >= 2, "no further progress")
    peer.verdict = None
    after = peer.assign(DONE)
    assert peer.wait("complete", after)["result"]["pid"] == pid
    assert peer.said("complete", stopped) == peer.said("fail", stopped) == []


@pytest.mark.parametrize("status", [404, 409])
def test_a_chunk_that_the_dispatcher_does_not_know_is_let_go(peer: Peer, start: Start, status: int) -> None:
    peer.answers["progress"] = [status]
    lost = peer.assign(["progress", 0.1], ["until cancelled"])
    after = peer.assign(DONE)
    start()
    peer.wait("complete", after)
    assert peer.said("complete", lost) == peer.said("fail", lost) == []


def test_a_session_that_does_not_stop_is_killed(peer: Peer, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_STOP_S", 0.3)
    peer.verdict = "cancelled"
    deaf = peer.assign(["progress", 0.1], ["sleep", 600])
    start()
    peer.wait("progress", deaf)
    (before,) = sessions()
    peer.verdict = None
    after = peer.assign(DONE)
    assert peer.wait("complete", after)["result"]["pid"] != before.pid
    assert not before.is_running() or before.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_session_that_dies_is_told_as_a_crash_and_replaced(peer: Peer, start: Start, number: int) -> None:
    first = peer.assign(["log", "last words"], ["sleep", 0.3], ["die", number])
    second = peer.assign(DONE)
    start()
    failed = peer.wait("fail", first)
    assert failed["kind"] == "crash"
    assert signal.Signals(number).name in failed["message"]
    lines = [line for body in (*peer.said("progress", first), failed) for line in body["log"]]
    assert "last words" in lines
    assert peer.wait("complete", second)["result"]["ok"] is True


def test_a_session_that_takes_too_much_memory_is_ended_in_time(peer: Peer, start: Start) -> None:
    chunk = peer.assign(["grow", 300])
    start(memory_mb=200)
    failed = peer.wait("fail", chunk, timeout_s=10)
    assert failed["kind"] == "memory"
    assert "200 MB are allowed" in failed["message"]
    assert sessions() == []


def test_a_session_that_falls_silent_is_ended_while_its_worker_goes_on_to_talk(peer: Peer, start: Start) -> None:
    chunk = peer.assign(["progress", 0.3], ["sleep", 600], no_progress_s=1.5, lease_s=1.0)
    second = peer.assign(DONE)
    start()
    failed = peer.wait("fail", chunk)
    assert failed["kind"] == "hung"
    told = peer.said("progress", chunk)
    assert len(told) >= 3, "every third of a lease"
    assert [body["advanced"] for body in told][-1] is False
    peer.wait("complete", second)


@pytest.mark.parametrize("kind", ["error", "refused", "storage", "memory"])
def test_what_a_session_says_of_its_failure_is_passed_on_and_it_stays_warm(peer: Peer, start: Start, kind: str) -> None:
    first = peer.assign(["fail", kind])
    second = peer.assign(DONE)
    start()
    failed = peer.wait("fail", first)
    assert (failed["kind"], failed["message"], failed["hint"]) == (kind, "no luck", "try again")
    peer.wait("complete", second)
    assert len(sessions()) == 1


def test_an_idle_one_stops_at_once_and_says_so(peer: Peer, start: Start) -> None:
    worker = start()
    peer.wait("arrive")
    time.sleep(0.3)  # it waits for an answer to its claim, which takes 20 s
    started = time.monotonic()
    worker.shut_down()
    peer.wait("leave", timeout_s=5)
    assert time.monotonic() - started < 3
    until(lambda: sessions() == [], "the session is left behind")


def test_one_that_is_stopped_in_the_middle_of_a_chunk_gives_it_back(peer: Peer, start: Start) -> None:
    chunk = peer.assign(["progress", 0.1], ["sleep", 600])
    worker = start()
    peer.wait("progress", chunk)
    worker.shut_down()
    peer.wait("leave")
    assert peer.said("complete") == peer.said("fail") == []
    assert sessions() == []


def test_an_idle_one_tells_which_model_its_session_has_loaded(peer: Peer, start: Start) -> None:
    start()
    until(lambda: any(body["hello"]["warm"] == "light:1" for body in peer.asked), "nobody hears that it is warm")
    waits = [body["wait_s"] for body in peer.asked]
    until(lambda: peer.asked[-1]["wait_s"] == 20, f"it goes on asking every second: {waits}")


def test_an_idle_session_that_dies_is_replaced_with_the_next_chunk(peer: Peer, start: Start) -> None:
    start(once=False)
    until(lambda: any(body["hello"]["warm"] for body in peer.asked), "not warm")
    (session,) = sessions()
    session.kill()
    session.wait(5)
    chunk = peer.assign(DONE)
    assert peer.wait("complete", chunk)["result"]["pid"] != session.pid


def test_any_name_is_a_name(peer: Peer, start: Start) -> None:
    chunk = peer.assign(DONE)
    start(name="Büro 3 ?#")
    peer.wait("complete", chunk)


def test_with_once_it_ends_when_nothing_waits(peer: Peer, start: Start) -> None:
    chunks = [peer.assign(DONE), peer.assign(DONE)]
    start(once=True)
    peer.wait("leave")
    assert [body["chunk_id"] for body in peer.said("complete")] == chunks


def test_a_newer_dispatcher_may_say_more_than_it_understands_but_not_less(peer: Peer, start: Start) -> None:
    more = peer.assign(DONE, colour="red", version={"name": "v", "number": 1, "product": "p", "folder": "/v", "new": 1})
    less = peer.assign(DONE, step="bake")
    after = peer.assign(DONE)
    start()
    peer.wait("complete", more)
    failed = peer.wait("fail", less)
    assert failed["kind"] == "error"
    assert "step" in failed["message"]
    assert "version" in failed["hint"]
    peer.wait("complete", after)


def test_a_library_that_prints_without_end_is_cut_and_counted(peer: Peer, start: Start) -> None:
    chunk = peer.assign(["log", *[f"line {i}" for i in range(3000)]], ["sleep", 0.5], DONE)
    start()
    done = peer.wait("complete", chunk)
    bodies = [*peer.said("progress", chunk), done]
    assert all(len(body["log"]) <= 201 for body in bodies)
    assert any("more lines were dropped" in line for body in bodies for line in body["log"])
