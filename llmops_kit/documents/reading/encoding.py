"""Bytes of a document → its text, strictly decoded, or a question with samples to choose from. Never text with letters lost."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from typing import Final

from llmops_kit.documents.reading.records import Asks, ReadOptions, Unreadable
from llmops_kit.errors import InvalidValue, UnreadableFile
from llmops_kit.playground.decoding import JIS_ESCAPE, decode_text, everyday_share

CANDIDATES: Final = ("utf-8", "cp932", "euc_jp", "iso2022_jp", "utf-16-le", "utf-16-be", "cp1252")
"""The encodings that are tried for a doubtful file, in the order they are offered."""

_SAMPLE_CHARACTERS = 60
_TEXT_IN_ONE_CODE = {"en": "text in one character code (several are mixed, or it is cut off)", "ja": "1つの文字コードのテキスト（混在または途中まで）"}
_BINARY = {"en": "binary data", "ja": "テキストではないバイナリー"}
_KNOWN_TEXT = {
    "en": "text in UTF-8, Shift_JIS (cp932), EUC-JP, ISO-2022-JP or UTF-16",
    "ja": "UTF-8、Shift_JIS（cp932）、EUC-JP、ISO-2022-JP、UTF-16のテキスト",
}
_ALIASES = {
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms932": "cp932",
    "ms_kanji": "cp932",
    "windows-31j": "cp932",
    "cp943c": "cp932",
    "x-euc-jp": "euc_jp",
    "unicode-1-1-utf-8": "utf-8",
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "iso-8859-1": "cp1252",  # what browsers do: https://encoding.spec.whatwg.org/#names-and-labels
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "utf-16": "utf-8",  # a declaration that can be read byte by byte is not in UTF-16 (HTML standard, "change the encoding")
    "unicode": "utf-8",
}
_ESCAPED_RUNS = re.compile(rb"(\x1b(?:\$[@B]|\(.|\$\(.))")
_KANA_OR_KANJI = re.compile("[\u3000-\u9fff]")
_NO_CHARSETS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7")  # codecs of Python that no file is written in
_LOOKED_AT = 4000  # bytes, an even number
_TEXT_CONTROLS = "\t\n\r\f\v\x1b\x85"


def decode(data: bytes, name: str, options: ReadOptions, *, hint: str | None = None) -> tuple[str, str]:
    """The text of `data` and the name of its encoding.

    `options.encoding` is obeyed, strictly. Without it: the rules of `decode_text`, then ISO-2022-JP with the vendors' signs (①, ㈱) that mails
    hold, UTF-16 without its mark, and at last `hint` (what the file says of itself), which has to decode strictly into likely text.

    Raises: `Asks` ("encoding") with the candidates that decode and a sample of each; `Unreadable` for binary data and for text that is in no
    encoding as a whole.
    """
    if options.encoding is not None:
        return _decode_as(data, name, options.encoding)
    try:
        text, encoding = decode_text(data, file=name)
    except UnreadableFile:
        text, encoding = _decode_doubtful(data, hint)
    else:
        if not _is_consistent(data, text, encoding):
            text, encoding = _decode_doubtful(data, hint)
    if _is_binary(text):
        raise _refuse_binary()
    return text, encoding


def _decode_as(data: bytes, name: str, encoding: str) -> tuple[str, str]:
    try:
        return decode_text(data, file=name, encoding=encoding)
    except InvalidValue as fault:
        raise Unreadable("unknown_encoding", encoding=encoding, allowed=list(CANDIDATES)) from fault
    except UnreadableFile as fault:
        vendor = _strict(data, "iso2022_jp") if codecs.lookup(encoding).name == "iso2022_jp" else None
        if vendor is not None:
            return vendor, encoding
        candidates = _find_candidates(data)
        if not candidates:
            raise Unreadable("broken", kind=_TEXT_IN_ONE_CODE) from fault
        raise Unreadable("wrong_encoding", encoding=encoding, suggestion=next(iter(candidates)), samples=candidates) from fault


def _is_consistent(data: bytes, text: str, encoding: str) -> bool:
    """Whether the strict reading of `data` has no sign of another encoding: bytes can be valid in one they were not written in."""
    if encoding.startswith(("utf-16", "utf-32")):
        return True
    if encoding.startswith("iso2022"):
        return "\x1b" not in text
    if JIS_ESCAPE.search(data) or _decode_whole_utf16(data[:_LOOKED_AT]):
        return False
    return encoding != "cp932" or (_is_plausible(text, encoding) and not _is_cut(data, text) and not _holds_euc_lines(data, text))


def _holds_euc_lines(data: bytes, text: str) -> bool:
    """Whether a line of what reads as cp932 is nothing but half-width kana and private signs there, and everyday Japanese as EUC-JP: two files in one."""
    if not _KANA_OR_KANJI.search(text):
        return False
    for line in data.splitlines():
        signs = "" if line.isascii() else (_strict(line, "cp932") or "")
        if len(signs) >= 4 and all("\uff61" <= sign <= "\uff9f" or "\ue000" <= sign <= "\uf8ff" for sign in signs):
            other = _strict(line, "euc_jp")
            if other is not None and everyday_share(other) >= 0.5:
                return True
    return False


def _is_cut(data: bytes, text: str) -> bool:
    """Whether what reads as cp932 is UTF-8 or EUC-JP that ends inside a character."""
    if data[-1:].isascii():
        return False  # an end of its own: every character that is cut ends in a byte above ASCII, or in the second one of Shift_JIS
    for missing in (1, 2, 3):
        if (whole := _strict(data[:-missing], "utf-8")) is not None and _KANA_OR_KANJI.search(whole):
            return True
    counts = Counter(text)
    half = sum(count for sign, count in counts.items() if "\uff61" <= sign <= "\uff9f")
    others = sum(count for sign, count in counts.items() if sign > "\x7f")
    return half >= 0.2 * others and (whole := _strict(data[:-1], "euc_jp")) is not None and everyday_share(whole) >= 0.5


def _decode_doubtful(data: bytes, hint: str | None) -> tuple[str, str]:
    if JIS_ESCAPE.search(data):
        text = _strict(data, "iso2022_jp")
        if text is None or "\x1b" in text:
            raise Unreadable("broken", kind=_TEXT_IN_ONE_CODE)
        return text, "iso2022_jp"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)):
        raise Unreadable("broken", kind=_TEXT_IN_ONE_CODE)
    if found := _decode_whole_utf16(data):
        return found
    if b"\x00" in data:
        raise _refuse_binary()
    if (cp932 := _strict(data, "cp932")) is not None and (_is_cut(data, cp932) or _holds_euc_lines(data, cp932)):
        raise Unreadable("broken", kind=_TEXT_IN_ONE_CODE)
    label = normalize_label(hint) if hint else ""
    if label in CANDIDATES and (text := _strict(data, label)) is not None and _is_likely(text, label):
        return text, label
    candidates = _find_candidates(data)
    if not candidates:
        raise Unreadable("broken", kind=_TEXT_IN_ONE_CODE)
    raise Asks("encoding", candidates=list(candidates), samples=candidates)


def _decode_whole_utf16(data: bytes) -> tuple[str, str] | None:
    """UTF-16 without its mark, where only one of the two byte orders gives text; the other one gives signs nobody writes.

    Without a zero byte (an ASCII character, or one like 一) there have to be kana: other bytes make kanji as well, but hardly these.
    """
    texts = {encoding: text for encoding in ("utf-16-le", "utf-16-be") if (text := _strict(data, encoding)) is not None and _is_plausible(text, encoding)}
    if len(texts) != 1:
        return None
    ((encoding, text),) = texts.items()
    kana = sum(count for sign, count in Counter(text).items() if "\u3041" <= sign <= "\u30fe")
    return (text, encoding) if b"\x00" in data or kana >= max(3, 0.2 * len(text)) else None


def normalize_label(label: str) -> str:
    """The codec for a charset label as mails and pages spell it (`x-sjis` → `cp932`); "" where there is none for text."""
    plain = label.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_ALIASES.get(plain, plain))
        "a".encode(found.name)
    except (LookupError, ValueError):
        return ""
    if found.name in _NO_CHARSETS:
        return ""
    return {"shift_jis": "cp932", "iso8859-1": "cp1252", "utf-16": "utf-8"}.get(found.name, found.name)


def _find_candidates(data: bytes) -> dict[str, str]:
    """Every candidate that decodes all of `data` into text without control characters, with the first sample that shows a difference."""
    texts = {encoding: text for encoding in CANDIDATES if (text := _strict(data, encoding)) is not None and _is_plausible(text, encoding)}
    return {encoding: _sample(text) for encoding, text in texts.items()}


def _sample(text: str) -> str:
    """A short piece around the first characters that are not ASCII."""
    found = re.search(r"[^\x00-\x7f]", text)
    start = max(0, found.start() - 10) if found else 0
    return " ".join(text[start : start + _SAMPLE_CHARACTERS].split())


def _is_plausible(text: str, encoding: str) -> bool:
    """No control characters, and signs such as text in the encoding has: nearly any bytes decode as UTF-16 or cp1252."""
    counts = Counter(text)
    if any(unicodedata.category(sign) in ("Cc", "Cn", "Cs") and sign not in _TEXT_CONTROLS for sign in counts) or "\x1b$" in text:
        return False
    if encoding == "cp932":
        return not any(sign in "\x80\uf8f0\uf8f1\uf8f2\uf8f3" for sign in counts)  # bytes that stand for nothing in Shift_JIS
    if encoding == "cp1252":
        return sum(count for sign, count in counts.items() if sign > "\x7f") <= 0.2 * len(text)
    if encoding.startswith("utf-16"):
        common = {sign: count for sign, count in counts.items() if sign <= "\x7f" or "\u3000" <= sign <= "\u30ff" or "\u4e00" <= sign <= "\u9fff"}
        return (text.isascii() or everyday_share("".join(common)) >= 0.5) and sum(common.values()) >= 0.9 * len(text)
    return True


def _is_likely(text: str, encoding: str) -> bool:
    """Whether a file's own word about its encoding is to be believed."""
    return _is_plausible(text, encoding) and (encoding == "cp1252" or everyday_share(text) >= 0.5)


