// Chapter 4. The training of GANs in the plane, replayed from samples and the weights of D.

/**
 * The data and, for each recording, samples and weights of D in every frame and both losses. Points are pairs of 12-bit
 * integers, 1365 of which reach from the middle of the view to its edge; weights are the first frame's, and what each
 * later one adds, in 8 bits with a scale for each tensor.
 */
export function unpack({ content, view: [a, b, half], n, steps, recordings }) {
  let at = content.byteOffset;
  const read = (kind, count) => new kind(content.buffer.slice(at, (at += count * kind.BYTES_PER_ELEMENT)));
  const points = (count) => {
    const bytes = read(Uint8Array, 3 * count);
    return Array.from({ length: count }, (_, i) => {
      const both = bytes[3 * i] | (bytes[3 * i + 1] << 8) | (bytes[3 * i + 2] << 16);
      return [a + (((both & 4095) - 2048) / 1365) * half, b + (((both >> 12) - 2048) / 1365) * half];
    });
  };
  const x = points(n);
  return {
    x,
    recordings: recordings.map(({ layers, samples: count, bins }) => {
      const samples = steps.map(() => points(count));
      const sizes = layers.flatMap(({ inputs, outputs }) => [inputs * outputs, outputs]);
      const total = sizes.reduce((sum, size) => sum + size);
      const weights = [Float64Array.from(read(Float32Array, total))];
      while (weights.length < steps.length) {
        const next = weights.at(-1).slice();
        const scales = read(Float32Array, sizes.length);
        const levels = read(Int8Array, total);
        let i = 0;
        sizes.forEach((size, part) => {
          for (const end = i + size; i < end; i++) next[i] += scales[part] * levels[i];
        });
        weights.push(next);
      }
      return { samples, weights, losses: [read(Float32Array, bins), read(Float32Array, bins)] };
    }),
  };
}

/** D as the function (x, y) → a; with `slope`, also ∇a: [a, ∂a/∂x, ∂a/∂y]. It may see sines and cosines beside x and y. */
export function network({ frequencies: [u, v], layers }, w) {
  const waves = u.length;
  const inputs = layers.map(({ outputs }) => new Float64Array(outputs)); // before the activation
  const values = [new Float64Array(2 + 2 * waves), ...inputs.map((layer) => layer.slice())];
  const back = values.map((layer) => layer.slice());
  const starts = [];
  let total = 0;
  for (const { inputs: n, outputs: m } of layers) total = (starts.push(total), total + (n + 1) * m);
  const forward = (x, y) => {
    values[0][0] = x;
    values[0][1] = y;
    for (let k = 0; k < waves; k++) {
      const angle = u[k] * x + v[k] * y;
      values[0][2 + k] = Math.sin(angle);
      values[0][2 + waves + k] = Math.cos(angle);
    }
    for (let l = 0; l < layers.length; l++) {
      const { outputs: m, activation, slope } = layers[l];
      const [act] = ACTIVATIONS[activation];
      affine(w, starts[l], values[l], inputs[l]);
      for (let i = 0; i < m; i++) values[l + 1][i] = act(inputs[l][i], slope);
    }
    return values[layers.length][0];
  };
  const slope = (x, y) => {
    const value = forward(x, y);
    back[layers.length][0] = 1;
    for (let l = layers.length - 1; l >= 0; l--) {
      const { inputs: n, outputs: m, activation, slope } = layers[l];
      const [, derivative] = ACTIVATIONS[activation];
      back[l].fill(0);
      for (let i = 0; i < m; i++) {
        const through = back[l + 1][i] * derivative(inputs[l][i], slope);
        for (let j = 0, at = starts[l] + i * n; j < n; j++) back[l][j] += w[at + j] * through;
      }
    }
    let [dx, dy] = back[0];
    for (let k = 0; k < waves; k++) {
      const turn = back[0][2 + k] * values[0][2 + waves + k] - back[0][2 + waves + k] * values[0][2 + k];
      dx += u[k] * turn;
      dy += v[k] * turn;
    }
    return [value, dx, dy];
  };
  return { forward, slope };
}

/** What a logit is compared with: 0, or the logits of data for the losses that look at differences only. */
export const rivals = (loss, net, x) =>
  loss === "minimax" || loss === "non-saturating" ? [0] : x.map(([a, b]) => net.forward(a, b));

