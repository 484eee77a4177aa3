// What the widgets share: the page's language and colours, pointers, keys, sizes; then numbers in bytes, networks, images.

const STYLE = `
:host {
  display: block; container-type: inline-size; max-width: 42rem; margin: 0.5rem auto; color: inherit; line-height: 1.4; text-align: left;
  --blue: #0072b2; --vermilion: #d55e00; --green: #009e73; --orange: #e69f00; --paper: #ffffff;
  --blue-text: #006299; --vermilion-text: #a84800; --green-text: #00704f;
}
:host([data-theme="dark"]) {
  color-scheme: dark;
  --blue: #56b4e9; --vermilion: #ff8c42; --green: #2fcf9f; --orange: #f0b840; --paper: #14181e;
  --blue-text: #7cc6f0; --vermilion-text: #ffa365; --green-text: #4cdcb0;
}
* { box-sizing: border-box; }
.figure { position: relative; }
canvas { position: absolute; }
svg { position: relative; display: block; width: 100%; overflow: visible; user-select: none; -webkit-user-select: none; }
text, .math {
  font-family: "STIX Two Text", "STIX Two Math", "Latin Modern Roman", "Cambria Math", Cambria, "Times New Roman", serif;
}
text { fill: currentColor; font-size: 15px; }
.tick { font-size: 12px; fill-opacity: 0.75; font-family: inherit; font-variant-numeric: tabular-nums; }
i, .i { font-style: italic; }
sub { font-size: 0.7em; line-height: 0; }
.axis { stroke: currentColor; stroke-opacity: 0.4; fill: none; shape-rendering: crispEdges; }
.handle { cursor: grab; outline: none; }
.handle:active { cursor: grabbing; }
.handle .ring { fill: none; stroke: currentColor; stroke-width: 2; opacity: 0; }
.handle:focus-visible .ring { opacity: 1; }
.hit { fill: transparent; stroke: none; }
.values { display: flex; flex-wrap: wrap; gap: 0.35rem 1.6rem; margin: 0.7rem 0 0.5rem; align-items: baseline; }
.value { display: inline-flex; align-items: baseline; gap: 0.5em; white-space: nowrap; }
.number { font-variant-numeric: tabular-nums; font-weight: 600; }
.math { font-size: 1.08em; }
.controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(10rem, 100%), 1fr)); gap: 0 1.4rem; }
@container (min-width: 30rem) { .controls { grid-template-columns: 1fr 1fr; column-gap: 2.2rem; } }
.control { display: flex; white-space: nowrap; align-items: center; gap: 0.6rem; min-height: 2.75rem; }
.control .symbol { min-width: 1em; }
.control .number { min-width: 2.3em; text-align: right; font-weight: 400; }
input[type="range"] {
  appearance: none; -webkit-appearance: none; flex: 1; min-width: 0; height: 2.75rem; margin: 0; padding: 0;
  background: none; cursor: pointer; border-radius: 4px; color: inherit;
}
input[type="range"]::-webkit-slider-runnable-track { height: 3px; border-radius: 2px; background: var(--track); }
input[type="range"]::-moz-range-track { height: 3px; border-radius: 2px; background: var(--track); }
input[type="range"]::-webkit-slider-thumb {
  -webkit-appearance: none; width: 18px; height: 18px; margin-top: -7.5px; border-radius: 50%;
  background: var(--blue); border: 3px solid var(--paper); box-shadow: 0 0 0 1.5px var(--blue);
}
input[type="range"]::-moz-range-thumb {
  width: 12px; height: 12px; border-radius: 50%;
  background: var(--blue); border: 3px solid var(--paper); box-shadow: 0 0 0 1.5px var(--blue);
}
input[type="range"] { --track: color-mix(in srgb, currentColor 28%, transparent); }
button {
  font: inherit; color: inherit; background: none; cursor: pointer; min-height: 2.25rem; padding: 0 0.75rem;
  border: 1px solid color-mix(in srgb, currentColor 40%, transparent); border-radius: 6px; white-space: nowrap;
}
abbr { text-decoration: none; }
button:hover { border-color: currentColor; }
button[aria-checked="true"], button[aria-pressed="true"] { border-color: var(--blue); box-shadow: inset 0 0 0 1px var(--blue); }
:focus-visible:not(.handle) { outline: 2px solid currentColor; outline-offset: 2px; }
.choice { display: inline-flex; gap: 0.4rem; } .choice button { padding: 0 0.6rem; }
.bar { height: 6px; border-radius: 3px; background: color-mix(in srgb, currentColor 16%, transparent); overflow: hidden; }
.bar > div { height: 100%; border-radius: 3px; }
@container (max-width: 20rem) { text { font-size: 13px; } .tick { font-size: 11px; } .values, .info { font-size: 0.85em; } }
@media print { .controls { display: none; } }
@media (forced-colors: active) {
  input[type="range"] { --track: CanvasText; forced-color-adjust: none; }
  button[aria-checked="true"], button[aria-pressed="true"] { outline: 2px solid Highlight; outline-offset: -2px; }
}
`;

