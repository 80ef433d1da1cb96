"""Characters of a PDF page put together into runs: what stands side by side, or below each other, without a wide gap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from llmops_kit.documents.reading.pdf_characters import LINES, PageText, is_cjk, needs_blank

_BLANKS: Final = re.compile(r"\s+")
_MARKER: Final = re.compile("[^\\w\\s]|[\ue000-\uf8ff①-⑳]|[(（]?(?:\\d{1,3}|[a-zA-Z])[)）.．]|第[\\d〇一二三四五六七八九十百]+[条章節項]")
_WIDE_GAP = 1.05  # in font sizes: more than one full-width space
_NO_GAP = 0.2  # less than a blank
_SPREAD = 0.22  # kanji and kana spread to fill the line, or to the width of the reading above them; the blank of Japanese fonts has 0.224 or more
_LAYOUT_GAP = 0.4  # a gap between Japanese and Latin letters that some programs leave
_STACK = 4  # so many single characters below each other are a vertical line
BLANK: Final = (-1, 0)  # stands among the parts of a run for a blank that is not in the file


@dataclass
class Run:
    """Characters `start`…`end` of the page that belong together on one line (`parts` where they come from several places).

    `u` runs along the line, `v` from line to line in reading order: for vertical writing u is y and v is -x. In points, as is `size`.
    """

    parts: list[tuple[int, int]]
    u0: float
    u1: float
    v0: float
    v1: float
    size: float
    vertical: bool = False

    @property
    def middle(self) -> float:
        """Where the line lies across the reading direction."""
        return (self.v0 + self.v1) / 2

    @property
    def length(self) -> int:
        """How many characters of the page it has."""
        return sum(end - start for start, end in self.parts if start >= 0)

    @property
    def first(self) -> int:
        """Index of its first character."""
        return self.parts[0][0]

    @property
    def last(self) -> int:
        """Index of its last character."""
        return self.parts[-1][1] - 1


def find_runs(page: PageText) -> list[Run]:
    """The runs of the page in pdfium's order, which is that of the file."""
    runs: list[Run] = []
    for line in LINES.finditer(page.text):
        blank = len(line[0]) - len(line[0].lstrip())
        start, end = line.start() + blank, line.start() + len(line[0].rstrip())
        if start < end:
            runs += _split(page, start, end)
    runs = _stack(page, runs, _STACK)
    vertical = sum(run.length for run in runs if run.vertical)
    if vertical > 0.5 * sum(run.length for run in runs):
        runs = _join_down(page, _stack(page, runs, 2))
    return _join_beside(page, runs)


def _split(page: PageText, start: int, end: int) -> list[Run]:
    """The runs of one line of pdfium's: cut at wide gaps (but not after the mark of a list item), without gaps that are no blanks."""
    vertical = _is_vertical(page, start, end)
    runs: list[Run] = []
    parts: list[tuple[int, int]] = []
    at = start
    size = page.size(start)
    for blank in _BLANKS.finditer(page.text, start, end):
        before, after = page.place(blank.start() - 1), page.place(blank.end())
        gap = after.top - before.bottom if vertical else after.left - before.right
        if gap > _WIDE_GAP * size and not (at == start and _MARKER.fullmatch(page.text, start, blank.start())):
            runs.append(_run(page, [*parts, (at, blank.start())], vertical))
            parts, at = [], blank.end()
            size = page.size(at)
        elif page.is_made_up(blank.start()) and _is_no_blank(page, blank.start() - 1, blank.end(), gap / size):
            parts.append((at, blank.start()))
            at = blank.end()
    return [*runs, _run(page, [*parts, (at, end)], vertical)]


def _is_no_blank(page: PageText, before: int, after: int, gap: float) -> bool:
    """Whether the gap (in font sizes) between two characters is only there for the looks."""
    cjk = is_cjk(page.text[before]) + is_cjk(page.text[after])
    return (cjk == 2 and gap < _SPREAD) or (cjk == 1 and gap < _LAYOUT_GAP and page.has_blanks)


