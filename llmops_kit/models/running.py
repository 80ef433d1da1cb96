"""What runs on one model at this moment: newcomers whose prompts are being read, and the rows that take every step together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import SimpleQueue

from llmops_kit.errors import EngineStopped, KitError, ModelRefused
from llmops_kit.models.batch import Lane, Network, Row, group_prompts, read_prompts
from llmops_kit.models.requests import GenerationRequest
from llmops_kit.models.sampling import Sampler

log = logging.getLogger(__name__)

_CROWD = 8  # answers at once, from which on a reader is woken …
_CROWD_PAUSE_S = 0.04  # … only this often: forty threads that are woken for every token take a part of the processor from the next one
_SHORTEST_LANE_TOKENS = 512
_LANE_FACTOR = 4  # rows of a lane differ in final length at most by this factor: what a row can lose to its neighbours' width


class Task:
    """A request under way. Its tokens, or the error that ends it, arrive in `inbox`."""

    def __init__(self, request: GenerationRequest, *, max_tokens: int, stop_ids: frozenset[int]) -> None:
        self.request = request
        self.max_tokens = max_tokens
        self.stop_ids = stop_ids
        self.inbox: SimpleQueue[tuple[int, ...] | BaseException] = SimpleQueue()
        self.unsent: list[int] = []
        self.sent_at = 0.0
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


class RunningBatch:
    """The tasks that hold a place. For the engine's thread alone; `tell` hears of every task that leaves, with its error if it did not simply end."""

    def __init__(self, network: Network, model_id: str, *, cache_cells: int, prefill_tokens: int, tell: Callable[[Task, KitError | None], None]) -> None:
        self._network = network
        self._model_id = model_id
        self._cache_cells = cache_cells
        self._prefill_tokens = prefill_tokens
        self._tell = tell
        self._joining: list[Task] = []
        self._running: dict[Row, Task] = {}
        self._lanes: dict[int, Lane] = {}

    @property
    def tasks(self) -> list[Task]:
        """Everything that holds a place."""
        return [*self._joining, *self._running.values()]

    def fits(self, task: Task) -> bool:
        """Whether the attention cache has room for the task beside what runs, all of them at their full length. Alone, everything fits."""
        lanes: dict[int, list[int]] = {}
        for one in (*self.tasks, task):
            lanes.setdefault(one.lane_tokens, []).append(one.reserved_tokens)
        return not self.tasks or sum(len(tokens) * max(tokens) for tokens in lanes.values()) <= self._cache_cells

    def add(self, task: Task) -> None:
        """Give the task a place; its prompt is read next."""
        task.started_at = time.monotonic()
        self._joining.append(task)

    def release(self, task: Task, error: KitError | None = None) -> None:
        """Free the task's place."""
        task.row.past = None
        if self._running.pop(task.row, None) is None:
            self._joining.remove(task)
        for lane in self._lanes.values():
            if task.row in lane.rows:
                lane.leave(task.row)
        self._tell(task, error)

    def clear(self) -> None:
        """Begin with an empty batch, whatever state this one is in."""
        self._joining, self._running, self._lanes = [], {}, {}

    def read_prompts(self) -> None:
        """Read prompts of newcomers, as many as come between two steps; whose prompt is read to its end joins a lane."""
        by_row = {task.row: task for task in self._joining}
        for rows in group_prompts(list(by_row), self._prefill_tokens):
            try:
                cache = read_prompts(self._network, rows, self._prefill_tokens)
            except Exception as error:  # what one group breaks is its own
                log.exception("The engine of %s could not read %d prompts.", self._model_id, len(rows))
                for row in rows:
                    self.release(by_row[row], stopped(self._model_id, f"{type(error).__name__}: {error}"))
                continue
            for place, row in enumerate(rows):
                task = by_row[row]
                if row.length < len(row.prompt_ids):
                    continue
                self._joining.remove(task)
                self._running[row] = task
                if self._deliver(task):
                    self._lanes.setdefault(task.lane_tokens, Lane(self._network)).join(row, cache, place)

    def step(self) -> int:
        """One more token for everybody; gives how many there were."""
        count = 0
        for lane in self._lanes.values():
            if lane.rows:
                lane.step()
                count += len(lane.rows)
                for row in list(lane.rows):
                    self._deliver(self._running[row])
        return count

    def _deliver(self, task: Task) -> bool:
        """Hand over the token that was chosen. False where it was the last."""
        row = task.row
        if not row.is_finite:
            self.release(task, self._not_finite())
            return False
        task.written += 1
        task.unsent.append(row.unread)
        ends = row.unread in task.stop_ids or task.written >= task.max_tokens
        now = time.monotonic()
        if ends or task.written == 1 or len(self._running) < _CROWD or now - task.sent_at >= _CROWD_PAUSE_S:
            task.inbox.put(tuple(task.unsent))
            task.unsent.clear()
            task.sent_at = now
        if ends:
            self.release(task)
        return not ends

    def _not_finite(self) -> ModelRefused:
        return ModelRefused(
            en=f"The model “{self._model_id}” was refused: its weights give numbers that are not finite (NaN). Load or train it again.",
            ja=f"モデル「{self._model_id}」は使えません：重みの計算結果が有限の数になりません（NaN）。読み込みまたは学習をやり直してください。",
            model=self._model_id,
            reason="not finite",
        )


def stopped(model_id: str, reason: str) -> EngineStopped:
    """The error of those whose answer was being written when something broke."""
    return EngineStopped(model=model_id, reason=reason)
