"""Follow-up questions: whether one stands by itself, and if not, the question that is meant.

    condense("その上限は何日ですか。", [("年次有給休暇は何日ですか。", "10日です。")]).question       # "年次有給休暇の上限は何日ですか。"

A question that stands by itself is never changed. Chat models rewrite the others (prompt `condense_question`); the starter models
cannot, so a rule puts in what was talked about. The question used is always shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.models.units import cut, language_of
from llmops_kit.types import Prompt

if TYPE_CHECKING:
    from llmops_kit.models import Models
    from llmops_kit.playground import Playground

Turn = tuple[str, str]
"""(question, answer)."""

APP, PROMPT = "documents:condense", "condense_question"
_TURNS = 3                      # of the conversation that a model is shown
_ANSWER_CHARACTERS = 300        # of each answer in it
_MAX_QUESTION = 400             # characters of a rewritten question; a longer one is no question
_SPAN = 24                      # characters of an answer that may stand for 彼 or “he”
_FREE = "(?<![ぁ-ゖ])|(?<=[はがでてにをもと])"       # きのこの is no この
_POINTS_JA = re.compile(
    rf"(?:{_FREE})(?P<thing>それ(?!ぞれ|とも|から|なり|ほど)|これ(?!まで|から|ほど|ら)|あれ(?!ば)|そちら|こちら)(?P<plural>ら)?"
    rf"|(?:{_FREE})(?P<of>(?:その|この|あの)(?!他|ほか|まま|ため|うえ|上(?=[、に])|会社|資料|文書|文章|規則|規程|サイト|アプリ|本|ファイル|たび|度|頃|ころ))"
    rf"|(?:{_FREE})(?P<place>そこ(?!そこ)|ここ(?=[はでにのへを]))|(?P<person>彼女|彼(?![岸方我])(?:ら)?|その人|この人)|前者|後者|上記|先ほど|さっき|同様に|同じ(?:条件|場合|く)"
)
_LEADS_JA = re.compile(
    r"(?:では|じゃあ?|それでは|それじゃあ?|それなら|なら(?:ば)?|だったら|で|そして|また|あと|ほかに(?:は|も)?|他に(?:は|も)?|逆に|例えば)(?:、|，|,|\s)"
    r"|じゃあ|それなら|では(?=[^な])"
)
_TRAILS_JA = re.compile(r"(?:の場合|のとき|の時|の人|だと|だったら|なら)(?:は|も|だと)?(?:どう(?:なりますか|ですか|なるの|する)?)?[？?。\s]*$")
_POINTS_EN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|these|those|this(?!\s+(?:company|document|file|text|report|manual|year|month|week|site|app))"
    r"|that(?:\s+(?:one|case|rule|amount|number|date|person|day|time))?(?=\s*\?|\s*$)|in\s+that\s+case|the\s+(?:former|latter|same))\b",
    re.IGNORECASE,
)
_EMPTY_EN = re.compile(
    r"\b(?:is|was|be)\s+it\s+(?:possible|ok|okay|allowed|necessary|true|safe|permitted|legal|required|better)\b|\bit\s+(?:is|was)\s+\w+\s+(?:to|that)\b",
    re.IGNORECASE,
)
_LEADS_EN = re.compile(r"(?:and|but|so|or|also|then|what\s+about|how\s+about|what\s+if|why\s+not)\b", re.IGNORECASE)
_TRAILS_EN = re.compile(r"\b(?:then|too|as\s+well|instead)\s*\?*\s*$", re.IGNORECASE)
_TOPIC_JA = re.compile(r"(?:では、|それでは、)?(?P<topic>[^、。？?]{2,30}?)(?:とは|は|が)(?!い|ち|ん)")
_ASKS_WHO = re.compile(r"誰|だれ|どなた|\bwho\b|\bwhom\b|\bwhose\b", re.IGNORECASE)
_WORDY = (1, 3, 4, 5, 6, 7, 14)         # kinds of unit that carry content: see `models.units`
_ASKING = re.compile(
    r"何(?:年|月|日|時|分|人|名|回|個|歳|円|本|枚|台|つ|度|倍|割|件|[ヶケカか箇][所月国])?(?:間|前|後|目)?|誰|幾つ|教えて|説明して|詳しく|理由|具体的|ください|下さい|下記|以上|以外"
    r"|\b(?:please|tell|explain|more|detail|details|example|examples|else|many|much|long|often|reason|me|about|mean|means)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Condensed:
    """The `question` that is searched and answered, and what was `asked`. `by` is `model`, `rule`, or empty where nothing was changed."""

    question: str
    asked: str
    by: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the person should be shown another question than they asked."""
        return self.question != self.asked


def condense(question: str, history: Sequence[Turn], rewrite: Callable[[str, Sequence[Turn]], str | None] | None = None) -> Condensed:
    """The question that is meant after `history` (oldest turn first). `rewrite` asks a model; without it, or where it gives nothing, a rule does it."""
    turns = [(str(asked), str(answer)) for asked, answer in history if str(asked).strip()]
    if not turns or stands_alone(question):
        return Condensed(question, question)
    rewritten = rewrite(question, turns) if rewrite is not None else None
    if rewritten:
        return Condensed(rewritten, question, "model")
    return Condensed(fill_in(question, turns), question, "rule")


