// ---- list ----
const HEADS = [
  { name: "", kind: "view" },
  { name: "Rank", kind: "rank", of: (item) => item.rank },
  { name: "Score", kind: "score", of: (item) => item.properties.score },
  { name: "Area", kind: "area", of: (item) => item.properties.area_m2 },
  { name: "Reason", kind: "reason", of: (item) => cleared(item.properties.reason).toLowerCase() },
  { name: "Verdict", kind: "verdict", of: (item) => Object.keys(WORDS).indexOf(item.verdict) },
];
const rows = new Map();
const spoken = (item) => `Anomaly ${item.rank}, ${item.level}, score ${fixed(item.properties.score, 3)}, ${item.verdict}`;
const levelMark = (level) => el("span", { class: "level" }, el("i", { class: `dot-mark ${level}`, "aria-hidden": "true" }), level);
const picture = (shown, item, label) => {
  const [x, y, w, h] = shown.window;
  const parts = [svg("image", { x, y, width: w, height: h, href: shown.image, preserveAspectRatio: "none" })];
  if (item && item.path !== null) {
    const [d, extra] = outlines(item);
    parts.push(svg("path", { d, class: `casing${extra}` }), svg("path", { d, class: `outline ${item.level}${extra}` }));
  }
  return svg(
    "svg",
    { viewBox: `${x} ${y} ${w} ${h}`, ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }) },
    ...parts,
  );
};
const sketch = (item) => {
  if (item.view) return picture(item.view, item);
  if (!item.path) return null;
  const [x0, y0, x1, y1] = item.bounds;
  const side = Math.max(x1 - x0, y1 - y0, 1e-6) * 1.3;
  const [d, extra] = outlines(item);
  return svg(
    "svg",
    { class: "plain", "aria-hidden": "true", viewBox: `${(x0 + x1 - side) / 2} ${(y0 + y1 - side) / 2} ${side} ${side}` },
    svg("path", { d, class: `outline ${item.level}${extra}` }),
  );
};
const drawHeads = () => {
  byId("heads").replaceChildren(
    ...HEADS.map((head) => {
      if (!head.of) return el("td", { class: `c-${head.kind}` });
      const isSorted = state.sort === head.kind;
      const arrow = isSorted ? el("span", { "aria-hidden": "true" }, state.falling ? " ↓" : " ↑") : null;
      return el(
        "th",
        { scope: "col", class: `c-${head.kind}`, "aria-sort": isSorted && (state.falling ? "descending" : "ascending") },
        el(
          "button",
          { type: "button", "data-sort": head.kind, onclick: () => sortBy(head.kind) },
          el("span", { class: "word" }, head.name),
          head.kind === "verdict" ? el("span", { class: "short", "aria-hidden": "true" }, "✓✕") : null,
          arrow,
        ),
      );
    }),
  );
};
const sortBy = (kind) => {
  state.falling = state.sort === kind ? !state.falling : kind === "score" || kind === "area";
  state.sort = kind;
  drawList();
  document.querySelector(`[data-sort="${kind}"]`).focus();
};
const makeRow = (item) => {
  const p = item.properties;
  const where = manyScenes ? el("span", { class: "muted clamp" }, p.scene) : null;
  return el(
    "tr",
    { "data-anomaly-id": item.id, "data-index": item.index, onclick: () => pick(item.index, { follow: true }) },
    el("td", { class: "c-view" }, sketch(item)),
    el("td", { class: "c-rank" }, el("button", { type: "button", "aria-label": `Show anomaly ${item.rank}` }, item.rank)),
    el("td", { class: "c-score" }, el("span", { class: "score" }, fixed(p.score, 3)), levelMark(item.level)),
    el("td", { class: "c-area" }, area(p.area_m2)),
    el("td", { class: "c-reason" }, el("span", { class: "clamp" }, cleared(p.reason) || "–"), where),
    el("td", { class: "c-verdict" }),
  );
};
const compare = (of) => (a, b) => {
  const [x, y] = [of(a), of(b)];
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(x) || missing(y)) return missing(x) - missing(y);
  const order = x < y ? -1 : x > y ? 1 : 0;
  return (state.falling ? -order : order) || a.index - b.index;
};
const drawList = () => {
  const wanted = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = items.filter(
    (item) =>
      state.levels.has(item.level) &&
      (!state.verdict || item.verdict === state.verdict) &&
      wanted.every((word) => item.words.includes(word)),
  );
  if (!(state.sort === "rank" && manyScenes && !state.falling)) kept.sort(compare(HEADS.find((head) => head.kind === state.sort).of));
  state.visible = kept.map((item) => item.index);
  byId("list").replaceChildren(...kept.map((item) => rows.get(item.index)));
  byId("shown").textContent =
    kept.length === items.length ? plural(items.length, "anomaly", "anomalies") : `${kept.length} of ${items.length} anomalies`;
  byId("nothing").hidden = kept.length > 0;
  byId("nothing").textContent = items.length
    ? "No anomaly passes these filters."
    : "Nothing was called an anomaly. To see the most unusual places all the same, run again with --top 20.";
  drawHeads();
  drawView();
  drawButtons();
};
const drawVerdict = (item) => {
  const row = rows.get(item.index);
  row.setAttribute("data-verdict", item.verdict);
  row
    .querySelector(".c-verdict")
    .replaceChildren(
      el("span", { "aria-hidden": "true" }, MARKS[item.verdict]),
      el("span", { class: item.verdict === "open" ? "unseen" : "word" }, `${MARKS[item.verdict] && " "}${WORDS[item.verdict]}`),
    );
  const drawn = marks.get(item.index);
  if (!drawn) return;
  drawn.mark.classList.toggle("dismissed", item.verdict === "dismissed");
  drawn.label.classList.toggle("dismissed", item.verdict === "dismissed");
  drawn.outline.setAttribute("aria-label", spoken(item));
};

