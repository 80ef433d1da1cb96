"""The web edge over HTTP: who gets in, what is theirs, how much they may send, and what every answer carries."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import psutil
import pytest
from fastapi import FastAPI
from starlette.routing import Mount

from llmops_kit.access import User, require
from llmops_kit.errors import AccessDenied, WorkspaceError
from llmops_kit.kit import Kit
from llmops_kit.settings import Settings
from llmops_kit.ui.mount import mount
from llmops_kit.web import bodies
from llmops_kit.web.bindings import Forbidden, Owners
from llmops_kit.web.identity import Identity, load_key
from llmops_kit.web.logs import HIDDEN, RedactingFormatter, RedactingStream, Redactor
from llmops_kit.web.routes import GRADIO_ROUTES, KIT_ROUTES
from llmops_kit.web.server import serving
from llmops_kit.web.service import build_app
from tests.web_toy import build_toy, events, hidden_numbers, join, number_of, result_of

HIDDEN_WAYS = [path for path, guard in GRADIO_ROUTES.items() if guard == "blocked"]


@dataclass
class Served:
    """The toy behind our edge, and who ran its hidden handlers."""

    url: str
    toy: gr.Blocks
    app: FastAPI
    approved: list[str | None]

    def browser(self, **options: Any) -> httpx.Client:
        """A client with an identity of its own."""
        client = httpx.Client(base_url=self.url, **options)
        assert client.get("/").status_code == 200
        return client

    def number(self, name: str) -> int:
        return number_of(self.toy, name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("edge")
    with Kit(Settings(workspace=folder / "ws", allowed_hosts=("llmops.corp.test",), max_upload_mb=1, max_request_mb=1)) as kit:
        approved: list[str | None] = []
        toy = build_toy(approved, kit.settings.upload_folder)
        app = build_app(kit, toy, mount=mount)
        with serving(app) as url:
            yield Served(url, toy, app, approved)


@pytest.fixture
def alice(served: Served) -> Iterator[httpx.Client]:
    with contextlib.closing(served.browser()) as client:
        yield client


@pytest.fixture
def bob(served: Served) -> Iterator[httpx.Client]:
    with contextlib.closing(served.browser()) as client:
        yield client


@pytest.fixture
def nobody(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url) as client:
        yield client


def live_routes(router: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route of a router, included ones too."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from live_routes(route.original_router)
        else:
            yield from ((method, route.path) for method in getattr(route, "methods", None) or ())


# --- addresses


def test_every_route_gradio_has_is_classified(served: Served) -> None:
    live = {path for _, path in live_routes(next(route.app for route in served.app.routes if isinstance(route, Mount)))}
    assert live - set(GRADIO_ROUTES) == set(), "classify these in llmops_kit/web/routes.py"
    assert set(GRADIO_ROUTES) - live == set(), "these are gone from Gradio"


def test_every_route_of_ours_is_classified(served: Served) -> None:
    ours = {route.path for route in served.app.routes if not isinstance(route, Mount)}
    assert ours == set(KIT_ROUTES)


def test_a_blocked_or_unknown_address_is_not_there(alice: httpx.Client) -> None:
    unknown = ["/gradio_api/mcp/sse", "/docs", "/redoc", "//gradio_api/token", "/.env", "/gradio_api/mcp/"]
    for path in [*HIDDEN_WAYS, *unknown]:
        filled = re.sub(r"\{\w+(:path)?\}", "approve", path)
        for method in ("GET", "POST"):
            answer = alice.request(method, filled, json={"data": ["m"]} if method == "POST" else None)
            assert answer.status_code == 404, (method, path)
            assert set(answer.json()) == {"error", "detail"}
    for address in ("http://127.0.0.1/", "https://example.com/a.png", "//example.com/a"):
        assert alice.get(f"/gradio_api/file={address}").status_code == 403


def test_a_page_may_use_what_it_needs(served: Served, alice: httpx.Client) -> None:
    for path in ("/", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/app_id", "/healthz", "/robots.txt", "/favicon.ico"):
        assert alice.get(path).status_code == 200, path
    script = re.search(r'src="\.?(/assets/[^"]+\.js)"', alice.get("/").text)
    assert script is not None
    assert alice.get(script[1]).status_code == 200


def test_only_the_page_opens_without_an_identity(nobody: httpx.Client) -> None:
    api = ("info", "app_id", "heartbeat/abc", "queue/data?session_hash=abc", "file=/etc/passwd", "upload_progress?upload_id=a", "startup-events")
    for path in ("/config", *(f"/gradio_api/{name}" for name in api)):
        assert nobody.get(path).status_code == 401, path
    for path in ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/upload", "/gradio_api/component_server", "/gradio_api/reset"):
        assert nobody.post(path, json={}).status_code == 401, path


# --- hosts and origins


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.9", "", "[::2]"])
def test_a_rebound_host_name_is_refused(alice: httpx.Client, host: str) -> None:
    answer = alice.get("/config", headers={"host": host})
    assert answer.status_code == 421
    assert "components" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:1", "[::1]:7860", "llmops.corp.test", "LLMOPS.corp.test:443"])
def test_known_host_names_work(nobody: httpx.Client, host: str) -> None:
    assert nobody.get("/", headers={"host": host}).status_code == 200


FOREIGN: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},
    {"origin": "https://127.0.0.1"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_other_origins_can_neither_write_nor_read(served: Served, alice: httpx.Client, headers: dict[str, str]) -> None:
    assert alice.post("/gradio_api/upload", files={"files": ("a.txt", b"a")}, headers=headers).status_code == 403
    assert alice.post("/language", json={"language": "ja"}, headers=headers).status_code == 403
    body = {"fn_index": served.number("recall"), "data": [None], "session_hash": "foreign"}
    assert alice.post("/gradio_api/queue/join", json=body, headers=headers).status_code == 403
    for path in ("/config", "/gradio_api/heartbeat/foreign", "/gradio_api/info"):
        assert alice.get(path, headers=headers).status_code == 403, path
    preflight = alice.options("/gradio_api/upload", headers={**headers, "access-control-request-method": "POST"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


def test_the_own_origin_writes(served: Served, alice: httpx.Client) -> None:
    own = {"origin": served.url, "sec-fetch-site": "same-origin"}
    assert alice.post("/gradio_api/upload", files={"files": ("a.txt", b"a")}, headers=own).status_code == 200


def test_no_answer_opens_the_door_to_an_origin(alice: httpx.Client) -> None:
    for host in ("127.0.0.1", "llmops.corp.test"):
        for path in ("/", "/theme.css", "/config", "/healthz", "/nothing"):
            answer = alice.get(path, headers={"host": host, "origin": "http://wiki.corp.test"})
            assert not [name for name in answer.headers if name.startswith("access-control-")], (host, path)


# --- headers and errors


def test_every_kind_of_answer_carries_the_headers(served: Served, alice: httpx.Client) -> None:
    stored = alice.post("/gradio_api/upload", files={"files": ("a.svg", b"<svg/>")}).json()[0]
    joined = join(alice, served.number("count"), [1], "headers")
    answers = {
        "page": alice.get("/"),
        "asset": alice.get("/theme.css"),
        "own route": alice.get("/healthz"),
        "join": joined,
        "stream": alice.get("/gradio_api/queue/data", params={"session_hash": "headers"}),
        "file": alice.get(f"/gradio_api/file={stored}"),
        "400": alice.post("/gradio_api/queue/join", content=b"{", headers={"content-type": "application/json"}),
        "401": httpx.get(served.url + "/config"),
        "403": alice.get("/gradio_api/file=/etc/passwd"),
        "404": alice.get("/nothing"),
        "405": alice.put("/gradio_api/upload"),
        "413": alice.post("/language", content=b"x" * 2**21),
        "415": alice.post("/gradio_api/queue/join", content=b"{}", headers={"content-type": "text/plain"}),
        "421": alice.get("/", headers={"host": "evil.example"}),
        "422": alice.post("/language", json={"language": "fr"}),
    }
    for kind, answer in answers.items():
        assert answer.status_code == (int(kind) if kind.isdigit() else 200), kind
        policy = answer.headers["content-security-policy"]
        assert "default-src" in policy and "frame-ancestors 'none'" in policy and "http" not in policy and "*" not in policy, kind
        assert answer.headers["x-content-type-options"] == "nosniff", kind
        assert answer.headers["referrer-policy"] == "no-referrer", kind
        assert answer.headers["x-frame-options"] == "DENY", kind
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", kind
        assert re.fullmatch(r"[0-9a-f]{12}", answer.headers["x-request-id"]), kind
        assert "server" not in answer.headers, kind
        assert (answer.headers.get("cache-control") == "no-store") is (kind != "asset"), kind
    assert "sandbox" in answers["file"].headers["content-security-policy"]


def test_errors_say_little_in_the_readers_language(alice: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    english, japanese = alice.get("/nothing"), alice.get("/nothing", headers={"accept-language": "ja,en;q=0.8"})
    assert "nothing here" in english.json()["detail"]
    assert "見つかりません" in japanese.json()["error"]["message"]
    alice.cookies.set("llmops_language", "ja")
    assert "見つかりません" in alice.get("/nothing", headers={"accept": "text/html"}).text
    assert english.headers["x-request-id"] in caplog.text
    assert english.json()["error"]["request_id"] == english.headers["x-request-id"]


def test_a_bug_shows_an_id_and_not_itself(served: Served, alice: httpx.Client) -> None:
    joined = join(alice, served.number("fail"), ["x"], "bug")
    assert joined.status_code == 200
    assert not [event for event in events(alice, "bug") if "canary-5a1e" in json.dumps(event)]
    broken = alice.post("/gradio_api/component_server", json={"session_hash": "bug", "component_id": 10**6, "fn_name": "x", "data": None})
    assert broken.status_code == 500
    assert set(broken.json()["error"]) == {"code", "message", "request_id"}


def test_the_language_switch_is_remembered(alice: httpx.Client) -> None:
    chosen = alice.post("/language", json={"language": "ja"})
    assert chosen.status_code == 204
    assert "HttpOnly" not in chosen.headers["set-cookie"]
    assert "SameSite=lax" in chosen.headers["set-cookie"]
    assert alice.cookies["llmops_language"] == "ja"


# --- identity


def test_the_identity_cookie_is_closed(served: Served) -> None:
    cookie = httpx.get(served.url + "/").headers["set-cookie"]
    assert re.match(r"llmops_id_[0-9a-f]{8}=[\w-]{43}\.[0-9a-f]{64}; ", cookie)
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert "Secure" not in cookie  # a browser drops a Secure cookie of plain http


def test_a_known_browser_gets_no_second_identity(alice: httpx.Client) -> None:
    assert "set-cookie" not in alice.get("/").headers


def test_handlers_see_the_browser_and_nobody_else(served: Served, alice: httpx.Client, bob: httpx.Client) -> None:
    names = [result_of(client, served.number("count"), [1], f"who{number}")["data"][0] for number, client in enumerate((alice, bob))]
    assert names[0] != names[1]
    assert all(re.fullmatch(r"1 for [\w-]{43}", name) for name in names)


def test_a_link_from_another_site_keeps_the_identity(served: Served) -> None:
    """A Strict cookie stays behind on such a visit; a new identity then would throw the old one away."""
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"referer": "http://wiki.corp.test/"}):
        answer = httpx.get(served.url + "/", headers=headers)
        assert answer.status_code == 200
        assert 'http-equiv="refresh"' in answer.text
        assert "set-cookie" not in answer.headers


def test_forged_cookies_are_nobody() -> None:
    identity, other = Identity(b"k" * 32), Identity(b"o" * 32)
    user, line = identity.issue(secure=False)
    pair = line.partition(";")[0]
    assert identity.read(pair, secure=False) == user
    assert identity.read(f"a=b; {pair}; c=d", secure=False) == user
    name, _, value = pair.partition("=")
    stranger = identity.issue(secure=False)[1].partition(";")[0].partition("=")[2]
    for forged in ("", value[:-1], value[::-1], user.id, f"{user.id}.{stranger.partition('.')[2]}", value + "0"):
        assert identity.read(f"{name}={forged}", secure=False) is None
    assert identity.read(f"{pair}; {name}={stranger}", secure=False) is None, "one of two was planted"
    assert other.read(f"{other.cookie_name(secure=False)}={value}", secure=False) is None
    assert identity.read(pair, secure=True) is None


def test_behind_tls_the_cookie_has_the_host_prefix() -> None:
    identity = Identity(b"k" * 32)
    _, line = identity.issue(secure=True)
    assert line.startswith("__Host-") and line.endswith("; Secure")


def test_a_declared_proxy_brings_tls(tmp_path: Path) -> None:
    from llmops_kit.web.server import AppServer, reserve

    with Kit(Settings(workspace=tmp_path / "ws", allowed_hosts=("llmops.corp.test",))) as kit, gr.Blocks() as blocks:
        gr.Markdown("x")
    app = build_app(kit, blocks, mount=mount)
    listener, ready = reserve("127.0.0.1", 0), threading.Event()
    server = AppServer(app, listener, drain_s=0, on_ready=lambda _: ready.set(), proxied=True)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30)
        answer = httpx.get(
            f"http://127.0.0.1:{listener.getsockname()[1]}/",
            headers={"host": "llmops.corp.test", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example"},
        )
        assert answer.headers["set-cookie"].startswith("__Host-")
        assert answer.headers["strict-transport-security"]
        assert "https://llmops.corp.test" in answer.text
        assert "evil.example" not in answer.text
    finally:
        server.should_exit = True
        thread.join()


def test_the_signing_key_is_kept_and_private(tmp_path: Path) -> None:
    file = tmp_path / "identity.key"
    key = load_key(file)
    assert len(key) == 32
    assert load_key(file) == key
    file.chmod(0o644)
    load_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"short")
    with pytest.raises(WorkspaceError, match="damaged"):
        load_key(file)


def test_require_asks_for_role_and_ownership() -> None:
    owner, rater, participant, facilitator = User("o"), User("r", "rater"), User("p", "participant"), User("f", "facilitator")
    assert require(owner, "approver", resource="a release") is owner
    assert require(participant, "participant", resource="a run", resource_owner="p") is participant
    assert require(owner, "participant", resource="a run", resource_owner="local") is owner
    assert require(facilitator, "participant", resource="a run", resource_owner="p") is facilitator
    for user, role, whose in [
        (None, "participant", None),
        (participant, "approver", None),
        (rater, "approver", None),
        (facilitator, "approver", None),
        (facilitator, "owner", None),
        (participant, "participant", "r"),
        (participant, "participant", "local"),
        (owner, "participant", "p"),
    ]:
        with pytest.raises(AccessDenied, match="a run"):
            require(user, role, resource="a run", resource_owner=whose)


# --- sessions, jobs, files


def test_a_borrowed_session_hash_opens_nothing(served: Served, alice: httpx.Client, bob: httpx.Client) -> None:
    result_of(alice, served.number("remember"), ["alice-secret"], "alicesession")
    assert result_of(alice, served.number("recall"), [None], "alicesession")["data"] == ["kept: alice-secret"]
    assert join(bob, served.number("recall"), [None], "alicesession").status_code == 403
    assert bob.get("/gradio_api/queue/data", params={"session_hash": "alicesession"}).status_code == 403
    assert bob.get("/gradio_api/heartbeat/alicesession").status_code == 403
    component = {"session_hash": "alicesession", "component_id": 1, "fn_name": "ls", "data": None}
    assert bob.post("/gradio_api/component_server", json=component).status_code == 403
    assert bob.post("/gradio_api/component_server", data={"session_hash": "alicesession"}, files={"f": b"x"}).status_code == 415
    assert result_of(bob, served.number("recall"), [None], "bobsession")["data"] == ["kept: "]
    assert result_of(alice, served.number("recall"), [None], "alicesession")["data"] == ["kept: alice-secret"]


def test_a_session_nobody_opened_streams_nothing(bob: httpx.Client) -> None:
    assert bob.get("/gradio_api/queue/data", params={"session_hash": "neverseen"}).status_code == 403
    assert bob.get("/gradio_api/queue/data").status_code == 403
    assert bob.get("/gradio_api/heartbeat/" + "x" * 65).status_code == 403


def test_nobody_else_cancels_a_job(served: Served, alice: httpx.Client, bob: httpx.Client, nobody: httpx.Client) -> None:
    number = served.number("count")
    result_of(bob, served.number("recall"), [None], "bobcancels")
    event_id = join(alice, number, [15], "alicecounts").json()["event_id"]
    body = {"session_hash": "alicecounts", "fn_index": number, "event_id": event_id}
    seen: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: seen.extend(events(alice, "alicecounts")))
    reader.start()
    time.sleep(0.4)
    assert nobody.post("/gradio_api/cancel", json=body).status_code == 401
    assert bob.post("/gradio_api/cancel", json=body).status_code == 403
    assert bob.post("/gradio_api/cancel", json={**body, "session_hash": "bobcancels"}).status_code == 403
    assert bob.post("/gradio_api/reset", json={"event_id": event_id}).status_code == 403
    reader.join()
    assert next(event for event in seen if event["msg"] == "process_completed")["output"]["data"][0].startswith("15 for")


def test_the_owner_cancels_a_job(served: Served, alice: httpx.Client) -> None:
    number = served.number("count")
    event_id = join(alice, number, [60], "stopped").json()["event_id"]
    started = time.monotonic()
    body = {"session_hash": "stopped", "fn_index": number, "event_id": event_id}
    cancel = threading.Timer(0.5, lambda: alice.post("/gradio_api/cancel", json=body))
    cancel.start()
    assert [event for event in events(alice, "stopped") if event["msg"] == "process_completed"]
    cancel.join()  # its answer may come after the stream's end, and the client closes with the test
    assert time.monotonic() - started < 4


def test_hidden_handlers_have_no_side_door(served: Served, nobody: httpx.Client, bob: httpx.Client) -> None:
    """What is left is the page's own way, as a known person: there the handler itself asks `require`."""
    for client in (nobody, bob):
        for path in ("run", "api", "call", "call/v2"):
            for name in ("approve", "approve_undocumented"):
                for tail in ("", "/"):
                    assert client.post(f"/gradio_api/{path}/{name}{tail}", json={"data": ["m"]}).status_code == 404
    for number in hidden_numbers(served.toy):
        assert join(nobody, number, ["m"], "anything").status_code == 401
        assert bob.post("/gradio_api/queue/join", json={"fn_index": number, "data": ["m"]}).status_code == 403
    assert served.approved == []


