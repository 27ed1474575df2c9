"""Who gets in, from where, and what they then may see: over HTTP, as a browser or a program would ask."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.api.auth import COOKIE_LIFE_S, MOST_BODY_BYTES, TICKET_LIFE_S, Doorkeeper
from farm.tokens import Identity, Scope
from integrations._shared.client import Client, DispatcherError
from tests.acceptance.scripted import ScriptedWorker
from tests.plates import SmallPlate, write_small_plate
from tests.queue_kit import Clock
from tests.unit.farm.served import Served, served

Studios = tuple[Client, Client, dict[str, int]]
ADA = Identity("ada", "local", frozenset({Scope.REVIEW}))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house"), hosts=("farm.studio:443", "dispatch")) as house:
        yield house


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("shot"), count=12, width=32, height=24)


def status(client: Client, method: str, path: str, body: object = None) -> int:
    """The HTTP status of a request."""
    try:
        client.request(method, path, body)
    except DispatcherError as error:
        return error.status
    return 200


def enter(house: Served, token: str | None = None) -> tuple[str, str]:
    """A cookie and its page's CSRF text, the way a browser gets them."""
    path = house.client(token).post("/v1/tickets", {"to": "/jobs"})["path"]
    code, headers, _ = house.raw("GET", path)
    assert (code, headers["location"]) == (303, "/jobs")
    said = headers["set-cookie"]
    assert "HttpOnly" in said
    assert "samesite=strict" in said.lower()
    cookie = said.partition(";")[0]
    assert house.raw("GET", "/jobs", Cookie=cookie, Accept="text/html")[0] == 200
    return cookie, house.farm.door.csrf(cookie.partition("=")[2])


# Tickets and cookies


def test_a_ticket_opens_the_page_once(house: Served) -> None:
    path = house.client().post("/v1/tickets", {"to": "/jobs"})["path"]
    assert house.raw("GET", path)[0] == 303
    assert house.raw("GET", path)[0] == 403
    assert house.raw("GET", "/enter?ticket=guess&to=/jobs")[0] == 403


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "jobs", "/jobs\r\nX: y"])
def test_a_ticket_leads_nowhere_but_to_a_page_of_ours(house: Served, to: str) -> None:
    assert status(house.client(), "POST", "/v1/tickets", {"to": to}) == 422


def test_tickets_and_cookies_grow_old_and_the_secret_is_what_makes_them() -> None:
    clock = Clock(1_000.0)
    door = Doorkeeper(b"secret", clock=clock)
    late, kept = door.ticket(ADA), door.ticket(ADA)
    cookie = door.redeem(kept)
    assert cookie is not None
    assert door.redeem(kept) is None
    clock.now += TICKET_LIFE_S + 1
    assert door.redeem(late) is None
    assert Doorkeeper(b"secret", clock=clock).read_cookie(cookie) == ADA, "a restart signs nobody out"
    assert Doorkeeper(b"another", clock=clock).read_cookie(cookie) is None
    clock.now += COOKIE_LIFE_S
    assert door.read_cookie(cookie) is None


def test_a_cookie_that_was_changed_in_any_way_opens_nothing(house: Served) -> None:
    cookie, _ = enter(house)
    assert house.raw("GET", "/v1/jobs", Cookie=cookie)[0] == 200
    name, _, value = cookie.partition("=")
    body, _, signature = value.partition(".")
    claims = json.loads(bytes.fromhex(body))
    claims[1] = "other"
    other = json.dumps(claims, separators=(",", ":")).encode().hex()
    csrf = house.farm.door.csrf(value)
    last = "1" if signature[-1] == "0" else "0"
    for forged in (
        "", ".", body, f"{body}.", f".{signature}", f"{body}.{signature[:-1]}{last}", f"{other}.{signature}", f"{body}00.{signature}",
        f"{body}.{csrf}", "ü.ü", "zz.zz",
    ):  # fmt: skip
        assert house.raw("GET", "/v1/jobs", Cookie=f"{name}={forged}")[0] == 401, forged