// ---- selection and verdicts ----
const isNarrow = window.matchMedia("(max-width: 900px)");
const say = (text) => {
  byId("said").textContent = text;
};
const current = () => items[state.picked];
const pick = (index, { follow = false, scroll = false } = {}) => {
  const before = state.picked;
  state.picked = index;
  for (const i of [before, index]) {
    const isPicked = i === index;
    const row = rows.get(i),
      drawn = marks.get(i);
    if (row) {
      row.classList.toggle("picked", isPicked);
      if (isPicked) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    if (drawn) {
      drawn.mark.classList.toggle("picked", isPicked);
      drawn.label.classList.toggle("picked", isPicked);
      if (isPicked) byId("outlines").append(drawn.mark);
    }
  }
  const item = current();
  if (!item) return;
  bringIntoView(item);
  drawView();
  drawDetail();
  if (scroll && !isNarrow.matches) rows.get(index).scrollIntoView({ block: "nearest" });
  if (follow && isNarrow.matches) byId("detail").scrollIntoView({ block: "start" });
  say(`${spoken(item)}. ${cleared(item.properties.reason)}`);
};
const step = (by) => {
  const place = state.visible.indexOf(state.picked);
  const next = place < 0 ? 0 : place + by;
  if (state.visible[next] !== undefined) pick(state.visible[next], { scroll: true });
};
const judge = (verdict) => {
  const item = current();
  if (!item || item.verdict === verdict) return;
  change([[item.index, verdict]]);
  say(`Anomaly ${item.rank}: ${verdict}`);
};
// One step of the history is one deed, be it a key or an import.
const change = (verdicts) => {
  if (!verdicts.length) return;
  history.push(verdicts.map(([index]) => [index, items[index].verdict]));
  setVerdicts(verdicts);
};
const setVerdicts = (verdicts) => {
  for (const [index, verdict] of verdicts) {
    items[index].verdict = verdict;
    drawVerdict(items[index]);
  }
  store.save();
  drawProgress();
  if (verdicts.length > 1) drawList();
  else drawButtons();
};
const undo = () => {
  const last = history.pop();
  if (!last) return;
  const [[index, verdict]] = last;
  if (last.length === 1) pick(index, { scroll: true });
  setVerdicts(last);
  say(last.length > 1 ? `${last.length} labels undone` : `Anomaly ${items[index].rank}: ${verdict}`);
};
const drawProgress = () => {
  const n = (verdict) => items.filter((item) => item.verdict === verdict).length;
  const [confirmed, dismissed] = [n("confirmed"), n("dismissed")];
  byId("progress").textContent = `${confirmed} confirmed, ${dismissed} dismissed, ${items.length - confirmed - dismissed} open`;
  const share = (count) => (100 * count) / Math.max(1, items.length);
  byId("meter").replaceChildren(
    svg("rect", { class: "confirmed", width: share(confirmed), height: 4 }),
    svg("rect", { class: "dismissed", x: share(confirmed), width: share(dismissed), height: 4 }),
  );
};
const drawButtons = () => {
  const item = current();
  const place = state.visible.indexOf(state.picked);
  byId("previous").disabled = place <= 0;
  byId("next").disabled = !state.visible.length || place === state.visible.length - 1;
  byId("undo").disabled = !history.length;
  for (const [id, verdict] of [
    ["confirm", "confirmed"],
    ["dismiss", "dismissed"],
  ]) {
    byId(id).disabled = !item;
    byId(id).classList.toggle("on", item?.verdict === verdict);
    byId(id).setAttribute("aria-pressed", item?.verdict === verdict);
  }
  byId("detail-verdict").textContent = item && item.verdict !== "open" ? `${MARKS[item.verdict]} ${WORDS[item.verdict]}` : "";
  byId("detail-verdict").className = `verdict ${item?.verdict}`;
};
const KEYS = { j: () => step(1), k: () => step(-1), c: () => judge("confirmed"), d: () => judge("dismissed"), u: undo };
for (const [id, key] of [
  ["next", "j"],
  ["previous", "k"],
  ["confirm", "c"],
  ["dismiss", "d"],
  ["undo", "u"],
])
  byId(id).addEventListener("click", KEYS[key]);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input[type=search], select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    byId("search").focus();
    event.preventDefault();
  } else if (Object.hasOwn(KEYS, event.key.toLowerCase())) {
    KEYS[event.key.toLowerCase()]();
    event.preventDefault();
  }
});
