"""What an evaluation found: the rows, the figures with their intervals, and one sentence about what is established."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmops_kit.statistics import Difference, Interval, compare, mean_interval, wilson
from llmops_kit.types import Evaluation

if TYPE_CHECKING:
    import pandas as pd

PROTOCOL = "retrieval-1"        # the rule for a right hit and the measures; another number means figures that may not be compared
KIND = "retrieval"
_ANSWER_COLUMNS = ("answer", "score_em", "score_em_lenient", "score_char_f1", "score_grounded", "run_id", "error")
_ANSWER_MEASURES = (("EM", "score_em"), ("EM (lenient)", "score_em_lenient"), ("F1", "score_char_f1"), ("groundedness", "score_grounded"))
_LABELS = {"hybrid": "両方（hybrid）", "lexical": "単語（lexical）", "dense": "意味（dense）"}
_STATES = {"found": "", "absent": "not in the documents / 文書にありません", "open": "no passage given / 箇所の指定なし"}


@dataclass(frozen=True)
class Report:
    """The result of `evaluate`. `spec` says what was measured and how; `rows` hold one mapping per question, ready for JSON.

    `id` is also in the app of the answers' Runs, `evaluation:<id>`.
    """

    id: str
    created_at: datetime
    participant: str
    spec: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]

    def to_evaluation(self) -> Evaluation:
        """The record that is kept."""
        summary = [{"mode": mode, "measure": name, **vars(each)} for mode, name, each in self._figures() if each.n]
        return Evaluation(self.id, self.created_at, self.participant, KIND, self.spec, self.rows, summary)

    @classmethod
    def from_evaluation(cls, kept: Evaluation) -> Report:
        """The report of a record that was kept."""
        return cls(kept.id, kept.created_at, kept.participant, kept.spec, tuple(kept.rows))

    @property
    def modes(self) -> list[str]:
        """The modes of search, in the order they were given."""
        return list(self.spec["modes"])

    def of_mode(self, mode: str) -> list[Mapping[str, Any]]:
        """The rows with what one mode found: `rank`, `rr`, `ndcg`, `hits`."""
        return [{**row, **row["modes"][mode]} for row in self.rows]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per question: the best rank of a right passage in each mode (empty: none), what came first, and the answer where one was asked for."""
        import pandas as pd

        first = self.of_mode(self.modes[0])
        ranks = {mode: [row["rank"] for row in self.of_mode(mode)] for mode in self.modes}
        columns: dict[str, Any] = {name: [row[name] for row in first] for name in ("number", "question", "document", "state")}
        columns |= {f"rank_{mode}": pd.array(values, dtype="Int64") for mode, values in ranks.items()}
        columns["found_first"] = [f"{row['hits'][0]['document']}: {row['hits'][0]['text']}" if row["hits"] else "" for row in first]
        columns["closest"] = [row["closest"] for row in first]
        if self.spec.get("model"):
            columns["expected"] = [row["expected"] for row in first]
            columns |= {name: [row.get(name) for row in first] for name in _ANSWER_COLUMNS}
        return pd.DataFrame(columns)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per mode and measure: value, 95 % interval (low, high), and n, the number of questions it was measured on."""
        import pandas as pd

        rows = [(mode, name, each.value, each.low, each.high, each.n) for mode, name, each in self._figures()]
        return pd.DataFrame(rows, columns=["mode", "measure", "value", "low", "high", "n"])

    def chart(self) -> pd.DataFrame:
        """hit@k by k for a plot: mode, k, hit, low, high."""
        hits = self.summary[self.summary["measure"].str.startswith("hit@")]
        chart = hits.assign(k=hits["measure"].str.slice(4).astype(int)).rename(columns={"value": "hit"})
        return chart[["mode", "k", "hit", "low", "high"]].reset_index(drop=True)

    @property
    def absent(self) -> list[Mapping[str, Any]]:
        """The questions whose passage is in no document."""
        return [row for row in self.rows if row["state"] == "absent"]

    @property
    def counted(self) -> int:
        """How many questions the search was measured on."""
        return sum(row["state"] == "found" for row in self.rows)

    def differences(self) -> dict[tuple[str, str], Difference]:
        """For each pair (best mode by MRR, another): the difference of their reciprocal ranks on the same questions."""
        ranks = {mode: [row["rr"] for row in self.of_mode(mode) if row["state"] == "found"] for mode in self.modes}
        best = max(self.modes, key=lambda mode: (sum(ranks[mode]), -self.modes.index(mode)))
        return {(best, mode): compare(ranks[best], ranks[mode]) for mode in self.modes if mode != best}

    def verdict(self, language: str = "ja") -> str:
        """One sentence on whether the modes differ more than chance explains, in `ja` or `en`."""
        if not self.counted:
            return {"ja": "検索を測れる質問がありませんでした。", "en": "There was no question the search could be measured on."}[language]
        pairs = self.differences()
        if not pairs:
            hits = next(each for _, _, each in self._figures())
            texts = {"ja": "正しい箇所が1位だったのは{n}問中{hits}問です。", "en": "The right passage came first for {hits} of {n} questions."}
            texts = texts if self.spec["ks"][0] == 1 else {"ja": "{n}問で測りました。", "en": "Measured on {n} questions."}
            return texts[language].format(n=hits.n, hits=round(hits.value * hits.n))
        return "".join(_say(best, other, each, len(pairs), language) for (best, other), each in pairs.items()).strip()

    def _figures(self) -> Iterator[tuple[str, str, Interval]]:
        for mode in self.modes:
            found = [row for row in self.of_mode(mode) if row["state"] == "found"]
            for k in self.spec["ks"]:
                yield mode, f"hit@{k}", wilson(sum(row["rank"] is not None and row["rank"] <= k for row in found), len(found))
            yield mode, "MRR@10", mean_interval([row["rr"] for row in found])
            yield mode, "nDCG@10", mean_interval([row["ndcg"] for row in found])
        if not self.spec.get("model"):
            return
        for name, key in _ANSWER_MEASURES:
            values = [row[key] for row in self.rows if row.get(key) is not None]
            yield f"answers: {self.spec['model']}", name, wilson(sum(values), len(values)) if name.startswith("EM") else mean_interval(values)

    def _repr_markdown_(self) -> str:
        spec = self.spec
        head = f"**{spec['collection']}** · {spec['embedder']} · {spec['chunker']} · n = {self.counted} / {spec['questions']}"
        lines = ["| | | value | 95 % | n |", "|---|---|---|---|---|"]
        for mode, name, each in self._figures():
            figures = f"{each.value:.3f} | {each.low:.3f}–{each.high:.3f}" if each.n else "– | –"
            lines.append(f"| {_LABELS.get(mode, mode)} | {name} | {figures} | {each.n} |")
        notes = [f"- {_plain(row['question'])}: {_STATES[row['state']]}" for row in self.rows if row["state"] != "found"]
        return "\n".join([head, "", *lines, "", self.verdict("ja"), "", self.verdict("en"), "", *notes])


def _plain(text: str) -> str:
    """A question as a line of Markdown: nothing in it is markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")[:120]


def _say(best: str, other: str, difference: Difference, comparisons: int, language: str) -> str:
    sure = difference.is_established(comparisons)
    texts = {
        "ja": (
            "{best}は{other}より良いといえます（MRRの差{mean:.2f}、95%区間{low:.2f}～{high:.2f}、n={n}）。",
            "{best}と{other}の差は確かめられていません（MRRの差{mean:.2f}、n={n}）。",
        ),
        "en": (
            "{best} is better than {other} (MRR {mean:+.2f}, 95 % {low:.2f} to {high:.2f}, n={n}). ",
            "Between {best} and {other} no difference is established (MRR {mean:+.2f}, n={n}). ",
        ),
    }[language]
    return texts[0 if sure else 1].format(best=best, other=other, mean=difference.mean, low=difference.low, high=difference.high, n=difference.n)
