"""The starter models: small models the project trained itself, their recipes and their weights.

`weights_folder` and `verify` are light; the recipe modules import torch inside their functions.
"""

from __future__ import annotations

from pathlib import Path

from llmops_kit.models.checksums import verify_folder as verify

__all__ = ["verify", "weights_folder"]

WEIGHTS = Path(__file__).parent / "weights"


def weights_folder(model: str) -> Path:
    """The folder of the shipped weights of `starter-lm`, `starter-reader` or `starter-embed`."""
    return WEIGHTS / model
