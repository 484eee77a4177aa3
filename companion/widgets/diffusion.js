// Chapter 5. Points and images on their way to noise and back, and the field that leads them.

/** What the images are at t on their way back: DDIM's step from the last of the times before it, with its x̂_0. */
export function rewind({ times, x, denoised }, schedule, t, k = Math.max(times.findLastIndex((time) => time >= t), 0)) {
  const [from, to] = [schedule(times[k]), schedule(t)];
  const ratio = to.sigma / from.sigma;
  return [x[k].map((value, i) => to.alpha * denoised[k][i] + ratio * (value - from.alpha * denoised[k][i])), denoised[k]];
}

const EARLIEST = 0.01; // nearer to the data the field is that of this time, since ε is lost there
const TIMES = Array.from({ length: 51 }, (_, i) => (50 - i) / 50); // at which the equation is solved
const TAILS = [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12]; // how long ago
const SECONDS = 5; // a play from end to end
const SPACING = 25; // pixels between arrows
const SLICE = 8; // milliseconds of a frame after which the rest of the first picture waits for the next one

const DIFFUSION_WORDS = {
  en: {
    plane: "Plane: data, noised points or samples, and the learnt field at time t",
    point: "your point: arrow keys move it, and the equation leads it to noise and to data",
    time: "time t: data at 0, noise at 1",
    forward: "noising", reverse: "reverse", direction: "which way the points go",
    score: "score function: the direction in which x becomes more probable", velocity: "the direction in which the reverse equation moves x", field: "arrows",
    play: "play", pause: "pause",
    data: "data", noised: "noised", samples: "samples", yours: "your point",
    alpha: "share of data", sigma: "share of noise", snr: "signal-to-noise ratio",
    noisy: "images at time t", clean: "images without noise", denoised: "what the network predicts",
  },
  ko: {
    plane: "평면: 데이터, 잡음을 더한 점 또는 표본, 시각 t에 학습한 벡터장",
    point: "내 점: 화살표 키로 옮긴다. 방정식이 이 점을 잡음과 데이터로 이끈다",
    time: "시각 t: 0이면 데이터, 1이면 잡음",
    forward: "순방향", reverse: "역과정", direction: "점이 가는 쪽",
    score: "점수 함수: x가 더 그럴듯해지는 방향", velocity: "역과정의 방정식이 x를 옮기는 방향", field: "화살표",
    play: "재생", pause: "일시 정지",
    data: "데이터", noised: "잡음을 더한 점", samples: "표본", yours: "내 점",
    alpha: "데이터의 몫", sigma: "잡음의 몫", snr: "신호 대 잡음비",
    noisy: "시각 t의 이미지", clean: "잡음이 없는 이미지", denoised: "신경망이 예측한 이미지",
  },
};

const X = (hat, below) => `<i>${hat ? "x̂" : "x"}</i><sub>${below === "t" ? "<i>t</i>" : below}</sub>`;

const shares = (t) => `
  <div class="values shares">${[["alpha", "<i>α</i><sub><i>t</i></sub>"], ["sigma", "<i>σ</i><sub><i>t</i></sub>"], ["snr", "SNR"]].map(([name, symbol]) => `
    <span class="value"><abbr class="math" title="${t[name]}">${symbol}</abbr><span class="number ${name}"></span></span>`).join("")}</div>`;

const choice = (name, label, options) => `
  <span class="choice" role="radiogroup" aria-label="${label}">${options.map(([value, text, title]) => `
    <button id="${value}" role="radio" data-choice="${name}" title="${title}" aria-label="${title}">${text}</button>`).join("")}</span>`;

