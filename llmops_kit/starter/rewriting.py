"""Kinds that rewrite what they are given: style, spelling, blanks, keywords, the phrasebook."""

from __future__ import annotations

from random import Random

from llmops_kit.starter import lexicon as words
from llmops_kit.starter.rows import Maker, Row

POLITE_ASKS = {
    "ja": (
        "次の文を、取引先に送れる丁寧な文に書き直してください。\n\n{t}",
        "次の文を、社内向けのやわらかい文に書き直してください。\n\n{t}",
        "次の文を丁寧な文に書き換えてください。\n{t}",
        "次の文を敬体（です・ます）にしてください。\n{t}",
        "「{t}」を丁寧に言い換えてください。",
        "丁寧な言い方にしてください：{t}",
        "次の文章を丁寧な表現に書き直してください。\n\n{t}",
    ),
    "en": (
        "Rewrite the following message politely so that it can be sent to a customer.\n\n{t}",
        "Rewrite the following message in a friendly tone for a colleague.\n\n{t}",
        "Make this polite.\n{t}",
        "Rewrite the following sentence politely.\n{t}",
        "Rewrite the text in a polite style.\n\n{t}",
        "Say this more politely: {t}",
        "Please turn this into a polite request: {t}",
    ),
}
PLAIN_ASKS = {
    "ja": (
        "次の文を普通体に書き換えてください。\n{t}",
        "次の文を常体（だ・である）にしてください。\n{t}",
        "「{t}」をくだけた言い方にしてください。",
        "普通の言い方にしてください：{t}",
    ),
    "en": (
        "Make this plain.\n{t}",
        "Rewrite the following sentence in a plain style.\n{t}",
        "Say this more directly: {t}",
        "Turn this into a short, direct sentence: {t}",
    ),
}
KEYWORD_ASKS = {
    "ja": (
        "次の言葉を使って文を作ってください：{k}",
        "キーワード：{k}\nこのキーワードで一文を書いてください。",
        "{k}\nこれらの言葉を使って一文を作ってください。",
    ),
    "en": ("Write a sentence with these words: {k}", "Keywords: {k}\nWrite one sentence with the keywords.", "Use these words in one sentence: {k}"),
}
UPPER_ASKS = ("Convert to uppercase: {t}", "Write this in capital letters: {t}", "Make this uppercase.\n{t}", "UPPERCASE: {t}", "次を大文字にしてください：{t}")
LOWER_ASKS = ("Convert to lowercase: {t}", "Write this in small letters: {t}", "Make this lowercase.\n{t}", "lowercase: {t}", "次を小文字にしてください：{t}")
KATAKANA_ASKS = ("次をカタカナにしてください：{t}", "「{t}」をカタカナで書いてください。", "ひらがなをカタカナに変換してください。\n{t}", "カタカナにして：{t}")
HIRAGANA_ASKS = ("次をひらがなにしてください：{t}", "「{t}」をひらがなで書いてください。", "カタカナをひらがなに変換してください。\n{t}", "ひらがなにして：{t}")
FILL_ASKS = {
    "ja": (
        "次の空欄を埋めてください。\n{t}\n{v}",
        "テンプレート：{t}\n値：\n{v}\nテンプレートに値を入れてください。",
        "{v}\n上の値を次の文に入れてください：{t}",
    ),
    "en": ("Fill in the blanks.\n{t}\n{v}", "Template: {t}\nValues:\n{v}\nFill the values into the template.", "{v}\nPut the values above into this text: {t}"),
}
FORMS = {
    "ja": (
        "{name}様、{city}での会議は{day}日です。",
        "{name}さんは{city}に住んでいます。",
        "{day}日に{city}で{name}さんに会います。",
        "{name}様、{item}のご注文ありがとうございます。",
        "{item}を{city}の{name}様に送りました。",
    ),
    "en": (
        "Dear {name}, the meeting in {city} is on day {day}.",
        "{name} lives in {city}.",
        "On day {day} I will meet {name} in {city}.",
        "Dear {name}, thank you for ordering the {item}.",
        "The {item} was sent to {name} in {city}.",
    ),
}
FIELD_NAMES = {"ja": {"name": "名前", "city": "都市", "day": "日", "item": "品物"}, "en": {"name": "name", "city": "city", "day": "day", "item": "item"}}
TRANSLATE_ASKS = {
    "ja": (
        "次の文章を日本語に翻訳してください。\n\n{t}",
        "Translate the following text into Japanese.\n\n{t}",
        "次の文を日本語に翻訳してください。\n{t}",
        "日本語に訳してください：{t}",
        "「{t}」を日本語にしてください。",
        "Translate into Japanese: {t}",
        "次の英文を日本語に翻訳してください。\n\n{t}",
    ),
    "en": (
        "次の文章を英語に翻訳してください。\n\n{t}",
        "Translate the following text into English.\n\n{t}",
        "Translate into English: {t}",
        "Translate the following sentence into English.\n{t}",
        "次の文を英語に翻訳してください。\n{t}",
        "英語に訳してください：{t}",
        "次の文章を英語に翻訳してください。\n\n{t}",
    ),
}
PAIRED_PATTERNS = (
    ("私は{a}が好きです。", "I like the {b}."),
    ("これは{a}です。", "This is the {b}."),
    ("{a}はどこですか。", "Where is the {b}?"),
    ("{a}をください。", "The {b}, please."),
    ("{a}があります。", "There is the {b}."),
    ("{a}を見ました。", "I saw the {b}."),
    ("{a}が欲しいです。", "I want the {b}."),
)


