"""The loss curve as HTML: training as a line, evaluations as dots, and where the base stood before. It keeps its shape on a phone."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    import pandas as pd

TRAIN, EVALUATION = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind people and projectors tell apart; the shapes differ as well."""
CSS = f"""
.curve {{margin: 6px 0 10px; max-width: 900px}}
.plot {{display: grid; grid-template-columns: 44px 1fr; font-size: .8rem; color: var(--body-text-color-subdued)}}
.ys {{position: relative; height: 220px}} .ys span {{position: absolute; right: 8px; transform: translateY(-50%); font-variant-numeric: tabular-nums}}
.field {{position: relative; height: 220px; border-left: 1px solid var(--border-color-primary); border-bottom: 1px solid var(--border-color-primary)}}
.field svg {{position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible}}
.field line {{stroke: var(--border-color-primary); stroke-width: 1; vector-effect: non-scaling-stroke}}
.field polyline {{fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round}}
.train {{stroke: {TRAIN}}} .eval {{stroke: {EVALUATION}; stroke-dasharray: 5 4}}
.field line.base {{stroke: {EVALUATION}; stroke-dasharray: 1 4; stroke-width: 2}}
.dot {{position: absolute; width: 10px; height: 10px; margin: -5px 0 0 -5px; border-radius: 50%; background: {EVALUATION}; border: 2px solid #fff;
  box-sizing: border-box}}
.best {{width: 14px; height: 14px; margin: -7px 0 0 -7px; box-shadow: 0 0 0 2px {EVALUATION}}}
.xs {{grid-column: 2; position: relative; height: 20px}} .xs span {{position: absolute; top: 3px; transform: translateX(-50%); white-space: nowrap}}
.xs span:last-child {{transform: translateX(-100%)}} .xs span:first-child {{transform: none}}
.legend {{display: flex; gap: 4px 16px; flex-wrap: wrap; font-size: .87rem; padding: 0 4px 12px}} .legend i {{display: inline-block; vertical-align: middle;
  margin-right: 6px}}
.legend .line {{width: 18px; height: 3px; background: {TRAIN}}} .legend .round {{width: 10px; height: 10px; border-radius: 50%; background: {EVALUATION}}}
.legend .dotted {{width: 18px; border-top: 2px dotted {EVALUATION}}}
.waits {{padding: 14px 4px; color: var(--body-text-color-subdued)}}
"""
_POINTS = 240
"""Points of the training line: a screen shows no more, and each update sends them all."""


def show_curve(metrics: pd.DataFrame, steps: int | None, language: Language, *, pretrained: bool = False) -> str:
    """The curve of what `TuneJob.metrics` gives; `steps` is how many there will be. One sentence where there is nothing to draw yet.

    `pretrained`: it is of a model from scratch, which has no base and learns from texts.
    """
    train = [(step, loss) for step, loss in _pairs(metrics, "loss") if math.isfinite(loss)]
    evaluated = [(step, loss) for step, loss in _pairs(metrics, "eval_loss") if math.isfinite(loss)]
    if not train and not evaluated:
        return f"<div class='waits'>{say('tune.curve_empty', language)}</div>"
    thinned, width = _thin(train)
    scale = _Scale([loss for _, loss in (*thinned, *evaluated)], max(steps or 0, *(step for step, _ in (*train, *evaluated)), 1))
    base = next((loss for step, loss in evaluated if step == 0), None)
    lines = "".join(f"<line x1='0' x2='100' y1='{scale.y(tick):.2f}' y2='{scale.y(tick):.2f}'/>" for tick in scale.ticks)
    if base is not None:
        lines += f"<line class='base' x1='0' x2='100' y1='{scale.y(base):.2f}' y2='{scale.y(base):.2f}'/>"
    lines += _line(thinned, scale, "train") + _line(evaluated, scale, "eval")
    drawn = f"<svg viewBox='0 0 100 100' preserveAspectRatio='none' aria-hidden='true'>{lines}</svg>{_dots(evaluated, scale, language)}"
    ys = "".join(f"<span style='top:{scale.y(tick):.2f}%'>{tick:g}</span>" for tick in scale.ticks)
    marks = sorted({0, round(scale.last / 2), scale.last})
    xs = "".join(f"<span style='left:{scale.x(mark):.2f}%'>{mark:,}{_step_word(mark == scale.last, language)}</span>" for mark in marks)
    told = html.escape(_in_words(train, evaluated, language))
    plot = f"<div class='plot'><div class='ys'>{ys}</div><div class='field'>{drawn}</div><div class='xs'>{xs}</div></div>"
    return f"<figure class='curve' role='img' aria-label='{told}'>{_legend(width, base, bool(evaluated), language, pretrained=pretrained)}{plot}</figure>"


