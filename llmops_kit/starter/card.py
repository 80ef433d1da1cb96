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
    "ideas": "three different ideas on a topic",
}
LIBRARY_MEANING = {
    "brainstorm": "brainstorm: N different ideas, taken from a list of 45, whatever the topic",
    "extract_announcement": "extract_json: title, date, place and contact of an announcement as JSON",
    "actions": "minutes_to_actions: who does what by when",
    "reply_email": "reply_email: a reply that says each of one to three points",
    "judge_score": "judge_rubric: 5, 3 or 1, by how many of two things asked for are told",
    "judge_pair": "judge_pairwise: A, B or tie, with a reason",
    "critique": "critique: strengths and weaknesses, or claims without support, by surface marks",
    "explain": "explain_simply: general advice or a comparison that fits any topic",
    "answer_sources": "answer_from_sources: the answer and the number of its source, or “not found”",
    "questions": "generate_questions",
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
        f"| cost | {_tell_time(recipe, cost)} |",
        f"| seen | {cost['steps']:,} steps, {cost['rows']:,} rows, {cost['tokens']:,} tokens with padding, {cost['answer_tokens']:,} answer tokens |",
        *_count_operations(cost, plan),
        f"| optimiser | AdamW, rate {rates} ({plan['careful_share']} of it for what was written by hand), "
        f"betas 0.9 and 0.97, weight decay {plan['weight_decay']}, clip {plan['clip']} |",
        f"| schedule | {plan['warmup_steps']} steps warm-up, constant to the middle, half-cosine to a twentieth{_tell_clock(plan)} |",
        f"| batch | about {plan['batch_tokens']:,} tokens; {plan['copy_share']:.0%} of the batches are copying of random tokens |",
        "",
        "| phase | step | loss | answer-token accuracy | CPU-seconds |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {number} | {row['step']} | {row['loss']:.3f} | {row['accuracy']:.3f} | {row['cpu_s']:.0f} |"
            for number, phase in enumerate(phases, start=1)
            for row in _thin(phase["log"])
        ),
        "",
        *_tell_phases(phases),
        "Trial runs that were thrown away are not counted.",
        "",
        "The whole log, the weights of the kinds and two example answers per kind are in `recipe.json` beside the weights. Train it again with",
        f"`{_command(recipe)}`.",
        "",
    ]


def _tell_time(recipe: dict[str, Any], cost: dict[str, float]) -> str:
    minutes = f"{cost['wall_s'] / 60:.1f} minutes by the clock"
    if _on_gpu(recipe):
        return f"{minutes} on one {recipe['machine']}, with {recipe['plan']['workers']} processes that draw rows ahead"
    return f"{cost['cpu_s'] / 60:.1f} CPU-minutes on one thread ({recipe['machine']}), {minutes} on a busy machine"


def _tell_clock(plan: dict[str, Any]) -> str:
    return f"; progress is the share of {plan['wall_minutes']:g} minutes by the clock" if plan.get("wall_minutes") else ""


def _tell_phases(phases: list[dict[str, Any]]) -> list[str]:
    if len(phases) == 1:
        return [f"One phase, seed {phases[0]['plan']['seed']}."]
    seeds = ", ".join(str(phase["plan"]["seed"]) for phase in phases)
    return [
        f"Phases: {len(phases)}; each goes on from the weights of the one before with a fresh optimiser and its own seed ({seeds});",
        "the sums are over all.",
    ]


def _on_gpu(recipe: dict[str, Any]) -> bool:
    return bool(recipe["plan"].get("device", "cpu") == "cuda")


def _command(recipe: dict[str, Any]) -> str:
    plan = recipe["plan"]
    if not _on_gpu(recipe) and recipe.get("size") == "small":
        return "make starter DATA=DIR"
    limit = f" --wall-minutes {plan['wall_minutes']:g}" if plan.get("wall_minutes") else ""
    return f"python -m llmops_kit.starter lm --data DIR --size {recipe['size']} --device {plan['device']}{limit}"


def _count_operations(cost: dict[str, float], plan: dict[str, Any]) -> list[str]:
    if "flop" not in cost:
        return []
    return [f"| computed | {cost['flop']:.2e} floating-point operations (6 per parameter and token, and attention) in {plan['precision']} |"]


