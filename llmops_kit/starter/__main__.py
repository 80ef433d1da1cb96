"""`python -m llmops_kit.starter lm --data DIR` trains starter-lm and puts it in its place; `… evaluate` and `… card` follow."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from llmops_kit.starter import weights_folder
from llmops_kit.starter.card import write_card
from llmops_kit.starter.lm import SIZES
from llmops_kit.starter.recipe import POLISH_WEIGHTS, WEIGHTS_OF, evaluate_again, polish_plan, train_starter_lm
from llmops_kit.starter.training import plan_for


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run what it asks for."""
    chosen = _build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if chosen.what == "card":
        write_card(chosen.weights, chosen.out)
        return 0
    if chosen.what == "lm":
        logging.getLogger(__name__).info("size %s on %s; the weights in %s will be replaced", chosen.size, chosen.device, chosen.out)
    recipe = evaluate_again(chosen.data, chosen.weights, held_out_rows=chosen.rows) if chosen.what == "evaluate" else _train(chosen)
    for name, result in recipe["evaluation"].items():  # type: ignore[attr-defined]
        logging.getLogger(__name__).info("%s %s", name, {key: value for key, value in result.items() if key != "examples"})
    return 0


def _train(chosen: argparse.Namespace) -> dict[str, object]:
    given = {name: getattr(chosen, name) for name in ("steps", "cpu_minutes", "wall_minutes", "threads", "seed", "learning_rate", "batch_tokens", "workers")}
    planned = plan_for(chosen.size, chosen.device)
    plan = replace(polish_plan(planned) if chosen.polish else planned, **{name: value for name, value in given.items() if value is not None})
    start, weights = chosen.start, WEIGHTS_OF[chosen.size]
    if chosen.polish:
        start, weights = start or chosen.out, POLISH_WEIGHTS
    return train_starter_lm(
        chosen.data, chosen.out, size=chosen.size, plan=plan, weights=weights, held_out_rows=chosen.rows, checkpoint=chosen.checkpoint, start=start
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmops_kit.starter", description="Train the starter models from the data folder.")
    kinds = parser.add_subparsers(dest="what", required=True)
    lm = kinds.add_parser("lm", help="train the small bilingual language model")
    lm.add_argument("--data", type=Path, required=True, help="the data folder")
    lm.add_argument("--out", type=Path, default=weights_folder("starter-lm"), help="where the weights go, replacing those there; default: into the package")
    lm.add_argument("--size", choices=sorted(SIZES), default="small", help="small: for a processor; large: for a GPU, with the kinds of the library's prompts")
    lm.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: bfloat16 arithmetic and large batches")
    lm.add_argument("--steps", type=int, default=None, help="optimiser steps")
    lm.add_argument("--minutes", dest="cpu_minutes", type=float, default=None, help="stop after this many CPU-minutes of training")
    lm.add_argument("--wall-minutes", type=float, default=None, help="stop after this many minutes by the clock")
    lm.add_argument("--checkpoint", type=Path, default=None, help="file that the state is saved to now and then")
    lm.add_argument("--polish", action="store_true", help="the second phase, on the weights of the first (in --start, default: --out)")
    lm.add_argument("--start", type=Path, default=None, help="folder of earlier weights to go on from")
    lm.add_argument("--threads", type=int, default=None, help="of the processor")
    lm.add_argument("--seed", type=int, default=None)
    lm.add_argument("--learning-rate", type=float, default=None)
    lm.add_argument("--batch-tokens", type=int, default=None, help="tokens of a step")
    lm.add_argument("--workers", type=int, default=None, help="processes that draw rows ahead; 0: none")
    lm.add_argument("--rows", type=int, default=50, help="held-out rows per kind and language")
    again = kinds.add_parser("evaluate", help="measure weights again, on more rows")
    again.add_argument("--data", type=Path, required=True, help="the data folder")
    again.add_argument("--weights", type=Path, default=weights_folder("starter-lm"))
    again.add_argument("--rows", type=int, default=50, help="held-out rows per kind and language")
    card = kinds.add_parser("card", help="write the model card from the record beside the weights")
    card.add_argument("--weights", type=Path, default=weights_folder("starter-lm"))
    card.add_argument("--out", type=Path, default=Path("docs/models/starter-lm.md"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
