// The playground: points that the reader draws, and five families that learn them, each in a worker of its own.

const PLAYGROUND_WORDS = {
  ko: {
    data: "데이터", ppca: "PPCA", mixture: "혼합 모델 (EM)", vae: "VAE", gan: "GAN", diffusion: "확산",
    experiment: "실험", own: "마음대로", set: "점", drawn: "그린 점",
    sets: { ring: "고리", grid: "격자", moons: "초승달 둘", checkerboard: "바둑판", groups: "먼 두 무리", point: "점 하나" },
    train: "학습", pause: "멈춤", step: "한 걸음", restart: "처음부터", speed: "빠르기", seed: "시드", share: "링크 복사",
    speeds: ["가장 빨리", "초당 20걸음", "초당 2걸음"],
    draw: "그리기", erase: "지우기", clear: "모두 지우기", steps: (count) => `${count} 걸음`, loss: "손실", points: "개",
    logProb: "log p(x)", bound: "log p(x) ≥", modes: "봉우리", covered: "덮은 점", near: "가까운 표본", distance: "평균 거리",
    settings: "설정", components: "성분", momentum: "관성 β₁", penalty: "벌점", predict: "예측", sampler: "뽑는 법", drawSteps: "뽑는 걸음", time: "시각 t",
    penalties: { none: "없음", real: "R₁", fake: "R₂", both: "R₁ + R₂", between: "기울기 1" },
    predictions: { noise: "잡음", data: "데이터", velocity: "속도" }, samplers: { heun: "호인", ddim: "DDIM (오일러)" },
    losses: { minimax: "최소최대", "non-saturating": "비포화", wasserstein: "바서슈타인", relativistic: "상대론적" },
    pad: "점을 찍는 자리. 화살표로 십자를 옮기고, 엔터나 스페이스로 점을 찍고, 백스페이스로 가까운 점을 지운다.",
    hint: ["끌어서 점을 그린다.", "글쇠로는 화살표, 엔터, 백스페이스."],
    copied: "링크를 복사했다.", link: "링크", empty: "점이 없다. 그리거나 고른다.", refused: "이 브라우저에서는 학습을 시작하지 못했다.",
    at: (x, y, n) => `(${x}, ${y}), 점 ${n}개`, running: "학습을 시작했다.", paused: "학습을 멈추었다.",
    experiments: {
      collapse: { title: "GAN 무너뜨리기", look: "학습을 누르고 봉우리 수를 보라. 그다음 GAN 설정에서 관성만 0으로 바꾸어 다시 학습시켜라." },
      linear: { title: "고리 위의 PPCA", look: "학습을 누르고 밀도가 가장 큰 곳을 보라. 거기에 데이터가 있는가? 그다음 혼합 모델의 성분을 1로 줄이고, 다시 학습을 눌러 두 그림을 견주어라." },
      memory: { title: "점 하나: 누가 외우나?", look: "학습을 누르고, 표본이 점에 얼마나 빨리 모이는지, 모인 뒤에 머무르는지 평균 거리로 보라." },
      between: { title: "먼 두 무리: VAE는 사이에 무엇을 두나?", look: "학습을 누르고, 두 무리 사이에 놓인 파란 표본을 세 모델에서 견주어라." },
      few: { title: "적은 걸음: 오일러와 호인", look: "2,000걸음쯤 학습시키고 멈춘 뒤, 확산 설정에서 뽑는 걸음과 뽑는 법을 바꾸어라." },
    },
    note: "log p(x)의 단위는 점 하나에 nat. 표본은 파란 점, 데이터는 회색 점이다.",
  },
  en: {
    data: "Data", ppca: "PPCA", mixture: "Mixture (EM)", vae: "VAE", gan: "GAN", diffusion: "Diffusion",
    experiment: "Experiment", own: "your own", set: "Points", drawn: "drawn",
    sets: { ring: "ring", grid: "grid", moons: "two moons", checkerboard: "checkerboard", groups: "two far groups", point: "one point" },
    train: "Train", pause: "Pause", step: "One step", restart: "Start again", speed: "Speed", seed: "Seed", share: "Copy link",
    speeds: ["as fast as it goes", "20 steps a second", "2 steps a second"],
    draw: "Draw", erase: "Erase", clear: "Clear", steps: (count) => `${count} step${count === 1 ? "" : "s"}`, loss: "Loss", points: "points",
    logProb: "log p(x)", bound: "log p(x) ≥", modes: "modes", covered: "points covered", near: "samples near data", distance: "mean distance",
    settings: "Settings", components: "components", momentum: "momentum β₁", penalty: "penalty", predict: "predicts", sampler: "sampler", drawSteps: "sampling steps", time: "time t",
    penalties: { none: "none", real: "R₁", fake: "R₂", both: "R₁ + R₂", between: "slope 1" },
    predictions: { noise: "noise", data: "data", velocity: "velocity" }, samplers: { heun: "Heun", ddim: "DDIM (Euler)" },
    losses: { minimax: "minimax", "non-saturating": "non-saturating", wasserstein: "Wasserstein", relativistic: "relativistic" },
    pad: "Drawing area. Arrows move the cross, Enter or Space adds a point, Backspace removes a near one.",
    hint: ["Drag to draw points.", "On a keyboard: arrows, Enter, Backspace."],
    copied: "Link copied.", link: "Link", empty: "There are no points: draw some, or pick a set.", refused: "Training could not be started in this browser.",
    at: (x, y, n) => `(${x}, ${y}), ${n} points`, running: "Training has started.", paused: "Training is paused.",
    experiments: {
      collapse: { title: "make the GAN collapse", look: "Press Train and watch the number of modes. Then set only the momentum to 0 in the GAN's settings, and train again." },
      linear: { title: "PPCA on a ring", look: "Press Train. Where is the density largest, and are there any data? Then give the mixture 1 component, train again and compare both pictures." },
      memory: { title: "one point: who memorises?", look: "Press Train. Watch by the mean distance how fast the samples gather at the point, and whether they stay there." },
      between: { title: "two far groups: what does the VAE put between?", look: "Press Train. Compare how many blue samples of the three models lie between the two groups." },
      few: { title: "few steps: Euler against Heun", look: "Train for about 2,000 steps, pause, then change sampling steps and sampler in the settings of diffusion." },
    },
    note: "log p(x) is in nats a point. Samples are blue, data grey.",
  },
};

