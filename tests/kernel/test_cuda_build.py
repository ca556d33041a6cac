"""The build finds a compiler for the CUDA kernel or names the reason why none is suitable."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attributor._step import implementations

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "csrc" / "cuda" / "module.cmake"
CMAKE = shutil.which("cmake") or shutil.which("cmake", path=Path(sys.executable).parent)
PROJECT = f"""
cmake_minimum_required(VERSION 3.18)
project(attempt LANGUAGES NONE)
set(CMAKE_CXX_COMPILER c++)
include({MODULE.as_posix()})
message(STATUS "and went on")
"""
needs_cmake = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


@pytest.fixture
def configure(tmp_path):
    """Run CMake with these definitions and a stand-in for nvcc; return its output and whether it continued."""

    def run(nvcc=None, place="bin/nvcc", environment=None, **definitions):
        (tmp_path / "CMakeLists.txt").write_text(PROJECT, "utf-8")
        if nvcc is not None:
            fake = tmp_path / place
            fake.parent.mkdir(exist_ok=True)
            fake.write_text(f"#!/bin/sh\n{nvcc}\n", "utf-8")
            fake.chmod(0o755)
        if environment is None:
            definitions["ATTRIBUTOR_NVCC"] = tmp_path / place if nvcc else ""  # "": nvcc was not found
        options = [f"-D{name}={value}" for name, value in definitions.items()]
        shutil.rmtree(tmp_path / "build", ignore_errors=True)
        command = [CMAKE, "-S", tmp_path, "-B", tmp_path / "build", *options]
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
        return " ".join((ran.stdout + ran.stderr).split()), ran.returncode == 0 and "and went on" in ran.stdout

    return run


OLD = 'echo "Cuda compilation tools, release 11.8, V11.8.89"'
BROKEN = """[ "$1" = --version ] && echo "Cuda compilation tools, release 12.6, V12.6.20" && exit
echo "In file included from cuda_runtime.h"
echo "host_config.h:143: error: -- unsupported GNU version! gcc versions later than 13 are not supported!" >&2
exit 1"""
NO_RUNTIME = """[ "$1" = --version ] && echo "Cuda compilation tools, release 12.6, V12.6.20" && exit
echo "/usr/bin/ld: cannot find -lcudart_static: No such file or directory" >&2
exit 1"""


@needs_cmake
def test_the_kernel_is_left_out_on_other_systems(configure):
    said, went_on = configure(OLD, ATTRIBUTOR_CUDA="AUTO", CMAKE_SYSTEM_NAME="Darwin")
    assert went_on
    assert "CUDA kernel: left out, it is for Linux, this is Darwin" in said


@needs_cmake
@pytest.mark.parametrize(
    ("nvcc", "why"),
    [
        (None, r"there is no nvcc on PATH, in CUDA_HOME or in CUDACXX"),
        (OLD, r"nvcc is of CUDA 11\.8"),
        ("exit 1", r"nvcc does not say its version"),
        (BROKEN, r"nvcc of CUDA 12\.6 with c\+\+ fails: .*unsupported GNU version! gcc versions later than 13"),
        (NO_RUNTIME, r"nvcc of CUDA 12\.6 with c\+\+ fails: .*cannot find -lcudart_static"),
    ],
)
def test_unsuitable_compilers_are_reported(configure, nvcc, why):
    said, went_on = configure(nvcc, ATTRIBUTOR_CUDA="AUTO")
    assert went_on
    assert re.search(rf"CUDA kernel: left out, .*{why}.*; it needs nvcc 12\.3 or later", said), said
    said, went_on = configure(nvcc, ATTRIBUTOR_CUDA="ON")
    assert not went_on
    assert re.search(rf"ATTRIBUTOR_CUDA is ON, but .*{why}.*needs nvcc 12\.3 or later.*CUDAHOSTCXX", said), said
    assert "ATTRIBUTOR_CUDA=AUTO builds without the kernel" in said


@needs_cmake
@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [("CUDA_HOME", ".", "bin/nvcc"), ("CUDA_PATH", ".", "bin/nvcc"), ("CUDACXX", "other/nvcc-11", "other/nvcc-11")],
)
def test_the_compiler_is_found_in_the_usual_places(configure, tmp_path, variable, value, place):
    said, went_on = configure(OLD, place, {variable: str(tmp_path / value)}, ATTRIBUTOR_CUDA="AUTO")
    assert went_on
    assert f"left out, {tmp_path / place} is of CUDA 11.8" in said


@needs_cmake
def test_the_compiler_is_not_searched_if_the_kernel_is_off(configure):
    said, went_on = configure("touch called", ATTRIBUTOR_CUDA="OFF")
    assert went_on
    assert "left out, ATTRIBUTOR_CUDA is OFF" in said
    said, went_on = configure(None, ATTRIBUTOR_CUDA="perhaps")
    assert not went_on
    assert "ATTRIBUTOR_CUDA must be AUTO, ON or OFF, got perhaps" in said


def test_every_source_is_compiled():
    listed = set(re.findall(r"csrc/cuda/(\w+\.cu)\b", MODULE.read_text("utf-8")))
    assert listed == {path.name for path in (ROOT / "csrc" / "cuda").glob("*.cu")}


def test_the_oldest_supported_compiler_is_named_the_same_everywhere():
    found = re.search(r"OLDEST_NVCC (\d+\.\d+)", MODULE.read_text("utf-8"))
    assert found
    for path in (Path(implementations.__file__), ROOT / "README.md"):
        named = re.findall(r"nvcc (\d+\.\d+) or later", path.read_text("utf-8"))
        assert named == [found[1]], path.name