/** D: the probability that x is real, or looks more real than one of its rivals. */
export function probability(logit, against) {
  let sum = 0;
  for (const other of against) sum += sigmoid(logit - other);
  return sum / against.length;
}

/**
 * −∂/∂x of G's loss at a sample is ∇a(x) times a factor: D for log(1 − D), 1 − D for −log D (each a mean over the
 * rivals), 1 for −a.
 */
export function pull(loss, net, against, [x, y]) {
  const [logit, dx, dy] = net.slope(x, y);
  const slope = Math.hypot(dx, dy);
  const D = probability(logit, against);
  const lengths = { saturating: D * slope, "non-saturating": (against.reduce((sum, c) => sum + sigmoid(c - logit), 0) / against.length) * slope, wasserstein: slope };
  const own = { minimax: "saturating", wasserstein: "wasserstein" }[loss] ?? "non-saturating";
  return { logit, D, direction: slope ? [dx / slope, dy / slope] : [0, 0], lengths, own, length: lengths[own] };
}

/** a at the corners of columns × rows cells, from the top left. */
export function landscape(net, { x0, x1, y0, y1 }, columns, rows) {
  const logits = new Float32Array((columns + 1) * (rows + 1));
  for (let row = 0, i = 0; row <= rows; row++)
    for (let column = 0; column <= columns; column++)
      logits[i++] = net.forward(x0 + (column / columns) * (x1 - x0), y1 - (row / rows) * (y1 - y0));
  return logits;
}

/** D at the middles of cells half as large: where D is steep, a between the corners is nearly straight and D is not. */
export function shade(logits, against, columns, rows) {
  const fine = new Float32Array(4 * columns * rows);
  for (let row = 0, i = 0; row < 2 * rows; row++)
    for (let column = 0; column < 2 * columns; column++) {
      const above = (row >> 1) * (columns + 1) + (column >> 1);
      const below = above + columns + 1;
      const right = 0.25 + (column & 1) / 2;
      const down = 0.25 + (row & 1) / 2;
      const upper = logits[above] + right * (logits[above + 1] - logits[above]);
      const lower = logits[below] + right * (logits[below + 1] - logits[below]);
      fine[i++] = upper + down * (lower - upper);
    }
  if (against.length === 1) return fine.map((logit) => sigmoid(logit - against[0]));
  // A mean over many rivals depends on the logit alone: a table of it spares a sum in every cell.
  let [low, high] = [Infinity, -Infinity];
  for (const logit of fine) [low, high] = [Math.min(low, logit), Math.max(high, logit)];
  const table = Array.from({ length: 257 }, (_, i) => probability(low + (i / 256) * (high - low), against));
  return fine.map((logit) => {
    const at = high > low ? (256 * (logit - low)) / (high - low) : 0;
    const i = Math.min(Math.floor(at), 255);
    return table[i] + (at - i) * (table[i + 1] - table[i]);
  });
}

/** Segments [[x, y], [x, y]] in cells, where values on a grid cross a level. */
export function contour(values, columns, rows, level) {
  const segments = [];
  for (let row = 0; row + 1 < rows; row++)
    for (let column = 0; column + 1 < columns; column++) {
      const at = row * columns + column;
      const below = (values[at] < level) + (values[at + 1] < level) + (values[at + columns] < level) + (values[at + columns + 1] < level);
      if (below === 0 || below === 4) continue;
      const corners = [[0, 0, at], [1, 0, at + 1], [1, 1, at + columns + 1], [0, 1, at + columns]];
      const crossings = [];
      corners.forEach(([x, y, a], side) => {
        const [u, v, b] = corners[(side + 1) % 4];
        const [from, to] = [values[a] - level, values[b] - level];
        if (from < 0 === to < 0) return;
        const part = from / (from - to);
        crossings.push([column + 0.5 + x + part * (u - x), row + 0.5 + y + part * (v - y)]);
      });
      for (let i = 0; i + 1 < crossings.length; i += 2) segments.push([crossings[i], crossings[i + 1]]);
    }
  return segments;
}

const RATE = 8; // frames a second
const SPEEDS = [0.5, 1, 2];
const CELL = 10; // pixels, of the landscape