const VIEW = 1.5; // [−1.5, 1.5]² is drawn
const COUNT = 500; // points of a set
const MOST = 1000; // points that can be drawn
const NAMES = ["ppca", "mixture", "vae", "gan", "diffusion"];
const PAUSES = [0, 50, 500]; // milliseconds between two steps

/** What can be chosen: the link holds these names and values, and nothing else is taken from it. */
const CHOICES = {
  components: [1, 2, 3, 5, 8, 12, 25],
  beta: [0, 0.1, 1, 4],
  loss: ["minimax", "non-saturating", "wasserstein", "relativistic"],
  at: ["none", "real", "fake", "both", "between"],
  momentum: [0, 0.5, 0.9],
  predict: ["noise", "data", "velocity"],
  sampler: ["heun", "ddim"],
  steps: [1, 2, 3, 5, 10, 20, 50],
  time: Array.from({ length: 21 }, (_, i) => i / 20),
};
export const DEFAULTS = {
  components: 8, beta: 1, loss: "relativistic", at: "both", momentum: 0, predict: "velocity", sampler: "heun", steps: 10, time: 0.3,
};
const OF_FAMILY = { mixture: ["components"], vae: ["beta"], gan: ["loss", "at", "momentum"], diffusion: ["predict", "sampler", "steps", "time"] };
const VIEWED = ["sampler", "steps", "time"]; // change the picture, not the training
const RECOMMENDED = { minimax: "none", "non-saturating": "none", wasserstein: "between", relativistic: "both" };

// --- points ----------------------------------------------------------------------------------------------------------

/** The sets of `companion.data`, scaled to the view: points, and centres and standard deviation of the modes, if any. */
export function makeSet(name, random, images = {}) {
  const around = (modes, std) => ({
    modes, std,
    points: Array.from({ length: COUNT }, () => {
      const [x, y] = modes[random.below(modes.length)];
      const [a, b] = random.normals(2);
      return [x + std * a, y + std * b];
    }),
  });
  const many = (draw) => ({ points: Array.from({ length: COUNT }, draw) });
  if (name === "grid") return around(Array.from({ length: 25 }, (_, i) => [0.5 * (i % 5) - 1, 0.5 * Math.floor(i / 5) - 1]), 0.03);
  if (name === "groups") return around([[-1, 0], [1, 0]], 0.08);
  if (name === "point") return { points: [[0.4, 0.3]] };
  if (name === "moons") {
    return many(() => {
      const [angle, sign] = [Math.PI * random.uniform(), random.below(2) ? 1 : -1];
      const [a, b] = random.normals(2);
      return [0.75 * sign * (Math.cos(angle) - 0.5) + 0.06 * a, 0.75 * sign * (Math.sin(angle) - 0.25) + 0.06 * b];
    });
  }
  if (name === "checkerboard") {
    return many(() => {
      const k = random.below(8);
      const [column, row] = [2 * (k % 2) + (Math.floor(k / 2) % 2), Math.floor(k / 2)];
      return [0.6 * (column + random.uniform()) - 1.2, 0.6 * (row + random.uniform()) - 1.2];
    });
  }
  if (images[name]) {
    const ink = Float64Array.from(images[name]);
    const side = Math.sqrt(ink.length);
    const total = ink.reduce((sum, value) => sum + value, 0);
    return many(() => {
      let rest = random.uniform() * total;
      const pixel = Math.max(ink.findIndex((value) => (rest -= value) < 0), 0);
      const place = (at) => (2.6 * (at + random.uniform())) / side - 1.3;
      return [place(pixel % side), -place(Math.floor(pixel / side))];
    });
  }
  return around(Array.from({ length: 8 }, (_, i) => [Math.cos((i * Math.PI) / 4), Math.sin((i * Math.PI) / 4)]), 0.08);
}