def makers() -> dict[str, Maker]:
    """The rewriting kinds by name."""
    return {
        "style": change_style,
        "keywords": join_keywords,
        "spelling": change_spelling,
        "fill": fill_template,
        "translate": translate,
    }


def change_style(rng: Random, language: str) -> Row:
    """Plain to polite, or back."""
    polite, plain = _ja_styles(rng) if language == "ja" else _en_styles(rng)
    to_polite = rng.random() < 0.6
    before, after = (plain, polite) if to_polite else (polite, plain)
    ask = rng.choice((POLITE_ASKS if to_polite else PLAIN_ASKS)[language])
    return Row("style", language, ask.format(t=before), after, polite)


def _ja_styles(rng: Random) -> tuple[str, str]:
    thing, polite, plain, polite_past, plain_past, request = rng.choice(words.JA_ACTIONS)
    head = rng.choice(("", rng.choice(words.JA_TIMES) + "、", rng.choice(words.JA_SUBJECTS))) + rng.choice(("", rng.choice(words.JA_PLACES) + "で")) + thing
    case = rng.randrange(5)
    if case == 0:
        return f"{head}{polite}。", f"{head}{plain}。"
    if case == 1:
        return f"{head}{polite_past}。", f"{head}{plain_past}。"
    if case == 2:
        place = rng.choice(("", rng.choice(words.JA_TIMES) + "、")) + rng.choice(("", rng.choice(words.JA_PLACES) + "で")) + thing
        return f"{place}{request}ください。", f"{place}{request}。"
    subject = rng.choice((*words.JA_SUBJECTS, *(f"{place}は" for place in words.JA_PLACES), *(f"{ja}は" for ja, _ in words.TOPICS)))
    quality = rng.choice((*words.JA_QUALITIES, *words.JOBS["ja"]))
    return (f"{subject}{quality}です。", f"{subject}{quality}だ。") if case == 3 else (f"{subject}{quality}ではありません。", f"{subject}{quality}ではない。")


def _en_styles(rng: Random) -> tuple[str, str]:
    verb, _, _, thing = rng.choice(words.EN_ACTIONS)
    tail = f"{thing}{rng.choice(('', ' ' + rng.choice(words.EN_TIMES), ' in the ' + rng.choice(words.EN_PLACES)))}"
    if rng.random() < 0.7:
        return f"Could you please {verb} {tail}?", f"{verb.capitalize()} {tail}."
    noun = rng.choice([en for _, en in (*words.FRUITS, *words.THINGS)])
    return f"I would like the {noun} {tail.split(' ', 2)[-1]}, please.", f"I want the {noun} {tail.split(' ', 2)[-1]}."


