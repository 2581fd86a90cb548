"use strict";
// Languages, theme, sorting; and the images: what is true, false and missed is decided here as the evaluation does it,
// because the sliders change it.
(() => {
const { gallery, texts, languages } = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const find = (query, from = document) => from.querySelector(query);
const all = (query, from = document) => [...from.querySelectorAll(query)];

// A page from a mail attachment may be refused its storage; then nothing is remembered.
const remembered = (key) => { try { return localStorage.getItem("detport-" + key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem("detport-" + key, value); } catch { /* as said above */ } };

let language = "en";
const text = (key, parts = {}) => texts[key][language].replace(/\{(\w+)\}/g, (_, name) => parts[name]);

function speak(chosen) {
  language = chosen in languages ? chosen : "en";
  root.dataset.language = language;
  root.lang = languages[language];
  for (const element of all("[data-label]")) {
    const [attribute, key] = element.dataset.label.split(":");
    element.setAttribute(attribute, text(key));
  }
  const button = find("#language");
  button.textContent = language === "en" ? "中文" : "English";
  button.lang = language === "en" ? "zh-CN" : "en";
  if (gallery) { find("select[name=class] option").textContent = text("js_all_classes"); redraw(); }
}

function sortable(table) {
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}

// Figures by their whole value, words by the alphabet; what has none stands last in either order.
function sort(table, head, column) {
  const down = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    const figure = find("data", cell);
    return figure ? Number(figure.value) : find(".none", cell) ? null : cell.textContent.trim();
  };
  const order = (a, b) => a === null ? 1 : b === null ? -1 : typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b));
  const rows = all("tbody tr", table).map((row) => [key(row), row]);
  const words = rows.some(([value]) => typeof value === "string");
  const way = words && !head.hasAttribute("aria-sort") ? 1 : down;
  rows.sort(([a], [b]) => a === null || b === null ? order(a, b) : way * order(a, b));
  all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  find("tbody", table).append(...rows.map(([, row]) => row));
}

function filtered(field) {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of all("table.filterable tbody tr")) {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
  }
}

// Overlap of two boxes x, y, width, height; with `crowd` it is the part of the first that lies in the second.
function overlap(a, b, crowd = false) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / (crowd ? a[2] * a[3] : a[2] * a[3] + b[2] * b[3] - shared);
}

// What every detection of a picture is, best score first, and which objects nothing found. Outlines are not exact, so
// what masks share is told by the page.
function judged(picture, backend, { score, iou, task }) {
  const objects = picture.objects.map(([kind, crowd, ...place]) => ({ kind, crowd, box: place.slice(0, 4), outline: place[4], by: null }));
  const rows = picture.rows[backend].map(([kind, sure, ...place], i) => ({ kind, score: sure, box: place.slice(0, 4), outline: place[4], i }))
    .filter((row) => row.score >= score);
  if (!gallery.judged) return { rows: rows.map((row) => ({ ...row, is: "seen" })), objects, missed: [] };
  for (const row of rows) {
    const masks = task === "segm" ? new Map(picture.shared[backend][row.i]) : null;
    row.overlaps = objects.map((object, k) => masks ? masks.get(k) ?? 0 : overlap(row.box, object.box, object.crowd));
    let best = null;
    objects.forEach((object, i) => {
      if (!object.crowd && object.kind === row.kind && !object.by && row.overlaps[i] >= iou && (best === null || row.overlaps[i] > row.overlaps[best])) best = i;
    });
    if (best !== null) { objects[best].by = row; Object.assign(row, { is: "true", object: objects[best], iou: row.overlaps[best] }); }
  }
  const largest = (row, fits) => objects.reduce((best, object, i) => !object.crowd && fits(object) && row.overlaps[i] > (best < 0 ? 0 : row.overlaps[best]) ? i : best, -1);
  for (const row of rows.filter((each) => !each.is)) {
    const own = largest(row, (object) => object.kind === row.kind), other = largest(row, (object) => object.kind !== row.kind);
    const any = largest(row, () => true), at = (i) => i < 0 ? 0 : row.overlaps[i];
    const crowd = objects.some((object, i) => object.crowd && object.kind === row.kind && row.overlaps[i] > iou);
    const [is, i] = at(own) >= gallery.near && at(own) <= iou ? ["loc", own] : at(other) >= iou ? ["cls", other]
      : at(own) >= iou ? ["dupe", own] : at(any) <= gallery.near ? ["bkg", -1] : ["both", any];
    Object.assign(row, { is: crowd ? "ignored" : is, object: i < 0 ? null : objects[i], iou: at(any) });
    if (i >= 0) row.iou = at(i);
  }
  return { rows, objects, missed: objects.filter((object) => !object.crowd && !object.by) };
}

