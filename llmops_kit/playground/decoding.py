"""Bytes of a text file → text, in the right one of the encodings Japanese files come in, or a refusal. Never a guess."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from llmops_kit.errors import InvalidValue, UnknownName, UnreadableFile

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
JIS_ESCAPE = re.compile(rb"\x1b(?:\$[@B]|\$\([D-Q]|\([IJ])")
_HALF_WIDTH_MARKS = "｡｢｣､･"
_KNOWN = "utf-8, cp932 (Shift_JIS), euc_jp, iso2022_jp, utf-16, latin-1"


def decode_text(data: bytes, *, file: str, encoding: str | None = None) -> tuple[str, str]:
    """The text of `data` and the name of its encoding.

    With `encoding` that one, strictly. Without: byte order mark, ISO-2022-JP escape, then strictly UTF-8, cp932 and
    EUC-JP. Bytes that two of them read as different, equally plausible text are refused, as are files that mix
    encodings, hold NUL, or only look like cp932 (Latin-1 letters do).

    Raises: `UnreadableFile` asking for the encoding; `InvalidValue` for an encoding that does not exist.
    """
    if encoding is not None:
        text, name = _decode_as(data, file=file, encoding=encoding), encoding
    else:
        text, name = _detect(data, file)
    if "\x00" in text:
        en = "it holds NUL bytes, as binary files and UTF-16 without its mark do"
        raise _refusal(file, en, "NULバイトを含んでいます（バイナリーか、BOMのないUTF-16です）")
    return text.removeprefix("\ufeff"), name


def _decode_as(data: bytes, *, file: str, encoding: str) -> str:
    try:
        if isinstance(text := codecs.decode(data, encoding, "strict"), str):
            return text
    except UnicodeDecodeError as fault:
        raise _refusal(file, f"it is not {encoding} (byte {fault.start + 1:,})", f"{encoding}ではありません（{fault.start + 1:,}バイト目）") from fault
    except (LookupError, ValueError, TypeError):
        pass  # no such codec, or one that is not for text: said below
    raise InvalidValue(name="encoding", value=encoding, allowed=_KNOWN)


def _detect(data: bytes, file: str) -> tuple[str, str]:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _decode_as(data, file=file, encoding=name), name
    if JIS_ESCAPE.search(data) and not any(byte > 0x7F for byte in data):
        for name in ("iso2022_jp", "iso2022_jp_ext", "iso2022_jp_3"):
            if (text := _strict(data, name)) is not None:
                return text, name
        raise _refusal(file, "its ISO-2022-JP is damaged or cut off", "ISO-2022-JPとして壊れているか、途中で切れています")
    if (text := _strict(data, "utf-8")) is not None:
        return text, "utf-8"
    if _holds_japanese_utf8_lines(data):
        raise _refusal(file, "it is UTF-8 in some lines and not in others, or cut off", "UTF-8の行とそうでない行が混ざっているか、途中で切れています")
    return _choose(_strict(data, "cp932"), _strict(data, "euc_jp"), file)


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _choose(cp932: str | None, euc_jp: str | None, file: str) -> tuple[str, str]:
    """The reading that is Japanese. EUC-JP kana read as cp932 are half-width marks and katakana in turns."""
    if euc_jp is not None and everyday_share(euc_jp) >= 0.5 and (cp932 is None or _share(cp932, _HALF_WIDTH_MARKS) >= 0.2):
        return euc_jp, "euc_jp"
    if cp932 is not None and euc_jp is None and everyday_share(cp932) >= 0.5:
        return cp932, "cp932"
    raise _refusal(file, "its character encoding could not be told for certain", "文字コードを確実に判別できませんでした")


def _holds_japanese_utf8_lines(data: bytes) -> bool:
    """Whether a line of a file that is not UTF-8 is UTF-8 all the same, with characters only Japanese text has."""
    for line in data.splitlines():
        if not line.isascii() and (text := _strict(line, "utf-8")) is not None and any("\u3000" <= sign <= "\u9fff" for sign in text):
            return True
    return False


def _share(text: str, signs: str) -> float:
    return _measure_share(text, lambda sign: sign in signs)


def everyday_share(text: str) -> float:
    """Share of the non-ASCII characters that everyday Japanese text is made of.

    Kana, full-width forms, symbols and the kanji of JIS level 1. Latin-1 text that happens to be valid cp932 comes
    out as rare kanji (lead bytes from 0xE0) and private-use characters instead.
    """
    return _measure_share(text, _is_everyday)


def _measure_share(text: str, belongs: Callable[[str], bool]) -> float:
    """Share of the non-ASCII characters that `belongs` accepts; asked once per different character."""
    others = {sign: count for sign, count in Counter(text).items() if sign > "\x7f"}
    return sum(count for sign, count in others.items() if belongs(sign)) / max(1, sum(others.values()))


def _is_everyday(sign: str) -> bool:
    if "\u4e00" <= sign <= "\u9fff":
        code = sign.encode("cp932", "replace")
        return len(code) == 2 and code < b"\x98\x73"  # the last kanji of JIS level 1 is 腕, 0x9872
    return unicodedata.category(sign) not in ("Co", "Cc", "Cn")


def absent(name: str, *, en: str, ja: str, known: Iterable[str]) -> UnknownName:
    """The error that says which `name` is not there; `en` and `ja` are the words for its kind."""
    listed = ", ".join(known) or "–"
    return UnknownName(
        en=f"There is no {en} named “{name}”. Known: {listed}.",
        ja=f"{ja}「{name}」は見つかりません。使えるもの：{listed}。",
        kind=en,
        name=name,
        known=listed,
    )


def refused(file: str, reason_en: str, reason_ja: str, *, line: int = 0) -> UnreadableFile:
    """The error that says why `file` was not read, with the usual next step. `line` is where in it, from 1 (0: nowhere in particular)."""
    return UnreadableFile(
        en=f"“{file}” could not be read: {reason_en}. {UnreadableFile.next_step['en']}",
        ja=f"「{file}」を読めませんでした：{reason_ja}。{UnreadableFile.next_step['ja']}",
        file=file,
        reason={"en": reason_en, "ja": reason_ja},
        line=line,
    )


def _refusal(file: str, reason_en: str, reason_ja: str) -> UnreadableFile:
    return UnreadableFile(
        en=f"“{file}” could not be read: {reason_en}. Choose its encoding ({_KNOWN}), or save it as UTF-8 and upload it again.",
        ja=f"「{file}」を読めませんでした：{reason_ja}。文字コード（{_KNOWN}）を選ぶか、UTF-8で保存してもう一度アップロードしてください。",
        file=file,
        reason=reason_en,
    )
