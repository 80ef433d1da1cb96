"""Log-likelihoods of given continuations, many at once: what multiple-choice evaluation asks of a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from llmops_kit.models.batch import Network, pad_left
from llmops_kit.models.requests import Score, ScoreRequest

_BATCH_TOKENS = 2048  # padded tokens of one forward pass: it comes between two tokens of the people who are being answered
_MOST_LOGITS = 32_000_000  # numbers the output layer may give at once (128 MB)


class ScoreJob:
    """The continuations of one caller, scored batch by batch, the shortest first so that little is padded."""

    def __init__(self, requests: Sequence[ScoreRequest]) -> None:
        self.cancelled = False
        self.requests = requests
        self._open = sorted(range(len(requests)), key=lambda number: -_length(requests[number]))
        self._scores: dict[int, Score] = {}
        self._error: BaseException | None = None
        self._over = threading.Event()
        if not requests:
            self._over.set()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to score."""
        return not self._open

    def put(self, error: BaseException) -> None:
        """End with an error."""
        self._error = error
        self._open = []
        self._over.set()

    def wait(self, look: Callable[[], None]) -> list[Score]:
        """The scores, in the order of the requests; `look` is called every second until they are there."""
        while not self._over.wait(1.0):
            look()
        if self._error is not None:
            raise self._error
        return [self._scores[number] for number in range(len(self.requests))]

    def advance(self, network: Network) -> None:
        """Score the next batch."""
        chosen = [self._open.pop()]
        keep = len(self.requests[chosen[0]].continuation_ids) + 1
        while self._open:
            following = self.requests[self._open[-1]]
            keep_then = max(keep, len(following.continuation_ids) + 1)
            rows = len(chosen) + 1
            if rows * _length(following) > _BATCH_TOKENS or rows * keep_then * network.vocabulary > _MOST_LOGITS:
                break
            keep = keep_then
            chosen.append(self._open.pop())
        for number, score in zip(chosen, score_batch(network, [self.requests[number] for number in chosen], keep=keep), strict=True):
            self._scores[number] = score
        if self.is_done:
            self._over.set()


def score_batch(network: Network, requests: Sequence[ScoreRequest], *, keep: int) -> list[Score]:
    """The scores of a batch in one forward pass; `keep` is one more than the longest continuation.

    Sequences stand flush right, so the logits at the last places before the end are those that foretell the continuation.
    """
    rows = [(*one.prompt_ids, *one.continuation_ids) for one in requests]
    ids, mask, positions = pad_left(network, rows)
    logits = network.forward(ids, mask, positions, None, [one.adapter for one in requests], keep=keep)
    scores = []
    for row, one in enumerate(requests):
        count = len(one.continuation_ids)
        foretold = logits[row, -count - 1 : -1].log_softmax(-1)
        wanted = network.tensor(one.continuation_ids)
        values = foretold.gather(1, wanted[:, None])[:, 0].tolist()
        scores.append(Score(tuple(values), bool((foretold.argmax(-1) == wanted).all())))
    return scores


def _length(request: ScoreRequest) -> int:
    return len(request.prompt_ids) + len(request.continuation_ids)
