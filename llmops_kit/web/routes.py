"""Which web addresses exist for the outside, and what each one asks of the caller.

An address that is not in a table here is not there: the edge answers 404 before anything else sees the request.
A Gradio release that brings a new route must be classified here first; a test compares this table with the live one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Guard = Literal["blocked", "public", "page", "user", "heartbeat", "data", "join", "component", "cancel", "event", "upload", "progress", "file"]
"""What the edge checks before it lets a request through.

`blocked`: never let through. `public`: nothing personal in it. `page`: the page itself, which gives a browser its
identity. `user`: any identity. The others also bind something to that identity: `heartbeat`, `data`, `join` and
`component` a page's session, `cancel` and `event` a queued job, `upload` and `progress` an upload, `file` a stored file.
"""

GRADIO_ROUTES: Mapping[str, Guard] = {
    "/": "page",
    "/assets/{path:path}": "public",
    "/config": "user",
    "/config/": "blocked",
    "/favicon.ico": "public",
    "/gradio_api/api/{api_name}": "blocked",
    "/gradio_api/api/{api_name}/": "blocked",
    "/gradio_api/app_id": "user",
    "/gradio_api/app_id/": "blocked",
    "/gradio_api/call/v2/{api_name}": "blocked",
    "/gradio_api/call/v2/{api_name}/": "blocked",
    "/gradio_api/call/v2/{api_name}/{event_id}": "blocked",
    "/gradio_api/call/{api_name}": "blocked",
    "/gradio_api/call/{api_name}/": "blocked",
    "/gradio_api/call/{api_name}/{event_id}": "blocked",
    "/gradio_api/cancel": "cancel",
    "/gradio_api/component_server": "component",
    "/gradio_api/component_server/": "blocked",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}": "blocked",
    "/gradio_api/deep_link": "blocked",
    "/gradio_api/dev/reload": "blocked",
    "/gradio_api/file/{path:path}": "blocked",
    "/gradio_api/file={path_or_url:path}": "file",
    "/gradio_api/heartbeat/{session_hash}": "heartbeat",
    "/gradio_api/info": "user",
    "/gradio_api/info/": "blocked",
    "/gradio_api/login_check": "blocked",
    "/gradio_api/login_check/": "blocked",
    "/gradio_api/openapi.json": "blocked",
    "/gradio_api/process_recording": "blocked",
    "/gradio_api/proxy={url_path:path}": "blocked",
    "/gradio_api/queue/data": "data",
    "/gradio_api/queue/join": "join",
    "/gradio_api/queue/status": "blocked",
    "/gradio_api/reset": "event",
    "/gradio_api/reset/": "blocked",
    "/gradio_api/run/{api_name}": "blocked",
    "/gradio_api/run/{api_name}/": "blocked",
    "/gradio_api/runs": "blocked",
    "/gradio_api/runs/": "blocked",
    "/gradio_api/startup-events": "user",
    "/gradio_api/stream/{event_id}": "blocked",
    "/gradio_api/stream/{event_id}/close": "blocked",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file": "blocked",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8": "blocked",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}": "blocked",
    "/gradio_api/theme.css": "public",
    "/gradio_api/token": "blocked",
    "/gradio_api/token/": "blocked",
    "/gradio_api/undo-vibe-edit": "blocked",
    "/gradio_api/undo-vibe-edit/": "blocked",
    "/gradio_api/upload": "upload",
    "/gradio_api/upload_progress": "progress",
    "/gradio_api/user": "blocked",
    "/gradio_api/user/": "blocked",
    "/gradio_api/vibe-code": "blocked",
    "/gradio_api/vibe-code/": "blocked",
    "/gradio_api/vibe-edit": "blocked",
    "/gradio_api/vibe-edit/": "blocked",
    "/gradio_api/vibe-starter-queries": "blocked",
    "/gradio_api/vibe-starter-queries/": "blocked",
    "/login": "blocked",
    "/login/": "blocked",
    "/logout": "blocked",
    "/manifest.json": "public",
    "/monitoring": "blocked",
    "/monitoring/summary": "blocked",
    "/monitoring/{key}": "blocked",
    "/openapi.json": "blocked",
    "/pwa_icon": "blocked",
    "/pwa_icon/{size}": "blocked",
    "/robots.txt": "public",
    "/static/{path:path}": "public",
    "/svelte/{path:path}": "public",
    "/theme.css": "public",
}

KIT_ROUTES: Mapping[str, Guard] = {"/healthz": "public", "/language": "public"}
_WRITES: Mapping[Guard, bool] = {"join": True, "component": True, "cancel": True, "event": True, "upload": True}


@dataclass(frozen=True)
class Route:
    """One classified address. `ours` is True for the kit's own routes, whose error bodies the edge leaves alone."""

    template: str
    guard: Guard
    pattern: re.Pattern[str]
    ours: bool

    def allows(self, method: str) -> bool:
        """Whether `method` makes sense here; the kit's own routes decide that themselves."""
        if self.ours:
            return method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        return method == "POST" if _WRITES.get(self.guard) else method in ("GET", "HEAD")


class RouteTable:
    """All classified addresses; `find` gives the one a path belongs to, or None."""

    def __init__(self, ours: Mapping[str, Guard] = KIT_ROUTES, gradio: Mapping[str, Guard] = GRADIO_ROUTES) -> None:
        routes = [Route(path, guard, compile_template(path), ours=True) for path, guard in ours.items()]
        routes += [Route(path, guard, compile_template(path), ours=False) for path, guard in gradio.items()]
        self._exact = {route.template: route for route in routes if "{" not in route.template}
        self._patterns = [route for route in routes if "{" in route.template]

    def find(self, path: str) -> Route | None:
        """The route of the decoded `path`; None also for a blocked one, which shall look like one that is not there."""
        route = self._exact.get(path) or next((known for known in self._patterns if known.pattern.fullmatch(path)), None)
        return route if route is not None and route.guard != "blocked" else None


def compile_template(template: str) -> re.Pattern[str]:
    """A route template such as `/a/{name}` or `/b/{rest:path}` as a pattern with one group per blank."""
    parts = re.split(r"\{(\w+)(:path)?\}", template)
    pattern = re.escape(parts[0])
    for name, is_path, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.*' if is_path else '[^/]+'})" + re.escape(literal)
    return re.compile(pattern, re.DOTALL)
