"""How one token reads on its own."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SENTENCEPIECE_SPACE = "▁"


def read_token(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    """The token's text; bytes that are no character by themselves as `<0xF0>`, one after the other."""
    token = str(tokenizer.convert_ids_to_tokens(int(number)))
    if _BYTE.fullmatch(token):
        return token
    if token.startswith(_SENTENCEPIECE_SPACE):
        return token.replace(_SENTENCEPIECE_SPACE, " ")
    text = str(tokenizer.decode([int(number)], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if "\ufffd" not in text:
        return text
    table = _byte_of_character()
    return "".join(f"<0x{table[character]:02X}>" for character in token) if all(character in table for character in token) else token


@cache
def _byte_of_character() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for (the table of GPT-2's tokenizer)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in set(plain)]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}
