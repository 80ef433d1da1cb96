"""The page's language: what the switch in the top bar chose, before the user interface starts.

Gradio translates by `navigator.language` and forgets a choice on reload. So the page gets a line of script ahead of
everything else that answers for the browser, from the cookie the switch sets; the server's sentences read the same cookie.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmops_kit.web.responses import LANGUAGE_COOKIE

_SCRIPT = """<script>
(() => {
  const chosen = document.cookie.match(/(?:^|; )%(cookie)s=(ja|en)/), language = chosen ? chosen[1] : "%(language)s";
  if (language !== "auto") {
    const tag = language === "ja" ? "ja-JP" : "en-US";
    Object.defineProperty(Navigator.prototype, "language", {get: () => tag, configurable: true});
    Object.defineProperty(Navigator.prototype, "languages", {get: () => [tag], configurable: true});
  }
  document.documentElement.lang = navigator.language.slice(0, 2);
})();
</script>"""


class PageLanguage:
    """Puts the script into the page, and the language of the settings into requests of a browser that chose none."""

    def __init__(self, app: ASGIApp, *, language: str) -> None:
        self._app = app
        self._language = language
        self._script = (_SCRIPT % {"cookie": LANGUAGE_COOKIE, "language": language}).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; rewrite the page itself, which is one small file and no stream."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self._language != "auto":
            kept = [(name, value) for name, value in scope["headers"] if name != b"accept-language"]
            scope = {**scope, "headers": [*kept, (b"accept-language", self._language.encode())]}
        if scope["path"] != "/" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        await self._app(scope, receive, _Rewriter(send, self._script))


class _Rewriter:
    """Holds an HTML answer back until it is whole, then sends it with the script in its head."""

    def __init__(self, send: Send, script: bytes) -> None:
        self._send = send
        self._script = script
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            if not kinds or not kinds[0].startswith(b"text/html"):
                await self._send(message)
            else:
                self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                body = self._body.replace(b"<head>", b"<head>" + self._script, 1)
                headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
                await self._send({**self._start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await self._send({"type": "http.response.body", "body": body})
