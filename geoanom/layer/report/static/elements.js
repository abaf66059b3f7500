const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LEVELS = data.levels.map((level) => level.name);
const WORDS = { open: "open", confirmed: "confirmed", dismissed: "dismissed" };
const MARKS = { open: "", confirmed: "✓", dismissed: "✕" };

// ---- elements: every value becomes text, never markup ----
const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    ...children
      .flat()
      .filter((child) => child !== null && child !== undefined)
      .map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))),
  );
  return node;
};
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// ---- numbers as people write them ----
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits).replace("-", "−") : "–");
const compact = (value, digits = 3) => (isNumber(value) ? String(Number(value.toPrecision(digits))).replace("-", "−") : "–");
const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const probability = (value) => {
  if (!isNumber(value)) return "–";
  if (value === 0 || value >= 0.001) return compact(value, 2);
  const [mantissa, exponent] = value.toExponential(1).split("e");
  return `${mantissa} × 10${[...exponent].map((c) => SUPERSCRIPT[c] ?? "").join("")}`;
};
const area = (value) => {
  if (!isNumber(value)) return "–";
  if (value >= 1e7) return `${fixed(value / 1e6, value < 1e8 ? 1 : 0)} km²`;
  return value >= 1e4 ? `${fixed(value / 1e4, 1)} ha` : `${Math.round(value)} m²`;
};
const metres = (value) => (value >= 1000 ? `${compact(value / 1000, 2)} km` : `${compact(value, 2)} m`);
const length = (pixels) => (isNumber(data.frame.metres) ? metres(pixels * data.frame.metres) : `${Math.round(pixels)} px`);
const plural = (n, one, many) => `${n} ${n === 1 ? one : many || `${one}s`}`;
const cleared = (text) => String(text ?? "").trim();

// ---- anomalies and their verdicts ----
const items = data.anomalies.map((anomaly, index) => {
  const p = anomaly.properties;
  const level = LEVELS.includes(p.level) ? p.level : "unknown";
  const words = [anomaly.id, p.reason, p.scene, p.bands, p.voters, p.level, p.datetime].map(cleared).join(" ").toLowerCase();
  return { ...anomaly, index, level, words, verdict: "open", rank: isNumber(p.rank) ? p.rank : index + 1 };
});
const manyScenes = new Set(items.map((item) => item.properties.scene)).size > 1;
const history = [];
const store = {
  key: `geoanom-report-${data.digest}`,
  load() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) || "[]");
      for (const [index, verdict] of kept) if (items[index] && Object.hasOwn(WORDS, verdict)) items[index].verdict = verdict;
    } catch {
      /* a browser that keeps nothing loses nothing else */
    }
  },
  save() {
    try {
      localStorage.setItem(
        this.key,
        JSON.stringify(items.filter((item) => item.verdict !== "open").map((item) => [item.index, item.verdict])),
      );
    } catch {
      /* as above */
    }
  },
};
store.load();
const state = {
  picked: items.length ? 0 : -1,
  sort: "rank",
  falling: false,
  words: "",
  verdict: "",
  levels: new Set([...LEVELS, "unknown"]),
  visible: [],
};
