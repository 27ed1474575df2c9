"""The client that hosts, workers and the command line share: against peers that hang up, lie and stay silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from integrations._shared.client import Client, DispatcherError

Answer = Callable[[bytes], bytes | None]
"""A request's bytes → what to send; None hangs up."""


def http(body: bytes, status: int = 200, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


class Peer:
    """A server that says byte for byte what a test wants, one answer after the other, over any number of connections."""

    def __init__(self) -> None:
        self.answers: list[bytes | float | None] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while (request := _request(connection)) is not None:
                self.requests.append(request)
                answer = self.answers.pop(0)
                if isinstance(answer, float):
                    time.sleep(answer)
                elif answer is None:
                    return
                else:
                    connection.sendall(answer)


def _request(connection: socket.socket) -> bytes | None:
    """One request, its body included; None when the other end has closed."""
    got = b""
    try:
        while b"\r\n\r\n" not in got:
            if not (some := connection.recv(65536)):
                return None
            got += some
        head, _, body = got.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
    except OSError:
        return None
    return head + b"\r\n\r\n" + body


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    with Client(peer.url + "/", "secret", timeout_s=5) as client:
        yield client


def test_a_request_carries_token_json_and_query_and_one_connection_serves_many(peer: Peer, client: Client) -> None:
    peer.answers = [http(b'{"a": 1}'), http(b"[]"), http(b"", 204)]
    assert client.post("/v1/x", {"b": "ü"}) == {"a": 1}
    assert client.get("/v1/y", state=["a", "b"], show=None, q="c d") == []
    assert client.post("/v1/z") is None
    post, get, empty = peer.requests
    assert post.startswith(b"POST /v1/x ")
    assert b"Authorization: Bearer secret\r\n" in post
    assert post.endswith(b'{"b": "\\u00fc"}')
    assert get.startswith(b"GET /v1/y?state=a&state=b&q=c+d ")
    assert empty.endswith(b"{}")
    assert peer.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_anew(peer: Peer, client: Client) -> None:
    peer.answers = [http(b"1"), None, http(b"2")]
    assert client.get("/a") == 1
    assert client.get("/b") == 2
    assert [r.split()[1] for r in peer.requests] == [b"/a", b"/b", b"/b"]


def test_a_fresh_connection_that_is_hung_up_on_is_not_tried_twice(peer: Peer, client: Client) -> None:
    peer.answers = [None, http(b"1")]
    with pytest.raises(DispatcherError) as error:
        client.get("/a")
    assert error.value.unreachable
    assert "plates serve" in error.value.hint
    assert client.get("/a") == 1, "the next request starts afresh"


def test_no_dispatcher_and_a_silent_one_are_unreachable(peer: Peer, client: Client) -> None:
    peer.answers = [2.0]
    started = time.monotonic()
    with pytest.raises(DispatcherError) as silent:
        client.get("/a", timeout_s=0.2)
    assert silent.value.unreachable
    assert time.monotonic() - started < 1.5
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", "x") as nobody, pytest.raises(DispatcherError) as dead:
        nobody.get("/a")
    assert dead.value.unreachable
    assert f":{port}" in dead.value.message


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>a proxy's page</html>"), http(b"<html>", 502), http(b"\xff\xfe", 500), http(b""),
        b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n{",
    ],
)  # fmt: skip
def test_whoever_else_answers_is_told_from_a_dispatcher(peer: Peer, client: Client, answer: bytes) -> None:
    peer.answers = [answer, None] if answer.startswith((b"SSH", b"HTTP/1.1 200 X\r\nContent-Length: 10")) else [answer]
    with pytest.raises(DispatcherError) as error:
        client.get("/a", timeout_s=0.5)
    assert error.value.error == "ServerError"
    assert error.value.hint


def test_a_refusal_comes_with_everything_that_was_said(peer: Peer, client: Client) -> None:
    faults = b'[{"where": "plate", "message": "m", "hint": "h"}]'
    peer.answers = [
        http(b'{"error": "SubmissionRefused", "message": "no", "hint": "yes", "faults": ' + faults + b"}", 422),
        http(b"[]", 404), http(b'{"detail": "x"}', 405),
    ]  # fmt: skip
    with pytest.raises(DispatcherError) as refused:
        client.post("/a")
    said = refused.value
    assert (said.status, said.error, said.message, said.hint) == (422, "SubmissionRefused", "no", "yes")
    assert said.faults == [{"where": "plate", "message": "m", "hint": "h"}]
    assert not said.unreachable
    for status in (404, 405):
        with pytest.raises(DispatcherError) as other:
            client.get("/b")
        assert other.value.status == status
        assert str(status) in other.value.message


@pytest.mark.parametrize(
    "url", ["localhost:8763", "ftp://x", "", "http://", "http:///x", "http://x:port", "http://[::1"]
)
def test_an_address_that_can_not_be_one_is_refused_in_words(url: str) -> None:
    with pytest.raises(DispatcherError, match="address"):
        Client(url, "x")


@pytest.mark.parametrize("token", ["a\nb", "schlüssel", "a\x00"])
def test_a_token_that_no_header_can_carry_is_refused_in_words(token: str) -> None:
    with pytest.raises(DispatcherError, match="token"):
        Client("http://127.0.0.1:1", token)


