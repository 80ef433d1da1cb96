"""Campaigns: what is to be rated, by which rubric, by whom and how often. Made in one transaction, and never changed but for being closed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast, get_args

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.feedback.entries import check_id, check_rater
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.feedback.rubrics import MAX_ANSWERS, MAX_TEXT, Rubric
from llmops_kit.feedback.tasks import Kind
from llmops_kit.store.columns import storable
from llmops_kit.types import Campaign, CampaignItem, Claim, Comparison, Run, new_id
from llmops_kit.variants import is_usable, item_of, variant_of

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store
    from llmops_kit.store.change import Change

MAX_ITEMS = 20_000
MAX_K = 100
MAX_NAME = 200
_TIMEOUT_S = (10.0, 7 * 86_400.0)
_COLUMNS = ["campaign_id", "name", "owner", "kind", "items", "k", "done", "total", "raters", "created_at", "closed_at"]


def create(store: Store, runs: Sequence[Run], at: datetime, *, id: str | None, tags: Mapping[str, Sequence[str]], **asked: Any) -> Campaign:
    """Write a campaign over `runs` and its items; `asked` as in `make_spec`, `owner` and `name`. The campaign that is there where its id was sent before."""
    spec = make_spec(**{name: value for name, value in asked.items() if name not in ("name", "owner")})
    usable = list({run.id: run for run in runs if is_usable(run)}.values())
    campaign_id = check_id(id)
    groups = group(usable, spec["kind"])
    if not groups:
        raise _nothing(spec["kind"], len(runs), len(usable))
    if len(groups) > MAX_ITEMS:
        raise InvalidValue(name="items", value=f"{len(groups):,}", allowed=f"≤ {MAX_ITEMS:,}")
    if spec["shuffle"]:
        random.Random(campaign_id).shuffle(groups)
    items = [
        CampaignItem(new_id(), campaign_id, place, tuple(run.id for run in answers), item_of(answers[0]), _tags(answers, tags))
        for place, answers in enumerate(groups)
    ]
    spec |= {"items": len(items), "left_out": len(runs) - len(usable)}
    campaign = Campaign(campaign_id, at, check_rater(asked["owner"]), check_name(asked["name"]), spec)

    def work(change: Change) -> Campaign:
        if not change.append(campaign):
            kept = change.find(Campaign, id=campaign_id)[0]
            if (kept.owner, kept.name) != (campaign.owner, campaign.name):
                raise InvalidValue(name="id", value=campaign_id, allowed={"en": "an id that no other campaign has", "ja": "ほかのキャンペーンにないid"})
            return kept
        change.put_all(items)
        return campaign

    return store.commit(work)


def make_spec(
    *,
    rubric: Rubric | str | Mapping[str, Any] | Sequence[Any] | None,
    guidelines: str,
    k: int,
    raters: str | Iterable[str] | None,
    timeout_s: float,
    kind: str,
    shuffle: bool,
    blind: bool,
    source: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a campaign asks, checked and as plain data. Raises: `InvalidValue`, `UnknownName`."""
    if kind not in get_args(Kind):
        raise InvalidValue(name="kind", value=kind, allowed=", ".join(get_args(Kind)))
    read = read_rubric(rubric if rubric is not None else "score" if kind == "rate" else kind)
    types = {criterion.type for criterion in read.criteria} & {"pairwise", "ranking"}
    if types and kind == "rate" and len(read.criteria) == 1:
        kind = types.pop()      # the rubric says what kind it is
    elif types != (set() if kind == "rate" else {kind}) or (kind != "rate" and len(read.criteria) != 1):
        allowed = {"en": "no rubric, or the preset of that name", "ja": "指定なし、または同名のプリセット"}
        raise InvalidValue(name="rubric", value=f"{read.name} ({kind})", allowed=allowed if kind != "rate" else "boolean, category, ordinal, number, text")
    listed = raters if raters is None or raters == "others" else sorted({check_rater(rater) for rater in ([raters] if isinstance(raters, str) else raters)})
    most = MAX_K if listed is None or isinstance(listed, str) else min(MAX_K, len(listed))
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise InvalidValue(name="k", value=k, allowed={"en": f"1–{most} raters per item", "ja": f"1項目あたり1〜{most}人"})
    low, high = _TIMEOUT_S
    if not isinstance(timeout_s, (int, float)) or not low <= timeout_s <= high:
        raise InvalidValue(name="timeout_s", value=timeout_s, allowed=f"{low:g}–{high:g}")
    if len(guidelines) > MAX_TEXT:
        raise InvalidValue(name="guidelines", value=f"{len(guidelines):,}", allowed=f"≤ {MAX_TEXT:,}")
    return {
        "kind": cast(Kind, kind),
        "rubric": read.plain(),
        "guidelines": storable(guidelines),
        "k": k,
        "raters": listed,
        "timeout_s": float(timeout_s),
        "shuffle": bool(shuffle),
        "blind": bool(blind),
        "source": dict(source) if source else None,
    }


