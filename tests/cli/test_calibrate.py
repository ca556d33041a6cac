"""The command that finds retrieval heads."""

import json

import pytest
import tiny_chat
from typer.testing import CliRunner

import attributor
from attributor import Weights
from attributor._heads.calibration import cache
from attributor._heads.calibration.prompts import STANDARD
from attributor.cli.commands import app

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("model"))


def run(*options):
    return CliRunner().invoke(app, ["calibrate", *map(str, options)], env={"COLUMNS": "120", "NO_COLOR": "1"})


def test_the_command_prints_and_saves(folder, tmp_path):
    out = tmp_path / "new" / "heads.safetensors"
    result = run("-m", folder, "--count", 4, "--heads", 3, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["layer", "head", "AP", "mass", *STANDARD]
    weights = Weights.load(out)
    assert [tuple(map(int, line.split()[:2])) for line in lines[2:5]] == [
        tuple(head[:2]) for head in json.loads(weights.meta["heads"])
    ]
    assert (weights.heads.sum(), weights.question) == (3 / 16, 0.5)
    assert f"Wrote {out}" in result.stdout
    before = out.read_bytes()
    refused = run("-m", folder, "--count", 1, "--out", out)
    assert refused.exit_code == 1
    assert "is there already; say --overwrite" in refused.stderr
    assert out.read_bytes() == before
    found = json.loads(run("-m", folder, "--count", 1, "--out", out, "--overwrite", "--seed", 3, "--json").stdout)
    assert (found["prompts"], found["seed"], found["file"]) == (1, 3, str(out))
    assert [head["weight"] for head in found["heads"]] == [1 / 16] * 4
    assert set(found["heads"][0]["ap"]) == {"mean", "fact"}
    assert out.read_bytes() != before


def test_without_out_the_heads_go_to_the_cache(folder, quick_calibration):
    result = run("-m", folder, "--count", 1, "--heads", 2)
    assert result.exit_code == 0, result.output
    loaded, _ = attributor.load_model(folder, progress=False)
    assert f"Wrote {cache.cache_path(loaded)}" in result.stdout
    assert cache.load_or_calibrate(loaded).heads.count_nonzero() == 2
    assert not quick_calibration


@pytest.mark.parametrize(
    ("options", "match", "code"),
    [
        (["--heads", 9], "from 1 to 8", 1), (["--count", 0], "Invalid value for '--count'", 2),
        (["--out", "."], "is a folder", 1), (["--out", "/dev/null/x"], "cannot make the folder", 1),
        (["--model", "/no/such/folder"], "no folder here", 1),
    ],
)  # fmt: skip
def test_invalid_calls_are_refused(folder, options, match, code):
    result = run(*(() if "--model" in options else ("-m", folder)), *options)
    assert result.exit_code == code
    assert match in " ".join(result.stderr.replace("│", " ").split())


def test_ctrl_c_leaves_no_files(folder, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("attributor._heads.calibration.head_scores._attention", interrupted)
    result = run("-m", folder, "--out", tmp_path / "heads.safetensors")
    assert result.exit_code == 130
    assert not result.stdout
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_bar_appears_after_its_delay_only(capsys, monkeypatch):
    from attributor._heads.calibration.progress_bar import ProgressBar

    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    for delay, seen in ((60.0, False), (0.0, True)):
        with ProgressBar("Reading", delay=delay, shown=True) as bar:
            bar("calibrate", 1, 2)
            bar("calibrate", 2, 2)
        assert ("Reading" in capsys.readouterr().err) == seen
    with ProgressBar("Reading") as bar:  # stderr is no terminal here
        bar("calibrate", 1, 2)
    assert not capsys.readouterr().err