def test_an_upload_belongs_to_its_uploader(served: Served, alice: httpx.Client, bob: httpx.Client) -> None:
    path = alice.post("/gradio_api/upload", files={"files": ("給与.txt", b"alice's figures")}).json()[0]
    named = {"path": path, "orig_name": "給与.txt", "meta": {"_type": "gradio.FileData"}}
    assert alice.get(f"/gradio_api/file={path}").text == "alice's figures"
    assert result_of(alice, served.number("size"), [named], "aliceupload")["data"] == ["alice's figures"]
    assert bob.get(f"/gradio_api/file={path}").status_code == 403
    assert bob.get(f"/gradio_api/file={path.replace('/uploads/', '/uploads/../uploads/')}").status_code == 403
    for thief in (named, {"path": path}, {"deep": [named]}):
        assert join(bob, served.number("size"), [thief], "bobupload").status_code == 403
    remote = {**named, "path": "http://10.0.0.1/x", "url": "http://10.0.0.1/x"}
    assert join(bob, served.number("size"), [remote], "bobupload").status_code == 403
    same = bob.post("/gradio_api/upload", files={"files": ("給与.txt", b"alice's figures")}).json()[0]
    assert bob.get(f"/gradio_api/file={same}").status_code == 200, "who has the same content may have the same file"