const diffusionTemplate = (t, images) => `
  <style>
    .panels { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.3rem 1.5rem; }
    .picture { position: relative; overflow: hidden; border-radius: 4px; box-shadow: inset 0 0 0 1px color-mix(in srgb, currentColor 22%, transparent); }
    .picture svg { overflow: hidden; }
    .legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.2rem; font-size: 0.9rem; }
    .legend > span { display: inline-flex; align-items: center; gap: 0.4em; white-space: nowrap; }
    .dot { width: 0.55em; height: 0.55em; border-radius: 50%; background: currentColor; opacity: 0.5; }
    .dot.now { background: var(--vermilion); opacity: 1; } .dot.own { background: none; opacity: 1; box-shadow: inset 0 0 0 2px var(--green); width: 0.65em; height: 0.65em; }
    .frame { fill: transparent; cursor: crosshair; }
    .data { fill: currentColor; fill-opacity: 0.3; }
    .points { fill: var(--vermilion); fill-opacity: 0.9; stroke: var(--paper); stroke-width: 1; paint-order: stroke; }
    .tails { fill: none; stroke: var(--vermilion); stroke-opacity: 0.45; stroke-width: 1.25; stroke-linejoin: round; }
    .arrows { fill: var(--blue); fill-opacity: 0.5; }
    .data, .points, .tails, .arrows, .path, .halo, .guess, .end, .name { pointer-events: none; }
    .path { fill: none; stroke: var(--green); stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
    .path.past { stroke-width: 1.75; stroke-dasharray: 1 5; }
    .halo { fill: none; stroke: var(--paper); stroke-width: 5; stroke-opacity: 0.7; stroke-linecap: round; stroke-linejoin: round; }
    .guess { stroke: var(--green); stroke-width: 1.5; fill: none; }
    .end { fill: var(--green); stroke: var(--paper); stroke-width: 1.5; }
    .knob { fill: var(--paper); stroke: var(--green); stroke-width: 3; }
    .name { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; stroke-opacity: 0.85; fill: var(--green-text); }
    .transport { display: flex; align-items: center; gap: 0.7rem; margin: 0.25rem 0; }
    .transport .number { min-width: 2.4em; text-align: right; }
    #play { min-width: 2.75rem; } #play svg { width: 1em; height: 1em; margin: 0 auto; fill: currentColor; overflow: visible; }
    .choices { display: flex; flex-wrap: wrap; gap: 0.4rem 0.8rem; margin-bottom: 0.5rem; } .choice button { min-width: 2.75rem; padding: 0 0.5rem; }
    .values { margin: 0.3rem 0 0; gap: 0.15rem 1.4rem; } .yours { display: grid; gap: 0.1rem; color: var(--green-text); }
    .yours .number { font-weight: 400; } .yours .value { gap: 0.4em; }
    @container (min-width: 36rem) {
      .panels { grid-template-columns: minmax(0, 1fr) 13rem; } .legend { min-height: 2.8rem; align-content: start; }
      .side .value { width: 100%; justify-content: space-between; } .yours .number { flex: 1; text-align: right; }
    }
    .film { display: grid; grid-template-columns: 1.7rem minmax(0, 1fr); gap: 0.35rem 0.3rem; align-items: center; margin-top: 0.4rem; }
    .film canvas { position: static; display: block; width: 100%; image-rendering: pixelated; border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: 2px; }
    .film .values { grid-column: 2; }
  </style>
  <div class="panels">
    <div>
      <div class="picture">
        <svg role="group" aria-label="${t.plane}">
          <rect class="frame"/><path class="data"/><path class="arrows"/><path class="tails"/><path class="points"/>
          <path class="halo"/><path class="path past"/><path class="path"/><path class="guess"/><circle class="end" r="4.5"/>
          <g class="handle" role="slider" tabindex="0" aria-label="${t.point}">
            <circle class="hit" r="22"/><circle class="ring" r="12"/><circle class="knob" r="6.5"/></g>
          <text class="name" text-anchor="middle"><tspan class="i">x</tspan><tspan class="i" dy="4" font-size="11">t</tspan></text>
        </svg></div>
      <div class="transport">
        <button id="play"><svg viewBox="0 0 16 16" aria-hidden="true"><path/></svg></button>
        <input type="range" id="t" min="0" max="1" step="0.01" aria-label="${t.time}">
        <span class="value"><span class="math"><i>t</i></span><span class="number" id="t-number"></span></span>
      </div>
    </div>
    <div class="side">
      <div class="choices">
        ${choice("direction", t.direction, [["forward", `${t.forward} →`, t.forward], ["reverse", `← ${t.reverse}`, t.reverse]])}
        ${choice("field", t.field, [["score", `<span class="math">∇ log <i>q</i></span>`, t.score], ["velocity", `<span class="math">−<i>dx</i>/<i>dt</i></span>`, t.velocity]])}
      </div>
      <div class="legend">
        <span><span class="dot"></span>${t.data}</span><span><span class="dot now"></span><span class="which"></span></span>
        <span><span class="dot own"></span>${t.yours}</span>
      </div>
      ${shares(t)}
      <div class="values yours">${[["xt", "○", X(0, "t")], ["guess", "✕", X(1, "0")], ["x0", "●", X(0, "0")]].map(([name, mark, symbol]) => `
        <span class="value"><span>${mark}</span><span class="math">${symbol}</span><span class="number" id="${name}"></span></span>`).join("")}</div>
    </div>
  </div>
  ${images ? `<div class="film">
    <span class="math">${X(0, "t")}</span><canvas class="noisy" role="img" aria-label="${t.noisy}"></canvas>
    <span class="math clean-name"></span><canvas class="clean" role="img" aria-label="${t.clean}"></canvas>
    ${images.schedule ? shares(t) : ""}
  </div>` : ""}`;