const GAN_WORDS = {
  en: {
    losses: { minimax: "minimax", "non-saturating": "non-saturating", wasserstein: "Wasserstein", relativistic: "relativistic" },
    figure: "Data, samples, D and the gradient that G receives at x",
    curves: "losses of D and G",
    modes: "modes", quality: "quality",
    point: "point x: arrow keys move it",
    play: "play", pause: "pause", step: "step", speed: "speed",
    data: "data", samples: "samples",
    lengths: "length of the gradient that G receives at x",
  },
  ko: {
    losses: { minimax: "최소최대", "non-saturating": "비포화", wasserstein: "바서슈타인", relativistic: "상대론적" },
    figure: "데이터와 표본, D, x에서 G가 받는 기울기",
    curves: "D와 G의 손실",
    modes: "봉우리", quality: "품질",
    point: "점 x: 화살표 키로 옮긴다",
    play: "재생", pause: "일시 정지", step: "단계", speed: "속도",
    data: "데이터", samples: "표본",
    lengths: "x에서 G가 받는 기울기의 길이",
  },
};

const ganTemplate = (t, recordings, frames, title) => `
  <style>
    .panels { display: grid; gap: 0.3rem 1.4rem; font-size: 0.94rem; }
    @container (min-width: 34rem) { .panels.two { grid-template-columns: 1fr 1fr; } .two .again { display: none; } }
    .panels > * { min-width: 0; } .panel { align-self: end; } .panels:not(.two) { max-width: 27rem; margin: 0 auto; } .again { margin-top: 0.5rem; }
    .legend, .transport { grid-column: 1 / -1; }
    .legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.3rem; align-items: center; font-size: 0.9rem; }
    .legend > span { display: inline-flex; align-items: center; gap: 0.4em; white-space: nowrap; }
    .dot { width: 0.55em; height: 0.55em; border-radius: 50%; background: currentColor; opacity: 0.6; }
    .dot.fake { background: var(--vermilion); opacity: 1; }
    .ramp { width: 4.2rem; height: 0.65em; border-radius: 2px; position: relative; background: linear-gradient(to right,
      ${[0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1].map((D) => `color-mix(in srgb, var(--${D < 0.5 ? "vermilion" : "blue"}) ${(100 * ink(D)).toFixed()}%, transparent)`).join()}); }
    .ramp::after { content: ""; position: absolute; left: 50%; top: -2px; bottom: -2px; border-left: 1.5px solid currentColor; }
    .head { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; align-items: baseline; min-height: 1.6rem; }
    .head b { font-weight: 600; } .score { display: inline-flex; gap: 0.9em; white-space: nowrap; }
    .picture { position: relative; overflow: hidden; border-radius: 4px; box-shadow: inset 0 0 0 1px color-mix(in srgb, currentColor 22%, transparent); }
    .picture canvas { width: 100%; height: 100%; }
    .picture svg { overflow: hidden; }
    .real { fill: currentColor; fill-opacity: 0.42; }
    .fake { fill: var(--vermilion); fill-opacity: 0.9; stroke: var(--paper); stroke-width: 1.5; paint-order: stroke; }
    .level { fill: none; stroke: currentColor; stroke-opacity: 0.6; stroke-width: 1.25; }
    .own { stroke: var(--green); stroke-width: 3; fill: none; stroke-linecap: round; stroke-linejoin: round; }
    .other { stroke: var(--green); stroke-width: 1.75; stroke-dasharray: 4 3; fill: none; }
    .halo { stroke: var(--paper); stroke-width: 6; stroke-opacity: 0.75; fill: none; stroke-linecap: round; stroke-linejoin: round; }
    .knob { fill: var(--paper); stroke: var(--green); stroke-width: 3; }
    .name { font-style: italic; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; stroke-opacity: 0.85; fill: var(--green-text); }
    .transport { display: flex; align-items: center; gap: 0.7rem; margin: 0.25rem 0; }
    .transport button { min-width: 2.75rem; } #play svg { width: 1em; height: 1em; margin: 0 auto; fill: currentColor; overflow: visible; }
    .transport .value { min-width: 6.2em; justify-content: flex-end; } .transport .number { min-width: 2.6em; text-align: right; }
    .lengths { display: grid; grid-template-columns: auto auto minmax(2rem, 1fr) auto; gap: 0.1rem 0.8rem; align-items: center; font-size: 0.92rem; }
    .lengths .row { display: contents; } .lengths .math { white-space: nowrap; } .lengths .number { text-align: right; min-width: 4.1em; font-weight: 400; }
    .row.own-row > * { font-weight: 600; } .row .bar > div { background: var(--green); } .row.d .bar > div { background: var(--blue); }
    .row:not(.own-row):not(.d) .bar > div { opacity: 0.45; }
    .curves { display: flex; gap: 1.4rem; margin-top: 0.55rem; }
    .lossd { color: var(--blue-text); } .lossg { color: var(--vermilion-text); }
    .curve { fill: none; stroke-width: 1.5; stroke-linejoin: round; } .curve.d { stroke: var(--blue); } .curve.g { stroke: var(--vermilion); }
    .now { stroke: currentColor; stroke-opacity: 0.55; } .mark { stroke: var(--paper); stroke-width: 1.5; }
    .mark.d { fill: var(--blue); } .mark.g { fill: var(--vermilion); }
    [hidden] { display: none !important; }
  </style>
  <div class="panels ${recordings.length > 1 ? "two" : ""}">
    <div class="legend">
      <span><span class="dot"></span>${t.data} <i class="math">x</i></span>
      <span><span class="dot fake"></span>${t.samples} <span class="math"><i>G</i>(<i>z</i>)</span></span>
      <span class="math"><span><i>D</i>(<i>x</i>)</span><span>0</span><span class="ramp"></span><span>1</span></span>
    </div>
    ${recordings.map(({ name, modes }, i) => `
    <div class="panel" data-panel="${i}">
      <div class="head"><b>${title(name)}</b>${modes ? `<span class="score"><span>${t.modes} <span class="number captured"></span></span>
        <span>${t.quality} <span class="number quality"></span></span></span>` : ""}</div>
      <div class="picture"><canvas aria-hidden="true"></canvas>
        <svg role="group" aria-label="${title(name)}: ${t.figure}">
          <path class="real"/><path class="level"/><path class="fake"/>
          <path class="other"/><path class="halo"/><path class="own"/>
          <g class="handle" role="slider" tabindex="0" aria-label="${t.point} (${title(name)})">
            <circle class="hit" r="22"/><circle class="ring" r="12"/><circle class="knob" r="6.5"/><text class="name" text-anchor="middle">x</text></g>
        </svg></div>
    </div>`).join("")}
    <div class="transport">
      <button id="play"><svg viewBox="0 0 16 16" aria-hidden="true"><path/></svg></button>
      <input type="range" id="frame" min="0" max="${frames - 1}" step="1" aria-label="${t.step}">
      <span class="value"><span>${t.step}</span><span class="number" id="step"></span></span>
      <button id="speed"></button>
    </div>
    ${recordings.map(({ name, loss }, i) => `
    <div class="details" data-panel="${i}">
      ${recordings.length > 1 ? `<div class="head again"><b>${title(name)}</b></div>` : ""}
      <div class="lengths" role="group" aria-label="${t.lengths}">
        <div class="row d"><span class="math"><i>D</i>(<i>x</i>)</span><span></span><div class="bar"><div></div></div><span class="number"></span></div>
        ${loss === "wasserstein" ? `
        <div class="row" data-length="wasserstein"><span class="math">−<i>f</i></span><span class="math">|∇<i>f</i>|</span><div class="bar"><div></div></div><span class="number"></span></div>` : `
        <div class="row" data-length="saturating"><span class="math">log(1−<i>D</i>)</span><span class="math"><i>D</i> |∇<i>a</i>|</span><div class="bar"><div></div></div><span class="number"></span></div>
        <div class="row" data-length="non-saturating"><span class="math">−log <i>D</i></span><span class="math">(1−<i>D</i>) |∇<i>a</i>|</span><div class="bar"><div></div></div><span class="number"></span></div>`}
      </div>
      <div class="curves"><span class="value lossd"><span class="math"><i>L</i><sub><i>D</i></sub></span><span class="number"></span></span>
        <span class="value lossg"><span class="math"><i>L</i><sub><i>G</i></sub></span><span class="number"></span></span></div>
      <svg class="losses" role="img" aria-label="${title(name)}: ${t.curves}"><path class="axis"/><g class="ticks"></g>
        <path class="curve d"/><path class="curve g"/><line class="now"/><circle class="mark d" r="4"/><circle class="mark g" r="4"/></svg>
    </div>`).join("")}
  </div>`;

