"""What the model sees first: the rendered rows of the first batch, their tokens, and which of them it is taught to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Literal

from llmops_kit.errors import InvalidValue, KitError
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models import Models
    from llmops_kit.models.turns import EncodedRow
    from llmops_kit.tuning.dataset import Dataset, Example
    from llmops_kit.tuning.dataset.rows import Kind
    from llmops_kit.tuning.spec import TuneSpec

_MOST_TOKENS = 600  # of a row that are drawn; the numbers above it are those of the whole row
_COUNTED, _UNCOUNTED = "background:rgba(4,120,87,.18)", "background:rgba(107,114,128,.10)"
_LEGEND = {
    "ja": "緑の部分だけが学習の対象（損失に数えるトークン）です。灰色は読むだけの部分です。",
    "en": "Only the green tokens count in the loss: they are what the model is taught to write. The grey ones it only reads.",
}
_SIDES = {"answer": {"ja": "", "en": ""}, "chosen": {"ja": "良い回答", "en": "chosen"}, "rejected": {"ja": "悪い回答", "en": "rejected"}}


@dataclass(frozen=True)
class PreviewRow:
    """One row as token ids become readable: `tokens` are pairs (how it reads, whether it counts in the loss), `text` all of them in one.

    `side` is `chosen` or `rejected` for the two of a preference, else `answer`. `cut` is how many tokens were too many and are not seen.
    """

    line: int
    tokens: tuple[tuple[str, bool], ...]
    side: Literal["answer", "chosen", "rejected"] = "answer"
    cut: int = 0

    @property
    def text(self) -> str:
        """The rendered conversation, control tokens and all."""
        return "".join(piece for piece, _ in self.tokens)

    @property
    def counted(self) -> int:
        """How many tokens count in the loss."""
        return sum(counts for _, counts in self.tokens)


@dataclass(frozen=True)
class Preview:
    """The first rows of a training, in the order in which it sees them, for one base model."""

    base: str
    rows: tuple[PreviewRow, ...]

    def html(self, language: Literal["en", "ja"] | None = None) -> str:
        """The rows with every token in a box, green where it counts; in one language or (None) in both."""
        languages: Sequence[Literal["en", "ja"]] = ("ja", "en") if language is None else (language,)
        legend = "<br>".join(_LEGEND[each] for each in languages)
        rows = "".join(_draw(row, languages) for row in self.rows)
        return f'<p style="margin:.2em 0;opacity:.8">{legend}</p>{rows}'

    def _repr_html_(self) -> str:
        return self.html()


def preview_batch(dataset: Dataset, spec: TuneSpec, models: Models, rows: int = 4) -> Preview:
    """The first `rows` rows that a training with `spec` sees, cut as it cuts them.

    Raises: `InvalidValue` for fewer than one row, or data that nothing can be learnt from with this method; as `models.turn_encoder`; `ModelRefused` where
        the model's chat template refuses every row.
    """
    if rows < 1:
        raise InvalidValue(name="rows", value=rows, allowed="≥ 1")
    if refusal := dataset.refusal:
        raise InvalidValue(en=refusal["en"], ja=refusal["ja"], name="data", value=dataset.name)
    encoder = models.turn_encoder(spec.base)
    limit = spec.max_tokens or models.get(spec.base).context_tokens
    shown: list[PreviewRow] = []
    fault: KitError | None = None
    for example in _first(dataset, spec, rows):
        for side, turns in _sides(example, spec):
            (encoded,) = encoder.try_encode([turns])
            if isinstance(encoded, KitError):
                fault = encoded
                continue
            for whole in encoded:
                row: EncodedRow = whole.cut(limit) if limit else whole
                pieces = tuple(zip(encoder.tokens(row.ids), row.counted, strict=True))
                shown.append(PreviewRow(example.line, pieces, side, len(whole.ids) - len(row.ids)))
    if fault is not None and not shown:
        raise fault
    return Preview(spec.base, tuple(shown))


def _first(dataset: Dataset, spec: TuneSpec, rows: int) -> Sequence[Example]:
    from llmops_kit.tuning.training.order import first_rows

    kind: Kind = "dpo" if spec.method == "dpo" else "kto" if spec.method == "kto" else "sft"
    train, _ = dataset.convert(kind).split(spec.eval_share, spec.seed)
    return first_rows(train, spec.seed)[:rows]


def _sides(example: Example, spec: TuneSpec) -> list[tuple[Literal["answer", "chosen", "rejected"], tuple[Message, ...]]]:
    if spec.method == "dpo" and example.rejected is not None:
        return [("chosen", example.messages), ("rejected", replace(example, answer=example.rejected).messages)]
    return [("answer", example.messages)]


def _draw(row: PreviewRow, languages: Sequence[Literal["en", "ja"]]) -> str:
    facts = {
        "ja": f"{row.line:,}行目 · {len(row.tokens):,}トークン、うち{row.counted:,}を学習",
        "en": f"line {row.line:,} · {len(row.tokens):,} tokens, {row.counted:,} of them learnt",
    }
    if row.cut:
        facts = {"ja": f"{facts['ja']}（先頭の{row.cut:,}を省略）", "en": f"{facts['en']} ({row.cut:,} left out)"}
    head = " / ".join(f"{facts[each]}{' · ' + _SIDES[row.side][each] if _SIDES[row.side][each] else ''}" for each in languages)
    boxes = "".join(_box(piece, counts) for piece, counts in row.tokens[:_MOST_TOKENS])
    more = f" <small>… + {left:,}</small>" if (left := len(row.tokens) - _MOST_TOKENS) > 0 else ""
    body = f'<div style="line-height:1.9;overflow-wrap:anywhere">{boxes}{more}</div>'
    return f'<div style="margin:.6em 0"><div style="font-size:.85em;opacity:.7">{head}</div>{body}</div>'


def _box(piece: str, counts: bool) -> str:
    """One token; a line break shows as a sign and breaks the line, a space keeps its width."""
    style = _COUNTED if counts else _UNCOUNTED
    shown = escape(piece).replace("\n", "↵").replace(" ", "&nbsp;") or "&nbsp;"
    title = {True: "loss", False: "prompt"}[counts]
    return f'<span title="{title}" style="{style};border-radius:3px;margin-right:1px;padding:0 1px">{shown}</span>' + ("<br>" if "\n" in piece else "")
