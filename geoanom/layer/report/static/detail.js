// ---- detail ----
const drawDetail = () => {
  const item = current();
  byId("detail-title").textContent = item ? `Anomaly ${item.rank}` : "No anomaly";
  byId("detail-level").replaceChildren(...(item ? levelMark(item.level).childNodes : []));
  byId("detail-body").replaceChildren(...(item ? detailOf(item) : []));
  drawButtons();
};
const detailOf = (item) => {
  const [views, votes, profile] = [viewsOf(item), votesOf(item), profileOf(item)];
  const panes = profile ? [el("div", { class: "stack" }, views, votes), profile] : [views, votes].filter(Boolean);
  return [
    el("p", { class: "reason" }, cleared(item.properties.reason) || "No reason is given."),
    panes.length ? el("div", { class: "panes" }, ...panes) : null,
    figuresOf(item),
    el("details", {}, el("summary", {}, "All properties"), definitions(Object.entries(item.properties))),
  ].filter(Boolean);
};
const definitions = (entries) =>
  el(
    "dl",
    { class: "facts" },
    ...entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value === null ? "–" : String(value))]),
  );
const viewsOf = (item) => {
  if (!item.view && !item.near.length) return null;
  const here =
    item.view &&
    el(
      "figure",
      { class: "here" },
      picture(item.view, item, `The anomaly, ${length(item.view.window[2])} wide`),
      el("figcaption", {}, el("b", {}, "Here"), `${length(item.view.window[2])} wide`),
    );
  const near = item.near
    .map((tile, n) => {
      const shown = data.tiles?.[tile.tile];
      if (!shown) return null;
      return el(
        "figure",
        {},
        picture(shown, null, `Normal tile ${n + 1}`),
        el("figcaption", {}, el("b", {}, `Normal ${n + 1}`), `${length(shown.window[2])} wide`, el("br"), `${compact(tile.distance)} away`),
      );
    })
    .filter(Boolean);
  const named = item.near
    .filter((tile) => !data.tiles?.[tile.tile])
    .map((tile) => el("li", {}, `${tile.scene}, row ${tile.row}, column ${tile.col}, distance ${compact(tile.distance)}`));
  return el(
    "div",
    {},
    el("h3", {}, near.length ? "The place and its nearest normal tiles" : item.view ? "The place" : "Nearest normal tiles"),
    here || near.length ? el("div", { class: "views" }, here, ...near) : null,
    named.length ? el("ul", { class: "muted" }, ...named) : null,
  );
};
const votesOf = (item) => {
  const votes = Object.entries(item.properties).filter(([name, value]) => name.startsWith("score_") && isNumber(value));
  if (!votes.length) return null;
  votes.sort((a, b) => b[1] - a[1]);
  const cells = votes.flatMap(([name, value]) => {
    const bar = svg(
      "svg",
      { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: value >= data.vote ? "bar voted" : "bar", width: 100 * Math.min(1, Math.max(0, value)), height: 8 }),
      svg("path", { class: "least", d: `M${100 * data.vote},0v8` }),
    );
    return [el("span", {}, name.slice(6)), bar, el("span", { class: "number" }, fixed(value, 3))];
  });
  return el("div", {}, el("h3", {}, `Detectors, voting from ${data.vote} on`), el("div", { class: "votes" }, ...cells));
};
const figuresOf = (item) => {
  const p = item.properties;
  const place = isNumber(p.lat) && isNumber(p.lon) ? `${fixed(p.lat, 5)}, ${fixed(p.lon, 5)}` : null;
  const told = [
    ["Score", fixed(p.score, 4)],
    ["p-value", probability(p.p_value)],
    ["q-value", probability(p.q_value)],
    ["Area", isNumber(p.area_m2) ? area(p.area_m2) : null],
    ["Tiles", isNumber(p.n_tiles) ? p.n_tiles : null],
    ["Valid", isNumber(p.valid_fraction) ? `${compact(100 * p.valid_fraction, 3)} %` : null],
    ["Reconstruction", isNumber(p.recon_error) ? compact(p.recon_error, 4) : null],
    ["Latitude, longitude", place],
    ["Acquired", cleared(p.datetime) || null],
    ["Scene", manyScenes ? cleared(p.scene) : null],
  ].filter(([, value]) => value !== null);
  const zoom = item.bounds
    ? el(
        "div",
        {},
        el("dt", {}, "Map"),
        el("dd", {}, el("button", { type: "button", class: "link", onclick: () => zoomTo(item) }, "Zoom to it")),
      )
    : null;
  return el("dl", { class: "figures" }, ...told.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))), zoom);
};