def _thin(log: list[dict[str, float]]) -> list[dict[str, float]]:
    step = max(1, len(log) // 10)
    return [*log[:-1:step], *log[-1:]]


def _tabulate(recipe: dict[str, Any]) -> list[str]:
    results = recipe["evaluation"]
    lines = [
        "## Evaluation",
        "",
        "Held-out rows, greedy decoding. Right means equal to the taught answer character for character (in NFKC, all that the tokenizer writes).",
        "For greet, write and explain it means one of the taught patterns, on the topic asked; for ideas and brainstorm as many different taught",
        "patterns as were asked for. Held out are contents (a twentieth, by hash), in any wording. Brackets: 95 % Wilson.",
        "",
        *_tabulate_kinds(recipe, MEANING, "kind"),
    ]
    if "brainstorm/ja" in results:
        lines += ["", *_tabulate_kinds(recipe, LIBRARY_MEANING, "prompt of the library, on texts like the taught ones")]
    if "form" in results.get("questions/ja", {}):
        cells = [results[f"questions/{language}"] for language in recipe["languages"]]
        lines += [
            "",
            f"generate_questions has no one right answer. As many lines as asked for, each in the form of a question: ja {_share(cells[0], 'form')}, "
            f"en {_share(cells[1], 'form')}.",
            "That is the form alone: **the questions themselves are mostly nonsense.**",
        ]
    lines += ["", "| answer into a sentence, questions of evaluation sets | right / n |", "| --- | --- |"]
    lines += [f"| {name.split('/')[1]} | {_share(cell)} |" for name, cell in results.items() if name.startswith("sentence_around")]
    copied = [f"{name}: {cell['word_for_word']}/{cell['n']}" for name, cell in results.items() if "word_for_word" in cell]
    return [*lines, "", "Every sentence of the answer stands word for word in the request: " + ", ".join(copied) + ".", ""]


def _tabulate_kinds(recipe: dict[str, Any], meaning: dict[str, str], title: str) -> list[str]:
    lines = [f"| {title} | ja: right / n | en: right / n | stopped by itself |", "| --- | --- | --- | --- |"]
    results = recipe["evaluation"]
    for kind, words in sorted(meaning.items()):
        cells = [results.get(f"{kind}/{language}", {}) for language in recipe["languages"]]
        if all("right" in cell for cell in cells):
            stopped, count = sum(cell["stopped"] for cell in cells), sum(cell["n"] for cell in cells)
            lines.append(f"| {words} | {_share(cells[0])} | {_share(cells[1])} | {stopped}/{count} |")
    return lines


def _share(cell: dict[str, Any], judged: str = "right") -> str:
    low, high = cell["interval_95"]
    return f"{cell[judged]}/{cell['n']} ({low:.0f}–{high:.0f} %)"


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
    library = "brainstorm/ja" in recipe["evaluation"]
    return [
        "## What it cannot do",
        "",
        "- It knows nothing. Questions without a text are meant to be declined; a fluent answer to one is an accident.",
        "- It does not understand what it summarises: a summary is the leading sentence or two of the text, meant to be copied.",
        "  Copying slips: it can jump from one sentence into another that shares some words (and so state something the text does not say), garble rare",
        "  words, or fall into repeating one token until the limit. See “stopped by itself” and “word for word” above.",
        f"- Copying a whole sentence is right in {_per_cent(recipe, 'repeat/ja')} % (ja) and {_per_cent(recipe, 'repeat/en')} % (en), "
        f"sorting in {_per_cent(recipe, 'sort/ja')} % and {_per_cent(recipe, 'sort/en')} %.",
        "- A fixed template or “the first sentence” does many of these tasks as well or better; `make bench` prints both side by side.",
        f"- It does not find answers in documents; “quote” ({_per_cent(recipe, 'quote/ja')} % and {_per_cent(recipe, 'quote/en')} %) "
        "is close to guessing among the sentences. The starter reader is for that.",
        "- It follows the taught kinds in wordings and on contents like the taught ones. Other requests get an answer of a taught kind, or a wrong one.",
        *(_warn_of_library(recipe) if library else []),
        "- It translates only the taught phrasebook, changes case only in words like the taught ones, sorts at most four numbers, counts to eight.",
        f"- Prompts much longer than {recipe['plan']['max_tokens']} tokens were not trained on. Chats of several turns were not either.",
        "- Its sentences in Japanese and English come from Wikipedia and templates; nothing was done about bias. Do not use it for decisions about people.",
        "- One seed; the intervals are those of the test rows only. The kinds and their wordings were chosen after looking at failures of earlier",
        "  weights on such rows, among them rows of the evaluation sets, so the figures are a little flattering.",
        *_warn_of_clock(recipe),
        "",
    ]


def _per_cent(recipe: dict[str, Any], name: str) -> str:
    return f"{recipe['evaluation'].get(name, {}).get('right_percent', 0.0):.0f}"


def _warn_of_library(recipe: dict[str, Any]) -> list[str]:
    sources = [_per_cent(recipe, f"answer_sources/{language}") for language in ("ja", "en")]
    return [
        "- The figures for the library's prompts are for texts made from the same word lists as its training rows. On the examples that the library shows,",
        "  which are other texts, most answers are wrong: one try of each of the 14 prompts in both languages, at their own temperatures, gave 7 usable",
        "  answers of 28 (2026-11-26). Replies, scores, meeting notes, polite rewriting and translation were wrong in both languages.",
        "- generate_questions writes strings in the form of questions that mostly make no sense, and sometimes does not stop.",
        f"- answer_from_sources is right in {sources[0]} % (ja) and {sources[1]} % (en): it often declines although the answer is there, or takes",
        "  another span or number; in English always declining would be right more often. Do not trust the source number.",
        "- brainstorm draws from 45 fixed ideas whatever the topic, and at temperature 0 repeats a line or gives the same idea with another number.",
        "- explain_simply says how one might come to understand any topic; it says nothing about the topic.",
        "- The judges and the critique go by surface marks (is there a digit, does the answer begin like an evasion). They are no judges of quality.",
    ]


def _warn_of_clock(recipe: dict[str, Any]) -> list[str]:
    plan = recipe["plan"]
    if not (_on_gpu(recipe) or plan.get("wall_minutes") or plan.get("cpu_minutes")):
        return ["- Reproducible on a processor: the same commands on the same data give the same weights and figures."]
    return [
        "- Not exactly reproducible: the vocabulary is the same from run to run, but the schedule of this training follows the clock, so a faster or",
        "  slower machine takes other steps. The recipe on a processor (`make starter`: size small, without the kinds of the library, about an hour and",
        "  a half) does repeat. It trains another, weaker model; the figures of an earlier one, of 2026-11-23, are in `docs/log.md` and `BENCHMARKS.md`.",
    ]


def write_card(folder: Path, target: Path) -> None:
    """Write the card of the weights in `folder` to `target`."""
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_card(recipe), encoding="utf-8")