def test_saying_a_path_does_not_open_it(served: Served, alice: httpx.Client, bob: httpx.Client) -> None:
    path = alice.post("/gradio_api/upload", files={"files": ("a.txt", b"alice only")}).json()[0]
    result_of(bob, served.number("remember"), [path], "echo")
    assert path in json.dumps(result_of(bob, served.number("show"), [path], "echo"))
    assert bob.get(f"/gradio_api/file={path}").status_code == 403


def test_a_result_opens_for_whom_it_was_made(served: Served, alice: httpx.Client, bob: httpx.Client) -> None:
    path = result_of(alice, served.number("save"), ["a,b\n"], "results")["data"][0]["path"]
    assert alice.get(f"/gradio_api/file={path}").text == "a,b\n"
    assert bob.get(f"/gradio_api/file={path}").status_code == 403


def test_two_browsers_do_not_share_an_upload_id(alice: httpx.Client, bob: httpx.Client) -> None:
    assert alice.post("/gradio_api/upload?upload_id=same", files={"files": ("a.txt", b"a")}).status_code == 200
    assert bob.get("/gradio_api/upload_progress?upload_id=same").status_code == 403
    assert bob.post("/gradio_api/upload?upload_id=same", files={"files": ("a.txt", b"a")}).status_code == 403


