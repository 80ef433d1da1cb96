"""`python -m llmops_kit.starter lm --data DIR` trains starter-lm and puts it in its place; `… evaluate` and `… card` follow."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields
from pathlib import Path

from llmops_kit.starter import weights_folder
from llmops_kit.starter.card import write_card
from llmops_kit.starter.lm import SIZES
from llmops_kit.starter.recipe import evaluate_again, train_starter_lm
from llmops_kit.starter.training import Plan


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run what it asks for."""
    chosen = _build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if chosen.what == "card":
        write_card(chosen.weights, chosen.out)
        return 0
    recipe = evaluate_again(chosen.data, chosen.weights, held_out_rows=chosen.rows) if chosen.what == "evaluate" else _train(chosen)
    for name, result in recipe["evaluation"].items():  # type: ignore[attr-defined]
        logging.getLogger(__name__).info("%s %s", name, {key: value for key, value in result.items() if key != "examples"})
    return 0


def _train(chosen: argparse.Namespace) -> dict[str, object]:
    plan = Plan(
        steps=chosen.steps,
        cpu_minutes=chosen.minutes,
        wall_minutes=chosen.wall_minutes,
        threads=chosen.threads,
        seed=chosen.seed,
        learning_rate=chosen.learning_rate,
    )
    return train_starter_lm(chosen.data, chosen.out, size=chosen.size, plan=plan, held_out_rows=chosen.rows, checkpoint=chosen.checkpoint, start=chosen.start)


def _build_parser() -> argparse.ArgumentParser:
    defaults = {field.name: field.default for field in fields(Plan)}
    parser = argparse.ArgumentParser(prog="python -m llmops_kit.starter", description="Train the starter models from the data folder.")
    kinds = parser.add_subparsers(dest="what", required=True)
    lm = kinds.add_parser("lm", help="train the small bilingual language model")
    lm.add_argument("--data", type=Path, required=True, help="the data folder")
    lm.add_argument("--out", type=Path, default=weights_folder("starter-lm"), help="where the weights go; default: into the package")
    lm.add_argument("--size", choices=sorted(SIZES), default="small")
    lm.add_argument("--steps", type=int, default=defaults["steps"], help="optimiser steps")
    lm.add_argument("--minutes", type=float, default=None, help="stop after this many CPU-minutes of training")
    lm.add_argument("--wall-minutes", type=float, default=None, help="stop after this many minutes by the clock")
    lm.add_argument("--checkpoint", type=Path, default=None, help="file that the state is saved to now and then")
    lm.add_argument("--start", type=Path, default=None, help="folder of earlier weights to go on from")
    lm.add_argument("--threads", type=int, default=defaults["threads"])
    lm.add_argument("--seed", type=int, default=defaults["seed"])
    lm.add_argument("--learning-rate", type=float, default=defaults["learning_rate"])
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
