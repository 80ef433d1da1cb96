"""The engine's thread: who joins the running batch when, and what is computed between two tokens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import Busy, EngineStopped, KitError, ModelRefused, TimedOut
from llmops_kit.models.adapters import AdapterRack
from llmops_kit.models.batch import Lane, Network, Row, group_prompts, read_prompts
from llmops_kit.models.fair_queue import FairQueue
from llmops_kit.models.requests import EngineLoad, GenerationRequest, QueuePlace, Score, ScoreRequest
from llmops_kit.models.sampling import Sampler
from llmops_kit.models.scoring import ScoreJob
from llmops_kit.models.stop_ids import find_stop_ids

if TYPE_CHECKING:
    from llmops_kit.models.loading import LoadedModel

log = logging.getLogger(__name__)

_LINGER_S = 5.0  # an idle engine keeps its thread this long
_LOOK_S = 0.2  # and looks this often whether the program ends meanwhile
_SHORTEST_LANE_TOKENS = 512
_LANE_FACTOR = 4  # rows of a lane differ in final length at most by this factor: what a row can lose to its neighbours' width
_RATE_WINDOW_S = 5.0
_NEWEST_SHARE = 0.2  # of the newest answer in the mean time an answer takes


@dataclass(frozen=True)
class EngineLimits:
    """What an engine may use: places in the batch, requests that wait, seconds per answer, and megabytes of attention cache.

    `prefill_tokens` prompt tokens are read between two steps of those who are being answered already: more of them
    let a newcomer start earlier and make the others wait longer for their next token. `threads` 0 leaves torch's own choice.
    """

    slots: int = 64
    waiting: int = 1000
    timeout_s: float = 600.0
    cache_mb: float = 1024.0
    prefill_tokens: int = 512
    threads: int = 0


class Task:
    """A request under way. Its tokens, its error, or nothing more arrive in `inbox`."""

    def __init__(self, request: GenerationRequest, *, max_tokens: int, stop_ids: frozenset[int]) -> None:
        self.request = request
        self.max_tokens = max_tokens
        self.stop_ids = stop_ids
        self.inbox: SimpleQueue[int | BaseException] = SimpleQueue()
        self.row = Row(request.prompt_ids, Sampler(request), request.adapter)
        self.reserved_tokens = len(request.prompt_ids) + max_tokens
        self.written = 0
        self.cancelled = False
        self.asked_at = time.monotonic()
        self.started_at = 0.0
        self.deadline = float("inf")

    @property
    def lane_tokens(self) -> int:
        """The longest final length in the lane this request belongs to."""
        tokens = _SHORTEST_LANE_TOKENS
        while tokens < self.reserved_tokens:
            tokens *= _LANE_FACTOR
        return tokens


class Scheduler:
    """Requests of any number of threads on one model, computed by one thread of its own.

    The lock guards the waiting line and the lists of things to do; what runs belongs to the engine's thread alone.
    """

    def __init__(self, loaded: LoadedModel, limits: EngineLimits) -> None:
        self._model_id = loaded.entry.id
        self._limits = limits
        self._stop_ids = find_stop_ids(loaded.model, loaded.tokenizer)
        self._adapters = AdapterRack(loaded.model)
        self._network = Network(loaded.model, loaded.device, self._adapters)
        self._most_cells = max(1, int(limits.cache_mb * 1e6 / self._network.cell_bytes))
        self._lock = threading.Condition()
        self._waiting: FairQueue[Task] = FairQueue()
        self._scores: deque[ScoreJob] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._linger_s = _LINGER_S
        self._under_way: set[Task] = set()
        self._joining: list[Task] = []
        self._running: dict[Row, Task] = {}
        self._lanes: dict[int, Lane] = {}
        self._answer_s: float | None = None
        self._steps: deque[tuple[float, int]] = deque(maxlen=1000)

    # --- for any thread ------------------------------------------------------------------------------------------------

    @property
    def most_tokens(self) -> int:
        """The longest request that fits the attention cache even alone."""
        return self._most_cells

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is."""
        now = time.monotonic()
        with self._lock:
            recent = [tokens for moment, tokens in self._steps if now - moment < _RATE_WINDOW_S]
            waiting = len(self._waiting)
            return EngineLoad(len(self._under_way) - waiting, waiting, self._limits.slots, sum(recent) / _RATE_WINDOW_S)

    def place_of(self, owner: str) -> QueuePlace | None:
        """Where the owner's first waiting request stands."""
        with self._lock:
            task = self._waiting.first_of(owner)
            return None if task is None else self._place(task)

    def place_of_task(self, task: Task) -> QueuePlace | None:
        """Where this request stands; None where it does not wait."""
        with self._lock:
            return self._place(task)

    def _place(self, task: Task) -> QueuePlace | None:
        position = self._waiting.position(task.request.owner, task)
        if position is None:
            return None
        busy = len(self._running) + len(self._joining)
        if busy < self._limits.slots - position and position == 0:
            return QueuePlace(0, 0.0)
        wait_s = None if self._answer_s is None else self._answer_s * (position + 1) / max(1, min(self._limits.slots, busy))
        return QueuePlace(position, wait_s)

    def submit(self, task: Task) -> None:
        """Put a request in line. Raises `Busy` where too many wait."""
        task.deadline = task.asked_at + (task.request.timeout_s or self._limits.timeout_s)
        task.stop_ids |= self._stop_ids
        with self._lock:
            if (waiting := len(self._waiting)) >= self._limits.waiting:
                raise Busy(model=self._model_id, waiting=waiting, limit=self._limits.waiting)
            self._waiting.push(task.request.owner, task)
            self._under_way.add(task)
            self._wake()

    def cancel(self, task: Task) -> None:
        """Let a request go, whether it waits or runs."""
        with self._lock:
            task.cancelled = True
            if self._waiting.remove(task.request.owner, task):
                self._under_way.discard(task)

    def score(self, requests: Sequence[ScoreRequest], *, owner: str) -> list[Score]:
        """Score continuations and wait for it."""
        job = ScoreJob(requests)
        with self._lock:
            self._scores.append(job)
            self._wake()
        try:
            return job.wait(self.look_after)
        except BaseException:
            job.cancelled = True
            raise

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter between two steps and wait for it."""
        self._order(lambda: self._adapters.load(name, folder), f"adapter {folder}")

    def drop_adapter(self, name: str) -> None:
        """Drop an adapter once nobody's answer uses it any more, and wait for that."""

        def drop() -> bool:
            if any(task.request.adapter == name for task in (*self._running.values(), *self._joining)):
                return False
            self._adapters.drop(name)
            return True

        while not self._order(drop, f"adapter {name}"):
            time.sleep(0.02)

    def retire(self) -> None:
        """Do not linger once idle."""
        with self._lock:
            self._linger_s = 0.0
            self._lock.notify_all()

    def look_after(self) -> None:
        """See to it that a thread that died is told of and replaced while there is work."""
        with self._lock:
            if self._has_work() or self._under_way:
                self._wake()

    def _order(self, what: Callable[[], Any], named: str) -> Any:
        """Have the engine's thread do something between two steps; give its result or raise its error."""
        done, outcome = threading.Event(), []

        def carry_out() -> None:
            try:
                outcome.append(what())
            except Exception as error:  # noqa: BLE001 - raised again in the thread of whoever gave the order
                outcome.append(ModelRefused(model=self._model_id, reason=f"{named}: {' '.join(str(error).split())[:300]}"))
            except BaseException:
                outcome.append(self._broken("its thread ended"))
                raise
            finally:
                done.set()

        with self._lock:
            self._orders.append(carry_out)
            self._wake()
        while not done.wait(1.0):
            self.look_after()
        if isinstance(outcome[0], KitError):
            raise outcome[0]
        return outcome[0]

    def _wake(self) -> None:
        """Tell the thread that there is work, starting it where there is none. With the lock held."""
        if self._thread is None or not self._thread.is_alive():
            if self._thread is not None:
                self._fail_all("its thread ended")
            # No daemon: torch aborts the process where the interpreter ends in the middle of a forward pass.
            self._thread = threading.Thread(target=self._work, name=f"engine {self._model_id}")
            self._thread.start()
        self._lock.notify_all()

    def _has_work(self) -> bool:
        return bool(len(self._waiting) or self._scores or self._orders)

    # --- the engine's thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        import torch

        if self._limits.threads:
            torch.set_num_threads(self._limits.threads)
        with torch.inference_mode():
            while self._wait_for_work():
                try:
                    self._turn()
                except Exception as error:
                    log.exception("The engine of %s failed and goes on without the answers it was writing.", self._model_id)
                    self._fail_all(f"{type(error).__name__}: {error}")

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do; False where nothing came for a while, or the program ends."""
        until = time.monotonic() + self._linger_s
        with self._lock:
            while threading.main_thread().is_alive():
                if self._under_way or self._has_work():
                    return True
                if self._linger_s == 0 or time.monotonic() >= until:
                    self._thread = None
                    return False
                self._lock.wait(_LOOK_S)
        self._fail_all("the program ends")
        return False

    def _turn(self) -> None:
        """Everything between one token and the next."""
        while self._orders:
            self._orders.popleft()()
        self._let_go()
        self._admit()
        if self._joining:
            self._read_some()
        for lane in list(self._lanes.values()):
            self._step(lane)
        if self._scores:
            self._score_some()

    def _let_go(self) -> None:
        """Free the places of what was cancelled or took too long."""
        now = time.monotonic()
        for task in [*self._joining, *self._running.values()]:
            if task.cancelled:
                self._release(task)
            elif now > task.deadline:
                self._release(task, self._timed_out(task, now))
        with self._lock:
            for task in [task for task in self._waiting if task.cancelled or now > task.deadline]:
                self._waiting.remove(task.request.owner, task)
                self._under_way.discard(task)
                if not task.cancelled:
                    task.inbox.put(self._timed_out(task, now))

    def _timed_out(self, task: Task, now: float) -> TimedOut:
        return TimedOut(model=self._model_id, waited_s=round(now - task.asked_at), tokens=task.written)

    def _admit(self) -> None:
        """Give free places to whoever is next. One that does not fit the memory yet holds up the line, so that it is not overtaken for ever."""
        slots = self._limits.slots
        with self._lock:
            while len(self._running) + len(self._joining) < slots:
                found = self._waiting.peek(most=max(1, slots - slots // 4))  # a quarter stays free for people who have none
                if found is None or not self._has_memory_for(found[1]):
                    return
                task = self._waiting.take(found[0])
                task.started_at = time.monotonic()
                self._joining.append(task)

    def _has_memory_for(self, task: Task) -> bool:
        under_way = [*self._running.values(), *self._joining]
        if not under_way:
            return True
        lanes: dict[int, list[int]] = {}
        for one in (*under_way, task):
            lanes.setdefault(one.lane_tokens, []).append(one.reserved_tokens)
        return sum(len(tokens) * max(tokens) for tokens in lanes.values()) <= self._most_cells

    def _read_some(self) -> None:
        """Read prompts of newcomers, a group at a time; whose prompt is read to its end joins a lane."""
        by_row = {task.row: task for task in self._joining}
        for rows in group_prompts(list(by_row), self._limits.prefill_tokens):
            try:
                cache = read_prompts(self._network, rows, self._limits.prefill_tokens)
            except Exception as error:  # what one group breaks is its own
                log.exception("The engine of %s could not read %d prompts.", self._model_id, len(rows))
                for row in rows:
                    self._release(by_row[row], self._broken(f"{type(error).__name__}: {error}"))
                continue
            for place, row in enumerate(rows):
                task = by_row[row]
                if row.length < len(row.prompt_ids):
                    continue
                self._joining.remove(task)
                self._running[row] = task
                if self._deliver(task):
                    self._lanes.setdefault(task.lane_tokens, Lane(self._network)).join(row, cache, place)

    def _step(self, lane: Lane) -> None:
        if not lane.rows:
            return
        lane.step()
        with self._lock:
            self._steps.append((time.monotonic(), len(lane.rows)))
        for row in list(lane.rows):
            self._deliver(self._running[row])

    def _deliver(self, task: Task) -> bool:
        """Hand over the token that was chosen. False where it was the last."""
        row = task.row
        if not row.is_finite:
            self._release(task, self._not_finite())
            return False
        task.written += 1
        task.inbox.put(row.unread)
        if row.unread in task.stop_ids or task.written >= task.max_tokens:
            self._release(task)
            return False
        return True

    def _release(self, task: Task, error: KitError | None = None) -> None:
        """Free a task's place, and tell its reader why if it did not simply end."""
        if self._running.pop(task.row, None) is not None:
            for lane in self._lanes.values():
                if task.row in lane.rows:
                    lane.leave(task.row)
                    break
        else:
            self._joining.remove(task)
        if error is not None:
            task.inbox.put(error)
        with self._lock:
            self._under_way.discard(task)
            self._waiting.free(task.request.owner)
            if error is None and not task.cancelled:
                took_s = time.monotonic() - task.started_at
                self._answer_s = took_s if self._answer_s is None else (1 - _NEWEST_SHARE) * self._answer_s + _NEWEST_SHARE * took_s

    def _fail_all(self, reason: str) -> None:
        """Tell everybody whose answer was being written, and start with an empty batch. Who waits goes on waiting."""
        self._joining, self._running, self._lanes = [], {}, {}
        with self._lock:
            tasks = self._under_way.difference(self._waiting)
            self._under_way -= tasks
            self._waiting.free_all()
            scores = list(self._scores)
            self._scores.clear()
        for task in tasks:
            task.inbox.put(self._broken(reason))
        for job in scores:
            job.put(self._broken(reason))

    def _broken(self, reason: str) -> EngineStopped:
        return EngineStopped(model=self._model_id, reason=reason)

    def _not_finite(self) -> ModelRefused:
        return ModelRefused(
            en=f"The model “{self._model_id}” was refused: its weights give numbers that are not finite (NaN). Load or train it again.",
            ja=f"モデル「{self._model_id}」は使えません：重みの計算結果が有限の数になりません（NaN）。読み込みまたは学習をやり直してください。",
            model=self._model_id,
            reason="not finite",
        )

    def _score_some(self) -> None:
        """One batch of the scoring job whose turn it is."""
        with self._lock:
            job = self._scores.popleft()
        if job.cancelled:
            return
        try:
            job.advance(self._network)
        except BaseException as error:
            job.put(self._broken(f"{type(error).__name__}: {error}"))
            if not isinstance(error, Exception):
                raise
            log.exception("The engine of %s could not score.", self._model_id)
            return
        if not job.is_done:
            with self._lock:
                self._scores.append(job)