def test_a_dispatcher_may_lie_below_a_path(peer: Peer) -> None:
    peer.answers = [http(b"1")]
    with Client(peer.url + "/farm/", "x") as client:
        assert client.get("/v1/jobs") == 1
    assert peer.requests[0].startswith(b"GET /farm/v1/jobs ")


def test_what_is_waited_for_can_be_broken_off_from_another_thread(peer: Peer, client: Client) -> None:
    peer.answers = [http(b"1"), 20.0, http(b"2")]
    assert client.get("/a") == 1
    threading.Timer(0.2, client.interrupt).start()
    started = time.monotonic()
    with pytest.raises(DispatcherError) as error:
        client.get("/b", timeout_s=15)
    assert error.value.unreachable
    assert time.monotonic() - started < 3
    assert len(peer.requests) == 2, "it isn't asked again behind one's back"
    assert client.get("/c") == 2


def broken_off(client: Client, unless: Callable[[], bool]) -> float:
    """Seconds that a request took which nobody wants any more."""
    started = time.monotonic()
    with pytest.raises(DispatcherError) as error:
        client.post("/claim", timeout_s=15, unless=unless)
    assert error.value.unreachable
    return time.monotonic() - started


@pytest.mark.parametrize("kept", [False, True])
def test_a_request_that_nobody_wants_any_more_is_not_sent(peer: Peer, client: Client, kept: bool) -> None:
    peer.answers = [http(b"1"), 20.0, http(b"2")] if kept else [http(b"2")]
    if kept:
        assert client.get("/a") == 1
        peer.answers.pop(0)
    client.interrupt()
    assert broken_off(client, lambda: True) < 1
    assert len(peer.requests) == kept
    assert client.post("/b", unless=lambda: False) == 2


def test_an_interrupt_that_comes_right_after_the_question_ends_the_request_at_once(peer: Peer, client: Client) -> None:
    """The last moment: `unless` said to go on, and the request isn't sent yet."""
    peer.answers = [20.0, http(b"2")]
    asked: list[bool] = []

    def unless() -> bool:
        asked.append(True)
        client.interrupt()
        return False

    assert broken_off(client, unless) < 1
    assert len(asked) == 1, "nor is it tried again"
    peer.answers = [http(b"2")]
    assert client.get("/b") == 2


def test_a_request_that_is_opened_anew_asks_again_whether_it_is_wanted(peer: Peer, client: Client) -> None:
    peer.answers = [http(b"1"), None, 20.0]
    assert client.get("/a") == 1
    answers = [False, True]
    assert broken_off(client, lambda: answers.pop(0)) < 1
    assert answers == []
    assert len(peer.requests) == 2


def test_no_moment_is_left_in_which_an_interrupt_is_missed(peer: Peer) -> None:
    """The flag is set, then the client is interrupted, at any moment of a request: before it, while it connects, after."""
    peer.answers = [20.0] * 200
    for round_ in range(60):
        with Client(peer.url, "secret", timeout_s=15) as client:
            stopped = threading.Event()

            def stop(
                client: Client = client, stopped: threading.Event = stopped, wait_s: float = round_ * 5e-5
            ) -> None:
                time.sleep(wait_s)
                stopped.set()
                client.interrupt()

            thread = threading.Thread(target=stop)
            thread.start()
            assert broken_off(client, stopped.is_set) < 5
            thread.join()


def test_a_wanted_request_waits_and_gets_its_answer(peer: Peer, client: Client) -> None:
    peer.answers = [http(b'{"a": 1}')]
    assert client.post("/a", {"b": 2}, unless=lambda: False) == {"a": 1}


def test_a_picture_comes_as_bytes_and_a_refusal_in_words(peer: Peer, client: Client) -> None:
    picture = bytes(range(256)) * 3
    peer.answers = [
        http(picture),
        http(b'{"error": "NotFoundError", "message": "no", "hint": "wait"}', 404),
        http(b"<", 500),
    ]
    assert client.get_bytes("/sheet.jpg") == picture
    assert b"Accept: */*" in peer.requests[0]
    with pytest.raises(DispatcherError) as error:
        client.get_bytes("/sheet.jpg")
    assert (error.value.status, error.value.error, error.value.hint) == (404, "NotFoundError", "wait")
    with pytest.raises(DispatcherError, match="not JSON"):
        client.get_bytes("/sheet.jpg")


def test_events_are_read_as_they_come(peer: Peer, client: Client) -> None:
    stream = (
        b"retry: 1000\n\n: still here\n\nid: 7\nevent: job\ndata: {\"job\": 1,\ndata: \"state\": \"running\"}\n\n"
        b'data: {"plain": "\xc3\xbc"}\r\n\r\nevent: cut\ndata: {"half": 1'
    )  # fmt: skip
    peer.answers = [b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n" + stream, None]
    peer.answers[0] = http(stream, more="Content-Type: text/event-stream\r\nConnection: close\r\n")
    assert list(client.events("/v1/events")) == [("job", {"job": 1, "state": "running"}), ("message", {"plain": "ü"})]
    peer.answers = [http(b'{"error": "AuthError", "message": "no"}', 403, "Connection: close\r\n")]
    with pytest.raises(DispatcherError, match="no"):
        next(client.events("/v1/events"))
