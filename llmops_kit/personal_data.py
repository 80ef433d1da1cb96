"""Personal data in a text: e-mail addresses, phone numbers, My Numbers, card numbers, postal addresses.

    find_personal_data("連絡先は０９０－１２３４－５６７８です")      # [PersonalData(kind="phone", start=4, end=17, text="０９０－…")]

Made to raise few false alarms: a number must have the right length and check digit, and where any number could pass for it, a word beside it
must say what it is. It misses names, and whatever is written in an unusual way; finding nothing proves nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

PersonalKind = Literal["email", "phone", "my_number", "card", "address"]
LABELS: dict[PersonalKind, dict[str, str]] = {
    "email": {"en": "e-mail address", "ja": "メールアドレス"},
    "phone": {"en": "phone number", "ja": "電話番号"},
    "my_number": {"en": "My Number (individual number)", "ja": "マイナンバー（個人番号）"},
    "card": {"en": "credit card number", "ja": "クレジットカード番号"},
    "address": {"en": "postal address", "ja": "住所"},
}
"""What each kind is called."""

_HINT = re.compile(r"[\d@＠〒]|丁目")  # without one of these there is nothing to find
_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w@-])", re.ASCII)
_NUMBER = re.compile(r"(?<![\w.])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)", re.ASCII)
_MY_NUMBER_WORD = re.compile(r"マイナンバー|個人番号|my ?number|individual number", re.IGNORECASE)
_PHONE_WORD = re.compile(r"電話|でんわ|携帯|ケータイ|連絡先|番号は|TEL|FAX|phone|mobile|call|contact", re.IGNORECASE)
_CARD_GROUPS = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{13,19}")
_CARD_STARTS = re.compile(r"4(?:\d{12}|\d{15}|\d{18})$|5[1-5]\d{14}$|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}$|3[47]\d{13}$"
                          r"|35(?:2[89]|[3-8]\d)\d{12}$|3(?:0[0-5]|[689]\d)\d{11}$|6(?:011|5\d\d|4[4-9]\d)\d{12}$")  # fmt: skip
_PREFECTURE = (
    "北海道|青森県|岩手県|宮城県|秋田県|山形県|福島県|茨城県|栃木県|群馬県|埼玉県|千葉県|東京都|神奈川県|新潟県|富山県|石川県|福井県|山梨県|長野県|岐阜県|静岡県|愛知県|三重県"
    "|滋賀県|京都府|大阪府|兵庫県|奈良県|和歌山県|鳥取県|島根県|岡山県|広島県|山口県|徳島県|香川県|愛媛県|高知県|福岡県|佐賀県|長崎県|熊本県|大分県|宮崎県|鹿児島県|沖縄県"
)
_HOUSE = (
    r"(?:[0-9一二三四五六七八九十]{1,3}丁目(?:[0-9]{1,4}(?:番地?|-)?(?:[0-9]{1,4}号?)?)?"
    r"|[0-9]{1,4}番地?(?:の?[0-9]{1,4}号?)?|[0-9]{1,4}(?:-[0-9]{1,4}){1,3})"
)
_ADDRESS = re.compile(
    rf"(?:〒? ?\d{{3}}-\d{{4}}\s{{0,3}})?(?:{_PREFECTURE})[^\s、。,()「」]{{1,12}}?[市区町村]"
    rf"[^\s、。,()「」0-9]{{0,16}}?(?<![でにはがをへとも]){_HOUSE}"
)
_POSTCODE = re.compile(r"〒 ?\d{3}-?\d{4}(?!\d)")
_STREET = re.compile(r"(?<![\w.])\d{1,5} (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){1,3}(?:Street|Avenue|Road|Boulevard|Lane|Drive|St|Ave|Rd|Blvd)\b\.?"
                     r",? (?:(?:Apt|Suite|Unit|#) ?\w{1,5},? )?[A-Z][A-Za-z ]{2,30},? (?:[A-Z]{2} )?\d{5}(?:-\d{4})?\b")  # fmt: skip
_PHONE_DIGITS = 9  # the shortest Japanese number with its area code has ten digits; a foreign one is written with +
_MOBILE = re.compile(r"0[5789]0\d{8}")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-"))
_LONG_DASH = re.compile(r"(?<=\d)ー(?=\d)")


@dataclass(frozen=True)
class PersonalData:
    """One find: its `kind`, where it stands in the text (`start`, `end`, in characters), and the `text` itself."""

    kind: PersonalKind
    start: int
    end: int
    text: str

    @property
    def masked(self) -> str:
        """Enough of it to find it again, and no more: the first two characters and its length in dots."""
        return self.text[:2] + "•" * max(1, len(self.text) - 2)


def find_personal_data(text: str) -> list[PersonalData]:
    """Every find in `text`, in order; where two overlap, the surer kind. Full-width digits and letters count as half-width ones."""
    if not _HINT.search(text):
        return []
    plain = _flatten(text)
    found: list[PersonalData] = []
    for kind, spans in (
        ("email", _find_emails(plain)),
        ("card", _find_cards(plain)),
        ("my_number", _find_my_numbers(plain)),
        ("address", _find_addresses(plain)),
        ("phone", _find_phones(plain)),
    ):
        for start, end in spans:
            if all(end <= other.start or start >= other.end for other in found):
                found.append(PersonalData(kind, start, end, text[start:end]))  # type: ignore[arg-type]
    return sorted(found, key=lambda each: each.start)


def _flatten(text: str) -> str:
    """`text` in half-width digits, letters and dashes, each character still in its place."""
    if text.isascii():
        return text
    folded = "".join(sign if sign < "\u2000" or len(plain := unicodedata.normalize("NFKC", sign)) != 1 else plain for sign in text.translate(_DASHES))
    return _LONG_DASH.sub("-", folded)


def _find_emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def _find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Numbers with the length, the first digits and the check digit (Luhn, ISO/IEC 7812-1) of a card, in the groups cards are written in."""
    from stdnum import luhn

    for match in _NUMBER.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if _CARD_GROUPS.fullmatch(match[0]) and _CARD_STARTS.match(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


def _find_my_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Twelve digits with the right check digit, in fours or beside the word: one in eleven numbers has it by chance."""
    from stdnum.jp import in_

    for match in _NUMBER.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if len(digits) != 12 or not in_.is_valid(digits) or len(set(digits)) < 3:
            continue
        if re.fullmatch(r"\d{4}([ -])\d{4}\1\d{4}", match[0]) or _MY_NUMBER_WORD.search(text[max(0, match.start() - 30) : match.start()]):
            yield match.span()


def _find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """A prefecture, a town and a house number; a postcode behind 〒; a street with a town and a ZIP code."""
    for pattern in (_ADDRESS, _POSTCODE, _STREET):
        for match in pattern.finditer(text):
            yield match.span()


def _find_phones(text: str) -> Sequence[tuple[int, int]]:
    """Valid numbers (by the plans in `phonenumbers`; without a country code, Japanese ones) that are written as such.

    Digits without a break count where they are a mobile number or a word beside them says so: any ten digits could be a valid number.
    """
    if sum(sign.isdigit() for sign in text) < _PHONE_DIGITS:
        return ()
    import phonenumbers

    spans = []
    for match in phonenumbers.PhoneNumberMatcher(text, "JP"):
        raw = match.raw_string
        before = text[max(0, match.start - 16) : match.start]
        is_written_out = bool(re.search(r"[-() ]", raw.strip())) or raw.startswith("+")
        if raw.startswith(("0", "+", "(0", "(+")) and (is_written_out or _MOBILE.fullmatch(raw) or _PHONE_WORD.search(before)):
            spans.append((match.start, match.end))
    return spans
