"""A request to the servers of one model: a place in line, another try after a fault that passes, and faults in the kit's words."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from llmops_kit.errors import KitError, ModelNotReady
from llmops_kit.models.catalogue import OPENAI_URL, ModelEntry
from llmops_kit.models.endpoint_faults import Server, explain_fault
from llmops_kit.models.endpoint_replicas import Place, Replicas
from llmops_kit.models.endpoint_retry import PATIENCE_S, Setback, draw_pause_s, pause, read_setback
from llmops_kit.models.endpoint_wire import Wire
from llmops_kit.settings import secret

_NO_KEY = "not-needed"  # the client wants a key; servers without one ignore it

_T = TypeVar("_T")


@dataclass
class Progress:
    """How far one try came. `shown`: somebody has seen part of it, so it is not sent again. `finished`: nothing is missing."""

    shown: bool = False
    finished: bool = False


@dataclass(frozen=True)
class _Failure:
    """Why a try failed, and what speaks for another."""

    fault: KitError
    setback: Setback | None


@dataclass(frozen=True)
class Caller:
    """Sends requests to the servers of `entry`. Times are seconds: to reach a server, and how long it may stay silent.

    A request that failed for a passing reason before anything of it was shown is sent up to `retries` times more.
    """

    entry: ModelEntry
    replicas: Replicas
    wire: Wire
    connect_timeout_s: float
    request_timeout_s: float
    retries: int
    owner: str = ""

    def send(self, ask: Callable[[str], Iterator[_T]], key: str, note: Callable[[_T, Progress], object]) -> Generator[_T | None, None, None]:
        """What the server at the address given to `ask` sends, and None now and then while there is nothing; closing it hangs up.

        `note` reads each item for how far the answer is. `key` is kept out of what errors say.

        Raises:
            Busy: its turn did not come in time.
            EndpointError: no server answered, or none completely.
        """
        tried: list[str] = []
        while True:
            place = yield from self.replicas.wait(self.owner, tried[-1:])
            tried.append(place.address)
            failure = yield from self._try_at(place, ask, self.server(key, place.address, tries=len(tried)), note)
            if failure is None:
                return
            pause_s = self._find_pause(failure.setback, tried)
            if pause_s is None:
                break
            yield from pause(pause_s)
        # Raised here and without its past: the client's errors hold the request, and the request the key.
        fault = failure.fault
        fault.__context__ = fault.__cause__ = None
        raise fault

    def _try_at(
        self, place: Place, ask: Callable[[str], Iterator[_T]], server: Server, note: Callable[[_T, Progress], object]
    ) -> Generator[_T | None, None, _Failure | None]:
        """Send the request to one server and give its items; what went wrong is the value of the whole."""
        answered, progress = False, Progress()
        setback: Setback | None = None
        try:
            with closing(self.wire.watch(ask(place.address), on_end=place.free)) as items:
                for item in items:
                    if item is not None:
                        if not answered:
                            place.succeed()
                        answered = True
                        note(item, progress)
                    yield item
            if progress.finished:
                return None
            setback = None if progress.shown else Setback()
            return _Failure(server.fault("it broke off before the answer was complete", "回答の途中で接続が切れました"), setback)
        except Exception as error:
            fault = explain_fault(error, server)
            if not isinstance(fault, KitError):
                raise
            setback = None if progress.shown else read_setback(error)
            return _Failure(fault, setback)
        finally:
            place.free(down=setback is not None and setback.is_down)

    def _find_pause(self, setback: Setback | None, tried: Sequence[str]) -> float | None:
        """Seconds until the next try; None where there is none."""
        if setback is None or len(tried) > self.retries:
            return None
        pause_s = draw_pause_s(len(tried))
        if self.replicas.has_other(tried):  # what this server asked for holds for this server
            return pause_s
        return setback.wait_s + pause_s if setback.wait_s <= PATIENCE_S else None

    def server(self, key: str, address: str, *, tries: int = 1) -> Server:
        """The server at `address` as an error names it."""
        return Server(
            model=self.entry.id,
            remote_name=self.entry.model,
            address=urlsplit(address).netloc,
            key=key,
            connect_timeout_s=self.connect_timeout_s,
            request_timeout_s=self.request_timeout_s,
            tries=tries,
        )


def is_openai(entry: ModelEntry) -> bool:
    """Whether OpenAI itself answers for the entry."""
    return entry.addresses[0].startswith(OPENAI_URL)


def read_key(entry: ModelEntry, given: str | None) -> str:
    """The key of a call: the one `given`, else that of the environment variable the entry names, read at this moment.

    Raises:
        ModelNotReady: the server needs a key and there is none, or it has characters that cannot be sent.
    """
    name = entry.api_key_env or ("OPENAI_API_KEY" if is_openai(entry) else None)
    key = given if given is not None else secret(name) if name else _NO_KEY
    key = (key or "").strip()
    if not key and name is None:
        return _NO_KEY
    if not key:
        raise ModelNotReady(
            en=f"The model “{entry.id}” needs a key. Enter it in the model panel, or set the environment variable {name}.",
            ja=f"モデル「{entry.id}」にはキーが必要です。モデルパネルに入力するか、環境変数{name}を設定してください。",
            model=entry.id,
            reason=f"no key ({name})",
        )
    if not (key.isascii() and key.isprintable()):
        raise ModelNotReady(
            en=f"The key for “{entry.id}” has characters no key has. Copy it again.",
            ja=f"「{entry.id}」のキーに使えない文字が含まれています。もう一度コピーしてください。",
            model=entry.id,
            reason="unreadable key",
        )
    return key
