"""The log: one line per event on standard error, without any key, token or password in it."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterable
from typing import TextIO

HIDDEN = "[hidden]"
_SHAPES = (
    r"\bsk-[A-Za-z0-9_-]{8,}",  # OpenAI and its look-alikes
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bwandb_v1_[A-Za-z0-9_]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON web tokens
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user:password in an address
    r"(?<=[Bb]earer )[^\s'\",;]{6,}",
    r"""(?i:(?<![a-z])(?:api[_-]?key|(?:access|auth|refresh|session)[_-]?token|token|secret|passwd|password))['"]?\s*[=:]\s*['"]?(?P<value>[^\s'",;)}\]]{6,})""",
    r"(?:__Host-)?llmops_id_[0-9a-f]{8}=(?P<cookie>\S+)",
)
_PATTERN = re.compile("|".join(_SHAPES))


class Redactor:
    """Takes secrets out of text: whatever looks like a key, and the very values given as `known`."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = sorted({value for value in known if len(value) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """`text` with `[hidden]` in place of every secret."""
        for value in self._known:
            text = text.replace(value, HIDDEN)
        return _PATTERN.sub(_hide, text)


class RedactingFormatter(logging.Formatter):
    """Formats a record, traceback and stack included, then redacts the whole."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The finished text of `record`."""
        return self._redact(super().format(record))


class RedactingStream(io.TextIOBase):
    """Standard error for libraries that write tracebacks there by themselves; redacts line by line."""

    def __init__(self, stream: TextIO, redact: Redactor) -> None:
        super().__init__()
        self._stream = stream
        self._redact = redact
        self._pending = ""

    def write(self, text: str) -> int:
        """Take `text`; whole lines go out at once, the rest waits for its end."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._stream.write(self._redact(line) + "\n")
        return len(text)

    def flush(self) -> None:
        """Send out what was written, an unfinished line too."""
        if self._pending:
            self._stream.write(self._redact(self._pending))
            self._pending = ""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person is looking."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the real stream."""
        return self._stream.fileno()


def configure(level: str, *, known: Iterable[str] = ()) -> None:
    """Log to standard error from `level` (debug, info, warning, error) on, redacted; also redact what is written there directly.

    `known` are secrets of this process whose shape alone would not give them away.
    """
    redact = Redactor(known)
    if not isinstance(sys.stderr, RedactingStream):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(RedactingFormatter(redact))
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
        sys.stderr = RedactingStream(sys.stderr, redact)
    for chatty in ("httpx", "httpcore", "openai", "urllib3", "uvicorn", "asyncio", "PIL", "matplotlib"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _hide(found: re.Match[str]) -> str:
    secret = found["value"] or found["cookie"]
    return found[0].replace(secret, HIDDEN) if secret else HIDDEN
