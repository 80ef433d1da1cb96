"""Names that stand for raters in what leaves the workspace: the same person has the same one, and nobody can compute it without the key.

key = pseudonym_key(store)
pseudonym(key, "Hanako")        # "rater-5b1f09c3"

The key is kept in the workspace and nowhere else; whoever deletes the workspace makes its pseudonyms anonymous.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Protocol

from llmops_kit.types import Note

KEY_NOTE = "pseudonym_key"
_HEX_DIGITS = 8     # 32 bits: with 1,000 raters two share a pseudonym once in 8,600 workspaces


class Notes(Protocol):
    """Where the key is kept: the store, which keeps the first record appended under an id."""

    def append(self, record: Any) -> bool:
        """Keep `record` unless its id is there already."""

    def find(self, kind: type[Any], *, id: str) -> list[Any]:
        """The records with this id."""


def pseudonym_key(store: Notes) -> bytes:
    """The workspace's secret of 32 bytes, made at the first call. Two calls at once agree: the first one written stays.

    Raises: `WorkspaceError` where there is none yet and the disk refuses to keep one.
    """
    kept = store.find(Note, id=KEY_NOTE)
    if not kept:
        store.append(Note(KEY_NOTE, secrets.token_hex(32)))
        kept = store.find(Note, id=KEY_NOTE)
    return bytes.fromhex(kept[0].value)


def pseudonym(key: bytes, rater: str) -> str:
    """`rater-` and the first 8 hex digits of HMAC-SHA256 (RFC 2104) of the rater's id under `key`."""
    return "rater-" + hmac.new(key, rater.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_HEX_DIGITS]
