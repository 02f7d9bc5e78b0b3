// What all panels draw with: the palette, elements, axes, dragging, keys, and the size of a panel.

export const COLORS = {
  mean: "#0072B2",
  consensus: "#D55E00",
  abstain: "#000000",
  "AND-mask": "#CC79A7",
  weighted: "#E69F00",
  neutral: "#5F5F5F",
  pale: "#E8E8E8",
  gain: "#CDEBDD",
  pays: "#F8CFC4",
  shared: "#009E73",
  crossing: "#CC79A7",
  nowhere: "#BDBDBD",
};
export const DASHES = { consensus: "9 5", abstain: "9 4 2 4", "AND-mask": "2 4", weighted: "12 3 3 3" };
export const ARC_COLORS = [
  "#000000",
  "#0074D9",
  "#FF4136",
  "#2ECC40",
  "#FFDC00",
  "#AAAAAA",
  "#F012BE",
  "#FF851B",
  "#7FDBFF",
  "#870C25",
];
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// An element of HTML; a function among the attributes listens to the event of that name.
export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

// An element of SVG.
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// A number on the grid low + k * step, without the dust of binary fractions.
export function snap(value, { low, high, step }) {
  const on = low + Math.round((value - low) / step) * step;
  return Number(clamp(on, low, high).toFixed(6));
}

// A number with its sign and three digits, or 0.
export function signed(value) {
  if (Math.abs(value) < 1e-9) return "0";
  return (value > 0 ? "+" : "−") + brief(Math.abs(value));
}

// A number in three digits.
export function brief(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "–";
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : Number(value.toPrecision(3));
  return String(text).replace("-", "−");
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

// From [from, to] to [low, high], linear; `.back` is its inverse.
export function scale(from, to, low, high) {
  const forward = (value) => low + ((value - from) / (to - from)) * (high - low);
  forward.back = (place) => from + ((place - low) / (high - low)) * (to - from);
  return forward;
}

// The same on a logarithmic axis.
export function logScale(from, to, low, high) {
  const inner = scale(Math.log10(from), Math.log10(to), low, high);
  return (value) => inner(Math.log10(clamp(value, from, to)));
}

// Axes with ticks of a plot in the box {x, y, width, height}: x and y are {scale, ticks, name}.
export function axes(box, x, y, size) {
  const { x: left, y: top, width, height } = box;
  const bottom = top + height;
  const group = svg("g", { class: "cp-axes", "font-size": size });
  group.append(svg("path", { d: `M${left},${top}V${bottom}H${left + width}` }));
  for (const [at, words] of x?.ticks ?? []) {
    const place = x.scale(at);
    group.append(svg("path", { d: `M${place},${bottom}v5` }));
    group.append(text(place, bottom + size * 1.15, words, { "text-anchor": "middle" }));
  }
  for (const [at, words] of y?.ticks ?? []) {
    const place = y.scale(at);
    group.append(svg("path", { d: `M${left},${place}h-5` }));
    group.append(text(left - 8, place + size * 0.35, words, { "text-anchor": "end" }));
  }
  if (x?.name) {
    const middle = { "text-anchor": "middle" };
    group.append(text(left + width / 2, bottom + size * (x.ticks?.length ? 2.2 : 1.2), x.name, middle));
  }
  if (y?.name) group.append(text(left, top - size * 0.45, y.name));
  return group;
}

export function text(x, y, words, attributes = {}) {
  return svg("text", { x, y, ...attributes }, String(words));
}

// An arrow as a path, with a head that ends at the point.
export function arrow(x1, y1, x2, y2, attributes, head = 9) {
  const length = Math.hypot(x2 - x1, y2 - y1);
  if (length < 1) return svg("circle", { cx: x1, cy: y1, r: 4, fill: attributes.stroke });
  const size = Math.min(head, length);
  const [u, v] = [(x2 - x1) / length, (y2 - y1) / length];
  const [bx, by] = [x2 - u * size, y2 - v * size];
  const half = size * 0.6;
  const tip = `M${x2},${y2}L${bx - v * half},${by + u * half}L${bx + v * half},${by - u * half}Z`;
  return svg(
    "g",
    {},
    svg("path", { d: `M${x1},${y1}L${bx},${by}`, fill: "none", ...attributes }),
    svg("path", { d: tip, fill: attributes.stroke }),
  );
}

// Call `move(event)` for each place of a press on the node, and `end` when it is let go.
export function onDrag(node, move, end = () => {}) {
  node.style.touchAction = "none";
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    node.setPointerCapture(event.pointerId);
    node.focus?.({ preventScroll: true });
    event.preventDefault();
    move(event);
  });
  node.addEventListener("pointermove", (event) => {
    if (node.hasPointerCapture(event.pointerId)) move(event);
  });
  for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, end);
}

const STEPS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowDown: [0, -1],
  ArrowUp: [0, 1],
  PageDown: [-10, -10],
  PageUp: [10, 10],
};

// Call `move(across, up)` for arrow keys, ten times as far with Shift or the page keys.
export function onKeys(node, move) {
  node.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const far = event.shiftKey ? 10 : 1;
    move(step[0] * far, step[1] * far);
  });
}

// Place in an SVG of a pointer's event.
export function placeIn(node, event) {
  const box = node.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

// A canvas as sharp as the screen, of CSS size width x height.
export function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

// Draw a grid of ARC colours with its top left corner at (x, y); `wrong` outlines cells.
export function drawGrid(pen, grid, x, y, cell, wrong = null) {
  grid.forEach((row, r) => {
    row.forEach((color, c) => {
      pen.fillStyle = ARC_COLORS[color];
      pen.fillRect(x + c * cell, y + r * cell, cell - 1, cell - 1);
    });
  });
  if (!wrong) return;
  pen.lineWidth = Math.max(2, cell / 9);
  grid.forEach((row, r) => {
    row.forEach((color, c) => {
      if (wrong[r]?.[c] === color) return;
      pen.strokeStyle = "white";
      pen.strokeRect(x + c * cell + 2, y + r * cell + 2, cell - 5, cell - 5);
      pen.strokeStyle = "#D0021B";
      pen.setLineDash([cell / 5, cell / 8]);
      pen.strokeRect(x + c * cell + 2, y + r * cell + 2, cell - 5, cell - 5);
      pen.setLineDash([]);
    });
  });
}

const LEAST = { width: 1150, height: 590 };

// Follow the size of a panel: calls back with {width, height, size, stacked}; one screen high,
// and with letters that grow with it. What is inside of the panel never changes these numbers.
export function onResize(el, callback) {
  let last = "";
  function measure() {
    const width = el.clientWidth;
    if (!width) return;
    const stacked = width < 880;
    const high = clamp(window.innerHeight - 112, stacked ? 420 : 540, 1400);
    const height = Math.min(high, stacked ? 1400 : width * 0.62);
    const size = clamp(18 * Math.min(width / LEAST.width, height / LEAST.height), 18, 40);
    const now = [width, height, size, stacked].join();
    if (now === last) return;
    last = now;
    callback({ width, height, size, stacked });
  }
  const observer = new ResizeObserver(measure);
  observer.observe(el);
  window.addEventListener("resize", measure);
  measure();
  return () => {
    observer.disconnect();
    window.removeEventListener("resize", measure);
  };
}
