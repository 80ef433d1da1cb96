"""LangChain's own test suite on both kinds of chat model: one in this process, one behind a real server on loopback.

The server is `transformers serve`, an OpenAI-compatible server nobody here wrote, on the model the suite uses.
What a class does not offer (tools, structured output, images) its properties say; such tests are skipped by the suite.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.endpoint import EndpointChat
from llmops_kit.models.engine import LocalEngine
from llmops_kit.models.local import LocalChat
from tests.tiny_model import build_tiny_model, load_test_model

START_S = 180.0
SHORT = {"max_tokens": 12}  # the suite looks at an answer's form, not at its length

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:langchain_core._api.beta_decorator.LangChainBetaWarning"),
]


@pytest.fixture(scope="module")
def local_parameters(tmp_path_factory):
    """The tiny model: starter-lm may answer with nothing at all, which the suite rightly takes for a fault."""
    torch.set_num_threads(1)
    loaded = load_test_model("tiny", tmp_path_factory.mktemp("standard"))
    return {"entry": loaded.entry.model_copy(update={"default_params": SHORT}), "engine": LocalEngine(loaded)}


@pytest.fixture(scope="module")
def served_parameters(tmp_path_factory):
    """Starts `transformers serve` on a folder and waits until it answers."""
    home = tmp_path_factory.mktemp("served")
    folder = build_tiny_model(home / "tiny")
    (home / "hf" / "hub").mkdir(parents=True)  # without it the server's list of models is an error
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", server, home / "log")
            entry = ModelEntry(id="served", provider="openai", model=str(folder), base_url=f"http://127.0.0.1:{port}/v1", default_params=SHORT)
            yield {"entry": entry, "request_timeout_s": 120.0}
        finally:
            server.terminate()
            server.wait(30)


def wait_until_healthy(url, server, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"transformers serve did not start: {log.read_text(errors='replace')[-2000:]}")


class OurProperties:
    """What the kit's chat models claim, and where the suite gets its constructor's arguments from."""

    parameters: dict

    @property
    def chat_model_params(self):
        return self.parameters

    @property
    def standard_chat_model_params(self):
        return super().standard_chat_model_params | SHORT

    @property
    def supports_model_override(self):
        return False  # a model is chosen by its catalogue id

    @property
    def has_tool_calling(self):
        return False

    @property
    def has_structured_output(self):
        return False


class OfLocal(OurProperties):
    @pytest.fixture(autouse=True)
    def _take(self, local_parameters):
        type(self).parameters = local_parameters

    @property
    def chat_model_class(self):
        return LocalChat


class OfEndpoint(OurProperties):
    @pytest.fixture(autouse=True)
    def _take(self, served_parameters):
        type(self).parameters = served_parameters

    @property
    def chat_model_class(self):
        return EndpointChat


class TestLocalUnit(OfLocal, ChatModelUnitTests):
    pass


class TestLocalIntegration(OfLocal, ChatModelIntegrationTests):
    pass


class TestEndpointUnit(OfEndpoint, ChatModelUnitTests):
    pass


class TestEndpointIntegration(OfEndpoint, ChatModelIntegrationTests):
    pass


def test_the_same_weights_say_the_same_here_and_behind_the_server(local_parameters, served_parameters):
    """Greedy answers of the two classes, token counts included."""
    here = LocalChat(**local_parameters).invoke("こんにちは", temperature=0, max_tokens=24)
    there = EndpointChat(**served_parameters).invoke("こんにちは", temperature=0, max_tokens=24)
    assert there.text.rstrip("\ufffd") == here.text.rstrip("\ufffd")
    assert there.usage_metadata == here.usage_metadata
    assert there.response_metadata["finish_reason"] == here.response_metadata["finish_reason"] == "length"
