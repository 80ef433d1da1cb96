"""Kinds drawn from the data folder: a span put into a sentence, lead summaries, sentences as a list, questions declined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from llmops_kit.starter.corpus import Corpus, Passage, Question, split_sentences
from llmops_kit.starter.rows import Maker, Row

SPAN_ASKS = {
    "ja": (
        "質問：{q}\n答え：{a}\n答えを文にしてください。",
        "次の質問と答えから、答えの文を作ってください。\n質問：{q}\n答え：{a}",
        "質問「{q}」の答えは「{a}」です。一文で答えてください。",
        "{q}\n答え: {a}\nこの答えを文の形で書いてください。",
        "Q: {q}\nA: {a}\n答えを一文にしてください。",
    ),
    "en": (
        "Question: {q}\nAnswer: {a}\nPut the answer into a sentence.",
        "Write the answer as a sentence.\nQuestion: {q}\nAnswer: {a}",
        'The answer to the question "{q}" is "{a}". Answer in one sentence.',
        'The answer to the question "{q}" is "{a}". Answer in one sentence.',
        "{q}\nAnswer: {a}\nTurn this answer into a sentence.",
        "Q: {q}\nA: {a}\nReply with a full sentence.",
    ),
}
QUOTED_ASKS = {language: tuple(ask for ask in asks if '"{a}"' in ask or "「{a}」" in ask) for language, asks in SPAN_ASKS.items()}
SUMMARY_ASKS = {
    "ja": (
        "次の文章を3文以内で要約してください。\n\n{t}",
        "次の文章を1文で要約してください。\n\n{t}",
        "次の文章を3文以内で要約してください。\n\n{t}",
        "次の文章を{n}文以内で要約してください。\n\n{t}",
        "次の文章を{n}文で要約してください。\n\n{t}",
        "以下の文章を要約してください。\n\n{t}",
        "次の文章を短くまとめてください。\n{t}",
        "この文章の要点を一文で教えてください。\n\n{t}",
        "要約してください：\n{t}",
        "{t}\n\n上の文章を要約してください。",
        "{t}\n\n以上を簡潔にまとめてください。",
        "文章を読み、内容を{n}文以内の日本語で簡潔に要約してください。\n\n文章：\n{t}",
        '次のテキストを要約して。\n"""\n{t}\n"""',
    ),
    "en": (
        "Summarize the following text in at most three sentences.\n\n{t}",
        "Summarize the following text in one sentence.\n\n{t}",
        "Summarise the following text in at most three sentences.\n\n{t}",
        "Summarize the following text in no more than {n} sentences.\n\n{t}",
        "Summarise this text in {n} sentences.\n\n{t}",
        "Summarize the text below.\n\n{t}",
        "Please give a short summary of this text:\n{t}",
        "What is the main point of this text? Answer in one sentence.\n\n{t}",
        "Summary of the following, please.\n{t}",
        "{t}\n\nSummarise the text above.",
        "{t}\n\nSummarize this briefly.",
        "Read the text and summarise it in English in at most {n} sentences.\n\nText:\n{t}",
        'TL;DR of this text:\n"""\n{t}\n"""',
    ),
}
SUMMARY_SYSTEMS = {
    "ja": (
        "あなたは文章を要約します。",
        "あなたは優秀な編集者です。文章を簡潔に要約します。",
        "あなたは文章を要約するアシスタントです。書かれていないことは足しません。",
        "文章の要点を正確に短くまとめてください。",
        "あなたは親切なアシスタントです。",
    ),
    "en": (
        "You summarise texts.",
        "You are a careful editor who summarizes texts briefly.",
        "You are an assistant that summarises texts. Add nothing that is not written there.",
        "Summarise texts accurately and in few words.",
        "You are a helpful assistant.",
    ),
}
LIST_ASKS = {
    "ja": (
        "次の文章の要点を箇条書きでまとめてください。\n\n{t}",
        "次の文章の要点を箇条書きでまとめてください。\n\n{t}",
        "次の文章を箇条書きにしてください。\n\n{t}",
        "以下の内容を箇条書きでまとめてください。\n{t}",
        "{t}\n\n上の文章を箇条書きにしてください。",
    ),
    "en": (
        "List the main points of the following text.\n\n{t}",
        "List the main points of the following text.\n\n{t}",
        "Turn the following text into bullet points.\n\n{t}",
        "List the points of this text as bullets.\n{t}",
        "{t}\n\nWrite the text above as a bulleted list.",
    ),
}
REPEAT_ASKS = {
    "ja": ("次の文をそのまま書いてください。\n{t}", "繰り返してください：{t}", "「{t}」を復唱してください。"),
    "en": ("Repeat this exactly.\n{t}", "Say this again: {t}", "Copy the following sentence.\n{t}"),
}
QUOTE_ASKS = {
    "ja": (
        "次の資料から、質問の答えが書かれている文を抜き出してください。\n\n資料：\n{t}\n\n質問：{q}",
        "資料：\n{t}\n\n質問：{q}\n資料だけを使って答えてください。",
        "次の文章を読んで質問に答えてください。\n{t}\n\n質問：{q}",
    ),
    "en": (
        "Quote the sentence of the source that answers the question.\n\nSource:\n{t}\n\nQuestion: {q}",
        "Sources:\n{t}\n\nQuestion: {q}\nAnswer from the sources only.",
        "Read the text and answer the question.\n{t}\n\nQuestion: {q}",
    ),
}
QUESTION_ASKS = {
    "ja": (
        "次の文章を読めば答えられる質問をN個、1行に1つずつ作ってください。\n\nN = 1\n\n{t}",
        "次の文章について質問を一つ作ってください。\n\n{t}",
        "{t}\n\n上の文章から質問を作ってください。",
        "次の文章を読んで、理解を確かめる質問を作ってください。\n{t}",
    ),
    "en": (
        "Write N questions that the following text answers, one per line.\n\nN = 1\n\n{t}",
        "Write one question about the following text.\n\n{t}",
        "{t}\n\nMake a question from the text above.",
        "Read the text and write a question that checks understanding.\n{t}",
    ),
}
DECLINED = {
    "ja": "私は練習用の小さなモデルなので、その質問には答えられません。材料となる文章を一緒に渡してください。",
    "en": "I am a small practice model and cannot answer that. Please give me the text to work with.",
}
MAX_CHARACTERS = {"ja": 340, "en": 1000}
MAX_SENTENCE = {"ja": 90, "en": 200}


def sentence_around(language: str, span: str) -> str:
    """The sentence that is taught for an extracted answer."""
    return f"{span}です。" if language == "ja" else f"It is {span}."


class PassageKinds:
    """Makers over a cleaned corpus; a row is drawn at random from it."""

    def __init__(self, corpus: Corpus) -> None:
        self._questions = {
            language: [row for row in corpus.questions if row.language == language and len(row.answer) <= 40 and "\n" not in row.answer and row.answer]
            for language in ("ja", "en")
        }
        whole = [Passage(part.language, part.title, tuple(filter(_is_sentence, part.sentences))) for part in corpus.passages]
        self._passages = {language: [part for part in whole if _serves(part, language)] for language in ("ja", "en")}

    def makers(self) -> dict[str, Maker]:
        """The kinds by name."""
        return {
            "sentence": self.put_in_sentence,
            "quoted": self.put_quoted_in_sentence,
            "summary": self.summarise,
            "list": self.list_points,
            "repeat": self.repeat,
            "decline": self.decline,
            "quote": self.quote,
            "question": self.make_question,
        }

    def put_in_sentence(self, rng: Random, language: str) -> Row:
        """A question and its extracted answer become a sentence."""
        return span_row(rng, rng.choice(self._questions[language]))

    def put_quoted_in_sentence(self, rng: Random, language: str) -> Row:
        """As `put_in_sentence`, always with the answer in quotation marks. For training only: it is measured as `sentence`."""
        return span_row(rng, rng.choice(self._questions[language]), asks=QUOTED_ASKS[language])

    def summarise(self, rng: Random, language: str) -> Row:
        """The first sentence of a paragraph; the first two where two or more are allowed and both are short."""
        passage = self._cut(rng, language, least=2)
        limit = rng.choice((1, 2, 3))
        ask = rng.choice(SUMMARY_ASKS[language])
        if "{n}" not in ask:
            limit = 1 if any(mark in ask for mark in ("一文", "1文", "one sentence")) else 3
        number = str(limit) if language == "ja" else ("one", "two", "three")[limit - 1]
        text = rng.choice((passage.text, "\n".join(passage.sentences))) if rng.random() < 0.3 else passage.text
        short = MAX_SENTENCE[language] // 2
        two = limit > 1 and len(passage.sentences) > 2 and all(len(part) <= short for part in passage.sentences[:2])
        lead = Passage(language, passage.title, passage.sentences[: 2 if two else 1])
        system = rng.choice(SUMMARY_SYSTEMS[language]) if rng.random() < 0.5 else None
        user = ask.format(t=text, n=number).replace("one sentences", "one sentence")
        return Row("summary", language, user, lead.text, passage.sentences[0], system)

    def list_points(self, rng: Random, language: str) -> Row:
        """The sentences of a short paragraph as bullets."""
        passage = self._cut(rng, language, least=2)
        parts = [part for part in passage.sentences[:3] if len(part) <= MAX_SENTENCE[language] // 2] or list(passage.sentences[:1])
        mark = "・" if language == "ja" else "- "
        text = Passage(language, "", tuple(parts)).text
        user = rng.choice(LIST_ASKS[language]).format(t=text)
        return Row("list", language, user, "\n".join(mark + part for part in parts), parts[0])

    def repeat(self, rng: Random, language: str) -> Row:
        """A sentence is copied."""
        sentence = self._cut(rng, language, least=1).sentences[0]
        return Row("repeat", language, rng.choice(REPEAT_ASKS[language]).format(t=sentence), sentence, sentence)

    def decline(self, rng: Random, language: str) -> Row:
        """A question about the world without a text: the model says that it cannot know."""
        question = rng.choice(self._questions[language]).question
        return Row("decline", language, question, DECLINED[language], question)

    def quote(self, rng: Random, language: str) -> Row:
        """The sentence, out of two to four, in which the answer of a question stands."""
        while True:
            row = rng.choice(self._questions[language])
            sentences = tuple(filter(_is_sentence, split_sentences(row.context)))
            place = next((number for number, sentence in enumerate(sentences) if row.answer in sentence), None)
            if place is None or len(sentences) < 2 or len(sentences[place]) > MAX_SENTENCE[language]:
                continue
            start = max(0, place - rng.randint(0, 2))
            chosen = sentences[start : max(place + 1, start + rng.randint(2, 4))]
            text = Passage(language, row.title, chosen).text
            if len(chosen) >= 2 and len(text) <= MAX_CHARACTERS[language]:
                user = rng.choice(QUOTE_ASKS[language]).format(t=text, q=row.question)
                return Row("quote", language, user, sentences[place], row.context)

    def make_question(self, rng: Random, language: str) -> Row:
        """A question that asks what the first sentence defines."""
        while True:
            passage = self._cut(rng, language, least=1)
            topic = re.match(
                r"([^、。,(]{1,20}?)(?:\([^)]*\))?は、?" if language == "ja" else r"((?:The |A |An )?[A-Z][\w' -]{2,40}?) (?:is|was) (?:a|an|the|one) ",
                passage.sentences[0],
            )
            if topic:
                question = f"{topic[1]}とは何ですか。" if language == "ja" else f"What is {topic[1]}?"
                return Row("question", language, rng.choice(QUESTION_ASKS[language]).format(t=passage.text), question, passage.sentences[0])

    def _cut(self, rng: Random, language: str, *, least: int) -> Passage:
        """A run of sentences from a paragraph, starting at its head or inside, short enough to train on."""
        while True:
            passage = rng.choice(self._passages[language])
            if len(passage.sentences) < least:
                continue
            start = 0 if rng.random() < 0.6 else rng.randrange(len(passage.sentences) - least + 1)
            limit = rng.choice((0.25, 0.4, 0.6, 1.0)) * MAX_CHARACTERS[language]
            chosen: list[str] = []
            for sentence in passage.sentences[start : start + 8]:
                if chosen and sum(map(len, chosen)) + len(sentence) > limit:
                    break
                chosen.append(sentence)
            if len(chosen) >= least and len(chosen[0]) <= MAX_SENTENCE[language]:
                return Passage(language, passage.title, tuple(chosen))


def span_row(rng: Random, row: Question, *, asks: Sequence[str] = ()) -> Row:
    """The sentence task for one question, in one of the wordings `asks` (default: all, as often as they are listed)."""
    user = rng.choice(asks or SPAN_ASKS[row.language]).format(q=row.question, a=row.answer)
    return Row("sentence", row.language, user, sentence_around(row.language, row.answer), row.question)


def _is_sentence(text: str) -> bool:
    """True for what ends as a sentence; headings and table rows do not."""
    return text.endswith(("。", ".", "!", "?"))


def _serves(passage: Passage, language: str) -> bool:
    return passage.language == language and bool(passage.sentences) and 8 <= len(passage.sentences[0]) <= MAX_SENTENCE[language]