def show_numbers(metrics: pd.DataFrame, language: Language) -> str:
    """The evaluations as a table: what a screen reader reads in place of the curve."""
    rows = [row for row in metrics.to_dict("records") if _finite(row.get("eval_loss"))]
    if not rows:
        return f"<p class='dim'>{say('tune.numbers_empty', language)}</p>"
    heads = "".join(f"<th>{say(f'tune.column_{name}', language)}</th>" for name in ("step", "epoch", "eval_loss", "token_accuracy", "loss"))
    lines = []
    for row in rows:
        accuracy = f"{float(row['token_accuracy']):.1%}" if _finite(row.get("token_accuracy")) else "–"
        cells = (f"{int(row['step']):,}", _figure(row.get("epoch"), 2), _figure(row["eval_loss"], 3), accuracy, _figure(row.get("loss"), 3))
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<div class='scroll'><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


class _Scale:
    """Where a loss and a step stand, in percent of the field; the ticks are round numbers."""

    def __init__(self, losses: Sequence[float], last: int) -> None:
        low, high = min(losses), max(losses)
        room = max(high - low, 0.1 * abs(high), 0.01)
        raw = room / 4
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw)
        first = math.floor((low - 0.04 * room) / step)
        final = math.ceil((high + 0.04 * room) / step)
        self.ticks = [round(step * place, 10) for place in range(max(first, 0) if low >= 0 else first, final + 1)]
        self.last = last

    def x(self, step: float) -> float:
        return 100 * step / self.last

    def y(self, loss: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return 100 * (1 - (min(max(loss, low), high) - low) / (high - low))


def _pairs(metrics: pd.DataFrame, column: str) -> list[tuple[int, float]]:
    if column not in metrics or not len(metrics):
        return []
    kept = metrics[metrics[column].notna()]
    return [(int(step), float(value)) for step, value in zip(kept["step"], kept[column], strict=True)]


def _thin(points: Sequence[tuple[int, float]]) -> tuple[list[tuple[float, float]], int]:
    """At most `_POINTS` points, each the mean of as many steps as it stands for; and how many these are."""
    width = max(1, math.ceil(len(points) / _POINTS))
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups], width


def _line(points: Sequence[tuple[float, float]], scale: _Scale, name: str) -> str:
    if len(points) < 2:
        return ""
    return f"<polyline class='{name}' points='{' '.join(f'{scale.x(step):.2f},{scale.y(loss):.2f}' for step, loss in points)}'/>"


def _dots(evaluated: Sequence[tuple[int, float]], scale: _Scale, language: Language) -> str:
    best = min(evaluated, key=lambda point: point[1])[0] if evaluated else None
    drawn = []
    for step, loss in evaluated:
        told = html.escape(say("tune.point", language, step=f"{step:,}", loss=f"{loss:.3f}"))
        mark = " best" if step == best and len(evaluated) > 1 else ""
        drawn.append(f"<span class='dot{mark}' title='{told}' style='left:{scale.x(step):.2f}%;top:{scale.y(loss):.2f}%'></span>")
    return "".join(drawn)


def _legend(width: int, base: float | None, evaluated: bool, language: Language, *, pretrained: bool) -> str:
    kept, before = ("tune.legend_kept", "tune.legend_random") if pretrained else ("tune.legend_eval", "tune.legend_base")
    train = say("tune.legend_train", language) if width == 1 else say("tune.legend_train_mean", language, n=width)
    parts = [f"<span><i class='line'></i>{train}</span>"]
    if evaluated:
        parts.append(f"<span><i class='round'></i>{say(kept, language)}</span>")
    if base is not None:
        parts.append(f"<span><i class='dotted'></i>{say(before, language, loss=f'{base:.3f}')}</span>")
    return f"<div class='legend'>{''.join(parts)}</div>"


def _in_words(train: Sequence[tuple[int, float]], evaluated: Sequence[tuple[int, float]], language: Language) -> str:
    if len(evaluated) > 1:
        return say("tune.curve_eval", language, first=f"{evaluated[0][1]:.3f}", last=f"{evaluated[-1][1]:.3f}", n=len(evaluated))
    if train:
        return say("tune.curve_train", language, first=f"{train[0][1]:.3f}", last=f"{train[-1][1]:.3f}", n=f"{len(train):,}")
    return say("tune.curve_start", language, loss=f"{evaluated[0][1]:.3f}")


def _step_word(is_last: bool, language: Language) -> str:
    return say("tune.steps_word", language) if is_last else ""


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _figure(value: object, digits: int) -> str:
    return f"{float(str(value)):.{digits}f}" if _finite(value) else "–"
