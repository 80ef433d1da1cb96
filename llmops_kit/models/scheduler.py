"""The engine's thread: who joins the running batch when, and what is computed between two tokens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import Busy, KitError, ModelRefused, TimedOut, UnknownName
from llmops_kit.models.adapters import AdapterRack, import_peft
from llmops_kit.models.batch import Network
from llmops_kit.models.fair_queue import FairQueue
from llmops_kit.models.pace import Pace
from llmops_kit.models.requests import EngineLimits, EngineLoad, QueuePlace, Score, ScoreRequest
from llmops_kit.models.running import RunningBatch, Task, stopped
from llmops_kit.models.scoring import ScoreJob
from llmops_kit.models.stop_ids import find_stop_ids

if TYPE_CHECKING:
    from llmops_kit.models.loading import LoadedModel

log = logging.getLogger(__name__)

_LINGER_S = 5.0  # an idle engine keeps its thread this long
_LOOK_S = 0.2  # and looks this often whether the program ends meanwhile


class Scheduler:
    """Requests of any number of threads on one model, computed by one thread of its own.

    The lock guards the waiting line and the lists of things to do; what runs belongs to the engine's thread alone.
    """

    def __init__(self, loaded: LoadedModel, limits: EngineLimits) -> None:
        self._model_id = loaded.entry.id
        self._limits = limits
        self._stop_ids = find_stop_ids(loaded.model, loaded.tokenizer)
        self._adapters = AdapterRack(loaded.model)
        self._network = Network(loaded.model, loaded.device, self._adapters, threads=limits.threads)
        self.most_tokens = max(1, int(limits.cache_mb * 1e6 / self._network.cell_bytes))
        """The longest request that fits the attention cache even alone."""
        self._batch = RunningBatch(
            self._network, self._model_id, cache_cells=self.most_tokens, prefill_tokens=limits.prefill_tokens, tell=self._end
        )
        self._lock = threading.Condition()
        self._waiting: FairQueue[Task] = FairQueue()
        self._scores: deque[ScoreJob] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._linger_s = _LINGER_S
        self._under_way: set[Task] = set()
        self._pace = Pace()

    # --- for any thread ------------------------------------------------------------------------------------------------

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is."""
        with self._lock:
            waiting = len(self._waiting)
            return EngineLoad(len(self._under_way) - waiting, waiting, self._limits.slots, self._pace.tokens_per_s)

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
        held = [other for other in self._under_way if other.started_at]
        return QueuePlace(position, self._pace.expect_wait_s(position, held, slots=self._limits.slots))

    def submit(self, task: Task) -> None:
        """Put a request in line. Raises `Busy` where too many wait."""
        task.deadline = task.asked_at + (task.request.timeout_s or self._limits.timeout_s)
        task.stop_ids |= self._stop_ids
        with self._lock:
            if len(self._waiting) >= self._limits.waiting:
                self._forget_cancelled()
            if (waiting := len(self._waiting)) >= self._limits.waiting:
                raise Busy(model=self._model_id, waiting=waiting, limit=self._limits.waiting)
            self._waiting.push(task.request.owner, task)
            self._under_way.add(task)
            self._wake()

    def cancel(self, task: Task) -> None:
        """Let a request go, whether it waits or runs. Only a flag: the garbage collector may close a forgotten answer in the middle of anything."""
        task.cancelled = True

    def is_under_way(self, task: Task) -> bool:
        """Whether the task waits or runs."""
        return task in self._under_way

    @property
    def is_busy(self) -> bool:
        """Whether anything is to be answered or scored."""
        return bool(self._under_way or self._scores)

    def _forget_cancelled(self) -> None:
        for task in [task for task in self._waiting if task.cancelled]:
            self._waiting.remove(task.request.owner, task)
            self._under_way.discard(task)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Score continuations and wait for it. Several callers take turns, batch by batch."""
        job = ScoreJob(requests)
        with self._lock:
            self._scores.append(job)
            self._wake()
        try:
            return job.wait(self.look_after)
        except BaseException:
            job.cancelled = True
            raise

    def has_adapter(self, name: str) -> bool:
        """Whether the adapter is loaded."""
        return name in self._adapters.held

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter between two steps and wait for it."""
        import_peft()
        self._order(lambda: self._adapters.load(name, folder), f"adapter {folder}")

    def drop_adapter(self, name: str) -> None:
        """Drop an adapter once nobody's answer uses it any more, and wait for that."""

        def drop() -> bool:
            with self._lock:
                used = {task.request.adapter for task in self._under_way} | {one.adapter for job in self._scores for one in job.requests}
            if name in used:
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
                outcome.append(stopped(self._model_id, "its thread ended"))
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
        self._carry_out_orders()
        self._fail_all("the program ends", waiting=True)
        return False

    def _carry_out_orders(self) -> None:
        while self._orders:
            try:
                self._orders[0]()
            finally:
                self._orders.popleft()

    def _turn(self) -> None:
        """Everything between one token and the next."""
        self._carry_out_orders()
        self._let_go()
        self._admit()
        self._batch.read_prompts()
        tokens = self._batch.step()
        with self._lock:
            self._pace.note_step(tokens)
        if self._scores:
            self._score_some()

    def _let_go(self) -> None:
        """Free the places of what was cancelled or took too long."""
        now = time.monotonic()
        for task in self._batch.tasks:
            if task.cancelled:
                self._batch.release(task)
            elif now > task.deadline:
                self._batch.release(task, self._timed_out(task, now))
        with self._lock:
            self._forget_cancelled()
            for task in [task for task in self._waiting if now > task.deadline]:
                task.inbox.put(self._timed_out(task, now))
                self._waiting.remove(task.request.owner, task)
                self._under_way.discard(task)

    def _timed_out(self, task: Task, now: float) -> TimedOut:
        return TimedOut(model=self._model_id, waited_s=round(now - task.asked_at), tokens=task.written)

    def _admit(self) -> None:
        """Give free places to whoever is next. One that does not fit the memory yet holds up the line, so that it is not overtaken for ever."""
        slots = self._limits.slots
        with self._lock:
            while len(self._batch.tasks) < slots:
                found = self._waiting.peek(most=max(1, slots - slots // 4))  # a quarter stays free for people who have none
                if found is None or not self._batch.fits(found[1]):
                    return
                task = self._waiting.take(found[0])
                if task.request.adapter is None or self.has_adapter(task.request.adapter):
                    self._batch.add(task)
                else:  # dropped while it waited; PEFT would answer with the bare model
                    self._end(task, UnknownName(kind="adapter", name=task.request.adapter, known="kit.models.loaded()"))

    def _end(self, task: Task, error: KitError | None) -> None:
        """A task has left the batch: tell its reader why if it did not simply end, and keep the account."""
        if error is not None:
            task.inbox.put(error)
        with self._lock:
            self._under_way.discard(task)
            self._waiting.free(task.request.owner)
            if error is None and not task.cancelled:
                self._pace.note_answer(task)

    def _fail_all(self, reason: str, *, waiting: bool = False) -> None:
        """Tell everybody whose answer was being written, and start with an empty batch. Who waits goes on waiting, unless they are to be told too."""
        with self._lock:
            self._batch.clear()
            tasks = set(self._under_way) if waiting else self._under_way.difference(self._waiting)
            for task in tasks:  # told first, forgotten after: who is killed in between has told some of them twice
                task.inbox.put(stopped(self._model_id, reason))
            for job in self._scores:
                job.put(stopped(self._model_id, reason))
            self._under_way -= tasks
            self._waiting.free_all()
            self._scores.clear()
            if waiting:
                self._waiting = FairQueue()

    def _score_some(self) -> None:
        """One batch of the scoring job whose turn it is."""
        job = self._scores[0]
        try:
            if not job.cancelled:
                job.advance(self._network)
        except BaseException as error:
            job.put(stopped(self._model_id, f"{type(error).__name__}: {error}"))
            if not isinstance(error, Exception):
                raise
            log.exception("The engine of %s could not score.", self._model_id)
        with self._lock:
            if job.cancelled or job.is_done:
                self._scores.remove(job)
            else:
                self._scores.rotate(-1)
