"""One answer as its reader sees it: tokens from the engine become text, stop texts end it, closing it frees its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from queue import Empty
from typing import TYPE_CHECKING

from llmops_kit.models.decoding import Detokenizer, TextFilter
from llmops_kit.models.requests import Delta, QueuePlace
from llmops_kit.models.running import stopped

if TYPE_CHECKING:
    from llmops_kit.models.loading import LoadedModel
    from llmops_kit.models.running import Task
    from llmops_kit.models.scheduler import Scheduler

_LOOK_S = 1.0  # how often a reader that waits looks whether the engine's thread is still there


class TokenStream(Iterator[Delta]):
    """An iterator over the steps of an answer; while nothing comes, it gives an empty step every second.

    Text is made in the reader's thread, so that the engine's has none of it to do.
    """

    def __init__(self, scheduler: Scheduler, task: Task, loaded: LoadedModel) -> None:
        entry = loaded.entry
        self._scheduler = scheduler
        self._task = task
        self._model_id = entry.id
        self._characters = Detokenizer(loaded.tokenizer)
        self._shown = TextFilter(task.request.stop, newline_token=entry.newline_token, strip_leading_newline=entry.strip_leading_newline)
        self._unread: deque[int] = deque()
        self._count = 0
        self._ended = False

    @property
    def place(self) -> QueuePlace | None:
        """Where the request stands in the queue, or None once it is being answered."""
        return self._scheduler.place_of_task(self._task)

    def __next__(self) -> Delta:
        if self._ended:
            raise StopIteration
        if not self._unread:
            try:
                news = self._task.inbox.get(timeout=_LOOK_S)
            except Empty:
                self._scheduler.look_after()
                if not self._scheduler.is_under_way(self._task) and self._task.inbox.empty():
                    self._ended = True
                    raise stopped(self._model_id, "its thread ended") from None
                return Delta("", self._count)  # a sign of life, so that a reader can tell its place in the queue, or stop
            if isinstance(news, BaseException):
                self._ended = True
                raise news
            self._unread.extend(news)
        item = self._unread.popleft()
        self._count += 1
        if item in self._task.stop_ids:
            self._ended = True
            return Delta(self._shown.finish(), self._count, "stop")
        text = self._shown.push(self._characters.push(item))
        if self._shown.stopped:
            self.close()
            return Delta(text, self._count, "stop")
        if self._count >= self._task.max_tokens:
            self._ended = True
            return Delta(text + self._shown.finish(), self._count, "length")
        return Delta(text, self._count)

    def close(self) -> None:
        """Stop: the place in the batch is free at the next token."""
        if not self._ended:
            self._ended = True
            self._scheduler.cancel(self._task)

    def __del__(self) -> None:
        # A reader that went away without a word. Only a flag: the garbage collector may come in the middle of anything, with any lock held.
        # One that was read to its end is left alone: the engine may still be about to count it.
        if not self._ended:
            self._task.cancelled = True