def test_a_full_memory_forgets_nobody() -> None:
    owners = Owners("session", capacity=3)
    for number in range(3):
        owners.claim(f"s{number}", "alice")
    with pytest.raises(Forbidden, match="too many"):
        owners.claim("s3", "bob")
    with pytest.raises(Forbidden, match="somebody else"):
        owners.claim("s0", "bob")
    for binding in owners._bound.values():
        binding.used_at -= 100_000
    owners.hold("s1", 1)
    owners.claim("s4", "bob")
    with pytest.raises(Forbidden):
        owners.check("s1", "bob")
    owners.check("s1", "alice")


# --- limits


def chunks(total: int) -> Iterator[bytes]:
    """A body of `total` bytes whose length is not announced."""
    for _ in range(total // 2**20):
        yield b" " * 2**20


def test_200_megabytes_of_json_are_refused(served: Served, alice: httpx.Client) -> None:
    before = psutil.Process().memory_info().rss
    kind = {"content-type": "application/json"}
    announced = alice.post("/gradio_api/queue/join", content=chunks(200 * 2**20), headers={**kind, "content-length": str(200 * 2**20)}, timeout=30)
    assert announced.status_code == 413
    assert alice.post("/gradio_api/queue/join", content=chunks(20 * 2**20), headers=kind, timeout=30).status_code == 413
    assert psutil.Process().memory_info().rss - before < 60 * 2**20
    assert alice.get("/healthz").json() == {"status": "ok"}


def test_too_large_uploads_are_refused(alice: httpx.Client) -> None:
    """One file over its limit, and a request over the limit of all its files."""
    assert alice.post("/gradio_api/upload", files={"files": ("a.bin", bytes(2 * 2**20))}).status_code == 413
    many = [("files", (f"{number}.bin", bytes(900_000))) for number in range(8)]
    assert alice.post("/gradio_api/upload", files=many).status_code == 413
    assert alice.post("/gradio_api/upload", files=many[:3]).status_code == 200


@pytest.mark.parametrize("body", ["{", "[]", "1", "[" * 100_000, '{"session_hash": "a", "session_hash": "b"}', '{"a": {"b": 1, "b": 2}}'])
def test_odd_json_is_refused(alice: httpx.Client, body: str) -> None:
    assert alice.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}).status_code == 400


