"""Install this checkout for the GPU checks, without a network: python bench/gpu_build.py FOLDER.

An environment beside the checkout that sees every package of the Python that runs this. pip builds and installs the
checkout in place, from the build tools that are there, with the CUDA kernel and its variants for measuring where nvcc
is; without them, or without any extension, where that does not build, and by links where nothing builds at all. The
last line printed is JSON: which Python to use, what was built and why not more.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["build", "main"]

ROOT = Path(__file__).parents[1]
# What is tried, the most first: seconds, environment, options of CMake
ATTEMPTS: dict[str, tuple[float, dict[str, str], dict[str, str]]] = {
    "C++": (150.0, {}, {"ATTRIBUTOR_CUDA_TUNING": "ON"}),
    "C++ without CUDA": (60.0, {"ATTRIBUTOR_CUDA": "OFF"}, {}),
    "pure": (30.0, {"ATTRIBUTOR_PURE": "1"}, {}),
}


def build(folder: Path) -> dict[str, str | float | None]:
    """Make the environment in `folder`.

    {"python", "built": a name of ATTEMPTS or "links", "cuda": the kernels that were built or None, "why" not more,
    "seconds"}.
    """
    began = time.perf_counter()
    python, site = _environment(folder)
    pure = os.environ.get("ATTRIBUTOR_PURE")
    why = ["ATTRIBUTOR_PURE is set"] if pure else []
    built = "links"
    for kind, (limit, variables, options) in ATTEMPTS.items():
        if kind != "pure" and pure:
            continue
        said = _install(python, folder / f"build-{len(why)}", {**os.environ, **variables}, options, limit)
        if said is None:
            built = kind
            break
        why.append(f"{kind} was not built: {said}")
    if built == "links":
        _links(site)
    check = subprocess.run([python, *SAFE, "-c", PROBE], capture_output=True)
    if check.returncode:
        raise SystemExit(f"what was built cannot be imported: {_last(check.stderr.decode())}")
    cuda = subprocess.run([python, *SAFE, "-c", CUDA_PROBE], capture_output=True, text=True)
    if cuda.returncode:
        why.append(f"the CUDA kernel is not there: {_last(cuda.stderr)}")
    seconds = round(time.perf_counter() - began, 1)
    kernels = None if cuda.returncode else cuda.stdout.strip()
    return {"python": str(python), "built": built, "cuda": kernels, "why": "; ".join(why), "seconds": seconds}


SAFE = ["-P"] if sys.version_info >= (3, 11) else ["-s"]
CUDA_PROBE = "from attributor import _cuda; print(_cuda.kernels())"
PROBE = "import attributor.kernels.flow_step.reference, attributor; attributor.__version__, attributor.flow_step"


def _environment(folder: Path) -> tuple[Path, Path]:
    """Python and site-packages of an environment that sees what this Python sees, also where this one is virtual."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", "--clear", str(folder)], check=True
    )
    python = folder / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip())
    ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "zz_parent.pth").write_text("".join(f"{path}\n" for path in ours))
    return python, site


def _install(
    python: Path, place: Path, environment: dict[str, str], options: dict[str, str], limit: float
) -> str | None:
    """One attempt by pip; None, or why it failed."""
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"  # cmake, ninja
    command = [python, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    command += ["--no-build-isolation", "--no-deps", "--no-index", "--force-reinstall"]
    command += [f"--config-settings=build-dir={place}", "-e", str(ROOT)]
    command += [f"--config-settings=cmake.define.{name}={value}" for name, value in options.items()]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes) as pip:
        try:
            _, said = pip.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(pip.pid, signal.SIGKILL)  # and the compilers that it started
            return f"pip took more than {limit:.0f} s"
    return _last(said) if pip.returncode else None


def _last(text: str) -> str:
    """The line of an output that says most: the last that names an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line and "subprocess" not in line and "note:" not in line]
    return (errors or lines or ["no message"])[-1][:300]


def _links(site: Path) -> None:
    """The package as links into the checkout, and the few lines that say its version."""
    version = next(
        line.split('"')[1] for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version")
    )
    package = site / "attributor"
    package.mkdir()
    for source in [*(ROOT / "attributor").iterdir(), ROOT / "kernels", ROOT / "eval"]:
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    info = site / f"attributor-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: attributor\nVersion: {version}\n")


def main() -> None:
    """Build, and print the findings."""
    print(json.dumps(build(Path(sys.argv[1]).resolve())))


if __name__ == "__main__":
    main()