def test_cookies_of_other_programs_on_the_same_host_do_not_hide_ours(house: Served) -> None:
    """Cookies don't know ports: whatever else is served on this machine sends its own along."""
    cookie, _ = enter(house)
    for other in ('settings={"a": 1}', "theme=dark mode", "a=b=c", "x[y]=1", "plain"):
        assert house.raw("GET", "/v1/jobs", Cookie=f"{other}; {cookie}")[0] == 200, other


def test_an_act_with_a_cookie_needs_the_pages_own_word(house: Served) -> None:
    cookie, csrf = enter(house)
    body = b'{"to": "/jobs"}'
    kind = {"Content_Type": "application/json", "Cookie": cookie}
    assert house.raw("POST", "/v1/tickets", body, **kind)[0] == 403
    assert house.raw("POST", "/v1/tickets", body, **kind, X_Platewright_CSRF="guess")[0] == 403
    assert house.raw("POST", "/v1/tickets", body, **kind, X_Platewright_CSRF=csrf[:-1])[0] == 403
    assert house.raw("POST", "/v1/tickets", body, **kind, X_Platewright_CSRF=csrf)[0] == 200
    assert house.raw("POST", "/v1/tickets", body, Content_Type="application/json", X_Platewright_CSRF=csrf)[0] == 401


def test_a_bad_token_is_not_saved_by_a_good_cookie(house: Served) -> None:
    cookie, _ = enter(house)
    assert house.raw("GET", "/v1/jobs", Cookie=cookie, Authorization="Bearer nonsense")[0] == 401
    for said in ("Bearer", "Basic eDp5", "Bearer  ", f"Bearer {house.farm.token} x", house.farm.token):
        assert house.raw("GET", "/v1/jobs", Authorization=said)[0] == 401, said
    assert house.raw("GET", "/v1/jobs", Authorization=f"bearer {house.farm.token}")[0] == 200


# Places


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("LOCALHOST:{port}", 200), ("[::1]:{port}", 200),
        ("farm.studio:443", 200), ("dispatch", 200), ("dispatch:{port}", 200),
        ("127.0.0.1", 421), ("localhost:1", 421), ("farm.studio", 421), ("evil.example:{port}", 421), ("", 421),
        ("localhost:{port}.evil.example", 421), ("127.0.0.1:{port}@evil.example", 421), ("0.0.0.0:{port}", 421),
    ],
)  # fmt: skip
def test_only_names_that_it_goes_by_are_answered(house: Served, host: str, code: int) -> None:
    said = host.format(port=house.settings.port)
    assert house.raw("GET", "/healthz", Host=said)[0] == code
    assert house.raw("GET", "/v1/jobs", Host=said, Authorization=f"Bearer {house.farm.token}")[0] == code


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://{host}", 200), ("https://{host}", 200), ("HTTP://{host}", 200), ("null", 403), ("", 403),
        ("http://evil.example", 403), ("http://localhost:1", 403), ("http://{host}.evil.example", 403),
        ("file://", 403), ("http://user@{host}", 403),
    ],
)  # fmt: skip
def test_only_pages_of_ours_may_ask(house: Served, origin: str, code: int) -> None:
    said = origin.format(host=house.host)
    assert house.raw("GET", "/v1/jobs", Origin=said, Authorization=f"Bearer {house.farm.token}")[0] == code


# Bodies


def talk(house: Served, raw: bytes) -> bytes:
    """Send bytes, and give the first line that comes back; empty when it only hung up."""
    with socket.create_connection(("127.0.0.1", house.settings.port), timeout=20) as connection:
        connection.sendall(raw)
        try:
            return connection.recv(1000).partition(b"\r\n")[0]
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "length",
    [f"Content-Length: {MOST_BODY_BYTES + 1}", "Content-Length: 999999999999999", "Transfer-Encoding: chunked"],
)
def test_a_body_that_is_too_large_or_of_no_stated_size_is_refused_before_it_is_read(house: Served, length: str) -> None:
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {house.host}\r\nAuthorization: Bearer {house.farm.token}\r\n{length}\r\n\r\n"
    )
    assert b"413" in talk(house, head.encode())


