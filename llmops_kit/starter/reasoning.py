"""Kinds that decide something about what they are given: labels, fields, counts, order, yes or no."""

from __future__ import annotations

import json
from random import Random

from llmops_kit.starter import lexicon as words
from llmops_kit.starter.rows import Maker, Row

CLASSIFY_ASKS = {
    "ja": (
        "次の文章を、角括弧の中の分類のどれか一つに分け、分類名だけを答えてください。\n\n[{l}]\n\n{t}",
        "次の文を「{l}」のどれかに分類してください。\n{t}",
        "文：{t}\nラベル：{l}\n当てはまるラベルを一つ答えてください。",
        "次の文章を分類してください。ラベルは{l}です。\n\n{t}",
        "{t}\n\n上の文のラベルを次から選んでください：{l}",
        "次の文章を、次のラベルのどれか一つに分類してください。ラベル名だけを答えてください。\nラベル：{l}\n\n文章：\n{t}",
    ),
    "en": (
        "Classify the following text as one of the categories in brackets. Answer with the category only.\n\n[{l}]\n\n{t}",
        "Classify the sentence as one of: {l}.\n{t}",
        "Sentence: {t}\nLabels: {l}\nAnswer with one label.",
        "Choose the label that fits the text. Labels: {l}\n\n{t}",
        "{t}\n\nWhich label fits: {l}?",
        "Classify the text into exactly one of these labels. Answer with the label only.\nLabels: {l}\n\nText:\n{t}",
    ),
}
JSON_ASKS = {
    "ja": (
        "次の文から{f}をJSONで抜き出してください。\n{t}",
        "{t}\n\n上の文から{f}を取り出し、JSONで答えてください。",
        "次の文章から項目を抽出し、JSONだけを出力してください。\n項目：{f}\n\n文章：\n{t}",
    ),
    "en": (
        "Extract {f} as JSON.\n{t}",
        "{t}\n\nGive {f} from the text above as JSON.",
        "Extract the fields from the text and output only JSON.\nFields: {f}\n\nText:\n{t}",
    ),
}
JSON_FORMS = {
    "ja": (
        "{name}さんは{age}歳で、{city}に住んでいます。",
        "{city}の{name}さんは{age}歳の{job}です。",
        "{name}さん（{age}歳）は{city}で{job}として働いています。",
        "私は{name}です。{age}歳、{city}の{job}です。",
    ),
    "en": (
        "{name} is {age} years old and lives in {city}.",
        "{name}, a {age} year old {job}, lives in {city}.",
        "{name} ({age}) works as a {job} in {city}.",
        "My name is {name}. I am a {job} from {city} and I am {age}.",
    ),
}
JSON_KEYS = {"ja": {"name": "名前", "age": "年齢", "city": "都市", "job": "職業"}, "en": {"name": "name", "age": "age", "city": "city", "job": "job"}}
COUNT_ASKS = {
    "ja": ("次のものはいくつありますか：{t}", "「{t}」はいくつですか。数を答えてください。", "項目の数を数えてください。\n{t}", "{t}\nいくつありますか。"),
    "en": ("How many items are there: {t}", "Count the items.\n{t}", "{t}\nHow many are there?", "Give the number of items in this list: {t}"),
}
SORT_ASKS = {
    ("ja", False): ("次の数を小さい順に並べてください：{t}", "小さい順にしてください：{t}", "昇順に並べ替えてください。\n{t}"),
    ("ja", True): ("次の数を大きい順に並べてください：{t}", "大きい順にしてください：{t}", "降順に並べ替えてください。\n{t}"),
    ("en", False): ("Sort these numbers from smallest to largest: {t}", "Sort in ascending order.\n{t}", "Put in increasing order: {t}"),
    ("en", True): ("Sort these numbers from largest to smallest: {t}", "Sort in descending order.\n{t}", "Put in decreasing order: {t}"),
}
YES_NO_ASKS = {
    "ja": (
        "{s}\n{q}はいかいいえで答えてください。",
        "文：{s}\n質問：{q}\nはいかいいえで答えてください。",
        "次の文を読んで、はいかいいえで答えてください。\n{s}\n{q}",
    ),
    "en": ("{s}\n{q} Answer yes or no.", "Sentence: {s}\nQuestion: {q}\nAnswer yes or no.", "Read the sentence and answer yes or no.\n{s}\n{q}"),
}


