"""The model a spec tunes: whether it can be tuned at all, its shape, and where and in which number format it would be trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue, ModelNotReady
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.trainable import refuse_untunable
from llmops_kit.tuning.shape import Linear, ModelShape, guess_shape, read_shape, wants_own_code
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.place import MOST_TOKENS, choose_dtype

if TYPE_CHECKING:
    from llmops_kit.models import Models


@dataclass(frozen=True)
class Base:
    """A base that can be tuned. `folder` is None where its files are not on this machine, and its shape then a guess from its size."""

    entry: ModelEntry
    shape: ModelShape
    folder: Path | None
    device: str
    dtype: str
    pass_tokens: int
    """Tokens that go through it at a time: a step of more takes several passes."""

    @property
    def context_tokens(self) -> int:
        """Tokens it takes: what its entry says, or its configuration where that is less."""
        return min(self.entry.context_tokens, self.shape.context_tokens or self.entry.context_tokens)

    def weights_dtype(self, spec: TuneSpec) -> str:
        """The number format its weights lie in while it is tuned."""
        return "nf4" if spec.method == "qlora" else self.dtype

    def targets(self, spec: TuneSpec) -> tuple[Linear, ...]:
        """The layers that get an adapter.

        Raises: `InvalidValue` for a name that no layer has, and for a rank above the width of the narrowest of them.
        """
        targets = self.shape.targets(spec.targets)
        narrowest = min(min(linear.inputs, linear.outputs) for linear in targets)
        if spec.rank > narrowest:
            limit = {"en": f"1 to {narrowest}, the width of the narrowest layer it goes on", "ja": f"1〜{narrowest}（対象の層のうち最も狭い層の幅）"}
            raise InvalidValue(name="rank", value=spec.rank, allowed=limit)
        return targets


def find_base(models: Models, spec: TuneSpec) -> Base:
    """The base of `spec`.

    Raises: `UnknownName`; `InvalidValue` for what cannot be tuned (a server, an embedder, a reader, an adapter, own code), and for
        `qlora` without a CUDA GPU.
    """
    entry = models.get(spec.base)
    refuse_untunable(entry)
    device = find_device()
    dtype = choose_dtype(device, exact=spec.is_preference)
    if spec.method == "qlora" and device != "cuda":
        raise InvalidValue(name="method", value="qlora", allowed={"en": "lora (four bits need a CUDA GPU)", "ja": "lora（4ビットにはCUDAのGPUが必要です）"})
    try:
        folder, _ = models.files(spec.base)
    except ModelNotReady:
        parameters = int((entry.params_b or 1.0) * 1e9)
        return Base(entry, guess_shape(parameters, entry.context_tokens), None, device, dtype, MOST_TOKENS[device])
    if wants_own_code(folder):
        allowed = {"en": "a model that needs no code of its own", "ja": "独自のコードを必要としないモデル"}
        raise InvalidValue(name="base", value=spec.base, allowed=allowed)
    return Base(entry, read_shape(folder), folder, device, dtype, MOST_TOKENS[device])


def find_device() -> str:
    """Where a training runs here: `cuda`, `mps` or `cpu`."""
    from llmops_kit.models.loading import choose_device

    return choose_device()
