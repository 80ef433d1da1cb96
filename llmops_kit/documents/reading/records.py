"""What is asked of a reader and what it gives back. Plain records without any library, usable on both sides of the guard.

How a format module takes part (see `formats.FORMATS`):

    read(data: bytes, name: str, options: ReadOptions) -> RawDocument    runs in the guarded child; raises Unreadable or Asks
    PRELOAD = {"": ("docx",)}       optional: libraries the server imports once, before it forks, when the first such file comes;
                                    under "" for every reader of the module, under a reader's name only when that one is chosen
    expand(data: bytes, name: str, into: Path, options: ReadOptions) -> Expanded    archives only: the members written and those skipped

The keys of `Unreadable`, `Asks` and of warnings have their sentences in `reasons`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

Heading = tuple[int, int, str]  # offset in the page's text, level from 1, title
Box = tuple[float, float, float, float]  # left, top, right, bottom as shares 0…1 of the page's width and height
State = Literal["read", "asks", "quarantined"]


class Unreadable(Exception):  # an outcome, not an error of the kit
    """The file is refused. `key` names a sentence of `reasons.REASONS`, `facts` fill its blanks."""

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key, facts)
        self.key = key
        self.facts = facts


class Asks(Exception):  # an outcome, not an error of the kit
    """The file needs an answer from the person first. `key` ("password", "wrong_password", "encoding") names the question."""

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key, facts)
        self.key = key
        self.facts = facts


@dataclass(frozen=True)
class ReadOptions:
    """Choices of the person for one file. None means the format's own default."""

    reader: str | None = None
    encoding: str | None = None
    ocr: bool = False
    password: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The options `to_dict` described; unknown keys are ignored."""
        return cls(**_known(cls, values))


@dataclass(frozen=True)
class Limits:
    """What one file may cost in the guarded child: 1 GiB, 20 s of computing, 25 s in all, 5,000 pages, 20 million characters.

    `memory_bytes` comes on top of what the server had mapped before the file. `starved_s` is the time in all (s) of a file whose reader still
    computes but gets little of a busy machine: with a processor of its own it meets `processor_s` before `wall_s`. `ocr_s` is the time in all (s)
    of a file read with text recognition, where every run of the recogniser has `processor_s` of its own; `result_bytes` bounds what the child may hand back.
    """

    memory_bytes: int = 1 << 30
    processor_s: int = 20
    wall_s: float = 25.0
    starved_s: float = 120.0
    ocr_s: float = 900.0
    input_bytes: int = 256 << 20
    written_bytes: int = 64 << 20
    result_bytes: int = 192 << 20
    open_files: int = 64
    pages: int = 5_000
    characters: int = 20_000_000
    pixels: int = 40_000_000


@dataclass(frozen=True)
class PageFacts:
    """What can be counted on a page, so that a person sees bad text before it is indexed.

    `cid_marks` counts "(cid:", `replacement_marks` U+FFFD and private-use characters, `japanese_share` is the share (0…1) of kana and
    kanji among the characters that are no white space, `repeated_lines` are first or last lines that return on many pages,
    `headings` are (offset in the page text, level, title).
    """

    characters: int = 0
    cid_marks: int = 0
    replacement_marks: int = 0
    japanese_share: float = 0.0
    is_empty: bool = False
    looks_scanned: bool = False
    tables: int = 0
    is_vertical: bool = False
    repeated_lines: tuple[str, ...] = ()
    has_hidden_text: bool = False
    width_pt: float = 0.0
    height_pt: float = 0.0
    headings: tuple[Heading, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The facts `to_dict` described; unknown keys are ignored, missing ones get their defaults."""
        known = _known(cls, values)
        known["repeated_lines"] = tuple(known.get("repeated_lines", ()))
        known["headings"] = tuple((int(at), int(level), str(title)) for at, level, title in known.get("headings", ()))
        return cls(**known)


@dataclass(frozen=True)
class ReadPage:
    """One page of a read file. `number` counts from 1, `text` ends with a line break, `label` is the page's own name (sheet, slide, "iv")."""

    number: int
    text: str
    label: str = ""
    reader: str = ""
    facts: PageFacts = PageFacts()


@dataclass(frozen=True)
class Reading:
    """How reading one file ended.

    `reason` has the sentence in both languages unless the state is "read"; `key` and `facts` say the same for programs. `warnings` are keys of
    `reasons.WARNINGS`; `members` (name, path) are the files an archive held.
    """

    state: State
    kind: str = ""
    reader: str = ""
    encoding: str = ""
    pages: tuple[ReadPage, ...] = ()
    reason: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    key: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class RawPage:
    """One page as a format module gives it. `image_share` is the share (0…1) of the page its largest picture covers.

    `reader` is only set where the page was read by another one than the document.
    """

    text: str
    label: str = ""
    tables: int = 0
    headings: list[Heading] = field(default_factory=list)
    vertical: bool = False
    image_share: float = 0.0
    hidden: bool = False
    width_pt: float = 0.0
    height_pt: float = 0.0
    reader: str = ""


@dataclass
class RawDocument:
    """One file as a format module gives it. `paged` is False where pages mean nothing to a reader of the file (text, mail)."""

    pages: list[RawPage]
    reader: str
    encoding: str = ""
    warnings: list[str] = field(default_factory=list)
    paged: bool = True


@dataclass(frozen=True)
class Rendered:
    """A picture of a page (`png`) and the places to highlight on it, one box for each visual line."""

    png: bytes = field(repr=False)
    boxes: tuple[Box, ...] = ()


def _known(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(cls)}
    return {name: value for name, value in values.items() if name in names}
