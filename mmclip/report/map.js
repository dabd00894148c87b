"use strict";
// The data: one typed array a column, in the order of the points.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (tag, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; return e; };
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const X = new Float32Array(bytes(D.x)), Y = new Float32Array(bytes(D.y)), N = X.length;
const ID = new BigInt64Array(bytes(D.ids));
const ARRAYS = { f4: Float32Array, f8: Float64Array, u2: Uint16Array, u4: Uint32Array };
for (const c of D.columns) c.v = new ARRAYS[c.type](bytes(c.data));
for (const v of D.views) {
  v.row = new Int32Array(bytes(v.rows)); v.start = new Uint32Array(bytes(v.starts));
  v.px = new Uint16Array(bytes(v.x)); v.py = new Uint16Array(bytes(v.y));
  v.lim = new Float32Array(bytes(v.limits)); v.at = new Map([...v.row].map((r, i) => [r, i]));
}
// What a reader sees of a value: every digit its type holds, never more.
function show(c, i) {
  const v = c.v[i];
  if (c.kind !== "number") return c.names[v];
  return v !== v ? "–" : c.type === "f8" ? String(v) : String(+v.toPrecision(7));
}
const brief = (v) => v !== v ? "–" : String(+v.toPrecision(4));

// Drawing: a software raster of N points, the colours packed once a column.
const sky = $("sky"), ctx = sky.getContext("2d"), over = $("over"), octx = over.getContext("2d");
const dark = matchMedia("(prefers-color-scheme: dark)");
let W = 0, H = 0, ratio = 1, scale = 1, tx = 0, ty = 0, image, pixels;
let hover = -1, pinned = -1, lassoing = false, path = null, lit = -1;
const layers = new Uint32Array(N); // points in the order in which they are drawn
const colour = new Uint32Array(N), faint = new Uint32Array(N), chosen = new Uint8Array(N);
let count = 0, picked = null;
const filters = new Map(); // column number -> [low, high] of numbers, or a set of classes
const hex = (h) => [1, 3, 5].map((i) => parseInt(h.slice(i, i + 2), 16));
const pack = (r, g, b) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const ground = () => dark.matches ? [18, 22, 28] : [251, 251, 249];
const grey = () => dark.matches ? [84, 92, 104] : [190, 194, 200];
let x0 = 1 / 0, x1 = -1 / 0, y0 = 1 / 0, y1 = -1 / 0;
for (let i = 0; i < N; i++) {
  x0 = Math.min(x0, X[i]); x1 = Math.max(x1, X[i]); y0 = Math.min(y0, Y[i]); y1 = Math.max(y1, Y[i]);
}
// A grid of cells finds the point under the pointer.
const G = 512, cx = G / ((x1 - x0) || 1), cy = G / ((y1 - y0) || 1);
const cell = new Uint32Array(G * G + 1), order = new Uint32Array(N);
const cellOf = (i) => Math.min(G - 1, (Y[i] - y0) * cy | 0) * G + Math.min(G - 1, (X[i] - x0) * cx | 0);
for (let i = 0; i < N; i++) cell[cellOf(i) + 1]++;
for (let i = 0; i < G * G; i++) cell[i + 1] += cell[i];
{ const at = cell.slice(); for (let i = 0; i < N; i++) order[at[cellOf(i)]++] = i; }

