"""The starter models: small models the project trained itself, their recipes and their weights.

`weights_folder` and `verify` are light; the recipe modules import torch inside their functions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from llmops_kit.errors import ModelRefused

WEIGHTS = Path(__file__).parent / "weights"
CHECKSUMS = "SHA256SUMS"


def weights_folder(model: str) -> Path:
    """The folder of the shipped weights of `starter-lm`, `starter-reader` or `starter-embed`."""
    return WEIGHTS / model


def verify(folder: Path) -> None:
    """Compare every file of a weights folder with its recorded SHA-256.

    Raises:
        ModelRefused: the list is missing, a file is missing, or a checksum differs; the checksum is named.
    """
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise _refused(folder, en=f"{CHECKSUMS} is missing", ja=f"{CHECKSUMS}がありません")
    for line in listing.read_text(encoding="utf-8").splitlines():
        expected, name = line.split(maxsplit=1)
        path = folder / name
        if not path.is_file():
            raise _refused(folder, en=f"{name} is missing", ja=f"{name}がありません")
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != expected:
            raise _refused(
                folder,
                en=f"{name} has the SHA-256 {actual}, recorded is {expected}",
                ja=f"{name}のSHA-256は{actual}で、記録された値{expected}と異なります",
            )


def _refused(folder: Path, *, en: str, ja: str) -> ModelRefused:
    return ModelRefused(
        en=f"The weights of “{folder.name}” were refused: {en}. Install the package again.",
        ja=f"「{folder.name}」の重みは使えません：{ja}。パッケージを入れ直してください。",
        model=folder.name,
        reason=en,
    )
