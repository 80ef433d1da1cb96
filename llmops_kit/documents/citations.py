"""What an answer claims, which sentence of which source says so, and which claims nothing says.

    claims = check(run.output, run.sources, question=run.variables["question"])
    [(claim.sentence, claim.source, claim.support) for claim in claims]
    groundedness(claims)        # 0.75: three of four claims have support

A claim is supported where a sentence of a source (or two beside each other) holds enough of its words, rarer ones counting more, and
all its numbers; and the source all its names. This compares words, not meaning: a claim that swaps who did what to whom with the words of
the source passes, a good one in quite other words does not.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmops_kit.documents.injection import strip_invisible
from llmops_kit.documents.sentences import sentences
from llmops_kit.models.spans import hash_pairs
from llmops_kit.models.units import cut, fold, language_of
from llmops_kit.types import Source

UNGROUNDED = "ungrounded"
"""The flag of a Run with a claim that no source supports."""
THRESHOLD = 0.5
"""The least support of a supported claim; see docs/log.md for how it was chosen."""

_LISTED = r"\d{1,3}(?:\s*[,、，]\s*\d{1,3})*"
_MARK = re.compile(
    rf"[ \t]*(?:[\[［【](?P<bare>{_LISTED})[\]］】]|[(（\[［]\s*(?:出典|資料|参考|[Ss]ources?)\s*[:：]?\s*[\[［]?(?P<named>{_LISTED})[\]］]?\s*[)）\]］])"
)
_BULLET = re.compile(r"^[\s>]*(?:[-*+•・●○■]\s+|\d{1,3}[.)．、]\s*|#{1,6}\s+)?[*_]{0,3}")
_NO_CLAIM = re.compile(
    r"^(?:はい|いいえ|(?:以下|次|下記)の(?:通り|とおり)|資料によ(?:ると|れば)"
    r"|(?:yes|no|certainly|sure|of course)\b|here (?:is|are)\b|according to the sources?)[^\w]*(?:です|になります|answer)?[^\w]*$",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    r"(?:資料|文書|出典|情報源|テキスト|文章)[^。\n]{0,30}(?:見つかりません|見つけられません|見当たりません|ありません(?:でした)?(?:。|$)|記載されていません|書かれていません"
    r"|含まれていません|示されていません|述べられていません|記載がない|わかりません|分かりません)"
    r"|\bnot (?:found|mentioned|stated|given|provided|specified|contained|included) in (?:the|any of the|these) (?:sources?|documents?|texts?|context)"
    r"|\b(?:sources?|documents?|texts?|passages?|context) (?:do|does|did) not (?:\w+ )?(?:contain|mention|say|state|hold|provide|include|answer|specify)"
    r"|\bno (?:information|answer|mention) [^.\n]{0,40}\b(?:in|from) the (?:sources?|documents?|texts?|context)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_KANJI_NUMBER = re.compile(
    "(?<![第十百千万])[〇零一二三四五六七八九十百千][〇零一二三四五六七八九十百千万]*(?=[年月日時分秒人名円個回件歳才本枚台社点割倍章条項号か週度階つ])"
)
_KANJI_DIGITS = "〇一二三四五六七八九"
_NAME = re.compile(r"[ァ-ヴー]{2,}|(?<![A-Za-z])[A-Z][A-Za-z]+(?:[-'’][A-Za-z]+)*")
_CONTENT = {1: 0.3, 3: 1.5, 4: 1.0, 5: 1.5, 6: 1.5, 7: 2.0, 14: 2.0}    # weight by kind of unit (`models.units`): kanji alone say little
_ASKED = 0.3                    # what stood in the question already is worth this much: an answer repeats it
_UNCONFIRMED = 0.3              # the most support without one of the numbers or names
_ELSEWHERE = 0.9                # words from all over a source count a little less than those of one sentence


@dataclass(frozen=True)
class Claim:
    """One sentence of an answer and what supports it.

    `start`–`end` is its place in the answer, its marks included. `cited` are the numbers it was given by the model; `source` is
    the number (from 1) of the source that supports it best, None where none does. `quote_start`–`quote_end` is the supporting
    sentence in that source's document. `support` is 0 to 1. `is_checked` is False where claim and sources are in different languages, so
    that only numbers and names could be compared and there were none.
    """

    sentence: str
    start: int
    end: int
    cited: tuple[int, ...]
    source: int | None
    quote_start: int | None
    quote_end: int | None
    support: float
    is_supported: bool
    is_checked: bool = True

    @property
    def is_doubtful(self) -> bool:
        """Whether nothing in the sources seems to support it (根拠なしの疑い)."""
        return self.is_checked and not self.is_supported


def check(output: str, sources: Sequence[Source], *, question: str = "", threshold: float = THRESHOLD) -> list[Claim]:
    """The claims of `output`, each with the source that supports it best. A cited source that supports a claim goes before a better one.

    What stands in `question` needs less support. Headings, questions and phrases like 「以下のとおりです」 are no claims.
    """
    evidence = _Evidence(sources, question)
    return [evidence.judge(sentence, start, end, cited, threshold) for sentence, start, end, cited in _claims(output)]


def groundedness(claims: Sequence[Claim]) -> float | None:
    """Supported claims per checked claim, 0 to 1; None where there is none to check."""
    checked = [claim for claim in claims if claim.is_checked]
    return sum(claim.is_supported for claim in checked) / len(checked) if checked else None


def cite(output: str, claims: Sequence[Claim]) -> str:
    """`output` with the marks that hold: [n] after every supported claim, none that names a source that does not support it.

    The marks of a claim that nothing supports stay as they were written: the reader should see what was claimed for it.
    """
    pieces, done = [], 0
    for claim in claims:
        pieces.append(output[done: claim.start])
        written = output[claim.start: claim.end]
        if claim.source is not None and claim.cited != (claim.source,):
            written = _MARK.sub("", written)
            body = written.rstrip()
            space = "" if body[-1:] > "\u2e7f" else " "
            written = f"{body}{space}[{claim.source}]{written[len(body):]}"
        pieces.append(written)
        done = claim.end
    return "".join([*pieces, output[done:]])


def strip_marks(output: str) -> str:
    """`output` without [n], ［１］, 【1】, (出典1)."""
    return _MARK.sub("", output)


def says_not_found(text: str) -> bool:
    """Whether `text` says that the sources do not hold the answer."""
    return _NOT_FOUND.search(text) is not None


def flags_of(claims: Sequence[Claim]) -> tuple[str, ...]:
    """The flag `ungrounded` where a claim is doubtful."""
    return (UNGROUNDED,) if any(claim.is_doubtful for claim in claims) else ()


def _claims(output: str) -> Iterator[tuple[str, int, int, tuple[int, ...]]]:
    """(sentence without marks, start, end with the marks behind it, numbers cited) of every sentence that claims something."""
    marks = [(match.start(), match.end(), _numbers(match)) for match in _MARK.finditer(output)]
    plain, places = _without(output, marks)
    for start, end in sentences(plain):
        body = plain[start:end].rstrip()
        lead = len(body) - len(body.lstrip())
        sentence = _BULLET.sub("", body).strip().strip("*_ ")
        if not sentence or _NO_CLAIM.match(sentence) or sentence[-1] in "？?：:" or not any(kind in _CONTENT for kind in cut(sentence).kinds.tolist()):
            continue
        if body.lstrip().startswith("#") or says_not_found(sentence):
            continue
        first, last = places[start + lead], places[start + len(body) - 1] + 1
        following = end + len(plain[end:]) - len(plain[end:].lstrip())
        limit = places[following] if following < len(places) else len(output)
        own = [mark for mark in marks if first <= mark[0] < limit]
        cited = tuple(dict.fromkeys(number for _, _, numbers in own for number in numbers))
        yield sentence, first, max([last, *(mark[1] for mark in own)]), cited


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", unicodedata.normalize("NFKC", match["bare"] or match["named"])))


def _without(output: str, marks: Sequence[tuple[int, int, tuple[int, ...]]]) -> tuple[str, list[int]]:
    """`output` without its marks, and where each of its characters stands in `output`."""
    hidden = {place for start, end, _ in marks for place in range(start, end)}
    places = [place for place in range(len(output)) if place not in hidden]
    return "".join(output[place] for place in places), places


class _Evidence:
    """The sentences of the sources, ready to be compared with claims."""

    def __init__(self, sources: Sequence[Source], question: str) -> None:
        self._sources = [fold(source.text) for source in sources]
        self._first = [source.start or 0 for source in sources]
        self._spans = [[(start, start + len(text[start:end].rstrip())) for start, end in sentences(text)] for text in self._sources]
        self._features = [[_features(text[start:end]) for start, end in spans] for text, spans in zip(self._sources, self._spans, strict=True)]
        self._asked = _features(question)
        self._given = _numbers_in(question), _names_in(question)
        every = [one for group in self._features for one in group]
        self._frequency = Counter(key for one in every for key in one)
        self._count = len(every)

    def judge(self, sentence: str, start: int, end: int, cited: tuple[int, ...], threshold: float) -> Claim:
        """The claim with its best source; a cited one that supports it comes first."""
        features = {key: weight * self._rarity(key) * (_ASKED if key in self._asked else 1.0) for key, weight in _features(sentence).items()}
        found = [(self._support(sentence, features, place), place) for place in range(len(self._sources))]
        checked = [(support, place, span) for (support, span), place in found if support is not None]
        if not checked:
            known = next((number for number in cited if 0 < number <= len(found)), None)
            return Claim(sentence, start, end, cited, known, None, None, 0.0, False, is_checked=not found)
        good = [one for one in checked if one[0] >= threshold and one[1] + 1 in cited]
        support, place, span = max(good or checked, key=lambda one: (one[0], -one[1]))
        if support < threshold:
            return Claim(sentence, start, end, cited, None, None, None, round(support, 3), False)
        first = self._first[place]
        return Claim(sentence, start, end, cited, place + 1, first + span[0], first + span[1], round(support, 3), True)

    def _support(self, sentence: str, features: Mapping[int, float], place: int) -> tuple[float | None, tuple[int, int]]:
        """(support of one source, its best sentence); None where the languages differ and there is nothing to compare."""
        text, spans, rows = self._sources[place], self._spans[place], self._features[place]
        numbers, names = _numbers_in(sentence) - self._given[0], _names_in(sentence) - self._given[1]
        confirmed = names <= _names_in(text) | {name for name in names if name.casefold() in text.casefold()}
        if not rows:
            return 0.0, (0, 0)
        if language_of(sentence) != language_of(text):
            if not numbers and not names:
                return None, spans[0]
            within = numbers <= _numbers_in(text) and confirmed
            return 0.75 if within else _UNCONFIRMED / 2, spans[0]
        total = sum(features.values()) or 1.0
        shares = [sum(weight for key, weight in features.items() if key in row) / total for row in rows]
        asked = [sum(key in row for key in self._asked) / (len(self._asked) or 1) for row in rows]
        best = max(range(len(rows)), key=lambda one: (round(shares[one], 2) + 0.05 * asked[one], -one))
        support = 0.0
        for first, last in _neighbourhoods(len(rows)):
            keys = set().union(*rows[first: last + 1])
            share = sum(weight for key, weight in features.items() if key in keys) / total * (1.0 if last - first < 2 else _ELSEWHERE)
            if not numbers <= _numbers_in(text[spans[first][0]: spans[last][1]]) or not confirmed:
                share = min(share, _UNCONFIRMED)
            support = max(support, share)
        return support, spans[best]

    def _rarity(self, key: int) -> float:
        return math.log1p((self._count - self._frequency[key] + 0.5) / (self._frequency[key] + 0.5)) + 0.3


def _neighbourhoods(count: int) -> Iterator[tuple[int, int]]:
    """Each sentence, each two beside each other, and all of them."""
    yield from ((place, place) for place in range(count))
    yield from ((place, place + 1) for place in range(count - 1))
    yield 0, count - 1


def _features(text: str) -> dict[int, float]:
    """Words, numbers, kanji and pairs of neighbouring units of `text` as hashes, each with its weight."""
    units = cut(_digits(strip_invisible(text)))
    kinds = units.kinds.tolist()
    found = {int(id): _CONTENT[kind] for id, kind in zip(units.ids.tolist(), kinds, strict=True) if kind in _CONTENT}
    for key, left, right in zip(hash_pairs(units.ids).tolist(), kinds, kinds[1:], strict=False):
        if left in (1, 3, 7, 14) and right in (1, 3, 7, 14):
            found[-1 - int(key)] = 1.0          # below zero, so that a pair is never taken for a word
    return found


def _names_in(text: str) -> set[str]:
    """Katakana words, and capitalised Latin ones but for the first of a sentence."""
    plain = unicodedata.normalize("NFKC", text)
    return {match[0] for match in _NAME.finditer(plain) if match[0][0] > "\u2e7f" or re.search(r"[^\s.!?。「『\"“(（]\s*$", plain[: match.start()])}


def _numbers_in(text: str) -> set[str]:
    """Numbers as plain digits."""
    return {match[0].lstrip("0") or "0" for match in _NUMBER.finditer(_digits(text))}


def _digits(text: str) -> str:
    """`text` in NFKC with plain digits: no thousands separators, and kanji numerals before what they count (二十日 → 20日)."""
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", unicodedata.normalize("NFKC", text))
    return _KANJI_NUMBER.sub(lambda found: str(_read_kanji(found[0])), plain)


def _read_kanji(text: str) -> int:
    """The value of kanji numerals below 100 million: 二十三 as 23, 二〇二三 as 2023."""
    text = text.replace("零", "〇")
    if all(character in _KANJI_DIGITS for character in text):
        return int("".join(str(_KANJI_DIGITS.index(character)) for character in text))
    total = section = digit = 0
    for character in text:
        if character in _KANJI_DIGITS:
            digit = _KANJI_DIGITS.index(character)
        elif character == "万":
            total, section, digit = (section + digit or 1) * 10_000, 0, 0
        else:
            section, digit = section + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[character], 0
    return total + section + digit
