"""What a fine-tuning was said to take against what it took: by formula, from a trial of ten steps, and from earlier jobs. `… tuning_estimates`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llmops_kit import open_kit
from llmops_kit.kit import Kit
from llmops_kit.tuning.budget import Estimate
from llmops_kit.tuning.spec import TuneSpec
from tests.preference_data import pairs_of


def run(options: Sequence[str] = ()) -> None:
    """Each case on an empty workspace, so that the first estimate is the formula's; then the same job again, with the first as its history."""
    print("| job | estimated by | time: estimate (range) | took | estimate ÷ took | memory (GB): estimate | peak |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        pairs = str(Path(place) / "pairs.jsonl")
        Path(pairs).write_text("".join(json.dumps(row) + "\n" for row in pairs_of(20)))
        cases = {
            "shop-style, try": {"data": "sample:shop-style"},
            "first-30, try": {"data": "sample:first-30"},
            "shop-style, careful": {"data": "sample:shop-style", "preset": "careful"},
            "20 pairs, DPO": {"data": pairs, "method": "dpo"},
            "20 pairs, KTO": {"data": pairs, "method": "kto"},
        }
        for number, (name, fields) in enumerate(cases.items()):
            if options and not any(option in name for option in options):
                continue
            with open_kit(Path(place) / f"workspace-{number}", wandb_mode="disabled") as kit:
                spec = kit.tuning.spec(**{"name": "first", "wandb": False, **fields})  # type: ignore[arg-type]
                _measure(kit, name, spec, [kit.tuning.estimate(spec), kit.tuning.estimate(spec, trial=True, progress=False)])
                again = spec.change(name="second")
                _measure(kit, name, again, [kit.tuning.estimate(again)])


def _measure(kit: Kit, name: str, spec: TuneSpec, estimates: Sequence[Estimate]) -> None:
    job = kit.tuning.launch(spec)
    job.wait(progress=False)
    took, peak = (job.against_estimate().loc[what, "actual"] for what in ("seconds", "memory_gb"))
    for estimate in estimates:
        low, high = estimate.seconds_range
        time = f"{estimate.seconds:.0f} s ({low:.0f}–{high:.0f}) | {took:.0f} s | {estimate.seconds / took:.2f}"
        print(f"| {name} ({estimate.steps} steps) | {estimate.basis} | {time} | {estimate.memory_gb:.2f} | {peak:.2f} |", flush=True)
