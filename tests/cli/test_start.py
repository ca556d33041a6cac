"""Start of the command line, its imports, and a full or closed standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import run


def test_info_lists_versions_and_implementations():
    found = json.loads(run("info", "--json").stdout)
    assert {"versions", "cpu", "implementations", "memory", "cache", "default_model"} <= set(found)
    assert found["versions"]["attributor"]
    assert [entry["name"] for entry in found["implementations"]] == ["cuda", "triton", "cpu", "reference"]
    assert all(entry["reason"] for entry in found["implementations"])
    shown = run("info").stdout
    for words in ("torch", "ISA", "memory", "reference", "SmolLM2-135M-Instruct"):
        assert words in shown


def fresh(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)


def test_help_starts_without_torch_and_info_without_transformers():
    code = "import sys; from attributor.cli.commands import app\napp({}, standalone_mode=False)\n"
    code += "print({} & set(sys.modules))"
    assert fresh(code.format(["flow", "--help"], {"torch", "transformers", "numpy"})).stdout.endswith("set()\n")
    heavy = {"torch", "transformers", "numpy", "datasets"}
    assert fresh(code.format(["eval", "--help"], heavy)).stdout.endswith("set()\n")
    assert fresh(code.format(["eval", "hotpotqa", "--help"], heavy)).stdout.endswith("set()\n")
    assert fresh(code.format(["info"], {"transformers"})).stdout.endswith("set()\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [["info"], ["info", "--json"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_for_standard_output_is_an_error(options, unbuffered):
    command = [sys.executable, "-m", "attributor.cli", *options]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False, env=environment
        )
    assert (ran.returncode, ran.stderr) == (1, "error: cannot write to standard output: No space left on device\n")


def test_an_interruption_while_it_starts_is_quiet(tmp_path):
    (tmp_path / "typer.py").write_text(
        "import os, signal, time\nprint('importing')\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "attributor.cli", "info"], env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "importing\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [["info"], ["info", "--json"]])
def test_a_closed_pipe_ends_quietly(options):
    command = [sys.executable, "-m", "attributor.cli", *options]
    read, written = os.pipe()
    os.close(read)
    try:
        gone = subprocess.run(command, stdout=written, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    finally:
        os.close(written)
    assert gone.returncode == 1
    assert not gone.stderr
