"""What a comparison asks: its items, its variants with their prompts pinned, and the id of each answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid5

from llmops_kit.comparison.variants import SEARCH_PARAMS, Variant
from llmops_kit.errors import InvalidValue, MissingVariable
from llmops_kit.playground.cells import MAX_CELLS, plan_params, plan_prompts, plan_rows, prompt_from_spec, prompt_to_spec
from llmops_kit.playground.cells import Cell as GridCell
from llmops_kit.playground.cells import Plan as GridPlan
from llmops_kit.prompts.template import normalize_name
from llmops_kit.types import Prompt

if TYPE_CHECKING:
    from llmops_kit.prompts import PromptLibrary

OWN_COLUMNS = ("item", "expected", "tags")
"""Columns of a test set that are the item's and no variables, unless the prompt has a blank of that name."""
_MOST_ID = 100
_MOST_CHARS = 2_000_000     # of an item: what is asked is kept, and no model reads more


class Cell(NamedTuple):
    """One answer of a comparison: positions (from 0) in the plan's items and variants."""

    item: int
    variant: int


@dataclass(frozen=True)
class Item:
    """One thing to answer: its `id` in the comparison, what fills the blanks, acceptable answers (one per line), and its tags."""

    id: str
    variables: Mapping[str, Any]
    expected: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything a comparison asks for, pinned. `variants` carry their names as labels and a `Prompt` or None."""

    prompt: Prompt
    variants: tuple[Variant, ...]
    items: tuple[Item, ...]
    params: Mapping[str, Any]
    baseline: str

    def cells(self) -> Iterator[Cell]:
        """All answers, item by item: whatever is there when somebody stops compares every variant on the first items."""
        return (Cell(*place) for place in product(range(len(self.items)), range(len(self.variants))))

    def run_id(self, id: str, cell: Cell, attempt: int) -> str:
        """The id of the Run of a cell's `attempt` (from 0) in the comparison `id`: always the same one, so that nothing is stored twice."""
        return str(uuid5(UUID(id), json.dumps([self.items[cell.item].id, self.variants[cell.variant].name, attempt])))

    def prompt_of(self, variant: Variant) -> Prompt:
        """The variant's own prompt, else the comparison's."""
        return variant.prompt or self.prompt

    def call(self, cell: Cell) -> dict[str, Any]:
        """The keywords of `Playground.stream` for a cell: model, variables and parameters."""
        return self._plans[cell.variant].call(GridCell(row=cell.item, repeat=0, prompt=0, params=0, model=0))

    def search_params(self, cell: Cell) -> dict[str, Any]:
        """What a variant with documents says of the search."""
        return {name: value for name, value in self.variants[cell.variant].params.items() if name in SEARCH_PARAMS}

    @cached_property
    def _plans(self) -> tuple[GridPlan, ...]:
        rows = tuple(item.variables for item in self.items)
        own = ({name: value for name, value in variant.params.items() if name not in SEARCH_PARAMS} for variant in self.variants)
        return tuple(
            GridPlan(prompts=(self.prompt_of(variant),), models=(variant.model,), rows=rows, params=({**self.params, **params},))
            for variant, params in zip(self.variants, own, strict=True)
        )

    def spec(self) -> dict[str, Any]:
        """The plan as plain data for the store."""
        variants = [
            {name: getattr(each, name) for name in ("name", "model", "documents", "params")} | {"prompt": each.prompt and prompt_to_spec(each.prompt)}
            for each in self.variants
        ]
        rows = [{"item": item.id, "variables": item.variables, "expected": item.expected, "tags": item.tags} for item in self.items]
        plain = {"prompt": prompt_to_spec(self.prompt), "variants": variants, "rows": rows, "params": self.params, "baseline": self.baseline}
        return dict(json.loads(json.dumps(plain, ensure_ascii=False)))


def plan_from_spec(spec: Mapping[str, Any]) -> Plan:
    """The plan a stored comparison was started with."""
    variants = (
        Variant(each["model"], each["documents"], each["prompt"] and prompt_from_spec(each["prompt"]), each["params"], each["name"])
        for each in spec["variants"]
    )
    items = (Item(row["item"], row["variables"], row["expected"], tuple(row["tags"])) for row in spec["rows"])
    return Plan(prompt_from_spec(spec["prompt"]), tuple(variants), tuple(items), spec["params"], spec["baseline"])


