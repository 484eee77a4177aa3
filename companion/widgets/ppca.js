// Chapter 2. x ~ N(μ, C) in the plane, C = WWᵀ + σ²I: PPCA with d_z = 1; W is here the list of its two entries.

/** What the likelihood needs of the data: n, mean and covariance [s11, s12, s22] (divided by n). */
export function statistics(x) {
  const n = x.length;
  const mean = [0, 1].map((j) => x.reduce((sum, row) => sum + row[j], 0) / n);
  const moment = (i, j) => x.reduce((sum, row) => sum + (row[i] - mean[i]) * (row[j] - mean[j]), 0) / n;
  return { n, mean, S: [moment(0, 0), moment(0, 1), moment(1, 1)] };
}

/** Mean over the data of log N(x; μ, WWᵀ + σ²I). */
export function logLikelihood({ mean, S }, { W, mu, sigma2 }) {
  const [d1, d2] = [mean[0] - mu[0], mean[1] - mu[1]];
  const [a, b, c] = [S[0] + d1 * d1, S[1] + d1 * d2, S[2] + d2 * d2]; // mean of (x − μ)(x − μ)ᵀ
  const largest = W[0] * W[0] + W[1] * W[1] + sigma2; // eigenvalues of C: this one and σ²
  const along = W[0] * W[0] * a + 2 * W[0] * W[1] * b + W[1] * W[1] * c;
  const distance = (a + c - along / largest) / sigma2; // C⁻¹ = (I − WWᵀ / (WᵀW + σ²)) / σ²
  return -0.5 * (2 * Math.log(2 * Math.PI) + Math.log(largest * sigma2) + distance);
}

/** The parameters of greatest likelihood: W = (λ₁ − σ²)^½ u₁, σ² = λ₂, of the two signs of W the one nearer to `towards`. */
export function maximum({ mean, S }, towards = [1, 0]) {
  const [a, b, c] = S;
  const gap = Math.hypot(a - c, 2 * b); // λ₁ − λ₂
  const sigma2 = (2 * (a * c - b * b)) / (a + c + gap); // λ₂ = det S / λ₁, without cancellation
  const angle = 0.5 * Math.atan2(2 * b, a - c);
  const u = [Math.cos(angle), Math.sin(angle)];
  const sign = u[0] * towards[0] + u[1] * towards[1] < 0 ? -1 : 1;
  return { W: u.map((value) => sign * Math.sqrt(gap) * value), mu: [...mean], sigma2 };
}

/** Mean Wᵀ(x − μ) / M and variance σ² / M of z given x, with M = WᵀW + σ². */
export function posterior(x, { W, mu, sigma2 }) {
  const M = W[0] * W[0] + W[1] * W[1] + sigma2;
  return { mean: (W[0] * (x[0] - mu[0]) + W[1] * (x[1] - mu[1])) / M, variance: sigma2 / M };
}

/** W E[z | x] + μ. */
export function reconstruct(x, parameters) {
  const { mean } = posterior(x, parameters);
  return [0, 1].map((j) => parameters.W[j] * mean + parameters.mu[j]);
}

const PPCA_WORDS = {
  en: {
    figure: "Points in the plane and contours of the PPCA density",
    mu: "centre μ: arrow keys move it",
    w: "tip of W: left and right turn it, up and down change its length",
    sigma2: "variance of the noise σ²",
    mean: "mean",
    max: "maximum",
    jump: "Jump to the maximum",
    projections: "segments from x to W E[z | x] + μ",
  },
  ko: {
    figure: "평면 위의 점과 PPCA 밀도의 등고선",
    mu: "중심 μ: 화살표 키로 옮긴다",
    w: "W의 끝: 좌우 화살표로 돌리고 위아래 화살표로 길이를 바꾼다",
    sigma2: "잡음의 분산 σ²",
    mean: "평균",
    max: "최댓값",
    jump: "최댓값으로 이동",
    projections: "x에서 W E[z | x] + μ로 가는 선분",
  },
};

