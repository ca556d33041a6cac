"""`attributor serve` with a tiny model, opened in a browser."""

import os
import re
from pathlib import Path

import pytest
import tiny_chat
import torch
from browser import opened, served, shown

ENV = {"OMP_NUM_THREADS": "1"}
SENTENCE = "The keeper of the lighthouse writes the weather into a book, and boats leave before dawn. "


def endless(folder: Path, positions: int = 16_384, layers: int = 2) -> Path:
    """Save the tiny chat model without a reachable end token, so each answer has the maximum length."""
    tokenizer = tiny_chat.tokenizer()
    model = tiny_chat.model(len(tokenizer), positions)
    if layers != 2:
        model.config.num_hidden_layers = layers
        model = type(model)(model.config).eval()
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0  # some other token always has a logit above 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return endless(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def door(tiny):
    with served("serve", "--model", str(tiny), env=ENV) as url:
        yield url


@pytest.fixture
def live(browser, door):
    """A watched tab; any complaint fails the test."""
    with opened(browser) as watched:
        visit(watched.page, door)
        yield watched
        watched.clean()


def visit(page, url):
    """Open the live page and wait for its model."""
    page.goto(url)
    loaded(page)


def loaded(page):
    """Wait until a model is loaded or an error is shown."""
    page.wait_for_selector(".live-loaded, .live-form .live-error")
    assert page.locator(".live-form .live-error").all_inner_texts() == []


def example(page, tokens=12, weights="mean"):
    """Fill in the built-in example with a short answer."""
    page.get_by_role("button", name="Example").click()
    page.get_by_label("Maximum answer tokens").fill(str(tokens))
    page.get_by_label("Heads to follow").select_option(weights)


def run_id(page):
    """Return the run that the address names, or None."""
    found = re.search(r"#/live/([\w-]+)", page.url)
    return found and found.group(1)


def answered(page, button="Answer and attribute"):
    """Press the button, wait until the new run is shown, and return its id."""
    before = run_id(page)
    page.get_by_role("button", name=button, exact=True).click()
    arrived(page, before)
    return run_id(page)


def arrived(page, before):
    """Wait until another run than `before` is shown."""
    page.wait_for_function(
        "before => { const at = /#\\/live\\/([\\w-]+)/.exec(location.hash); return at && at[1] !== before; }",
        arg=before,
    )
    shown(page)


def long_run(page, tokens=4096):
    """Start an answer that takes many seconds and wait for its first words."""
    page.get_by_label("Maximum answer tokens").fill(str(tokens))
    page.get_by_role("button", name="Answer and attribute").click()
    page.wait_for_selector(".live-written")


def cancelled(page):
    """Press Cancel and wait for the form."""
    page.get_by_role("button", name="Cancel").first.click()
    page.wait_for_selector(".live-progress", state="detached")


def prompt_tokens(page):
    """Wait for the live token count and return it."""
    text = page.locator(".live-tokens").inner_text()
    return int(re.search(r"([\d,]+) tokens? of prompt", text).group(1).replace(",", ""))


def paste(page, label, text):
    """Insert text at once, as Ctrl-V does."""
    field = page.get_by_label(label, exact=True)
    field.focus()
    page.evaluate("text => document.execCommand('insertText', false, text)", text)


def hub_env(endpoint, folder):
    """Return the environment of a server with the hub at `endpoint` and an empty cache."""
    proxies = {name: "" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")}
    return {
        **ENV, **proxies, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
