"""A front end of a few lines that lists the content of the view file, for tests of the page around it."""

import pytest

from attributor._result.view import assets

APP_CSS = "body { font: 1rem serif; } li { color: rgb(10, 20, 30); }\n"
APP_JS = r"""
const bytes = Uint8Array.from(atob(document.getElementById("view").textContent), (c) => c.charCodeAt(0));
const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
const at = (name) => bytes.slice(...header[name].data_offsets.map((place) => 8 + length + place));
const info = JSON.parse(header.__metadata__.info);
const answer = new TextDecoder().decode(at("answer"));
const strip = document.createElement("p");
strip.id = "strip";
let place = 0;
for (const count of at("answer_lengths")) {
  const span = document.createElement("span");
  span.textContent = [...answer].slice(place, place + count).join("");
  strip.append(span);
  place += count;
}
const bars = document.createElement("ol");
for (const value of new Float32Array(at("total").buffer)) {
  const bar = document.createElement("li");
  bar.textContent = value.toFixed(4);
  bars.append(bar);
}
document.getElementById("app").append(strip, bars, new TextDecoder().decode(at("text")));
document.title = info.title;
document.documentElement.dataset.ready = "true";
"""


@pytest.fixture
def tiny_front_end(tmp_path_factory, monkeypatch):
    """Make pages with the front end above."""
    folder = tmp_path_factory.mktemp("static")
    (folder / "app.js").write_text(APP_JS, encoding="utf-8")
    (folder / "app.css").write_text(APP_CSS, encoding="utf-8")
    monkeypatch.setenv(assets.VARIABLE, str(folder))
    return folder
