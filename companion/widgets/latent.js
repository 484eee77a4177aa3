// Chapter 1. z ~ N(0, 1), x | z ~ N(f(z), σ²), f(z) = z + b sin 3z.

/** Trapezoidal nodes for z: beyond them p(z) < 1e-14, between them the posterior is smooth for every σ ≥ 0.1. */
const STEP = 0.005;
const Z = Float64Array.from({ length: 3201 }, (_, i) => -8 + i * STEP);
const LOG_PRIOR = Z.map((z) => logNormal(z, 0, 1));

export const f = (z, b) => z + b * Math.sin(3 * z);

export function logNormal(x, mean, sd) {
  return -0.5 * ((x - mean) / sd) ** 2 - Math.log(sd) - 0.5 * Math.log(2 * Math.PI);
}

export function logSumExp(values) {
  let largest = -Infinity;
  for (const value of values) if (value > largest) largest = value;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}

/** log p(x) by quadrature, for each x of a list; terms below e⁻⁴⁰ do not show beside p(x) > e⁻¹⁵. */
export function logMarginal(xs, { b, sigma }) {
  const means = Z.map((z) => f(z, b));
  return xs.map((x) => {
    let sum = 0;
    for (let i = 0; i < Z.length; i++) {
      const exponent = LOG_PRIOR[i] - 0.5 * ((x - means[i]) / sigma) ** 2;
      if (exponent > -40) sum += Math.exp(exponent);
    }
    return Math.log(sum * STEP) + logNormal(0, 0, sigma);
  });
}

/** p(z | x) on the nodes, with log p(x), E[z | x] and the standard deviation of z given x. */
export function posterior(x, { b, sigma }) {
  const [logEvidence] = logMarginal([x], { b, sigma });
  const density = Z.map((z, i) => Math.exp(LOG_PRIOR[i] + logNormal(x, f(z, b), sigma) - logEvidence));
  const mean = density.reduce((sum, p, i) => sum + p * Z[i], 0) * STEP;
  const variance = density.reduce((sum, p, i) => sum + p * (Z[i] - mean) ** 2, 0) * STEP;
  return { density, logMarginal: logEvidence, mean, sd: Math.sqrt(variance) };
}

/** (Σw)² / Σw², from the logarithms of the weights. */
export const effectiveSampleSize = (logWeights) =>
  Math.exp(2 * logSumExp(logWeights) - logSumExp(logWeights.map((value) => 2 * value)));

/** Importance sampling of p(x) with z_i = mean + sd eps_i: draws, normalised weights, log p̂(x) and ESS. */
export function importance(x, eps, { mean, sd }, { b, sigma }) {
  const z = eps.map((value) => mean + sd * value);
  const logWeights = z.map((value) => logNormal(x, f(value, b), sigma) + logNormal(value, 0, 1) - logNormal(value, mean, sd));
  const total = logSumExp(logWeights);
  return {
    z,
    weights: logWeights.map((value) => Math.exp(value - total)),
    logEstimate: total - Math.log(z.length),
    ess: effectiveSampleSize(logWeights),
  };
}

const PRIOR = { mean: 0, sd: 1 };
const WIDEST = { z: 3.6, x: 5 };

const LATENT_WORDS = {
  en: {
    figure: "Density of z and x, the marginal of x and the posterior of z",
    x: "observation x: arrow keys move it",
    b: "fold b",
    sigma: "standard deviation σ of x given z",
    k: "number of draws k",
    proposal: "distribution that z is drawn from",
    prior: "prior p(z)",
    gaussian: "normal distribution q(z) with the posterior's mean and variance",
    ess: "effective sample size",
  },
  ko: {
    figure: "z와 x의 결합 밀도, x의 주변 밀도, z의 사후 밀도",
    x: "관측값 x: 화살표 키로 옮긴다",
    b: "접힘 b",
    sigma: "z가 주어졌을 때 x의 표준 편차 σ",
    k: "표본 수 k",
    proposal: "z를 뽑는 분포",
    prior: "사전 분포 p(z)",
    gaussian: "평균과 분산을 사후 분포에 맞춘 가우시안 분포 q(z)",
    ess: "유효 표본 크기",
  },
};