// ---- plots ----
const ticksOf = (low, high, n) => {
  const raw = (high - low) / n,
    power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let t = Math.ceil(low / size); t * size <= high + size * 1e-9; t++) ticks.push(t * size);
  return ticks;
};
const key = (...entries) =>
  el(
    "div",
    { class: "key", "aria-hidden": "true" },
    ...entries.map(([shape, text]) => el("span", {}, svg("svg", { class: "plot-key plot", viewBox: "0 0 18 9" }, shape), text)),
  );
const profileOf = (item) => {
  const bands = data.bands || [];
  if (!item.means || !bands.length) return null;
  const W = 340,
    H = 150,
    x0 = 46,
    y0 = 8,
    y1 = H - 22;
  const values = bands.flatMap((band, i) => [band.low, band.high, item.means[i]]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (high - low < 1e-9) high = low + 1;
  const px = (i) => (bands.length === 1 ? (x0 + W) / 2 : x0 + 14 + (i * (W - x0 - 28)) / (bands.length - 1));
  const py = (value) => y1 - ((value - low) / (high - low)) * (y1 - y0);
  const line = (of) => bands.map((band, i) => `${i ? "L" : "M"}${px(i).toFixed(1)},${py(of(band, i)).toFixed(1)}`).join("");
  const grid = ticksOf(low, high, 4).flatMap((t) => [
    svg("path", { class: "axis", d: `M${x0},${py(t)}H${W}` }),
    svg("text", { x: x0 - 7, y: py(t) + 4, "text-anchor": "end" }, compact(t, 4)),
  ]);
  const longest = Math.max(...bands.map((band) => Math.min(12, band.name.length)));
  const every = Math.ceil((bands.length * (7 * longest + 10)) / (W - x0));
  const names = bands.map((band, i) =>
    i % every ? null : svg("text", { x: px(i), y: H - 5, "text-anchor": "middle" }, band.name.slice(0, 12)),
  );
  const range =
    bands.length === 1
      ? svg("rect", { class: "range", x: px(0) - 20, width: 40, y: py(bands[0].high), height: py(bands[0].low) - py(bands[0].high) })
      : svg("path", {
          class: "range",
          d: `${line((band) => band.high)}${bands
            .map((band, i) => `L${px(i).toFixed(1)},${py(band.low).toFixed(1)}`)
            .reverse()
            .join("")}Z`,
        });
  const points = bands.length > 16 ? [] : bands.map((_, i) => svg("circle", { class: "point", r: 4, cx: px(i), cy: py(item.means[i]) }));
  const told = bands
    .slice(0, 12)
    .map(
      (band, i) =>
        `${band.name} ${compact(item.means[i])} against ${compact(band.low)} to ${compact(band.high)}, median ${compact(band.middle)}`,
    )
    .join("; ");
  const middle =
    bands.length === 1
      ? svg("path", { class: "middle", d: `M${px(0) - 20},${py(bands[0].middle)}h40` })
      : svg("path", { class: "middle", d: line((band) => band.middle) });
  const plot = svg(
    "svg",
    { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Band profile. ${told}` },
    ...grid,
    range,
    middle,
    svg("path", { class: "here", d: line((_, i) => item.means[i]) }),
    ...points,
    ...names,
  );
  return el(
    "div",
    {},
    el("h3", {}, "Mean of each band against the scene"),
    plot,
    key(
      [svg("path", { class: "here", d: "M0,4.5h18" }), "here"],
      [svg("path", { class: "middle", d: "M0,4.5h18" }), "scene's median"],
      [svg("rect", { class: "range", width: 18, height: 9 }), "1st to 99th percentile"],
    ),
  );
};
const histogramOf = () => {
  const { anomalies, tiles, threshold } = data.histogram;
  const most = Math.max(...anomalies, ...tiles);
  if (!most) return null;
  const W = 420,
    H = 170,
    x0 = 40,
    y0 = 20,
    y1 = H - 34;
  const px = (score) => x0 + score * (W - x0 - 8);
  const py = (n) => (n > 0 ? y1 - ((Math.log10(n) + 0.3) / (Math.log10(most) + 0.3)) * (y1 - y0) : y1);
  const wide = (px(1) - px(0)) / anomalies.length;
  const levelOf = (bin) => data.levels.find((level) => (bin + 0.5) / anomalies.length >= level.least)?.name || "unknown";
  const bars = (counts, name) =>
    counts.map((n, i) =>
      n ? svg("rect", { class: name || levelOf(i), x: px(i / counts.length) + 0.5, width: wide - 1, y: py(n), height: y1 - py(n) }) : null,
    );
  const ticks = [];
  for (let n = 1; n <= most; n *= 10)
    ticks.push(
      svg("path", { class: "axis", d: `M${x0},${py(n)}H${W - 8}` }),
      svg("text", { x: x0 - 7, y: py(n) + 4, "text-anchor": "end" }, n),
    );
  const scores = [0, 0.2, 0.4, 0.6, 0.8, 1].map((s) => svg("text", { x: px(s), y: y1 + 15, "text-anchor": "middle" }, s));
  const cut = isNumber(threshold)
    ? [
        svg("path", { class: "cut", d: `M${px(threshold)},${y0 - 6}V${y1}` }),
        svg("text", { class: "told", x: px(threshold) + 6, y: y0 - 6 }, `called from ${fixed(threshold, 3)} on`),
      ]
    : [];
  const called = isNumber(threshold) ? `, called from a score of ${fixed(threshold, 3)} on` : "";
  const label = `Histogram of scores. ${plural(items.length, "anomaly", "anomalies")} shown${called}.`;
  const plot = svg(
    "svg",
    { class: "plot", id: "histogram", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label },
    ...ticks,
    svg("path", { class: "axis", d: `M${x0},${y1}H${W - 8}` }),
    ...bars(tiles, "tiles"),
    ...bars(anomalies),
    ...cut,
    ...scores,
    svg("text", { x: (px(0) + px(1)) / 2, y: H - 4, "text-anchor": "middle" }, "score"),
  );
  const legend = [...data.levels].map((level) => [svg("rect", { class: level.name, width: 18, height: 9 }), level.name]);
  if (tiles.some(Boolean)) legend.push([svg("rect", { class: "tiles", width: 18, height: 9 }), "all tiles"]);
  return el("div", {}, el("h3", {}, "Scores, counted on a logarithmic scale"), plot, key(...legend));
};
const ruleOf = ({ rule, value }) => {
  if (rule === "top") return `the ${value} most unusual places`;
  if (rule === "fdr") return `false discovery rate ${value}`;
  return rule === "contamination"
    ? `${compact(100 * value)} % of the tiles`
    : [rule, value].filter((part) => part !== undefined).join(" ") || "unknown";
};
const FACTS = {
  version: "geoanom",
  model_id: "Model",
  config_digest: "Settings",
  tiles_scored: "Tiles scored",
  tiles_masked: "Tiles masked",
  tile_size: "Tile, pixels",
  stride: "Step, pixels",
};
const drawAbout = () => {
  const { facts, threshold, scenes, n_scenes } = data.provenance;
  const told = [
    ["Threshold", ruleOf(threshold)],
    ...Object.entries(facts).map(([name, value]) => [Object.hasOwn(FACTS, name) ? FACTS[name] : name, value ?? "–"]),
  ];
  const list = scenes.map((scene) =>
    el(
      "div",
      { class: "scene-entry" },
      el("b", {}, cleared(scene.name) || "unnamed"),
      scene.datetime ? ` · ${scene.datetime}` : null,
      scene.size ? ` · ${scene.size}` : null,
      scene.crs ? ` · ${scene.crs}` : null,
      isNumber(scene.tiles_scored)
        ? el(
            "span",
            { class: "muted" },
            ` · ${plural(scene.tiles_scored, "tile")} scored${scene.tiles_masked ? `, ${scene.tiles_masked} masked` : ""}`,
          )
        : null,
      el("div", { class: "hash muted" }, scene.digest ? `SHA-256 ${scene.digest}` : null),
      scene.warnings ? el("div", { class: "muted" }, scene.warnings) : null,
    ),
  );
  if (n_scenes > scenes.length) list.push(el("p", { class: "muted" }, `and ${n_scenes - scenes.length} more`));
  byId("about").replaceChildren(
    el("h2", {}, "About this layer"),
    ...data.notes.map((note) => el("p", { class: "note" }, note)),
    el("div", { class: "panes" }, histogramOf(), el("div", {}, el("h3", {}, "Where it comes from"), definitions(told))),
    scenes.length ? el("details", { open: scenes.length === 1 }, el("summary", {}, plural(n_scenes, "scene")), ...list) : "",
  );
};
