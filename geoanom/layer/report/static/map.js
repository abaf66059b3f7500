// ---- map ----
const PAD = 14;
const map = byId("map"),
  world = byId("world");
const [left, top, right, bottom] = data.frame.bounds;
const view = { x: (left + right) / 2, y: (top + bottom) / 2, k: 1, fit: 1, width: 1, height: 1 };
const screen = (x, y) => [(x - view.x) * view.k + view.width / 2, (y - view.y) * view.k + view.height / 2];
const marks = new Map();
const outlines = (item) => {
  const isDot = item.path === "";
  const d = isDot ? `M${item.bounds[0]},${item.bounds[1]}h0` : item.path;
  const extra = isDot ? " dot" : "";
  return [d, extra];
};
const drawWorld = () => {
  const size = { x: left, y: top, width: right - left, height: bottom - top };
  if (data.quicklook) byId("pictures").append(svg("image", { ...size, href: data.quicklook, preserveAspectRatio: "none" }));
  if (data.heatmap) {
    const clip = svg("clipPath", { id: "extent" }, svg("rect", size));
    const heat = svg("image", {
      class: "heat",
      x: 0,
      y: 0,
      width: data.heatmap.width,
      height: data.heatmap.height,
      href: data.heatmap.image,
      preserveAspectRatio: "none",
      "clip-path": "url(#extent)",
    });
    byId("pictures").append(clip, heat);
    const opacity = byId("opacity");
    const shade = () => heat.setAttribute("opacity", opacity.value / 100);
    opacity.addEventListener("input", shade);
    byId("opacity-box").hidden = false;
    shade();
  }
  for (const item of [...items].reverse()) {
    if (item.path === null || item.path === undefined) continue;
    const [d, extra] = outlines(item);
    const outline = svg("path", {
      d,
      class: `outline ${item.level}${extra}`,
      "data-anomaly-id": item.id,
      "data-index": item.index,
      role: "button",
      tabindex: -1,
      "aria-label": spoken(item),
      onclick: () => {
        if (!dragged) pick(item.index, { scroll: true });
      },
    });
    const mark = svg("g", {}, svg("path", { d, class: `casing${extra}` }), outline);
    const label = svg("text", { "text-anchor": "start" }, item.rank);
    byId("outlines").append(mark);
    byId("labels").append(label);
    marks.set(item.index, { mark, outline, label });
  }
};
const drawView = () => {
  world.setAttribute("transform", `translate(${view.width / 2 - view.x * view.k} ${view.height / 2 - view.y * view.k}) scale(${view.k})`);
  const taken = [];
  const visible = new Set(state.visible);
  const order = [...items].sort((a, b) => (b.index === state.picked) - (a.index === state.picked) || a.index - b.index);
  for (const item of order) {
    const drawn = marks.get(item.index);
    if (!drawn) continue;
    const isShown = visible.has(item.index);
    drawn.mark.setAttribute("display", isShown ? "inline" : "none");
    const [x, y] = screen(item.bounds[2], item.bounds[1]);
    const box = { x: x + 4, y: y - 5, w: 8 * String(item.rank).length + 8, h: 17 };
    const free =
      isShown &&
      x > -20 &&
      x < view.width &&
      y > 0 &&
      y < view.height + 15 &&
      !taken.some((t) => box.x < t.x + t.w && t.x < box.x + box.w && box.y < t.y + t.h && t.y < box.y + box.h);
    drawn.label.setAttribute("display", free ? "inline" : "none");
    if (!free) continue;
    taken.push(box);
    drawn.label.setAttribute("x", box.x);
    drawn.label.setAttribute("y", box.y + 11);
  }
  drawFurniture();
};
const drawFurniture = () => {
  const parts = [];
  const bar = Math.min(150, view.width * 0.3) / view.k;
  const unit = isNumber(data.frame.metres) ? data.frame.metres : 1;
  const power = 10 ** Math.floor(Math.log10(bar * unit));
  const round = [5, 2, 1].map((n) => n * power).find((n) => n <= bar * unit) || power;
  const w = (round / unit) * view.k;
  const y = view.height - 18,
    x = 16;
  const d = `M${x},${y - 6}v6h${w}v-6`;
  const told = isNumber(data.frame.metres) ? metres(round) : `${round} px`;
  parts.push(svg("path", { class: "under", d }), svg("path", { class: "over", d }), svg("text", { x: x + w + 8, y: y + 2 }, told));
  if (isNumber(data.frame.north)) {
    const needle = svg(
      "g",
      { transform: `translate(${view.width - 28} 34) rotate(${data.frame.north})` },
      svg("path", { class: "needle", d: "M0,-17 L6,8 L0,4 L-6,8 Z" }),
    );
    parts.push(needle, svg("text", { x: view.width - 28, y: 62, "text-anchor": "middle" }, "N"));
  }
  byId("furniture").replaceChildren(...parts);
};
const bounded = () => {
  view.k = Math.min(Math.max(view.k, view.fit), view.fit * 400);
  view.x = within(view.x, left, right, view.width);
  view.y = within(view.y, top, bottom, view.height);
};
// What fits stays in the middle; of what does not, no more than a margin is empty.
const within = (middle, low, high, side) => {
  const half = (side / 2 - PAD) / view.k;
  return high - low <= 2 * half + 1e-9 ? (low + high) / 2 : Math.min(Math.max(middle, low + half), high - half);
};
const showAll = () => {
  view.k = view.fit;
  [view.x, view.y] = [(left + right) / 2, (top + bottom) / 2];
  drawView();
};
const resize = () => {
  const { width, height } = map.getBoundingClientRect();
  const whole = view.k === view.fit;
  [view.width, view.height] = [width, height];
  view.fit = Math.min((width - 2 * PAD) / (right - left), (height - 2 * PAD) / (bottom - top)) || 1;
  if (whole) view.k = view.fit;
  bounded();
  drawView();
};
const zoomAt = (factor, px = view.width / 2, py = view.height / 2) => {
  const [x, y] = [(px - view.width / 2) / view.k + view.x, (py - view.height / 2) / view.k + view.y];
  view.k *= factor;
  bounded();
  [view.x, view.y] = [x - (px - view.width / 2) / view.k, y - (py - view.height / 2) / view.k];
  bounded();
  drawView();
};
const bringIntoView = (item) => {
  if (!item.bounds) return;
  const [x0, y0] = screen(item.bounds[0], item.bounds[1]);
  const [x1, y1] = screen(item.bounds[2], item.bounds[3]);
  if (x0 < 20 || y0 < 20 || x1 > view.width - 20 || y1 > view.height - 40) {
    [view.x, view.y] = [(item.bounds[0] + item.bounds[2]) / 2, (item.bounds[1] + item.bounds[3]) / 2];
    bounded();
  }
};
const zoomTo = (item) => {
  if (!item.bounds) return;
  const [x0, y0, x1, y1] = item.bounds;
  [view.x, view.y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  view.k = Math.min(view.width, view.height) / Math.max(x1 - x0, y1 - y0, data.quicklook ? 40 : (right - left) / 50) / 2.2;
  bounded();
  drawView();
};
const placeOf = (event) => {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const pointers = new Map();
let dragged = false,
  gap = 0;
const spread = () => {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
};
map.addEventListener("pointerdown", (event) => {
  pointers.set(event.pointerId, placeOf(event));
  if (pointers.size === 1) dragged = false;
  if (pointers.size === 2) gap = spread();
});
map.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = placeOf(event);
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  if (!dragged && Math.hypot(dx, dy) < 4) return;
  if (!dragged) map.setPointerCapture(event.pointerId);
  dragged = true;
  pointers.set(event.pointerId, now);
  view.x -= dx / view.k / pointers.size;
  view.y -= dy / view.k / pointers.size;
  bounded();
  if (pointers.size === 2) {
    const wide = spread();
    const [a, b] = [...pointers.values()];
    if (gap) zoomAt(wide / gap, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    gap = wide;
  } else drawView();
});
for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, (event) => pointers.delete(event.pointerId));
map.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...placeOf(event));
  },
  { passive: false },
);
map.addEventListener("dblclick", (event) => {
  zoomAt(2, ...placeOf(event));
});
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
map.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (move) {
    view.x += (move[0] * 60) / view.k;
    view.y += (move[1] * 60) / view.k;
    bounded();
    drawView();
  } else if (event.key === "+" || event.key === "=") zoomAt(1.4);
  else if (event.key === "-") zoomAt(1 / 1.4);
  else if (event.key === "0") showAll();
  else return;
  event.preventDefault();
});
byId("zoom-in").addEventListener("click", () => zoomAt(1.6));
byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.6));
byId("zoom-all").addEventListener("click", showAll);
