"""What a fine-tuning job is told: `TuneSpec`, shown as YAML and as Python, saved and read again.

    spec = TuneSpec(base="starter-lm", data="rows.csv", epochs=3)
    spec.yaml()          # the text a person keeps
    TuneSpec.read("spec.yaml")

Fields that are None are chosen from the model and the data when the job is launched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmops_kit.errors import InvalidValue, UnreadableFile

Method = Literal["lora", "dora", "qlora", "dpo", "kto"]
Preset = Literal["try", "careful", "thorough"]
_DIVERGES = 0.1
_BOUNDS = {
    "en": (", ", {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}),
    "ja": ("、", {"ge": "{}以上", "gt": "{}より大きい値", "le": "{}以下", "lt": "{}未満"}),
}
_WANTED = {
    "missing": ("a value; it is missing", "何らかの値（指定がありません）"),
    "string_pattern_mismatch": ("lower-case letters, digits, . _ - (at most 40)", "半角の英小文字、数字、. _ -（40字以内）"),
    "string_too_short": ("a text; it is empty", "1字以上の文字列"),
    "too_long": ("at most {max_length} values", "{max_length}個以下"),
    "too_short": ("at least {min_length} value", "{min_length}個以上"),
    "int": ("a whole number", "整数"),
    "float": ("a number", "数"),
    "finite": ("a number", "数"),
    "bool": ("true or false", "true／false"),
    "string": ("a text", "文字列"),
    "tuple": ("a list, such as [a, b]", "リスト（[a, b]など）"),
    "dict": ("pairs, such as {{prompt: column}}", "対応（{{prompt: 列名}}など）"),
}
"""What is wanted in English and Japanese, by the kind of pydantic's error or its first word."""
RATINGS = ("campaign:", "comparison:")
"""How a source begins that is what people said: the ratings of a campaign, the votes on a comparison."""


