"""Labels: names that stand on a version and move."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from llmops_kit.errors import InvalidValue
from llmops_kit.types import LabelMove

LATEST = "latest"
"""The label that always stands on the newest version."""
_LABEL = re.compile(r"\w+(-\w+)*")
_MAX_CHARS = 60


def normalize_label(label: str) -> str:
    """The one spelling of a label: NFKC, lower case."""
    return unicodedata.normalize("NFKC", label).strip().lower()


def check_label(label: str) -> str:
    """`label` in its one spelling, if it may be moved. Raises `InvalidValue`."""
    label = normalize_label(label)
    if label == LATEST:
        raise InvalidValue(
            name="label",
            value=label,
            en="The label “latest” always stands on the newest version and cannot be moved. Use another one, for example production.",
            ja="ラベル「latest」は常に最新のバージョンに付き、動かせません。別のラベル（例：production）を使ってください。",
        )
    if not _LABEL.fullmatch(label) or len(label) > _MAX_CHARS:
        raise InvalidValue(name="label", value=label[:_MAX_CHARS], allowed="a–z 0–9 _ -, 日本語")
    return label


def find_standing(moves: Iterable[LabelMove]) -> dict[str, dict[str, int]]:
    """Prompt name → label → version, from moves in newest-first order."""
    standing: dict[str, dict[str, int]] = defaultdict(dict)
    for move in moves:
        standing[move.name].setdefault(move.label, move.version)
    return standing