const PLAY = "M3 1.5V14.5L14.5 8z";
const PAUSE = "M3 2h3.6v12H3zM9.4 2H13v12H9.4z";

function buildGAN(model, root, signal) {
  const t = dictionary(GAN_WORDS, model.get("lang"));
  const title = (name) => t.losses[name] ?? name.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const [view, steps, n, content, about] = ["view", "steps", "n", "content", "recordings"].map((name) => model.get(name));
  const { x, recordings } = unpack({ content, view, n, steps, recordings: about });
  root.innerHTML += ganTemplate(t, about, steps.length, title);
  const $ = (selector, within = root) => within.querySelector(selector);
  const put = (element, attributes) => Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  const last = steps.length - 1;
  const panels = recordings.map(({ samples, weights, losses }, i) => {
    const nets = [];
    const net = (k) => {
      if (!nets[k]) {
        const one = network(about[i], weights[k]);
        nets[k] = { net: one, against: rivals(about[i].loss, one, x) };
      }
      return nets[k];
    };
    const [picture, details] = [".panel", ".details"].map((part) => $(`${part}[data-panel="${i}"]`));
    return { recording: about[i], samples, losses, net, picture, details, maps: [] };
  });

  // Between two frames of a replay, samples and landscape are interpolated; at rest a frame is shown as it is.
  let position = null; // where the replay stands
  let speed = 1;
  let before;
  let shown; // the element that was drawn last
  const stop = () => {
    position = null;
    draw(shown);
  };
  const seek = (frame) => {
    position = null;
    save(model, { frame });
  };
  const tick = (now) => {
    if (position === null || signal.aborted || !$("#play").isConnected) return;
    position = Math.min(position + elapsed(now, before) * RATE * speed, last);
    before = now;
    const frame = Math.round(position);
    if (frame !== model.get("frame")) save(model, { frame });
    if (position === last) return stop();
    draw(shown);
    requestAnimationFrame(tick);
  };
  const play = () => {
    if (position !== null) return stop();
    position = model.get("frame") === last ? 0 : model.get("frame");
    requestAnimationFrame((now) => tick((before = now)));
    draw(shown);
  };
  $("#play").addEventListener("click", play, { signal });
  $("#speed").addEventListener("click", () => {
    speed = SPEEDS[(SPEEDS.indexOf(speed) + 1) % SPEEDS.length];
    draw(shown);
  }, { signal });
  $("#frame").addEventListener("input", (event) => seek(Number(event.target.value)), { signal });

  let box;
  const moveTo = ([a, b]) => save(model, { point: [clamp(a, box.x0, box.x1), clamp(b, box.y0, box.y1)] });
  for (const { picture } of panels) {
    const handle = $(".handle", picture);
    grip(handle, signal);
    draggable(handle, signal, () => model.get("point"), ([a, b], right, down) => moveTo([a + right / box.scale, b - down / box.scale]));
    keys(handle, signal, (right, up) => {
      const [a, b] = model.get("point");
      moveTo([a + (4 * right) / box.scale, b + (4 * up) / box.scale]);
    });
  }

  const drawPanel = (panel, host, width, place, frame) => {
    const { recording, picture, details, net, losses, maps } = panel;
    const { X, Y, columns, rows } = box;
    const at = Math.floor(place);
    const part = place - at;
    const mix = (a, b) => a + part * (b - a);

    const D = (k) => (maps[k] ??= shade(landscape(net(k).net, box, columns, rows), net(k).against, columns, rows));
    const values = part ? D(at).map((value, i) => mix(value, D(at + 1)[i])) : D(at);
    const task = [place, width, host.dataset.theme].join();
    if (task !== panel.painted) {
      panel.painted = task;
      paintLandscape($("canvas", picture), values, 2 * columns, 2 * rows, host);
      const [cx, cy] = [width / columns / 2, box.height / rows / 2];
      put($(".level", picture), { d: contour(values, 2 * columns, 2 * rows, 0.5).map(([[a, b], [c, d]]) => `M${(a * cx).toFixed(1)} ${(b * cy).toFixed(1)}L${(c * cx).toFixed(1)} ${(d * cy).toFixed(1)}`).join("") });
      const [from, to] = [panel.samples[at], part ? panel.samples[at + 1] : null];
      put($(".fake", picture), { d: from.map(([a, b], i) => (to ? disc(X(mix(a, to[i][0])), Y(mix(b, to[i][1])), 3) : disc(X(a), Y(b), 3))).join("") });
    }
    if (panel.width !== width) {
      panel.width = width;
      put($("svg", picture), { height: box.height });
      put($(".real", picture), { d: x.map(([a, b]) => disc(X(a), Y(b), 2)).join("") });
      drawCurves(panel, width);
    }

    const point = model.get("point");
    const force = pull(recording.loss, net(frame).net, net(frame).against, point);
    const [px, py] = [X(point[0]), Y(point[1])];
    const tip = (length) => {
      const pixels = 0.36 * box.height * box.part(length);
      return [px + pixels * force.direction[0], py - pixels * force.direction[1]];
    };
    const arrow = (length) => {
      const [a, b] = tip(length);
      const size = Math.min(9, 0.6 * Math.hypot(a - px, b - py));
      const angle = Math.atan2(b - py, a - px);
      const barb = (turn) => `M${(a - size * Math.cos(angle + turn)).toFixed(1)} ${(b - size * Math.sin(angle + turn)).toFixed(1)}L${a.toFixed(1)} ${b.toFixed(1)}`;
      return `M${px.toFixed(1)} ${py.toFixed(1)}L${a.toFixed(1)} ${b.toFixed(1)}${barb(0.5)}${barb(-0.5)}`;
    };
    const other = { saturating: "non-saturating", "non-saturating": "saturating" }[force.own];
    put($(".own", picture), { d: arrow(force.length) });
    put($(".halo", picture), { d: arrow(force.length) });
    put($(".other", picture), { d: other ? arrow(force.lengths[other]) : "" });
    const [right, up] = force.direction[0] || force.direction[1] ? force.direction : [1, 0];
    put($(".name", picture), { x: -18 * right, y: 5 + 18 * up }); // behind the arrow
    put($(".handle", picture), {
      transform: `translate(${px} ${py})`, "aria-valuemin": box.x0, "aria-valuemax": box.x1, "aria-valuenow": point[0],
      "aria-valuetext": `x = (${show(point[0])}, ${show(point[1])}), D(x) = ${show(force.D, 3)}, |∇| = ${figure(force.length)}`,
    });

    const [d, ...rows_] = details.querySelectorAll(".lengths .row");
    $(".bar > div", d).style.width = `${100 * force.D}%`;
    $(".number", d).textContent = figure(force.D);
    for (const row of rows_) {
      const length = force.lengths[row.dataset.length];
      row.classList.toggle("own-row", row.dataset.length === force.own);
      $(".bar > div", row).style.width = `${100 * box.part(length)}%`;
      $(".number", row).textContent = figure(length);
    }
    const bin = Math.min(Math.floor(steps[frame] / recording.width), losses[0].length - 1);
    [".lossd", ".lossg"].forEach((name, i) => ($(`${name} .number`, details).textContent = show(losses[i][bin], 2)));
    const now = panel.across(bin);
    put($(".now", details), { x1: now, x2: now, y1: 2, y2: CURVES });
    ["d", "g"].forEach((name, i) => put($(`.mark.${name}`, details), { cx: now, cy: panel.upward(losses[i][bin]) }));
    if (recording.modes) {
      $(".captured", picture).textContent = `${recording.captured[frame]}/${recording.modes}`;
      $(".quality", picture).textContent = `${Math.round(100 * recording.high_quality[frame])} %`;
    }
    return { ...force, losses: losses.map((curve) => curve[bin]) };
  };

  const draw = (host) => {
    shown = host;
    const frame = model.get("frame");
    const width = $(".picture").clientWidth;
    if (box?.width !== width) {
      box = windowOf(view, width, panels.length > 1 && width > 0.6 * host.clientWidth);
      for (const panel of panels) panel.maps = [];
    }
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const place = position === null || still ? frame : position;
    panels.forEach((panel, i) => {
      const { D, direction, length, lengths, losses } = drawPanel(panel, host, width, place, frame);
      Object.assign(host.dataset, {
        [`d${i}`]: D, [`direction${i}`]: direction, [`length${i}`]: length,
        [`saturating${i}`]: lengths.saturating, [`nonSaturating${i}`]: lengths["non-saturating"], [`losses${i}`]: losses,
      });
    });
    $("#frame").value = frame;
    put($("#frame"), { "aria-valuetext": `${t.step} ${steps[frame]}` });
    $("#step").textContent = steps[frame];
    put($("#play path"), { d: position === null ? PLAY : PAUSE });
    put($("#play"), { "aria-label": position === null ? t.play : t.pause });
    $("#speed").textContent = `${speed === 0.5 ? "½" : speed}×`;
    put($("#speed"), { "aria-label": `${t.speed} ${speed}` });
    Object.assign(host.dataset, { frame, step: steps[frame], point: model.get("point"), playing: position !== null, speed });
  };
  return draw;
}