def make_plan(
    prompt: Any, variants: Sequence[Variant], rows: Any, params: Mapping[str, Any] | None, library: PromptLibrary, *, baseline: str | None = None
) -> Plan:
    """The plan of a comparison over `rows`, a test set or a single `Item`.

    Raises: `UnknownName` for a prompt, `InvalidValue` for anything else that does not serve.
    """
    asked = _pin(prompt, library)
    pinned = tuple(replace(variant, prompt=None if variant.prompt is None else _pin(variant.prompt, library)) for variant in variants)
    blanks = {blank.name for each in (asked, *(variant.prompt for variant in pinned)) if each is not None for blank in each.variables}
    names = [variant.name for variant in pinned]
    if baseline is not None and baseline not in names:
        raise InvalidValue(name="baseline", value=baseline, allowed=", ".join(names))
    items = (rows,) if isinstance(rows, Item) else read_items(rows, blanks)
    if len(items) * len(names) > MAX_CELLS:
        raise InvalidValue(name="rows", value=f"{len(items):,} × {len(names)}", allowed=f"≤ {MAX_CELLS:,}")
    if (size := max(sum(len(str(value)) for value in item.variables.values()) for item in items)) > _MOST_CHARS:
        raise InvalidValue(name="rows", value=f"{size:,} characters", allowed=f"≤ {_MOST_CHARS:,} characters")
    return Plan(asked, pinned, items, plan_params(params)[0], baseline or names[0])


def read_items(rows: Any, blanks: set[str]) -> tuple[Item, ...]:
    """Rows as items; `blanks` are the prompts' variables. An item without an id has its number, from 1.

    Raises: `InvalidValue` for no rows, and for an id that is there twice or too long; `UnreadableFile` for a file.
    """
    items = tuple(_read_item(number, row, blanks) for number, row in enumerate(plan_rows(rows), 1))
    if not items:
        raise InvalidValue(name="rows", value=0, allowed="≥ 1")
    twice = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise InvalidValue(name="item", value=", ".join(twice[:3]), allowed={"en": "ids that differ", "ja": "重複しないid"})
    return items


def app_of(comparison_id: str) -> str:
    """What the Runs of a comparison carry as `app`."""
    return f"compare:{comparison_id}"


def question_of(item: Item, prompt: Prompt, library: PromptLibrary) -> str:
    """What a variant with documents is asked: the variable `question`, else the only filled text blank, else the last message of the prompt.

    Raises: `MissingVariable` where that is empty.
    """
    texts = {blank.name for blank in prompt.variables if blank.kind == "text"}
    filled = {normalize_name(name): str(value) for name, value in item.variables.items() if str(value).strip()}
    given = [filled[name] for name in filled if name in texts]
    turns = library.render(prompt, item.variables) if prompt.name and "question" not in filled and len(given) != 1 else prompt.messages
    last = next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
    question = filled.get("question") or (given[0] if len(given) == 1 else last)
    if not question.strip():
        raise MissingVariable(prompt=prompt.name or "chat", variable="question")
    return question


def _pin(prompt: Any, library: PromptLibrary) -> Prompt:
    """One prompt with its version fixed."""
    found = plan_prompts(prompt, library) if prompt else ()
    if len(found) != 1:
        one = {"en": "one name, Prompt or list of messages", "ja": "名前、Prompt、メッセージのリストのいずれか1つ"}
        raise InvalidValue(name="prompt", value=prompt, allowed=one)
    return found[0]


def _read_item(number: int, row: Mapping[str, Any], blanks: set[str]) -> Item:
    own = {name: row[name] for name in OWN_COLUMNS if name in row and name not in blanks}
    id = str(own.get("item", "")).strip() or str(number)
    if len(id) > _MOST_ID:
        raise InvalidValue(name="item", value=id, allowed=f"≤ {_MOST_ID}")
    tags = own.get("tags") or ()
    listed = re.split(r"[,，、;；\n]", tags) if isinstance(tags, str) else list(tags) if isinstance(tags, (list, tuple)) else [tags]
    expected = str(own["expected"]) if str(own.get("expected", "")).strip() else None
    variables = {name: value for name, value in row.items() if name not in own}
    return Item(id, variables, expected, tuple(dict.fromkeys(tag for each in listed if (tag := str(each).strip()))))