const column = () => D.columns[$("column").value];
// Place of a value on the colour scale, 0 to 1.
function scaler(c) {
  const log = c.log && c.low > 0, f = log ? Math.log10 : (v) => v;
  const a = f(c.low), span = (f(c.high) - a) || 1;
  return (v) => { const t = (f(v) - a) / span; return c.flip ? 1 - t : t; };
}
// Frequent classes below rare ones, unknown ones lowest; points of a number as they come.
function layer(c) {
  if (c.kind === "number") { for (let i = 0; i < N; i++) layers[i] = i; return; }
  const rank = (k) => c.names[k] === "unknown" ? 0 : k + 1, at = new Uint32Array(c.names.length + 2);
  for (let i = 0; i < N; i++) at[rank(c.v[i]) + 1]++;
  for (let k = 1; k < at.length; k++) at[k] += at[k - 1];
  for (let i = 0; i < N; i++) layers[at[rank(c.v[i])]++] = i;
}
function paint() {
  const c = column(), back = ground(), none = grey();
  const mix = (a, f) => pack(...a.map((v, k) => v * f + back[k] * (1 - f) | 0));
  $("what").textContent = c.title; layer(c);
  $("log").disabled = !(c.kind === "number" && c.low > 0); $("flip").disabled = c.kind !== "number";
  $("log").ariaPressed = !!c.log; $("flip").ariaPressed = !!c.flip;
  const box = $("legend"); box.textContent = "";
  if (c.kind === "number") {
    const ramp = D.ramp.map(hex), last = ramp.length - 1, at = scaler(c);
    const full = ramp.map((a) => pack(...a)), dim = ramp.map((a) => mix(a, .18));
    const n0 = pack(...none), n1 = mix(none, .3);
    for (let i = 0; i < N; i++) {
      const v = c.v[i];
      if (v !== v || (c.log && v <= 0)) { colour[i] = n0; faint[i] = n1; continue; }
      const k = Math.max(0, Math.min(last, Math.round(at(v) * last)));
      colour[i] = full[k]; faint[i] = dim[k];
    }
    const bar = make("div"); bar.id = "ramp";
    bar.style.background = "linear-gradient(to right," + (c.flip ? [...D.ramp].reverse() : D.ramp).join(",") + ")";
    const ends = make("div"); ends.className = "ends";
    ends.append(make("span", brief(c.low)), make("span", brief(c.high)));
    const bars = make("canvas"); bars.id = "histogram"; bars.setAttribute("aria-label", "Histogram of " + c.title);
    box.append(bars, bar, ends); histogram(bars, c);
  } else {
    const full = c.colours.map((h) => pack(...hex(h))), dim = c.colours.map((h) => mix(hex(h), .18));
    for (let i = 0; i < N; i++) { colour[i] = full[c.v[i]]; faint[i] = dim[c.v[i]]; }
    c.names.slice(0, 200).forEach((name, k) => {
      const b = make("button"), s = make("i"); b.className = "key"; s.style.background = c.colours[k];
      b.append(s, name + " " + c.counts[k]); b.title = "Click to select this class; point to see it alone";
      b.onclick = () => { const n = $("column").value; filters.has(n) && filters.get(n).has(k) ? filters.delete(n) : filters.set(n, new Set([k])); filter(); };
      b.onpointerenter = () => { lit = k; draw(); }; b.onpointerleave = () => { lit = -1; draw(); };
      box.append(b);
    });
  }
  draw();
}
// Sixty bins between the 1st and 99th percentile; drag to select a range, double-click to drop it.
function histogram(cv, c) {
  const B = 60, w = cv.width = 600, h = cv.height = 128, g = cv.getContext("2d"), at = scaler({ ...c, flip: false });
  const all = new Uint32Array(B), some = new Uint32Array(B);
  for (let i = 0; i < N; i++) {
    const t = at(c.v[i]); if (!(t >= 0 && t <= 1)) continue;
    const k = Math.min(B - 1, t * B | 0); all[k]++; if (count && chosen[i]) some[k]++;
  }
  let most = 1; for (const n of all) most = Math.max(most, n);
  const style = getComputedStyle(document.documentElement);
  const bars = (counts, fill) => { g.fillStyle = fill; counts.forEach((n, k) => g.fillRect(k * w / B + 1, h - n / most * h, w / B - 2, n / most * h)); };
  bars(all, style.getPropertyValue("--line")); bars(count ? some : all, style.getPropertyValue("--line1"));
  const place = (e) => { const r = cv.getBoundingClientRect(); return Math.max(0, Math.min(1, (e.clientX - r.left) / r.width)); };
  const value = (t) => c.log && c.low > 0 ? c.low * Math.pow(c.high / c.low, t) : c.low + t * (c.high - c.low);
  let from = null;
  cv.onpointerdown = (e) => { cv.setPointerCapture(e.pointerId); from = place(e); };
  cv.onpointerup = (e) => {
    if (from === null) return;
    const [a, b] = [from, place(e)].sort((p, q) => p - q); from = null;
    if (b - a < .01) return;
    filters.set($("column").value, [a === 0 ? -1 / 0 : value(a), b === 1 ? 1 / 0 : value(b)]); filter();
  };
  cv.ondblclick = () => { filters.delete($("column").value); filter(); };
}

