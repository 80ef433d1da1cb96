"""The files of a starter model against the SHA-256 they were shipped with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from llmops_kit.errors import ModelRefused

CHECKSUMS = "SHA256SUMS"


def verify_folder(folder: Path, *, needed: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 by file name, after every listed and every `needed` file was found to have it.

    Raises:
        ModelRefused: the list or a file is absent, or a checksum differs.
    """
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise refuse_weights(folder, en=f"{CHECKSUMS} is missing", ja=f"{CHECKSUMS}がありません")
    sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in listing.read_text(encoding="utf-8").splitlines() if line.strip())}
    for name in sorted({*needed, *sums}):
        path = folder / name
        if not path.is_file():
            raise refuse_weights(folder, en=f"{name} is missing", ja=f"{name}がありません")
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != sums.get(name):
            raise refuse_weights(
                folder,
                en=f"{name} has the SHA-256 {actual}, recorded is {sums.get(name, 'none')}",
                ja=f"{name}のSHA-256は{actual}で、記録された値{sums.get(name, '（なし）')}と異なります",
            )
    return sums


def refuse_weights(folder: Path, *, en: str, ja: str) -> ModelRefused:
    """The error of a starter model whose files are not the ones that were shipped, for the reason given in both languages."""
    return ModelRefused(
        en=f"The weights of “{folder.name}” were refused: {en}. Install the package again.",
        ja=f"「{folder.name}」の重みは使えません：{ja}。パッケージを入れ直してください。",
        model=folder.name,
        reason=en,
    )
