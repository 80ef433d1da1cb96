"""Instructions hidden in documents: what looks like one is pointed out, and characters nobody sees never reach a model.

**A hint, not a defence.** The patterns find the wordings that are common today, in Japanese and English; somebody who knows
them writes around them. What protects is the rest: a model's answer can call no tool, write nothing and load nothing, sources
stand fenced in the prompt (`documents.fencing`), and answers are shown without pictures and links (`escape_markdown`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmops_kit.types import Source

FLAG = "instructions_in_sources"
"""The flag of a Run one of whose sources looks like giving orders; `instructions_in_source:2` says which."""

INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
"""What takes no room on a page and can carry text unseen: tag characters, zero-width and bidirectional marks, variation selectors."""

_FLAG_EMOJI = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f")     # England, Scotland, Wales …
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_SMUGGLED = re.compile("[\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}|[\u202d\u202e]")
_EXCERPT = 80                   # characters of a finding that are shown
_ORDERS = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|commands?|orders?|context|messages?)"
_ORDERS_JA = "(?:指示|命令|ルール|規則|プロンプト|制約|設定|指令|ガイドライン|文脈|説明)"
_READER_JA = "(?:AI|人工知能|アシスタント|言語モデル|LLM|チャットボット|生成AI|回答者|要約者)"
_PATTERNS: tuple[tuple[str, str], ...] = (
    (
        "override",
        rf"\b(?:ignore|disregard|forget|override|bypass|skip)\b(?:\s+(?:all|any|every|the|your|my|of|these|those|previous(?:ly)?|prior|above|earlier|preceding|"
        rf"existing|original|other|given|system|former|said)){{1,6}}\s+{_ORDERS}\b"
        rf"|\b(?:ignore|disregard|forget)\s+(?:everything|all|anything)\s+(?:above|before|you|that)\b"
        r"|\b(?:new|updated|real|actual|revised|secret)\s+(?:system\s+)?instructions?\s*:"
        r"|\bdo\s+not\s+follow\s+(?:the|your|any)\s+(?:previous|above|earlier|system|original)\b",
    ),
    (
        "override",
        rf"(?:これまで|以前|上記|直前|前|先ほど|今まで|ここまで|既存|すべて|全て|全部|あらゆる|他|ほか|元|最初|与えられた|受けた|システム).{{0,12}}{_ORDERS_JA}"
        r"(?:など)?(?:を|は|に|も).{0,8}(?:無視(?!した|する(?:場合|者|と|行為)|して(?:は|い)|すれば|され|でき)|忘れ(?:て(?!は|い)|なさい|ろ)|破棄し(?:て(?!は|い)|ろ)"
        rf"|従わないで|従わず|従うな|上書きし(?:て(?!は|い)|ろ))|{_ORDERS_JA}を(?:すべて|全て|全部)?(?:無視し|忘れ|破棄し)(?:て(?!は|い)|なさい|ろ)",
    ),
    (
        "secret",
        r"\b(?:reveal|print|repeat|show|output|leak|disclose|tell|write|give)\b.{0,30}\b(?:system\s+prompt|hidden\s+prompt|initial\s+prompt|"
        r"(?:your|the|initial|hidden)\s+instructions|api\s+keys?|passwords?)"
        r"|システム(?:プロンプト|メッセージ|指示).{0,15}(?:表示|出力|教え|開示|公開|書き出|漏ら|答え)",
    ),
    (
        "persona",
        r"\bfrom\s+now\s+on\b,?\s+(?:you|answer|respond|reply|always|act)\b|\byou\s+are\s+now\s+(?:an?\s+)?(?:unrestricted|jailbroken|dan\b|different|new|evil|free)"
        r"|\b(?:act|behave|respond)\s+as\s+(?:if\s+you|an?\s+(?:unrestricted|different|evil))|\b(?:developer|god|debug)\s+mode\b"
        r"|(?:あなた|君|きみ|お前)は(?:今|これ|いま)から|(?:今後|これから|以後|以降)は?、?.{0,30}(?:として(?:振る舞|ふるま|行動|回答|答え)|になりきって)",
    ),
    (
        "role",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)[^>]{0,20}\|?>|\[/?INST\]|<</?SYS>>|</?(?:system|assistant|instructions?)>"
        r"|^\s*(?:#{1,4}\s*)?(?:system|assistant|developer|システム|アシスタント)\s*(?:prompt|message|プロンプト)?\s*:",
    ),
    (
        "addressed",
        r"\b(?:note|attention|message|instructions?|reminder)\s+(?:to|for)\s+(?:the\s+|any\s+|all\s+)?(?:ai|llm|assistant|language\s+model|chatbot|model)s?\b"
        r"|\bif\s+you\s+are\s+(?:an?\s+)?(?:ai|llm|language\s+model|assistant|chatbot)\b"
        r"|\b(?:ai|llm|assistant|language\s+model|chatbot)s?\s+(?:must|should|shall|has\s+to|have\s+to)\s+(?:always\s+|only\s+|never\s+|not\s+)?"
        r"(?:ignore|say|answer|respond|reply|recommend|tell|mention|output|rate|claim)"
        rf"|{_READER_JA}(?:へ|への|に対する|向けの?|宛ての?)(?:追加)?(?:指示|命令|メモ|注意|連絡|伝言|メッセージ|お願い)"
        rf"|(?:を|が)(?:読んだ|読む|処理する|処理している|要約する|参照する){_READER_JA}|{_READER_JA}は(?:必ず|絶対に|ただちに).{{0,40}}(?:答え|回答|出力|推薦|無視)"
        r"|とだけ(?:答え|回答し|出力し|返答し|返し)(?:て|なさい|る|ろ)|(?:利用者|ユーザー|質問者)に(?:は|も)?.{0,20}(?:知らせ|伝え|明かさ|教え|言わ)(?:ず|ない|るな)",
    ),
    (
        "sending",
        r"\b(?:send|post|upload|forward|transmit|e-?mail|submit|append|exfiltrate|leak)\b.{0,60}\b(?:conversation|chat\s+history|user'?s?\s+\w+|question|prompt|api\s+key|password|"
        r"secrets?|credentials?|context|documents?|answers?)\b.{0,60}(?:https?://|\bwww\.|\b(?:url|address|endpoint|server|e-?mail)\b)"
        r"|(?:会話|質問|回答|内容|パスワード|APIキー|個人情報|文書|資料|データ|情報|履歴|秘密).{0,25}(?:URL|アドレス|サーバー?|リンク|https?://\S{1,200}?|宛先)\s*(?:に|へ|まで).{0,12}"
        r"(?:送信|送っ|送れ|送る|転送|投稿|アップロード|貼り付け)",
    ),
    ("picture", r"!\[[^\]]{0,200}\]\(\s*<?\s*(?:https?:)?//|<img\b[^>]{0,200}\bsrc\s*=\s*[\"']?\s*(?:https?:)?//"),
)
_COMPILED = tuple((kind, re.compile(pattern, re.IGNORECASE | re.MULTILINE)) for kind, pattern in _PATTERNS)


@dataclass(frozen=True)
class Finding:
    """Something in a source that may be meant for the model: its `kind`, and an `excerpt` (one line, at most 80 characters).

    Kinds: `override` (forget your instructions), `secret`, `persona`, `role` (a forged turn of the chat), `addressed` (to an AI),
    `sending` (data to an address), `picture` (one that loads from another host), `invisible` (characters nobody sees), `hidden_text`
    (the page has text nobody sees). `source` is the number of the source, from 1.
    """

    source: int
    kind: str
    excerpt: str


def strip_invisible(text: str) -> str:
    """`text` without the characters of `INVISIBLE`."""
    return INVISIBLE.sub("", text)


def find_instructions(text: str, *, source: int = 1) -> tuple[Finding, ...]:
    """What in `text` looks like instructions to a model, one finding per kind. Spelling tricks (full width, zero-width marks) do not hide them."""
    found = [*_find_invisible(text, source)]
    plain = re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", strip_invisible(text)))
    joined = re.sub(r"(?<=[^\x00-\x7f])\n(?=[^\x00-\x7f])", "", plain)      # Japanese broken by the width of a page
    seen: set[str] = set()
    for kind, pattern in _COMPILED:
        match = pattern.search(joined) or pattern.search(joined.replace("\n", " "))
        if match is not None and kind not in seen:
            seen.add(kind)
            found.append(Finding(source, kind, _shorten(match[0])))
    return tuple(found)


def inspect_sources(sources: Sequence[Source], *, hidden: Sequence[bool] = ()) -> tuple[Finding, ...]:
    """`find_instructions` for every source; `hidden` says of each whether its page has text nobody sees."""
    found: list[Finding] = []
    for number, source in enumerate(sources, start=1):
        found.extend(find_instructions(source.text, source=number))
        if number <= len(hidden) and hidden[number - 1]:
            found.append(Finding(number, "hidden_text", ""))
    return tuple(found)


def flags_of(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The flags of a Run with these findings: none, or `instructions_in_sources` and one `instructions_in_source:N` for each source."""
    numbers = sorted({finding.source for finding in findings})
    return (FLAG, *(f"instructions_in_source:{number}" for number in numbers)) if numbers else ()


