// Chapter 6. Samples of several models in rows, with the nearest syllable of the one that is picked.

/** Images of size × size pixels from bytes of two pixels each, the first in the lower half. */
export function unpack(view, size) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const each = (size * size) / 2;
  return Array.from({ length: bytes.length / each }, (_, i) =>
    Float64Array.from({ length: 2 * each }, (_, j) => ((bytes[i * each + (j >> 1)] >> (4 * (j & 1))) & 15) / 15),
  );
}

/** The images of a row in the order asked for: as they are, or from the nearest to a syllable to the farthest. */
export function sorted(row, order) {
  const places = [...row.keys()];
  return order === "legible" ? places.sort((i, j) => row[i][1] - row[j][1]) : places;
}

const SAMPLES_WORDS = {
  en: {
    order: "order of the images",
    legible: "by legibility",
    noise: "by noise",
    index: "place of the image shown",
    sheet: (name, n, m) => `${name}: ${n} of ${m} images are legible; press one to pick it`,
    picked: (name, text) => `${name}: the image picked, nearest to ${text}`,
    yes: "legible",
    no: "not legible",
    held: "held out",
    seen: "training",
    far: "distance over the legible limit",
    legend: ["legible, a training syllable", "legible, a held-out syllable", "not legible: pale"],
  },
  ko: {
    order: "이미지의 차례",
    legible: "읽히는 차례",
    noise: "잡음의 번호",
    index: "보이는 이미지의 자리",
    sheet: (name, n, m) => `${name}: 이미지 ${m}장 가운데 ${n}장이 읽힌다. 누르면 고른다`,
    picked: (name, text) => `${name}: 고른 이미지. 가장 가까운 음절은 ${text}`,
    yes: "읽힌다",
    no: "읽히지 않는다",
    held: "감춰 둔 음절",
    seen: "훈련 음절",
    far: "읽히는 한계로 나눈 거리",
    legend: ["읽힘, 훈련 음절", "읽힘, 감춰 둔 음절", "읽히지 않음: 흐리게"],
  },
};

const samplesTemplate = (t, names, count) => `
  <style>
    .family { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.3rem 1rem; padding: 0.5rem 0; }
    .family + .family { border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
    .head { display: flex; justify-content: space-between; gap: 1rem; }
    .sheet { position: relative; align-self: start; cursor: pointer; touch-action: manipulation; }
    .family canvas { position: static; display: block; width: 100%; image-rendering: pixelated; }
    .mark { position: absolute; border: 2px solid currentColor; border-radius: 2px; pointer-events: none; }
    .pick { display: flex; align-items: center; gap: 0.5rem; }
    .pick canvas { width: 3.4rem; flex: none; border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: 2px; }
    .text { line-height: 1.25; min-width: 0; overflow-wrap: anywhere; } .text b { display: block; }
    .legend { display: flex; flex-wrap: wrap; gap: 0 1.2rem; margin: 0.5rem 0 0; padding: 0; list-style: none; font-size: 0.9em; }
    .legend li::before { content: ""; display: inline-block; width: 1em; height: 4px; margin-right: 0.45em; vertical-align: middle; background: var(--key); }
    .top { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; align-items: center; } .top .control { flex: 1 1 12rem; }
    @container (min-width: 30rem) { .family { grid-template-columns: minmax(0, 1fr) 15rem; } .head { grid-column: 1 / -1; } }
  </style>
  <div class="top">
    <span class="choice" role="radiogroup" aria-label="${t.order}">${["legible", "noise"].map((order) => `
      <button id="${order}" role="radio">${t[order]}</button>`).join("")}</span>
    ${slider("index", "№", t.index, 1, count, 1)}
  </div>
  ${names.map((_, i) => `
  <div class="family" id="family${i}">
    <div class="head"><b class="name"></b><span class="number count"></span></div>
    <div class="sheet"><canvas role="img"></canvas><div class="mark"></div></div>
    <div class="pick"><canvas class="sample" role="img"></canvas><span aria-hidden="true">→</span>
      <canvas class="glyph" aria-hidden="true"></canvas><span class="text"><b></b><span></span></span></div>
  </div>`).join("")}
  <ul class="legend">${t.legend.map((text, i) => `<li style="--key: ${["var(--green)", "var(--vermilion)", "transparent"][i]}">${text}</li>`).join("")}</ul>`;

