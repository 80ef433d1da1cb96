"""The edge: the one door every web request comes through, before Gradio or the kit's own routes see it.

It answers only to known host names and listed addresses, knows who is asking, keeps other origins out, holds page
sessions, jobs and files to the person they belong to, and bounds what a request may bring. It is plain ASGI and holds
back nothing but error bodies, so streams flow through it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmops_kit.access import User
from llmops_kit.web.addresses import comes_from_elsewhere, host_name, is_loopback, read_headers, single
from llmops_kit.web.bindings import Bindings, Forbidden
from llmops_kit.web.bodies import LimitedBody, Refusal, Replay, parse_object
from llmops_kit.web.identity import Identity
from llmops_kit.web.responses import Responder
from llmops_kit.web.routes import Guard, Route, RouteTable

log = logging.getLogger(__name__)
_SMALL_BODY = 64 * 1024
_STREAMS: frozenset[Guard] = frozenset({"data", "heartbeat", "progress"})
_HELD_BODIES: frozenset[Guard] = frozenset({"join", "component", "cancel", "event"})
# A full queue and a failed check of an input reach the page with their own words.
_JOIN_ERRORS = frozenset({422, 503})
_FORWARDED = (b"x-forwarded-", b"forwarded", b"x-gradio-", b"x-original-")


@dataclass(frozen=True)
class EdgePolicy:
    """What the edge lets through: host names besides loopback, sizes in bytes, and pages that may frame the app."""

    upload_folder: Path
    allowed_hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    max_json_bytes: int = 8 * 2**20
    max_upload_bytes: int = 100 * 2**20


@dataclass
class EdgeState:
    """What the edge knows while the app runs, and how the server tells it to stop.

    `draining`: take no new work. `closing`: end every stream that is still open. `running` counts the requests that a
    stop has to wait for; open pages (heartbeats) are not among them.
    """

    bindings: Bindings
    draining: bool = False
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0


class Edge:
    """ASGI middleware around the whole app. `state` is shared with the server that stops it."""

    def __init__(self, app: ASGIApp, *, identity: Identity, policy: EdgePolicy, routes: RouteTable, state: EdgeState) -> None:
        self._app = app
        self._identity = identity
        self._policy = policy
        self._routes = routes
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing of ours uses them
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(6)
        headers = read_headers(scope)
        respond = Responder(scope, send, headers=headers, request_id=request_id, frame_ancestors=self._policy.frame_ancestors)
        try:
            await self._pass(scope, receive, respond, headers=headers)
        except Refusal as refusal:
            log.warning("%s %s %s refused: %s %s", request_id, scope["method"], _route_name(scope), refusal.status, refusal.reason)
            if respond.started:
                await respond.end()
            else:
                await respond.fail(refusal.status)
        except Exception:
            # The last stop for a bug: the log has everything, the caller the id to find it by.
            log.exception("%s %s %s failed", request_id, scope["method"], _route_name(scope))
            if not respond.started:
                await respond.fail(500)
            elif not respond.finished:
                raise  # the stream is cut in the middle, and the server has to say so

    async def _pass(self, scope: Scope, receive: Receive, respond: Responder, *, headers: Mapping[str, str]) -> None:
        self._check_host(headers)
        route = self._routes.find(scope["path"])
        if route is None:
            raise Refusal(404, "not on the list")
        if not route.allows(scope["method"]):
            raise Refusal(405, "method")
        self._check_origin(scope, headers, route=route)
        secure = scope["scheme"] == "https"
        user = self._identity.read(headers.get("cookie", ""), secure=secure)
        if route.guard == "page" and user is None:
            if comes_from_elsewhere(scope, headers):
                await respond.bounce()
                return
            user, cookie = self._identity.issue(secure=secure)
            respond.cookies.append(cookie)
        if user is None and route.guard != "public":
            raise Refusal(401, "no identity")
        if self._state.draining and scope["method"] not in ("GET", "HEAD"):
            raise Refusal(503, "stopping")
        respond.cacheable = route.guard == "public" and not route.ours
        respond.keep_errors = None if route.ours else _JOIN_ERRORS if route.guard == "join" else frozenset()
        if route.guard == "file":
            respond.serve_file()
        await self._forward(_inner_scope(scope, user, route=route), receive, respond, visit=_Visit(route, user, headers))

    def _check_host(self, headers: Mapping[str, str]) -> None:
        name = host_name(headers.get("host", ""))
        if not is_loopback(name) and name not in self._policy.allowed_hosts:
            raise Refusal(421, "unknown host name")

    def _check_origin(self, scope: Scope, headers: Mapping[str, str], *, route: Route) -> None:
        """Keep pages of other origins out, sibling hosts too: those send our cookie along whatever SameSite says."""
        if route.guard == "page" or (route.guard == "public" and scope["method"] in ("GET", "HEAD")):
            return
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{headers.get('host', '').lower()}":
            raise Refusal(403, "another origin")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "another site")

    async def _forward(self, scope: Scope, receive: Receive, respond: Responder, *, visit: _Visit) -> None:
        """Check what the request is about, then hand it to the app."""
        limit = self._policy.max_upload_bytes if visit.route.guard == "upload" else self._policy.max_json_bytes if visit.holds_json else _SMALL_BODY
        body = LimitedBody(scope, receive, limit)
        incoming: Receive = body
        try:
            if visit.guard in _HELD_BODIES:
                incoming = Replay(await self._check_body(body, visit=visit), receive)
            else:
                self._check_address(scope, visit=visit)
        except Forbidden as error:
            raise Refusal(403, str(error)) from None
        outgoing = _Listener(respond, self._state.bindings, visit=visit, body=body)
        counted = visit.guard != "heartbeat"
        self._state.running += counted
        try:
            if visit.guard in _STREAMS:
                await self._stream(scope, incoming, outgoing, visit=visit)
                await respond.end()
            else:
                await self._app(scope, incoming, outgoing)
        finally:
            self._state.running -= counted

    async def _check_body(self, body: LimitedBody, *, visit: _Visit) -> bytes:
        """Read a JSON body and hold it to its sender. Raises: Refusal, Forbidden."""
        raw = await body.read()
        value = parse_object(raw, visit.headers.get("content-type", ""))
        bindings = self._state.bindings
        if visit.guard in ("cancel", "event"):
            bindings.jobs.check(value.get("event_id"), visit.user_id)
        if visit.guard == "cancel":
            bindings.sessions.check(value.get("session_hash"), visit.user_id)
        if visit.guard in ("join", "component"):
            bindings.sessions.claim(value.get("session_hash"), visit.user_id)
            bindings.files.check_named(value, visit.user_id)
        if value.get("event_id") is not None and visit.guard == "join":
            bindings.jobs.check(value["event_id"], visit.user_id)
        return raw

    def _check_address(self, scope: Scope, *, visit: _Visit) -> None:
        """Hold what the path or the query names to whoever asks. Raises: Forbidden."""
        bindings = self._state.bindings
        groups = visit.groups(scope["path"])
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if visit.guard == "heartbeat":
            bindings.sessions.claim(groups["session_hash"], visit.user_id)
        elif visit.guard == "data":
            bindings.sessions.check(single(query, "session_hash"), visit.user_id)
        elif visit.guard == "progress" or (visit.guard == "upload" and "upload_id" in query):
            bindings.uploads.claim(single(query, "upload_id"), visit.user_id)
        elif visit.guard == "file":
            bindings.files.check(groups["path_or_url"], visit.user_id)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, *, visit: _Visit) -> None:
        """Run an endless answer until it ends, or until the app closes."""
        sessions = self._state.bindings.sessions
        session = visit.groups(scope["path"]).get("session_hash", "")
        answer = asyncio.ensure_future(self._app(scope, receive, send))
        closing = asyncio.ensure_future(self._state.closing.wait())
        sessions.hold(session, 1)
        try:
            await asyncio.wait({answer, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sessions.hold(session, -1)
            closing.cancel()
            if not answer.done():
                answer.cancel()
        try:
            await answer
        except asyncio.CancelledError:
            if not self._state.closing.is_set():
                raise


@dataclass(frozen=True)
class _Visit:
    """One admitted request: the route, who asks, and its headers."""

    route: Route
    user: User | None
    headers: Mapping[str, str]

    @property
    def guard(self) -> Guard:
        return self.route.guard

    @property
    def user_id(self) -> str:
        return self.user.id if self.user else ""

    @property
    def holds_json(self) -> bool:
        return self.guard in ("join", "component") or self.route.ours

    def groups(self, path: str) -> dict[str, str]:
        found = self.route.pattern.fullmatch(path)
        return found.groupdict() if found else {}


class _Listener:
    """An ASGI `send` that notes what the app gives to whom: job ids, uploaded files, files in results."""

    def __init__(self, respond: Responder, bindings: Bindings, *, visit: _Visit, body: LimitedBody) -> None:
        self._body = body
        self._respond = respond
        self._bindings = bindings
        self._visit = visit
        self._status = 0
        self._held = bytearray()

    async def __call__(self, message: Message) -> None:
        """Note, then pass on: a page never hears of a thing before it is bound to it."""
        if message["type"] == "http.response.start":
            if self._body.refusal is not None:
                self._respond.keep_errors = frozenset()
                message = {**message, "status": self._body.refusal.status}
            self._status = message["status"]
        elif message["type"] == "http.response.body" and self._status == 200:
            self._note(message.get("body", b""), last=not message.get("more_body", False))
        await self._respond(message)

    def _note(self, body: bytes, *, last: bool) -> None:
        user = self._visit.user_id
        if self._visit.guard == "data":
            self._bindings.files.shown(body, user)
        elif self._visit.guard in ("join", "upload"):
            self._held += body
            if last and self._visit.guard == "join":
                self._bindings.jobs.claim(json.loads(self._held).get("event_id"), user)
            elif last:
                self._bindings.files.uploaded(bytes(self._held), user)


def _inner_scope(scope: Scope, user: User | None, *, route: Route) -> dict[str, Any]:
    """The scope the app sees: with the user, without headers only a proxy may send."""
    kept = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(_FORWARDED)]
    if scope["scheme"] == "https":
        kept.append((b"x-forwarded-proto", b"https"))
    if route.guard in ("join", "upload", "data"):
        kept = [(name, value) for name, value in kept if name.lower() != b"accept-encoding"]  # we read the answer
    return {**scope, "headers": kept, "llmops_user": user}


def _route_name(scope: Scope) -> str:
    """The start of the path for the log; the rest may be a session or a file name."""
    return "/".join(scope["path"].split("/")[:3])[:60]