def escape_markdown(text: str) -> str:
    """`text` of a model or a document, safe to be put into Markdown: no picture, link, HTML or code block can come of it.

    The signs that begin one become character references, which Markdown shows as the signs they stand for but never
    takes for its own (CommonMark 0.31.2, section 2.5). Lists, headings, tables and emphasis stay. Addresses stay readable as text.
    """
    visible = _SMUGGLED.sub("", _TAGS.sub("", text)).replace("&", "&amp;").replace("\\", "&#92;")
    signs = {"<": "&lt;", ">": "&gt;", "[": "&#91;", "]": "&#93;", "`": "&#96;", "$": "&#36;", "~": "&#126;", "@": "&#64;"}
    quoted = re.sub(r"[<\[\]`$~@]|(?<!^)>", lambda sign: signs[sign[0]], visible, flags=re.MULTILINE)
    quoted = re.sub(r"(?<=\w):(?=//)", "&#58;", quoted)
    return re.sub(r"\b(www|mailto|ftp|xmpp)([.:])", lambda sign: f"{sign[1]}&#{ord(sign[2])};", quoted, flags=re.IGNORECASE)


def _find_invisible(text: str, source: int) -> Iterator[Finding]:
    tags = _TAGS.findall(_FLAG_EMOJI.sub("", text))
    if tags:
        # A tag character is an ASCII character moved up by U+E0000: what it says can be shown.
        said = "".join(chr(ord(sign) - 0xE0000) for tag in tags for sign in tag if 0xE0020 <= ord(sign) <= 0xE007E)
        yield Finding(source, "invisible", _shorten(said))
    elif (smuggled := _SMUGGLED.search(text)) is not None:
        yield Finding(source, "invisible", f"U+{ord(smuggled[0][0]):04X} × {len(smuggled[0])}")


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"
