"""Request bodies under limits: how many bytes, how long to wait for them, and JSON without surprises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.types import Message, Receive, Scope

BODY_TIMEOUT_S = 20.0
_DISCARD_S = 5.0


class Refusal(Exception):
    """The edge does not let a request through: an HTTP `status` for the caller and a `reason` for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class LimitedBody:
    """An ASGI `receive` that stops after `limit` bytes (413) or `BODY_TIMEOUT_S` of silence (408).

    It raises `Refusal` and keeps it in `refusal`: a framework in between may turn the exception into an answer of its own.
    """

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self._complete = False
        self._announced = _announced(scope)
        self.refusal: Refusal | None = None

    async def __call__(self) -> Message:
        """The next ASGI message. Raises: Refusal."""
        if self._complete:
            return await self._receive()
        if self._announced > self._limit:
            await self.refuse()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            self.refusal = Refusal(408, "body too slow")
            raise self.refusal from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._seen > self._limit:
                await self.refuse()
        return message

    async def read(self) -> bytes:
        """The whole body. Raises: Refusal, also where the client went away in the middle."""
        parts = []
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while not self._complete:
                    message = await self()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "client went away")
                    parts.append(message.get("body", b""))
        except TimeoutError:
            raise Refusal(408, "body too slow") from None
        return b"".join(parts)

    async def refuse(self) -> None:
        """Read on for a moment without keeping anything, so that the client hears the answer, then raise 413.

        A server that closes while the client still sends resets the connection, and the client never sees why.
        """
        try:
            async with asyncio.timeout(_DISCARD_S):
                while not self._complete:
                    message = await self._receive()
                    self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        except TimeoutError:
            pass  # it sends more than anybody may: then it hears nothing
        self.refusal = Refusal(413, f"body over {self._limit} bytes")
        raise self.refusal


class Replay:
    """An ASGI `receive` that gives a body already read once more, then whatever comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The body first, then the connection's own messages."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def parse_object(body: bytes, content_type: str) -> dict[str, Any]:
    """A JSON object in which no key comes twice: two readers of the same text must see the same value.

    Raises: Refusal.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "not JSON")
    try:
        value = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"malformed JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise Refusal(400, "no JSON object")
    return value


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _announced(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