/** The words of the widget's language: of the trait, else of the page, else English. */
function dictionary(words, lang) {
  const wanted = lang || document.documentElement.lang || navigator.language || "";
  return wanted.toLowerCase().startsWith("ko") ? words.ko : words.en;
}

/** Seconds since the frame before; a page that was hidden or busy goes on where it stood. */
const elapsed = (now, before) => Math.min(now - before, 100) / 1000;

/** A number with a true minus sign. */
const show = (value, digits = 2) =>
  Number.isFinite(value) ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−") : value < 0 ? "−∞" : "∞";

const superscript = (n) => String(n).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

/** A number with two significant digits or more, however small. */
export function figure(value) {
  if (!(Math.abs(value) < 1e-2) || Math.abs(value) < 1e-99) return show(value, Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
  const [digits, power] = value.toExponential(1).split("e");
  return `${show(Number(digits), 1)}·10${superscript(Number(power))}`;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** SVG path through points [[x, y], …] in pixels. */
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** SVG path of a disc. */
function disc(x, y, radius) {
  const r = radius.toFixed(2);
  const arc = (dx) => `a${r} ${r} 0 1 1 ${dx.toFixed(2)} 0`;
  return `M${(x - radius).toFixed(2)} ${y.toFixed(2)}${arc(2 * radius)}${arc(-2 * radius)}z`;
}

/** A page's text is light exactly when the page is dark: on the site, in Jupyter and on Colab. */
function isDark(element) {
  const [red, green, blue] = getComputedStyle(element).color.match(/[\d.]+/g).map(Number);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 128;
}

/**
 * Put the widget into the page and redraw it, once a frame at most, when a trait, its width or the theme changes.
 * `build(root, signal)` makes the elements and returns the function that draws them.
 */
function mount({ model, el, signal }, traits, build) {
  const stop = new AbortController();
  signal?.addEventListener("abort", () => stop.abort(), { once: true });
  const host = document.createElement("div");
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys
  const root = host.attachShadow({ mode: "open" });
  el.append(host);

  let frame = 0;
  let draw;
  const redraw = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (!host.isConnected) return; // the observer of its size calls again once it is in the page
      host.dataset.theme = isDark(el) ? "dark" : "light";
      draw(host);
    });
  };
  const rebuild = () => {
    root.innerHTML = `<style>${STYLE}</style>`;
    draw = build(root, stop.signal);
    redraw();
  };
  rebuild();

  const sizes = new ResizeObserver(redraw);
  sizes.observe(host);
  const themes = new MutationObserver(redraw);
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributes: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal: stop.signal });
  for (const name of traits) model.on(`change:${name}`, redraw);
  model.on("change:lang", rebuild);
  // Nor may the page turn or the notebook change cells.
  const kept = (event) => /^(Arrow|Page|Home|End)/.test(event.key) && event.stopPropagation();
  host.addEventListener("keydown", kept, { signal: stop.signal });

  stop.signal.addEventListener("abort", () => {
    cancelAnimationFrame(frame);
    sizes.disconnect();
    themes.disconnect();
    for (const name of traits) model.off(`change:${name}`, redraw);
    model.off("change:lang", rebuild);
    host.remove();
  });
  return () => stop.abort();
}

/** Set traits and tell Python. */
function save(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** A finger on `element` drags it and does not scroll; within an SVG, CSS touch-action would not say so. */
const grip = (element, signal) =>
  element.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false, signal });

