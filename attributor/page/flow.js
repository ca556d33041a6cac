
"use strict";
// Draws one flow. Everything that is shown as text goes through text nodes; control characters were made visible before.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const LEVELS = 10, TOP = 10;
  const byId = (id) => document.getElementById(id);
  const bytes = Uint8Array.from(atob(data.rows), (c) => c.charCodeAt(0));
  const quantised = new DataView(bytes.buffer);
  const unitCount = data.units.length, rowCount = data.answer.length;

  const make = (tag, props = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const unroll = (runs) => {  // [[value, length], ...] -> one value a unit
    const out = new Int32Array(unitCount);
    let at = 0;
    for (const [value, length] of runs) { out.fill(value, at, at + length); at += length; }
    return out;
  };
  const groupOf = { sentence: unroll(data.sentence), document: unroll(data.document), token: Int32Array.from(data.units, (_, i) => i) };
  const isInside = data.documents.length ? groupOf.document : data.sentences ? groupOf.sentence : groupOf.token;

  // A row is stored as steps * sqrt(score / largest score of the row), in 16 bits or 8.
  const row = (r) => {
    const out = new Float64Array(unitCount);
    for (let u = 0, at = r * unitCount; u < unitCount; u++, at++) {
      const q = (data.steps > 255 ? quantised.getUint16(2 * at, true) : bytes[at]) / data.steps;
      out[u] = q * q * data.largest[r];
    }
    return out;
  };
  const known = data.onAnswer !== null;
  let whole = null;
  const mean = () => {
    if (whole) return whole;
    const scores = new Float64Array(unitCount);
    for (let r = 0; r < rowCount; r++) { const one = row(r); for (let u = 0; u < unitCount; u++) scores[u] += one[u] / rowCount; }
    const average = (list) => list.reduce((a, b) => a + b, 0) / rowCount;
    whole = finish(scores, known ? average(data.onAnswer) : 0, known ? average(data.missing) : 0);
    return whole;
  };
  const finish = (scores, onAnswer, missing) => {  // shares of the whole: all of it adds up to 1
    let sum = onAnswer + missing;
    for (let u = 0; u < unitCount; u++) sum += scores[u];
    if (sum > 0) for (let u = 0; u < unitCount; u++) scores[u] /= sum;
    return { scores, onAnswer: sum > 0 ? onAnswer / sum : 0, missing: sum > 0 ? missing / sum : 0 };
  };
  const shares = (r) => r < 0 ? mean() : finish(row(r), known ? data.onAnswer[r] : 0, known ? data.missing[r] : 0);

  const groupSums = (scores, by) => {
    const group = groupOf[by];
    const sums = new Float64Array({ token: unitCount, sentence: data.sentences, document: data.documents.length }[by]);
    let outside = 0;
    for (let u = 0; u < unitCount; u++) {
      const inside = by === "token" ? isInside[u] >= 0 : group[u] >= 0;
      if (inside) sums[group[u]] += scores[u]; else outside += scores[u];
    }
    return { sums, outside };
  };
  const percents = (values) => {  // rounded so that they add up to exactly 100; two digits where the first is below 1%
    const digits = values[0] < 0.01 ? 2 : 1, unit = 100 * 10 ** digits;
    const floors = values.map((v) => Math.floor(v * unit));
    const left = Math.max(0, Math.round(values.reduce((a, b) => a + b, 0) * unit) - floors.reduce((a, b) => a + b, 0));
    const order = values.map((v, i) => [v * unit - floors[i], i]).sort((a, b) => b[0] - a[0]);
    for (let i = 0; i < Math.min(left, order.length); i++) floors[order[i][1]]++;
    return floors.map((n) => (n / 10 ** digits).toFixed(digits) + "%");
  };
  const percent = (v) => (v * 100).toFixed(v < 0.001 && v > 0 ? 2 : 1) + "%";

  const state = { hover: -1, pin: -1, by: data.sentences ? "sentence" : "token", scale: "linear", picked: -1 };
  const selected = () => state.hover >= 0 ? state.hover : state.pin;

  // the answer
  const strip = byId("strip");
  const answerSpans = data.answer.map((text, r) => {
    const span = make("span", { textContent: text.trim() || !text ? text || "∅" : text.replace(/\n/g, "↵\n") });
    span.setAttribute("role", "option");
    span.setAttribute("aria-selected", "false");
    span.tabIndex = r === 0 ? 0 : -1;
    span.dataset.row = r;
    return span;
  });
  strip.append(...answerSpans);
  const rowAt = (event) => event.target.dataset && event.target.dataset.row !== undefined ? +event.target.dataset.row : -1;
  const preview = (r) => { if (r !== state.hover) { state.hover = r; draw(); } };
  const pin = (r) => { state.pin = r; state.picked = -1; state.hover = -1; draw(); };
  strip.addEventListener("mouseover", (event) => preview(rowAt(event)));
  strip.addEventListener("mouseleave", () => preview(-1));
  strip.addEventListener("focusin", (event) => { if (event.target.matches(":focus-visible")) preview(rowAt(event)); });
  strip.addEventListener("focusout", () => preview(-1));
  strip.addEventListener("click", (event) => { const r = rowAt(event); if (r >= 0) pin(r === state.pin ? -1 : r); });
  strip.addEventListener("keydown", (event) => {
    const r = rowAt(event);
    const to = { ArrowRight: r + 1, ArrowDown: r + 1, ArrowLeft: r - 1, ArrowUp: r - 1, Home: 0, End: rowCount - 1 }[event.key];
    if (to !== undefined && to >= 0 && to < rowCount) {
      answerSpans[r].tabIndex = -1;
      answerSpans[to].tabIndex = 0;
      answerSpans[to].focus();
    } else if (event.key === "Enter" || event.key === " ") pin(r === state.pin ? -1 : r);
    else if (to === undefined) return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") pin(-1); });

  // the prompt: a block a document or a piece between documents, a span a unit
  const context = byId("context");
  const spans = data.units.map((text, u) => { const span = make("span", { className: "u", textContent: text }); span.dataset.unit = u; return span; });
  const documentShares = [];
  for (let u = 0; u < unitCount;) {
    const d = groupOf.document[u];
    let end = u + 1;
    while (end < unitCount && groupOf.document[end] === d && (d >= 0 || end - u < 2000)) end++;
    const block = make("div", { className: d >= 0 ? "block document" : data.documents.length ? "block outside" : "block document" });
    if (d >= 0) {
      documentShares[d] = make("b");
      block.append(make("h3", {}, make("bdi", { textContent: documentName(d) }), documentShares[d]));
    }
    const from = u + data.units.slice(u, end).findIndex((text) => text.trim());
    if (from < u) block.hidden = true;  // white space only
    else {  // no blank lines at the edges of a block
      for (let i = u; i < from; i++) spans[i].textContent = "";
      spans[from].textContent = data.units[from].replace(/^(\s*\n)? ?/, "");
      spans[end - 1].textContent = spans[end - 1].textContent.trimEnd();
    }
    block.append(...spans.slice(u, end));
    context.append(block);
    u = end;
  }
  context.addEventListener("click", (event) => {
    const u = event.target.dataset && event.target.dataset.unit;
    if (u === undefined || String(document.getSelection())) return;
    const group = groupOf[state.by][+u];
    state.picked = group === state.picked ? -1 : group;
    draw();
  });
  context.addEventListener("mouseover", (event) => {
    const u = event.target.dataset && event.target.dataset.unit;
    if (u === undefined) return;
    const group = groupOf[state.by][+u], now = shares(selected());
    const sum = group >= 0 && state.by !== "token" ? groupSums(now.scores, state.by).sums[group] : now.scores[+u];
    event.target.title = (group >= 0 && state.by !== "token" ? state.by + " " : "") + percent(sum);
  });

  function documentName(d) {
    return data.documents[d] || "Document " + (d + 1);
  }
  const pieces = { sentence: [], document: [] };
  for (const by of ["sentence", "document"]) groupOf[by].forEach((g, u) => { if (g >= 0) (pieces[by][g] ||= []).push(u); });
  const unitsOf = (by, g) => by === "token" ? [g] : pieces[by][g] || [];
  const nameOf = (by, g) => {
    if (by === "document") return documentName(g);
    const text = unitsOf(by, g).map((u) => data.units[u]).join("");
    return by === "token" ? text : text.trim();
  };

  const around = (u) => "…" + data.units.slice(Math.max(0, u - 5), u + 6).join("").replace(/\s+/g, " ") + "…";

  // the controls
  const choice = (box, options, key) => {
    for (const [value, label] of options) {
      const button = make("button", { type: "button", textContent: label, onclick: () => { state[key] = value; state.picked = -1; draw(); } });
      button.dataset.value = value;
      box.append(button);
    }
  };
  const kinds = [];
  if (data.documents.length) kinds.push(["document", "Documents"]);
  if (data.sentences) kinds.push(["sentence", "Sentences"]);
  if (data.kind === "token") kinds.push(["token", "Tokens"]);
  else if (!data.sentences) kinds.push(["token", "Pieces"]);
  choice(byId("by"), kinds, "by");
  choice(byId("scale"), [["linear", "Linear"], ["sqrt", "Square root"]], "scale");
  byId("meta").textContent = data.meta;
  byId("notes").textContent = data.notes.join(" ");
  if (rowCount < 2) strip.classList.add("still");

  const levels = new Uint8Array(unitCount), answerLevels = new Uint8Array(rowCount);
  const levelOf = (value, largest) => {
    if (!(value > 0) || !(largest > 0)) return 0;
    const relative = Math.min(1, value / largest);
    return Math.round(LEVELS * (state.scale === "sqrt" ? Math.sqrt(relative) : relative));
  };

  const drawBars = (now, sums, outside) => {
    const order = Array.from(sums.keys()).filter((g) => sums[g] > 0).sort((a, b) => sums[b] - sums[a]);
    const rows = order.slice(0, TOP).map((g) => ({ name: nameOf(state.by, g), share: sums[g], group: g }));
    const others = order.slice(TOP);
    if (others.length) rows.push({ name: `${others.length.toLocaleString("en")} other ${state.by}s`, share: others.reduce((a, g) => a + sums[g], 0) });
    if (outside > 0) rows.push({ name: data.documents.length ? "Template and question" : "Between sentences", share: outside });
    if (known) {
      if (rowCount > 1) rows.push({ name: "Earlier answer tokens", share: now.onAnswer });
      rows.push({ name: "Missing (not followed)", share: now.missing });
    }
    const longest = Math.max(...rows.map((r) => r.share), 1e-12), texts = percents(rows.map((r) => r.share));
    byId("bars").replaceChildren(...rows.map((r, i) => {
      const fill = make("i");
      fill.style.width = `${(100 * r.share) / longest}%`;
      const name = make("span", { className: "name" }, make("bdi", { textContent: r.name.trim() ? r.name : JSON.stringify(r.name) }));
      const inner = [name, make("span", { className: "share", textContent: texts[i] }), make("span", { className: "track" }, fill)];
      if (r.group === undefined) return make("li", { className: "rest" }, make("div", { className: "row" }, ...inner));
      const d = state.by === "document" ? -1 : groupOf.document[unitsOf(state.by, r.group)[0]];
      const where = state.by === "token" ? around(r.group) : d >= 0 ? documentName(d) : "";
      if (where) inner.splice(2, 0, make("bdi", { className: "where", textContent: where }));
      const button = make("button", { type: "button", onclick: () => {
        state.picked = r.group === state.picked ? -1 : r.group;
        draw();
        const first = spans[unitsOf(state.by, r.group)[0]];
        if (state.picked >= 0 && first) first.scrollIntoView({ block: "center" });
        const again = byId("bars").children[i];
        if (again && again.firstChild) again.firstChild.focus({ preventScroll: true });
      } }, ...inner);
      button.setAttribute("aria-pressed", String(r.group === state.picked));
      return make("li", {}, button);
    }));
  };

  let lastTaken = { key: "", taken: new Float64Array(rowCount) };
  const takenBy = (by, group) => {
    const key = group < 0 ? "" : by + group;
    if (key !== lastTaken.key) {
      const taken = new Float64Array(rowCount), units = group < 0 ? [] : unitsOf(by, group);
      if (units.length) for (let i = 0; i < rowCount; i++) { const one = shares(i).scores; for (const u of units) taken[i] += one[u]; }
      lastTaken = { key, taken };
    }
    return lastTaken.taken;
  };

  function draw() {
    const r = selected(), now = shares(r);
    const { sums, outside } = groupSums(now.scores, state.by);
    const group = groupOf[state.by];
    const title = byId("selection");
    if (r >= 0) title.replaceChildren(`Sources of answer token ${r + 1}: `, make("bdi", { textContent: data.answer[r] }), state.pin === r ? " (kept)" : "");
    else title.textContent = rowCount > 1 ? `Sources of the whole answer (${rowCount} tokens)` : "Sources";

    let largest = 0;
    for (const s of sums) if (s > largest) largest = s;
    for (let u = 0; u < unitCount; u++) {
      const g = group[u], picked = state.picked >= 0 && g === state.picked;
      const level = levelOf(state.by === "token" ? now.scores[u] : g >= 0 ? sums[g] : 0, largest) | (picked ? 128 : 0);
      if (level !== levels[u]) {
        levels[u] = level;
        spans[u].className = "u" + (level & 127 ? " h" + (level & 127) : "") + (picked ? " on" : "");
      }
    }
    if (data.documents.length) {
      const whole = groupSums(now.scores, "document").sums;
      documentShares.forEach((node, d) => { node.textContent = percent(whole[d]); });
    }
    // the answer's words light up by what they took from the picked piece
    const taken = takenBy(state.by, state.picked);
    const most = taken.reduce((a, b) => Math.max(a, b), 0);
    answerSpans.forEach((span, i) => {
      const level = levelOf(taken[i], most);
      if (level !== answerLevels[i]) { answerLevels[i] = level; span.className = level ? "h" + level : ""; }
      span.setAttribute("aria-selected", String(i === state.pin));
    });
    for (const key of ["by", "scale"]) for (const button of byId(key).children) button.setAttribute("aria-pressed", String(button.dataset.value === state[key]));
    const ramp = make("span", { className: "ramp" });
    for (let l = 0; l <= LEVELS; l++) ramp.append(make("i", { className: "h" + l }));
    byId("legend").replaceChildren("0", ramp, percent(largest));
    drawBars(now, sums, outside);
  }
  draw();
  document.documentElement.dataset.ready = "true";
})();
