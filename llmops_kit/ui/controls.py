"""The settings of a pane: what its sliders show for a model and a prompt, and what they send."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmops_kit.types import Prompt

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

SLIDERS: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "temperature": (0, 2, 0.01, 0.0),
        "max_tokens": (1, 4096, 1, 256),
        "top_p": (0.01, 1, 0.01, 1.0),
        "top_k": (0, 1000, 1, 0),
        "repetition_penalty": (0.5, 2.0, 0.01, 1.0),
    }
)
"""Lowest, highest, step, and what is shown where neither prompt nor model says more. All but `max_tokens` do nothing there."""
SETTINGS = (*SLIDERS, "seed", "stop")
"""The names of a pane's controls, in their order."""
_SERVER_TEMPERATURE = 1.0  # what OpenAI's interface takes where none is sent
_WHOLE = ("max_tokens", "top_k", "seed")


def shown_settings(kit: Kit, model: str | None, params: Mapping[str, Any]) -> list[Any]:
    """The values of a pane's controls for `model`: `params` (a prompt's, or a run's) over the model's own defaults.

    What a slider cannot show is moved to its nearest end, and sent so: a pane sends what it shows.
    """
    wanted = {**_neutral(kit, model), **_defaults(kit, model), **{name: value for name, value in params.items() if value is not None}}
    values: list[Any] = [min(max(wanted[name], lowest), highest) for name, (lowest, highest, *_) in SLIDERS.items()]
    stop = wanted.get("stop") or ()
    lines = [stop] if isinstance(stop, str) else stop
    return [*values, wanted.get("seed", -1), "\n".join(str(line).replace("\n", "\\n") for line in lines)]


def settings_of(kit: Kit, model: str | None, settings: Mapping[str, Any], prompt: Any = None) -> dict[str, Any]:
    """The pane's controls as call parameters: all that is shown, except a seed below 0, which stands for a fresh one.

    To a model server, what would change nothing is not sent: some refuse the very name of a parameter they do not take.
    """
    params = {name: int(value) if name in _WHOLE else value for name, value in settings.items() if name != "stop" and value is not None}
    if params.get("seed", -1) < 0:
        params.pop("seed", None)
    own = prompt.params if isinstance(prompt, Prompt) else {}
    stops = [line.replace("\\n", "\n") for line in str(settings.get("stop") or "").splitlines() if line]
    if stops or own.get("stop"):
        params["stop"] = stops
    return trim(kit, model, params, own) if _is_server(kit, model) else params


def trim(kit: Kit, model: str | None, params: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`params` without those that change nothing, as neither the model's defaults nor `own` (the prompt's) say otherwise."""
    neutral, defaults = _neutral(kit, model), _defaults(kit, model)
    neutral.pop("max_tokens")
    idle = {name for name, value in neutral.items() if {params.get(name), defaults.get(name, value), own.get(name, value)} == {value}}
    return {name: value for name, value in params.items() if name not in idle}


def _neutral(kit: Kit, model: str | None) -> dict[str, float]:
    neutral = {name: value for name, (*_, value) in SLIDERS.items()}
    return neutral | {"temperature": _SERVER_TEMPERATURE} if _is_server(kit, model) else neutral


def _defaults(kit: Kit, model: str | None) -> dict[str, float | int]:
    """The model's own parameters; none for a model that has left the catalogue."""
    return next((dict(entry.default_params) for entry in kit.models.entries() if entry.id == model), {})


def _is_server(kit: Kit, model: str | None) -> bool:
    return any(entry.id == model and entry.provider == "openai" for entry in kit.models.entries())