class TuneSpec(BaseModel):
    """One fine-tuning, complete: the same spec on the same data and base gives the same adapter. None: chosen from model and data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field("starter-lm", min_length=1, description="model of the catalogue that is tuned")
    data: str = Field(
        min_length=1,
        description="rows to learn from: a file, `sample:NAME` for a bundled set, or what people said: `campaign:ID`, `comparison:ID`",
    )
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$", description="what the adapter is called: the model's id is base+name; default: from the data"
    )
    method: Method = Field("lora", description="lora, dora (weights also scaled), qlora (4-bit base, GPU only); dpo or kto to learn from preferences")
    columns: Mapping[str, str] | None = Field(None, description="which column of a table is what: prompt, answer, system, chosen, rejected, label")
    encoding: str | None = Field(None, description="encoding of a text file; default: found out (UTF-8 or cp932)")
    rank: int = Field(8, ge=1, le=1024, description="rank of the adapter's matrices: how much it can learn")
    alpha: float = Field(16.0, gt=0, le=4096, description="scale of the adapter; its effect is alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs that are dropped while training")
    targets: tuple[str, ...] = Field(("all-linear",), min_length=1, description="names of the layers that get an adapter; all-linear: every linear one")
    epochs: float = Field(3.0, gt=0, le=1000, description="how often every row is seen")
    max_steps: int | None = Field(None, ge=1, description="steps after which it ends, whatever the epochs say")
    batch_tokens: int = Field(2048, ge=16, description="tokens in one optimiser step")
    max_tokens: int | None = Field(None, ge=16, description="tokens of the longest row; a longer one loses the beginning of its prompt; default: the context")
    packing: bool = Field(True, description="several rows one after the other in a sequence, none of which sees another; False: padded")
    learning_rate: float | None = Field(None, gt=0, lt=_DIVERGES, description="largest step of the optimiser; default: by method and model")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="how the learning rate goes down")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, lt=1, description="pull of the adapter's weights towards zero, per step")
    max_grad_norm: float = Field(1.0, gt=0, description="length to which a longer gradient is cut")
    beta: float = Field(0.1, gt=0, le=10, description="dpo and kto: how close the tuned model stays to its base")
    eval_share: float = Field(0.1, ge=0, le=0.5, description="share of the rows that are kept for evaluation")
    eval_every: int | None = Field(None, ge=1, description="steps between evaluations; default: about eight of them")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; default: with each evaluation")
    prompts: tuple[str, ...] = Field((), max_length=8, description="fixed prompts answered at each evaluation; default: from the evaluation rows")
    checkpointing: bool | None = Field(None, description="True: activations are computed again to save memory; default: where it would not fit otherwise")
    processes: int = Field(1, ge=1, le=64, description="processes (one per GPU) that train together")
    seed: int = Field(7, ge=0, lt=2**31, description="seed of the order of the rows, the adapter's start and the split")
    wandb: bool = Field(True, description="whether curves, data and adapter go to the workspace's W&B folder")
    preset: Preset | None = Field(None, description="the preset it began from, for the record")

    def __init__(self, **values: Any) -> None:
        """Raises: `InvalidValue`, naming the field, the value and what is allowed."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refuse_fields(error, type(self).model_fields) from None

    @field_validator("data", mode="before")
    @classmethod
    def _take_path(cls, given: object) -> object:
        return str(given) if isinstance(given, Path) else given

    @property
    def is_preference(self) -> bool:
        """Whether it learns from preferences and not from answers to copy."""
        return self.method in ("dpo", "kto")

    def change(self, **values: Any) -> TuneSpec:
        """The same with some fields changed. Raises: `InvalidValue`."""
        return TuneSpec(**{**self.model_dump(), **values})

    def yaml(self) -> str:
        """The spec as YAML, one field per line with what it means; fields at their default are left out."""
        given = self.model_dump(mode="json", exclude_defaults=True)
        lines = []
        for name in type(self).model_fields:
            if name in given:
                flow = None if isinstance(given[name], list | dict) else False
                text = yaml.safe_dump({name: given[name]}, allow_unicode=True, default_flow_style=flow, width=10_000).rstrip("\n")
                first, *rest = text.split("\n")
                lines += [first if rest else f"{first}  # {type(self).model_fields[name].description}", *rest]
        return "\n".join(lines) + "\n"

    def python(self) -> str:
        """The spec as the Python that launches it."""
        given = self.model_dump(exclude_defaults=True)
        fields = "".join(f"    {name}={value!r},\n" for name, value in given.items())
        return f"from llmops_kit import TuneSpec, open_kit\n\nkit = open_kit()\nspec = TuneSpec(\n{fields})\njob = kit.tuning.launch(spec)\n"

    def save(self, path: str | Path) -> Path:
        """Write it as YAML; give the path."""
        target = Path(path)
        target.write_text(self.yaml(), encoding="utf-8")
        return target

    @classmethod
    def read(cls, source: str | Path) -> TuneSpec:
        """A spec from a YAML file, or from YAML text with a line break in it. Raises: `UnreadableFile`, `InvalidValue`."""
        is_text = isinstance(source, str) and "\n" in source
        name = "YAML" if is_text else str(source)
        try:
            raw = yaml.safe_load(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
            raise UnreadableFile(file=name, reason=" ".join(str(fault).split())[:200]) from fault
        if not isinstance(raw, dict):
            raise UnreadableFile(file=name, reason={"en": "it is no list of fields (name: value)", "ja": "「項目: 値」の形ではありません"})
        return cls(**raw)


def refuse_fields(error: ValidationError, known: Iterable[str]) -> InvalidValue:
    """The error for the first field that does not serve, naming it, its value and what is allowed; `known` are the fields there are."""
    first = error.errors(include_url=False, include_context=True)[0]
    name = ".".join(str(part) for part in first["loc"]) or "spec"
    return InvalidValue(name=name, value=_shorten(first.get("input")), allowed=_allowed(name, first, known))


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _allowed(name: str, error: Mapping[str, Any], known: Iterable[str]) -> dict[str, str]:
    """What is allowed instead, in both languages."""
    limits, kind = error.get("ctx") or {}, str(error["type"])
    bounds = {
        language: joined.join(form.format(f"{limits[key]:,.10g}") for key, form in forms.items() if key in limits)
        for language, (joined, forms) in _BOUNDS.items()
    }
    if name == "learning_rate" and limits.get("lt") == _DIVERGES:
        return {"en": f"{bounds['en']}; a larger one always diverges", "ja": f"{bounds['ja']}。これより大きいと必ず発散します"}
    if kind == "extra_forbidden":
        listed = ", ".join(known)
        return {"en": f"these fields: {listed}", "ja": f"次の項目：{listed}"}
    if expected := limits.get("expected"):
        return {"en": str(expected).replace(" or ", ", "), "ja": str(expected).replace(" or ", ", ")}
    if bounds["en"]:
        return bounds
    if name == "data" and kind == "string_type":
        return {
            "en": "a file (save the rows first), sample:NAME, campaign:ID, comparison:ID",
            "ja": "ファイル（行を先に保存）、sample:名前、campaign:ID、comparison:ID",
        }
    en, ja = _WANTED.get(kind) or _WANTED.get(kind.split("_")[0]) or (str(error["msg"]), str(error["msg"]))
    return {"en": en.format(**limits), "ja": ja.format(**limits)}
