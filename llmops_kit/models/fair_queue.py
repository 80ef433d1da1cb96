"""A waiting line that is fair between people: whoever has the fewest places gets the next one, however many requests they have waiting."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items waiting, by owner, and how many places each owner holds. Not safe between threads: its user brings the lock."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Item]] = {}
        self._held: Counter[str] = Counter()
        self._last_turn: dict[str, int] = {}
        self._turns = count(1)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Item]:
        """All waiting items, owner by owner."""
        for line in self._waiting.values():
            yield from line

    def push(self, owner: str, item: Item) -> None:
        """Add an item at the end of its owner's line."""
        self._waiting.setdefault(owner, deque()).append(item)

    def peek(self, *, most: int) -> tuple[str, Item] | None:
        """The next owner and item, or None. No owner gets more than `most` places."""
        owners = [owner for owner in self._waiting if self._held[owner] < most]
        if not owners:
            return None
        owner = min(owners, key=lambda name: (self._held[name], self._last_turn.get(name, 0)))  # the first of equals came first
        return owner, self._waiting[owner][0]

    def take(self, owner: str) -> Item:
        """Take the owner's first item out and count a place as theirs until `free`."""
        item = self._waiting[owner].popleft()
        self._drop_empty(owner)
        self._held[owner] += 1
        self._last_turn[owner] = next(self._turns)
        return item

    def free(self, owner: str) -> None:
        """Give back one of the owner's places."""
        self._held[owner] -= 1
        if self._held[owner] <= 0:
            del self._held[owner]
            if owner not in self._waiting:
                self._last_turn.pop(owner, None)  # nothing of people who are gone is kept

    def free_all(self) -> None:
        """Give back every place."""
        for owner in list(self._held.elements()):
            self.free(owner)

    def remove(self, owner: str, item: Item) -> bool:
        """Take an item out that is not wanted any more. False where it is not waiting."""
        line = self._waiting.get(owner)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._drop_empty(owner)
        if owner not in self._waiting and owner not in self._held:
            self._last_turn.pop(owner, None)
        return True

    def position(self, owner: str, item: Item) -> int | None:
        """How many items are served before this one if nobody else comes and no place is given back (0: it is next); None where it is not waiting."""
        line = self._waiting.get(owner)
        if line is None or item not in line:
            return None
        turns = [(self._held[name], self._last_turn.get(name, 0), number, name) for number, name in enumerate(self._waiting)]
        heapify(turns)
        left = {name: len(waiting) for name, waiting in self._waiting.items()}
        wanted, last = line.index(item), max(self._last_turn.values(), default=0)
        for position in count():
            held, _, number, name = heappop(turns)
            if name == owner and not wanted:
                return position
            wanted -= name == owner
            left[name] -= 1
            if left[name]:
                heappush(turns, (held + 1, last + position + 1, number, name))
        return None

    def first_of(self, owner: str) -> Item | None:
        """The owner's first waiting item."""
        line = self._waiting.get(owner)
        return line[0] if line else None

    def _drop_empty(self, owner: str) -> None:
        if not self._waiting[owner]:
            del self._waiting[owner]
