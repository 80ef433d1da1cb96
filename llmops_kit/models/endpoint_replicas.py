"""The servers that answer for one model: how many requests each has, whose turn is next, and which one is left alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from urllib.parse import urlsplit

from llmops_kit.errors import Busy
from llmops_kit.models.fair_queue import FairQueue

PULSE_S = 0.5  # whoever waits is let go on this often, so that they can leave
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0  # of a replica that is down; doubles with each time in a row

_log = logging.getLogger(__name__)


class Replica:
    """One server. Its numbers are changed by its `Replicas` alone. Moments are those of `time.monotonic`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.in_flight = 0
        self.served = 0
        self.setbacks = 0  # times in a row it was down
        self.rests_since = self.rests_until = 0.0


class Place:
    """The right to one request at `address`, until `free`. For any thread; to free it twice does nothing."""

    def __init__(self, replicas: Replicas, replica: Replica, owner: str) -> None:
        self.address = replica.address
        self.is_freed = False
        self._replicas, self._replica, self._owner = replicas, replica, owner

    def succeed(self) -> None:
        """The server answers: it is not down, or no longer."""
        self._replicas.arrange(partial(self._replicas.clear, self._replica))

    def free(self, *, down: bool = False) -> None:
        """The request has ended; `down`: because the server is not there, so that others should not try it for a while."""
        self._replicas.arrange(partial(self._replicas.take_back, self, self._replica, self._owner, down=down))


class _Turn:
    """Somebody who waits for a place, and the servers they would rather not ask."""

    def __init__(self, avoid: Collection[str]) -> None:
        self.avoid = avoid
        self.granted = threading.Event()
        self.place: Place | None = None


class Replicas:
    """The servers of one model with at most `limit` requests in flight on each; further ones wait for `wait_s` seconds at most.

    A place goes to whoever holds the fewest, and to the server with the fewest requests. A server that is down rests:
    1 s, then twice as long each time up to 30 s, unless all of them rest; after that it gets one request at a time until it
    answers, as long as another one is sound. Shared by all threads and people: it knows nothing but who holds how many places.
    """

    def __init__(self, model: str, addresses: Sequence[str], *, limit: int = 16, wait_s: float = 120.0) -> None:
        self._model = model
        self._all = tuple(Replica(address) for address in addresses)
        self._limit, self._wait_s = limit, wait_s
        self._queue: FairQueue[_Turn] = FairQueue()
        self._changes: deque[Callable[[], object]] = deque()
        self._is_arranging = False
        self._lock = threading.RLock()

    @property
    def in_flight(self) -> dict[str, int]:
        """Requests at each address at this moment."""
        return {replica.address: replica.in_flight for replica in self._all}

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn at this moment."""
        with self._lock:
            return len(self._queue)

    def has_other(self, tried: Collection[str]) -> bool:
        """Whether a server that was not `tried` is there to be asked."""
        now = time.monotonic()
        return any(replica.address not in tried and replica.rests_until <= now for replica in self._all)

    def wait(self, owner: str = "", avoid: Collection[str] = ()) -> Generator[None, None, Place]:
        """Wait for a place, best at none of the addresses `avoid`. Gives None every half second; closing it leaves the line.

        Raises:
            Busy: the turn did not come in time.
        """
        turn = _Turn(tuple(avoid))
        deadline = time.monotonic() + self._wait_s
        try:
            self.arrange(partial(self._queue.push, owner, turn))
            while not turn.granted.is_set():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise self._busy()
                if not turn.granted.wait(min(PULSE_S, left_s)):
                    self.arrange(lambda: None)  # a rest may be over
                    yield
        except BaseException:
            self.arrange(partial(self._leave, owner, turn))
            raise
        if turn.place is None:
            raise RuntimeError("a turn was granted without a place")
        return turn.place

    def arrange(self, change: Callable[[], object]) -> None:
        """Make a change, then hand out what is free.

        One after the other: a change that comes in the middle of another, because the garbage collector closed a
        forgotten answer in this very thread, is made right after it.
        """
        self._changes.append(change)
        with self._lock:
            if self._is_arranging:
                return
            self._is_arranging = True
            try:
                while self._changes:
                    self._changes.popleft()()
                    self._hand_out()
            finally:
                self._is_arranging = False

    def clear(self, replica: Replica) -> None:
        """A change: the replica is sound."""
        replica.setbacks, replica.rests_until = 0, 0.0

    def take_back(self, place: Place, replica: Replica, owner: str, *, down: bool) -> None:
        """A change: the place is free again; where the replica is `down`, it rests."""
        if place.is_freed:
            return
        place.is_freed = True
        replica.in_flight -= 1
        self._queue.free(owner)
        if not down:
            return
        replica.rests_since = time.monotonic()
        if replica.rests_until <= replica.rests_since:  # those that fail together are one setback
            rest_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2**replica.setbacks)
            replica.setbacks += 1
            replica.rests_until = replica.rests_since + rest_s
            if len(self._all) > 1:
                _log.warning("The replica %s of %s is down and rests for %.0f s", urlsplit(replica.address).netloc, self._model, rest_s)

    def _leave(self, owner: str, turn: _Turn) -> None:
        if not self._queue.remove(owner, turn) and turn.place is not None:
            turn.place.free()

    def _hand_out(self) -> None:
        while (following := self._queue.peek(most=self._limit * len(self._all))) is not None and (free := self._find_free()):
            owner, turn = following
            self._queue.take(owner)
            replica = min(free, key=lambda one: (one.address in turn.avoid, one.in_flight, one.served))
            replica.in_flight += 1
            replica.served += 1
            turn.place = Place(self, replica, owner)
            turn.granted.set()

    def _find_free(self) -> list[Replica]:
        """The servers that may get a request now."""
        now = time.monotonic()
        awake = [replica for replica in self._all if replica.rests_until <= now]
        if not awake:
            longest_first = sorted(self._all, key=lambda replica: replica.rests_since)
            return [replica for replica in longest_first if replica.in_flight < self._limit][:1]
        some_sound = any(replica.setbacks == 0 for replica in awake)
        return [replica for replica in awake if replica.in_flight < (1 if replica.setbacks and some_sound else self._limit)]

    def _busy(self) -> Busy:
        running, limit, waiting = sum(self.in_flight.values()), self._limit * len(self._all), self.waiting
        return Busy(
            en=f"The server of “{self._model}” is busy: {running} of at most {limit} requests are being answered, {waiting} are waiting, "
            f"and this one waited {self._wait_s:g} s in vain. {Busy.next_step['en']}",
            ja=f"「{self._model}」のサーバーは混み合っています：処理中{running}件（上限{limit}件）、順番待ち{waiting}件。"
            f"{self._wait_s:g}秒待ちましたが、順番が来ませんでした。{Busy.next_step['ja']}",
            model=self._model,
            waiting=waiting,
            limit=limit,
        )