const ppcaTemplate = (t) => `
  <style>
    .points { fill: currentColor; fill-opacity: 0.62; stroke: var(--paper); stroke-width: 0.5; }
    .contour { fill: none; stroke: var(--blue); stroke-width: 1.25; vector-effect: non-scaling-stroke; stroke-opacity: 0.75; }
    .subspace { stroke: currentColor; stroke-opacity: 0.35; stroke-dasharray: 4 4; }
    .segments { stroke: var(--orange); stroke-width: 1.25; stroke-opacity: 0.9; }
    .projected { fill: var(--orange); }
    .arrow { stroke: var(--vermilion); stroke-width: 2.5; }
    .tip { fill: var(--vermilion); stroke: var(--paper); stroke-width: 2; }
    .centre { fill: var(--paper); stroke: var(--vermilion); stroke-width: 2.5; }
    text.name { fill: var(--vermilion-text); font-style: italic; font-size: 17px; pointer-events: none;
      paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; stroke-opacity: 0.85; }
    .sub { font-size: 11px; }
    .gauge { flex: 1 1 16rem; display: flex; align-items: center; gap: 0.7rem; }
    .gauge .bar { flex: 1; height: 10px; border-radius: 5px; } .gauge .bar > div { background: var(--blue); border-radius: 5px; }
    .value.blue { color: var(--blue-text); }
    .row { display: flex; flex-wrap: wrap; gap: 0.2rem 1.6rem; } .row .control { flex: 1 1 14rem; }
    .actions { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
    .swatch { color: var(--orange); font-weight: 700; }
  </style>
  <svg class="plot" role="group" aria-label="${t.figure}">
    <defs>
      <radialGradient id="density">${[0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
        .map((r) => `<stop offset="${r / 3.5}" stop-color="var(--blue)" stop-opacity="${(0.5 * Math.exp(-0.5 * r * r)).toFixed(4)}"/>`)
        .join("")}</radialGradient>
      <clipPath id="window"><rect/></clipPath>
    </defs>
    <g clip-path="url(#window)">
      <g class="ellipse"><circle r="3.5" fill="url(#density)"/>
        <circle class="contour" r="1"/><circle class="contour" r="2"/><circle class="contour" r="3"/></g>
      <line class="subspace"/>
      <path class="points"/><path class="segments"/><path class="projected"/>
    </g>
    <path class="axis"/><g class="ticks"></g>
    <text class="x1"><tspan class="i">x</tspan><tspan class="sub" dy="4">1</tspan></text>
    <text class="x2"><tspan class="i">x</tspan><tspan class="sub" dy="4">2</tspan></text>
    <line class="arrow"/>
    <g class="handle mu" role="slider" tabindex="0" aria-label="${t.mu}"><circle class="hit" r="22"/>
      <circle class="ring" r="11"/><circle class="centre" r="6.5"/></g>
    <g class="handle w" role="slider" tabindex="0" aria-valuemin="-180" aria-valuemax="180" aria-label="${t.w}"><circle class="hit" r="22"/>
      <circle class="ring" r="13"/><circle class="tip" r="8.5"/></g>
    <text class="name mu">μ</text><text class="name w">W</text>
  </svg>
  <div class="values">
    <span class="value blue"><span><span>${t.mean}</span> <span class="math">log <i>p</i>(<i>x</i>)</span></span>
      <span class="number" id="likelihood"></span></span>
    <span class="gauge"><span class="bar"><div></div></span>
      <span class="value"><span>${t.max}</span><span class="number" id="best"></span></span></span>
  </div>
  <div class="row">
    ${slider("sigma2", "<i>σ</i>²", t.sigma2, 0, 1, 0.001)}
    <div class="actions">
      <button id="jump">${t.jump}</button>
      <button id="projections" class="math" aria-label="${t.projections}"><span class="swatch">—</span>
        <i>W</i> E[<i>z</i> | <i>x</i>] + <i>μ</i></button>
    </div>
  </div>`;