function buildSamples(model, root, signal) {
  const t = dictionary(SAMPLES_WORDS, model.get("lang"));
  const [names, rows, size] = ["names", "rows", "size"].map((name) => model.get(name));
  const [pixels, glyphs] = ["pixels", "glyphs"].map((name) => unpack(model.get(name), size));
  const count = rows[0].length;
  root.innerHTML += samplesTemplate(t, names, count);
  const $ = (selector) => root.querySelector(selector);
  const columns = [12, 10, 8].find((number) => count % number === 0) ?? count;

  for (const order of ["legible", "noise"]) {
    const [button, other] = [$(`#${order}`), $(order === "noise" ? "#legible" : "#noise")];
    button.addEventListener("click", () => save(model, { order }), { signal });
    keys(button, signal, () => {
      other.click();
      other.focus();
    });
  }
  $("#index").addEventListener("input", (event) => save(model, { index: event.target.value - 1 }), { signal });
  const [wide, high] = [size + 2, size + 4]; // of an image with its margin and its bar
  names.forEach((name, i) => {
    $(`#family${i} .name`).textContent = name;
    Object.assign($(`#family${i} .sheet canvas`), { width: columns * wide, height: (count / columns) * high });
    $(`#family${i} .sheet`).addEventListener("click", (event) => {
      const { left, top, width, height } = $(`#family${i} .sheet`).getBoundingClientRect();
      const [column, line] = [((event.clientX - left) / width) * columns, ((event.clientY - top) / height) * (count / columns)];
      save(model, { index: clamp(Math.floor(line) * columns + Math.floor(column), 0, count - 1) });
    }, { signal });
  });

  /** All images of a row, pale if not legible, with a bar below each legible one. */
  function sheet(canvas, i, order, ink, [seen, held]) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    const tile = Object.assign(document.createElement("canvas"), { width: size, height: size });
    order.forEach((place, at) => {
      const [x, y] = [(at % columns) * wide + 1, Math.floor(at / columns) * high + 1];
      const [, far, out] = rows[i][place];
      tile.getContext("2d").putImageData(develop(pixels[i * count + place], [size, size], ink), 0, 0);
      context.globalAlpha = far < 1 ? 1 : 0.45;
      context.drawImage(tile, x, y);
      context.globalAlpha = 1;
      context.fillStyle = out ? held : seen;
      if (far < 1) context.fillRect(x, y + size + 1, size, 1);
    });
  }

  const sheets = []; // what each of them shows
  const draw = (host) => {
    if (signal.aborted || !host.isConnected) return;
    const [index, order] = [model.get("index"), model.get("order")];
    const style = getComputedStyle(host);
    const ink = style.color.match(/[\d.]+/g).map(Number);
    const colours = ["--green", "--vermilion"].map((name) => style.getPropertyValue(name));
    const picked = rows.map((row, i) => {
      const all = sorted(row, order);
      const family = $(`#family${i}`);
      const legible = row.filter(([, far]) => far < 1).length;
      const [syllable, far, out] = row[all[index]];
      family.querySelector(".sheet canvas").setAttribute("aria-label", t.sheet(names[i], legible, count));
      family.querySelector(".count").textContent = `${legible} / ${count}`;
      Object.assign(family.querySelector(".mark").style, {
        left: `${(100 * (index % columns)) / columns}%`, top: `${(100 * Math.floor(index / columns)) / (count / columns)}%`,
        width: `${100 / columns}%`, height: `${100 / (count / columns)}%`,
      });
      film(family.querySelector(".sample"), [pixels[i * count + all[index]]], [size, size], ink);
      film(family.querySelector(".glyph"), [glyphs[i * count + all[index]]], [size, size], ink);
      const told = `${syllable}, ${far < 1 ? t.yes : t.no}, ${out ? t.held : t.seen}`;
      family.querySelector(".sample").setAttribute("aria-label", t.picked(names[i], told));
      family.querySelector(".text b").textContent = syllable;
      const place = family.querySelector(".text span");
      place.textContent = `${show(far)} ${far < 1 ? "✓" : "✗"} ${out ? t.held : t.seen}`;
      place.title = t.far;
      return all[index];
    });
    for (const name of ["legible", "noise"]) {
      $(`#${name}`).setAttribute("aria-checked", order === name);
      $(`#${name}`).tabIndex = order === name ? 0 : -1;
    }
    $("#index").value = index + 1;
    $("#index").setAttribute("aria-valuetext", names.map((name, i) => `${name} ${rows[i][picked[i]][0]}`).join(", "));
    $("#index-number").textContent = index + 1;
    Object.assign(host.dataset, { index, order, picked: picked.join() });
    const task = [order, ...ink].join();
    const next = rows.findIndex((_, i) => sheets[i] !== task);
    host.setAttribute("aria-busy", next >= 0);
    if (next < 0) return;
    sheets[next] = task; // one a frame: all at once would stop a phone for a quarter of a second
    sheet($(`#family${next} .sheet canvas`), next, sorted(rows[next], order), ink, colours);
    requestAnimationFrame(() => draw(host));
  };
  return draw;
}

export default {
  render: (context) => mount(context, ["index", "order"], (root, signal) => buildSamples(context.model, root, signal)),
};
