"""What the training of an adapter is measured against, each run in a process of its own: `python -m tests.benchmarks.tuning_peers SYSTEM TASK.json`.

`ours` is the training of the kit, called as a job calls it (`ours32`: held to float32); `plain` is transformers' Trainer with PEFT and default
padding, as its documentation shows it (`plain16`: with `bf16=True`; `plainours`: with the
steps of ours, so that the final losses can be compared); `llamafactory` is LLaMA-Factory in an environment of its own, named
by `LLAMAFACTORY_PYTHON`. To make one:

    python3.11 -m venv lf && lf/bin/pip install torch==2.13.0 llamafactory==0.9.5
    mkdir lf/lib/python3.11/site-packages/torchaudio && touch $_/__init__.py      # imported by it, never used for text

A task names base, rows, seed and so on; each system writes its figures to `out`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_S = 1800
LLAMAFACTORY = """
import json, resource, sys, time
from transformers import TrainerCallback
from llamafactory.train.tuner import run_exp
task = json.load(open(sys.argv[1]))
facts = {}
class Watch(TrainerCallback):
    def on_train_begin(self, args, state, control, train_dataloader=None, model=None, **_):
        data = train_dataloader.dataset
        facts.update(rows=len(data), tokens=sum(len(row["input_ids"]) for row in data))
        facts["counted"] = sum(sum(label != -100 for label in row["labels"]) for row in data)
        facts["trainable"] = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        self.began = time.perf_counter()
    def on_step_end(self, args, state, control, **_):
        facts.update(seconds=time.perf_counter() - self.began, steps=state.global_step)
        facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
