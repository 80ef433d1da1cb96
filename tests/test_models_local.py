"""Local chat models: the engine's sampling, streaming, stopping and refusing, on a random model and on starter-lm."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from llmops_kit.errors import InvalidValue, ModelRefused, PromptTooLong
from llmops_kit.models.decoding import Detokenizer, TextFilter
from llmops_kit.models.engine import Engine, GenerationRequest, LocalEngine
from llmops_kit.models.local import LocalChat
from llmops_kit.models.sampling import Sampler, pick_tokens
from llmops_kit.types import Message
from tests.tiny_model import collapse, load_test_model

QUESTIONS = ("こんにちは。自己紹介をしてください。", "Summarise: the cat sat on the mat.", "😀と吉野家🍚を英語で", "1 + 1 = ?")
JAPANESE = "吾輩は猫である。名前はまだ無い。Where was I born? 🐈‍⬛とんと見当がつかぬ。𠮷野家"


@pytest.fixture(scope="module", params=["tiny", "starter-lm"])
def loaded(request, tmp_path_factory):
    torch.set_num_threads(1)
    return load_test_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(loaded):
    return LocalEngine(loaded)


@pytest.fixture
def chat(loaded, engine):
    return LocalChat(entry=loaded.entry, engine=engine, temperature=0, repetition_penalty=1.0, max_tokens=40)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """The random model, whose greedy answers are long; starter-lm may well say nothing."""
    torch.set_num_threads(1)
    loaded = load_test_model("tiny", tmp_path_factory.mktemp("talker"))
    return LocalChat(entry=loaded.entry, engine=LocalEngine(loaded), temperature=0, max_tokens=40)


@pytest.fixture
def forwards(talker):
    """How often the talker's model was asked to compute; the list holds how many tokens it read each time."""
    wait_until_idle(talker.engine)
    reads = []
    hook = talker.engine._loaded.model.register_forward_pre_hook(lambda module, args, kwargs: reads.append(kwargs["input_ids"].shape[1]), with_kwargs=True)
    yield reads
    hook.remove()


def wait_until_idle(engine):
    deadline = time.monotonic() + 20
    while engine.load.running or engine.load.waiting:
        assert time.monotonic() < deadline, engine.load
        time.sleep(0.005)


def answer(engine, question, **values):
    ids = tuple(engine.render([Message("user", question)]))
    return "".join(delta.text for delta in engine.stream(GenerationRequest(prompt_ids=ids, **values)))


# --- what is generated -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_answers_equal_those_of_transformers(loaded, engine, question, penalty):
    ids = engine.render([Message("user", question)])
    with torch.inference_mode():
        output = loaded.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=60, do_sample=False, repetition_penalty=penalty, pad_token_id=0
        )
    expected = loaded.tokenizer.decode(output[0][len(ids) :], skip_special_tokens=True)
    assert collapse(answer(engine, question, max_tokens=60, repetition_penalty=penalty)) == collapse(expected)


def test_the_engine_is_an_engine(engine):
    assert isinstance(engine, Engine)


def test_a_seed_reproduces_among_other_requests(engine):
    wanted = {"max_tokens": 16, "temperature": 2.0, "top_p": 0.98, "top_k": 60}  # hot: a trained model greets alike at 1.0
    alone = [answer(engine, QUESTIONS[0], seed=seed, **wanted) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: answer(engine, QUESTIONS[0], seed=seed, **wanted), range(6)))
    assert together == alone
    assert len(set(alone)) > 1


def test_without_a_seed_answers_differ(engine):
    answers = {answer(engine, QUESTIONS[1], max_tokens=40, temperature=1.5) for _ in range(4)}
    assert len(answers) > 1


def test_a_temperature_near_zero_is_greedy(engine):
    assert answer(engine, QUESTIONS[0], max_tokens=20, temperature=1e-30, seed=3) == answer(engine, QUESTIONS[0], max_tokens=20)


@pytest.mark.parametrize(
    "values",
    [{"temperature": 0.7}, {"temperature": 1.0, "top_k": 5}, {"temperature": 1.3, "top_p": 0.6}, {"temperature": 0.9, "top_k": 12, "top_p": 0.8}],
)
def test_the_sampler_draws_from_the_distribution_of_transformers(values):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, generator=torch.Generator().manual_seed(7)) * 2
    expected = TemperatureLogitsWarper(values["temperature"])(None, logits[None])
    expected = TopKLogitsWarper(values["top_k"])(None, expected) if "top_k" in values else expected
    expected = TopPLogitsWarper(values["top_p"])(None, expected) if "top_p" in values else expected
    expected = expected.softmax(-1)[0]
    sampler = Sampler(GenerationRequest(prompt_ids=(1,), seed=11, **values))
    draws = 2000
    found = torch.bincount(torch.tensor([pick_tokens([sampler], logits[None].clone())[0] for _ in range(draws)]), minlength=50) / draws
    assert found[expected == 0].sum() == 0
    assert (found - expected).abs().max() < 5 * math.sqrt(0.25 / draws)


