"""What an installed wheel must do, run outside the checkout: `python smoke.py cuda|compiled|pure`."""

import importlib.util
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.request import urlopen

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import attributor

kind = sys.argv[1]
package = Path(attributor.__file__).parent
assert package.is_relative_to(sysconfig.get_path("platlib")), f"{package} is not the installed package"
assert (package / "py.typed").is_file()
assert (package / "kernels" / "flow_step" / "reference.py").is_file()
assert not (package / "kernels" / "__init__.py").exists()
for folder, pattern in [
    ("examples", "*.txt"),
    ("_heads/shipped", "*.safetensors"),
    ("web/static", "app.*"),
    ("eval/data", "*.jsonl"),
]:
    assert list((package / folder).glob(pattern)), f"the wheel lacks attributor/{folder}"
assert (importlib.util.find_spec("attributor._core") is not None) == (kind != "pure"), f"_core in a {kind} wheel"
assert (importlib.util.find_spec("attributor._cuda") is not None) == (kind == "cuda"), f"_cuda in a {kind} wheel"

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=101,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)
model = LlamaForCausalLM(config).eval()
ids = torch.randint(0, 101, (1, 70))
flow = attributor.flow(model, ids, prompt_length=64)
assert flow.scores.shape == (6, 64), flow.scores.shape
with attributor.record(model) as recording:
    out = model.generate(ids[:, :64], max_new_tokens=4, do_sample=False, pad_token_id=0)
assert recording.flow(out).scores.shape == (4, 64)

# The forward recurrence on materialised attentions: the definition.
model.set_attn_implementation("eager")
with torch.no_grad():
    attentions = model(ids, output_attentions=True).attentions
X = torch.eye(70)
for A in attentions:
    X = (A[0].mean(0) @ X + X) / 2
worst = float((flow.scores - X[63:69, :64]).abs().max())
assert worst < 2e-6, worst

info = subprocess.run(
    [Path(sys.executable).with_name("attributor"), "info"], capture_output=True, text=True, check=True
)
assert "torch" in info.stdout, info.stdout
of_cuda = re.search(r"\bcuda +(usable|missing) +(\w+ \w+)", info.stdout)
assert of_cuda is not None, info.stdout
assert (of_cuda[2] == "built without") == (kind != "cuda"), info.stdout
if kind == "cuda":
    from attributor import _cuda  # needs no driver

    assert _cuda.kernels()
# The web views come with the wheel: no Node, and nothing that is not on this machine.
command = [Path(sys.executable).with_name("attributor"), "explore", "--no-browser", "--port", "0"]
explorer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    assert explorer.stdout is not None
    url = re.search(r"http://\S+:\d+", explorer.stdout.readline())
    assert url is not None, "attributor explore printed no address"
    for path, wanted in (("/", b"<!doctype html>"), ("/static/app.js", b"attributor"), ("/api/session", b"explore")):
        with urlopen(url.group() + path, timeout=10) as answer:
            assert wanted in answer.read(), path
finally:
    explorer.send_signal(signal.SIGINT)
    explorer.wait(10)

print(f"smoke test of the {kind} wheel: scores within {worst:.1e} of the definition")