const NEAR = 0.1; // how close a sample must be to cover a point

/** Shares of the points that have a sample near, and of the samples that have a point near. */
export function coverage(samples, points) {
  const near = ([x, y], others) => others.some(([u, v]) => (x - u) ** 2 + (y - v) ** 2 < NEAR ** 2);
  const share = (these, others) => these.filter((one) => near(one, others)).length / these.length;
  return { covered: share(points, samples), near: share(samples, points) };
}

// --- the link --------------------------------------------------------------------------------------------------------

const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** The state as text for a link: what differs from the defaults, and points in 12 bits a coordinate. */
export function write({ set, points, seed, off, settings, experiment }) {
  const parts = new URLSearchParams({ set });
  if (set === "drawn") {
    const level = (value) => clamp(Math.round(((value / VIEW + 1) / 2) * 4095), 0, 4095);
    const bytes = points.flatMap(([x, y]) => [level(x) >> 4, ((level(x) & 15) << 4) | (level(y) >> 8), level(y) & 255]);
    parts.set("points", base64(bytes));
  }
  if (experiment) parts.set("experiment", experiment);
  if (seed) parts.set("seed", seed);
  if (off.length) parts.set("off", off.join("."));
  for (const [name, value] of Object.entries(settings)) if (value !== DEFAULTS[name]) parts.set(name, value);
  return parts.toString();
}

const seedOf = (text) => clamp(Math.floor(Number(text)) || 0, 0, 9999);