function buildPPCA(model, root, signal) {
  const t = dictionary(PPCA_WORDS, model.get("lang"));
  root.innerHTML += ppcaTemplate(t);
  const $ = (selector) => root.querySelector(selector);
  const put = (selector, attributes) => Object.entries(attributes).forEach(([name, value]) => $(selector).setAttribute(name, value));
  const x = model.get("x");
  const data = statistics(x);
  const best = maximum(data);
  const most = logLikelihood(data, best);
  const parameters = () => ({ W: model.get("W").flat(), mu: model.get("mu"), sigma2: model.get("sigma2") });
  const view = frameOf(x);

  // σ² moves on a logarithmic scale, from a thousandth of the data's mean variance to four times it.
  const variance = (data.S[0] + data.S[2]) / 2;
  const [low, high] = [Math.min(1e-3 * variance, best.sigma2 / 4), 4 * variance];
  const position = (sigma2) => Math.log(sigma2 / low) / Math.log(high / low);

  let box;
  let flight = 0;
  const store = (values) => save(model, values.W ? { ...values, W: values.W.map((value) => [value]) } : values);
  const set = (values) => (cancelAnimationFrame(flight), store(values));
  const within = ([a, b], [c, d] = [0, 0]) => [
    clamp(a, box.x0 - Math.min(c, 0), box.x1 - Math.max(c, 0)),
    clamp(b, box.y0 - Math.min(d, 0), box.y1 - Math.max(d, 0)),
  ]; // so that the point and, if there is one, the tip of the arrow from it stay in sight
  const moveCentre = (mu) => set({ mu: within(mu, parameters().W) });
  const moveTip = (tip, mu = model.get("mu")) => set({ W: within(tip).map((value, j) => value - mu[j]) });
  const tip = () => model.get("mu").map((value, j) => value + parameters().W[j]);

  for (const handle of root.querySelectorAll(".handle")) grip(handle, signal);
  draggable($(".handle.mu"), signal, () => model.get("mu"), ([a, b], right, down) => moveCentre([a + right / box.scale, b - down / box.scale]));
  draggable($(".handle.w"), signal, tip, ([a, b], right, down) => moveTip([a + right / box.scale, b - down / box.scale]));
  keys($(".handle.mu"), signal, (right, up) => moveCentre(model.get("mu").map((value, j) => value + (5 * [right, up][j]) / box.scale)));
  keys($(".handle.w"), signal, (right, up) => {
    const [a, b] = parameters().W;
    const length = Math.max(Math.hypot(a, b) + (3 * up) / box.scale, 0);
    const angle = Math.atan2(b, a) - (right * Math.PI) / 90;
    const mu = model.get("mu");
    moveTip([mu[0] + length * Math.cos(angle), mu[1] + length * Math.sin(angle)], mu);
  });
  $("#sigma2").addEventListener("input", (event) => set({ sigma2: low * (high / low) ** Number(event.target.value) }), { signal });
  $("#projections").addEventListener("click", () => save(model, { projections: !model.get("projections") }), { signal });
  $("#jump").addEventListener("click", () => {
    const from = parameters();
    const to = maximum(data, from.W);
    const start = performance.now();
    const duration = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 600;
    const step = (now) => {
      const s = duration ? clamp((now - start) / duration, 0, 1) : 1;
      if (s === 1) return set(to);
      const part = s * s * (3 - 2 * s);
      const mix = (a, b) => a + part * (b - a);
      store({
        W: from.W.map((value, j) => mix(value, to.W[j])),
        mu: from.mu.map((value, j) => mix(value, to.mu[j])),
        sigma2: Math.exp(mix(Math.log(from.sigma2), Math.log(to.sigma2))),
      });
      flight = requestAnimationFrame(step);
    };
    cancelAnimationFrame(flight);
    flight = requestAnimationFrame(step);
  }, { signal });
  signal.addEventListener("abort", () => cancelAnimationFrame(flight));

  return (host) => {
    const now = parameters();
    const { W, mu, sigma2 } = now;
    const width = Math.max(host.clientWidth, 280);
    box = fit(view, width);
    const { X, Y, scale } = box;
    const value = logLikelihood(data, now);
    const length = Math.hypot(...W);
    const [axis, noise] = [scale * Math.sqrt(length * length + sigma2), scale * Math.sqrt(sigma2)];
    const angle = (-Math.atan2(W[1], W[0]) * 180) / Math.PI;

    put("svg", { height: box.height + 24 });
    put("clipPath rect", { x: box.left, y: 0, width: width - box.left, height: box.height });
    put(".axis", { d: `M${box.left} 0V${box.height}H${width}` });
    $(".ticks").innerHTML = ticks(box, width);
    put(".x1", { x: width - 2, y: box.height - 8, "text-anchor": "end" });
    put(".x2", { x: box.left + 8, y: 14 });
    put(".ellipse", { transform: `translate(${X(mu[0])} ${Y(mu[1])}) rotate(${angle}) scale(${axis} ${noise})` });
    const far = (4 * width) / scale / Math.max(length, 1e-9);
    put(".subspace", { x1: X(mu[0] - far * W[0]), y1: Y(mu[1] - far * W[1]), x2: X(mu[0] + far * W[0]), y2: Y(mu[1] + far * W[1]) });
    put(".points", { d: x.map(([a, b]) => disc(X(a), Y(b), 2.6)).join("") });
    const images = model.get("projections") ? x.map((row) => reconstruct(row, now)) : [];
    put(".segments", { d: images.map(([a, b], i) => `M${X(x[i][0])} ${Y(x[i][1])}L${X(a)} ${Y(b)}`).join("") });
    put(".projected", { d: images.map(([a, b]) => disc(X(a), Y(b), 2.2)).join("") });
    const [cx, cy, tx, ty] = [X(mu[0]), Y(mu[1]), X(mu[0] + W[0]), Y(mu[1] + W[1])];
    put(".arrow", { x1: cx, y1: cy, x2: tx, y2: ty });
    put(".handle.mu", { transform: `translate(${cx} ${cy})`, "aria-valuenow": mu[0], "aria-valuemin": box.x0, "aria-valuemax": box.x1, "aria-valuetext": `μ = (${show(mu[0])}, ${show(mu[1])}), log p(x) = ${show(value)}` });
    put(".handle.w", { transform: `translate(${tx} ${ty})`, "aria-valuenow": -angle, "aria-valuetext": `W = (${show(W[0])}, ${show(W[1])}), log p(x) = ${show(value)}` });
    const outward = length * scale > 1 ? [(tx - cx) / (length * scale), (ty - cy) / (length * scale)] : [1, 0];
    put("text.w", { x: tx + 20 * outward[0] - 6, y: ty + 20 * outward[1] + 5 });
    put("text.mu", { x: cx - 20 * outward[0] - 5, y: cy - 20 * outward[1] + 5 });

    $("#likelihood").textContent = show(value, 3);
    $("#best").textContent = show(most, 3);
    $(".bar > div").style.width = `${100 * Math.exp(value - most)}%`;
    $("#sigma2").value = clamp(position(sigma2), 0, 1);
    put("#sigma2", { "aria-valuetext": sigma2.toPrecision(3) });
    $("#sigma2-number").textContent = Number(sigma2.toPrecision(2));
    put("#projections", { "aria-pressed": model.get("projections") });
    Object.assign(host.dataset, {
      w: W.join(), mu: mu.join(), sigma2, projections: model.get("projections"),
      logLikelihood: value, maximum: most, gap: most - value,
    });
  };
}