/** Drag `element`: `begin(event)` returns what `move` gets, with the pixels moved since. */
function draggable(element, signal, begin, move) {
  element.addEventListener(
    "pointerdown",
    (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      const start = begin(event);
      if (start === undefined) return;
      event.stopPropagation();
      element.setPointerCapture(event.pointerId);
      const done = new AbortController();
      const options = { signal: done.signal };
      element.addEventListener(
        "pointermove",
        (now) => move(start, now.clientX - event.clientX, now.clientY - event.clientY),
        options,
      );
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
        element.addEventListener(end, () => done.abort(), options);
      signal.addEventListener("abort", () => done.abort(), options);
    },
    { signal },
  );
}

/** Keys of a handle: `move(right, up)` in steps; with Shift or Page Up/Down ten at once. */
function keys(element, signal, move) {
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], PageUp: [0, 10], PageDown: [0, -10] };
  element.addEventListener(
    "keydown",
    (event) => {
      const step = steps[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const times = event.shiftKey ? 10 : 1;
      move(step[0] * times, step[1] * times);
    },
    { signal },
  );
}

/** A labelled slider; `symbol` is HTML, `name` is what a screen reader says. */
const slider = (id, symbol, name, min, max, step) => `
  <label class="control"><span class="symbol math">${symbol}</span>
    <input type="range" id="${id}" min="${min}" max="${max}" step="${step}" aria-label="${name}">
    <span class="number" id="${id}-number"></span></label>`;

/** The number of half precision with these 16 bits; finite ones suffice. */
export function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** The numbers in a DataView, little-endian: half precision, or single. */
export function numbers(view, half) {
  const size = half ? 2 : 4;
  const read = half ? (at) => fromHalf(view.getUint16(at, true)) : (at) => view.getFloat32(at, true);
  return Float64Array.from({ length: view.byteLength / size }, (_, i) => read(size * i));
}

const sigmoid = (value) => 1 / (1 + Math.exp(-value));

/** Each activation with its derivative, as functions of the input and of the slope of LeakyReLU. */
const ACTIVATIONS = {
  none: [(t) => t, () => 1],
  relu: [(t) => (t > 0 ? t : 0), (t) => (t > 0 ? 1 : 0)],
  leaky: [(t, slope) => (t > 0 ? t : slope * t), (t, slope) => (t > 0 ? 1 : slope)],
  silu: [(t) => t * sigmoid(t), (t) => sigmoid(t) * (1 + t * (1 - sigmoid(t)))],
  tanh: [Math.tanh, (t) => 1 - Math.tanh(t) ** 2],
  sigmoid: [sigmoid, (t) => sigmoid(t) * (1 - sigmoid(t))],
};

/**
 * A linear map into `to`: its weight lies in `w` from `at`, row by row, and its bias after it. Four rows at once, so that no
 * sum waits for its own last term.
 */
function affine(w, at, from, to) {
  const [inputs, outputs] = [from.length, to.length];
  const bias = at + inputs * outputs;
  let i = 0;
  for (; i + 4 <= outputs; i += 4, at += 4 * inputs) {
    let [a, b, c, d] = [w[bias + i], w[bias + i + 1], w[bias + i + 2], w[bias + i + 3]];
    for (let j = 0, p = at, q = p + inputs, r = q + inputs, s = r + inputs; j < inputs; j++) {
      const value = from[j];
      a += w[p++] * value;
      b += w[q++] * value;
      c += w[r++] * value;
      d += w[s++] * value;
    }
    to[i] = a;
    to[i + 1] = b;
    to[i + 2] = c;
    to[i + 3] = d;
  }
  for (; i < outputs; i++) {
    let sum = w[bias + i];
    for (let j = 0; j < inputs; j++) sum += w[at++] * from[j];
    to[i] = sum;
  }
  return to;
}

/** An image as ink of the page's colour on its paper. */
function develop(values, [height, width], [red, green, blue]) {
  const image = new ImageData(width, height);
  values.forEach((value, i) => image.data.set([red, green, blue, 255 * clamp(value, 0, 1)], 4 * i));
  return image;
}

/** Draw images side by side into a canvas of their resolution, with a pixel between them. */
function film(canvas, images, size, ink) {
  const [height, width] = size;
  Object.assign(canvas, { width: images.length * (width + 1) - 1, height });
  const context = canvas.getContext("2d");
  images.forEach((values, i) => context.putImageData(develop(values, size, ink), i * (width + 1), 0));
}
