"""What every answer of the app carries: security headers, and an error body that says little and can be found again."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message, Scope, Send

LANGUAGE_COOKIE = "llmops_language"

# Gradio builds its page with inline scripts and compiles templates, hence the two 'unsafe-'. What keeps a text from
# carrying data out are img-, media-, font-, connect- and form-: none of them names another host.
_POLICY = (
    "default-src 'self'; base-uri 'self'; object-src 'none'; form-action 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; frame-src 'none'; frame-ancestors "
)
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors "
_FIXED = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-dns-prefetch-control": "off",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_SENTENCES: Mapping[int, tuple[str, str]] = {
    400: (
        "The request could not be understood. Reload the page and try again.",
        "リクエストを読み取れませんでした。ページを再読み込みして、もう一度お試しください。",
    ),
    401: ("Open the app's page first.", "先にアプリのページを開いてください。"),
    403: ("This is not open to you.", "この操作は許可されていません。"),
    404: ("There is nothing here.", "ページが見つかりません。"),
    405: ("This address does not do that.", "このアドレスではその操作はできません。"),
    408: ("The data came too slowly. Try again.", "データの受信に時間がかかりすぎました。もう一度お試しください。"),
    413: ("This is larger than the app accepts. Send less at once.", "データが大きすぎます。量を減らして送ってください。"),
    421: (
        "The app does not answer to this host name. Open the address it printed at start.",
        "このホスト名では開けません。起動時に表示されたアドレスを開いてください。",
    ),
    503: ("The app is busy or stopping. Try again in a moment.", "混み合っているか、停止処理中です。少し待ってからお試しください。"),
}
_OTHER = ("Something went wrong in the app. Its log has the details.", "アプリで問題が起きました。詳しくはログに記録されています。")
_BOUNCE = b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>llmops_kit</title>'


def language_of(headers: Mapping[str, str]) -> str:
    """`ja` or `en`: the language switch's cookie if it was used, else the browser's first choice."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == LANGUAGE_COOKIE and value in ("ja", "en"):
            return value
    return "ja" if headers.get("accept-language", "").strip().lower().startswith("ja") else "en"


def error_body(status: int, headers: Mapping[str, str], request_id: str) -> tuple[bytes, str]:
    """The body and content type of an error: a sentence in the reader's language and the id the log has, nothing else."""
    sentence = _SENTENCES.get(status, _OTHER)[language_of(headers) == "ja"]
    if "text/html" in headers.get("accept", ""):
        page = (
            '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<title>{status}</title><body style="font-family:system-ui;margin:3rem"><p>{html.escape(sentence)}</p>'
            f"<p><small>{status} · {request_id}</small></p>"
        )
        return page.encode(), "text/html; charset=utf-8"
    message = f"{sentence} ({request_id})"
    body = {"error": {"code": status, "message": message, "request_id": request_id}, "detail": message}
    return json.dumps(body, ensure_ascii=False).encode(), "application/json; charset=utf-8"


class Responder:
    """An ASGI `send` that dresses every answer. One per request.

    `keep_errors` names the error statuses whose own body goes through; all others get a generic one.
    """

    def __init__(self, scope: Scope, send: Send, *, headers: Mapping[str, str], request_id: str, frame_ancestors: Sequence[str] = ()) -> None:
        self._send = send
        self._secure = scope["scheme"] == "https"
        self._headers = headers
        self._request_id = request_id
        self._frame_ancestors = " ".join(frame_ancestors) or "'none'"
        self.cookies: list[str] = []
        self.policy = _POLICY
        self.cacheable = False
        self.keep_errors: frozenset[int] | None = frozenset()
        self.started = False
        self.finished = False
        self._replaced = False

    def serve_file(self) -> None:
        """Answer with somebody's file: whatever is in it, it runs nothing and loads nothing."""
        self.policy = _FILE_POLICY

    async def __call__(self, message: Message) -> None:
        """Pass an ASGI message on, with our headers, or in place of an error body ours."""
        if message["type"] == "http.response.start":
            status = message["status"]
            if status >= 400 and self.keep_errors is not None and status not in self.keep_errors:
                self._replaced = True
                await self.fail(status)
                return
            self.started = True
            message = {**message, "headers": self._dress(message.get("headers", []))}
        elif self._replaced or self.finished:
            return
        elif message["type"] == "http.response.body":
            self.finished = not message.get("more_body", False)
        await self._send(message)

    async def fail(self, status: int) -> None:
        """Answer with the generic error body of `status`, where nothing was sent yet."""
        body, content_type = error_body(status, self._headers, self._request_id)
        await self._whole(status, body, content_type)

    async def bounce(self) -> None:
        """Answer with a page that opens itself again: a cookie with SameSite=Strict stays behind when a link on another site led here."""
        await self._whole(200, _BOUNCE, "text/html; charset=utf-8")

    async def end(self) -> None:
        """Close a stream that is still open."""
        if self.started and not self.finished:
            await self({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, status: int, body: bytes, content_type: str) -> None:
        self.started = self.finished = True
        own = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if status == 503:
            own.append((b"retry-after", b"5"))
        await self._send({"type": "http.response.start", "status": status, "headers": self._dress(own)})
        await self._send({"type": "http.response.body", "body": body})

    def _dress(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ours: dict[str, Any] = {**_FIXED, "content-security-policy": self.policy + self._frame_ancestors, "x-request-id": self._request_id}
        if self._frame_ancestors == "'none'":
            ours["x-frame-options"] = "DENY"
        if self._secure:
            ours["strict-transport-security"] = "max-age=31536000"
        if not self.cacheable:
            ours["cache-control"] = "no-store"
        kept = [(name, value) for name, value in headers if name.lower().decode("latin-1") not in ours and not name.lower().startswith(b"access-control-")]
        cookies = [(b"set-cookie", line.encode()) for line in self.cookies]
        return kept + [(name.encode(), value.encode()) for name, value in ours.items()] + cookies
