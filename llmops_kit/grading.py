"""Short answers beside the expected ones. Every measure gives 1 for what is perfect, Japanese included.

grade("3営業日前まで", "３営業日前まで。").exact           # 1.0
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass

_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_POLITE = re.compile(r"(?:です|でした|である|だ|になります|となります|まで)+$")


@dataclass(frozen=True)
class Grade:
    """An answer beside the expected one, each 0 to 1: `exact` match, `lenient` match (without です and the like), and overlap `f1`."""

    exact: float
    lenient: float
    f1: float


def normalise_answer(text: str) -> str:
    """An answer as it is compared: NFKC, lower case, without punctuation, white space joined; without English articles.

    This is what the SQuAD 1.1 evaluation script does (Rajpurkar et al. 2016), with Unicode's punctuation in place of ASCII's, so that
    「」 and 。 go too, as in the scripts for JSQuAD.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(" " if sign in string.punctuation or unicodedata.category(sign)[0] in "PC" else sign for sign in re.sub(r"(?<=\d),(?=\d{3})", "", plain))
    words = _ARTICLES.sub(" ", plain).split()
    return ("" if _JAPANESE.search(plain) else " ").join(words)


def grade(answer: str, expected: str) -> Grade:
    """Exact match and F1 against the best line of `expected` (one acceptable answer per line).

    F1 = 2 · shared / (given + wanted), counted in characters where the expected answer has Japanese, in words otherwise
    (JGLUE and SQuAD do so). Nothing expected and nothing given is a match.
    """
    wanted = [line for line in expected.splitlines() if line.strip()] or [""]
    each = [_grade(normalise_answer(answer), normalise_answer(line)) for line in wanted]
    return Grade(max(one.exact for one in each), max(one.lenient for one in each), max(one.f1 for one in each))


def _grade(given: str, wanted: str) -> Grade:
    exact = float(given == wanted)
    lenient = float(_POLITE.sub("", given) == _POLITE.sub("", wanted))
    characters = _JAPANESE.search(wanted) is not None
    one, other = (list(text.replace(" ", "")) if characters else text.split() for text in (given, wanted))
    if not one or not other:
        return Grade(exact, lenient, exact)
    shared = sum((Counter(one) & Counter(other)).values())
    return Grade(exact, lenient, 2 * shared / (len(one) + len(other)))
