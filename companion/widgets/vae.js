// Chapter 3. The image g(z) of a trained decoder, layer by layer, for z in the plane.

/** For each decoder its layers, the linear ones with their numbers. */
export function unpack(decoders, values) {
  let at = 0;
  const take = (count) => values.subarray(at, (at += count));
  return decoders.map((layers) =>
    layers.map((layer) => (layer.kind === "linear" ? { ...layer, w: take((layer.inputs + 1) * layer.outputs) } : layer)),
  );
}

/** The decoder's output at z. */
export function decode(layers, z) {
  let values = Float64Array.from(z);
  for (const { kind, w, outputs, slope } of layers)
    values = kind === "linear" ? affine(w, 0, values, new Float64Array(outputs)) : values.map((value) => ACTIVATIONS[kind][0](value, slope));
  return values;
}

/** n points evenly spaced from a to b. */
export const interpolate = (a, b, n) =>
  Array.from({ length: n }, (_, i) => a.map((value, j) => value + ((b[j] - value) * i) / (n - 1)));

/** Points of classes without a letter of their own differ in shape, too. */
const MARKS = [..."●▲■◆▼○△□◇▽"];

const DECODER_WORDS = {
  en: {
    map: "Plane of z: encoded data and the circles of the prior",
    z: "point z: arrow keys move it",
    end: "end z′ of the path: arrow keys move it",
    image: "decoded image g(z)",
    strip: "images decoded on the way from z to z′",
    beta: "weight β of the KL term",
    curve: "distortion D against rate R, one point for each β; the tangent has slope −β",
    rate: "rate: mean of KL(q(z | x) ‖ p(z)) in nats",
    distortion: "distortion: mean of −log p(x | z) in nats",
    sum: "minus the ELBO in nats",
    classes: "classes",
    grid: "image grid",
    walk: "path z → z′",
  },
  ko: {
    map: "z의 평면: 데이터의 잠재 벡터와 사전 분포의 원",
    z: "점 z: 화살표 키로 옮긴다",
    end: "경로의 끝 z′: 화살표 키로 옮긴다",
    image: "디코더가 그린 이미지 g(z)",
    strip: "z에서 z′까지 가며 디코더가 그린 이미지",
    beta: "KL 항에 곱하는 가중치 β",
    curve: "율 R에 따른 왜곡 D의 곡선. β마다 점이 하나 있고 접선의 기울기는 −β다",
    rate: "율: KL(q(z | x) ‖ p(z))의 평균, 단위는 nat",
    distortion: "왜곡: −log p(x | z)의 평균, 단위는 nat",
    sum: "ELBO에 마이너스를 붙인 값, 단위는 nat",
    classes: "종류",
    grid: "이미지 격자",
    walk: "경로 z → z′",
  },
};