def _is_binary(text: str) -> bool:
    """More than one control character in a hundred, or a NUL."""
    counts = Counter(text[:200_000])
    controls = sum(count for sign, count in counts.items() if unicodedata.category(sign) == "Cc" and sign not in _TEXT_CONTROLS)
    return "\x00" in text or controls > max(2, 0.01 * sum(counts.values()))


def _refuse_binary() -> Unreadable:
    return Unreadable("unknown_format", suffix=_BINARY, allowed=_KNOWN_TEXT)


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return _decode_vendor_jis(data) if encoding == "iso2022_jp" else None


def _decode_vendor_jis(data: bytes) -> str | None:
    """ISO-2022-JP as mail programs write it (CP50221): rows 13 and 89–119 of the vendors and half-width katakana. Python has no codec for it.

    A pair of bytes moves to Shift_JIS by the formula of JIS X 0208:1997, annex 1, and is then read as cp932.
    """
    if not data.isascii():
        return None
    mode, pieces = b"\x1b(B", []
    for run in _ESCAPED_RUNS.split(data):
        if _ESCAPED_RUNS.fullmatch(run):
            mode = run
        elif (piece := _decode_run(run, mode)) is None:
            return None
        else:
            pieces.append(piece)
    return "".join(pieces)


def _decode_run(run: bytes, mode: bytes) -> str | None:
    try:
        if mode in (b"\x1b$B", b"\x1b$@"):
            whole = bytes(each | 0x80 for each in run)
            try:
                return whole.decode("euc_jp")  # keeps 〜 and − as the standard codec for mails reads them
            except UnicodeDecodeError:
                return _to_shift_jis(run).decode("cp932")
        if mode == b"\x1b(I":
            return bytes(each | 0x80 for each in run).decode("cp932")
        return run.decode("ascii") if mode in (b"\x1b(B", b"\x1b(J") else None
    except (UnicodeDecodeError, ValueError):
        return None


def _to_shift_jis(run: bytes) -> bytes:
    if len(run) % 2 or any(not 0x21 <= each <= 0x7E for each in run):
        raise ValueError("no pairs of JIS X 0208")
    moved = bytearray()
    for first, second in zip(run[::2], run[1::2], strict=True):
        lead = (first - 0x21) // 2 + 0x81
        moved.append(lead + 0x40 if lead > 0x9F else lead)
        moved.append(second + 0x7E if first % 2 == 0 else second + 0x1F + (second >= 0x60))
    return bytes(moved)


def clean(text: str) -> str:
    r"""`text` with `\n` for every line end, as one page: it ends with `\n`. What no store takes (NUL, half a surrogate pair) becomes U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
    return text if text.endswith("\n") else text + "\n"
