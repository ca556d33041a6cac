"""The public data set is loaded whole, streamed or from the cache; failures have a clear message."""

import sys
import types

import pytest
from eval_schemas import HUB, changed, write

from attributor._errors import InputError
from attributor.eval.data import load_questions


@pytest.fixture
def written(tmp_path):
    """Write a file into `tmp_path`."""
    return lambda content, name="rows.jsonl": write(tmp_path / name, content)


class Hub(types.ModuleType):
    """Replace the package datasets: return rows or raise an error, and log the requests."""

    def __init__(self, cache, rows):
        super().__init__("datasets")
        self.config = types.SimpleNamespace(HF_DATASETS_CACHE=str(cache))
        self.rows, self.asked, self.given = rows, [], 0

    def load_dataset(self, path, config, *, split, streaming):
        self.asked.append((path, config, split, streaming))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.give()

    def give(self):
        for row in self.rows:
            if isinstance(row, Exception):
                raise row
            self.given += 1
            yield row


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path, [changed(HUB, id=str(i)) for i in range(9)])
    monkeypatch.setitem(sys.modules, "datasets", made)
    return made


def test_the_public_data_set_whole_or_streamed(hub):
    loaded = load_questions("hotpotqa")
    assert (len(loaded.questions), loaded.source) == (9, "hotpotqa/hotpot_qa, distractor, validation")
    assert load_questions("hotpotqa", config="fullwiki", split="train", limit=4).questions == loaded.questions[:4]
    assert hub.given == 9 + 4
    load_questions("hotpotqa", split="train[:5]", limit=1)
    assert hub.asked == [
        ("hotpotqa/hotpot_qa", "distractor", "validation", False),
        ("hotpotqa/hotpot_qa", "fullwiki", "train", True),
        ("hotpotqa/hotpot_qa", "distractor", "train[:5]", False),
    ]


def test_cached_data_are_not_streamed(hub, tmp_path):
    (tmp_path / "hotpotqa___hotpot_qa" / "distractor").mkdir(parents=True)
    assert len(load_questions("hotpotqa", limit=2).questions) == 2
    load_questions("hotpotqa", config="fullwiki", limit=2)
    assert [streaming for *_, streaming in hub.asked] == [False, True]


@pytest.mark.parametrize("when", ["asked", "streaming"])
def test_an_unreachable_hub_error_says_what_works(hub, when):
    error = ConnectionError("Couldn't reach the Hub\nmore of it")
    hub.rows = error if when == "asked" else [HUB, error]
    with pytest.raises(InputError) as caught:
        load_questions("hotpotqa", limit=3)
    assert str(caught.value) == (
        "hotpotqa/hotpot_qa, distractor, validation cannot be loaded from the hub (Couldn't reach the Hub); "
        "name a local .json or .jsonl file of it instead"
    )


def test_unknown_configurations_and_splits_are_refused_without_a_request(hub):
    with pytest.raises(InputError, match=r"unknown configuration 'medium' of .*; there are distractor, fullwiki"):
        load_questions("hotpotqa", config="medium")
    with pytest.raises(
        InputError, match=r"unknown split 'test' of hotpotqa/hotpot_qa, distractor; there are train, val"
    ):
        load_questions("hotpotqa", split="test")
    assert hub.asked == []


def test_a_split_without_answers_is_refused(hub):
    hub.rows = [changed(HUB, id=str(i), answer=None, supporting_facts=[]) for i in range(3)]
    with pytest.raises(InputError, match=r"fullwiki, test can be used, 3 tried; row 1 \(id 0\): "):
        load_questions("hotpotqa", config="fullwiki", split="test")


def test_without_the_package_a_file_still_works(monkeypatch, written):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'attributor\[eval\]'; or name a local"):
        load_questions("hotpotqa")
    assert load_questions("hotpotqa", written([HUB])).problems == ()