const decoderTemplate = (t, { several, curve, legend }, actions = `
  <div class="actions"><button id="grid">${t.grid}</button><button id="walk">${t.walk}</button></div>`) => `
  <style>
    :host {
      --c0: #0072b2; --c1: #a87400; --c2: #00805e; --c3: #b2507f; --c4: #5a4fcf; --c5: #2b93cf; --c6: #7a1fa2; --c7: #6d6d6d;
      --c8: #6b6e00; --c9: #8a3b2a;
    }
    :host([data-theme="dark"]) {
      --c0: #4ea8e6; --c1: #f0b840; --c2: #2fcf9f; --c3: #f09ac4; --c4: #9aa2ff; --c5: #a4dcff; --c6: #cf94f2; --c7: #b4b4b4;
      --c8: #d3d65c; --c9: #d99a86;
    }
    .panels { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.6rem 1.5rem; }
    .side { display: flex; gap: 1rem; align-items: flex-start; }
    .side > .info { flex: 1; min-width: 0; }
    .picture { margin: 0; width: 8.5rem; }
    canvas.image, canvas.strip { position: static; display: block; width: 100%; image-rendering: pixelated; }
    canvas.image, .film { border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: 2px; }
    .film { display: flex; } .film[hidden], .ends[hidden] { display: none; }
    .ends { display: flex; justify-content: space-between; line-height: 1.2; color: var(--vermilion-text); }
    .point { display: block; margin: 0.3rem 0; white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--vermilion-text); }
    .frame { fill: transparent; cursor: crosshair; }
    .prior { fill: none; stroke: currentColor; stroke-opacity: 0.5; stroke-width: 1; stroke-dasharray: 1.5 3; stroke-linecap: round; }
    .path, .stops { pointer-events: none; }
    .path { stroke: var(--vermilion); stroke-width: 1.75; }
    .stops { fill: var(--vermilion); stroke: var(--paper); stroke-width: 1; }
    .knob { fill: var(--vermilion); stroke: var(--paper); stroke-width: 2; }
    .knob.end { fill: var(--paper); stroke: var(--vermilion); stroke-width: 2.5; }
    text.name { fill: var(--vermilion-text); font-style: italic; font-size: 17px; text-anchor: middle; }
    text.name, .map text.math { pointer-events: none; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; stroke-opacity: 0.85; }
    .sub { font-size: 11px; }
    .legend { display: flex; flex-wrap: wrap; gap: 0 0.9rem; margin: 0.4rem 0; padding: 0; list-style: none; }
    .legend li { display: inline-flex; align-items: center; gap: 0.4em; margin: 0; }
    .curve { overflow: visible; }
    .curve .through { fill: none; stroke: var(--blue); stroke-width: 1.75; } .curve .models { fill: var(--blue); }
    .curve .tangent { stroke: var(--vermilion); stroke-width: 1.25; stroke-dasharray: 4 3; }
    .curve .here { fill: var(--vermilion); stroke: var(--paper); stroke-width: 2; }
    .row { display: flex; flex-wrap: wrap; gap: 0.2rem 1.6rem; align-items: center; margin-top: 0.5rem; } .row .control { flex: 1 1 12rem; }
    .row .values { margin: 0; }
    .actions { display: flex; flex-wrap: wrap; gap: 0.5rem; }
    @container (min-width: 30rem) {
      .panels { grid-template-columns: minmax(0, 1fr) 11.5rem; }
      .side { flex-direction: column; } .picture, .side > .info { width: 100%; flex: none; }
      .side { gap: 0.4rem; }
    }
  </style>
  <div class="panels">
    <div class="figure map">
      <canvas class="plane" aria-hidden="true"></canvas>
      <svg class="plot" role="group" aria-label="${t.map}">
        <defs><clipPath id="window"><rect/></clipPath></defs>
        <g clip-path="url(#window)"><path class="prior"/></g>
        <path class="axis"/><g class="ticks"></g>
        <text class="math z1"><tspan class="i">z</tspan><tspan class="sub" dy="4">1</tspan></text>
        <text class="math z2"><tspan class="i">z</tspan><tspan class="sub" dy="4">2</tspan></text>
        <text class="math pz"><tspan class="i">p</tspan>(<tspan class="i">z</tspan>)</text>
        <rect class="frame"/>
        <line class="path"/><path class="stops"/>
        ${["z", "end"].map((name) => `
        <g class="handle ${name}" role="slider" tabindex="0" aria-label="${t[name]}"><circle class="hit" r="22"/>
          <circle class="ring" r="13"/><circle class="knob ${name}" r="8.5"/></g>`).join("")}
        <text class="name end">z′</text><text class="name z">z</text>
      </svg>
    </div>
    <div class="side">
      <div class="picture"><canvas class="image" role="img" aria-label="${t.image}"></canvas></div>
      <div class="info">
        <span class="point"><span class="math i">z</span> = <span id="point"></span></span>
        ${legend ? `<ul class="legend" aria-label="${t.classes}"></ul>` : ""}
        ${curve ? `
        <svg class="curve" role="img" aria-label="${t.curve}">
          <defs><clipPath id="around"><rect/></clipPath></defs>
          <path class="axis"/><g class="ticks"></g>
          <text class="R i">R</text><text class="D i">D</text>
          <path class="through"/><path class="models"/>
          <g clip-path="url(#around)"><line class="tangent"/></g><circle class="here" r="5"/>
        </svg>` : ""}
        ${several ? "" : actions}
      </div>
    </div>
  </div>
  <div class="ends" aria-hidden="true"><span class="math i">z</span><span class="math i">z′</span></div>
  <div class="film" role="img" aria-label="${t.strip}"><canvas class="strip"></canvas></div>
  ${several ? `<div class="row">
    ${slider("beta", "<i>β</i>", t.beta, 0, 1, 1)}
    ${curve ? `<div class="values">${[["rate", "<i>R</i>"], ["distortion", "<i>D</i>"], ["sum", "<i>R</i> + <i>D</i>"]].map(([name, symbol]) => `
      <span class="value"><abbr class="math" title="${t[name]}">${symbol}</abbr><span class="number" id="${name}"></span></span>`).join("")}
    </div>` : ""}
    ${actions}
  </div>` : ""}`;

