r"""Where a text may be cut: after sentences, lines, table rows; and, where a sentence is too long, between words.

    sentences("休暇は10日です。「はい。」と答えた。\n| 氏名 | 日数 |\n")      # [(0, 9), (9, 20), (20, 31)]

Every cut is lossless: the pieces, joined, are the text, white space included. No dictionary and no model is needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import regex

Span = tuple[int, int]

_OPENERS, _CLOSERS = "「『（(〈《【［[〔｛{“", "」』）)〉》】］]〕｝}”"
_AFTER = f"{re.escape(_CLOSERS)}\"'’"                     # what still belongs to the sentence that has just ended
_ENDING = re.compile(f"[。｡．！？!?‼⁇⁈⁉.：:][{_AFTER}]*\\s*$")
_MARK = re.compile(f"[{re.escape(_OPENERS)}]|[{re.escape(_CLOSERS)}]|(?P<end>[。｡！？‼⁇⁈⁉!?]+|[．.]+)[{_AFTER}]*")
_BLANKS = re.compile(r"[^\S\n]*(?:\n(?:[^\S\n]*\n)*)?")   # the rest of the line and the empty lines after it
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ROW = re.compile(r"^\s*[|｜]|[^\S\n][|｜][^\S\n]|\S[ \u3000]{0,8}\t")
_FENCE = re.compile(r"[^\S\n]{0,3}(?:```|~~~)")
_INDENTED = re.compile(r"(?: {4}|\t)[^\S\n]*\S")
# A line that begins like this begins something new: indentation, a bullet, a number, a heading, a quotation.
_FRESH = re.compile(
    r"\s|[-*+•・●○■□◆◇▶▪※→①-⑳#>|｜【〔]|第[\d一二三四五六七八九十百]+[章節条項編款]|[(（]?[\dA-Za-zア-ン一二三四五六七八九十]{1,3}[)）.．、]"
)
_WORDY = re.compile(r"[^\W\d_]{2}")
_WRAPPED_BYTES = 45             # 15 kanji or 45 letters in UTF-8: a line shorter than this was not broken by a page's width
_LIST_NUMBER = re.compile(r"(?:^|\n)[^\S\n]*\d{1,3}$")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|(?i:mr|mrs|ms|dr|st|jr|sr|vs|no|nos|vol|fig|eq|inc|ltd|co|corp|gen|col|lt|sgt|prof|rev|gov|sen|rep|ca|cf|al|approx|e\.g|i\.e|u\.s|a\.m|p\.m))$"
)
_BEGINS_EN = re.compile(r"\s+[\"'“‘(\[]*[^\Wa-z_]")      # an upper-case letter, a digit, or a letter without case
_CONTINUES = re.compile("[ぁ-ゖー、。，．,.!?！？・]")       # after a closing bracket: 「…。」と, （…。）、
_EXTENDS = regex.compile(r"[\p{M}\p{Emoji_Modifier}\u200dﾞﾟ]")

# Cuts inside a sentence that is too long, best first; none of them lies in a word or a number.
_ROW_CUT = re.compile(r"[^\S\n][|｜][^\S\n]|\t")
_CUTS = (
    re.compile(r"\n"),
    re.compile(f"[。｡！？][{_AFTER}]*(?![。｡！？{_AFTER}])"),
    re.compile(r"[、､，；;](?!(?<=\d[，])\d)|[,:：](?=\s)|…+|―+"),
    re.compile(r"\s+"),
)
_UNIT = regex.compile(
    r"""https?://[!-~]+ [\p{M}\u200d]*
    | [\w--[\p{Han}\p{Hiragana}\p{Katakana}ー]]
      (?: [\p{M}\u200d]* (?:(?<=\d)[.,:](?=\d)|['’@_./\-]+)? [\w--[\p{Han}\p{Hiragana}\p{Katakana}ー]] )* [\p{M}\u200d]*
    | [\p{Katakana}ーｰﾞﾟ] [\p{Katakana}ーｰﾞﾟ\p{M}]*
    | [\ud800-\udbff][\udc00-\udfff]
    | \X [ーｰぁぃぅぇぉゃゅょっゎ々ゝゞ]*""",
    regex.VERSION1 | regex.VERBOSE,
)
_HIRAGANA = re.compile("[ぁ-ゖ]")


def sentences(text: str, *, code: bool = False, joints: Collection[int] = ()) -> list[Span]:
    """Cut `text` into sentences, table rows and lines of code: (start, end) offsets that follow on one another.

    A sentence ends at 。！？ with the closing brackets after it, at an English full stop before a space and a new beginning, and at a
    line end, unless the line was only broken by the width of its page. Inside brackets (「はい。」と) nothing ends. The white space
    after a sentence, empty lines included, belongs to it; a table row and a line of code is always whole.

    Args:
        text: any text.
        code: every line stands for itself, as in a program.
        joints: offsets where a page ends whose last sentence may go on after it, however short its last line is.
    """
    ends: list[int] = []
    for start, end, prose in _blocks(text, code, joints):
        if prose:
            ends.extend(cut for cut in _sentence_ends(text, start, end) if start < cut < end and not is_joined(text, cut))
        ends.append(end)
    return list(zip([0, *ends], ends, strict=False))


def is_row(line: str) -> bool:
    """Whether `line` is a row of a table: cells between bars (a | b) or tabs."""
    return ("|" in line or "\t" in line or "｜" in line) and _ROW.search(line) is not None


def is_joined(text: str, cut: int) -> bool:
    """Whether `cut` would part a character from its accent, its emoji modifier or the emoji it is joined to."""
    return 0 < cut < len(text) and (_EXTENDS.match(text, cut) is not None or text[cut - 1] == "\u200d")


def split_long(text: str, start: int, end: int, *, size: int, hard: int) -> Iterator[int]:
    """The offsets where text[start:end], a sentence longer than `size` characters, is cut; `end` is the last of them.

    The last good place in the second half of each `size` characters wins: a line end, a 。 inside brackets, 、, a space, the border
    of two scripts, between two kanji or kana. A word, number, katakana run or emoji is whole up to `hard` characters.
    """
    while end - start > size:
        start = _best_cut(text, start, end, size, hard)
        yield start
    yield end


def _best_cut(text: str, start: int, end: int, size: int, hard: int) -> int:
    low, high = start + (size + 1) // 2, start + size
    row = _ROW_CUT.search(text, start, high) is not None
    for pattern in (_ROW_CUT, *_CUTS) if row else _CUTS:
        found = [match.end() for match in pattern.finditer(text, low, high) if not is_joined(text, match.end())]
        if found:
            return found[-1]
    return _cut_between_words(text, start, high, limit=min(start + hard + 1, end), hard=start + hard)


def _cut_between_words(text: str, start: int, high: int, *, limit: int, hard: int) -> int:
    best: list[int | None] = [None, None, None, None]       # by rank; the third of them is an early one
    low, place = (start + high + 1) // 2, start
    for unit in _UNIT.finditer(text, start, limit):
        place = unit.end()
        if place > high:
            break
        rank = _rank_border(text, place)
        if rank is not None and (place >= low or rank < 3):
            best[rank if place >= low else 2] = place
    chosen = next((cut for cut in best if cut is not None), None)
    if chosen is not None:
        return chosen
    return place if start < place <= hard else _inside_word(text, start, high)


def _rank_border(text: str, place: int) -> int | None:
    """0: a new phrase begins (a bracket, hiragana before another script); 1: any two words; 3: a mark would be torn from its word; None: never."""
    if is_joined(text, place):
        return None
    before, after = text[place - 1], text[place: place + 1]
    if (after and (after in _CLOSERS or after in "、。，．,.!?！？・…ー")) or before in _OPENERS:
        return 3
    phrase = before in _CLOSERS or (after and after in _OPENERS) or (_HIRAGANA.match(before) and not _HIRAGANA.match(after))
    return 0 if phrase else 1


def _inside_word(text: str, start: int, high: int) -> int:
    """A cut through something that no limit contains (base64, a line of marks): between characters as people count them, if any end."""
    place = start
    for cluster in regex.finditer(r"\X", text[start: high + 1]):
        if start + cluster.end() <= high:
            place = start + cluster.end()
    return place if place > start else high


def _blocks(text: str, code: bool, joints: Collection[int]) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it is prose): a row or a line of code by itself, lines of prose as long as one goes on in the next."""
    start, prose, fenced, line, apart = 0, False, False, "", False
    for match in _LINE.finditer(text):
        following = match[0]
        if following.isspace():
            apart = True
            continue
        fence = not code and _FENCE.match(following) is not None
        plain = not (code or fenced or fence or _INDENTED.match(following) or is_row(following))
        if line and (apart or not (prose and plain and _goes_on(line, following, match.start() in joints))):
            yield start, match.start(), prose
            start = match.start()
        line, prose, fenced, apart = following, plain, fenced != fence, False
    if start < len(text):
        yield start, len(text), prose


def _goes_on(line: str, following: str, joint: bool) -> bool:
    """Whether a line of prose was broken in the middle of a sentence: it fills its width, or its page ends, and nothing new begins."""
    if line.startswith("#") or _ENDING.search(line) or _FRESH.match(following):
        return False
    if joint:
        return _WORDY.search(line) is not None
    width = len(line.encode("utf-8", "surrogatepass"))
    return width >= _WRAPPED_BYTES and len(following.encode("utf-8", "surrogatepass")) <= 1.25 * width


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    depth = 0
    for match in _MARK.finditer(text, start, end):
        mark = match[0]
        if match["end"] is None:
            depth = depth + 1 if mark in _OPENERS else max(0, depth - 1)
            continue
        before = depth
        depth = max(0, depth - sum(mark.count(closer) for closer in _CLOSERS)) if depth else 0
        if depth or (before and _CONTINUES.match(text, match.end())) or not _is_end(text, match, end):
            continue
        blanks = _BLANKS.match(text, match.end(), end)
        yield blanks.end() if blanks else match.end()


def _is_end(text: str, match: re.Match[str], stop: int) -> bool:
    mark, after = match[0][0], text[match.end(): match.end() + 1] if match.end() < stop else ""
    if not after or (after.isspace() and mark != "."):
        return True
    if mark in "!?":
        return not after.isascii() and not (text[match.start() - 1: match.start()].isascii() and match.start() > 0)
    if mark == "．":
        return not after.isdigit() and not text[match.start() - 1: match.start()].isdigit()
    if mark == ".":
        words = text[max(0, match.start() - 12): match.start()]
        return _BEGINS_EN.match(text, match.end()) is not None and not _ABBREVIATION.search(words) and not _LIST_NUMBER.search(words)
    return after not in "、，"
