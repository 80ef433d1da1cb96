"""From token ids to shown text: every finished character at once, never a part of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character (yet)
_LONGEST_CHARACTER_TOKENS = 4  # a UTF-8 character has at most 4 bytes, so 4 one-byte tokens
_WINDOW_TOKENS = 24  # decode at most about this many tokens again for each new one


class Decoder(Protocol):
    """The one verb of a tokenizer that is needed here."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """The text of the ids."""
        ...


class Detokenizer:
    """Turns a growing list of token ids into text pieces whose sum is the decoded list.

    A token may hold part of a character (byte-level and byte-fallback vocabularies), and how a token reads may depend
    on the one before it (leading spaces). So a window of recent tokens is decoded anew for each token, and what is
    new in it is given out except for bytes at its end that may still become a character.
    """

    def __init__(self, tokenizer: Decoder) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = ""  # what of the window's text was given out
        self._settled_tokens = 0  # of the window: up to here the text was given out without a rest
        self._waiting_tokens = 0

    def push(self, token: int) -> str:
        """The characters that `token` finished."""
        self._window.append(token)
        self._waiting_tokens += 1
        text = self._read_window()
        finished = text.rstrip(UNFINISHED)
        if len(finished) == len(text):
            piece = text[len(self._shown) :]
            self._settle(text)
            return piece
        if self._waiting_tokens >= _LONGEST_CHARACTER_TOKENS:
            return self._give_up_oldest()
        piece = finished[len(self._shown) :]
        if piece:
            self._shown = finished
            self._waiting_tokens = 1
        return piece

    def _give_up_oldest(self) -> str:
        """Show the oldest waiting token as unreadable: with this many bytes after it, it cannot become a character."""
        rest = _LONGEST_CHARACTER_TOKENS - 1
        piece = self._read(self._window[:-rest])[len(self._shown) :]
        self._window, self._shown, self._settled_tokens = self._window[-rest:], "", 0
        self._waiting_tokens = rest
        return piece

    def _read_window(self) -> str:
        """The window's text; without its settled part where bad bytes would change what was already shown.

        (A byte-fallback decoder reads a whole run of bytes as unreadable if one of them is wrong.)
        """
        text = self._read(self._window)
        if 0 < self._settled_tokens < len(self._window) and not text.startswith(self._shown) and text.rstrip(UNFINISHED) != text:
            self._window, self._shown, self._settled_tokens = self._window[self._settled_tokens :], "", 0
            text = self._read(self._window)
        return text

    def _settle(self, text: str) -> None:
        """Note that the whole window is shown; keep only its last group of tokens once it is long."""
        self._waiting_tokens = 0
        if len(self._window) > _WINDOW_TOKENS:
            self._window = self._window[self._settled_tokens :]
            text = self._read(self._window)
        self._shown, self._settled_tokens = text, len(self._window)

    def _read(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class TextFilter:
    """Lets text through piece by piece up to the first stop text, with a newline token turned into line breaks.

    The end of a piece that may be the beginning of a stop text or of the newline token is held back until it is clear.
    `stopped` is True once a stop text was met; nothing is given out from then on.
    """

    def __init__(self, stops: Sequence[str] = (), *, newline_token: str | None = None, strip_leading_newline: bool = False) -> None:
        self.stopped = False
        self._stops = tuple(stops)
        self._newline_token = newline_token
        self._markers = (*self._stops, *((newline_token,) if newline_token else ()))
        self._at_start = strip_leading_newline
        self._held = ""

    def push(self, piece: str) -> str:
        """What of `piece`, and of what was held back before it, may be shown now."""
        if self.stopped or not piece:
            return ""
        text = self._replace_newlines(self._held + piece)
        if self._at_start:
            text = text.lstrip("\r\n")
            self._at_start = not text
        cut = min((place for stop in self._stops if (place := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.stopped, self._held = True, ""
            return text[:cut]
        keep = max((_overlap(text, marker) for marker in self._markers), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, at the end of the answer."""
        rest, self._held = self._held, ""
        return "" if self.stopped else rest

    def _replace_newlines(self, text: str) -> str:
        return text.replace(self._newline_token, "\n") if self._newline_token else text


def _overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` are a beginning of `marker`, though not all of it."""
    longest = min(len(marker) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(marker[:size])), 0)