function fit() {
  ratio = Math.min(2, devicePixelRatio || 1); const r = sky.getBoundingClientRect();
  W = sky.width = Math.max(1, r.width * ratio | 0); H = sky.height = Math.max(1, r.height * ratio | 0);
  over.width = W; over.height = H; image = ctx.createImageData(W, H); pixels = new Uint32Array(image.data.buffer);
}
const whole = () => .92 * Math.min(W / ((x1 - x0) || 1), H / ((y1 - y0) || 1));
function home() { scale = whole(); tx = W / 2 - scale * (x0 + x1) / 2; ty = H / 2 + scale * (y0 + y1) / 2; draw(); }
const discs = new Map();
function disc(r) {
  if (!discs.has(r)) {
    const d = []; for (let j = -r; j <= r; j++) for (let i = -r; i <= r; i++) if (i * i + j * j <= r * r + .8 * r) d.push([i, j]);
    discs.set(r, d);
  }
  return discs.get(r);
}
function radius() {
  const base = N > 200000 ? 0 : N > 20000 ? .6 : N > 3000 ? 1.2 : 2.2;
  return Math.max(0, Math.min(6, Math.round(ratio * base * Math.pow(scale / whole(), .45) + .45 * Math.log2(Math.max(1, scale / whole())))));
}
let wanted = false;
function draw() { if (!wanted) { wanted = true; requestAnimationFrame(() => { wanted = false; render(); }); } }
function render() {
  pixels.fill(pack(...ground()));
  const r = radius(), put = r === 0 ? null : disc(r).map(([i, j]) => j * W + i);
  const c = column(), alone = lit >= 0 && c.kind === "class", two = count || alone;
  for (let pass = 0; pass < (two ? 2 : 1); pass++) for (let n = 0; n < N; n++) {
    const i = layers[n];
    const on = alone ? (c.v[i] === lit ? 1 : 0) : chosen[i];
    if (two && on !== pass) continue;
    const px = X[i] * scale + tx | 0, py = ty - Y[i] * scale | 0;
    if (px < r || py < r || px >= W - r || py >= H - r) continue;
    const shade = two && !on ? faint[i] : colour[i], at = py * W + px;
    if (put === null) pixels[at] = shade; else for (let k = 0; k < put.length; k++) pixels[at + put[k]] = shade;
  }
  ctx.putImageData(image, 0, 0); mark();
}
function mark() {
  octx.clearRect(0, 0, W, H); const front = getComputedStyle(document.body).color;
  for (const [i, w] of [[hover, 1.5], [pinned, 2.5]]) if (i >= 0) {
    octx.strokeStyle = front; octx.lineWidth = w * ratio; octx.beginPath();
    octx.arc(X[i] * scale + tx, ty - Y[i] * scale, (7 + radius()) * ratio, 0, 7); octx.stroke();
  }
  if (path) {
    octx.strokeStyle = front; octx.lineWidth = 1.4 * ratio; octx.setLineDash([5, 4]); octx.beginPath();
    path.forEach(([a, b], k) => octx[k ? "lineTo" : "moveTo"](a * scale + tx, ty - b * scale)); octx.stroke(); octx.setLineDash([]);
  }
}
function near(px, py) {
  const reach = 10 * ratio / scale, x = (px - tx) / scale, y = (ty - py) / scale; let best = -1, d2 = reach * reach;
  const a = Math.max(0, (x - reach - x0) * cx | 0), b = Math.min(G - 1, (x + reach - x0) * cx | 0);
  const c = Math.max(0, (y - reach - y0) * cy | 0), d = Math.min(G - 1, (y + reach - y0) * cy | 0);
  for (let j = c; j <= d; j++) for (let i = a; i <= b; i++) for (let k = cell[j * G + i]; k < cell[j * G + i + 1]; k++) {
    const n = order[k], e = (X[n] - x) ** 2 + (Y[n] - y) ** 2; if (e < d2) { d2 = e; best = n; }
  }
  return best;
}