const latentTemplate = (t, sampling) => `
  <style>
    .joint { fill: none; stroke: currentColor; stroke-opacity: 0.55; stroke-width: 1.25; }
    .frame { fill: transparent; cursor: crosshair; }
    .marginal { fill: var(--blue); fill-opacity: 0.22; stroke: var(--blue); stroke-width: 1.5; }
    .prior { fill: currentColor; fill-opacity: 0.1; stroke: currentColor; stroke-opacity: 0.5; stroke-width: 1.25; }
    .posterior { fill: var(--vermilion); fill-opacity: 0.22; stroke: var(--vermilion); stroke-width: 1.75; }
    .proposal { fill: none; stroke: var(--green); stroke-width: 1.75; stroke-dasharray: 5 3; }
    .rug { stroke: var(--green); stroke-opacity: 0.8; }
    .draws { fill: var(--green); fill-opacity: 0.3; stroke: var(--green); pointer-events: none; }
    .observed { stroke: var(--vermilion); stroke-width: 1.75; }
    .estimate { fill: var(--green); stroke: var(--paper); }
    .knob { fill: var(--vermilion); stroke: var(--paper); stroke-width: 2; }
    .vermilion { fill: var(--vermilion-text); } .green { fill: var(--green-text); } .blue { fill: var(--blue-text); }
    .value.blue { color: var(--blue-text); } .value.green { color: var(--green-text); }
    .bar { width: 5rem; align-self: center; } .bar > div { background: var(--green); }
  </style>
  <div class="figure">
    <canvas aria-hidden="true"></canvas>
    <svg role="group" aria-label="${t.figure}">
      <path class="axis"/><g class="ticks"></g>
      <path class="joint"/>
      <path class="marginal"/><path class="prior"/><path class="posterior"/><path class="proposal"/><path class="rug"/>
      <rect class="frame"/>
      <g class="handle" role="slider" tabindex="0" aria-orientation="vertical" aria-label="${t.x}"
         aria-valuemin="${-WIDEST.x}" aria-valuemax="${WIDEST.x}">
        <rect class="hit" height="44" y="-22"/><line class="observed"/>${sampling ? '<circle class="estimate" r="4"/>' : ""}<circle class="ring" r="12"/><circle class="knob" r="8"/>
      </g>
      <path class="draws"/>
      <g class="labels">
        <text class="x i">x</text><text class="z i">z</text>
        <text class="blue px"><tspan class="i">p</tspan>(<tspan class="i">x</tspan>)</text>
        <text class="pz"><tspan class="i">p</tspan>(<tspan class="i">z</tspan>)</text>
        <text class="vermilion pzx"><tspan class="i">p</tspan>(<tspan class="i">z</tspan> | <tspan class="i">x</tspan>)</text>
        <text class="green qz"><tspan class="i">q</tspan>(<tspan class="i">z</tspan>)</text>
        <text class="fz"><tspan class="i">f</tspan>(<tspan class="i">z</tspan>)</text>
      </g>
    </svg>
  </div>
  <div class="values">
    <span class="value"><span class="math i">x</span><span class="number" id="x-number"></span></span>
    <span class="value blue"><span class="math">log <i>p</i>(<i>x</i>)</span><span class="number" id="exact"></span></span>
    ${sampling ? `<span class="value green"><span class="math">log <i>p̂</i>(<i>x</i>)</span><span class="number" id="estimate"></span></span>
    <span class="value green"><abbr title="${t.ess}">ESS</abbr><span class="number" id="ess"></span>
      <span class="bar"><div></div></span></span>` : ""}
  </div>
  <div class="controls">
    ${slider("b", "<i>b</i>", t.b, 0, 2, 0.05)}
    ${slider("sigma", "<i>σ</i>", t.sigma, 0.1, 1, 0.01)}
    ${sampling ? `${slider("k", "<i>k</i>", t.k, 0, 8, 1)}
    <div class="control"><span class="math"><i>z</i><sub><i>i</i></sub> ∼</span>
      <span class="choice" role="radiogroup" aria-label="${t.proposal}">
        <button role="radio" id="prior" aria-label="${t.prior}" class="math"><i>p</i>(<i>z</i>)</button>
        <button role="radio" id="gaussian" aria-label="${t.gaussian}" class="math"><i>q</i>(<i>z</i>)</button>
      </span></div>` : ""}
  </div>`;

/** Where the panels lie, in pixels, and the maps from values to pixels. */
function panels(width) {
  const margin = width < 480 ? 68 : 104;
  const [left, top] = [30, 22];
  const inner = width - left - margin;
  const height = Math.round(clamp(0.66 * inner, 210, 330));
  const [base, tail] = [top + height + 10, width < 480 ? 84 : 96];
  return {
    left, top, inner, height, margin, base, tail, right: left + inner, bottom: base + tail, total: base + tail + 26,
    X: (z) => left + ((z + WIDEST.z) / (2 * WIDEST.z)) * inner,
    Y: (x) => top + ((WIDEST.x - x) / (2 * WIDEST.x)) * height,
  };
}

