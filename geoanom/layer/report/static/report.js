// ---- beginning ----
const where = data.scene ?? (data.provenance.scenes.length === 1 ? data.provenance.scenes[0].name : null);
byId("title").textContent = where ? cleared(where) : data.provenance.n_scenes ? plural(data.provenance.n_scenes, "scene") : "Anomalies";
const unplaced = items.filter((item) => item.path === null).length;
byId("summary").textContent = [
  data.total === items.length ? plural(items.length, "anomaly", "anomalies") : `${items.length} of ${data.total} anomalies`,
  ruleOf(data.provenance.threshold) === "unknown" ? null : ruleOf(data.provenance.threshold),
  data.provenance.facts.model_id ? `model ${data.provenance.facts.model_id}` : null,
  unplaced ? `${unplaced} without a place on the map` : null,
]
  .filter(Boolean)
  .join(" · ");
document.title = `${byId("title").textContent} – geoanom report`;
for (const level of [...LEVELS, ...(items.some((item) => item.level === "unknown") ? ["unknown"] : [])]) {
  const n = items.filter((item) => item.level === level).length;
  byId("legend").append(el("li", {}, levelMark(level)));
  const toggle = el(
    "button",
    { type: "button", "aria-pressed": "true", "data-level": level },
    el("i", { class: `dot-mark ${level}`, "aria-hidden": "true" }),
    `${level} ${n}`,
  );
  toggle.addEventListener("click", () => {
    const isOn = !state.levels.delete(level);
    if (isOn) state.levels.add(level);
    toggle.setAttribute("aria-pressed", isOn);
    drawList();
  });
  byId("level-filters").append(toggle);
}
byId("search").addEventListener("input", (event) => {
  state.words = event.target.value;
  drawList();
});
byId("verdicts").addEventListener("change", (event) => {
  state.verdict = event.target.value;
  drawList();
});
for (const item of items) rows.set(item.index, makeRow(item));
byId("map-panel").hidden = !items.length && !data.quicklook;
drawWorld();
items.forEach(drawVerdict);
drawList();
resize();
drawProgress();
drawAbout();
if (items.length) pick(state.visible[0] ?? 0);
else drawDetail();
new ResizeObserver(resize).observe(map);