def _is_vertical(page: PageText, start: int, end: int) -> bool:
    if end - start < 2 or not any(map(is_cjk, page.text[start : start + 20])):
        return False
    first, last = page.place(start), page.place(end - 1)
    down = last.top - first.top
    return down > 1.5 * abs(last.left - first.left) and down > 0.3 * (first.bottom - first.top)


def _run(page: PageText, parts: list[tuple[int, int]], vertical: bool) -> Run:
    start, end = parts[0][0], parts[-1][1]
    first, last = page.place(start), page.place(end - 1)
    left, right = min(first.left, last.left), max(first.right, last.right)
    top, bottom = min(first.top, last.top), max(first.bottom, last.bottom)
    size = max(page.size(start), page.size((start + end) // 2 if page.text[(start + end) // 2].strip() else start))
    if vertical:
        return Run(parts, top, bottom, -right, -left, size, True)
    return Run(parts, left, right, top, bottom, size)


def _stack(page: PageText, runs: list[Run], least: int) -> list[Run]:
    """Put `least` or more single characters that stand below each other together into a vertical line."""
    found: list[Run] = []
    pile: list[Run] = []
    for run in [*runs, None]:
        if run is not None and _is_single(page, run) and (not pile or _lies_below(pile[-1], run)):
            pile.append(run)
            continue
        found += [_merge([_upright(each) for each in pile])] if len(pile) >= least else pile
        pile = []
        if run is not None and _is_single(page, run):
            pile.append(run)
        elif run is not None:
            found.append(run)
    return found


def _is_single(page: PageText, run: Run) -> bool:
    return run.length == 1 and not run.vertical and is_cjk(page.text[run.first])


def _lies_below(above: Run, run: Run) -> bool:
    centred = abs((above.u0 + above.u1) - (run.u0 + run.u1)) < 0.8 * run.size
    return centred and -0.3 * run.size < run.v0 - above.v1 < 0.35 * run.size


def _upright(run: Run) -> Run:
    """A single character as a vertical line."""
    return Run(run.parts, run.v0, run.v1, -run.u1, -run.u0, run.size, True)


def _merge(runs: list[Run]) -> Run:
    """Runs one after the other on one line as one run."""
    parts = [part for run in runs for part in run.parts]
    low, high = min(run.v0 for run in runs), max(run.v1 for run in runs)
    return Run(parts, min(run.u0 for run in runs), max(run.u1 for run in runs), low, high, max(run.size for run in runs), runs[0].vertical)


def _join_down(page: PageText, runs: list[Run]) -> list[Run]:
    """Put pieces of one vertical line together: pdfium cuts it where punctuation sits in a corner of its square."""
    found: list[Run] = []
    for run in runs:
        above = found[-1] if found else None
        if above is not None and (above.vertical or run.vertical):
            one, other = (_upright(each) if _is_single(page, each) else each for each in (above, run))
            same = one.vertical and other.vertical and abs(one.middle - other.middle) < 0.6 * one.size
            if same and abs(other.u0 - one.u1) < 0.7 * one.size:
                found[-1] = _merge([one, other])
                continue
        found.append(run)
    return found


def _join_beside(page: PageText, runs: list[Run]) -> list[Run]:
    """Put pieces of one horizontal line together: pdfium cuts some lines between Japanese and Latin letters."""
    found: list[Run] = []
    for run in runs:
        before = found[-1] if found else None
        if before is None or before.vertical or run.vertical or run.first < before.last:
            found.append(run)
            continue
        size = max(before.size, run.size)
        gap = (run.u0 - before.u1) / size
        level = min(before.v1, run.v1) - max(before.v0, run.v0) > 0.5 * min(before.v1 - before.v0, run.v1 - run.v0)
        if not (level and -0.3 < gap < _WIDE_GAP) or "\t" in page.text[before.last : run.first]:
            found.append(run)
            continue
        ends = page.text[before.last], page.text[run.first]
        if gap > _LAYOUT_GAP or (gap > _NO_GAP and needs_blank(*ends)):
            before.parts.append(BLANK)
        found[-1] = _merge([before, run])
    return found