run_exp(task["llamafactory"], callbacks=[Watch()])
facts["tokens"] *= task["epochs"]
json.dump(facts, open(task["out"], "w"))
"""


def run_system(system: str, task: dict[str, Any], folder: Path, *, cores: int | None = None) -> dict[str, Any]:
    """Run one system on a task in a process of its own, on the first `cores` of the machine; its figures with `wall_s`.

    Raises: `RuntimeError` with the end of what it wrote.
    """
    folder.mkdir(parents=True)
    task = {**task, "system": system, "out": str(folder / "out.json"), "adapter": str(folder / "adapter")}
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    if system == "llamafactory":
        task["llamafactory"] = _describe_for_llamafactory(task, folder)
        (folder / "program.py").write_text(LLAMAFACTORY)
        command = [os.environ["LLAMAFACTORY_PYTHON"], str(folder / "program.py"), str(folder / "task.json")]
    else:
        command = [sys.executable, "-m", "tests.benchmarks.tuning_peers", system, str(folder / "task.json")]
    (folder / "task.json").write_text(json.dumps(task))
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False, preexec_fn=lambda: _hold(cores))
    if done.returncode:
        raise RuntimeError(f"{system} failed: {done.stderr[-1500:]}")
    return {**json.loads((folder / "out.json").read_text()), "wall_s": time.perf_counter() - started, "adapter": task["adapter"]}


def _hold(cores: int | None) -> None:
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _describe_for_llamafactory(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Its arguments, and its data set: the same conversations, in the format of OpenAI's messages, with the model's own chat template."""
    roles = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
    info = {"rows": {"file_name": task["messages"], "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": roles}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return {
        "model_name_or_path": task["base"], "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_target": "all",
        "lora_rank": task["rank"], "lora_alpha": task["alpha"], "lora_dropout": 0.0, "dataset_dir": str(folder), "dataset": "rows",
        "cutoff_len": task["max_tokens"], "output_dir": task["adapter"], "per_device_train_batch_size": task["batch_rows"],
        "gradient_accumulation_steps": 1, "learning_rate": task["learning_rate"], "num_train_epochs": float(task["epochs"]),
        "lr_scheduler_type": "cosine", "warmup_steps": task["warmup_steps"], "seed": task["seed"], "report_to": "none", "save_strategy": "no",
        "logging_steps": 1000, "bf16": False, "fp16": False, "use_cpu": True, "disable_tqdm": True, "overwrite_output_dir": True,
        "max_grad_norm": 1.0, "overwrite_cache": True, "preprocessing_num_workers": 1, "dataloader_num_workers": 0,
        "disable_gradient_checkpointing": True, "optim": "adamw_torch",
    }  # fmt: skip


def run_ours(task: dict[str, Any]) -> dict[str, Any]:
    """The kit's training; the time is from the first step's beginning to the last one's end, as with the others."""
    from llmops_kit.tuning.spec import TuneSpec
    from llmops_kit.tuning.training import place as places
    from llmops_kit.tuning.training import running
    from llmops_kit.tuning.training.preparing import prepare
    from llmops_kit.tuning.training.trainer import quiet
    from tests.tuning_work import FakeWork, open_tuning

    if task["system"] == "ours32":
        places.has_fast_bfloat16 = lambda: False  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as place, quiet():
        tuning = open_tuning(Path(place) / "workspace")
        spec = TuneSpec(
            base="starter-lm", data=task["train"], rank=task["rank"], alpha=task["alpha"], epochs=task["epochs"], batch_tokens=task["batch_tokens"],
            learning_rate=task["learning_rate"], warmup=task["warmup"], eval_share=0.0, seed=task["seed"], eval_every=10**6, wandb=False,
        )  # fmt: skip
        training = running.Training(tuning, FakeWork(spec, Path(place) / "job"), prepare(tuning, FakeWork(spec, Path(place) / "job"), spec))
        watch = _watch()
        training._trainer.callback_handler.callbacks.insert(0, watch)
        result = training.run()
        training._prepared.model.save_pretrained(task["adapter"])
        tuning.kit.close()
        return {**watch.facts, "tokens": result["tokens"], "dtype": result["dtype"], "trainable": training._prepared.trainable_parameters}


def run_plain(task: dict[str, Any]) -> dict[str, Any]:
    """Trainer + PEFT: rows padded to the longest of a batch, the model's own loss over all positions, labels only where they count."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    rows = json.loads(Path(task["rows"]).read_text())
    torch.manual_seed(task["seed"])
    model = AutoModelForCausalLM.from_pretrained(task["base"], dtype=torch.float32)
    config = LoraConfig(r=task["rank"], lora_alpha=task["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    watch = _watch()
    arguments = TrainingArguments(
        output_dir=task["adapter"], use_cpu=True, per_device_train_batch_size=task["batch_rows"], num_train_epochs=task["epochs"], seed=task["seed"],
        learning_rate=task["learning_rate"], lr_scheduler_type="cosine", warmup_steps=task["warmup_steps"], report_to="none", disable_tqdm=True,
        save_strategy="no", logging_steps=1000, remove_unused_columns=False, bf16=task["system"] == "plain16",
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    trainer = Trainer(model=tuned, args=arguments, train_dataset=rows, data_collator=pad_rows, callbacks=[watch])
    if task["system"] == "plainours":
        from llmops_kit.tuning.training.order import plan_steps

        steps = plan_steps([[len(row["ids"])] for row in rows], epochs=task["epochs"], batch_tokens=task["batch_tokens"], seed=task["seed"])
        loader = torch.utils.data.DataLoader(rows, batch_sampler=[step.rows for step in steps], collate_fn=pad_rows)  # type: ignore[arg-type]
        trainer.get_train_dataloader = lambda: loader
        arguments.num_train_epochs = 1
    trainer.train()
    tuned.save_pretrained(task["adapter"])
    trainable = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    return {**watch.facts, "tokens": task["epochs"] * sum(len(row["ids"]) for row in rows), "trainable": trainable}


def pad_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch as every collator makes it: padded on the right to its longest row."""
    import torch

    width = max(len(row["ids"]) for row in rows)
    ids, labels, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100), torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        length = len(row["ids"])
        ids[number, :length] = torch.tensor(row["ids"])
        labels[number, :length] = torch.tensor([token if counts else -100 for token, counts in zip(row["ids"], row["counted"], strict=True)])
        mask[number, :length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def evaluate(task: dict[str, Any], adapter: str) -> float:
    """The loss of the held-out rows with an adapter, computed the same way for all: plain PEFT, one row at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(task["base"], dtype=torch.float32), adapter).eval()
    total = count = 0.0
    with torch.no_grad():
        for row in json.loads(Path(task["eval_rows"]).read_text()):
            ids, counted = torch.tensor(row["ids"]), torch.tensor(row["counted"][1:])
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits[counted], ids[1:][counted], reduction="sum"))
            count += int(counted.sum())
    return total / count


def write_task(folder: Path, data: str, *, batch_rows: int, epochs: int, seed: int) -> dict[str, Any]:
    """The same rows in every form the systems read: conversations, token ids with what counts, and the rows kept for evaluation."""
    from llmops_kit import open_kit
    from llmops_kit.starter import weights_folder

    folder.mkdir(parents=True, exist_ok=True)
    share = 0.15
    with open_kit(folder / "workspace") as kit:
        train, kept = kit.tuning.read(data).split(share, seed)
        encoder = kit.models.turn_encoder("starter-lm")
        for name, examples in (("rows", train), ("eval_rows", kept)):
            encoded = [row for rows in encoder.encode([example.messages for example in examples]) for row in rows]
            (folder / f"{name}.json").write_text(json.dumps([{"ids": row.ids, "counted": row.counted} for row in encoded]))
        messages = [{"messages": [{"role": turn.role, "content": turn.content} for turn in example.messages]} for example in train]
        (folder / "messages.json").write_text(json.dumps(messages, ensure_ascii=False))
        (folder / "train.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in messages), encoding="utf-8")
    rows, kept_rows = (json.loads((folder / f"{name}.json").read_text()) for name in ("rows", "eval_rows"))
    tokens = sum(len(row["ids"]) for row in rows)
    steps = epochs * -(-len(rows) // batch_rows)
    return {
        "base": str(weights_folder("starter-lm")), "rows": str(folder / "rows.json"), "eval_rows": str(folder / "eval_rows.json"),
        "messages": str(folder / "messages.json"), "train": str(folder / "train.jsonl"),
        "rank": 8, "alpha": 16.0, "epochs": epochs, "batch_rows": batch_rows, "seed": seed,
        "batch_tokens": -(-tokens // -(-len(rows) // batch_rows)), "learning_rate": 2e-3, "warmup_steps": round(0.05 * steps), "warmup": 0.05,
        "max_tokens": 2048, "row_count": len(rows), "tokens": tokens, "steps": steps,
        "longest": max(len(row["ids"]) for row in rows), "counted": sum(sum(row["counted"]) for row in rows), "eval_count": len(kept_rows),
    }  # fmt: skip


def mix_lengths(file: Path, *, rows: int, seed: int) -> Path:
    """Conversations of one to eight turns from the bundled sample: few long ones and many short ones, as chats are."""
    from llmops_kit.tuning.dataset.intake import SAMPLES_FOLDER

    chance = random.Random(seed)
    sample = SAMPLES_FOLDER / "shop-style.jsonl"
    pairs = [json.loads(line)["messages"] for line in sample.read_text(encoding="utf-8").splitlines()]
    lines = []
    for _ in range(rows):
        turns = min(8, int(chance.paretovariate(1.4)))
        lines.append(json.dumps({"messages": [turn for pair in chance.sample(pairs, turns) for turn in pair]}, ensure_ascii=False))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _watch() -> Any:
    import resource

    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.facts: dict[str, Any] = {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            self.facts = {"seconds": time.perf_counter() - self.began, "steps": state.global_step, "peak_mb": peak_mb}

    return Watch()


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    Path(given["out"]).write_text(json.dumps((run_ours if sys.argv[1].startswith("ours") else run_plain)(given)))
