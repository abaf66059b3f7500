// ---- labels: out ----
const LABEL_FIELDS = ["anomaly_id", "verdict", "lon", "lat", "scene"];
const modelId = cleared(data.provenance.facts.model_id);
const labels = () =>
  items
    .filter((item) => item.verdict !== "open")
    .map((item) => ({
      anomaly_id: item.id,
      verdict: item.verdict,
      lon: item.properties.lon ?? null,
      lat: item.properties.lat ?? null,
      scene: item.properties.scene ?? null,
    }));
const save = (text, type, suffix) => {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const model = modelId.replace(/[^\w-]/g, "").slice(0, 16) || "layer";
  el("a", { href: address, download: `labels-${model}.${suffix}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say(`${plural(labels().length, "label")} downloaded`);
};
const guarded = (value) => {
  const text = cleared(value);
  return /^[=+\-@\t]/.test(text) ? `'${text}` : text; // a spreadsheet would take it for a formula
};
const cell = (value) => {
  if (isNumber(value)) return String(value);
  const safe = guarded(value);
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
byId("download").addEventListener("click", () =>
  save(
    `${JSON.stringify({ geoanom_labels: 1, model_id: data.provenance.facts.model_id ?? null, labels: labels() }, null, 1)}\n`,
    "application/json",
    "json",
  ),
);
byId("download-csv").addEventListener("click", () =>
  save(
    [LABEL_FIELDS, ...labels().map((label) => LABEL_FIELDS.map((name) => cell(label[name])))].map((row) => `${row.join(",")}\r\n`).join(""),
    "text/csv",
    "csv",
  ),
);

// ---- labels: in. A file is read whole or refused whole, and what it says is only ever text ----
const MOST_LABEL_BYTES = 16e6;
class Refusal extends Error {}
const NO_LABELS = "it is no file of labels as this page downloads them";
const clipped = (text, most = 60) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const labelsIn = async (file) => {
  if (file.size > MOST_LABEL_BYTES) throw new Refusal(`it has ${compact(file.size / 1e6)} MB, and no labels have more than 16`);
  const text = await file.text();
  return text.trimStart().startsWith("{") ? jsonLabels(text) : csvLabels(text);
};
const jsonLabels = (text) => {
  let tree;
  try {
    tree = JSON.parse(text);
  } catch {
    throw new Refusal("it is cut off or damaged");
  }
  if (!isNumber(tree.geoanom_labels) || !Array.isArray(tree.labels)) throw new Refusal(NO_LABELS);
  if (tree.geoanom_labels !== 1) throw new Refusal(`it is of version ${tree.geoanom_labels}, and this page knows version 1`);
  const theirs = typeof tree.model_id === "string" ? cleared(tree.model_id) : "";
  if (theirs && modelId && theirs !== modelId)
    throw new Refusal(`it belongs to another layer: its model is ${clipped(theirs, 24)}, and this one is of ${clipped(modelId, 24)}`);
  return { given: tree.labels.map((label) => [label?.anomaly_id, label?.verdict]), keyOf: (item) => item.id };
};
const csvLabels = (text) => {
  const [head = [], ...rows] = csvRows(text);
  const [id, verdict] = ["anomaly_id", "verdict"].map((name) => head.indexOf(name));
  if (id < 0 || verdict < 0) throw new Refusal(NO_LABELS);
  return { given: rows.map((row) => [row[id], row[verdict]]), keyOf: (item) => guarded(item.id) };
};
// RFC 4180: quotes are doubled inside quotes, and a quoted cell may have several lines.
const csvRows = (text) => {
  const rows = [[]];
  let end = 0;
  for (const [found, quoted, plain, mark] of text.matchAll(/(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/gy)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    end += found.length;
    if (mark && mark !== ",") rows.push([]);
  }
  if (end < text.length) throw new Refusal("it is cut off or damaged");
  return rows.filter((row) => row.some(Boolean));
};
const isText = (value) => typeof value === "string" && value !== "";
const takeIn = ({ given, keyOf }) => {
  const places = new Map();
  for (const item of items) if (item.id) places.set(keyOf(item), [...(places.get(keyOf(item)) ?? []), item]);
  const [wanted, count] = [new Map(), { unknown: 0, unread: 0 }];
  for (const [id, verdict] of given) {
    if (!isText(id) || !isText(verdict) || !Object.hasOwn(WORDS, verdict)) count.unread += 1;
    else if (!places.has(id)) count.unknown += 1;
    else for (const item of places.get(id)) wanted.set(item.index, verdict);
  }
  if (!given.length) throw new Refusal("it has no labels");
  if (!wanted.size && count.unknown) throw new Refusal("it belongs to another layer: no anomaly that it names is on this page");
  if (!wanted.size) throw new Refusal("none of its labels can be read");
  const changes = [...wanted].filter(([index, verdict]) => items[index].verdict !== verdict);
  const replaced = changes.filter(([index]) => items[index].verdict !== "open").length;
  change(changes);
  drawList();
  return { ...count, n: wanted.size, same: wanted.size - changes.length, replaced };
};
const toldOf = ({ n, same, replaced, unknown, unread }) =>
  [
    `${plural(n, "label")} imported`,
    replaced ? `${replaced} in place of another verdict` : null,
    same ? `${same} as here already` : null,
    unknown ? `${plural(unknown, "anomaly", "anomalies")} unknown to this page left out` : null,
    unread ? `${unread} unreadable left out` : null,
  ]
    .filter(Boolean)
    .join(", ");
const tell = (text, isBad = false) => {
  byId("message").hidden = !text;
  byId("message").classList.toggle("bad", isBad);
  byId("message-text").textContent = text;
  say(text);
};
const importLabels = async (file) => {
  const name = clipped(cleared(file.name)) || "the file";
  try {
    const taken = takeIn(await labelsIn(file));
    tell(`${name}: ${toldOf(taken)}.${taken.n > taken.same ? " Undo takes it back." : ""}`);
  } catch (error) {
    tell(`${name} was not imported: ${error instanceof Refusal ? error.message : "it cannot be read"}.`, true);
  }
};
byId("import").addEventListener("click", () => byId("import-file").click());
byId("import-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await importLabels(file);
  event.target.value = ""; // so that the same file can be imported again
});
byId("message-close").addEventListener("click", () => {
  tell("");
  byId("import").focus();
});