def rewrite_by(playground: Playground, models: Models, model: str, **asked: Any) -> Callable[[str, Sequence[Turn]], str | None] | None:
    """A `rewrite` for `condense` by the model `model` (one Run each, app `documents:condense`); None for the starter models, which cannot.

    `asked` are keywords of `playground.run`: participant, api_key. A model that fails, or writes no question, gives None.
    """
    if models.get(model).provider == "starter":
        return None

    def rewrite(question: str, turns: Sequence[Turn]) -> str | None:
        told = "\n".join(f"Q: {_line(said)}\nA: {_line(answer)[:_ANSWER_CHARACTERS]}" for said, answer in turns[-_TURNS:])
        prompt = playground.prompts.get(PROMPT)
        variables = {"instruction": choose_instruction(prompt, language_of(question)), "history": told, "question": _line(question)}
        try:
            run = playground.run(prompt, model=model, variables=variables, app=APP, **asked)
        except KitError:
            return None             # recorded with its error; the rule takes over, and the answer itself will say what is wrong
        return _read_rewritten(run.output)

    return rewrite


def choose_instruction(prompt: Prompt, language: str, *, taught: bool = False) -> str:
    """The instruction of a prompt in `language`; with `taught` its shortest one, which is the one starter-lm was trained on."""
    found = next((one for one in prompt.variables if one.name == "instruction"), None)
    if found is None:
        return ""
    spoken = [option for option in found.options if ("。" in option) == (language == "ja")]
    if taught and spoken:
        return min(spoken, key=len)
    example = found.example.get(language)
    return example if example in found.options else next(iter(spoken or found.options), str(found.default or ""))


def stands_alone(question: str) -> bool:
    """Whether `question` can be understood without what was said before: it points to nothing and has a word of its own to ask about."""
    asked = " ".join(question.split())
    if language_of(asked) == "ja":
        if _POINTS_JA.search(asked) or _LEADS_JA.match(asked) or _TRAILS_JA.search(asked):
            return False
    elif (_POINTS_EN.search(asked) and not _EMPTY_EN.search(asked)) or _LEADS_EN.match(asked) or _TRAILS_EN.search(asked):
        return False
    return bool(content_words(asked))


def content_words(question: str) -> list[str]:
    """The words of `question` that say what it is about, in order: nouns and names rather than question words, endings and particles."""
    plain = _ASKING.sub(lambda found: " " * len(found[0]), question)
    plain = _POINTS_JA.sub(lambda found: " " * len(found[0]), plain)
    units = cut(plain)
    words: list[str] = []
    last = -1
    for start, end, kind in zip(units.starts.tolist(), units.ends.tolist(), units.kinds.tolist(), strict=True):
        if kind not in _WORDY:
            continue
        if start == last and kind in (1, 3, 7, 14) and words:
            words[-1] += plain[start:end]       # 年 次 有 給 is one word
        else:
            words.append(plain[start:end])
        last = end
    return list(dict.fromkeys(words))


def fill_in(question: str, turns: Sequence[Turn]) -> str:
    """`question` with what it points to put in from the last turn; where that cannot be told, the last question's words are added in brackets."""
    before, answer = turns[-1]
    if language_of(question) == "ja" and (pointed := _POINTS_JA.search(question)) is not None:
        topic = _topic(before, answer, person=pointed["person"] is not None)
        if topic and (pointed["thing"] or pointed["of"] or pointed["person"]):
            filled = question[: pointed.start()] + topic + ("の" if pointed["of"] else "") + question[pointed.end():]
            return _LEADS_JA.sub("", filled, count=1) if _LEADS_JA.match(filled) else filled
    known = {word.casefold() for word in content_words(question)}
    words = [word for word in content_words(before) if word.casefold() not in known]
    if not words:
        return question
    return f"{question}（{'、'.join(words)}）" if language_of(question) == "ja" else f"{question} ({', '.join(words)})"


def _topic(before: str, answer: str, *, person: bool) -> str | None:
    if person:
        span = _line(answer).strip("。. ")
        return span if _ASKS_WHO.search(before) and 0 < len(span) <= _SPAN and "。" not in span else None
    found = _TOPIC_JA.match(before)
    return found["topic"] if found and content_words(found["topic"]) and not _POINTS_JA.search(found["topic"]) else None


def _line(text: str) -> str:
    return " ".join(text.split())


def _read_rewritten(output: str) -> str | None:
    """The question in a model's reply: its first line, without labels and quotes; None where that is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines or len(lines[0]) > _MAX_QUESTION:
        return None
    plain = re.sub(r"^(?:書き直した質問|質問|rewritten question|question|q)\s*[:：]\s*", "", lines[0], flags=re.IGNORECASE).strip("「」『』\"“” ")
    return plain if content_words(plain) else None
