"""The wire to a model server: how long it may stay silent, how much it may send, and hanging up.

The read time-out of an HTTP client starts anew with every byte, so a server that drips one byte a second holds its
caller for ever, and looking up a name has no time-out at all. So an answer is read in a thread of its own, and whoever
waits for it waits at most the time given, whatever the server does.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import httpx2

from llmops_kit.errors import EndpointError

LARGEST_ANSWER_BYTES = 64 * 2**20  # an answer of 128 000 tokens is about 40 MB, as each token is wrapped in JSON
LARGEST_EVENT_BYTES = 2**20
_PATIENCE_S = 5.0  # a server that asks to come back later than this is not waited for

_T = TypeVar("_T")


class Stalled(Exception):
    """The server sent nothing of use for too long."""


class Wire:
    """The HTTP client of one endpoint. Safe to share between threads; `model` is the catalogue id named in errors."""

    def __init__(self, *, model: str, connect_timeout_s: float, request_timeout_s: float) -> None:
        self._model = model
        self._limit_s = connect_timeout_s + request_timeout_s
        self._open: dict[int, httpx2.Response] = {}  # by the thread that reads it
        self.client = httpx2.Client(
            timeout=httpx2.Timeout(request_timeout_s, connect=connect_timeout_s),
            follow_redirects=False,  # a redirect would carry the conversation to a server nobody chose
            event_hooks={"response": [self._check]},
        )

    def watch(self, source: Iterator[_T]) -> Iterator[_T]:
        """The items of `source`, read in a thread of its own; closing this iterator hangs up.

        Raises:
            Stalled: no item came within the time to connect and to answer.
            EndpointError: the server sent too much, asked to come back later, or did not send a stream.
        """
        reader = _Reader(source)
        try:
            yield from reader.items(self._limit_s)
        finally:
            reader.abandon(hang_up=self._hang_up)

    def _hang_up(self, thread_id: int) -> None:
        """Shut the connection a thread is reading from, which wakes it at once."""
        response = self._open.pop(thread_id, None)
        network = response.extensions.get("network_stream") if response is not None and not response.is_closed else None
        wire = network.get_extra_info("socket") if network is not None else None
        if wire is not None:
            with suppress(OSError, ValueError):  # it was closed in the meantime
                wire.shutdown(socket.SHUT_RDWR)

    def _check(self, response: httpx2.Response) -> None:
        self._open[threading.get_ident()] = response
        response.stream = _Measured(response.stream, model=self._model)
        wait_s = _read_seconds(response.headers.get("retry-after"))
        if response.status_code in (429, 503) and wait_s > _PATIENCE_S:
            raise EndpointError(
                model=self._model,
                reason_en=f"it is busy (status {response.status_code}) and asks to come back in {wait_s:.0f} s",
                reason_ja=f"混み合っています（ステータス{response.status_code}）。{wait_s:.0f}秒後に再試行するよう求めています",
            )
        kind = response.headers.get("content-type", "").partition(";")[0].strip() or "nothing"
        if response.is_success and kind != "text/event-stream":
            raise EndpointError(
                model=self._model,
                reason_en=f"it sent {kind} where a stream of answers (text/event-stream) was expected; is its address complete, with /v1?",
                reason_ja=f"回答のストリーム（text/event-stream）ではなく{kind}が返りました。アドレスは/v1まで正しいですか",
            )


class _Reader(Generic[_T]):
    """Reads an iterator in a daemon thread, so that a wait on it can end."""

    def __init__(self, source: Iterator[_T]) -> None:
        self._source = source
        self._arrived: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()
        self._abandoned = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="endpoint-reader", daemon=True)
        self._thread.start()

    def items(self, limit_s: float) -> Iterator[_T]:
        while True:
            try:
                item, end = self._arrived.get(timeout=limit_s)
            except Empty:
                raise Stalled from None
            if end is None:
                yield item  # type: ignore[misc]  # an end is the only entry without an item
                continue
            self._ended = True
            if not isinstance(end, StopIteration):
                raise end
            return

    def abandon(self, *, hang_up: Callable[[int], None]) -> None:
        self._abandoned.set()
        if not self._ended and self._thread.ident is not None:
            hang_up(self._thread.ident)

    def _read(self) -> None:
        try:
            for item in self._source:
                if self._abandoned.is_set():
                    break
                self._arrived.put((item, None))
            end: BaseException = StopIteration()
        except BaseException as error:  # noqa: BLE001 - not swallowed: raised again in the thread that waits
            end = error
        close = getattr(self._source, "close", None)
        if close is not None and self._abandoned.is_set():
            with suppress(Exception):  # nobody waits for what goes wrong while hanging up
                close()
        self._arrived.put((None, end))


class _Measured(httpx2.SyncByteStream):
    """A response body that may not grow without bound, neither as a whole nor in one event."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, *, model: str) -> None:
        if not isinstance(stream, httpx2.SyncByteStream):
            raise TypeError(f"expected a synchronous response body, got {type(stream).__name__}")
        self._stream = stream
        self._model = model

    def __iter__(self) -> Iterator[bytes]:
        total = event = 0
        for data in self._stream:
            total += len(data)
            newline = data.rfind(b"\n")
            event = event + len(data) if newline < 0 else len(data) - newline
            if total > LARGEST_ANSWER_BYTES or event > LARGEST_EVENT_BYTES:
                raise EndpointError(
                    model=self._model,
                    reason_en=f"it sent more than an answer can hold ({total / 2**20:.0f} MB)",
                    reason_ja=f"回答として大きすぎるデータ（{total / 2**20:.0f} MB）が届きました",
                )
            yield data

    def close(self) -> None:
        self._stream.close()


def _read_seconds(header: str | None) -> float:
    """The seconds of a Retry-After header; 0 where it is missing or is a date."""
    try:
        return float(header or 0)
    except ValueError:
        return 0.0
