"""Citations of `ask`: claims, sources with their place in the documents, JSON, and the answer without a source."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_chat
import torch

from attributor import Citation, Document, ImplementationError, InputError, Weights, ask, flow
from attributor._ask import force_answer
from attributor._cite.says import measure_says
from attributor._prompt import build_prompt

KEEPER = Document("\r\nThe lighthouse stands on the cliff.\r\nThe keeper writes. ", "The light", {"id": 7})
BOATS = "Fishing boats leave before dawn. The harbour has nets."
QUESTION = "Who keeps the light?"
HALF = Weights.of_heads((2, 4), {(0, 1): 0.5, (1, 3): 0.25}, question=0.5)
ANSWER = "The keeper writes. Boats leave."


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_chat.model(len(tokenizer))


@pytest.fixture(scope="module")
def answer(model, tokenizer):
    return ask([KEEPER, BOATS], QUESTION, model=model, tokenizer=tokenizer, weights=HALF, answer=ANSWER)


def test_each_claim_is_a_sentence_and_each_quote_is_in_its_document(answer):
    assert answer.text == ANSWER
    assert [answer.text[claim.start : claim.stop] for claim in answer.claims] == ["The keeper writes.", "Boats leave."]
    texts = [KEEPER.text, BOATS]
    every = [citation for claim in answer.claims for citation in claim.citations]
    assert every
    for citation in (*every, *answer.citations):
        assert texts[citation.document][citation.start : citation.stop] == citation.quote
        assert citation.title == ["The light", None][citation.document]
        assert citation.page is None
    assert {c.document for c in every} <= {0, 1}
    assert [citation.number for citation in answer.citations] == list(range(1, len(answer.citations) + 1))
    of_keeper = [citation for citation in answer.citations if citation.document == 0]
    assert all(citation.metadata is KEEPER.metadata for citation in of_keeper)


def test_shares_are_those_of_the_flow(answer, model, tokenizer):
    prompt = build_prompt(tokenizer, [KEEPER, BOATS], QUESTION)
    scores = flow(
        model, answer.flow.ids, prompt_length=len(prompt.ids), weights=HALF, question=prompt.question_tokens
    ).scores.double()
    part = answer.flow.question_scores.double()
    alone = flow(model, answer.flow.ids, prompt_length=len(prompt.ids), weights=Weights(HALF.heads)).scores.double()
    torch.testing.assert_close(scores - part, alone / 2, rtol=0, atol=1e-6)

    inside = [(prompt.offsets[:, 1] > d.start) & (prompt.offsets[:, 0] < d.stop) for d in prompt.documents]
    whole = [float(scores[:, mask].sum()) for mask in inside]
    assert [d.share for d in answer.documents] == pytest.approx([w / sum(whole) for w in whole], abs=1e-5)
    assert answer.origin.documents == pytest.approx(sum(whole) / len(scores), abs=1e-6)
    assert sum(vars(answer.origin).values()) == pytest.approx(1, abs=1e-6)

    # a claim is a part of the answer, so it keeps a third of the question share
    stop = answer.claims[0].stop
    rows = [i for i, (_, end) in enumerate(answer.flow.answer_offsets.tolist()) if end <= stop]
    of_claim = scores[rows].mean(0) - part * 2 / 3
    documents = sum(float(of_claim[mask].sum()) for mask in inside)
    for citation in answer.claims[0].citations:
        document = prompt.documents[citation.document]
        start, end = document.prompt_span(citation.start, citation.stop)
        tokens = (prompt.offsets[:, 1] > start) & (prompt.offsets[:, 0] < end)
        assert citation.share == pytest.approx(float(of_claim[tokens].sum()) / documents, abs=1e-5)


def test_flow_cite_returns_the_same_citations(answer):
    cited = answer.flow.cite()
    assert (cited.claims, cited.citations, cited.documents) == (answer.claims, answer.citations, answer.documents)
    again = answer.flow.cite([KEEPER, BOATS])
    assert [(c.start, c.stop, c.quote) for c in again.citations] == [
        (c.start, c.stop, c.quote) for c in answer.citations
    ]


def test_each_citation_says_how_many_of_the_claims_words_its_sentence_holds(answer):
    for claim in answer.claims:
        assert [c.says for c in claim.citations] == measure_says(claim.text, [c.quote for c in claim.citations])
    assert [c.says for c in answer.citations] == measure_says(ANSWER, [c.quote for c in answer.citations])
    assert {c["says"] for c in answer.to_json()["citations"]} == {c.says for c in answer.citations}
    if sys.version_info >= (3, 11):
        assert all(0 <= c.says <= 1 for c in answer.citations)


def test_claims_can_be_passed(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF, "answer": ANSWER}
    named = ask([KEEPER, BOATS], QUESTION, claims=[(4, 10), "Boats leave"], **options)
    assert [claim.text for claim in named.claims] == ["keeper", "Boats leave"]
    with pytest.raises(InputError, match="claim 0 spans characters 4 to 99"):
        ask([KEEPER, BOATS], QUESTION, claims=[(4, 99)], **options)


def test_json_has_the_documented_keys_and_can_be_written(answer):
    report = answer.to_json()
    assert json.loads(json.dumps(report)) == report
    text = (Path(__file__).parents[2] / "docs" / "citations.md").read_text("utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    keys = {*report, *report["claims"][0], *report["citations"][0], *report["documents"][0], *report["origin"]}
    assert keys <= documented
    assert set(report) == {
        "version", "answer", "claims", "citations", "documents", "origin", "question", "written", "model", "weights",
        "prompt_tokens", "answer_tokens", "notes", "seconds", "meta",
    }  # fmt: skip
    assert (report["question"], report["written"]) == (QUESTION, False)


def test_a_printed_answer_has_numbers_and_sources(answer):
    printed = str(answer)
    assert printed.startswith("The keeper writes. [1]")
    for citation in answer.citations:
        assert f"[{citation.number}] {citation.title or 'document 2'}, " in printed


def test_repr_is_short_and_in_a_notebook_it_is_the_page_of_the_flow(answer):
    count = len(answer.citations)
    assert repr(answer) == f"Answer({ANSWER!r}, 2 claims, {count} citation{'s' * (count != 1)})"
    assert "The keeper writes." in answer._repr_html_()


def test_without_equals_asking_without_that_sentence(answer, model, tokenizer):
    citation = next(c for c in answer.citations if c.document == 1)
    changed = answer.without(citation)
    rest = (BOATS[: citation.start] + BOATS[citation.stop :]).strip()
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF}
    alone = ask([KEEPER, rest], QUESTION, **options)
    assert changed.citation is citation
    assert changed.answer.flow.text == alone.flow.text
    assert changed.answer.text == alone.text
    assert changed.answer.question == QUESTION
    torch.testing.assert_close(changed.answer.flow.scores, alone.flow.scores)
    assert changed.answer.uses_question
    tokens = answer.flow.ids[answer.flow.prompt_length :]
    prompts = [build_prompt(tokenizer, documents, QUESTION).ids for documents in ([KEEPER, BOATS], [KEEPER, rest])]
    with_it, without_it = (force_answer(model, p, tokens, None, log_probs=True).log_prob for p in prompts)
    assert (changed.log_prob, changed.log_prob_without) == pytest.approx((with_it, without_it))
    assert changed.change == pytest.approx(without_it - with_it)
    assert changed.change != 0
    for other in changed.answer.citations:  # places still refer to the documents as passed
        assert [KEEPER.text, BOATS][other.document][other.start : other.stop] == other.quote
    assert json.loads(json.dumps(changed.to_json()))["change"] == changed.change
    assert answer.without(citation.number).answer.text == changed.answer.text


def test_without_the_only_sentence_of_a_document_the_others_keep_their_index(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF, "answer": "The keeper."}
    answer = ask(["Fishing boats leave.", KEEPER], QUESTION, **options)
    # a random model attends to arbitrary sentences, so the test makes the citation by hand
    boats = Citation(1, 0, 0, 20, "Fishing boats leave.", 0.5, None, None, {})
    changed = replace(answer, citations=(boats,)).without(boats)
    assert "Fishing" not in changed.answer.flow.text
    assert [d.document for d in changed.answer.documents] == [1]


@pytest.mark.parametrize("number", [0, 9, "1", None, True, False])
def test_without_refuses_an_unknown_citation(answer, number):
    with pytest.raises(InputError, match="the answer has no citation"):
        answer.without(number)


def test_tool_results_of_a_chat_are_cited(model, tokenizer):
    chat = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "The keeper writes."},
    ]
    answer = ask(chat, model=model, tokenizer=tokenizer, weights="mean")
    assert (answer.text, answer.written, answer.question) == ("The keeper writes.", False, None)
    for wrong, options, message in (
        (chat, {"question": "Who?"}, "chat messages hold the question"),
        (chat, {"answer": "A"}, "the last message is the assistant's answer"),
        (chat[1:], {}, "the only message is the answer"),
        ([KEEPER], {}, "a question about the documents is needed"),
    ):
        with pytest.raises(InputError, match=message):
            ask(wrong, model=model, tokenizer=tokenizer, **options)


def test_invalid_input_is_refused_before_the_model_is_loaded():
    for documents, question, message in (
        ([KEEPER, 3], QUESTION, "document 2 must be"),
        ([KEEPER], None, "a question about the documents is needed"),
        ([""], QUESTION, "document 1 is empty"),
        ([KEEPER], " ", "the question is empty"),
    ):
        with pytest.raises(InputError, match=message):
            ask(documents, question, model="no/such-model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": " "}, "the answer is empty"),
        ({"answer": 5}, "the answer must be a str, or None, got 5"),
        ({"system": 5}, "the system text must be a str"),
        ({"instruction": "a\ud800"}, "the instruction holds half a character"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be a whole number"),
        ({"max_new_tokens": True}, "max_new_tokens must be a whole number"),
        ({"progress": 5}, "progress must be a function, or None, got 5"),
        ({"weights": "best"}, "weights"),
        ({"impl": 5}, "impl must be the name of an implementation"),
        ({"claims": [(0, 3)]}, "claims are spans of an answer that is given"),
        ({"claims": [(0, 99)], "answer": "A."}, "claim 0 spans characters 0 to 99"),
    ],
)
def test_wrong_options_are_refused_before_the_model_is_loaded(options, message):
    with pytest.raises(InputError, match=message):
        ask([KEEPER], QUESTION, model="no/such-model", **options)


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([], {"question": "Q?"}, "the list of documents is empty"),
        ([{"role": "user", "content": "Q"}], {"instruction": "Short."}, "chat messages hold the instruction"),
        ([{"role": "system", "content": "S"}], {"system": "S"}, "the messages begin with a system message"),
        ([{"role": "user", "content": "Q"}, {"content": "x"}], {}, "message 2 must be"),
        ([{"role": "user", "content": ""}], {}, "the messages hold no text"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "part 1 is of type 'image'"),
    ],
)
def test_wrong_documents_and_messages_are_refused_before_the_model_is_loaded(documents, options, message):
    with pytest.raises(InputError, match=message):
        ask(documents, model="no/such-model", **options)


def test_an_unknown_implementation_is_refused_before_the_model_is_loaded():
    with pytest.raises(ImplementationError, match="fastest"):
        ask([KEEPER], QUESTION, model="no/such-model", impl="fastest")


def test_an_object_that_is_not_a_model_is_refused(tokenizer):
    with pytest.raises(InputError):
        ask([KEEPER], QUESTION, model=5, tokenizer=tokenizer)


def test_the_last_message_can_be_an_answer_in_parts(model, tokenizer):
    chat = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": [{"type": "text", "text": "The keeper."}]},
    ]
    for messages in (chat, iter(chat), {"messages": chat}):
        answer = ask(messages, model=model, tokenizer=tokenizer, weights="mean")
        assert (answer.text, answer.written) == ("The keeper.", False)


def test_a_given_answer_keeps_its_text_without_control_tokens_at_its_end(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF}
    end = tokenizer.eos_token
    plain = ask([KEEPER, BOATS], QUESTION, answer=" The keeper  writes.", **options)
    ended = ask([KEEPER, BOATS], QUESTION, answer=f" The keeper  writes.{end}", **options)
    assert plain.text == ended.text == plain.flow.answer == " The keeper  writes."
    assert plain.claims == ended.claims
    assert len(ended.flow.scores) == len(plain.flow.scores)
    assert plain.text[slice(*plain.flow.answer_offsets[-1].tolist())] == "."


def test_an_answer_of_an_end_token_alone_has_a_note(model, tokenizer):
    answer = ask([KEEPER], QUESTION, model=model, tokenizer=tokenizer, weights="mean", answer=tokenizer.eos_token)
    assert (answer.text, answer.claims, answer.citations) == ("", (), ())
    assert answer.notes == ("the answer is a control token alone",)


def test_without_takes_only_citations_of_this_answer(answer):
    changed = answer.without(1)
    other = next(c for c in answer.citations if c.number == 1)
    with pytest.raises(InputError, match="the answer has no citation of"):
        changed.answer.without(other)


def test_no_sentence_crosses_a_removed_one(model, tokenizer):
    text = "He worked for Acme Inc. The gate was red. and left in May. Boats leave."
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF, "answer": "Red."}
    answer = ask([text], QUESTION, **options)
    first = next(c for c in answer.flow.cite(top=9).citations if c.quote == "The gate was red.")
    changed = replace(answer, citations=(first,)).without(first)
    assert "gate" not in changed.answer.flow.text
    every = changed.answer.flow.cite(top=9).citations
    assert every
    assert not any("gate" in citation.quote for citation in every)
    for citation in every:
        assert text[citation.start : citation.stop] == citation.quote


def test_without_reads_in_evaluation_mode(tokenizer):
    model = tiny_chat.model(len(tokenizer))
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    answer = ask([KEEPER, BOATS], QUESTION, model=model, tokenizer=tokenizer, weights=HALF, answer=ANSWER)
    assert len({answer.without(1).change for _ in range(3)}) == 1
    assert model.training


def test_unfinished_thinking_is_not_a_claim(model, tokenizer):
    options = {"model": model, "tokenizer": tokenizer, "weights": HALF}
    assert ask([KEEPER], QUESTION, answer="<think> The keeper writes. Boats", **options).claims == ()


def test_langchain_documents_are_cited(model, tokenizer):
    documents = pytest.importorskip("langchain_core.documents", reason="langchain-core is not installed")
    metadata = {"source": "light.txt", "page": 4}
    retrieved = [
        documents.Document(page_content="\nThe keeper writes. ", metadata=metadata),
        documents.Document(page_content="Fishing boats leave."),
    ]
    answer = ask(retrieved, QUESTION, model=model, tokenizer=tokenizer, weights=HALF, answer="The keeper.")
    for citation in answer.citations:
        source = retrieved[citation.document]
        assert source.page_content[citation.start : citation.stop] == citation.quote
        assert citation.metadata is source.metadata
    blocks = answer.to("langchain")
    extras = blocks[0]["annotations"][0]["extras"]
    assert extras["metadata"] == retrieved[extras["document"]].metadata


def test_tool_results_are_the_documents_of_a_chat(model, tokenizer):
    search = {"name": "search", "arguments": {"query": "keeper"}}
    chat = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": str(i), "type": "function", "function": search} for i in (1, 2)],
        },
        {"role": "tool", "tool_call_id": "1", "content": "The keeper writes. The light turns."},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "Fishing boats leave."}]},
        {"role": "assistant", "content": "The keeper."},
    ]
    answer = ask(chat, model=model, tokenizer=tokenizer, weights=HALF)
    assert (answer.text, answer.question, answer.uses_question) == ("The keeper.", QUESTION, True)
    assert [document.title for document in answer.documents] == ["search", "search 2"]
    texts = ["The keeper writes. The light turns.", "Fishing boats leave."]
    assert answer.citations
    for citation in answer.citations:
        assert texts[citation.document][citation.start : citation.stop] == citation.quote
        assert citation.metadata["tool_call_id"] == str(citation.document + 1)
    assert answer.without(1).answer.documents


def test_a_chunk_inside_another_is_a_document_of_its_own(model, tokenizer):
    chunks = ["Boats leave. The keeper writes. Nets dry.", "The keeper writes.", "The keeper writes."]
    answer = ask(chunks, QUESTION, model=model, tokenizer=tokenizer, weights=HALF, answer="The keeper.")
    assert [document.document for document in answer.documents] == [0, 1, 2]
    assert all(document.share > 0 for document in answer.documents)
    every = answer.flow.cite(top=9).citations
    for citation in every:
        assert chunks[citation.document][citation.start : citation.stop] == citation.quote