const PLAY = "M3 1.5V14.5L14.5 8z";
const PAUSE = "M3 2h3.6v12H3zM9.4 2H13v12H9.4z";

/** Slender triangles at the points, along the vectors; the longest are as long as the arrows are apart. */
const arrows = (points, vectors) => {
  let d = "";
  for (let i = 0; i < points.length; i += 2) {
    const [x, y, length] = [points[i], points[i + 1], Math.hypot(vectors[i], vectors[i + 1])];
    if (!(length > 1e-6)) continue;
    const long = 0.5 * SPACING * (1 - 1 / (1 + 1.4 * length)) / length;
    const [u, v, w] = [long * vectors[i], -long * vectors[i + 1], 1.7 / length];
    const [p, q] = [w * vectors[i + 1], w * vectors[i]];
    d += `M${(x + u).toFixed(1)} ${(y + v).toFixed(1)}L${(x - u + p).toFixed(1)} ${(y - v + q).toFixed(1)}L${(x - u - p).toFixed(1)} ${(y - v - q).toFixed(1)}z`;
  }
  return d;
};

function buildDiffusion(model, root, signal) {
  const t = dictionary(DIFFUSION_WORDS, model.get("lang"));
  const [about, view] = ["network", "view"].map((name) => model.get(name));
  const schedule = SCHEDULES[about.schedule];
  const net = network(about, numbers(model.get("weights"), true));
  const predict = (x, time) => {
    const [at, prediction] = [schedule(time), net(x, time)];
    const both = Array.from(x, (value, i) => split(about.predicts, prediction[i], value, at));
    return [0, 1].map((which) => both.map((pair) => pair[which]));
  };
  const [x_0, eps] = halves(numbers(model.get("points"), true));
  const images = readImages(model.get("images"), model.get("pixels"));
  root.innerHTML += diffusionTemplate(t, images && { schedule: images.name !== about.schedule });
  const $ = (selector) => root.querySelector(selector);
  const put = (selector, attributes) => Object.entries(attributes).forEach(([name, value]) => $(selector).setAttribute(name, value));
  const mix = (a, { alpha, sigma }, b) => a.map((value, i) => alpha * value + sigma * b[i]);

  const back = [mix(x_0, schedule(1), eps)]; // the samples' way from t = 1, as far as somebody wanted to see it
  const reached = (now, stop) => {
    const time = () => TIMES[back.length - 1];
    while (time() > now) {
      back.push(flow(predict, schedule, back.at(-1), [time(), TIMES[back.length]])[1]);
      if (performance.now() > stop) break;
    }
    return time() <= now;
  };
  let lead; // the way of the reader's point, in the order of the times
  const way = () => {
    const [point, since] = [model.get("point"), model.get("since")];
    const task = [...point, since].join();
    if (lead?.task !== task) {
      const [before, after] = [TIMES.filter((time) => time > since), TIMES.filter((time) => time < since)];
      const up = flow(predict, schedule, point, [since, ...before.slice().reverse()]).reverse();
      lead = { task, times: [...before, since, ...after], path: [...up.slice(0, -1), ...flow(predict, schedule, point, [since, ...after])] };
    }
    return lead;
  };
  const here = () => between(way().times, way().path, model.get("t"));

  let playing = null; // the time that a play has reached
  let before; // when its last frame was drawn
  let shown; // the element that was drawn last
  const pause = () => {
    playing = null;
    draw(shown);
  };
  const seek = (t) => {
    playing = null;
    save(model, { t });
  };
  const tick = (now) => {
    if (playing === null || signal.aborted || !$("#play").isConnected) return;
    const [way, end] = model.get("direction") === "forward" ? [1, 1] : [-1, 0];
    playing = clamp(playing + (way * elapsed(now, before)) / SECONDS, 0, 1);
    before = now;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    save(model, { t: still ? Math.round(10 * playing) / 10 : playing }); // a few pictures instead of motion
    if (playing === end) return pause();
    requestAnimationFrame(tick);
  };
  const play = () => {
    if (playing !== null) return pause();
    const [start, end] = model.get("direction") === "forward" ? [0, 1] : [1, 0];
    playing = model.get("t") === end ? start : model.get("t");
    save(model, { t: playing });
    requestAnimationFrame((now) => tick((before = now)));
    draw(shown);
  };
  $("#play").addEventListener("click", play, { signal });
  $("#t").addEventListener("input", (event) => seek(Number(event.target.value)), { signal });
  for (const button of root.querySelectorAll("[data-choice]")) {
    const { choice } = button.dataset;
    button.addEventListener("click", () => save(model, { [choice]: button.id }), { signal });
    keys(button, signal, () => {
      const other = root.querySelector(`[data-choice="${choice}"]:not(#${button.id})`);
      other.click();
      other.focus();
    });
  }

  let box;
  const moveTo = ([a, b]) => save(model, { point: [clamp(a, box.x0, box.x1), clamp(b, box.y0, box.y1)], since: Math.max(model.get("t"), EARLIEST) });
  const shifted = ([a, b], right, down) => [a + right / box.scale, b - down / box.scale];
  const handle = $(".handle");
  grip(handle, signal);
  draggable(handle, signal, here, (start, right, down) => moveTo(shifted(start, right, down)));
  keys(handle, signal, (right, up) => moveTo(shifted(here(), 4 * right, -4 * up)));
  const frame = $(".frame");
  const at = (event) => {
    const { left, top } = frame.getBoundingClientRect();
    return [box.x0 + (event.clientX - left) / box.scale, box.y1 - (event.clientY - top) / box.scale];
  };
  const begin = (event) => (event.pointerType === "mouse" ? (moveTo(at(event)), model.get("point")) : undefined);
  draggable(frame, signal, begin, (start, right, down) => moveTo(shifted(start, right, down)));
  frame.addEventListener("click", (event) => moveTo(at(event)), { signal }); // a finger scrolls here, but a tap counts

  let drawn = {};
  let next = 0; // the frame that goes on
  const goOn = () => {
    shown.setAttribute("aria-busy", "true");
    next ||= requestAnimationFrame(() => {
      next = 0;
      if (!signal.aborted && shown.isConnected) draw(shown);
    });
  };

  const draw = (host) => {
    shown = host;
    const stop = performance.now() + SLICE;
    let ready = true;
    const once = (name, task, work) => {
      if (drawn[name] === task) return;
      if (!(name in drawn) && performance.now() > stop) {
        ready = false;
        return;
      }
      drawn[name] = task;
      work();
    };
    const [now, direction, field] = ["t", "direction", "field"].map((name) => model.get(name));
    const width = $(".picture").clientWidth;
    if (box?.width !== width) {
      box = planeOf(view, width);
      drawn = {};
      put(".picture svg", { height: box.height });
      put(".frame", { width, height: box.height });
      put(".data", { d: discs(box, x_0, 1.8) });
      if (performance.now() > stop) return goOn();
    }
    const late = Math.max(now, EARLIEST);
    const share = schedule(now);
    const lead = way();
    const x = here();
    const end = lead.path.at(-1);
    const [guess] = predict(x, late);
    const pixels = (point) => [box.X(point[0]), box.Y(point[1])];
    const [past, ahead] = [lead.path.filter((_, k) => lead.times[k] > now), lead.path.filter((_, k) => lead.times[k] < now)];
    const drive = line([x, ...ahead].map(pixels));
    for (const name of [".halo", ".path:not(.past)"]) put(name, { d: drive });
    put(".past", { d: line([...past, x].map(pixels)) });
    const [px, py] = pixels(x);
    const [gx, gy] = pixels(guess);
    put(".guess", { d: `M${gx - 4.5} ${gy - 4.5}l9 9m0 -9l-9 9` });
    put(".end", { cx: box.X(end[0]), cy: box.Y(end[1]) });
    const away = Math.hypot(gx - px, gy - py);
    const [right, down] = away > 1 ? [(px - gx) / away, (py - gy) / away] : [0.7, -0.7];
    put(".name", { x: clamp(px + 19 * right, 10, width - 10), y: clamp(py + 5 + 19 * down, 14, box.height - 8) });
    put(".handle", {
      transform: `translate(${px} ${py})`, "aria-valuemin": box.x0, "aria-valuemax": box.x1, "aria-valuenow": x[0],
      "aria-valuetext": `x_t = ${pair(x)}, x_0 = ${pair(end)}`,
    });
    for (const [name, value] of [["xt", x], ["guess", guess], ["x0", end]]) $(`#${name}`).textContent = pair(value);

    once("arrows", [now, field].join(), () => {
      const [data, noise] = predict(box.grid, late);
      const { dAlpha, dSigma } = schedule(late);
      const vectors = data.map((value, i) => (field === "score" ? -noise[i] : -(dAlpha * value + dSigma * noise[i])));
      put(".arrows", { d: arrows(box.places, vectors) });
    });
    if (direction === "reverse") ready &&= reached(now, stop);
    if (ready) once("points", [now, direction].join(), () => {
      const [points, ...tails] = direction === "forward" ? [mix(x_0, share, eps)] : TAILS.map((ago) => between(TIMES, back, Math.min(now + ago, 1)));
      put(".points", { d: discs(box, points, 2.6) });
      put(".tails", { d: tails.length ? Array.from({ length: points.length / 2 }, (_, i) => line([points, ...tails].map((all) => [box.X(all[2 * i]), box.Y(all[2 * i + 1])]))).join("") : "" });
    });

    if (images) {
      const reverse = direction === "reverse";
      const [noisy, clean] = reverse ? rewind(images, SCHEDULES[images.name], now) : [mix(images.x_0, SCHEDULES[images.name](now), images.eps), images.x_0];
      once("film", [now, direction, host.dataset.theme].join(), () => {
        const ink = getComputedStyle(host).color.match(/[\d.]+/g).slice(0, 3).map(Number);
        for (const [name, values, label] of [["noisy", noisy, t.noisy], ["clean", clean, reverse ? t.denoised : t.clean]]) {
          film($(`.${name}`), images.cut(values), images.size, ink);
          put(`.${name}`, { "aria-label": label });
        }
        $(".clean-name").innerHTML = X(reverse, "0");
      });
    }
    for (const box of root.querySelectorAll(".shares")) {
      const { alpha, sigma } = box.closest(".film") ? SCHEDULES[images.name](now) : share;
      for (const [name, value] of [["alpha", alpha], ["sigma", sigma]]) box.querySelector(`.${name}`).textContent = show(value);
      box.querySelector(".snr").textContent = figure((alpha / sigma) ** 2);
    }
    $(".which").textContent = direction === "forward" ? t.noised : t.samples;
    $("#t-number").textContent = show(now);
    $("#t").value = now;
    put("#t", { "aria-valuetext": `t = ${show(now)}, SNR = ${figure((share.alpha / share.sigma) ** 2)}` });
    put("#play path", { d: playing === null ? PLAY : PAUSE });
    put("#play", { "aria-label": playing === null ? t.play : t.pause });
    for (const button of root.querySelectorAll("[data-choice]")) {
      const on = model.get(button.dataset.choice) === button.id;
      button.setAttribute("aria-checked", on);
      button.tabIndex = on ? 0 : -1;
    }
    Object.assign(host.dataset, {
      t: now, direction, field, alpha: share.alpha, sigma: share.sigma, snr: (share.alpha / share.sigma) ** 2,
      point: x, guess, end, origin: lead.path[0], playing: playing !== null,
    });
    if (ready) host.setAttribute("aria-busy", "false");
    else goOn();
  };
  return draw;
}

