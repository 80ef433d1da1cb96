"""What a pretraining is told: `PretrainSpec`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmops_kit.starter.lm import SIZES, Size
from llmops_kit.tuning.spec import refuse_fields

TINY = Size(hidden=192, layers=2, heads=3, feed_forward=384, context_tokens=512)
"""The least that has room for the hand-written induction heads: about one million parameters, minutes on a laptop."""


class PretrainSpec(BaseModel):
    """One model from scratch, complete: the same spec on the same texts gives the same model. None: chosen from size, texts and machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(min_length=1, description="folder of texts (.txt, .md; UTF-8 or cp932) to learn from; folders in it count too")
    name: str = Field("my-lm", pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$", description="id of the model it becomes")
    size: Literal["tiny", "small", "large"] = Field("tiny", description="tiny: a lesson in minutes; small and large: those of the starter LM")
    vocabulary: int | None = Field(None, ge=700, le=65_536, description="tokens the tokenizer knows; default: 2048 for tiny, 8192 else")
    steps: int | None = Field(None, ge=1, le=1_000_000, description="optimiser steps; default: by size and length of the texts")
    batch_tokens: int | None = Field(None, ge=64, description="tokens in one optimiser step; default: by size and machine")
    max_tokens: int = Field(128, ge=16, le=2048, description="tokens of one row of packed text")
    learning_rate: float | None = Field(None, gt=0, lt=0.1, description="largest step of the optimiser; default: that of the starter LM's recipe")
    eval_share: float = Field(0.1, gt=0, le=0.5, description="share of the passages that are kept for evaluation")
    eval_every: int | None = Field(None, ge=1, description="steps between evaluations; default: about eight of them")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; default: with each evaluation")
    prompts: tuple[str, ...] = Field((), max_length=8, description="beginnings continued at each evaluation; default: from the evaluation passages")
    device: Literal["cpu", "cuda"] | None = Field(None, description="where it runs; default: the GPU where there is one")
    threads: int | None = Field(None, ge=1, le=256, description="processor threads; default: as many as there are cores")
    seed: int = Field(7, ge=0, lt=2**31, description="seed of the weights, the order of the text and the split")
    wandb: bool = Field(True, description="whether curves and model go to the workspace's W&B folder")

    def __init__(self, **values: Any) -> None:
        """Raises: `InvalidValue`, naming the field, the value and what is allowed."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refuse_fields(error, type(self).model_fields) from None

    @field_validator("folder", mode="before")
    @classmethod
    def _take_path(cls, given: object) -> object:
        return str(given) if isinstance(given, Path) else given

    @property
    def shape(self) -> Size:
        """The size of the network."""
        return TINY if self.size == "tiny" else SIZES[self.size]

    def change(self, **values: Any) -> PretrainSpec:
        """The same with some fields changed. Raises: `InvalidValue`."""
        return PretrainSpec(**{**self.model_dump(), **values})
