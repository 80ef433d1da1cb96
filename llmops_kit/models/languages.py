"""Which languages a text is written in, by its script, and whether an embedder knows them.

By script alone: languages that share the Latin script are not told apart and all count as English.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_kit.models.embedders import Embedder

SAMPLE_CHARACTERS = 20_000
_SCRIPTS = {
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "CJK": "han",
    "HANGUL": "ko",
    "LATIN": "en",
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "HEBREW": "he",
    "THAI": "th",
    "DEVANAGARI": "hi",
}
_NAMES = {
    "ja": ("Japanese", "日本語"),
    "en": ("English", "英語"),
    "zh": ("Chinese", "中国語"),
    "ko": ("Korean", "韓国語"),
    "ru": ("Russian", "ロシア語"),
    "el": ("Greek", "ギリシャ語"),
    "ar": ("Arabic", "アラビア語"),
    "he": ("Hebrew", "ヘブライ語"),
    "th": ("Thai", "タイ語"),
    "hi": ("Hindi", "ヒンディー語"),
}
_LATIN_WEIGHT = 1 / 3  # an English text has about three times the letters of a Japanese one that says the same
_LEAST_SHARE = 0.2  # of a language in a text that is said to be written in it; product names and quotations are less
_LEAST_LETTERS = 20
_KANA_SHARE = 0.02  # of kana among kana and Chinese characters; a Japanese text has about half, a Chinese one none
_FOREIGN_SHARE = 0.03  # of characters that JIS X 0208 does not have; Chinese in simplified characters has a fifth or more


def find_languages(text: str) -> tuple[str, ...]:
    """The languages (ISO 639 codes) that make up a fifth or more of `text`, the greatest first; of a long text its first 20,000 characters count.

    Chinese characters without kana are Chinese where many of them are none of Japan's (not in JIS X 0208), else Japanese.
    """
    letters: Counter[str] = Counter()
    foreign = 0
    for character in unicodedata.normalize("NFKC", text[:SAMPLE_CHARACTERS]):
        if not character.isalpha():
            continue
        script = _SCRIPTS.get(unicodedata.name(character, "").split(" ", 1)[0].split("-", 1)[0])
        if script is not None:
            letters[script] += 1
        foreign += script == "han" and not _is_in_jis(character)
    kana, han = letters.pop("kana", 0), letters.pop("han", 0)
    is_chinese = kana < _KANA_SHARE * (kana + han) and foreign > _FOREIGN_SHARE * han
    weights = {language: count * (_LATIN_WEIGHT if language == "en" else 1.0) for language, count in letters.items()}
    weights["zh" if is_chinese else "ja"] = kana + han
    counts = {**letters, "zh" if is_chinese else "ja": kana + han}
    total = sum(weights.values())
    found = [language for language, weight in weights.items() if weight >= _LEAST_SHARE * total and counts[language] >= _LEAST_LETTERS]
    return tuple(sorted(found, key=lambda language: -weights[language]))


def find_unknown_languages(known: Sequence[str], text: str) -> tuple[str, ...]:
    """The languages of `text` that are not among the `known` ones; none where `known` is empty, which means many."""
    return tuple(language for language in find_languages(text) if language not in known) if known else ()


def warn_of_languages(embedder: Embedder, text: str) -> dict[str, str] | None:
    """A warning in English (`en`) and Japanese (`ja`) where `text` is in a language that `embedder` does not know, else None."""
    unknown = find_unknown_languages(embedder.languages, text)
    if not unknown:
        return None
    english, japanese = (" and ".join(_NAMES[code][0] for code in unknown), "・".join(_NAMES[code][1] for code in unknown))
    knows = [_NAMES.get(code, (code, code)) for code in embedder.languages]
    return {
        "en": f"The text seems to be in {english}, which the embedder “{embedder.id}” does not know (it knows {', '.join(name[0] for name in knows)}). "
        "Search by meaning will find little there; search by words still works. Choose another embedder for this collection.",
        "ja": f"文章は{japanese}のようですが、埋め込みモデル「{embedder.id}」は対応していません（対応：{'・'.join(name[1] for name in knows)}）。"
        "意味による検索はほとんど効かず、言葉による検索だけが使えます。このコレクションには別の埋め込みモデルを選んでください。",
    }


def _is_in_jis(character: str) -> bool:
    try:
        character.encode("shift_jis")
    except UnicodeEncodeError:
        return False
    return True