def join_keywords(rng: Random, language: str) -> Row:
    """Three keywords become a sentence."""
    if language == "ja":
        place, (thing, polite, plain, *_) = rng.choice(words.JA_PLACES), rng.choice(words.JA_ACTIONS)
        keywords = [place, thing[:-1], plain]
        answer = f"{place}で{thing}{polite}。"
    else:
        place_en, (verb, _, _, thing) = rng.choice(words.EN_PLACES), rng.choice(words.EN_ACTIONS)
        keywords = [place_en, thing.split(" ")[-1], verb]
        answer = f"I {verb} {thing} in the {place_en}."
    content = "|".join(keywords)
    if rng.random() < 0.5:
        rng.shuffle(keywords)
    return Row("keywords", language, rng.choice(KEYWORD_ASKS[language]).format(k=("、" if language == "ja" else ", ").join(keywords)), answer, content)


def change_spelling(rng: Random, language: str) -> Row:
    """Upper or lower case (English words); hiragana or katakana (Japanese words)."""
    forward = rng.random() < 0.5
    if language == "ja":
        text = "".join(rng.choice(words.JA_WORDS) for _ in range(rng.choice((1, 1, 2))))
        other = "".join(chr(ord(letter) + 0x60) if "ぁ" <= letter <= "ゖ" else letter for letter in text)
        ask = rng.choice(KATAKANA_ASKS if forward else HIRAGANA_ASKS)
    else:
        text = " ".join(rng.choice(words.EN_WORDS) for _ in range(rng.choice((1, 2, 3))))
        other = text.upper()
        ask = rng.choice(UPPER_ASKS if forward else LOWER_ASKS)
    before, after = (text, other) if forward else (other, text)
    return Row("spelling", language, ask.format(t=before), after, text)


def fill_template(rng: Random, language: str) -> Row:
    """The blanks of a sentence are filled with named values."""
    names = FIELD_NAMES[language]
    item = rng.choice(words.THINGS)[0 if language == "ja" else 1]
    values = {"name": rng.choice(words.NAMES[language]), "city": rng.choice(words.CITIES[language]), "day": str(rng.randint(1, 28)), "item": item}
    form = rng.choice(FORMS[language])
    used = [key for key in values if f"{{{key}}}" in form]
    rng.shuffle(used)
    opening, closing = rng.choice((("{", "}"), ("[", "]"), ("<", ">")))
    blank = form
    for key in used:
        blank = blank.replace(f"{{{key}}}", f"{opening}{names[key]}{closing}")
    mark = rng.choice((":", " = ") if language == "en" else ("：", "＝"))
    listing = "\n".join(f"{names[key]}{mark}{' ' if mark == ':' else ''}{values[key]}" for key in used)
    answer = form.format(**values)
    return Row("fill", language, rng.choice(FILL_ASKS[language]).format(t=blank, v=listing), answer, answer)


def translate(rng: Random, language: str) -> Row:
    """A sentence of the taught phrasebook, into `language`."""
    ask = rng.choice(TRANSLATE_ASKS[language])
    if rng.random() < 0.4:
        ja, en = rng.choice(words.PHRASES)
        content = ask + ja  # a phrase can only be known if it was taught: held out are combinations of phrase and wording
    else:
        (ja, en), (a, b) = rng.choice(PAIRED_PATTERNS), rng.choice((*words.FRUITS, *words.ANIMALS, *words.THINGS))
        ja, en = ja.format(a=a), en.format(b=b)
        content = ja
    source, answer = (en, ja) if language == "ja" else (ja, en)
    return Row("translate", language, ask.format(t=source), answer, content)
