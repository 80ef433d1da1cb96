"""llmops_kit: the whole life of a language-model application in a notebook and in a browser.

    from llmops_kit import open_kit
    kit = open_kit()
    kit.playground.run("summarize", variables={"text": "…"})

Nothing heavy is imported before it is used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops_kit.errors import KitError as KitError
    from llmops_kit.kit import Kit as Kit
    from llmops_kit.kit import open_kit as open_kit
    from llmops_kit.settings import Settings as Settings
    from llmops_kit.tuning.spec import TuneSpec as TuneSpec
    from llmops_kit.types import Message as Message
    from llmops_kit.types import Prompt as Prompt
    from llmops_kit.types import Run as Run
    from llmops_kit.types import Variable as Variable

__version__ = "0.1.0"
_HOMES = {
    "open_kit": "kit",
    "Kit": "kit",
    "Settings": "settings",
    "TuneSpec": "tuning.spec",
    "KitError": "errors",
    "Message": "types",
    "Prompt": "types",
    "Run": "types",
    "Variable": "types",
}
__all__ = ["Kit", "KitError", "Message", "Prompt", "Run", "Settings", "TuneSpec", "Variable", "open_kit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