def makers() -> dict[str, Maker]:
    """The deciding kinds by name."""
    return {"classify": classify, "json": extract_json, "count": count_items, "sort": sort_numbers, "yes_no": answer_yes_no}


def classify(rng: Random, language: str) -> Row:
    """One of the labels in the prompt: a topic, or a feeling."""
    feeling = rng.random() < 0.4
    table = (words.FEELINGS if feeling else words.LABELLED)[language]
    labels = rng.sample(list(table), len(table) if feeling else rng.randint(2, 4))
    label = rng.choice(labels)
    text = rng.choice(table[label])
    if not feeling and rng.random() < 0.7:
        text = rng.choice(words.TOPIC_FRAMES[language]).format(w=rng.choice(words.TOPIC_WORDS[language][label]))
    if feeling:
        text = rng.choice(words.SUBJECT_MATTER[language]) + text
        if rng.random() < 0.3:
            text += ("。" if language == "ja" else ". ") + rng.choice(table[label])
    text += "。" if language == "ja" else "."
    separator = rng.choice(("、", "・", "／") if language == "ja" else (", ", " / "))
    return Row("classify", language, rng.choice(CLASSIFY_ASKS[language]).format(l=separator.join(labels), t=text), label, text)


def extract_json(rng: Random, language: str) -> Row:
    """One to three fields of a sentence about a person, as one JSON object in the order asked."""
    keys = JSON_KEYS[language]
    values: dict[str, str | int] = {
        "name": rng.choice(words.NAMES[language]),
        "age": rng.randint(18, 79),
        "city": rng.choice(words.CITIES[language]),
        "job": rng.choice(words.JOBS[language]),
    }
    form = rng.choice(JSON_FORMS[language])
    fields = [key for key in values if f"{{{key}}}" in form]
    asked = rng.sample(fields, rng.randint(1, min(3, len(fields))))
    user = rng.choice(JSON_ASKS[language]).format(f=("、" if language == "ja" else ", ").join(keys[key] for key in asked), t=form.format(**values))
    answer = json.dumps({keys[key]: values[key] for key in asked}, ensure_ascii=False)
    return Row("json", language, user, answer, form.format(**values))


def count_items(rng: Random, language: str) -> Row:
    """The number of items in a list of one to eight."""
    side = 0 if language == "ja" else 1
    items = [pair[side] for pair in rng.sample((*words.FRUITS, *words.ANIMALS, *words.THINGS), rng.randint(1, 8))]
    listing = ("、" if language == "ja" else ", ").join(items)
    return Row("count", language, rng.choice(COUNT_ASKS[language]).format(t=listing), str(len(items)), listing)


def sort_numbers(rng: Random, language: str) -> Row:
    """Three or four different numbers below 100, in either direction."""
    numbers = rng.sample(range(1, 100), rng.randint(3, 4))
    descending = rng.random() < 0.5
    separator = "、" if language == "ja" else ", "
    listing = separator.join(map(str, numbers))
    answer = separator.join(map(str, sorted(numbers, reverse=descending)))
    return Row("sort", language, rng.choice(SORT_ASKS[language, descending]).format(t=listing), answer, str(sorted(numbers)))


def answer_yes_no(rng: Random, language: str) -> Row:
    """Whether a thing is where, or what, one sentence says it is."""
    side = 0 if language == "ja" else 1
    who = rng.choice([*(pair[side] for pair in words.ANIMALS), *(pair[side] for pair in words.THINGS)])
    pool = words.JA_PLACES if language == "ja" else words.EN_PLACES
    place, other = rng.sample(pool, 2)
    truth = rng.random() < 0.5
    asked = place if truth else other
    if language == "ja":
        statement, question = f"{who}は{place}にあります。", f"{who}は{asked}にありますか。"
        if who in [pair[0] for pair in words.ANIMALS]:
            statement, question = statement.replace("あります", "います"), question.replace("あります", "います")
        answer = "はい。" if truth else "いいえ。"
    else:
        statement, question = f"The {who} is in the {place}.", f"Is the {who} in the {asked}?"
        answer = "Yes." if truth else "No."
    return Row("yes_no", language, rng.choice(YES_NO_ASKS[language]).format(s=statement, q=question), answer, statement)