// The card of one object.
function card(i) {
  const box = $("card"); box.textContent = ""; if (i < 0) return;
  box.append(make("h2", D.label + " " + ID[i])); const list = make("dl");
  for (const c of D.columns) list.append(make("dt", c.title), make("dd", show(c, i)));
  for (const v of D.views) {
    const k = v.at.get(i); if (k === undefined) continue;
    const f = make("figure"), cv = make("canvas"); cv.setAttribute("aria-label", v.title); f.append(cv); box.append(f); curve(cv, v, k);
  }
  box.append(list);
}
function curve(cv, v, k) {
  const w = cv.width = 600, h = cv.height = 310, c = cv.getContext("2d");
  const [a, b, lo, hi] = v.lim.subarray(4 * k, 4 * k + 4), L = 82, R = 14, T = 34, B = 52;
  const M = 8, across = (w - L - R - 2 * M) / 65535, along = (h - T - B - 2 * M) / 65535; // a margin: no point on the frame
  const f = (x) => L + M + across * x, g = (y) => v.inverted ? T + M + along * y : h - B - M - along * y;
  c.font = "20px system-ui,sans-serif"; c.fillStyle = "#5b6675"; c.strokeStyle = "#d5d9de";
  c.strokeRect(L, T, w - L - R, h - T - B); c.fillText(v.title, L, 24); c.textAlign = "center";
  c.fillText(Array.isArray(v.xlabel) ? v.xlabel[k] : v.xlabel, (L + w - R) / 2, h - 8); c.textAlign = "left"; c.fillText(brief(a), L, h - B + 22);
  c.textAlign = "right"; c.fillText(brief(b), w - R, h - B + 22);
  c.fillText(brief(v.inverted ? lo : hi), L - 6, T + 16); c.fillText(brief(v.inverted ? hi : lo), L - 6, h - B);
  c.save(); c.translate(20, (h - B + T) / 2); c.rotate(-Math.PI / 2); c.textAlign = "center"; c.fillText(v.ylabel, 0, 0); c.restore();
  c.strokeStyle = c.fillStyle = "#0072B2"; c.lineWidth = 2.2; c.beginPath();
  for (let n = v.start[k]; n < v.start[k + 1]; n++) {
    const x = f(v.px[n]), y = g(v.py[n]);
    if (v.points) c.fillRect(x - 2.5, y - 2.5, 5, 5); else n === v.start[k] ? c.moveTo(x, y) : c.lineTo(x, y);
  }
  if (!v.points) c.stroke();
  if (v.modelled) { c.fillStyle = "#b3450a"; c.textAlign = "right"; c.fillText("MODELLED", w - R - 6, T + 24); }
}