function buildDecoder(model, root, signal) {
  const t = dictionary(DECODER_WORDS, model.get("lang"));
  const [betas, rate, distortion, names, classes, size] =
    ["betas", "rate", "distortion", "names", "classes", "size"].map((name) => model.get(name));
  const letters = names.every((name) => [...name].length === 1);
  const marks = letters && names.length ? names : MARKS;
  const [several, curve] = [betas.length > 1, betas.length > 1 && rate.length > 1];
  root.innerHTML += decoderTemplate(t, { several, curve, legend: !letters });
  const $ = (selector) => root.querySelector(selector);
  const put = (selector, attributes) => Object.entries(attributes).forEach(([name, value]) => $(selector).setAttribute(name, value));

  const decoders = unpack(model.get("layers"), numbers(model.get("weights"), model.get("half")));
  const all = numbers(model.get("points"), true);
  const per = all.length / betas.length;
  const clouds = betas.map((_, i) => all.subarray(i * per, (i + 1) * per));
  const reach = reachOf(all, several ? 0.98 : 1);
  const current = () => Math.max(betas.indexOf(model.get("beta")), 0);
  const image = (z) => decode(decoders[current()], z);
  if (several) put("#beta", { max: betas.length - 1 });
  if (!letters) $(".legend").innerHTML = names.map((_, i) => `<li><b style="color: var(--c${i})">${MARKS[i]}</b><span></span></li>`).join("");
  if (!letters) names.forEach((name, i) => ($(`.legend li:nth-child(${i + 1}) span`).textContent = name));

  let box;
  const moveTo = (name, z) => save(model, { [name]: z.map((value) => clamp(value, -reach, reach)) });
  const shifted = ([a, b], right, down) => [a + right / box.scale, b - down / box.scale];
  const at = (event) => {
    const { left, top } = $(".plot").getBoundingClientRect();
    return [box.Z1(event.clientX - left), box.Z2(event.clientY - top)];
  };
  for (const name of ["z", "end"]) {
    const handle = $(`.handle.${name}`);
    grip(handle, signal);
    draggable(handle, signal, () => model.get(name), (start, right, down) => moveTo(name, shifted(start, right, down)));
    keys(handle, signal, (right, up) => moveTo(name, model.get(name).map((value, j) => value + (reach / 64) * [right, up][j])));
  }
  const frame = $(".frame");
  const begin = (event) => (event.pointerType === "mouse" ? (moveTo("z", at(event)), model.get("z")) : undefined);
  draggable(frame, signal, begin, (start, right, down) => moveTo("z", shifted(start, right, down)));
  frame.addEventListener("click", (event) => moveTo("z", at(event)), { signal }); // a finger scrolls here, but a tap counts
  $("#beta")?.addEventListener("input", (event) => save(model, { beta: betas[event.target.value] }), { signal });
  for (const name of ["grid", "walk"])
    $(`#${name}`).addEventListener("click", () => save(model, { [name]: !model.get(name) }), { signal });

  let painted; // what the slow part, the plane behind the handles, was last drawn for
  return (host) => {
    const [z, end, beta, grid, walk] = ["z", "end", "beta", "grid", "walk"].map((name) => model.get(name));
    const style = getComputedStyle(host);
    const ink = style.color.match(/[\d.]+/g).slice(0, 3).map(Number);
    const colours = names.map((_, i) => style.getPropertyValue(`--c${i}`));
    box = planeBox($(".map").clientWidth, reach);
    const { Z1, X, Y, left, side, scale } = box;

    const task = [side, beta, grid, host.dataset.theme, devicePixelRatio].join();
    if (task !== painted) {
      painted = task;
      const context = sharp($(".plane"), box);
      if (grid) paintGrid(context, box, size, ink, image);
      paintPoints(context, box, clouds[current()], { classes, marks, colours, ink, grid });
      put(".plot", { height: side + 22 });
      for (const name of [".plot rect", ".frame"]) put(name, { x: left, y: 0, width: side, height: side });
      put(".axis", { d: `M${left} 0V${side}H${left + side}` });
      put(".prior", { d: [1, 2, 3].map((r) => disc(X(0), Y(0), r * scale)).join("") });
      const step = [1, 2, 5, 10, 20, 50, 100].find((length) => length * scale > 30) ?? 1000;
      const whole = Math.floor((reach - 9 / scale) / step);
      const steps = Array.from({ length: 2 * whole + 1 }, (_, i) => (i - whole) * step);
      $(".map .ticks").innerHTML = steps.map((v) => `
        <text class="tick" x="${X(v)}" y="${side + 16}" text-anchor="middle">${show(v, 0)}</text>
        <text class="tick" x="${left - 6}" y="${Y(v) + 4}" text-anchor="end">${show(v, 0)}</text>`).join("");
      put(".z1", { x: left + side - 2, y: side - 8, "text-anchor": "end" });
      put(".z2", { x: left + 8, y: 14 });
      put(".pz", { x: X(3 * Math.SQRT1_2) + 3, y: Y(-3 * Math.SQRT1_2) + 12 });
    }

    const decoded = image(z);
    film($(".image"), [decoded], size, ink);
    const stops = walk ? interpolate(z, end, side > 340 ? 11 : 8) : [];
    for (const name of [".film", ".ends"]) $(name).hidden = !walk;
    if (walk) film($(".strip"), stops.map(image), size, ink);
    for (const name of [".handle.end", "text.end", ".path"]) put(name, { visibility: walk ? "visible" : "hidden" });
    put(".path", { x1: X(z[0]), y1: Y(z[1]), x2: X(end[0]), y2: Y(end[1]) });
    put(".stops", { d: stops.slice(1, -1).map(([a, b]) => disc(X(a), Y(b), 3.2)).join("") });
    const apart = Math.hypot(end[0] - z[0], end[1] - z[1]);
    const away = walk && apart > 0 ? [0, 1].map((j) => (z[j] - end[j]) / apart) : [0.7, 0.7]; // where the path does not go
    for (const [name, [a, b], sign] of [["z", z, 1], ["end", end, -1]]) {
      put(`.handle.${name}`, {
        transform: `translate(${X(a)} ${Y(b)})`, "aria-valuemin": -reach, "aria-valuemax": reach, "aria-valuenow": a,
        "aria-valuetext": `(${show(a)}, ${show(b)})`,
      });
      const [x, y] = [X(a) + 19 * sign * away[0], Y(b) - 19 * sign * away[1]];
      const near = clamp(x, left + 8, left + side - 10); // at the rim the name goes above or below its handle
      const beside = near === x ? clamp(y, 10, side - 6) : Y(b) + (Y(b) > 32 ? -20 : 20);
      put(`text.${name}`, { x: near, y: beside + 5 });
    }
    $("#point").textContent = `(${show(z[0])}, ${show(z[1])})`;
    if (several) {
      $("#beta").value = current();
      put("#beta", { "aria-valuetext": beta });
      $("#beta-number").textContent = beta;
    }
    if (curve) {
      const [R, D] = [rate[current()], distortion[current()]];
      drawCurve(put, $, { rate, distortion, beta, R, D, width: $(".info").clientWidth });
      for (const [name, value] of [["rate", R], ["distortion", D], ["sum", R + D]]) $(`#${name}`).textContent = show(value);
      Object.assign(host.dataset, { rate: R, distortion: D });
    }
    for (const name of ["grid", "walk"]) put(`#${name}`, { "aria-pressed": model.get(name) });
    Object.assign(host.dataset, {
      z: z.join(), end: end.join(), beta, grid, walk, image: Array.from(decoded, (value) => value.toFixed(6)).join(),
    });
  };
}

