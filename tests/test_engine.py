"""The local engine under many: the answers of a batch equal those of one, and nobody's trouble is another's."""

from __future__ import annotations

import ctypes
import functools
import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmops_kit.errors import Busy, EngineStopped, InvalidValue, KitError, ModelRefused, PromptTooLong, TimedOut, UnknownName
from llmops_kit.models.engine import EngineLimits, GenerationRequest, LocalEngine, ScoreRequest
from llmops_kit.types import Message
from tests.tiny_model import load_test_model

TIE = 1e-4  # two logits nearer than this are equal as far as float32 sums in another order can tell
TEXTS = (
    "こんにちは。",
    "Hello!",
    "次の文章を1文で要約してください。\n\n市立図書館は来月から夜9時まで開きます。土日は変わりません。",
    "Summarize the following text in one sentence.\n\nThe library stays open until nine from next month. Weekends are as before.",
    "😀と吉野家🍚",
    "次の数を小さい順に並べてください：31、4、15",
)


@pytest.fixture(scope="module", params=["tiny", "starter-lm"])
def loaded(request, tmp_path_factory):
    torch.set_num_threads(1)
    return load_test_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return load_test_model("tiny", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapters(loaded, tmp_path_factory) -> dict[str, Path]:
    """Three LoRA adapters with random weights, saved as PEFT saves them."""
    return {name: make_adapter(loaded, tmp_path_factory.mktemp(name), seed) for seed, name in enumerate(("warm", "cold", "odd"))}


@pytest.fixture(scope="module")
def engine(loaded, adapters) -> LocalEngine:
    """One engine with all adapters loaded."""
    engine = LocalEngine(loaded)
    for name, folder in adapters.items():
        engine.load_adapter(name, folder)
    return engine


def make_adapter(loaded, folder: Path, seed: int) -> Path:
    import copy

    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(copy.deepcopy(loaded.model), config).save_pretrained(folder)
    return folder


@functools.cache  # a template that comes with a model is rendered in a process apart
def ids_of(engine: LocalEngine, text: str) -> tuple[int, ...]:
    return tuple(engine.render([Message("user", text)]))


def read(stream) -> str:
    return "".join(delta.text for delta in stream)


def wait_until_idle(engine: LocalEngine, *, patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while engine.load.running or engine.load.waiting:
        assert time.monotonic() < deadline, engine.load
        time.sleep(0.005)


# --- the same answers --------------------------------------------------------------------------------------------------


def test_five_hundred_mixed_requests_answer_as_each_would_alone(loaded, adapters, engine):
    """Lengths, languages and adapters mixed, all at once; `generate` answers each alone, with PEFT's own adapters."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rng = random.Random(5)
    alone = AutoModelForCausalLM.from_pretrained(loaded.model.config._name_or_path, dtype=torch.float32).eval()
    for number, (name, folder) in enumerate(adapters.items()):
        alone = PeftModel.from_pretrained(alone, folder, adapter_name=name) if number == 0 else (alone.load_adapter(folder, adapter_name=name), alone)[1]
    count = 350 if loaded.entry.id == "tiny" else 150
    asked = []
    for number in range(count):
        text = rng.choice(TEXTS) * rng.choice((1, 1, 1, 2, 4)) + str(number % 9)
        asked.append(
            GenerationRequest(
                prompt_ids=ids_of(engine, text)[:400], max_tokens=rng.choice((1, 2, 4, 6, 24)), adapter=rng.choice((None, *adapters)), owner=str(number % 7)
            )
        )
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda request: read_tokens(engine.stream(request)), asked))
    ties = 0
    current: str | None = None
    for request, answer in sorted(zip(asked, together, strict=True), key=lambda pair: pair[0].adapter or ""):
        if request.adapter != current:
            alone.set_adapter(current := request.adapter)
        wanted, gaps = generate_alone(alone, loaded, request)
        if answer != wanted:
            assert min(gaps) < TIE, (request.adapter, answer, wanted, min(gaps))
            ties += 1
    assert ties <= count // 100, "equal but for a few real ties"
    assert len(set(map(tuple, together))) > count // 8, "they are not all the same"


def read_tokens(stream) -> list[int]:
    """The token ids of an answer, without the one that ends it."""
    tokens: list[int] = []
    show = stream._characters.push
    stream._characters.push = lambda token: (tokens.append(token), show(token))[1]
    read(stream)
    return tokens


def generate_alone(model, loaded, request) -> tuple[list[int], list[float]]:
    """The greedy answer of one request without a batch, and how near each choice was to the next best."""
    context = model.disable_adapter() if request.adapter is None else torch.no_grad()
    with torch.inference_mode(), context:
        output = model.generate(
            input_ids=torch.tensor([request.prompt_ids]),
            attention_mask=torch.ones(1, len(request.prompt_ids)),
            max_new_tokens=request.max_tokens,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    best = [step[0].float().topk(2).values for step in output.logits]
    tokens = [token for token in output.sequences[0, len(request.prompt_ids) :].tolist() if token != loaded.tokenizer.eos_token_id]
    return tokens, [float(two[0] - two[1]) for two in best]


def test_scores_of_a_batch_equal_those_of_one_by_one(engine):
    asked = [
        ScoreRequest(prompt_ids=ids_of(engine, text), continuation_ids=tuple(engine.encode(other)[:length]), adapter=adapter)
        for text in TEXTS
        for other, length in (("はい、そうです。", 8), ("No, it is not so.", 17), ("いいえ", 1))
        for adapter in (None, "warm")
    ]
    together = engine.score(asked)
    for request, score in zip(asked, together, strict=True):
        (single,) = engine.score([request])
        assert single.token_logprobs == pytest.approx(score.token_logprobs, abs=1e-4)
        assert len(score.token_logprobs) == len(request.continuation_ids) and score.logprob == pytest.approx(sum(score.token_logprobs))
    assert together[0].token_logprobs != pytest.approx(together[1].token_logprobs, abs=1e-3), "the adapter counts"


def test_a_score_is_the_log_likelihood_and_knows_the_greedy_continuation(tiny):
    engine = LocalEngine(tiny)
    prompt = ids_of(engine, "Hello")
    greedy = tuple(torch_generate(tiny, prompt, 5))
    other = tuple((token + 1) % 300 + 5 for token in greedy)
    best, worse = engine.score([ScoreRequest(prompt_ids=prompt, continuation_ids=greedy), ScoreRequest(prompt_ids=prompt, continuation_ids=other)])
    assert best.is_greedy and not worse.is_greedy and best.logprob > worse.logprob
    ids = torch.tensor([[*prompt, *greedy]])
    with torch.inference_mode():
        logits = tiny.model(ids).logits[0].log_softmax(-1)
    expected = [float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(greedy)]
    assert best.token_logprobs == pytest.approx(expected, abs=1e-4)


def torch_generate(loaded, prompt, count):
    with torch.inference_mode():
        output = loaded.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return output[0, len(prompt) :].tolist()


def test_a_long_prompt_read_in_pieces_answers_as_one_read_at_once(tiny):
    whole, pieces = LocalEngine(tiny), LocalEngine(tiny, EngineLimits(prefill_tokens=16))
    prompt = ids_of(whole, TEXTS[3] * 2)
    assert len(prompt) > 64
    request = GenerationRequest(prompt_ids=prompt, max_tokens=12)
    assert read(pieces.stream(request)) == read(whole.stream(request))


def test_rows_of_every_length_pass_through_one_lane_in_any_order(tiny):
    """The slab grows, shifts and narrows many times; a first run alone says what is right."""
    engine = LocalEngine(tiny, EngineLimits(slots=7, prefill_tokens=64))
    rng = random.Random(3)
    asked = [GenerationRequest(prompt_ids=ids_of(engine, "あ" * (6 * rng.randint(0, 10))), max_tokens=rng.randint(1, 120)) for _ in range(60)]
    alone = [read(engine.stream(request)) for request in asked[:12]]
    with ThreadPoolExecutor(60) as pool:
        together = list(pool.map(lambda request: read(engine.stream(request)), asked))
    assert together[:12] == alone


def test_a_seed_gives_the_same_answer_whatever_its_neighbours_sample(tiny):
    """Rows that cut their candidates draw from a sorted list; those that do not must not do so because of them."""
    engine = LocalEngine(tiny)
    ids = ids_of(engine, "Hello")
    plain = GenerationRequest(prompt_ids=ids, max_tokens=40, temperature=1.3, seed=7)
    cutting = [
        GenerationRequest(prompt_ids=ids, max_tokens=60, temperature=1.1, seed=number, top_p=0.8, top_k=number % 2 * 20, repetition_penalty=1.2)
        for number in range(5)
    ]
    alone = [read(engine.stream(request)) for request in (plain, *cutting)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda request: read(engine.stream(request)), (plain, *cutting)))
    assert together == alone


# --- taking turns ------------------------------------------------------------------------------------------------------


def test_a_grid_of_one_person_does_not_hold_up_anothers_question(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=4))
    ids = ids_of(engine, "Hi")
    grid = [engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=300, temperature=1.5, seed=number, owner="grid")) for number in range(60)]
    next(grid[0])
    question = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=2, owner="person"))
    read(question)
    assert engine.load.waiting > 40, "the question was answered long before the grid"
    for stream in grid:
        stream.close()
    wait_until_idle(engine)


def test_the_place_in_line_and_the_wait_are_known(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=1))
    ids = ids_of(engine, "Hi")
    read(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=30)))
    wait_until_idle(engine)  # the end of an answer reaches its reader before it is counted
    streams = [engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=400, temperature=1.5, owner=str(number))) for number in range(4)]
    next(streams[0])
    places = [stream.place for stream in streams]
    assert places[0] is None
    assert [place.position for place in places[1:]] == [0, 1, 2]
    assert all(place.expected_wait_s is not None for place in places[1:])
    assert engine.place_of("2").position == 1 and engine.place_of("nobody") is None
    assert engine.load.waiting == 3 and engine.load.running == 1
    for stream in streams:
        stream.close()
    wait_until_idle(engine)


def test_a_full_line_refuses_with_the_numbers_in_both_languages(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=1, waiting=2))
    ids = ids_of(engine, "Hi")
    held = [engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=400, temperature=1.5))]
    next(held[0])
    held += [engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=400)) for _ in range(2)]
    with pytest.raises(Busy) as caught:
        engine.stream(GenerationRequest(prompt_ids=ids))
    assert all("2" in caught.value.text(language) for language in ("en", "ja"))
    held.pop().close()
    held.append(engine.stream(GenerationRequest(prompt_ids=ids)))
    for stream in held:
        stream.close()


def test_requests_that_do_not_fit_the_memory_together_wait_and_are_all_answered(tiny):
    per_token = 2 * 2 * 2 * 16 * 4
    engine = LocalEngine(tiny, EngineLimits(cache_mb=600 * per_token / 1e6))
    ids = ids_of(engine, "Hi")
    asked = [GenerationRequest(prompt_ids=ids, max_tokens=250, temperature=1.5, seed=number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda request: list(engine.stream(request)), asked))
    small = LocalEngine(tiny, EngineLimits(cache_mb=100 * per_token / 1e6))
    with pytest.raises(PromptTooLong, match="100"):
        small.stream(GenerationRequest(prompt_ids=ids, max_tokens=200))


# --- nobody's trouble is another's -------------------------------------------------------------------------------------


def test_too_long_prompts_dead_readers_and_closed_streams_disturb_nobody(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=8))
    ids = ids_of(engine, "Hello")
    request = GenerationRequest(prompt_ids=ids, max_tokens=120)
    wanted = read(engine.stream(request))
    stop = threading.Event()

    def trouble() -> None:
        while not stop.is_set():
            with pytest.raises(PromptTooLong):
                engine.stream(GenerationRequest(prompt_ids=ids * 200, max_tokens=50))
            engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=300, temperature=1.5, owner="gone"))  # never read, dropped at once
            closed = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=300, temperature=1.5, owner="closed"))
            next(closed)
            closed.close()

    troubler = threading.Thread(target=trouble)
    troubler.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(lambda number: read(engine.stream(request)), range(18))) == {wanted}
    finally:
        stop.set()
        troubler.join()
    gc.collect()
    wait_until_idle(engine)


def test_an_answer_that_takes_too_long_ends_with_the_numbers(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=1))
    ids = ids_of(engine, "Hi")
    hogging = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=480, temperature=1.9, top_k=2, stop=("☃",)))
    next(hogging)
    with pytest.raises(TimedOut) as caught:
        read(engine.stream(GenerationRequest(prompt_ids=ids, timeout_s=0.01, max_tokens=480)))
    assert caught.value.facts["tokens"] == 0 and "秒" in caught.value.text("ja")
    hogging.close()
    wait_until_idle(engine)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_dies_says_so_and_starts_again(tiny):
    engine = LocalEngine(tiny, EngineLimits(slots=1))
    ids = ids_of(engine, "Hi")
    under_way = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=480, temperature=1.5))
    waiting = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=3))
    next(under_way)
    thread = next(thread for thread in threading.enumerate() if thread.name == "engine tiny" and thread is engine._scheduler._thread)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    thread.join(20)
    assert not thread.is_alive()
    with pytest.raises(EngineStopped) as caught:
        read(under_way)
    assert "tiny" in caught.value.text("ja") and "再起動" in caught.value.text("ja")
    assert len([delta for delta in waiting if delta.output_tokens]) == 3, "who waited is answered by the new one"
    wait_until_idle(engine)


def test_a_bug_in_the_forward_pass_is_told_to_those_concerned_and_the_engine_goes_on(tiny, caplog):
    engine = LocalEngine(tiny)
    ids = ids_of(engine, "Hi")
    broken = []
    hook = tiny.model.register_forward_pre_hook(lambda module, args, kwargs: broken.pop() if broken else None, with_kwargs=True)
    try:
        stream = engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=200, temperature=1.5))
        next(stream)
        broken.append("nonsense")
        with pytest.raises(EngineStopped):
            read(stream)
    finally:
        hook.remove()
    assert "Traceback" in caplog.text, "a bug stays loud in the log"
    assert read(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=4))) is not None
    wait_until_idle(engine)


def test_an_adapter_that_does_not_fit_is_refused_and_the_model_answers_on(tiny, tmp_path):
    engine = LocalEngine(tiny)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelRefused) as caught:
        engine.load_adapter("broken", tmp_path)
    assert str(tmp_path) in caught.value.text("ja")
    assert list(engine.stream(GenerationRequest(prompt_ids=ids_of(engine, "Hi"), max_tokens=2)))


def test_adapters_that_would_change_everybodys_answers_are_refused(tiny, tmp_path):
    """PEFT gives saved modules, biases and token rows to every row of a batch, and cannot mix DoRA."""
    import json

    engine = LocalEngine(tiny)
    ids = ids_of(engine, "Hi")
    bare = read(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=12)))
    folder = make_adapter(tiny, tmp_path / "adapter", 9)
    config = json.loads((folder / "adapter_config.json").read_text())
    for change in ({"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"r": 5}):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelRefused):
            engine.load_adapter("shared", folder)
    assert read(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=12))) == bare, "nothing of them is left on the model"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    engine.load_adapter("fine", folder)
    assert read(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=12, adapter="fine"))) != bare
    engine.drop_adapter("fine")


def test_ids_beyond_the_vocabulary_and_empty_answers_are_refused(tiny):
    engine = LocalEngine(tiny)
    with pytest.raises(InvalidValue, match="100000"):
        engine.stream(GenerationRequest(prompt_ids=(5, 100_000)))
    with pytest.raises(InvalidValue, match="max_tokens"):
        engine.stream(GenerationRequest(prompt_ids=(5,), max_tokens=0))


def test_an_idle_engine_has_no_thread_and_frees_its_model(tmp_path):
    import weakref

    loaded = load_test_model("tiny", tmp_path)
    engine = LocalEngine(loaded)
    list(engine.stream(GenerationRequest(prompt_ids=ids_of(engine, "Hi"), max_tokens=2)))
    thread, gone = engine._scheduler._thread, weakref.ref(loaded.model)
    engine.retire()
    thread.join(10)
    assert not thread.is_alive()
    del engine, loaded
    gc.collect()
    ids_of.cache_clear()
    gc.collect()
    assert gone() is None


def test_random_joins_cancels_and_errors_leave_nothing_behind(tiny):
    """The ten-minute soak is a benchmark; this is its first two seconds."""
    engine = LocalEngine(tiny, EngineLimits(slots=6, prefill_tokens=48))
    stop, counts, lock = time.monotonic() + 2, {"done": 0, "closed": 0, "refused": 0}, threading.Lock()

    def person(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop:
            ids = ids_of(engine, "あ" * (4 * rng.randint(1, 10))) * rng.choice((1, 1, 1, 40))
            how = {"max_tokens": rng.randint(1, 60), "temperature": rng.choice((0, 1.2)), "top_p": rng.choice((1, 0.8))}
            request = GenerationRequest(prompt_ids=ids, owner=str(seed), **how)
            try:
                stream = engine.stream(request)
                ends = "done"
                for delta in stream:
                    if rng.random() < 0.05 and delta.finish_reason is None:
                        stream.close()
                        ends = "closed"
                        break
            except KitError:
                ends = "refused"
            with lock:
                counts[ends] += 1

    people = [threading.Thread(target=person, args=(seed,)) for seed in range(10)]
    for one in people:
        one.start()
    for one in people:
        one.join(30)
        assert not one.is_alive(), "no stuck stream"
    assert all(counts.values()), counts
    wait_until_idle(engine)
    assert not engine._scheduler._waiting._held, "no leaked place"


def test_the_engine_of_a_broken_model_names_it(tiny):
    import copy

    broken = copy.deepcopy(tiny.model)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    fields = {name: getattr(tiny, name) for name in ("tokenizer", "entry", "revision", "device", "render")}
    engine = LocalEngine(SimpleNamespace(model=broken, **fields))
    with pytest.raises(ModelRefused, match="NaN"):
        read(engine.stream(GenerationRequest(prompt_ids=(5, 6), max_tokens=2)))
    assert engine.load.running == 0


def test_a_request_for_an_adapter_that_is_gone_is_refused(tiny):
    """PEFT would answer with the bare model in its place, without a word."""
    engine = LocalEngine(tiny)
    with pytest.raises(UnknownName, match="nowhere"):
        engine.stream(GenerationRequest(prompt_ids=(5, 6), adapter="nowhere"))
    with pytest.raises(UnknownName, match="nowhere"):
        engine.score([ScoreRequest(prompt_ids=(5,), continuation_ids=(6,), adapter="nowhere")])


ARCHITECTURES = {
    "gpt_neox": {"rotary_pct": 0.25},
    "gpt2": {"n_positions": 512, "n_embd": 64, "n_layer": 2, "n_head": 4},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 16, "query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": 16},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_architectures_of_the_catalogue_answer_as_alone(tiny, kind):
    """Random weights of each; prompts longer and shorter than the sliding window, joined in one batch."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(4)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    common = {"vocab_size": len(tiny.tokenizer), "max_position_embeddings": 512, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None}
    own = ARCHITECTURES[kind] if kind == "gpt2" else {**sizes, **ARCHITECTURES[kind]}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**common, **own, "pad_token_id": 0})).float().eval()
    fields = {name: getattr(tiny, name) for name in ("tokenizer", "entry", "revision", "device", "render")}
    engine = LocalEngine(SimpleNamespace(model=model, **fields), EngineLimits(prefill_tokens=32))
    prompts = [tuple(range(10, 10 + length)) for length in (3, 7, 20, 45, 90)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda ids: read_tokens(engine.stream(GenerationRequest(prompt_ids=ids, max_tokens=24))), prompts))
    for ids, answer in zip(prompts, answers, strict=True):
        wanted, gaps = generate_alone(model, SimpleNamespace(tokenizer=tiny.tokenizer), GenerationRequest(prompt_ids=ids, max_tokens=24, adapter=""))
        first_end = next((place for place, token in enumerate(wanted) if token == tiny.tokenizer.eos_token_id), len(wanted))
        if answer != wanted[:first_end]:
            assert min(gaps) < TIE, (kind, len(ids), answer, wanted)