/** The rectangle that shows all points with a margin. */
function frameOf(x) {
  const [xs, ys] = [0, 1].map((j) => x.map((row) => row[j]));
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [[x0, x1], [y0, y1]] = [range(xs), range(ys)];
  const margin = 0.12 * Math.max(x1 - x0, y1 - y0);
  return { x0: x0 - margin, x1: x1 + margin, y0: y0 - margin, y1: y1 + margin };
}

/** The same scale on both axes, the view in the middle. */
function fit(view, width) {
  const left = 30;
  const inner = width - left;
  const height = Math.round(clamp(((view.y1 - view.y0) / (view.x1 - view.x0)) * inner, 0.55 * inner, Math.min(0.95 * inner, 460)));
  const scale = Math.min(inner / (view.x1 - view.x0), height / (view.y1 - view.y0));
  const [a, b] = [(view.x0 + view.x1) / 2, (view.y0 + view.y1) / 2];
  return {
    left, height, scale,
    x0: a - inner / 2 / scale, x1: a + inner / 2 / scale, y0: b - height / 2 / scale, y1: b + height / 2 / scale,
    X: (value) => left + inner / 2 + (value - a) * scale,
    Y: (value) => height / 2 - (value - b) * scale,
  };
}

function ticks(box, width) {
  const rough = 45 / box.scale;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const marks = (from, to) => Array.from({ length: Math.floor(to / step) - Math.ceil(from / step) + 1 }, (_, i) => (Math.ceil(from / step) + i) * step);
  const across = marks(box.x0, box.x1).filter((v) => box.X(v) > box.left + 8 && box.X(v) < width - 8);
  const upward = marks(box.y0, box.y1).filter((v) => box.Y(v) > 8 && box.Y(v) < box.height - 4);
  return [
    ...across.map((v) => `<text class="tick" x="${box.X(v)}" y="${box.height + 16}" text-anchor="middle">${show(v, digits)}</text>`),
    ...upward.map((v) => `<text class="tick" x="${box.left - 6}" y="${box.Y(v) + 4}" text-anchor="end">${show(v, digits)}</text>`),
  ].join("");
}

export default {
  render: (context) => mount(context, ["W", "mu", "sigma2", "projections"], (root, signal) => buildPPCA(context.model, root, signal)),
};