const colour = (row) => ["true", "seen", "ignored"].includes(row.is) ? row.is : "false";

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const state = () => {
  const form = new FormData(find("#controls"));
  return {
    truth: form.has("truth"), outlines: form.has("outlines"), backends: form.getAll("backend").map(Number),
    kind: form.get("class") === "" ? null : Number(form.get("class")), score: Number(form.get("score")), iou: Number(form.get("iou")),
    task: form.get("task") ?? gallery.tasks[0], names: form.has("names"),
  };
};

// Everything that is shown of a picture, as lines of the table and as shapes.
function facts(picture, shown) {
  const found = [], first = shown.backends[0] ?? 0;
  const wanted = (entry) => shown.kind === null || entry.kind === shown.kind;
  for (const backend of shown.backends) {
    const all = judged(picture, backend, shown);
    for (const row of all.rows.filter(wanted)) found.push({ ...row, backend, other: backend !== first });
  }
  const { objects } = judged(picture, first, shown);
  for (const object of objects.filter(wanted)) {
    found.push({ ...object, backend: null, is: object.crowd ? "crowd" : object.by && shown.backends.length ? "found" : shown.backends.length ? "miss" : "found", object: null });
  }
  return found;
}

const styleOf = (fact) => fact.backend === null ? (fact.is === "miss" ? "missed" : fact.is === "crowd" ? "ignored" : "truth") : colour(fact);

function draw(target, picture, shown, choose) {
  target.replaceChildren();
  target.classList.add("overlay");
  const drawn = facts(picture, shown).filter((fact) => fact.backend !== null || shown.truth);
  const order = { truth: 0, ignored: 1, missed: 2, true: 3, seen: 3, false: 4 };
  const middle = (box) => [box[0] + box[2] / 2, box[1] + box[3] / 2];
  for (const fact of [...drawn].sort((a, b) => order[styleOf(a)] - order[styleOf(b)])) {
    const [x, y, width, height] = fact.box, style = styleOf(fact);
    if (shown.outlines && fact.outline) target.append(svg("path", { class: `shape mask is-${style}`, d: fact.outline }));
    if (fact.backend !== null && fact.object && shown.truth && choose) {
      const [a, b] = [middle(fact.box), middle(fact.object.box)];
      target.append(svg("line", { class: "tie", x1: a[0], y1: a[1], x2: b[0], y2: b[1] }));
    }
    if (style !== "truth") target.append(svg("rect", { class: "casing", x, y, width, height }));
    const shape = svg("rect", { class: `shape is-${style}${fact.other ? " other" : ""}`, x, y, width, height });
    target.append(shape);
    if (choose && shown.names && fact.backend !== null) {
      const size = Math.max(...picture.size) / 45;
      const name = svg("text", { class: "name", x: x + size / 5, y: Math.max(y - size / 4, size), "font-size": size });
      name.textContent = `${gallery.classes[fact.kind]} ${fact.score.toFixed(2)}`;
      target.append(name);
    }
    if (choose) { fact.shape = shape; shape.addEventListener("click", () => choose(fact)); shape.addEventListener("pointerenter", () => choose(fact)); }
  }
  return drawn;
}

function counts(picture, shown) {
  const lines = shown.backends.map((backend) => {
    const { rows, missed } = judged(picture, backend, shown);
    const number = (style) => rows.filter((row) => colour(row) === style).length;
    const said = !gallery.judged ? text("js_seen_counts", { seen: rows.length }) : text("js_counts", { true: number("true"), false: number("false"), missed: missed.length });
    return shown.backends.length > 1 ? `${gallery.backends[backend]}: ${said}` : said;
  });
  return lines.join(" — ");
}