/** The view in a picture: square, but on a phone low enough for two, one above the other. */
function windowOf([a, b, half], width, stacked) {
  const height = Math.min(width, stacked ? 272 : 400);
  const scale = Math.min(width, height) / (2 * half);
  const [columns, rows] = [Math.round(width / CELL), Math.round(height / CELL)];
  return {
    width, height, scale, columns, rows,
    part: (length) => 1 - 1 / (1 + 2 * half * length), // of the longest arrow; 2 half |∇| is a change over the whole view
    x0: a - width / 2 / scale, x1: a + width / 2 / scale, y0: b - height / 2 / scale, y1: b + height / 2 / scale,
    X: (value) => width / 2 + (value - a) * scale,
    Y: (value) => height / 2 - (value - b) * scale,
  };
}

/** How opaque the colour of D is. */
const ink = (D) => 0.55 * Math.abs(2 * D - 1) ** 0.7;

/** D as transparent colour: blue where it says real, vermilion where it says fake, nothing at one half. */
function paintLandscape(canvas, values, columns, rows, host) {
  const colours = ["--vermilion", "--blue"].map((name) => {
    const [red, green, blue] = getComputedStyle(host).getPropertyValue(name).match(/[\da-f]{2}/gi).map((part) => parseInt(part, 16));
    return (blue << 16) | (green << 8) | red;
  });
  Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  values.forEach((D, i) => (pixels[i] = colours[D < 0.5 ? 0 : 1] | (Math.round(255 * ink(D)) << 24)));
  context.putImageData(image, 0, 0);
}

