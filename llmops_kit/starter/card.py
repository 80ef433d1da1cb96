"""The model card of starter-lm, written from `recipe.json`, so that its figures are those of the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MEANING = {
    "sentence": "put an extracted answer into a sentence",
    "summary": "summarise: repeat the leading sentence or two",
    "list": "sentences as bullets",
    "repeat": "repeat a sentence",
    "decline": "decline a question without a text",
    "quote": "quote the sentence that answers (out of 2–4)",
    "question": "make a question from a text",
    "style": "polite ↔ plain",
    "keywords": "keywords → sentence",
    "spelling": "upper/lower case (en), hiragana ↔ katakana (ja)",
    "fill": "fill a template",
    "translate": "translate the taught phrasebook",
    "classify": "choose one of the given labels",
    "json": "extract fields to JSON",
    "count": "count the items of a list",
    "sort": "sort three or four numbers below 100",
    "yes_no": "yes or no from one sentence",
    "greet": "greetings (taught word for word)",
    "write": "one sentence on a topic",
    "ideas": "three ideas on a topic",
}


def render_card(recipe: dict[str, Any]) -> str:
    """The whole card as Markdown."""
    return "\n".join([*_describe(recipe), *_describe_training(recipe), *_tabulate(recipe), *_list_data(recipe), *_warn(recipe)]) + "\n"


def _describe(recipe: dict[str, Any]) -> list[str]:
    plan, shape = recipe["plan"], recipe["architecture"]
    return [
        "# starter-lm",
        "",
        "A very small Japanese and English language model, trained from scratch for llmops_kit. It lets every part of the app run",
        "without a download, and it is the lesson for “train your own model”. It has no knowledge of the world.",
        "",
        "日本語と英語のごく小さな言語モデルです。ダウンロードなしでアプリ全体を動かすためのもので、知識は持っていません。",
        "",
        "## Model",
        "",
        "| | |",
        "| --- | --- |",
        f"| architecture | LlamaForCausalLM, {shape['layers']} layers, hidden {shape['hidden']}, {shape['heads']} heads of 64, "
        f"feed-forward {shape['feed_forward']}, tied embeddings |",
        f"| parameters | {recipe['parameters']:,}, of which {recipe['parameters_body']:,} outside the embedding table |",
        f"| context | {shape['context_tokens']} positions (RoPE, theta {shape['rope_theta']:.0e}); trained on rows of at most {plan['max_tokens']} tokens |",
        "| tokenizer | byte-fallback BPE, 8,192 tokens, NFKC; every digit and every common Japanese character is one token, rare characters become bytes |",
        "| roles | system, user, assistant; an answer ends with `</s>` |",
        f"| weights | {recipe.get('weights_format', 'float32')} safetensors |",
        "| loads in | plain transformers and peft (both tested). Llama layout, so vLLM and llama.cpp's converter should take it: neither was run; "
        "of the converter only the vocabulary reader of gguf 0.19 was tried, and it reads the tokenizer |",
        "| licence | CC BY-SA 4.0, with the attribution in `llmops_kit/starter/weights/LICENSE` |",
        "",
    ]


def _describe_training(recipe: dict[str, Any]) -> list[str]:
    plan, phases = recipe["plan"], [*recipe.get("earlier_phases", []), recipe]
    cost = {key: sum(phase["training"].get(key, 0) for phase in phases) for key in recipe["training"]}
    rates = ", then ".join(str(phase["plan"]["learning_rate"]) for phase in phases)
    return [
        "## Training",
        "",
        "Induction heads are written into the first two layers before training: layer 0 carries the previous three tokens along,",
        "layer 1 finds where they stood before and copies what followed. The model can therefore copy text at step 0. Training then",
        "minimises the cross-entropy of the answers alone; a token weighs one over the square root of its answer's length. In a third of",
        "the copying rows some words are swapped for rare ones, in request and answer alike, so that it copies instead of guessing.",
        "",
        "| | |",
        "| --- | --- |",
        f"| cost | {cost['cpu_s'] / 60:.1f} CPU-minutes{' on one thread' if plan.get('device', 'cpu') == 'cpu' else ''} ({recipe['machine']}), "
        f"{cost['wall_s'] / 60:.0f} minutes by the clock on a busy machine |",
        f"| seen | {cost['steps']:,} steps, {cost['rows']:,} rows, {cost['tokens']:,} tokens with padding, {cost['answer_tokens']:,} answer tokens |",
        *_count_operations(cost, plan),
        f"| optimiser | AdamW, rate {rates} ({plan['careful_share']} of it for what was written by hand), "
        f"betas 0.9 and 0.97, weight decay {plan['weight_decay']}, clip {plan['clip']} |",
        f"| schedule | {plan['warmup_steps']} steps warm-up, constant to the middle, half-cosine to a twentieth |",
        f"| batch | about {plan['batch_tokens']} tokens; {plan['copy_share']:.0%} of the batches are copying of random tokens |",
        "",
        "| phase | step | loss | answer-token accuracy | CPU-seconds |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {number} | {row['step']} | {row['loss']:.3f} | {row['accuracy']:.3f} | {row['cpu_s']:.0f} |"
            for number, phase in enumerate(phases, start=1)
            for row in _thin(phase["log"])
        ),
        "",
        f"Phases: {len(phases)}; each goes on from the weights of the one before with a fresh optimiser and its own seed",
        f"({', '.join(str(phase['plan']['seed']) for phase in phases)}), and all figures above are sums over them. "
        "Trial runs that were thrown away are not counted.",
        "",
        "The whole log, the weights of the kinds and two example answers per kind are in `recipe.json` beside the weights. Train it again with",
        "`make starter DATA=…`, or `python -m llmops_kit.starter lm --data DIR`.",
        "",
    ]


def _count_operations(cost: dict[str, float], plan: dict[str, Any]) -> list[str]:
    if "flop" not in cost:
        return []
    return [f"| computed | {cost['flop']:.2e} floating-point operations (6 per parameter and token, and attention) in {plan['precision']} |"]


def _thin(log: list[dict[str, float]]) -> list[dict[str, float]]:
    step = max(1, len(log) // 10)
    return [*log[:-1:step], *log[-1:]]


def _tabulate(recipe: dict[str, Any]) -> list[str]:
    lines = [
        "## Evaluation",
        "",
        "Held-out rows, greedy decoding. Right means equal to the taught answer character for character; for greet, write and ideas it",
        "means one of the taught patterns on the topic asked. Held out are contents (a twentieth, by hash), in any wording. Brackets: 95 % Wilson.",
        "",
        "| kind | ja: right / n | en: right / n | stopped by itself |",
        "| --- | --- | --- | --- |",
    ]
    results = recipe["evaluation"]
    for kind in sorted({name.split("/")[0] for name in results if not name.startswith("sentence_around")}):
        cells = [results[f"{kind}/{language}"] for language in recipe["languages"]]
        stopped, count = sum(cell["stopped"] for cell in cells), sum(cell["n"] for cell in cells)
        lines.append(f"| {MEANING[kind]} | {_share(cells[0])} | {_share(cells[1])} | {stopped}/{count} |")
    lines += ["", "| answer into a sentence, questions of evaluation sets | right / n |", "| --- | --- |"]
    lines += [f"| {name.split('/')[1]} | {_share(cell)} |" for name, cell in results.items() if name.startswith("sentence_around")]
    copied = [f"{name}: {cell['word_for_word']}/{cell['n']}" for name, cell in results.items() if "word_for_word" in cell]
    return [*lines, "", "Every sentence of the answer stands word for word in the request: " + ", ".join(copied) + ".", ""]


def _share(cell: dict[str, Any]) -> str:
    low, high = cell["interval_95"]
    return f"{cell['right']}/{cell['n']} ({low:.0f}–{high:.0f} %)"


def _list_data(recipe: dict[str, Any]) -> list[str]:
    uses = {"jglue/jsquad-valid.json": "evaluation only", "qa/xquad_en.jsonl.gz": "evaluation only"}
    return [
        "## Data",
        "",
        "| file | use | SHA-256 |",
        "| --- | --- | --- |",
        *(f"| {name} | {uses.get(name, 'training')} | `{digest}` |" for name, digest in recipe["data_sha256"].items()),
        "",
        f"Texts that share a title, a 25-character window (ja) or a 12-word window (en) with JSQuAD valid or XQuAD are "
        f"dropped by the recipe: {recipe['texts_dropped_for_overlap']}.",
        "The other instructions come from templates and word lists written for this project. No other model's output was used.",
        "",
    ]


def _warn(recipe: dict[str, Any]) -> list[str]:
    return [
        "## What it cannot do",
        "",
        "- It knows nothing. Questions without a text are meant to be declined; a fluent answer to one is an accident.",
        "- It does not understand what it summarises: a summary is the leading sentence or two of the text, meant to be copied.",
        "  Copying slips: it can jump from one sentence into another that shares some words (and so state something the text does not say), garble rare",
        "  words, or fall into repeating one token until the limit. See “stopped by itself” and “word for word” above.",
        "- Sorting and English upper and lower case are hardly learnt; English blanks in quotation marks are its weakest copying. See the table.",
        "- A fixed template or “the first sentence” does many of these tasks as well or better; `make bench` prints both side by side.",
        "- It does not find answers in documents; “quote” is close to guessing among the sentences. The starter reader is for that.",
        "- It follows the taught kinds in wordings like the taught ones. Other requests get an answer of a taught kind, or a wrong one.",
        "- It translates only the taught phrasebook, changes case only in words like the taught ones, sorts at most four numbers, counts to eight.",
        f"- Prompts much longer than {recipe['plan']['max_tokens']} tokens were not trained on. Chats of several turns were not either.",
        "- Its sentences in Japanese and English come from Wikipedia and templates; nothing was done about bias. Do not use it for decisions about people.",
        "- One seed; the intervals are those of the test rows only. The wordings and the second phase were chosen after looking at failures of earlier",
        "  weights on such rows, among them rows of the evaluation sets, so the figures are a little flattering.",
        "- Not exactly reproducible: the shipped vocabulary was learnt before ties among its rarest characters were settled by code point. Running",
        "  the commands again gives a slightly different vocabulary, and so other weights and figures; from then on they repeat.",
        "",
    ]


def write_card(folder: Path, target: Path) -> None:
    """Write the card of the weights in `folder` to `target`."""
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_card(recipe), encoding="utf-8")
