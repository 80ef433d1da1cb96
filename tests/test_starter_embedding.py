"""The recipe of starter-embed on a data folder made here: nothing leaks, the same seed gives the same weights, it learns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tokenizers import Tokenizer

from llmops_kit.errors import UnreadableFile
from llmops_kit.models.embedder import StarterEmbedder
from llmops_kit.starter.corpus import EVALUATION_FILES, LeakFilter, read_evaluation, read_jsquad, read_questions, windows
from llmops_kit.starter.embedding import evaluate, run
from llmops_kit.starter.embedding_evaluation import measure_paraphrases, measure_questions, measure_scored, rank_of
from llmops_kit.starter.embedding_pairs import Source, build_sources
from llmops_kit.starter.embedding_texts import SCORED_VALID, Pair, Texts, hash_share, read_scored, read_texts
from llmops_kit.starter.embedding_tokenizer import RunEncoder, Tokens, train_tokenizer
from llmops_kit.starter.embedding_training import Plan

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
WEIGHTS = Path(__file__).parent.parent / "llmops_kit" / "starter" / "weights" / "starter-embed"
needs_data = pytest.mark.skipif(not (DATA / "jglue").is_dir(), reason="the data folder is not beside the project")
PLAN = Plan(dimensions=24, vocabulary=900, steps=40, batch=16, per_article=4, longest=48)
SECRET = "この寺の五重塔は元禄年間に近隣の商人たちの寄付で再建されたものである。"
SECRET_EN = "The old wooden bridge across the wide river was carried away by the great flood of that year."
NOUNS = ("寺", "城", "橋", "川", "駅", "森", "塔", "庭", "港", "市場", "学校", "劇場")
ENGLISH = ("temple", "castle", "bridge", "river", "station", "forest", "tower", "garden", "harbour", "market", "school", "theatre")
PLACES, ENGLISH_PLACES = ("北", "南", "東", "西", "中央"), ("north", "south", "east", "west", "centre")


def sentence(number: int, place: int) -> tuple[str, str]:
    noun, where = number % len(NOUNS), place % len(PLACES)
    year = 1200 + number * 7 + place
    return f"{PLACES[where]}の{NOUNS[noun]}は{year}年に建てられた。", f"The {ENGLISH[noun]} in the {ENGLISH_PLACES[where]} was built in {year}."


def question(title: str, context: str, asked: str, answer: str) -> dict[str, object]:
    return {"title": title, "context": context, "q": asked, "answers": [answer], "start": [context.find(answer)], "id": asked}


def write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_pairs(path: Path, rows: Iterable[tuple[str, str, float, str]]) -> None:
    named = ({"sentence1": a, "sentence2": b, "label": score, "yjcaptions_id": image} for a, b, score, image in rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in named), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "jglue").mkdir()
    articles = []
    for number in range(120):
        pairs = [sentence(number, place) for place in range(4)]
        articles.append({"tj": f"記事{number}", "te": f"Article {number}", "pars": [[list(pair) for pair in pairs]]})
    articles.append({"tj": "評価の題名", "te": "Evaluation", "pars": [[list(sentence(999, 0)), list(sentence(999, 1))]]})
    articles.append({"tj": "漏れた文章", "te": "Leaked", "pars": [[[SECRET, "It was rebuilt."], list(sentence(998, 1))]]})
    write_lines(folder / "text/kyoto.jsonl.gz", articles)
    ja = [
        question(f"題{n // 3}", "".join(sentence(n, place)[0] for place in (1, 2, 3)), f"{NOUNS[n % 12]}が建てられたのは何年ですか", str(1201 + n * 7))
        for n in range(90)
    ]
    leaked = [question("別の題", "前の文。" + SECRET, "塔を再建したのは", "商人"), question("開発", "写し。" * 20, "何", "写し")]
    write_lines(folder / "qa/jaquad_train.jsonl.gz", [*ja, *leaked])
    held = [question("開発", "".join(sentence(n + 500, p)[0] for p in range(3)), f"{NOUNS[(n + 500) % 12]}は何年", "1") for n in range(12)]
    write_lines(folder / "qa/jaquad_dev.jsonl.gz", held)
    en = [
        question(f"T{n // 3}", " ".join(sentence(n, place)[1] for place in (1, 2)), f"When was the {ENGLISH[n % 12]} built?", str(1201 + n * 7))
        for n in range(60)
    ]
    write_lines(folder / "qa/new_wiki.jsonl.gz", en)
    write_lines(folder / "qa/fairy.jsonl.gz", [*en[:20], question("Tale", "Once. " + SECRET_EN, "What was carried away?", "bridge")])
    write_lines(folder / "qa/xquad_en.jsonl.gz", [question("Flood", SECRET_EN, "What carried the bridge away?", "flood")])
    paragraph = {"context": f"評価の題名 [SEP] {SECRET}", "qas": [{"question": "誰の寄付で", "answers": [{"text": "商人"}]}]}
    evaluation = {"data": [{"title": "評価の題名", "paragraphs": [paragraph]}]}
    (folder / EVALUATION_FILES[0]).write_text(json.dumps(evaluation, ensure_ascii=False), encoding="utf-8")
    scored = [(f"{sentence(n, 0)[0]}", f"{sentence(n + step, 0)[0]}", float(5 - step), f"{n}_a-1-2") for n in range(60) for step in (0, 2, 5)]
    write_pairs(folder / "jglue/jsts-train.json", [*scored, ("試験の文です。", "別の文です。", 4.0, "9_a-1-2")])
    valid = [("試験の文です。", "試験の文。", 4.5), ("犬です。", "猫です。", 1.0), ("駅です。", "駅。", 4.2), ("川です。", "城。", 0.0)]
    write_pairs(folder / SCORED_VALID, [(*row, "8_a") for row in valid])
    return folder


@pytest.fixture(scope="module")
def texts(folder: Path) -> Texts:
    return read_texts(folder, articles=1000)


def test_nothing_of_the_evaluation_or_held_out_texts_is_trained_on(texts):
    trained = [row.context for rows in texts.questions.values() for row in rows] + [side.text for row in texts.paragraphs for side in (row.ja, row.en)]
    secrets = set(windows(SECRET, "ja")) | set(windows(SECRET_EN, "en"))
    for text in trained:
        assert not secrets & {*windows(text, "ja"), *windows(text, "en")}, text
    held = {row.ja.text for row in texts.held_out}
    assert held and not held & set(trained)
    assert {hash_share(row.ja.title) < 40 for row in texts.held_out} == {True}
    assert not {"評価の題名", "漏れた文章"} & {row.ja.title for row in texts.paragraphs}
    assert "開発" not in {row.title for row in texts.questions["jaquad"]}
    # Evaluation: two articles, a question, a story. Held out: one copy of JaQuAD dev, the rest shares sentences with an article kept back.
    assert texts.dropped == {"evaluation": 4, "held_out": 8, "jsts_valid": 1}
    assert "試験の文です。" not in {text for pair in (*texts.scored, *texts.scored_development) for text in (pair.first, pair.second)}
    kept = {text for pair in texts.scored_development for text in (pair.first, pair.second)}
    assert kept and not kept & {text for pair in texts.scored for text in (pair.first, pair.second)}


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UnreadableFile, match="jaquad_dev"):
        read_texts(tmp_path, articles=10)


def test_two_runs_with_one_seed_are_identical_and_another_seed_is_not(folder, tmp_path):
    first, second = (run(folder, tmp_path / name / "starter-embed", plan=PLAN) for name in ("a", "b"))
    third = run(folder, tmp_path / "c" / "starter-embed", plan=replace(PLAN, seed=1))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a/starter-embed" / name).read_bytes() == (tmp_path / "b/starter-embed" / name).read_bytes()
    assert first["evaluation"] == second["evaluation"]
    assert (tmp_path / "a/starter-embed/model.safetensors").read_bytes() != (tmp_path / "c/starter-embed/model.safetensors").read_bytes()
    assert third["data_sha256"] == first["data_sha256"]
    embedder = StarterEmbedder(tmp_path / "a" / "starter-embed")
    ja, en = zip(*(sentence(number, 0) for number in range(12)), strict=True)
    ranks = rank_of(embedder.encode(en), embedder.encode(ja), np.arange(12))
    assert (ranks == 0).mean() >= 0.5, "a twelfth would be chance"


def test_a_vocabulary_is_the_same_every_time_where_characters_are_equally_frequent():
    rng = Random(1)
    texts = ["".join(chr(0x4E00 + rng.randrange(400)) for _ in range(30)) + " temple" for _ in range(60)]
    learnt = {train_tokenizer(texts, 600, alphabet=120).to_str() for _ in range(4)}
    assert len(learnt) == 1


def test_the_fast_encoder_does_what_the_tokenizer_does():
    tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
    rng = Random(0)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x4FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xFF00, 0xFFEF), (0x1F300, 0x1F64F)]
    texts = ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(40)) for _ in range(300)]
    texts += ["東京大学で開催された。", "Don't 'stop' naïve 1,234 ½ ㈱ ｶﾞ"]
    ours = RunEncoder(tokenizer)(texts)
    theirs = tokenizer.encode_batch(texts, add_special_tokens=False)
    for number, encoding in enumerate(theirs):
        assert ours.flat[ours.offsets[number]: ours.offsets[number + 1]].tolist() == encoding.ids, texts[number]


def test_a_batch_holds_pairs_of_one_source(texts):
    tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
    sources = build_sources(texts, RunEncoder(tokenizer))
    assert set(sources) == {*texts.questions, "kyoto_ja", "kyoto_en", "kyoto_sentences", "kyoto_ja_en", "kyoto_en_ja", "titles", "jsts"}
    rng = np.random.default_rng(0)
    for source in sources.values():
        batch = source.draw(rng, 12, per_article=4, longest=30)
        assert 0 < len(batch.left) == len(batch.right) == len(batch.keys) <= 12
        assert (np.diff(batch.left.offsets) > 0).all() and (np.diff(batch.right.offsets) > 0).all()
    hidden = sources["kyoto_ja"]
    assert isinstance(hidden, Source) and hidden.hidden
    batch = hidden.draw(rng, 400, per_article=4, longest=60)

    def ids(side: Tokens, row: int) -> bytes:
        return side.flat[side.offsets[row]: side.offsets[row + 1]].tobytes()

    inside = [ids(batch.left, row) in ids(batch.right, row) for row in range(len(batch.left))]
    assert 0.05 < np.mean(inside) < 0.4, "the sentence is mostly cut out of its paragraph"


def test_figures_are_those_of_hand_counted_cases():
    vectors = {"a": [1.0, 0.0], "b": [0.8, 0.6], "c": [0.0, 1.0], "d": [-1.0, 0.0]}

    def embed(texts):
        return np.array([vectors[text] for text in texts], np.float32)

    scored = measure_scored(embed, [Pair("a", "a", 5, ""), Pair("a", "b", 4, ""), Pair("a", "c", 2, ""), Pair("a", "d", 3, "")])
    assert scored["spearman"] == 80.0 and scored["n"] == 4
    assert scored["low"] < 80 < scored["high"]
    found = measure_paraphrases(embed, [Pair("a", "b", 4, ""), Pair("c", "d", 4.5, ""), Pair("a", "c", 1, "")])
    assert (found["r1"], found["n"], found["documents"]) == (50.0, 2, 2)


@needs_data
def test_the_shipped_figures_are_measured_again():
    recorded = json.loads((WEIGHTS / "recipe.json").read_text(encoding="utf-8"))["evaluation"]
    embed = StarterEmbedder(WEIGHTS).encode
    assert measure_scored(embed, read_scored(DATA / SCORED_VALID))["spearman"] == pytest.approx(recorded["jsts_valid"]["spearman"], abs=0.1)
    assert measure_questions(embed, list(read_questions(DATA / EVALUATION_FILES[1], "en")))["r1"] == pytest.approx(recorded["xquad_en"]["r1"], abs=0.2)
    questions = list(read_jsquad(DATA / EVALUATION_FILES[0]))
    assert measure_questions(embed, questions)["r1"] == pytest.approx(recorded["jsquad_valid"]["r1"], abs=0.2)


@needs_data
def test_real_training_questions_share_nothing_with_the_evaluation_sets():
    leaks = LeakFilter(read_evaluation(DATA))
    contexts = {(row.title, row.context) for row in read_questions(DATA / "qa/new_wiki.jsonl.gz", "en")}
    assert not [title for title, context in contexts if leaks.overlaps(title=title, text=context, language="en")]
    recorded = json.loads((WEIGHTS / "recipe.json").read_text(encoding="utf-8"))["dropped_for_overlap"]
    assert set(recorded) == {"evaluation", "held_out", "jsts_valid"} and recorded["jsts_valid"] > 0


def test_evaluate_names_every_figure(folder, texts, tmp_path):
    figures = evaluate(StarterEmbedder(WEIGHTS).encode, texts, folder)
    assert {"jaquad_dev", "jsquad_valid", "xquad_en", "jsts_valid", "jsts_valid_paraphrases", "kyoto_held_out_en_sentence_to_ja"} <= set(figures)
    assert all(row["n"] > 0 for row in figures.values())
