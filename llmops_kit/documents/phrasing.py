"""From a question and the span that answers it to a sentence that says nothing else.

    state("年次有給休暇は何日ですか。", "10日")              # "年次有給休暇は10日です。"
    state("Who invented the telephone?", "Alexander Graham Bell")    # "Alexander Graham Bell invented the telephone."

The sentence is the question with the span where the question word was. Where the question has another form, the span is put into a fixed
frame. Every content word is of the question or the span (`is_copy` checks it, also for sentences that a model wrote).
"""

from __future__ import annotations

import re
import unicodedata

from llmops_kit.models.lexical import tokenize
from llmops_kit.models.units import language_of

_MAX_QUESTION = 80              # characters: a longer one makes a clumsy sentence
_COUNTED = (
    "年|月|日|時|分|秒|人|名|回|個|歳|才|円|本|枚|台|階|番|つ|度|倍|割|件|号|世紀|週間|営業日|曜日|番目|種類|キロ|メートル|パーセント|[ヶケカか箇](?:所|月|国)"
)
_WH_JA = re.compile(
    rf"(?:何|なん)(?P<counted>{_COUNTED})(?:間|前|後|目)?|(?:何|どんな|どの|どこの|なに|なん)(?P<noun>[一-鿿々ァ-ヴー]{{1,6}})(?=[かは、。？?]|$)"
    r"|何(?!処)|なに|なん(?=[でと])|どこ|何処|誰|だれ|どなた|いつ|いくら|いくつ|どれ(?:くらい|ぐらい|ほど)|どの(?:くらい|ぐらい)|どちら"
)
_END_JA = re.compile(r"か?[、。？?\s]*$")
_COPULA_JA = {"": "です", "です": "です", "でしょう": "です", "である": "です", "だろう": "です", "でした": "でした", "だった": "でした", "であった": "でした"}
_PREDICATE_JA = re.compile(r"[^、。]{0,25}(?:[るうくすつむぶぐたい]|だ|ます|ました|ません|です|でした)")
_TOPIC_JA = re.compile(r"(?P<topic>.{2,}[^でにとへ、]は)[、,。？?\s]*")
_TIME_JA = re.compile(r"(?:[年月日時分]|世紀|年代|曜日|午前|午後)$")
_AUXILIARY_EN = "is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might"
_BE_EN = re.compile(
    r"(?:what|who)\s+(?P<be>is|are|was|were)\s+(?P<topic>(?:the|a|an|his|her|its|their|my|our|your)\s+[^?]+?|\S+['’]s\s+[^?]+?)\s*\??", re.IGNORECASE
)
_DANGLING_EN = re.compile(
    rf"\b(?:{_AUXILIARY_EN}|called|named|known|located|born|made|used)\b|\b(?:as|to|about|using|with|for|of|in|on|by|at|from)$", re.IGNORECASE
)
_WHO_EN = re.compile(rf"who\s+(?P<rest>(?!(?:{_AUXILIARY_EN}|else)\b)\w+\s+.+?)\s*\??", re.IGNORECASE)
_FRAME = {"ja": "「{span}」です。", "en": "The answer is “{span}”."}
_FREE_EN = frozenset(re.findall(r"\w+", "the a an is are was were it answer of in on at to by for and that this be has have had as with from"))


def state(question: str, span: str) -> str:
    """The answer as a sentence in the language of `question`: its own words with the span in them, else a frame around the span."""
    language = language_of(question)
    asked = " ".join(question.split())
    stated = None
    if span.strip() and "\n" not in span and len(asked) <= _MAX_QUESTION:
        stated = _state_ja(asked, span) if language == "ja" else _state_en(asked, span)
    return stated if stated is not None and is_copy(stated, question, span) else _FRAME[language].format(span=span)


def is_copy(sentence: str, question: str, span: str) -> bool:
    """Whether `sentence` has `span` word for word, and besides only words of `question` and words without content."""
    if span not in sentence and unicodedata.normalize("NFKC", span) not in unicodedata.normalize("NFKC", sentence):
        return False
    known = set(tokenize(question)) | set(tokenize(span)) | _FREE_EN
    # Of Japanese the single characters are compared: where span and question meet, pairs arise that neither has. Kana alone are free.
    said = [term for term in tokenize(sentence) if len(term) == 1 or term.isascii()]
    return all(term in known or "ぁ" <= term <= "ゖ" for term in said)


def _state_ja(question: str, span: str) -> str | None:
    found = list(_WH_JA.finditer(question))
    if not found:
        topic = _TOPIC_JA.fullmatch(question)
        return f"{topic['topic']}{span}です。" if topic else None
    asked = found[0]
    before, after = question[: asked.start()], _END_JA.sub("", question[asked.end():])
    kind = asked["noun"] or (re.sub(r"\A(?:キロ|メートル|種類|パーセント)\Z", "", asked["counted"] or ""))
    if len(found) > 1 or (kind and kind[-1] not in span) or (asked["noun"] and not span.endswith(asked["noun"])):
        return None
    if after in _COPULA_JA:
        return f"{before}{span}{_COPULA_JA[after]}。" if re.search("[はが]、?$", before) else None
    if not before or not _PREDICATE_JA.fullmatch(after):
        return None
    particle = "に" if asked[0] == "いつ" and not re.match("[にからまで]", after) and _TIME_JA.search(span) else ""
    return f"{before}{span}{particle}{after}。"


def _state_en(question: str, span: str) -> str | None:
    if (found := _BE_EN.fullmatch(question)) is not None and not _DANGLING_EN.search(found["topic"]):
        topic = found["topic"][0].upper() + found["topic"][1:]
        return f"{topic} {found['be'].lower()} {span}."
    if (found := _WHO_EN.fullmatch(question)) is not None and not span[0].islower():
        return f"{span} {found['rest']}."
    return None
