"""Which faults of a model server pass by themselves, and how long to wait before it is asked again.

The waiting is done here, as the client's own retries (and tenacity's) sleep where closing the answer cannot wake them,
ask the same server again, and spread less: at most a quarter off a fixed time. So the client is told to try once.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from llmops_kit.models.endpoint_replicas import PULSE_S

PATIENCE_S = 20.0  # a server that asks to come back later than this is not waited for
_PASSING = frozenset((429, 500, 502, 503, 504))
_DOWN = frozenset((502, 503, 504))  # not 429, which may concern one key, nor 500, which may concern one request
_BROKEN_WIRE = frozenset(("ConnectError", "ConnectTimeout", "ReadError", "WriteError", "RemoteProtocolError"))
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


@dataclass(frozen=True)
class Setback:
    """A fault that may pass: the seconds the server asked to be left alone (0: it did not say), and whether it is down for everybody."""

    wait_s: float = 0.0
    is_down: bool = False


def read_setback(error: BaseException) -> Setback | None:
    """What `error` says about trying again; None where that would not help."""
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        if error.status_code not in _PASSING or headers.get("x-should-retry") == "false" or error.code == "insufficient_quota":
            return None
        return Setback(read_wait_s(headers), is_down=error.status_code in _DOWN)
    if isinstance(error, openai.APIConnectionError):
        causes = tuple(find_causes(error))
        is_refused = any(isinstance(cause, ssl.SSLError) for cause in causes)
        return Setback(is_down=True) if not is_refused and any(type(cause).__name__ in _BROKEN_WIRE for cause in causes) else None
    return None


def read_wait_s(headers: Mapping[str, str]) -> float:
    """The seconds a Retry-After header asks for, given as a number or as a date; 0 where there is none, or none that can be read."""
    said = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(said)) if said.lower() not in ("nan", "inf", "infinity") else 0.0
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    return 0.0


def draw_pause_s(tries: int) -> float:
    """Seconds until the next try after `tries` of them: anything up to 0.5, 1, 2, 4, 8 s, so that those who failed together come back apart."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (tries - 1)))


def pause(seconds: float) -> Iterator[None]:
    """Wait, giving None every half second; closing it ends the wait."""
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(left_s, PULSE_S))
        yield


def find_causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