@pytest.mark.parametrize("session", [None, 5, ["a"], "", "a/b", "x" * 65, "日本"])
def test_odd_session_hashes_are_refused(alice: httpx.Client, session: object) -> None:
    body = {"fn_index": 0, "data": [], "session_hash": session}
    assert alice.post("/gradio_api/queue/join", json=body).status_code == 403


def test_a_body_that_never_comes_is_not_waited_for(served: Served, alice: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.3)

    def slow() -> Iterator[bytes]:
        yield b"--x"
        time.sleep(0.9)
        yield b"}"

    assert alice.post("/gradio_api/queue/join", content=slow(), headers={"content-type": "application/json"}).status_code == 408
    assert alice.post("/gradio_api/upload", content=slow(), headers={"content-type": "multipart/form-data; boundary=x"}).status_code == 408


def test_small_answers_are_not_held_back(alice: httpx.Client) -> None:
    """Headers and body leave in two writes; with Nagle's delay the second waits 40 ms for the first one's receipt."""
    alice.get("/healthz")
    times = []
    for _ in range(20):
        started = time.perf_counter()
        alice.get("/healthz")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02


# --- stopping

SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.web_toy import build_toy
from llmops_kit.kit import Kit
from llmops_kit.settings import Settings
from llmops_kit.ui.mount import mount
from llmops_kit.web import cli, logs, server, service
folder = Path(sys.argv[1])
with Kit(Settings(workspace=folder)) as kit:
    logs.configure("info")
    toy = build_toy([], kit.settings.upload_folder)
    listener = server.reserve("127.0.0.1", 0)
    server.serve(service.build_app(kit, toy, mount=mount), listener, drain_s=float(sys.argv[2]), on_ready=cli.show_address)