/** The joint density as transparent ink. */
function paintJoint(canvas, box, { b, sigma }, colour) {
  Object.assign(canvas, { width: box.inner, height: box.height });
  Object.assign(canvas.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.inner}px`, height: `${box.height}px` });
  const [red, green, blue] = colour.match(/[\da-f]{2}/gi).map((part) => parseInt(part, 16));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer).fill((blue << 16) | (green << 8) | red);
  for (let column = 0; column < image.width; column++) {
    const z = ((column + 0.5) / image.width) * 2 * WIDEST.z - WIDEST.z;
    const mean = f(z, b);
    for (let row = 0; row < image.height; row++) {
      const x = WIDEST.x - ((row + 0.5) / image.height) * 2 * WIDEST.x;
      const exponent = -0.3 * (z * z + ((x - mean) / sigma) ** 2); // the density to the power 0.6 shows its tails
      if (exponent > -6) pixels[row * image.width + column] |= (235 * Math.exp(exponent)) << 24;
    }
  }
  context.putImageData(image, 0, 0);
}

function buildLatent(model, root, signal) {
  const t = dictionary(LATENT_WORDS, model.get("lang"));
  const sampling = model.get("sampling") !== false;
  root.innerHTML += latentTemplate(t, sampling);
  const $ = (selector) => root.querySelector(selector);
  const [svg, handle, frame] = [$("svg"), $(".handle"), $(".frame")];
  const put = (selector, attributes) => Object.entries(attributes).forEach(([name, value]) => $(selector).setAttribute(name, value));
  let box;

  const moveTo = (x) => save(model, { x: Math.round(1000 * clamp(x, -WIDEST.x, WIDEST.x)) / 1000 });
  const perPixel = () => (2 * WIDEST.x) / box.height;
  const xAt = (event) => WIDEST.x - (event.clientY - svg.getBoundingClientRect().top - box.top) * perPixel();
  const drag = (start, _, down) => moveTo(start - down * perPixel());
  grip(handle, signal);
  draggable(handle, signal, () => model.get("x"), drag);
  draggable(frame, signal, (event) => (event.pointerType === "mouse" ? (moveTo(xAt(event)), model.get("x")) : undefined), drag);
  frame.addEventListener("click", (event) => moveTo(xAt(event)), { signal }); // a finger scrolls here, but a tap counts
  keys(handle, signal, (_, up) => up && moveTo(model.get("x") + 0.05 * up));

  for (const name of ["b", "sigma"])
    $(`#${name}`).addEventListener("input", (event) => save(model, { [name]: Number(event.target.value) }), { signal });
  const choices = sampling ? ["prior", "gaussian"] : [];
  if (sampling) $("#k").addEventListener("input", (event) => save(model, { k: 2 ** event.target.value }), { signal });
  for (const name of choices) {
    const [button, other] = [$(`#${name}`), $(`#${choices.find((choice) => choice !== name)}`)];
    button.addEventListener("click", () => save(model, { proposal: name }), { signal });
    button.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && (event.preventDefault(), other.click(), other.focus()), { signal });
  }

  let scale; // pixels a unit of p(x)
  let painted; // what the slow parts were last drawn for: joint density and marginal
  return (host) => {
    const width = Math.max(host.clientWidth, 280);
    const [b, sigma, x, k, proposal] = ["b", "sigma", "x", "k", "proposal"].map((name) => model.get(name));
    const exact = posterior(x, { b, sigma });
    const from = proposal === "prior" ? PRIOR : exact;
    const estimate = importance(x, model.get("eps").slice(0, k), from, { b, sigma });
    box = panels(width);
    const { X, Y, left, right, top, inner, height, base, tail, bottom } = box;

    const task = [width, b, sigma, host.dataset.theme].join();
    if (task !== painted) {
      painted = task;
      paintJoint($("canvas"), box, { b, sigma }, getComputedStyle(host).getPropertyValue("--blue"));
      const nodes = Array.from({ length: 161 }, (_, i) => WIDEST.x * (i / 80 - 1));
      const density = logMarginal(nodes, { b, sigma }).map(Math.exp);
      scale = (0.75 * (box.margin - 14)) / Math.max(...density); // the estimate may be larger
      const curve = density.map((p, i) => [right + 8 + p * scale, Y(nodes[i])]);
      put(".marginal", { d: line([[right + 8, Y(-WIDEST.x)], ...curve, [right + 8, Y(WIDEST.x)]]) });
      put(".joint", { d: line(Array.from(Z).filter((z, i) => i % 8 === 0 && Math.abs(z) <= WIDEST.z).map((z) => [X(z), Y(f(z, b))])) });
      svg.setAttribute("height", box.total);
      put(".frame", { x: left, y: top, width: inner, height });
      put(".axis", { d: `M${left} ${top}V${top + height}M${right + 8} ${top}V${top + height}M${left} ${bottom}H${right}` });
      const ticksX = [-4, -2, 0, 2, 4].map((v) => `<text class="tick" x="${left - 6}" y="${Y(v) + 4}" text-anchor="end">${show(v, 0)}</text>`);
      const ticksZ = [-3, -2, -1, 0, 1, 2, 3].map((v) => `<text class="tick" x="${X(v)}" y="${bottom + 19}" text-anchor="middle">${show(v, 0)}</text>`);
      $(".ticks").innerHTML = [...ticksX, ...ticksZ].join("");
      put(".labels .x", { x: left, y: top - 8, "text-anchor": "middle" });
      put(".labels .z", { x: right + 8, y: bottom + 4 });
      put(".labels .px", { x: right + 8, y: top - 8 });
      put(".labels .fz", { x: X(WIDEST.z) - 4, y: Y(f(WIDEST.z, b)) + 24, "text-anchor": "end" });
      ["pz", "pzx", "qz"].forEach((name, i) => put(`.labels .${name}`, { x: right + 8, y: base + 20 + 20 * i }));
      put(".handle .hit", { x: left, width: box.margin + inner - 4 });
      for (const part of [".knob", ".ring"]) put(`.handle ${part}`, { cx: right + 8 });
    }

    const peak = Math.max(1.1, ...exact.density) / (tail - 4);
    const under = (density) => {
      const curve = Array.from(Z.keys()).filter((i) => i % 2 === 0 && Math.abs(Z[i]) <= WIDEST.z).map((i) => [X(Z[i]), bottom - density(i) / peak]);
      return line([[X(-WIDEST.z), bottom], ...curve, [X(WIDEST.z), bottom]]);
    };
    put(".prior", { d: under((i) => Math.exp(logNormal(Z[i], 0, 1))) });
    put(".posterior", { d: under((i) => exact.density[i]) });
    put(".proposal", { d: proposal === "prior" ? "" : under((i) => Math.exp(logNormal(Z[i], from.mean, from.sd))) });
    put(".labels .qz", { visibility: proposal === "prior" ? "hidden" : "visible" });
    if (sampling) {
      const shown = estimate.z.map((z, i) => [z, estimate.weights[i]]).filter(([z]) => Math.abs(z) <= WIDEST.z);
      put(".rug", { d: shown.map(([z]) => `M${X(z).toFixed(1)} ${bottom}v6`).join("") });
      put(".draws", { d: shown.map(([z, weight]) => disc(X(z), Y(x), Math.max(32 * Math.sqrt(weight), 0.6))).join("") });
      put(".estimate", { cx: right + 8 + Math.min(scale * Math.exp(estimate.logEstimate), box.margin - 13) });
    }

    put(".observed", { x1: left, x2: right + 8 + scale * Math.exp(exact.logMarginal) });
    put(".handle", { transform: `translate(0 ${Y(x)})`, "aria-valuenow": x, "aria-valuetext": `x = ${show(x)}, log p(x) = ${show(exact.logMarginal)}` });
    const write = (id, text) => ($(`#${id}`).textContent = text);
    write("x-number", show(x));
    write("exact", show(exact.logMarginal, 3));
    Object.assign($("#b"), { value: b });
    Object.assign($("#sigma"), { value: sigma });
    if (sampling) {
      write("estimate", show(estimate.logEstimate, 3));
      write("ess", `${show(estimate.ess, 1)} / ${k}`);
      $(".bar > div").style.width = `${(100 * estimate.ess) / k}%`;
      Object.assign($("#k"), { value: Math.log2(k) });
      put("#k", { "aria-valuetext": k });
      write("k-number", k);
    }
    write("b-number", show(b));
    write("sigma-number", show(sigma));
    for (const name of choices) put(`#${name}`, { "aria-checked": proposal === name, tabindex: proposal === name ? 0 : -1 });
    Object.assign(host.dataset, {
      b, sigma, x, k, proposal,
      logMarginal: exact.logMarginal, posteriorMean: exact.mean, posteriorSd: exact.sd,
      logEstimate: estimate.logEstimate, ess: estimate.ess,
    });
  };
}

export default {
  render: (context) =>
    mount(context, ["b", "sigma", "x", "k", "proposal"], (root, signal) => buildLatent(context.model, root, signal)),
};