const CURVES = 76; // height of the losses, pixels

function drawCurves(panel, width) {
  const { details, losses, recording } = panel;
  const finite = [...losses[0], ...losses[1]];
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (high - low < 1e-6) [low, high] = [low - 0.5, high + 0.5];
  const left = 40;
  const bins = losses[0].length;
  panel.across = (bin) => left + (bin / Math.max(bins - 1, 1)) * (width - left - 6);
  panel.upward = (value) => 6 + ((high - value) / (high - low)) * (CURVES - 12);
  const parts = { svg: details.querySelector(".losses"), axis: details.querySelector(".axis"), ticks: details.querySelector(".ticks") };
  parts.svg.setAttribute("height", CURVES + 20);
  parts.axis.setAttribute("d", `M${left} 0V${CURVES}H${width}`);
  const ticks = [low, high].map((value) => `<text class="tick" x="${left - 6}" y="${panel.upward(value) + 4}" text-anchor="end">${show(value, high - low < 0.5 ? 2 : high - low < 20 ? 1 : 0)}</text>`);
  const marks = [0, bins].map((bin, i) => `<text class="tick" x="${i ? width : left}" y="${CURVES + 16}" text-anchor="${i ? "end" : "start"}">${bin * recording.width}</text>`);
  parts.ticks.innerHTML = [...ticks, ...marks].join("");
  ["d", "g"].forEach((name, i) => details.querySelector(`.curve.${name}`).setAttribute("d", line(Array.from(losses[i], (value, bin) => [panel.across(bin), panel.upward(value)]))));
}

export default {
  render: (context) => mount(context, ["frame", "point"], (root, signal) => buildGAN(context.model, root, signal)),
};