cli.leave()
"""


@dataclass
class Process:
    """An app of its own, to be stopped."""

    process: subprocess.Popen[str]
    client: httpx.Client
    count: int


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def begin(drain_s: float) -> Process:
        code = SERVER.format(tests=str(Path(__file__).parent.parent))
        command = [sys.executable, "-c", code, str(tmp_path / "ws"), str(drain_s)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
        running.append(process)
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        client = httpx.Client(base_url=url, timeout=30)
        config = client.get("/") and client.get("/config").json()
        return Process(process, client, next(fn["id"] for fn in config["dependencies"] if fn["api_name"] == "count"))

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_a_stop_signal_lets_a_running_answer_finish(start: Any) -> None:
    app = start(20)
    assert join(app.client, app.count, [25], "draining").status_code == 200
    seen: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: seen.extend(events(app.client, "draining")))
    reader.start()
    time.sleep(0.8)
    app.process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    with pytest.raises(httpx.ConnectError):
        httpx.get(app.client.base_url)
    reader.join()
    assert next(event for event in seen if event["msg"] == "process_completed")["output"]["data"][0].startswith("25 for")
    assert app.process.wait(10) == 0
    assert "Traceback" not in app.process.stderr.read()


def test_an_open_page_does_not_hold_up_a_stop(start: Any) -> None:
    app = start(20)
    with app.client.stream("GET", "/gradio_api/heartbeat/open") as page:
        assert page.status_code == 200
        started = time.monotonic()
        app.process.send_signal(signal.SIGINT)
        assert app.process.wait(10) == 0
    assert time.monotonic() - started < 5


def test_an_answer_longer_than_the_drain_is_cut_off(start: Any) -> None:
    app = start(1)
    join(app.client, app.count, [600], "endless")
    with app.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "endless"}) as stream:
        assert stream.status_code == 200
        started = time.monotonic()
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(15) == 0
    assert 1 <= time.monotonic() - started < 8


# --- the log


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: CANARY",
        "Authorization: Bearer CANARY",
        "{'api_key': 'CANARY', 'model': 'x'}",
        "OPENAI_API_KEY=CANARY",
        "postgresql://kit:CANARY@db/kit",
        "cookie: llmops_id_0a1b2c3d=CANARY; x=y",
        "token: CANARY",
    ],
)
@pytest.mark.parametrize("canary", ["sk-proj-abc123DEF456ghi789", "hf_abcdefghijklmnopqrst", "plainbutknown1234"])
def test_keys_never_reach_the_log(text: str, canary: str) -> None:
    record_line = text.replace("CANARY", canary)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter(Redactor(known=["plainbutknown1234"])))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning(record_line)
    logger.warning("with %s", record_line)
    try:
        raise ValueError(record_line)
    except ValueError:
        logger.exception("failed")
    direct = RedactingStream(stream, Redactor(known=["plainbutknown1234"]))
    direct.write(record_line[:-4])
    direct.write(record_line[-4:] + "\n")
    assert canary not in stream.getvalue()
    assert stream.getvalue().count(HIDDEN) >= 4
    assert "ValueError" in stream.getvalue()


def test_ordinary_lines_stay_as_they_are() -> None:
    for line in ("max_tokens=256 tokens=12345678", "GET /gradio_api/queue/join refused: 403", "The password field is empty.", "task-based sk-learn"):
        assert Redactor()(line) == line


def test_no_secret_of_a_request_is_logged(served: Served, alice: httpx.Client, bob: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="llmops_kit")
    join(alice, served.number("recall"), ["words-of-alice"], "sessionofalice")
    bob.get("/gradio_api/heartbeat/sessionofalice")
    bob.get("/gradio_api/queue/data?session_hash=sessionofalice")
    assert "refused: 403" in caplog.text
    cookie = next(value for name, value in alice.cookies.items() if name.startswith("llmops_id"))
    for secret in ("words-of-alice", "sessionofalice", cookie):
        assert secret not in caplog.text
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