# --- how it arrives ----------------------------------------------------------------------------------------------------


@given(text=st.text(alphabet=st.sampled_from("あ吾猫。𠮷🐈é aB\n\u200d️"), max_size=30))
@settings(deadline=None, max_examples=60)
def test_every_finished_character_is_shown_at_once(loaded, text):
    tokenizer = loaded.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    detokenizer, shown = Detokenizer(tokenizer), ""
    for count, token in enumerate(ids, 1):
        shown += detokenizer.push(token)
        so_far = tokenizer.decode(ids[:count], skip_special_tokens=True)
        assert shown.startswith(so_far.rstrip("\ufffd"))
    assert shown == tokenizer.decode(ids, skip_special_tokens=True)


def test_long_text_stays_whole_and_unreadable_bytes_lose_no_character(loaded):
    tokenizer = loaded.tokenizer
    ids = tokenizer.encode(JAPANESE * 20, add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(token) for token in ids) == tokenizer.decode(ids)
    stray = tokenizer.encode("🐈", add_special_tokens=False)[0]  # the first byte of an emoji, with no others after it
    detokenizer = Detokenizer(tokenizer)
    broken = [*tokenizer.encode("猫", add_special_tokens=False), *[stray] * 5, *tokenizer.encode("犬", add_special_tokens=False)]
    shown = "".join(detokenizer.push(token) for token in broken)
    assert shown.startswith("猫\ufffd")
    assert shown.endswith("犬")


def test_stop_texts_are_never_shown_not_even_in_part(talker):
    engine = talker.engine
    whole = answer(engine, QUESTIONS[1], max_tokens=40)
    stop = whole[5:9]
    ids = tuple(engine.render([Message("user", QUESTIONS[1])]))
    deltas = list(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=40, stop=("☃☃☃", stop))))
    assert deltas[-1].finish_reason == "stop"
    expected, shown = whole[: whole.index(stop)], ""
    for delta in deltas:
        shown += delta.text
        assert expected.startswith(shown)
    assert shown == expected


def test_a_special_token_serves_as_stop_text(talker):
    """It never becomes text, so it must be found by its id."""
    asked = {"temperature": 2.0, "seed": 4, "max_tokens": 150}
    ids = tuple(talker.engine.render([Message("user", "Hi")]))

    def tokens(*stop):
        return sum(1 for _ in talker.engine.stream(GenerationRequest(prompt_ids=ids, stop=stop, **asked)))

    free, specials = tokens(), ("<s>", "</s>", "<|im_start|>", "<pad>")
    assert tokens(*specials) < free
    assert tokens("☃") == free


@given(pieces=st.lists(st.text(alphabet="ab<NL>\n", max_size=4), max_size=12), stops=st.lists(st.text(alphabet="ab<\n", min_size=1, max_size=4), max_size=3))
def test_the_filter_shows_the_text_up_to_the_first_stop(pieces, stops):
    shown = TextFilter(stops, newline_token="<NL>")
    result, parts = "", []
    for piece in pieces:
        parts.append(shown.push(piece))
    result = "".join(parts) + shown.finish()
    whole = "".join(pieces).replace("<NL>", "\n")
    first = min((place for stop in stops if (place := whole.find(stop)) >= 0), default=len(whole))
    assert result == whole[:first]
    assert shown.stopped == (first < len(whole))


def test_leading_line_breaks_go_where_the_entry_says_so():
    shown = TextFilter(strip_leading_newline=True)
    assert [shown.push(piece) for piece in ("\n", "\r\n\n", "\nはい", "\n", "。")] == ["", "", "はい", "\n", "。"]