/** How far both axes go: to this share of the points, lest the widest of several clouds shrink the others to a dot. */
function reachOf(all, share) {
  const distances = Array.from({ length: all.length / 2 }, (_, i) => Math.max(Math.abs(all[2 * i]), Math.abs(all[2 * i + 1])));
  distances.sort((a, b) => a - b);
  return Math.max(3.2, 1.06 * distances[Math.ceil(share * distances.length) - 1]);
}

/** A square with the same scale on both axes, from −reach to reach. */
function planeBox(width, reach) {
  const left = 24;
  const side = Math.max(width - left, 200);
  const scale = side / (2 * reach);
  return {
    left, side, scale,
    X: (value) => left + (value + reach) * scale,
    Y: (value) => (reach - value) * scale,
    Z1: (x) => (x - left) / scale - reach,
    Z2: (y) => reach - y / scale,
  };
}

/** A canvas over the square with the screen's own pixels; its context counts in those of the page. */
function sharp(canvas, { left, side }) {
  const ratio = Math.max(devicePixelRatio, 1);
  Object.assign(canvas, { width: side * ratio, height: side * ratio });
  Object.assign(canvas.style, { left: `${left}px`, top: 0, width: `${side}px`, height: `${side}px` });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.translate(-left, 0);
  context.imageSmoothingEnabled = false;
  return context;
}

