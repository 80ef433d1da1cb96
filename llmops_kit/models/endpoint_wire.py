"""The wire to a model server: how long it may stay silent, how much it may send, and hanging up.

The read time-out of an HTTP client starts anew with every byte, so a server that drips one byte a second holds its
caller for ever, and looking up a name has no time-out at all. So an answer is read in a thread of its own, and whoever
waits for it waits at most the time given, whatever the server does; and every half second they may leave.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import httpx2

from llmops_kit.errors import EndpointError
from llmops_kit.models.endpoint_replicas import PULSE_S

LARGEST_ANSWER_BYTES = 64 * 2**20  # an answer of 128 000 tokens is about 40 MB, as each token is wrapped in JSON
LARGEST_EVENT_BYTES = 2**20
_CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")  # the HTTP client's names of these moments

_T = TypeVar("_T")


class Stalled(Exception):
    """The server sent nothing of use for too long."""


class Wire:
    """The HTTP client of one endpoint. Safe to share between threads; `model` is the catalogue id named in errors.

    Times are seconds. `tls` is how to trust servers, which takes 25 ms to read: many wires may share one. `streams`
    False takes answers that are no stream.
    """

    def __init__(self, *, model: str, connect_timeout_s: float, request_timeout_s: float, tls: ssl.SSLContext | None = None, streams: bool = True) -> None:
        self._model = model
        self._limit_s = connect_timeout_s + request_timeout_s
        self._streams = streams
        self._open: dict[int, tuple[Any, httpx2.Response | None]] = {}  # connection and what it brings, by the thread that reads it
        tls = tls or httpx2.create_ssl_context()
        self.unused = httpx2.AsyncClient(verify=tls)  # opens nothing; without one the chat client makes its own for each request, in 25 ms
        self.client = httpx2.Client(
            verify=tls,
            timeout=httpx2.Timeout(request_timeout_s, connect=connect_timeout_s),
            follow_redirects=False,  # a redirect would carry the conversation to a server nobody chose
            event_hooks={"request": [self._follow], "response": [self._check]},
        )

    def watch(self, source: Iterator[_T], *, on_end: Callable[[], object] | None = None) -> Generator[_T | None, None, None]:
        """The items of `source`, read in a thread of its own, and None every half second without one; closing this iterator hangs up.

        `on_end` is called when all was read, however slowly the items are taken from here.

        Raises:
            Stalled: no item came within the time to connect and to answer.
            EndpointError: the server sent too much, or did not send a stream.
        """
        reader = _Reader(source, on_end)
        try:
            yield from reader.items(self._limit_s)
        finally:
            reader.abandon(hang_up=self._hang_up)

    def _hang_up(self, thread_id: int) -> None:
        """Shut the connection a thread is reading from, which wakes it at once."""
        network, response = self._open.pop(thread_id, (None, None))
        is_over = response is not None and response.is_closed  # the connection may serve somebody else by now
        wire = network.get_extra_info("socket") if network is not None and not is_over else None
        if wire is not None:
            with suppress(OSError, ValueError):  # it was closed in the meantime
                wire.shutdown(socket.SHUT_RDWR)

    def _follow(self, request: httpx2.Request) -> None:
        self._open.pop(threading.get_ident(), None)
        request.extensions["trace"] = self._note_connection

    def _note_connection(self, moment: str, facts: Mapping[str, Any]) -> None:
        if moment in _CONNECTED:  # so that a server that sends not even headers can be hung up on
            self._open[threading.get_ident()] = (facts["return_value"], None)

    def _check(self, response: httpx2.Response) -> None:
        self._open[threading.get_ident()] = (response.extensions.get("network_stream"), response)
        response.stream = _Measured(response.stream, model=self._model, largest_event=LARGEST_EVENT_BYTES if self._streams else LARGEST_ANSWER_BYTES)
        kind = response.headers.get("content-type", "").partition(";")[0].strip() or "nothing"
        if self._streams and response.is_success and kind != "text/event-stream":
            raise EndpointError(
                model=self._model,
                reason_en=f"it sent {kind} where a stream of answers (text/event-stream) was expected; is its address complete, with /v1?",
                reason_ja=f"回答のストリーム（text/event-stream）ではなく{kind}が返りました。アドレスは/v1まで正しいですか",
            )


class _Reader(Generic[_T]):
    """Reads an iterator in a daemon thread, so that a wait on it can end."""

    def __init__(self, source: Iterator[_T], on_end: Callable[[], object] | None) -> None:
        self._source = source
        self._on_end = on_end
        self._arrived: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()
        self._abandoned = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="endpoint-reader", daemon=True)
        self._thread.start()

    def items(self, limit_s: float) -> Iterator[_T | None]:
        deadline = time.monotonic() + limit_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                item, end = self._arrived.get(timeout=max(0.0, min(left_s, PULSE_S)))
            except Empty:
                if left_s <= PULSE_S:
                    raise Stalled from None
                yield None
                continue
            if end is None:
                yield item
                deadline = time.monotonic() + limit_s
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
            if self._on_end is not None:
                self._on_end()
        except BaseException as error:  # noqa: BLE001 - not swallowed: raised again in the thread that waits
            end = error
        close = getattr(self._source, "close", None)
        if close is not None and self._abandoned.is_set():
            with suppress(Exception):  # nobody waits for what goes wrong while hanging up
                close()
        self._arrived.put((None, end))


class _Measured(httpx2.SyncByteStream):
    """A response body that may not grow without bound, neither as a whole nor in one event."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, *, model: str, largest_event: int) -> None:
        if not isinstance(stream, httpx2.SyncByteStream):
            raise TypeError(f"expected a synchronous response body, got {type(stream).__name__}")
        self._stream = stream
        self._model = model
        self._largest_event = largest_event

    def __iter__(self) -> Iterator[bytes]:
        total = event = 0
        for data in self._stream:
            total += len(data)
            newline = data.rfind(b"\n")
            event = event + len(data) if newline < 0 else len(data) - newline
            if total > LARGEST_ANSWER_BYTES or event > self._largest_event:
                raise EndpointError(
                    model=self._model,
                    reason_en=f"it sent more than an answer can hold ({total / 2**20:.0f} MB)",
                    reason_ja=f"回答として大きすぎるデータ（{total / 2**20:.0f} MB）が届きました",
                )
            yield data

    def close(self) -> None:
        self._stream.close()