// Selection: what the lasso picked, and within the ranges and classes of every filter.
function pick(test) { picked = test; filter(); }
function passes(i) {
  for (const [n, f] of filters) {
    const v = D.columns[n].v[i];
    if (f instanceof Set ? !f.has(v) : !(v >= f[0] && v <= f[1])) return false;
  }
  return true;
}
function filter() {
  const any = picked || filters.size; count = 0;
  for (let i = 0; i < N; i++) count += chosen[i] = any && (!picked || picked(i)) && passes(i) ? 1 : 0;
  $("clear").disabled = !any; $("save").disabled = !count; $("chosen").hidden = !count;
  $("status").textContent = any ? count + " selected" : N + " objects";
  const first = []; for (let i = 0; i < N && first.length < 2000; i++) if (chosen[i]) first.push(String(ID[i]));
  $("ids").value = $("ids").textContent = first.join("\n");
  const box = $("filters"); box.textContent = "";
  for (const [n, f] of filters) {
    const c = D.columns[n], b = make("button", c.name + " " + (f instanceof Set ? [...f].map((k) => c.names[k]).join(", ") : brief(f[0]) + " to " + brief(f[1])) + " ×");
    b.title = "Drop this filter"; b.onclick = () => { filters.delete(n); filter(); }; box.append(b);
  }
  if (column() && column().kind === "number" && $("histogram")) histogram($("histogram"), column());
  sorted = null; table(); draw();
}
function clear() { pinned = -1; filters.clear(); pick(null); }
// The linked table: only the rows in sight are elements.
const ROW = 26; let sorted = null, key = -1, down_ = false;
function table() {
  if (!count) return;
  const head = $("chosen").querySelector("thead"), body = $("chosen").querySelector("tbody"), box = $("scroll");
  if (!sorted) {
    sorted = new Uint32Array(count); let n = 0; for (let i = 0; i < N; i++) if (chosen[i]) sorted[n++] = i;
    if (key >= 0) {
      const c = D.columns[key], s = down_ ? -1 : 1, of = c.kind === "number" ? (i) => c.v[i] : (i) => c.names[c.v[i]];
      sorted.sort((a, b) => { const p = of(a), q = of(b); return p !== p ? 1 : q !== q ? -1 : p < q ? -s : p > q ? s : 0; });
    }
    head.textContent = ""; const line = make("tr");
    [D.label, ...D.columns.map((c) => c.title)].forEach((t, k) => {
      const th = make("th", t + (k - 1 === key && k ? (down_ ? " ↓" : " ↑") : "")); th.title = "Sort by this column";
      th.onclick = () => { down_ = key === k - 1 ? !down_ : false; key = k - 1; sorted = null; table(); }; line.append(th);
    });
    head.append(line); box.scrollTop = 0;
  }
  const from = Math.max(0, (box.scrollTop / ROW | 0) - 4), to = Math.min(sorted.length, from + (box.clientHeight / ROW | 0) + 12);
  body.textContent = "";
  const gap = (rows) => { const tr = make("tr"), td = make("td"); tr.style.height = rows * ROW + "px"; td.colSpan = D.columns.length + 1; tr.append(td); return tr; };
  if (from) body.append(gap(from));
  for (let n = from; n < to; n++) {
    const i = sorted[n], tr = make("tr"); if (i === pinned) tr.className = "pinned";
    tr.append(make("td", String(ID[i])), ...D.columns.map((c) => make("td", show(c, i))));
    tr.onclick = () => { pinned = i; card(i); table(); mark(); }; body.append(tr);
  }
  if (to < sorted.length) body.append(gap(sorted.length - to));
}
$("scroll").onscroll = () => table();
function inside(poly) {
  let a = 1 / 0, b = -1 / 0, c = 1 / 0, d = -1 / 0;
  for (const [x, y] of poly) { a = Math.min(a, x); b = Math.max(b, x); c = Math.min(c, y); d = Math.max(d, y); }
  return (i) => {
    const x = X[i], y = Y[i]; if (x < a || x > b || y < c || y > d) return false; let odd = false;
    for (let k = 0, l = poly.length - 1; k < poly.length; l = k++) {
      const [xk, yk] = poly[k], [xl, yl] = poly[l];
      if (yk > y !== yl > y && x < (xl - xk) * (y - yk) / (yl - yk) + xk) odd = !odd;
    }
    return odd;
  };
}
function csv() {
  const quoted = (t) => /[",\n\r]/.test(t) ? '"' + t.replaceAll('"', '""') + '"' : t;
  const lines = [[D.label, "x", "y", ...D.columns.map((c) => c.name)].map(quoted).join(",")];
  for (const i of sorted || []) lines.push([String(ID[i]), X[i], Y[i], ...D.columns.map((c) => { const t = show(c, i); return t === "–" ? "" : quoted(t); })].join(","));
  return lines.join("\n") + "\n";
}
function save() {
  const link = make("a"); link.download = "selected.csv";
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" })); link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1e4);
}
function find(text) {
  text = text.trim(); if (!/^-?\d+$/.test(text)) { $("status").textContent = text ? "an id is digits only" : ""; return; }
  const i = ID.indexOf(BigInt(text)); if (i < 0) { $("status").textContent = text + " is not on this map"; return; }
  pinned = i; scale = Math.max(scale, 4 * whole()); tx = W / 2 - X[i] * scale; ty = H / 2 + Y[i] * scale;
  $("status").textContent = "found"; card(i); draw();
}
function zoom(f, px, py) { tx = px - (px - tx) * f; ty = py - (py - ty) * f; scale *= f; draw(); }

// Pointer and keys.
let down = null;
const at = (e) => { const r = sky.getBoundingClientRect(); return [(e.clientX - r.left) * ratio, (e.clientY - r.top) * ratio]; };
sky.onpointerdown = (e) => {
  const p = at(e); sky.setPointerCapture(e.pointerId);
  if (lassoing || e.shiftKey) path = [[(p[0] - tx) / scale, (ty - p[1]) / scale]]; down = { p, tx, ty, moved: false };
};
sky.onpointermove = (e) => {
  const p = at(e);
  if (down) {
    down.moved = down.moved || Math.hypot(p[0] - down.p[0], p[1] - down.p[1]) > 3 * ratio;
    if (path) { path.push([(p[0] - tx) / scale, (ty - p[1]) / scale]); mark(); } else { tx = down.tx + p[0] - down.p[0]; ty = down.ty + p[1] - down.p[1]; draw(); }
    return;
  }
  const n = near(...p); if (n !== hover) { hover = n; if (pinned < 0 || n >= 0) card(n >= 0 ? n : pinned); mark(); }
};
sky.onpointerup = (e) => {
  if (path) { const poly = path; path = null; if (poly.length > 2) pick(inside(poly)); }
  else if (down && !down.moved) { pinned = near(...at(e)); card(pinned); table(); mark(); }
  down = null;
};
sky.onpointercancel = () => { path = null; down = null; mark(); };
sky.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY * .0015), ...at(e)); }, { passive: false });
sky.onkeydown = (e) => {
  const step = 60 * ratio, k = e.key;
  if (k === "+" || k === "=") zoom(1.25, W / 2, H / 2); else if (k === "-") zoom(.8, W / 2, H / 2);
  else if (k === "ArrowLeft") tx += step; else if (k === "ArrowRight") tx -= step;
  else if (k === "ArrowUp") ty += step; else if (k === "ArrowDown") ty -= step; else return;
  e.preventDefault(); draw();
};
addEventListener("keydown", (e) => {
  if (e.target.tagName === "INPUT" || e.target.tagName === "TEXTAREA") return;
  if (e.key === "Escape") clear(); if (e.key === "l") $("lasso").click(); if (e.key === "0") home();
});
// Panels are as large as the reader drags them.
function drag(handle, name, size) {
  $(handle).onpointerdown = (e) => {
    $(handle).setPointerCapture(e.pointerId);
    $(handle).onpointermove = (m) => { document.documentElement.style.setProperty(name, Math.max(80, size(m)) + "px"); table(); };
    $(handle).onpointerup = () => { $(handle).onpointermove = null; };
  };
}
drag("widen", "--side", (e) => innerWidth - e.clientX); drag("taller", "--low", (e) => innerHeight - e.clientY);
$("lasso").onclick = () => { lassoing = !lassoing; $("lasso").ariaPressed = lassoing; document.body.classList.toggle("lasso", lassoing); };
$("log").onclick = () => { column().log = !column().log; paint(); };
$("flip").onclick = () => { column().flip = !column().flip; paint(); };
$("clear").onclick = clear; $("save").onclick = save; $("home").onclick = home; $("find").onchange = () => find($("find").value);
D.columns.forEach((c, i) => { if (c.colour) $("column").append(new Option(c.title, i)); });
$("column").onchange = paint; dark.addEventListener("change", paint);
// At once: a canvas of another size is empty, and would be seen so for a frame.
new ResizeObserver(() => { const w = W, h = H; fit(); tx += (W - w) / 2; ty += (H - h) / 2; render(); }).observe(sky);
fit(); pick(null); home();
// A link may carry what is shown: #id=123&colour=teff&lasso=x,y,x,y,... (map coordinates), &range=low,high of that column
const ask = new URLSearchParams(location.hash.slice(1));
if (ask.has("colour")) $("column").value = Math.max(0, D.columns.findIndex((c) => c.name === ask.get("colour") && c.colour));
paint(); render();
if (ask.has("lasso")) {
  const n = ask.get("lasso").split(",").map(Number), poly = [];
  for (let i = 0; i + 1 < n.length; i += 2) poly.push([n[i], n[i + 1]]); pick(inside(poly));
}
if (ask.has("range")) { filters.set($("column").value, ask.get("range").split(",").map(Number)); filter(); }
if (ask.has("id")) find(ask.get("id"));
if (ask.has("time")) {
  const begin = performance.now(); for (let k = 0; k < 20; k++) { tx += 1; render(); }
  $("status").textContent = ((performance.now() - begin) / 20).toFixed(1) + " ms a frame of " + W + "x" + H;
}
if (ask.has("csv")) $("ids").value = $("ids").textContent = csv();
render();