/** The state in a link's text; what is not known there is left out. */
export function read(text, sets) {
  const parts = new URLSearchParams(text);
  const settings = { ...DEFAULTS };
  for (const [name, values] of Object.entries(CHOICES)) {
    const found = values.find((value) => String(value) === parts.get(name));
    if (found !== undefined) settings[name] = found;
  }
  let points = [];
  try {
    const bytes = Array.from(atob((parts.get("points") ?? "").replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    const place = (level) => VIEW * ((2 * level) / 4095 - 1);
    points = Array.from({ length: Math.min(Math.floor(bytes.length / 3), MOST) }, (_, i) => {
      const [a, b, c] = bytes.slice(3 * i, 3 * i + 3);
      return [place((a << 4) | (b >> 4)), place(((b & 15) << 8) | c)];
    });
  } catch {} // no base64: no points
  const set = parts.get("set") === "drawn" || sets.includes(parts.get("set")) ? parts.get("set") : "ring";
  const off = (parts.get("off") ?? "").split(".").filter((name) => NAMES.includes(name));
  const experiment = Object.hasOwn(EXPERIMENTS, parts.get("experiment")) ? parts.get("experiment") : "";
  return { set, points, seed: seedOf(parts.get("seed")), settings, off, experiment };
}

/** The guided experiments: what differs from the defaults. */
const EXPERIMENTS = {
  collapse: { set: "ring", off: ["ppca", "mixture", "vae", "diffusion"], settings: { loss: "minimax", at: "none", momentum: 0.9 } },
  linear: { set: "ring", off: ["vae", "gan", "diffusion"], settings: {} },
  memory: { set: "point", off: [], settings: {} },
  between: { set: "groups", off: ["ppca", "gan"], settings: {} },
  few: { set: "ring", off: ["ppca", "mixture", "vae", "gan"], settings: { steps: 3 } },
};

// --- the page --------------------------------------------------------------------------------------------------------

const option = (value, text, chosen) => `<option value="${value}"${value === chosen ? " selected" : ""}>${text}</option>`;
const select = (id, label, options) => `<label class="field"><span>${label}</span><select id="${id}">${options}</select></label>`;

function playgroundTemplate(t, images) {
  const nameOf = (name, value) =>
    ({ loss: t.losses, at: t.penalties, predict: t.predictions, sampler: t.samplers })[name]?.[value] ?? (name === "time" ? show(value) : value);
  const labels = {
    components: t.components, beta: "β", loss: t.loss, at: t.penalty, momentum: t.momentum, predict: t.predict, sampler: t.sampler, steps: t.drawSteps, time: t.time,
  };
  const setting = (name) => select(name, labels[name], CHOICES[name].map((value) => option(value, nameOf(name, value), DEFAULTS[name])).join(""));
  const panel = (name) => `
    <section class="panel" data-family="${name}">
      <div class="head"><label><input type="checkbox" checked> <b>${t[name]}</b></label><span class="count number">${t.steps(0)}</span></div>
      <canvas class="plot" role="img"></canvas>
      <div class="measures"></div>
      <svg class="curve" aria-hidden="true"><path class="axis"/><path class="d"/><path class="g"/></svg>
      ${OF_FAMILY[name] ? `<details><summary>${t.settings}</summary>${OF_FAMILY[name].map(setting).join("")}</details>` : ""}
    </section>`;
  return `
  <style>
    :host { max-width: 46rem; }
    .row, .tools { display: flex; flex-wrap: wrap; gap: 0.5rem 0.7rem; align-items: end; margin: 0.6rem 0; }
    .field { display: inline-flex; flex-direction: column; font-size: 0.85em; gap: 0.1rem; min-width: 0; }
    select, input[type="number"] {
      font: inherit; font-size: 1rem; color: inherit; background: var(--paper); min-height: 2.75rem; max-width: 100%; padding: 0 0.4rem;
      border: 1px solid color-mix(in srgb, currentColor 40%, transparent); border-radius: 6px;
    }
    option { color: #000; background: #fff; } :host([data-theme="dark"]) option { color: #eee; background: #14181e; }
    input[type="number"] { width: 5.5rem; }
    button { min-height: 2.75rem; } #train { min-width: 6rem; font-weight: 600; border-color: var(--blue); }
    .guide { margin: 0.5rem 0; padding: 0.5rem 0.8rem; border-left: 3px solid var(--blue); } .guide:empty { display: none; }
    .panels { display: grid; grid-template-columns: 1fr 1fr; gap: 0.9rem 0.8rem; }
    @container (min-width: 36rem) { .panels { grid-template-columns: 1fr 1fr 1fr; } }
    .panel { min-width: 0; }
    @container (max-width: 30rem) { /* the margin beside the pad is there to scroll by; in an experiment the results come first */
      .panel[data-family="data"] { grid-column: 1 / -1; }
      #pad { width: calc(100% - 3.5rem); } #pad.locked { width: 100%; }
      .guided > .off { order: 1; } .guided > [data-family="data"] { order: 2; }
      .panel:not([data-family="data"]) .count { width: 100%; }
    }
    .panel.off > :not(.head) { display: none; } .panel.off .count { display: none; }
    .head { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 0 0.5rem; min-height: 2.75rem; }
    .head label { display: inline-flex; align-items: center; gap: 0.4rem; min-height: 2.75rem; }
    .head input { width: 1.15rem; height: 1.15rem; accent-color: var(--blue); margin: 0; }
    .count, .measures { font-size: 0.85em; } .measures { min-height: 3.9em; display: grid; gap: 0 0.5em; align-content: start; margin: 0.2rem 0; }
    .measures > span { display: flex; justify-content: space-between; gap: 0.5em; } .measures .number { white-space: nowrap; }
    canvas.plot { position: static; display: block; width: 100%; aspect-ratio: 1; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: 4px; }
    #pad { cursor: crosshair; touch-action: none; } #pad.locked { cursor: default; touch-action: auto; }
    .curve { height: 2.6rem; } .curve path { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; } .curve .axis { stroke-width: 1; }
    .curve .d { stroke: var(--blue); } .curve .g { stroke: var(--vermilion); }
    details { margin-top: 0.2rem; } summary { min-height: 2.75rem; display: list-item; align-content: center; cursor: pointer; }
    details .field { display: flex; margin-bottom: 0.4rem; }
    .note, .hint { font-size: 0.85em; margin: 0.2rem 0; }
    @media (hover: none) { .keys { display: none; } }
    .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    #link { width: 100%; font: inherit; } #link[hidden] { display: none; }
    @media print { .row, .tools, details { display: none; } }
  </style>
  <div class="row">
    ${select("experiment", t.experiment, option("", t.own) + Object.keys(EXPERIMENTS).map((name) => option(name, t.experiments[name].title)).join(""))}
    ${select("set", t.set, Object.entries(t.sets).map(([name, text]) => option(name, text)).join("") + Object.keys(images).map((name) => option(name, name)).join("") + option("drawn", t.drawn))}
    ${select("speed", t.speed, t.speeds.map((text, i) => option(i, text)).join(""))}
    <label class="field"><span>${t.seed}</span><input type="number" id="seed" min="0" max="9999" step="1" inputmode="numeric"></label>
  </div>
  <div class="row">
    <button id="train"></button><button id="one">${t.step}</button><button id="restart">${t.restart}</button><button id="share">${t.share}</button>
  </div>
  <input id="link" readonly hidden aria-label="${t.link}">
  <p class="guide"></p>
  <div class="panels">
    <section class="panel" data-family="data">
      <div class="head"><b>${t.data}</b><span class="count"><span class="number" id="count"></span> ${t.points}</span></div>
      <canvas class="plot" id="pad" role="application" tabindex="0" aria-label="${t.pad}"></canvas>
      <p class="hint">${t.hint[0]} <span class="keys">${t.hint[1]}</span></p>
      <div class="tools"><span class="choice"><button id="draw" aria-pressed="true">${t.draw}</button><button id="erase" aria-pressed="false">${t.erase}</button></span><button id="clear">${t.clear}</button></div>
    </section>
    ${NAMES.map(panel).join("")}
  </div>
  <p class="note">${t.note}</p>
  <div class="hidden" role="status"></div>`;
}

function buildPlayground(model, root, signal) {
  const t = dictionary(PLAYGROUND_WORDS, model.get("lang"));
  const images = Object.fromEntries(Object.entries(model.get("images")).map(([name, view]) => [name, new Uint8Array(view.buffer, view.byteOffset, view.byteLength)]));
  const sets = [...Object.keys(t.sets), ...Object.keys(images)];
  root.innerHTML += playgroundTemplate(t, images);
  const $ = (selector, within = root) => within.querySelector(selector);
  const on = (selector, event, call) => $(selector).addEventListener(event, call, { signal });
  const say = (text) => ($('[role="status"]').textContent = text);
  const panelOf = (name) => $(`.panel[data-family="${name}"]`);

  const linked = () => new URLSearchParams(location.hash.slice(1)).get("playground");
  let state = read(linked() ?? model.get("state"), sets);
  if (linked() === null && !model.get("state") && model.get("points").length) state = { ...state, set: "drawn", points: model.get("points") };
  let data = { points: [] }; // with modes and std, if the set has them
  let running = false;
  let cursor; // of the keyboard
  let host;
  let frame = 0;
  const pictures = {}; // what each family's worker sent last
  const curves = {};
  const workers = {};
  const redraw = () => (frame ||= requestAnimationFrame(() => ((frame = 0), host?.isConnected && draw(host))));

  const address = (source) => URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const training = address(model.get("train"));
  const program = address(`${model.get("train")}\n${model.get("worker")}`);
  signal.addEventListener("abort", () => {
    Object.values(workers).forEach((worker) => worker.terminate());
    [training, program].forEach((url) => URL.revokeObjectURL(url));
  });

  const taken = (name) => !state.off.includes(name);
  const array = () => Float64Array.from(data.points.flat());
  const view = () => Object.fromEntries(VIEWED.map((name) => [name, state.settings[name]]));
  const remember = () => save(model, { state: write({ ...state, points: data.points }), points: data.points });

  /** A family from its beginning. */
  const start = (name) => {
    workers[name]?.terminate();
    delete workers[name];
    delete pictures[name];
    curves[name] = [];
    if (!taken(name) || !data.points.length) return redraw();
    const worker = (workers[name] = new Worker(program, { type: "module" }));
    worker.onerror = () => say(($(".guide").textContent = t.refused));
    worker.onmessage = ({ data: picture }) => {
      pictures[name] = picture;
      if (picture.losses.length) curves[name].push([picture.step, ...picture.losses]);
      if (curves[name].length > 400) curves[name] = curves[name].filter((_, i) => i % 2);
      if (Object.keys(workers).every((one) => pictures[one]?.done)) run(false);
      redraw();
    };
    const settings = { ...state.settings, lr: LEARNING_RATE };
    worker.postMessage({ start: { name, settings, view: view(), x: array(), seed: state.seed } });
    if (running) worker.postMessage({ run: true, pause: PAUSES[$("#speed").value] });
  };
  const send = (message, names = Object.keys(workers)) => names.forEach((name) => workers[name]?.postMessage(message));
  /** Whether points are missing: says so, and takes it back when they are there. */
  const lack = () => {
    const guide = $(".guide");
    if (!data.points.length) return say((guide.textContent = t.empty));
    if (guide.textContent === t.empty) guide.textContent = "";
    return false;
  };
  const run = (now) => {
    if (now && lack()) return;
    if (now !== running) say(now ? t.running : `${t.paused} ${describe()}`);
    running = now;
    send({ run: running, pause: PAUSES[$("#speed").value] });
    redraw();
  };
  const restart = () => {
    run(false);
    NAMES.forEach(start);
  };
  const describe = () => NAMES.filter((name) => pictures[name]).map(words).join(". ");

  /** The points changed under the reader's hand: who learns goes on with the new ones. */
  const changed = (points) => {
    const before = data.points.length;
    data = { points };
    state.set = "drawn";
    $("#set").value = "drawn";
    remember();
    if (!points.length || !before) return restart();
    send({ x: array() });
    if (running) run(true);
    redraw();
  };
  const pick = async () => {
    const { Random } = await import(training);
    if (signal.aborted) return;
    data = state.set === "drawn" ? { points: state.points } : makeSet(state.set, new Random(state.seed), images);
    remember();
    restart();
  };
  const pad = $("#pad");
  let erasing = false;
  /** An experiment has its points: a finger on them scrolls, until the reader presses Draw or Erase. */
  const hold = (locked) => {
    pad.classList.toggle("locked", locked);
    for (const [id, pressed] of [["draw", !erasing], ["erase", erasing]]) $(`#${id}`).setAttribute("aria-pressed", !locked && pressed);
  };
  const fill = () => {
    $("#set").value = state.set;
    $("#seed").value = state.seed;
    for (const name of Object.keys(CHOICES)) $(`#${name}`).value = state.settings[name];
    for (const name of NAMES) $("input", panelOf(name)).checked = taken(name);
    guide();
  };
  const guide = () => {
    $("#experiment").value = state.experiment;
    $(".guide").textContent = state.experiment ? t.experiments[state.experiment].look : "";
    $(".panels").classList.toggle("guided", Boolean(state.experiment));
    hold(Boolean(state.experiment));
  };

  on("#train", "click", () => run(!running));
  on("#one", "click", () => lack() || (run(false), send({ step: true })));
  on("#restart", "click", restart);
  on("#speed", "change", () => running && run(true));
  on("#seed", "change", () => {
    state.seed = seedOf($("#seed").value);
    $("#seed").value = state.seed;
    pick();
  });
  on("#set", "change", () => {
    state = { ...state, set: $("#set").value, points: data.points };
    pick();
  });
  on("#experiment", "change", () => {
    state.experiment = $("#experiment").value;
    const chosen = EXPERIMENTS[state.experiment];
    if (!chosen) {
      guide();
      remember();
      return;
    }
    state = { ...state, ...chosen, settings: { ...DEFAULTS, ...chosen.settings } };
    fill();
    pick();
  });
  for (const name of NAMES) {
    on(`.panel[data-family="${name}"] input`, "change", ({ target }) => {
      state.off = target.checked ? state.off.filter((one) => one !== name) : [...state.off, name];
      remember();
      start(name);
    });
    for (const setting of OF_FAMILY[name] ?? []) {
      on(`#${setting}`, "change", ({ target }) => {
        state.settings[setting] = CHOICES[setting].find((value) => String(value) === target.value);
        if (setting === "loss") $("#at").value = state.settings.at = RECOMMENDED[state.settings.loss];
        remember();
        if (VIEWED.includes(setting)) send({ view: view() }, [name]);
        else start(name);
      });
    }
  }
  on("#share", "click", async () => {
    const url = new URL(location.href);
    url.hash = new URLSearchParams({ playground: write({ ...state, points: data.points }) });
    history.replaceState(history.state, "", url);
    try {
      await navigator.clipboard.writeText(url.href);
      say(t.copied);
      $("#share").textContent = t.copied;
      setTimeout(() => ($("#share").textContent = t.share), 2000);
    } catch { // no clipboard here: the reader copies it
      $("#link").hidden = false;
      $("#link").value = url.href;
      $("#link").select();
    }
  });
  addEventListener("hashchange", () => {
    if (linked() === null) return;
    state = read(linked(), sets);
    fill();
    pick();
  }, { signal });
  document.addEventListener("visibilitychange", () => document.hidden && run(false), { signal });

  // Drawing
  for (const [id, value] of [["draw", false], ["erase", true]]) {
    on(`#${id}`, "click", () => {
      erasing = value;
      hold(false);
    });
  }
  on("#clear", "click", () => changed([]));
  const place = ({ clientX, clientY }) => {
    const { left, top, width } = pad.getBoundingClientRect();
    const at = (pixels) => clamp((2 * pixels) / width - 1, -1, 1) * VIEW;
    return [at(clientX - left), -at(clientY - top)];
  };
  const apart = ([a, b], [x, y]) => Math.hypot(a - x, b - y);
  const touch = (point) => {
    if (erasing) {
      const kept = data.points.filter((one) => apart(one, point) > 0.1);
      if (kept.length < data.points.length) changed(kept);
    } else if (data.points.length < MOST && !data.points.some((one) => apart(one, point) < 0.03)) changed([...data.points, point]);
  };
  draggable(pad, signal, (event) => {
    if (pad.classList.contains("locked")) return undefined;
    cursor = undefined;
    touch(place(event));
    return event;
  }, ({ clientX, clientY }, right, down) => touch(place({ clientX: clientX + right, clientY: clientY + down })));
  const told = () => say(t.at(show(cursor[0]), show(cursor[1]), data.points.length));
  keys(pad, signal, (right, up) => {
    const [x, y] = cursor ?? [0, 0];
    cursor = [clamp(x + 0.05 * right, -VIEW, VIEW), clamp(y + 0.05 * up, -VIEW, VIEW)];
    told();
    redraw();
  });
  pad.addEventListener("keydown", (event) => {
    const remove = event.key === "Backspace" || event.key === "Delete";
    if (!remove && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    cursor ??= [0, 0];
    if (!remove) changed([...data.points, cursor].slice(-MOST));
    else if (data.points.length) {
      const nearest = data.points.reduce((best, one) => (apart(one, cursor) < apart(best, cursor) ? one : best));
      changed(data.points.filter((one) => one !== nearest));
    }
    told();
  }, { signal });

  // Pictures
  const pairs = (flat) => Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
  /** What is measured of a family's samples, as [label, value] pairs: once for each picture. */
  const measures = (name) => (pictures[name].measures ??= measure(name));
  const measure = (name) => {
    const { samples, logProb } = pictures[name];
    const drawn = pairs(samples);
    const percent = (share) => `${Math.round(100 * share)} %`;
    const found = logProb === undefined ? [] : [[name === "vae" ? t.bound : t.logProb, show(logProb)]];
    if (data.modes) {
      const distances = drawn.map((one) => data.modes.map((mode) => apart(one, mode)));
      const captured = data.modes.filter((_, k) => distances.some((row) => row[k] <= 3 * data.std)).length;
      found.push([t.modes, `${captured}/${data.modes.length}`]);
    }
    const { covered, near } = coverage(drawn, data.points);
    if (data.points.length === 1) found.push([t.distance, show(drawn.reduce((sum, one) => sum + apart(one, data.points[0]), 0) / drawn.length, 3)]);
    else if (!data.modes) found.push([t.covered, percent(covered)]);
    return [...found, [t.near, percent(near)]];
  };
  const words = (name) => `${t[name]}: ${[t.steps(pictures[name].step), ...measures(name).map((pair) => pair.join(" "))].join(", ")}`;

  const dots = (context, points, size, scale) => {
    for (const [x, y] of points) context.fillRect((x + VIEW) * scale - size / 2, (VIEW - y) * scale - size / 2, size, size);
  };
  /** A canvas is painted again only when something that it shows has changed. */
  const paint = (canvas, picture, cross) => {
    const ratio = Math.min(devicePixelRatio, 2);
    const side = Math.round(canvas.clientWidth * ratio);
    const shown = [side, picture, cross, data, host.dataset.theme];
    if (!side || shown.every((part, i) => part === canvas.shown?.[i])) return;
    canvas.shown = shown;
    Object.assign(canvas, { width: side, height: side });
    const context = canvas.getContext("2d");
    const style = getComputedStyle(host);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    const scale = side / (2 * VIEW);
    if (picture) shade(context, picture.map, side, colour);
    context.fillStyle = style.color;
    context.globalAlpha = picture ? 0.35 : 0.7;
    dots(context, data.points, (picture ? 2 : 3) * ratio, scale);
    context.globalAlpha = 1;
    if (cross) {
      const [x, y] = [(cross[0] + VIEW) * scale, (VIEW - cross[1]) * scale];
      context.strokeStyle = colour("vermilion");
      context.lineWidth = 2;
      context.stroke(new Path2D(`M${x - 12} ${y}h24M${x} ${y - 12}v24`));
    }
    if (!picture) return;
    if (picture.map.field) arrows(context, picture.map.field, scale, ratio, style.color);
    context.fillStyle = colour("blue");
    dots(context, pairs(picture.samples), 2.6 * ratio, scale);
  };
  const draw = (element) => {
    host = element;
    paint(pad, undefined, cursor);
    $("#count").textContent = data.points.length;
    $("#train").textContent = running ? t.pause : t.train;
    for (const name of NAMES) {
      const panel = panelOf(name);
      panel.classList.toggle("off", !taken(name));
      const picture = pictures[name];
      if (!taken(name)) continue;
      paint($("canvas", panel), picture);
      $(".count", panel).textContent = t.steps(picture?.step ?? 0);
      if (!picture) {
        if (!panel.shown) continue;
        delete panel.shown;
        $(".measures", panel).innerHTML = "";
        curve($(".curve", panel), []);
        for (const what of ["Step", "Measures", "Done"]) delete host.dataset[name + what];
        continue;
      }
      if (panel.shown !== picture) {
        panel.shown = picture;
        $(".measures", panel).innerHTML = measures(name).map(([label, value]) => `<span><span>${label}</span><span class="number">${value}</span></span>`).join("");
        $("canvas", panel).setAttribute("aria-label", words(name));
        curve($(".curve", panel), curves[name]);
      }
      Object.assign(host.dataset, { [`${name}Step`]: picture.step, [`${name}Measures`]: measures(name).map(([, value]) => value).join(" | "), [`${name}Done`]: picture.done });
    }
    Object.assign(host.dataset, { running, points: data.points.length, set: state.set, seed: state.seed });
  };
  fill();
  pick();
  return draw;
}

export const LEARNING_RATE = 4e-3;

/** A density in blue, or where D says real in blue and fake in vermilion; of a GAN and others alike, nothing at a half. */
function shade(context, { density, real }, side, colour) {
  const values = density ?? real;
  if (!values) return;
  const cells = Math.sqrt(values.length);
  const channels = (name) => colour(name).match(/[\da-f]{2}/gi).map((part) => parseInt(part, 16));
  const [blue, vermilion] = [channels("blue"), channels("vermilion")];
  const top = density ? values.reduce((a, b) => Math.max(a, b)) : 0;
  const image = new ImageData(cells, cells);
  values.forEach((value, i) => {
    const [ink, strength] = density ? [blue, 0.55 * Math.exp((value - top) / 2)] : [value < 0.5 ? vermilion : blue, 0.5 * Math.abs(2 * value - 1) ** 0.7];
    image.data.set([...ink, 255 * strength], 4 * i);
  });
  const small = new OffscreenCanvas(cells, cells);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, side, side);
}

/** Where a field carries points on its way from noise to data, against the direction of time. */
function arrows(context, field, scale, ratio, colour) {
  const k = Math.sqrt(field.length / 2);
  const longest = field.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
  const size = (1.2 * VIEW) / k / longest;
  context.strokeStyle = colour;
  context.globalAlpha = 0.6;
  context.lineWidth = ratio;
  context.beginPath();
  for (let i = 0; i < k * k; i++) {
    const [x, y] = [((2 * (i % k) + 1) / k) * VIEW * scale, ((2 * Math.floor(i / k) + 1) / k) * VIEW * scale];
    const [dx, dy] = [-field[2 * i] * size * scale, field[2 * i + 1] * size * scale];
    context.moveTo(x, y);
    context.lineTo(x + dx, y + dy);
    context.lineTo(x + 0.7 * dx - 0.15 * dy, y + 0.7 * dy + 0.15 * dx);
    context.moveTo(x + dx, y + dy);
    context.lineTo(x + 0.7 * dx + 0.15 * dy, y + 0.7 * dy - 0.15 * dx);
  }
  context.stroke();
  context.globalAlpha = 1;
}

/** Losses over steps; extreme values of the beginning leave the picture. */
function curve(svg, rows) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  const values = rows.flatMap(([, ...losses]) => losses).filter(Number.isFinite).sort((a, b) => a - b);
  const [low, high] = [values[0], values[Math.floor(0.98 * (values.length - 1))]];
  const [first, last] = [rows[0]?.[0], rows.at(-1)?.[0]];
  const path = (which) =>
    rows.length < 2 ? "" : line(rows.map((row) => [((row[0] - first) / (last - first || 1)) * width, 2 + clamp((high - row[which]) / (high - low || 1), 0, 1) * (height - 5)]));
  svg.querySelector(".axis").setAttribute("d", rows.length < 2 ? "" : `M0 ${height - 1}H${width}`);
  svg.querySelector(".d").setAttribute("d", path(1));
  svg.querySelector(".g").setAttribute("d", rows[0]?.length > 2 ? path(2) : "");
}

export default {
  render: (context) => mount(context, [], (root, signal) => buildPlayground(context.model, root, signal)),
};