/** Images of z on a grid, each about 30 pixels wide and its pixels whole ones. */
function paintGrid(context, { left, side, Z1, Z2 }, size, ink, image) {
  const [height, width] = size;
  const zoom = Math.max(1, Math.round(30 / Math.max(height, width)));
  const cell = zoom * (Math.max(height, width) + 1);
  const count = Math.floor(side / cell);
  const margin = Math.floor((side - count * cell) / 2);
  const tile = Object.assign(document.createElement("canvas"), { width, height });
  context.globalAlpha = 0.55;
  for (let row = 0; row < count; row++)
    for (let column = 0; column < count; column++) {
      const [x, y] = [left + margin + column * cell, margin + row * cell];
      tile.getContext("2d").putImageData(develop(image([Z1(x + cell / 2), Z2(y + cell / 2)]), size, ink), 0, 0);
      context.drawImage(tile, x + (cell - zoom * width) / 2, y + (cell - zoom * height) / 2, zoom * width, zoom * height);
    }
}

/** The encoded data, each point with the mark and the colour of its class. */
function paintPoints(context, { X, Y }, cloud, { classes, marks, colours, ink, grid }) {
  Object.assign(context, { globalAlpha: grid ? 0.6 : 0.85, textAlign: "center", textBaseline: "middle" });
  context.font = `600 ${marks === MARKS ? 7 : 11}px system-ui, sans-serif`;
  for (let i = 0; i < cloud.length / 2; i++) {
    context.fillStyle = colours[classes[i]] ?? `rgb(${ink})`;
    context.fillText(marks[classes[i] ?? 0], X(cloud[2 * i]), Y(cloud[2 * i + 1]));
  }
}

/** Distortion against rate with the model of this β and a line of slope −β through it. */
function drawCurve(put, $, { rate, distortion, beta, R, D, width }) {
  const [left, height] = [38, 112];
  const [low, high] = [Math.min(...distortion), Math.max(...distortion)];
  const pad = 0.12 * (high - low || 1);
  const most = 1.25 * Math.max(...rate, 1e-9);
  const X = (value) => left + (value / most) * (width - left);
  const Y = (value) => 16 + ((high + pad - value) / (high - low + 2 * pad)) * height;
  const bottom = 16 + height;
  put(".curve", { height: bottom + 20 });
  put(".curve .axis", { d: `M${left} 12V${bottom}H${width}` });
  put(".curve rect", { x: left, y: 12, width: Math.max(width - left, 0), height: bottom - 12 });
  put(".curve .R", { x: width, y: bottom + 16, "text-anchor": "end" });
  put(".curve .D", { x: left - 6, y: 14, "text-anchor": "end" });
  $(".curve .ticks").innerHTML = `
    <text class="tick" x="${left}" y="${bottom + 16}" text-anchor="middle">0</text>
    ${[Math.max(...rate)].map((v) => `<text class="tick" x="${X(v)}" y="${bottom + 16}" text-anchor="middle">${show(v, 1)}</text>`).join("")}
    ${[low, high].map((v) => `<text class="tick" x="${left - 5}" y="${Y(v) + 4}" text-anchor="end">${show(v, Math.abs(v) < 100 ? 1 : 0)}</text>`).join("")}`;
  const order = [...rate.keys()].sort((i, j) => rate[i] - rate[j]);
  put(".curve .through", { d: line(order.map((i) => [X(rate[i]), Y(distortion[i])])) });
  put(".curve .models", { d: order.map((i) => disc(X(rate[i]), Y(distortion[i]), 3)).join("") });
  put(".curve .tangent", { x1: X(0), y1: Y(D + beta * R), x2: X(most), y2: Y(D + beta * (R - most)) });
  put(".curve .here", { cx: X(R), cy: Y(D) });
}

export default {
  render: (context) =>
    mount(context, ["z", "end", "beta", "grid", "walk"], (root, signal) => buildDecoder(context.model, root, signal)),
};
