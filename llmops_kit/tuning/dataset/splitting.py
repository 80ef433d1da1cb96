"""Which rows are kept for evaluation: the same ones every time, and nothing that stands nearly the same among those trained on."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from llmops_kit.errors import InvalidValue
from llmops_kit.tuning.dataset.rows import Example

_LARGEST_GROUP = 0.5  # of all rows; a larger group shares a form or a prompt, not its content, and can be cut


def split_examples(
    examples: tuple[Example, ...], similar: Sequence[tuple[int, int]], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training and evaluation rows of `examples`, of which the places in `similar` resemble each other; see `Dataset.split`.

    Raises: `InvalidValue` for a share outside 0 to 0.5.
    """
    if not 0 <= share <= 0.5:
        raise InvalidValue(name="eval_share", value=share, allowed="0–0.5")
    wanted = max(1, round(share * len(examples))) if share > 0 and len(examples) > 1 else 0
    groups = _group(examples, similar)
    if len(groups) < 2:
        groups = [[place] for place in range(len(examples))]
    kept: set[int] = set()
    for group in sorted(groups, key=lambda group: _draw(seed, examples[group[0]].id)):
        if len(kept) + len(group) <= wanted or (not kept and wanted and len(group) < len(examples) / 2):
            kept.update(group)
    if wanted and not kept:
        kept = {min(range(len(examples)), key=lambda place: _draw(seed, examples[place].id))}
    train = tuple(each for place, each in enumerate(examples) if place not in kept)
    return train, tuple(each for place, each in enumerate(examples) if place in kept)


def _group(examples: tuple[Example, ...], similar: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Places of rows that belong on one side, each place once."""
    leader = list(range(len(examples)))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    links = list(similar)
    for same in _same_prompt(examples) + _same_item(examples):
        links += [(same[0], other) for other in same[1:]]
    for first, second in links:
        one, two = sorted((find(first), find(second)))
        leader[two] = one
    groups: dict[int, list[int]] = defaultdict(list)
    for place in range(len(examples)):
        groups[find(place)].append(place)
    limit = max(1.0, _LARGEST_GROUP * len(examples))
    return [part for group in groups.values() for part in ([group] if len(group) <= limit else [[place] for place in group])]


def _same_prompt(examples: tuple[Example, ...]) -> list[list[int]]:
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, each in enumerate(examples):
        found[tuple(unicodedata.normalize("NFKC", turn.content).strip() for turn in each.prompt)].append(place)
    return _useful(list(found.values()), len(examples))


def _same_item(examples: tuple[Example, ...]) -> list[list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(examples):
        if each.item:
            found[each.item].append(place)
    return _useful(list(found.values()), len(examples))


def _useful(groups: list[list[int]], count: int) -> list[list[int]]:
    return [group for group in groups if 1 < len(group) <= max(1.0, _LARGEST_GROUP * count)]


def _draw(seed: int, id: str) -> bytes:
    """A number that orders rows at random, the same for a row and a seed whatever the other rows are."""
    return hashlib.sha256(f"{seed}:{id}".encode()).digest()