def test_a_stream_ends_with_usage_and_metadata(loaded, chat, engine):
    chunks = list(chat.stream(QUESTIONS[0]))
    assert [chunk.chunk_position for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert all(chunk.usage_metadata is None for chunk in chunks[:-1])
    last = chunks[-1]
    prompt_tokens = len(engine.render([Message("user", QUESTIONS[0])]))
    assert last.chunk_position == "last"
    assert last.usage_metadata["input_tokens"] == prompt_tokens
    assert last.usage_metadata["output_tokens"] <= min(40, len(chunks))  # an empty chunk comes where a token takes longer than a second
    assert last.response_metadata["model_name"] == loaded.entry.id
    assert last.response_metadata["model_revision"] == loaded.revision
    assert last.response_metadata["finish_reason"] in ("stop", "length")


def test_max_tokens_ends_with_length(talker):
    message = talker.invoke(QUESTIONS[0], max_tokens=2)
    assert (message.usage_metadata["output_tokens"], message.response_metadata["finish_reason"]) == (2, "length")


def test_the_nearest_word_on_a_parameter_counts(talker):
    entry, engine = talker.entry, talker.engine
    entry = entry.model_copy(update={"default_params": {"max_tokens": 3, "temperature": 0}})
    chat = LocalChat(entry=entry, engine=engine)
    lengths = [
        chat.invoke("Hi").usage_metadata["output_tokens"],
        LocalChat(entry=entry, engine=engine, max_tokens=2).invoke("Hi").usage_metadata["output_tokens"],
        LocalChat(entry=entry, engine=engine, max_tokens=2).invoke("Hi", max_tokens=1).usage_metadata["output_tokens"],
    ]
    assert lengths == [3, 2, 1]


# --- ending early ------------------------------------------------------------------------------------------------------


def test_closing_the_stream_frees_its_place_within_a_token(talker, forwards):
    stream = talker.stream(QUESTIONS[1], max_tokens=400)
    for _ in range(3):
        next(stream)
    stream.close()
    wait_until_idle(talker.engine)
    computed = len(forwards)
    assert computed < 300
    assert set(forwards[1:]) <= {1}  # the cache holds the rest
    time.sleep(0.2)
    assert len(forwards) == computed


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers_before_any_work(talker, forwards):
    with pytest.raises(PromptTooLong) as caught:
        talker.invoke("長い文章です。" * 20_000, max_tokens=100)
    facts = caught.value.facts
    assert facts["context_tokens"] == talker.engine.context_tokens
    assert facts["max_tokens"] == 100
    assert facts["prompt_tokens"] > facts["context_tokens"]
    for language in ("en", "ja"):
        assert all(str(facts[name]) in caught.value.text(language) for name in ("prompt_tokens", "max_tokens", "context_tokens"))
    assert forwards == []


def test_an_unasked_for_length_shrinks_to_the_room_there_is(loaded, engine):
    room = engine.context_tokens - len(engine.render([Message("user", "Hi")]))
    entry = loaded.entry.model_copy(update={"default_params": {"max_tokens": room + 1}})
    assert next(LocalChat(entry=entry, engine=engine).stream("Hi")) is not None
    with pytest.raises(PromptTooLong):
        LocalChat(entry=entry, engine=engine, max_tokens=room + 1).invoke("Hi")


def test_weights_that_are_not_numbers_are_refused(loaded):
    import copy

    broken = copy.deepcopy(loaded.model)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    fields = {name: getattr(loaded, name) for name in ("tokenizer", "entry", "revision", "device", "render")}
    engine = LocalEngine(SimpleNamespace(model=broken, **fields))
    with pytest.raises(ModelRefused, match="NaN"):
        answer(engine, "Hi", max_tokens=1)


def test_an_empty_prompt_says_so(engine):
    with pytest.raises(InvalidValue):
        engine.stream(GenerationRequest(prompt_ids=()))


# --- what may be asked -------------------------------------------------------------------------------------------------

WRONG = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", math.nan),
    ("temperature", "warm"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.01),
    ("top_k", -1),
    ("top_k", 1.5),
    ("repetition_penalty", 0),
    ("repetition_penalty", math.inf),
    ("max_tokens", 0),
    ("max_tokens", 10**12),
    ("seed", -1),
    ("best_of", 3),
    ("best_of", None),
    ("stop", [""]),
    ("stop", [3]),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_values_out_of_range_name_themselves_in_both_languages(talker, forwards, name, value):
    with pytest.raises(InvalidValue) as caught:
        talker.invoke("Hi", **{name: value})
    assert name in caught.value.text("en")
    assert name in caught.value.text("ja")
    assert "使え" in caught.value.text("ja")
    assert forwards == []


def test_whole_numbers_may_come_as_a_slider_gives_them(talker):
    assert talker.invoke("Hi", max_tokens=2.0, top_k=5.0, seed=None).usage_metadata["output_tokens"] == 2


def test_only_text_and_known_roles_are_read(talker):
    with pytest.raises(InvalidValue, match="image_url"):
        talker.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])])
    with pytest.raises(InvalidValue, match="tool"):
        talker.invoke([ToolMessage("42", tool_call_id="1")])


def test_tokens_are_counted_offline(loaded, chat, engine):
    text = "有給休暇は何日ですか。"
    assert chat.get_num_tokens(text) == len(loaded.tokenizer.encode(text, add_special_tokens=False)) > 0
    turns = [SystemMessage("短く。"), HumanMessage(text), AIMessage("10日です。"), HumanMessage("Thanks")]
    expected = engine.render([Message("system", "短く。"), Message("user", text), Message("assistant", "10日です。"), Message("user", "Thanks")])
    assert chat.get_num_tokens_from_messages(turns) == len(expected)
