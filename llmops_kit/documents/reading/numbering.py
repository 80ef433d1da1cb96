"""The numbers Word counts and draws itself ("第3条", "1.2", "①"): they are not in the text of a paragraph, but people cite them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_DIGITS = "〇一二三四五六七八九"
_IROHA = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセスン"
_AIUEO = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


@dataclass
class _Level:
    style: str  # ST_NumberFormat of ECMA-376 part 1, 17.18.59
    pattern: str  # "第%1条": %n stands for the number of level n
    start: int


@dataclass
class Numbering:
    """Counts the numbered paragraphs of one document in their order."""

    lists: dict[str, dict[int, _Level]] = field(default_factory=dict)  # by w:numId
    families: dict[str, str] = field(default_factory=dict)  # lists of one w:abstractNum count on together
    counts: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def from_part(cls, root: Any) -> Numbering:
        """Read the element `w:numbering` of a document; None gives a numbering without lists."""
        numbering = cls()
        if root is None:
            return numbering
        abstract = {each.get(W + "abstractNumId"): each for each in root.findall(W + "abstractNum")}
        for each in root.findall(W + "num"):
            number, family = each.get(W + "numId", ""), _value(each.find(W + "abstractNumId"))
            levels = _levels(abstract[family]) if family in abstract else {}
            overrides = each.findall(W + "lvlOverride")
            for override in overrides:
                at = _number(override.get(W + "ilvl"), 0)
                for own in override.findall(W + "lvl"):
                    levels[at] = _level(own)
                start = override.find(W + "startOverride")
                if start is not None and at in levels:
                    levels[at].start = _number(_value(start), 1)
            numbering.lists[number] = levels
            numbering.families[number] = f"{family}/{number}" if overrides else family
        return numbering

    def count(self, number: str, level: int) -> str:
        """The mark of the next paragraph of list `number`: "第3条", "- " for a bullet; "" where the list shows none."""
        levels = self.lists.get(number)
        if not levels or level not in levels or not 0 <= level <= 8:
            return ""
        counts = self.counts.setdefault(self.families[number], [0] * 9)
        for above in range(level):
            counts[above] = counts[above] or (levels[above].start if above in levels else 1)
        counts[level] = counts[level] + 1 if counts[level] else levels[level].start
        counts[level + 1 :] = [0] * (8 - level)
        if levels[level].style == "bullet":
            return "- "
        if levels[level].style == "none":
            return ""
        mark = levels[level].pattern
        for at, each in levels.items():
            mark = mark.replace(f"%{at + 1}", write_number(counts[at] or each.start, each.style))
        return f"{mark} " if mark else ""


def _levels(abstract: Any) -> dict[int, _Level]:
    return {_number(each.get(W + "ilvl"), 0): _level(each) for each in abstract.findall(W + "lvl")}


def _level(element: Any) -> _Level:
    start = _number(_value(element.find(W + "start")), 1)
    return _Level(_value(element.find(W + "numFmt")) or "decimal", _value(element.find(W + "lvlText")), start)


def _value(element: Any) -> str:
    return "" if element is None else str(element.get(W + "val") or "")


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else otherwise


def write_number(number: int, style: str) -> str:
    """`number` in a number format of Word; one that is not known here is written as `decimal`."""
    match style:
        case "decimalZero":
            return f"{number:02d}"
        case "decimalFullWidth" | "decimalFullWidth2":
            return str(number).translate(_FULL_WIDTH)
        case "lowerLetter" | "upperLetter" if number > 0:
            letters = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 % 20 + 1)
            return letters if style == "lowerLetter" else letters.upper()
        case "lowerRoman" | "upperRoman" if 0 < number < 4000:
            return _roman(number) if style == "lowerRoman" else _roman(number).upper()
        case "decimalEnclosedCircle" | "decimalEnclosedCircleChinese" if 1 <= number <= 20:
            return chr(0x2460 + number - 1)
        case "aiueoFullWidth" | "aiueo" if 1 <= number <= len(_AIUEO):
            return _AIUEO[number - 1]
        case "irohaFullWidth" | "iroha" if 1 <= number <= len(_IROHA):
            return _IROHA[number - 1]
        case "japaneseCounting" | "chineseCounting" | "chineseCountingThousand" | "japaneseLegal" if 0 < number < 10_000:
            return _kanji(number)
        case "japaneseDigitalTenThousand" | "ideographDigital":
            return "".join(_DIGITS[int(digit)] for digit in str(number))
    return str(number)


def _roman(number: int) -> str:
    written = ""
    for value, sign in _ROMAN:
        written += sign * (number // value)
        number %= value
    return written


def _kanji(number: int) -> str:
    written = ""
    for value, sign in ((1000, "千"), (100, "百"), (10, "十")):
        digit, number = divmod(number, value)
        written += ("" if digit == 1 else _DIGITS[digit]) + sign if digit else ""
    return written + (_DIGITS[number] if number else "")
