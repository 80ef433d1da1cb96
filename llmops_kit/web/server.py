"""Serving the app: a port reserved before anything heavy loads, an address shown when it answers, a stop that drains."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from llmops_kit.errors import PortTaken, SettingError
from llmops_kit.web.addresses import is_loopback
from llmops_kit.web.edge import EdgeState

_CLOSE_S = 2  # what ended streams get to say goodbye


def reserve(host: str, port: int) -> socket.socket:
    """A socket that listens on a loopback `host` and `port` already; connections wait in it until the app is up.

    Raises: PortTaken, SettingError.
    """
    if not is_loopback(host):
        raise SettingError(
            en=f"The app cannot listen on {host}: it has no log-in for other people yet, that comes with rooms. Use --host 127.0.0.1.",
            ja=f"{host}では待ち受けできません。ほかの人のログイン（ルーム機能）はまだありません。--host 127.0.0.1を指定してください。",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol has to be named: asyncio switches Nagle's delay (40 ms an answer) off only where it sees TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would mean sharing the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port=port, other=port + 1 if port < 65535 else port - 1) from error
        raise SettingError(name="host:port", value=f"{host}:{port}", allowed=f"127.0.0.1, 1024–65535 ({error.strerror})") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address to type into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, listener: socket.socket, *, drain_s: float, on_ready: Callable[[str], None], proxied: bool = False) -> None:
    """Serve `app` until SIGTERM or Ctrl-C; return when it has drained.

    A stop refuses new work at once, lets running answers finish for up to `drain_s` seconds, cancels what is left and
    closes the pages. A second signal does not wait. `on_ready` gets the address once a request was answered.
    `proxied`: trust the scheme a proxy on this machine reports.
    """
    AppServer(app, listener, drain_s=drain_s, on_ready=on_ready, proxied=proxied).run(sockets=[listener])


@contextlib.contextmanager
def serving(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, drain_s: float = 0.0) -> Iterator[str]:
    """Serve `app` in a thread for the length of a `with` block (a notebook, a test); gives its address.

    `port` 0 takes any free one. Raises: PortTaken, SettingError.
    """
    listener = reserve(host, port)
    ready = threading.Event()
    server = AppServer(app, listener, drain_s=drain_s, on_ready=lambda _: ready.set())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="llmops_kit app", daemon=True)
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the app stopped while it started; the log says why")
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


class AppServer(uvicorn.Server):
    """uvicorn with our stop: drain first, then close."""

    def __init__(self, app: FastAPI, listener: socket.socket, *, drain_s: float, on_ready: Callable[[str], None], proxied: bool = False) -> None:
        super().__init__(
            uvicorn.Config(
                app, lifespan="on", ws="none", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_CLOSE_S,
                proxy_headers=proxied, forwarded_allow_ips="127.0.0.1,::1",
            )
        )  # fmt: skip
        self._edge: EdgeState = app.state.edge
        self._drain_s = drain_s
        self._address = listener.getsockname()[:2]
        self._on_ready = on_ready
        self._url = address_of(listener)
        self._probe: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: stop in order. Second: at once. Neither is raised again afterwards, so the exit code stays 0."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell `on_ready` when a request has been answered."""
        await super().startup(sockets)
        self._probe = asyncio.create_task(self._announce())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, wait for what runs, end the open pages, then close."""
        for server in self.servers:
            server.close()
        self._edge.draining = True
        deadline = time.monotonic() + self._drain_s
        while self._edge.running and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.05)
        self._edge.closing.set()
        await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def _announce(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        if b" 200 " in answer.partition(b"\r\n")[0]:
            self._on_ready(self._url)
