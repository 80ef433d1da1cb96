"""What answers in a comparison: a model, with or without documents, with a prompt of its own or parameters of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, count
from typing import Any

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.cells import plan_params
from llmops_kit.types import Message, Prompt

MOST_AT_ONCE, MOST_IN_BATCH = 4, 8
SEARCH_PARAMS = ("k", "mode", "reranker")
"""What a variant with documents may set besides the parameters of a model."""
_MOST_LABEL = 80


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    `model` is any model of the catalogue, an adapter among them. `documents` is a collection the model answers from (None: without).
    `prompt` takes the place of the comparison's: a library name, a `Prompt` (such as an older version), or a chat. `params` go over
    the comparison's; with documents also `k`, `mode` and `reranker`. `label` is the name to show.
    """

    model: str
    documents: str | None = None
    prompt: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or what tells it from others: model, `+docs`, prompt version, parameters."""
        return self.label or _derive(self, "+docs" if self.documents else "")


def read_variants(models: Any, *, least: int = 1, most: int = MOST_IN_BATCH) -> tuple[Variant, ...]:
    """`models` as variants with names that differ: a model id, a `Variant`, its fields as a mapping, or a list of them.

    Raises: `InvalidValue` for anything else, or for fewer than `least` or more than `most`.
    """
    several = [models] if isinstance(models, (str, Variant, Mapping)) else list(models or ())
    variants = [_read(each) for each in several]
    if not least <= len(variants) <= most:
        raise InvalidValue(name="models", value=len(variants), allowed=f"{least}–{most}")
    return _name_apart(variants)


def _read(given: Any) -> Variant:
    if isinstance(given, str):
        given = Variant(given)
    if isinstance(given, Mapping):
        known = [each.name for each in fields(Variant)]
        if unknown := sorted(set(given) - set(known)):
            raise InvalidValue(name="models", value=", ".join(map(str, unknown)), allowed=", ".join(known))
        given = Variant(**{"model": "", **given})
    if not isinstance(given, Variant) or not isinstance(given.model, str) or not given.model.strip():
        raise InvalidValue(name="models", value=given, allowed="'starter-lm', Variant('starter-lm', …), {'model': 'starter-lm', …}")
    if len(given.label) > _MOST_LABEL:
        raise InvalidValue(name="label", value=given.label, allowed=f"≤ {_MOST_LABEL}")
    return replace(given, params=_read_params(given), label=" ".join(given.label.split()))


def _read_params(variant: Variant) -> dict[str, Any]:
    params = dict(variant.params or {})
    search = {name: params.pop(name) for name in SEARCH_PARAMS if variant.documents and name in params}
    return {**plan_params(params)[0], **search}


def _name_apart(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """The same variants with their names as labels: with the collection where there are several, numbered where names are the same."""
    collections = {variant.documents for variant in variants if variant.documents}
    taken = {"item", "expected", "tags"}     # columns of the table that are not a variant's
    named = []
    for variant in variants:
        full = variant.label or (_derive(variant, f"+docs:{variant.documents}") if variant.documents and len(collections) > 1 else variant.name)
        name = next(name for name in chain([full], (f"{full} ({number})" for number in count(2))) if name not in taken)
        taken.add(name)
        named.append(replace(variant, label=name))
    return tuple(named)


def _derive(variant: Variant, documents: str) -> str:
    params = "".join(f" {name}={value:g}" if isinstance(value, (int, float)) else f" {name}={value}" for name, value in variant.params.items())
    return f"{variant.model}{documents}{_describe(variant.prompt)}{params}"[:_MOST_LABEL]


def _describe(prompt: Any) -> str:
    if prompt is None:
        return ""
    if isinstance(prompt, Prompt):
        return f" {prompt.name}{f' v{prompt.version}' if prompt.version else ''}".rstrip()
    return f" {prompt}" if isinstance(prompt, str) else " chat" if _is_chat(prompt) else ""


def _is_chat(prompt: Any) -> bool:
    return isinstance(prompt, (list, tuple)) and all(isinstance(turn, (Message, Mapping)) for turn in prompt)