def test_a_body_that_contradicts_itself_is_no_request(house: Served) -> None:
    for length in (
        "Content-Length: -1",
        "Content-Length: x",
        "Content-Length: 99999999999999999999",
        "Content-Length: 1\r\nContent-Length: 2",
    ):
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {house.host}\r\n{length}\r\n\r\n"
        line = talk(house, head.encode())
        assert b" 4" in line or line == b"", (length, line)
    assert house.raw("GET", "/healthz")[0] == 200


def test_a_body_just_below_the_limit_is_read_and_judged(house: Served) -> None:
    body = b'{"task": "roto", "plate": "' + b"x" * (MOST_BODY_BYTES - 100) + b'"}'
    headers = {"Authorization": f"Bearer {house.farm.token}", "Content_Type": "application/json"}
    assert house.raw("POST", "/v1/jobs", body, **headers)[0] == 422


@pytest.mark.parametrize("verb", ["arrive", "claim", "complete", "fail", "progress"])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"no json", b"[]", b'{"chunk_id": 1e400}', b'{"hello": {"host": "\\ud800"}}']
)
def test_a_workers_body_of_the_wrong_shape_is_refused_in_words(house: Served, verb: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {house.farm.token}", "Content_Type": "application/json"}
    code, _, raw = house.raw("POST", f"/v1/workers/w/{verb}", body, **headers)
    assert code == 422, raw
    assert json.loads(raw)["message"]


@pytest.mark.parametrize("number", ["99999999999999999999999", "-1", "0", "9223372036854775807", "x", "1.5"])
def test_a_number_that_stands_for_nothing_is_not_found_or_refused(house: Served, number: str) -> None:
    client = house.client()
    for path in (f"/v1/jobs/{number}", f"/v1/jobs/{number}/log", f"/v1/jobs/{number}/result", f"/v1/versions/{number}"):
        assert status(client, "GET", path) in (404, 422), path
    assert status(client, "POST", f"/v1/jobs/{number}/cancel", {}) in (404, 422)
    assert status(client, "GET", f"/v1/jobs?before={number}") in (200, 422)


# Rights


BODIES = {"/v1/versions/{version}/reviews": b'{"kind": "pick"}'}
"""Of routes that take no empty one."""
HELLO = {"host": "h", "version": "0", "memory_mb": 100}
LISTS = ["/v1/models", "/v1/models/promotions", "/v1/models/scores?task=roto", "/v1/clearances"]
READS = [
    *("/v1/jobs", "/v1/versions", "/v1/presets", "/v1/workers", "/v1/tasks", "/v1/status"),
    *(*LISTS, "/v1/models/nothing", "/v1/usage", "/v1/usage/estimates"),
]
ASKS: dict[str, tuple[str, str, object]] = {
    "submit": ("POST", "/v1/jobs", {"task": "nothing", "plate": "/x"}),
    "claim": ("POST", "/v1/workers/w/claim", {"hello": HELLO}),
    "arrive": ("POST", "/v1/workers/w/arrive", HELLO),
    "cancel": ("POST", "/v1/jobs/999/cancel", {}),
    "review": ("POST", "/v1/versions/999/reviews", {"kind": "pick"}),
    "recall": ("POST", "/v1/versions/999/recall", {}),
    "preset": ("POST", "/v1/presets", {"name": "x", "task": "nothing"}),
    "replay": ("POST", "/v1/versions/999/replay", {}),
    "finetune": ("POST", "/v1/models/finetune", {"task": "nothing", "name": "x"}),
    "score": ("POST", "/v1/models/nothing/score", {}),
    "add model": ("POST", "/v1/models", {"task": "nothing", "name": "x", "path": "/x", "licence": "MIT"}),
    "promote": ("POST", "/v1/models/nothing/promote", {}),
    "rollback": ("POST", "/v1/models/rollback", {"task": "nothing"}),
    "retire": ("POST", "/v1/models/nothing/retire", {}),
    "weights": ("GET", "/v1/models/nothing/weights", None),
    "clear": ("POST", "/v1/clearances", {"kind": "inputs", "show": "no name"}),
    "withdraw": ("POST", "/v1/clearances/999/withdraw", {}),
    "tokens": ("GET", "/v1/tokens", None),
    "new token": ("POST", "/v1/tokens", {"name": "x", "scopes": ["review"]}),
    "revoke": ("POST", "/v1/tokens/999/revoke", {}),
    **{path: ("GET", path, None) for path in READS},
}
MODEL_ACTS = {"add model", "promote", "rollback", "retire", "weights", "clear", "withdraw"}
MAY = {
    Scope.SUBMIT: {"submit", "recall", "replay", "finetune", "score", "preset", "cancel", "review", *READS},
    Scope.REVIEW: {"review", *READS},
    Scope.WRANGLE: {"cancel", "review", *MODEL_ACTS, *READS},
    Scope.WORKER: {"claim", "arrive"},
    Scope.ADMIN: {*ASKS},
}


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_may_do_what_its_scope_says_and_nothing_else(house: Served, scope: Scope) -> None:
    client = house.client(house.token("local", f"only-{scope}", scope))
    allowed = {what for what, asked in ASKS.items() if status(client, *asked) != 403}
    assert allowed == MAY[scope]


def test_a_token_of_no_scope_may_do_nothing(house: Served) -> None:
    client = house.client(house.token("local", "nothing"))
    assert {status(client, *asked) for asked in ASKS.values()} == {403}


def test_a_revoked_token_dies_at_once_and_its_pages_with_it(house: Served) -> None:
    token = house.token("local", "eve", Scope.REVIEW)
    client = house.client(token)
    cookie, _ = enter(house, token)
    unspent = client.post("/v1/tickets", {"to": "/jobs"})["path"]
    assert status(client, "GET", "/v1/jobs") == 200
    house.revoke("local", "eve")
    assert status(client, "GET", "/v1/jobs") == 401
    assert house.raw("GET", "/v1/jobs", Cookie=cookie)[0] == 401
    _, headers, _ = house.raw("GET", unspent)
    spent = headers.get("set-cookie", "").partition(";")[0]
    assert house.raw("GET", "/v1/jobs", Cookie=spent)[0] == 401


def test_a_worker_is_thanked_though_its_log_can_not_be_kept(
    house: Served, plate: SmallPlate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, it would hand in the same chunk again and again."""
    in_the_way = house.settings.data / "a file"
    in_the_way.write_text("")
    monkeypatch.setattr(house.farm.services.logbook, "_folder", in_the_way)
    client = house.client()
    job = client.post("/v1/jobs", plate.request(pool="logless"))["job"]
    worker = ScriptedWorker(client, "w3", "logless")
    worker.claim()
    assert worker.progress(0.5, log=("a line",))["stop"] is None
    worker.complete(log=("another",))
    assert client.get(f"/v1/jobs/{job}")["job"]["steps"][0]["done"] == 1
    client.post(f"/v1/jobs/{job}/cancel")


# Studios


@pytest.fixture(scope="module")
def studios(house: Served, plate: SmallPlate) -> Studios:
    """Two studios' clients, everything allowed within their own; the first has a published job, with all that comes of one."""
    one, two = (house.client(house.token(studio, "boss", Scope.ADMIN)) for studio in ("one", "two"))
    job = one.post("/v1/jobs", plate.request(chunk_frames=4, pool="scripted"))["job"]
    worker = ScriptedWorker(one, "w1", "scripted")
    worker.claim()
    worker.progress(0.5, log=("a secret",))
    worker.complete()
    for _ in range(3):
        worker.infer()
    worker.publish()
    version = one.get("/v1/versions")[0]["id"]
    return one, two, {"job": job, "version": version, "frame": 1001}


def test_the_studios_own_see_everything_of_theirs(studios: Studios) -> None:
    one, _, ids = studios
    assert [job["id"] for job in one.get("/v1/jobs")] == [ids["job"]]
    assert one.get(f"/v1/jobs/{ids['job']}")["job"]["state"] == "succeeded"
    assert "a secret" in json.dumps(one.get(f"/v1/jobs/{ids['job']}/log"))


def test_nothing_of_a_studio_is_visible_or_moved_from_another(house: Served, studios: Studios) -> None:
    """Every route with something of a studio's in its path, those that are yet to come included."""
    one, two, ids = studios
    values = {**ids, "kind": "beauty", "act": "cancel"}
    described = house.farm.app().openapi()["paths"]
    paths = {path: {method.upper() for method in ways} for path, ways in described.items()}
    paths |= {"/jobs/{job}": {"GET"}, "/jobs/{job}?part=true": {"GET"}, "/versions/{version}": {"GET"}}
    seen = 0
    for template, methods in paths.items():
        if not {"{job}", "{version}"} & set(re.findall(r"{\w+}", template)):
            continue
        path = template.format(**values)
        for method in methods:
            body = BODIES.get(template, b"{}") if method == "POST" else None
            bearer = {"Authorization": f"Bearer {two._token}", "Content_Type": "application/json"}
            code, _, answer = house.raw(method, path, body, **bearer)
            assert code == 404, f"{method} {path}"
            assert b"secret" not in answer
            if method == "GET" and "preview" not in path:
                assert house.raw(method, path, Authorization=f"Bearer {one._token}")[0] == 200, f"{method} {path}"
            seen += 1
    assert seen >= 8
    assert one.get(f"/v1/jobs/{ids['job']}")["job"]["state"] == "succeeded"


def test_an_early_picture_is_shown_to_its_own_studio_alone(house: Served, studios: Studios, plate: SmallPlate) -> None:
    one, two, _ = studios
    job = one.post("/v1/jobs", plate.request(pool="early"))["job"]
    worker = ScriptedWorker(one, "w2", "early")
    worker.claim()
    worker.preview(1001)
    path = f"/v1/jobs/{job}/preview/1001.jpg"
    assert house.raw("GET", path, Authorization=f"Bearer {one._token}")[2].startswith(b"\xff\xd8\xff")
    assert house.raw("GET", path, Authorization=f"Bearer {two._token}")[0] == 404
    one.post(f"/v1/jobs/{job}/cancel")


def test_lists_and_counts_of_another_studio_are_empty(house: Served, studios: Studios) -> None:
    one, two, _ = studios
    for path in ("/v1/jobs", "/v1/jobs?state=succeeded", "/v1/versions", "/v1/presets", "/v1/workers", *LISTS):
        assert two.get(path) == [], path
    assert [token["name"] for token in two.get("/v1/tokens")] == ["boss"]
    theirs = house.farm.dispatcher.tokens("one")[0].id
    assert status(two, "POST", f"/v1/tokens/{theirs}/revoke", {}) == 404
    assert one.get("/v1/usage?by=show")["total"]["jobs"] >= 1
    assert two.get("/v1/usage?by=show")["rows"] == [] and two.get("/v1/usage?by=show")["total"]["machine_s"] == 0
    found = two.get("/v1/status")
    assert sum(found["jobs"].values()) + sum(found["chunks"].values()) + sum(found["workers"].values()) == 0


def test_a_worker_gets_chunks_of_its_own_studio_and_can_end_no_others(studios: Studios, plate: SmallPlate) -> None:
    one, two, _ = studios
    job = one.post("/v1/jobs", plate.request(pool="fenced"))["job"]
    hello = {**HELLO, "memory_mb": 100_000, "pools": ["fenced"]}
    assert two.post("/v1/workers/w1/claim", {"hello": hello}) is None
    chunk = one.post("/v1/workers/w1/claim", {"hello": hello})
    held = {"chunk_id": chunk["chunk_id"], "attempt": chunk["attempt"]}
    for verb, more in (
        ("complete", {"result": {}}), ("fail", {"kind": "refused", "message": "x"}), ("progress", {"fraction": 0.5}),
    ):  # fmt: skip
        try:
            reply = two.post(f"/v1/workers/w1/{verb}", {**held, **more})
        except DispatcherError as error:
            assert error.status == 404
        else:
            assert reply.get("accepted") is False or reply.get("stop") == "lost", (verb, reply)
    two.post("/v1/workers/w1/arrive", hello)
    two.post("/v1/workers/w1/leave")
    (running,) = [c for c in one.get(f"/v1/jobs/{job}")["chunks"] if c["state"] == "running"]
    assert running["id"] == chunk["chunk_id"]
    one.post(f"/v1/jobs/{job}/cancel")


def first_event(house: Served, client: Client, path: str) -> tuple[threading.Event, list[dict[str, object]]]:
    """Listen until one event has come. Returns once the stream is open."""
    heard: list[dict[str, object]] = []
    done = threading.Event()

    def listen() -> None:
        stream = client.events(path)
        heard.append(next(stream)[1])
        stream.close()  # type: ignore[attr-defined]
        done.set()

    hub = house.farm.dispatcher._hub
    before = len(hub._subscriptions)
    threading.Thread(target=listen, daemon=True).start()
    deadline = time.monotonic() + 10
    while len(hub._subscriptions) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return done, heard


def test_the_event_stream_holds_nothing_of_another_studio(house: Served, studios: Studios, plate: SmallPlate) -> None:
    one, two, _ = studios
    done, heard = first_event(house, two, "/v1/events")
    theirs = one.post("/v1/jobs", plate.request(pool="nobody"))["job"]
    one.post(f"/v1/jobs/{theirs}/cancel")
    own = two.post("/v1/jobs", plate.request(pool="nobody"))["job"]
    assert done.wait(10)
    assert heard[0]["job"] == own
    two.post(f"/v1/jobs/{own}/cancel")


def test_a_stream_of_another_studios_job_stays_silent(house: Served, studios: Studios, plate: SmallPlate) -> None:
    one, two, _ = studios
    theirs = one.post("/v1/jobs", plate.request(pool="nobody"))["job"]
    done, heard = first_event(house, two, f"/v1/events?job={theirs}")
    one.post(f"/v1/jobs/{theirs}/cancel")
    two.post("/v1/workers/w9/arrive", HELLO)
    assert done.wait(10)
    assert heard[0].get("worker") == "w9", "only what concerns every job of their own studio"
    two.post("/v1/workers/w9/leave")


def test_one_shot_of_two_studios_is_published_to_two_places(studios: Studios, plate: SmallPlate, house: Served) -> None:
    one, two, _ = studios
    folders = set()
    for client in (one, two):
        job = client.post("/v1/jobs", plate.request(pool="nobody", shot="same"))["job"]
        folders |= {v["folder"] for v in client.get(f"/v1/jobs/{job}")["job"]["versions"]}
        client.post(f"/v1/jobs/{job}/cancel")
    assert len(folders) == 2
    assert all(Path(folder).is_relative_to(house.settings.publish_root) for folder in folders)


def test_a_submitter_sees_the_studios_jobs_and_moves_only_their_own(
    house: Served, plate: SmallPlate, studios: Studios
) -> None:
    ada, bob = (house.client(house.token("one", name, Scope.SUBMIT)) for name in ("ada", "bob"))
    job = ada.post("/v1/jobs", plate.request(pool="nobody", user="somebody else"))["job"]
    view = bob.get(f"/v1/jobs/{job}")["job"]
    assert view["user"] == "ada", "nobody submits in another's name"
    assert status(bob, "POST", f"/v1/jobs/{job}/cancel", {}) == 403
    assert status(ada, "POST", f"/v1/jobs/{job}/cancel", {}) == 200