const pair = ([a, b]) => `(${show(a)}, ${show(b)})`;

const halves = (values) => [values.subarray(0, values.length / 2), values.subarray(values.length / 2)];

const discs = ({ X, Y }, points, radius) => Array.from({ length: points.length / 2 }, (_, i) => disc(X(points[2 * i]), Y(points[2 * i + 1]), radius)).join("");

/** A view with the same scale on both axes, at least as far as `half` from its centre, and a grid of places for arrows. */
function planeOf([a, b, half], width) {
  const height = Math.min(width, width < 360 ? 290 : 400);
  const scale = Math.min(width, height) / (2 * half);
  const places = [];
  const [columns, rows] = [Math.round(width / SPACING), Math.round(height / SPACING)];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) places.push(((column + 0.5) * width) / columns, ((row + 0.5) * height) / rows);
  const [x0, y1] = [a - width / 2 / scale, b + height / 2 / scale];
  return {
    width, height, scale, places, x0, y1, x1: a + width / 2 / scale, y0: b - height / 2 / scale,
    grid: places.map((value, i) => (i % 2 ? y1 - value / scale : x0 + value / scale)),
    X: (value) => (value - x0) * scale,
    Y: (value) => (y1 - value) * scale,
  };
}

/** Images x_0, their noise, and what the network took x_t for at each of the times on the way back; 8 bits a number. */
function readImages(about, content) {
  if (!about.count) return null;
  const { count, size, steps, schedule: name, scales } = about;
  const total = count * size[0] * size[1];
  const levels = new Int8Array(content.buffer, content.byteOffset, content.byteLength);
  const [x_0, eps, ...denoised] = scales.map((scale, k) => Array.from(levels.subarray(k * total, (k + 1) * total), (level) => scale * level));
  const times = denoised.map((_, k) => (steps - k) / steps);
  const { alpha, sigma } = SCHEDULES[name](1);
  const images = { size, times, name, x_0, eps, denoised, x: [x_0.map((value, i) => alpha * value + sigma * eps[i])] };
  for (const time of times.slice(1)) images.x.push(rewind(images, SCHEDULES[name], time, images.x.length - 1)[0]);
  images.cut = (values) => Array.from({ length: count }, (_, i) => values.slice((i * total) / count, ((i + 1) * total) / count).map((value) => (value + 1) / 2));
  return images;
}

export default {
  render: (context) =>
    mount(context, ["t", "direction", "field", "point", "since"], (root, signal) => buildDiffusion(context.model, root, signal)),
};