let open = null;
function redraw() {
  const shown = state();
  find("#score-shown").textContent = shown.score.toFixed(2);
  if (gallery.judged) {
    find("#iou-shown").textContent = shown.iou.toFixed(2);
    find("#iou-of").textContent = text("js_iou_" + shown.task);
  }
  all(".card").forEach((card, i) => {
    draw(find("svg", card), gallery.pictures[i], shown, null);
    find(".counts", card).textContent = counts(gallery.pictures[i], shown);
  });
  if (open !== null) view(open);
}

const named = (fact) => text(fact.is === "true" ? "js_true" : "js_" + fact.is);
const figure = (value) => value === undefined || value === null ? "–" : value.toFixed(2);

function say(fact) {
  const parts = [gallery.classes[fact.kind], fact.backend === null ? text("js_truth") : `${text("js_score")} ${fact.score.toFixed(3)}`];
  if (fact.backend !== null && fact.object) parts.push(`${text("js_iou_" + state().task)} ${fact.iou.toFixed(2)} (${gallery.classes[fact.object.kind]})`);
  if (gallery.judged) parts.push(named(fact));
  if (fact.backend !== null) parts.push(gallery.backends[fact.backend]);
  return parts.join(" · ");
}

function view(i) {
  open = i;
  const picture = gallery.pictures[i], viewer = find("#viewer"), shown = state();
  const stage = find(".stage.large", viewer), image = find(`[data-picture="${i}"] img`);
  const [width, height] = picture.size;
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.maxWidth = `calc(62dvh * ${width / height})`;
  const overlay = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (image) { const copy = image.cloneNode(); stage.replaceChildren(copy, overlay); } else stage.replaceChildren(find(`[data-picture="${i}"] .blank`).cloneNode(true), overlay);
  find("#viewer-name bdi").textContent = picture.name;
  find(".counts", viewer).textContent = counts(picture, shown);
  find("#said").textContent = text("js_hint");
  const rows = new Map();
  const choose = (fact) => {
    all(".is-chosen", viewer).forEach((each) => each.classList.remove("is-chosen"));
    fact.shape.classList.add("is-chosen");
    rows.get(fact).classList.add("is-chosen");
    find("#said").textContent = say(fact);
  };
  const drawn = draw(overlay, picture, shown, choose);
  const body = find("#facts tbody");
  body.replaceChildren(...drawn.map((fact) => {
    const row = document.createElement("tr"), style = styleOf(fact);
    const cells = [fact.backend === null ? text("js_object") : text("js_detection"), gallery.classes[fact.kind], figure(fact.score), ...(gallery.judged ? [figure(fact.backend === null ? null : fact.object ? fact.iou : null), named(fact)] : []), fact.backend === null ? text("js_truth") : gallery.backends[fact.backend]];
    cells.forEach((content, k) => {
      const cell = row.insertCell();
      cell.textContent = content;
      if (k === 2 || (gallery.judged && k === 3)) cell.className = "n";
      if (gallery.judged && k === 4) cell.className = `dot-${style}`;
      if (k === 1) cell.dir = "auto";
    });
    row.addEventListener("click", () => choose(fact));
    rows.set(fact, row);
    return row;
  }));
  if (!viewer.open) viewer.showModal();
}

function step(by) { if (open !== null) view((open + by + gallery.pictures.length) % gallery.pictures.length); }

function images() {
  all("[data-picture]").forEach((button) => button.addEventListener("click", () => view(Number(button.dataset.picture))));
  find("#controls").addEventListener("input", redraw);
  find("#controls").addEventListener("submit", (event) => event.preventDefault());
  const viewer = find("#viewer");
  find("#previous").addEventListener("click", () => step(-1));
  find("#next").addEventListener("click", () => step(1));
  find("#close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => { const last = open; open = null; if (last !== null) find(`[data-picture="${last}"]`).focus(); });
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
}

function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; }

if (remembered("theme")) root.dataset.theme = remembered("theme");
find("#theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; remember("theme", root.dataset.theme); });
find("#language").addEventListener("click", () => { const next = language === "en" ? "zh" : "en"; remember("language", next); speak(next); });
all("table.sortable").forEach(sortable);
if (gallery) images();
find("#filter")?.addEventListener("input", (event) => filtered(event.target));
speak(remembered("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
// A figure that was folded away is printed.
addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
})();