def check_name(name: str) -> str:
    """A campaign's name as it is stored. Raises: `InvalidValue`."""
    clean = storable(str(name)).strip()
    if not clean or len(clean) > MAX_NAME:
        raise InvalidValue(name="name", value=clean[:80], allowed={"en": f"a name of 1–{MAX_NAME} characters", "ja": f"1〜{MAX_NAME}文字の名前"})
    return clean


def group(runs: Sequence[Run], kind: Kind) -> list[list[Run]]:
    """The runs of each item to be: one, the two of a pair, or those of a ranking, which answer the same thing by different variants.

    Where a variant answered something several times, its newest answer is taken. Raises: `InvalidValue` for too many to put in order.
    """
    if kind == "rate":
        return [[run] for run in runs]
    answers: dict[str, dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: (run.created_at, run.id)):
        answers.setdefault(item_of(run), {})[variant_of(run)] = run
    if kind == "pairwise":
        return [list(pair) for of_item in answers.values() for pair in combinations(of_item.values(), 2)]
    if crowded := next((of_item for of_item in answers.values() if len(of_item) > MAX_ANSWERS), None):
        allowed = {"en": f"2–{MAX_ANSWERS} answers to an item", "ja": f"1項目につき2〜{MAX_ANSWERS}個の回答"}
        raise InvalidValue(name="ranking", value=f"{len(crowded)}: {', '.join(crowded)[:120]}", allowed=allowed)
    return [list(of_item.values()) for of_item in answers.values() if len(of_item) > 1]


def find_runs(store: Store, runs: Iterable[Run | str]) -> list[Run]:
    """The runs with these ids, in the order given. Raises: `UnknownName` for one that is not there."""
    ids = list(dict.fromkeys(run.id if isinstance(run, Run) else str(run) for run in runs))
    found = {run.id: run for run in store.find(Run, id=ids)} if ids else {}
    if missing := [id for id in ids if id not in found]:
        raise UnknownName(kind={"en": "run", "ja": "実行"}, name=missing[0][:80], known="kit.playground, kit.documents, kit.comparison")
    return [found[id] for id in ids]


def find_comparison(store: Store, id: str) -> tuple[list[Run], dict[str, list[str]]]:
    """The answers of a comparison, and the tags of its items where its rows have them. Raises: `UnknownName`."""
    runs = store.find(Run, app=f"compare:{id}", newest_first=False)
    kept = store.get(Comparison, id)
    if not runs and kept is None:
        raise UnknownName(kind={"en": "comparison", "ja": "比較"}, name=str(id)[:80], known="kit.comparison.list()")
    rows = kept.spec.get("rows") if kept is not None else None
    tags: dict[str, list[str]] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and row.get("tags") and row.get("item") is not None:
            tags[f"compare:{id}:{row['item']}"] = [str(tag) for tag in row["tags"]] if isinstance(row["tags"], list) else str(row["tags"]).split(",")
    return runs, tags


def list_campaigns(store: Store, rater: str | None) -> pd.DataFrame:
    """One row per campaign, newest first; only those that are for `rater` or belong to them, if given."""
    import pandas as pd

    from llmops_kit.feedback.queue import may_rate

    rows = []
    for campaign in store.find(Campaign):
        if rater is not None and campaign.owner != rater and not may_rate(campaign, rater):
            continue
        spec = campaign.spec
        raters = spec["raters"] if isinstance(spec["raters"], str) or spec["raters"] is None else ", ".join(spec["raters"])
        done = store.count(Claim, campaign_id=campaign.id, state="done")
        facts = [campaign.id, campaign.name, campaign.owner, spec["kind"], spec["items"], spec["k"], done, spec["items"] * spec["k"], raters]
        rows.append([*facts, campaign.created_at, campaign.closed_at])
    return pd.DataFrame(rows, columns=_COLUMNS)


def _tags(answers: Sequence[Run], tags: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    own = [tag for run in answers if run.app == "import" for tag in run.params.get("tags", ())]
    return tuple(dict.fromkeys([*tags.get(item_of(answers[0]), ()), *own]))


def _nothing(kind: str, given: int, usable: int) -> InvalidValue:
    if not usable:
        return InvalidValue(
            en=f"There is nothing to rate: {given:,} answers were given, and none is finished, without an error and not empty.",
            ja=f"評価するものがありません。{given:,}件の回答のうち、正常に終わった空でない回答がありません。",
            name="runs",
        )
    return InvalidValue(
        en=f"There is nothing to put beside each other for “{kind}”: no two of the {usable:,} answers are by different models to the same prompt.",
        ja=f"「{kind}」で並べるものがありません。{usable:,}件の回答の中に、同じ入力に対する異なるモデルの回答がありません。",
        name="runs",
    )
