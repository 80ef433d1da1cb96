"""starter-reader: what it reads, what it answers, and that it never says a word the sources do not hold."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from llmops_kit.errors import InvalidValue, ModelRefused
from llmops_kit.models.reader import StarterReader
from llmops_kit.models.reading import number_of_source, read_message
from llmops_kit.models.span_ranker import SpanRanker, load_rankers
from llmops_kit.models.spans import DENSE, choose_window, describe, read_question
from llmops_kit.models.units import cut, fold

WEIGHTS = Path(__file__).parent.parent / "llmops_kit" / "starter" / "weights" / "starter-reader"
DATA = Path(__file__).parent.parent.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "qa").is_dir(), reason="the data folder is not beside the project")

JA = (
    "資料：\n[1] 年次有給休暇は、入社から6か月たった日に10日付与します。その後は1年ごとに増え、上限は20日です。\n"
    "[2] 休暇の申請は、取得する日の3営業日前までに社内システムで行います。急な病気のときは当日の電話でもかまいません。\n\n質問："
)
EN = (
    "Sources:\n[1] Employees receive 10 days of paid leave six months after joining. The number grows every year up to 20 days.\n"
    "[2] Leave must be requested in the staff system by Friday. In case of sudden illness a call on the same day is enough.\n\nQuestion: "
)


@pytest.fixture(scope="module")
def reader() -> StarterReader:
    return StarterReader(folder=WEIGHTS)


@pytest.mark.parametrize(
    ("question", "inside"),
    [
        (JA + "有給休暇の申請は何日前までに必要ですか。", "3営業日"),
        (JA + "有給休暇の上限は何日ですか？", "20日"),
        (EN + "How many days of paid leave do employees receive?", "10"),
    ],
)
def test_answers_and_quotes_from_the_sources(reader, question, inside):
    reply = reader.invoke(question)
    listed = (WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8")
    assert f"{reply.response_metadata['model_revision']}" in listed
    facts = reply.response_metadata
    assert inside in facts["answer"]
    assert facts["answer"] in facts["quote"]
    assert question[facts["start"]: facts["end"]] == facts["answer"]
    assert facts["quote"] in question
    assert facts["answer"] in reply.content and facts["quote"] in reply.content
    assert 0 < facts["confidence"] <= 1
    assert f"{facts['confidence']:.2f}" in reply.content
    assert reply.additional_kwargs["answer"] == facts["answer"]
    assert facts["source"] in ("1", "2") and f"[{facts['source']}]" in reply.content


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (JA + "社長の名前は何ですか？", "資料には見当たりません。"),
        (EN + "What is the name of the chief executive?", "Not found in the documents."),
    ],
)
def test_says_when_the_sources_do_not_answer(reader, message, sentence):
    reply = reader.invoke(message)
    assert reply.content == sentence
    assert reply.response_metadata["answer"] is None
    assert reply.response_metadata["found"] < 0.7


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("日本の首都はどこですか？", "資料：」"),
        ("こんにちは", "質問"),
        ("What is this?", "Sources:"),
        ("Hello there", "Question:"),
        ("", "Sources:"),
        ("資料：\n\n質問：首都は？", "資料：」"),
    ],
)
def test_a_message_without_anything_to_read_is_told_what_it_needs(reader, message, part):
    reply = reader.invoke([HumanMessage(message)])
    assert part in reply.content
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.response_metadata["answer"] is None


@pytest.mark.parametrize(
    ("message", "question", "sources"),
    [
        ("資料：\n東京は首都。\n\n質問：首都は？", "首都は？", "東京は首都。"),
        ("資料:東京は首都。\n問い: 首都は？\n\n短く答えてください。", "首都は？", "東京は首都。"),
        ("次の資料だけで答えてください。\n\n資料：\n東京は首都。\n\n質問：首都は？\n回答：", "首都は？", "東京は首都。"),
        ("Sources:\nParis is big.\n\nQuestion: What is big?", "What is big?", "Paris is big."),
        ("Context: B is 5.\nQ: What is B?\nA:", "What is B?", "B is 5."),
        ("質問：首都はどこ？\n資料：東京は首都。\nQ: 料金は？\nA: 無料", "首都はどこ？", "東京は首都。\nQ: 料金は？\nA: 無料"),
        ("資料：\nQ: 料金は？\nA: 500円です。\n\n質問：料金はいくらですか", "料金はいくらですか", "Q: 料金は？\nA: 500円です。"),
        ("【資料】\n東京は首都。\n【質問】\n首都は？", "首都は？", "東京は首都。"),
        ("# Sources\nParis is big.\n\n# Question\nWhat is big?", "What is big?", "Paris is big."),
        ("<sources>\nParis is big.\n</sources>\n<question>What is big?</question>", "What is big?", "Paris is big."),
        ("東京は首都です。人口は多いです。首都はどこですか？", "首都はどこですか？", "東京は首都です。人口は多いです。"),
        ("東京は首都です。\n首都はどこですか", "首都はどこですか", "東京は首都です。"),
        ("Paris is big. It has cafés. What is big?", "What is big?", "Paris is big. It has cafés."),
        ("首都はどこですか？", "首都はどこですか？", ""),
        ("東京は首都です。", "", "東京は首都です。"),
    ],
)
def test_question_and_sources_are_told_apart(message, question, sources):
    reading = read_message(message)
    assert reading.question == question
    assert reading.sources.strip() == sources
    assert len(reading.sources) == len(message)


def test_numbers_of_sources():
    message = "資料：\n[1] あ\n[12] い\n\n質問：う？"
    assert number_of_source(message, message.index("あ")) == "1"
    assert number_of_source(message, message.index("い")) == "12"
    assert number_of_source("資料：い", 3) is None
    assert "[1]" not in read_message(message).sources


def test_never_a_word_the_sources_do_not_hold(reader):
    """Random characters, brackets, scripts and lengths: the answer is a substring of the sources every time, or there is none."""
    random = Random(3)
    alphabet = "東京都は、が年1980「」『』ABC deﬁ㈱ｱｲ①. \nTheカタカナ（）!?。𠮷👍🏽é" + "人口の"
    answered = 0
    for _ in range(150):
        sources = "".join(random.choice(alphabet) for _ in range(random.choice([1, 7, 60, 700]))) + "。1868年に始まった。"
        question = random.choice(["何年に始まった？", "東京の人口は何人ですか？", "When did The ABC start?", "誰が？"])
        message = f"資料：\n{sources}\n\n質問：{question}"
        facts = reader.invoke(message).response_metadata
        if facts["answer"] is not None:
            answered += 1
            assert facts["answer"] and facts["answer"] in sources
            assert facts["quote"] in message
            assert message[facts["start"]: facts["end"]] == facts["answer"]
    assert answered > 10


def test_streams_counts_characters_and_reports_the_end(reader):
    message = JA + "有給休暇の上限は何日ですか？"
    settings = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1, "max_tokens": 500, "seed": 1}
    chunks = list(reader.stream([SystemMessage("短く。"), HumanMessage(message)], **settings))
    text = "".join(chunk.content for chunk in chunks)
    assert len(chunks) > 3
    last = next(chunk for chunk in reversed(chunks) if chunk.usage_metadata)
    assert last.chunk_position == "last"
    assert last.usage_metadata == {"input_tokens": len(message) + 3, "output_tokens": len(text), "total_tokens": len(message) + 3 + len(text)}
    assert last.response_metadata["finish_reason"] == "stop"
    assert last.response_metadata["model_name"] == "starter-reader"
    assert reader.get_num_tokens("あいう") == 3


def test_max_tokens_stop_and_wrong_parameters(reader):
    message = JA + "有給休暇の上限は何日ですか？"
    short = reader.invoke(message, max_tokens=5)
    assert len(short.content) == 5 and short.response_metadata["finish_reason"] == "length"
    stopped = reader.invoke(message, stop=["\n出典"])
    assert "出典" not in stopped.content and stopped.content.endswith("です。") and stopped.response_metadata["finish_reason"] == "stop"
    assert StarterReader(folder=WEIGHTS, max_tokens=4).invoke(message).response_metadata["finish_reason"] == "length"
    with pytest.raises(InvalidValue):
        reader.invoke(message, temperature=9)
    with pytest.raises(InvalidValue):
        reader.invoke(message, warmth=1)


def test_closing_the_stream_ends_it(reader):
    stream = reader.stream(JA + "有給休暇の上限は何日ですか？")
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_damaged_weights_file_is_refused_by_name(tmp_path):
    folder = tmp_path / "starter-reader"
    shutil.copytree(WEIGHTS, folder)
    data = bytearray((folder / "reader.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "reader.npz").write_bytes(bytes(data))
    with pytest.raises(ModelRefused, match=r"reader\.npz has the checksum [0-9a-f]{64}"):
        StarterReader(folder=folder)
    (folder / "reader.npz").unlink()
    with pytest.raises(ModelRefused, match="missing"):
        StarterReader(folder=folder)


def test_reading_needs_no_torch():
    code = (
        "import sys; from pathlib import Path; from llmops_kit.models.span_ranker import load_rankers; "
        f"print(load_rankers(Path({str(WEIGHTS)!r}))['ja'].find('首都はどこですか', '東京は日本の首都である。').start); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()


def test_units_keep_their_places_and_sentences():
    text = "ﾄｳｷｮｳで㈱エーが1,990円。「やめる。」と言った。Mr. Smith of U.S. Steel left. He ran."
    units = cut(text)
    assert len(fold(text)) == len(text)
    assert [text[start:end] for start, end in zip(units.starts, units.ends, strict=True)].count("1,990") == 1
    quoted = [units.sentences[np.flatnonzero(units.starts == text.index(part))[0]] for part in ("1,990", "や", "言", "Mr", "Steel", "He")]
    assert quoted[0] < quoted[1] == quoted[2] < quoted[3] == quoted[4] < quoted[5]


def test_the_window_keeps_the_sentence_that_matches(reader):
    filler = "".join(f"第{number}の塔は石で造られ、長い間そこに立っていた。" for number in range(60))
    text = filler[:700] + "港の灯台は1921年に完成した。" + filler[700:]
    ranker = load_rankers(WEIGHTS)["ja"]
    question = read_question("港の灯台は何年に完成したか。", ranker.idf, "ja")
    units = cut(text)
    window = units.take(choose_window(units, question, 170))
    assert len(window) <= 170
    assert text.index("1921") in window.starts
    assert describe(window, question, ranker.idf).shape == (len(window), DENSE)
    assert reader.invoke(f"資料：{text}\n質問：港の灯台は何年に完成したか。").response_metadata["answer"] == "1921年"


@needs_data
def test_recorded_figures_are_found_again_on_a_sample():
    """The shipped weights on the fixed 400 questions of each evaluation set, within 0.5 points of what the recipe recorded for them."""
    from llmops_kit.starter.corpus import EVALUATION_FILES
    from llmops_kit.starter.reader_evaluation import choose_sample, report, try_out
    from llmops_kit.starter.reader_rows import read_jsquad_rows, read_rows

    recorded = json.loads((WEIGHTS / "recipe.json").read_text(encoding="utf-8"))["evaluation"]
    rankers = load_rankers(WEIGHTS)
    rows = {"ja": [*read_jsquad_rows(DATA / EVALUATION_FILES[0])], "en": [*read_rows(DATA / EVALUATION_FILES[1], "en")]}
    # Japanese: the aims. English misses its own (35 / 48); it must not fall back behind the weights shipped first (32.1 / 43.8).
    for language, least_exact, least_overlap in (("ja", 58, 70), ("en", 32.1, 43.8)):
        given, whole = rows[language], recorded[language]
        sample = [given[place] for place in choose_sample(len(given))]
        figures = report(rankers[language], try_out(rankers[language], sample, 1))
        assert whole["n"] == len(given) and figures["n"] == whole["sample_n"] == 400
        assert figures["em"] == pytest.approx(whole["sample_em"], abs=0.5) and figures["f1"] == pytest.approx(whole["sample_f1"], abs=0.5)
        assert whole["em"] > least_exact and whole["f1"] > least_overlap, whole
        assert figures["auroc_found"] > 0.75 and figures["auroc_confidence"] > 0.75, figures
        assert figures["ms"] < 20, figures


@needs_data
def test_two_short_runs_give_the_same_file(tmp_path):
    """The recipe on 40 questions of each language; then English again, by itself: the same weights to the byte."""
    pytest.importorskip("torch")
    from llmops_kit.starter.reader import PLANS, run

    plans = [replace(plan, epochs=1, sentences=0, members=2 if plan.language == "en" else 1) for plan in PLANS]
    first, second = tmp_path / "first", tmp_path / "second"
    recipe = run(DATA, first, limit=40, plans=plans)
    shutil.copytree(first, second)
    again = run(DATA, second, limit=40, plans=[plan for plan in plans if plan.language == "en"])
    assert (first / "reader.npz").read_bytes() == (second / "reader.npz").read_bytes()
    assert recipe["evaluation"]["en"]["em"] == again["evaluation"]["en"]["em"]
    assert (first / "SHA256SUMS").read_text(encoding="utf-8").split()[0] == hashlib.sha256((first / "recipe.json").read_bytes()).hexdigest()
    assert len(load_rankers(first)["en"].networks) == 2 and len(load_rankers(first)["ja"].networks) == 1


@needs_data
def test_the_recipe_removes_what_overlaps_the_evaluation(tmp_path):
    from llmops_kit.starter.corpus import LeakFilter, read_evaluation
    from llmops_kit.starter.reader_rows import QuestionRow, drop_leaks

    evaluation = read_evaluation(DATA)
    leaks = LeakFilter(evaluation)
    known = {row.language: row for row in evaluation}
    rows = []
    for language, filler in (("ja", "前置きです。"), ("en", "Some words first. ")):
        context = known[language].context
        part = context[:40] if language == "ja" else " ".join(context.split()[:15])
        rows += [
            QuestionRow(language, "別の題 another title", filler + part, "?", ("x",), ((0, 1),)),
            QuestionRow(language, known[language].title, "何も重ならない本文です。 nothing shared here", "?", ("x",), ((0, 1),)),
            QuestionRow(language, "新しい題 a new title", filler, "?", ("x",), ((0, 1),)),
        ]
    assert [row.title for row in drop_leaks(rows, leaks)] == ["新しい題 a new title"] * 2


@needs_data
def test_the_numpy_network_is_the_trained_one_and_training_repeats():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from llmops_kit.starter.reader_rows import count_rarity, make_examples, read_rows
    from llmops_kit.starter.reader_training import ReaderNetwork, ReaderSize, collate, train

    rows = [row for _, row in zip(range(24), read_rows(DATA / "qa" / "jaquad_dev.jsonl.gz", "ja"), strict=False)]
    idf = count_rarity(row.context for row in rows)
    examples = make_examples(rows, idf, 0.25, 0)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        network = ReaderNetwork(ReaderSize(hidden=32, spans=32))
        train(network, examples, epochs=2, rate=3e-3, seed=0, batch=8)
        states.append({name: value.numpy().copy() for name, value in network.state_dict().items()})
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not np.array_equal(states[0]["x.weight"], ReaderNetwork(ReaderSize(hidden=32, spans=32)).x.weight.detach().numpy())
    ranker = SpanRanker({"idf": idf} | {f"0/{name}": value for name, value in states[0].items()}, "ja")
    for example in examples[:6]:
        with torch.no_grad():
            ends, _, _, _, absent = network(collate([example]))
        dense = describe(example.units, example.question, idf)
        mine = ranker.networks[0].read(example.units, example.question, dense.astype(np.float16).astype(np.float32))
        assert np.allclose(mine.ends, ends[0].numpy(), atol=2e-3)
        _, _, signals = ranker.rank(example.units, example.question)
        assert np.isclose(signals[2], float(absent), atol=5e-2)


def test_networks_answer_together():
    """Two equal networks answer as one does, and a table for all of them as one of their own."""
    one = {name.partition("/")[2]: value for name, value in np.load(WEIGHTS / "reader.npz").items() if name.startswith("ja/")}
    single = {name.removeprefix("0/"): value for name, value in one.items()}
    shared = ("idf", "calibration", "threshold", "unit.weight")
    double = {name: value for name, value in single.items() if name in shared}
    double |= {f"{member}/{name}": value for member in (0, 1) for name, value in single.items() if name not in shared}
    text, question = "港の灯台は1921年に完成した。設計は山田一郎である。", "灯台を設計したのは誰か。"
    findings = [SpanRanker(arrays, "ja").find(question, text) for arrays in (single, double)]
    assert findings[0].found == pytest.approx(findings[1].found, abs=1e-5)
    assert text[findings[0].start: findings[0].end] == text[findings[1].start: findings[1].end]


def test_speed_on_one_core(reader):
    message = JA.replace("。", "。この段落は、速さを測るために長くしてあります。", 3) + "有給休暇の上限は何日ですか？"
    reader.invoke(message)
    begun = time.thread_time()
    for _ in range(20):
        reader.invoke(message)
    assert (time.thread_time() - begun) / 20 < 0.02
