// The first page: Hangul that the reader types, written in the page by the network that book/writer.py has trained.

const [INITIALS, VOWELS, FINALS] = [
  [..."ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"],
  [..."ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"],
  ["", ..."ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"],
];

/** The three letters of a syllable, as numbers, and the syllable of three letters. */
export function decompose(syllable) {
  const row = syllable.charCodeAt(0) - 0xac00;
  return [Math.floor(row / 588), Math.floor(row / 28) % 21, row % 28];
}
export const compose = ([i, v, f]) => String.fromCharCode(0xac00 + (i * 21 + v) * 28 + f);

/** Whether the network has never seen the syllable. */
export const heldOut = (syllable) => decompose(syllable).reduce((sum, letter) => sum + letter) % 10 === 9;

// --- names in Latin letters: the Revised Romanization read backwards, with the spellings that people use ---------------

/** Family names, whose spelling is their own. */
const FAMILIES = Object.fromEntries(
  `lee:이 rhee:이 park:박 pak:박 paik:백 paek:백 cho:조 chung:정 chang:장 lim:임 rim:임 yim:임 roh:노 suh:서 hur:허 huh:허 you:유 um:엄
  yum:염 pang:방 pae:배 sunwoo:선우`.split(/\s+/).map((pair) => pair.split(":")),
);

const LATIN_INITIALS = {
  kk: "ㄲ", tt: "ㄸ", pp: "ㅃ", ss: "ㅆ", jj: "ㅉ", ch: "ㅊ", sh: "ㅅ", ph: "ㅍ", th: "ㅌ", kh: "ㅋ", g: "ㄱ", k: "ㄱ", n: "ㄴ",
  d: "ㄷ", t: "ㅌ", r: "ㄹ", l: "ㄹ", m: "ㅁ", b: "ㅂ", v: "ㅂ", p: "ㅍ", f: "ㅍ", s: "ㅅ", x: "ㅅ", j: "ㅈ", z: "ㅈ", c: "ㅋ",
  q: "ㅋ", h: "ㅎ",
};
const LATIN_VOWELS = {
  yae: "ㅒ", yeo: "ㅕ", you: "ㅕ", yoo: "ㅠ", wae: "ㅙ", woo: "ㅜ", ya: "ㅑ", ye: "ㅖ", yo: "ㅛ", yu: "ㅠ", yi: "ㅣ", wa: "ㅘ",
  wo: "ㅝ", we: "ㅞ", wi: "ㅟ", wu: "ㅜ", ae: "ㅐ", eo: "ㅓ", eu: "ㅡ", ee: "ㅣ", oe: "ㅚ", oi: "ㅚ", oo: "ㅜ", ou: "ㅜ", ui: "ㅢ",
  a: "ㅏ", e: "ㅔ", o: "ㅗ", u: "ㅜ", i: "ㅣ", y: "ㅣ", w: "ㅜ",
};
const LATIN_FINALS = { ng: "ㅇ", g: "ㄱ", k: "ㄱ", n: "ㄴ", t: "ㄷ", l: "ㄹ", r: "ㄹ", m: "ㅁ", b: "ㅂ", p: "ㅂ" };

const VOWEL = Object.keys(LATIN_VOWELS).join("|");
const FINAL = Object.keys(LATIN_FINALS).join("|");
// A consonant before a vowel begins a syllable, but n before y ends one: Minyoung is 민영.
const SYLLABLE = new RegExp(`^(${Object.keys(LATIN_INITIALS).join("|")})?(?:(${VOWEL})(?:h(?![aeiouwy]))?((?:${FINAL})(?!${VOWEL}|(?<=t)h)|n(?=y))?)?`);

/** A name in Latin letters as Hangul; an apostrophe or a hyphen parts syllables. */
export function hangul(name) {
  return name.toLowerCase().split(/[^a-z]+/).map((word) => FAMILIES[word] ?? spell(word)).join("");
}

function spell(word) {
  let rest = word
    .replace(/([hkmbprl]|(?<!n)g)yu(?=[nlkm]($|[^aeiouwy]))/g, "$1yeo") // Hyun, Kyung
    .replace(/(s|j|ch)ung/g, "$1eong")
    .replace(/(?<![cs])hee/g, "hui")
    .replace(/ch(?=[lr])/g, "c");
  let written = "";
  while (rest) {
    const [all, initial, vowel, final] = rest.match(SYLLABLE);
    written += compose([INITIALS.indexOf(LATIN_INITIALS[initial] ?? "ㅇ"), VOWELS.indexOf(LATIN_VOWELS[vowel] ?? "ㅡ"), FINALS.indexOf(LATIN_FINALS[final] ?? "")]);
    rest = rest.slice(all.length);
  }
  return written;
}

const MOST = 12; // syllables

/** Letters that are no letter with a mark. */
const SPELT = { ł: "l", ø: "o", đ: "d", ð: "d", þ: "th", ß: "ss", æ: "ae", œ: "oe", ı: "i" };

/** What the network can write of a text, at most twelve syllables, and what is left out because it cannot. */
export function read(text) {
  const visible = text.replace(/[\u00ad\u200b\u2060\ufeff]/g, "");
  const narrow = visible.replace(/[！-～]/g, (wide) => String.fromCharCode(wide.charCodeAt(0) - 0xfee0));
  const letters = narrow.normalize("NFD").replace(/\p{M}/gu, "").normalize("NFC");
  const plain = letters.replace(/[łøđðþßæœı]/gi, (letter) => SPELT[letter.toLowerCase()]);
  const written = plain.replace(/[a-z]+(?:[-'’][a-z]+)*/gi, hangul);
  const syllables = [...written].filter((letter) => /[가-힣]/.test(letter));
  const others = written.replace(/[가-힣\s\p{P}]/gu, "");
  return { syllables: syllables.slice(0, MOST), others, more: syllables.length > MOST, latin: /[a-z]/i.test(plain) };
}

// --- the network ------------------------------------------------------------------------------------------------------

/** The numbers of the network from the bytes that book/writer.py packs: vectors, and rows with their scales. */
export function unpack(buffer, shapes) {
  const view = new DataView(buffer);
  let at = 0;
  const half = () => fromHalf(view.getUint16((at += 2) - 2, true));
  const parts = shapes.map(([rows, columns]) => {
    const scales = Array.from({ length: rows }, half);
    if (!columns) return scales;
    const levels = new Int8Array(buffer, at, rows * columns);
    at += levels.length;
    return Float32Array.from(levels, (level, i) => level * scales[Math.floor(i / columns)]);
  });
  const numbers = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((start, part) => (numbers.set(part, start), start + part.length), 0);
  return numbers;
}

/** A function that leads noise to the syllable of these letters: all points of its way, from t = 1 to 0. */
export function writer(about, buffer) {
  const net = network(about.network, unpack(buffer, about.shapes));
  const schedule = SCHEDULES[about.schedule];
  const times = Array.from({ length: about.steps + 1 }, (_, i) => (about.steps - i) / about.steps);
  return (noise, letters, guidance) => {
    const predict = (x, t) => {
      const prediction = net(x, t);
      if (guidance) net(x, t, letters).forEach((value, i) => (prediction[i] += guidance * (value - prediction[i])));
      const both = Array.from(x, (value, i) => split(about.predicts, prediction[i], value, schedule(t)));
      return [0, 1].map((which) => both.map((pair) => pair[which]));
    };
    return flow(predict, schedule, noise, times);
  };
}

/** Normal noise for one image, the same for the same seed and place (Mulberry32, Box–Muller). */
export function noise(seed, place, count = 256) {
  let state = (seed * 0x9e3779b1 + place * 0x85ebca6b) | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// --- the page ---------------------------------------------------------------------------------------------------------

const WRITER_WORDS = {
  en: {
    input: "Your name, in Hangul or Latin letters", placeholder: "Minjun, or 민준", again: "Again", againTitle: "Write it again from new noise",
    t: "time t: noise at 1, writing at 0", guidance: "guidance ω: how much the letters count", short: ["time", "guidance"], play: "play", pause: "pause",
    link: "Copy link", linked: "The link is copied.", linkedBar: "The link stands in the address bar.", picture: "Save picture",
    edit: "Letters of", letters: ["initial", "vowel", "final"], none: "none", isNew: "never seen", seen: "seen in training",
    loading: "Loading the network (2.0 MB) …",
    failed: "The network could not be loaded. Check the connection, then press Again.",
    others: (what) => `Left out: ${what}. The network writes Hangul syllables only.`,
    more: `It writes the first ${MOST} syllables.`,
    latin: (text) => `Read as ${text}. If you spell it otherwise, choose a syllable and change its letters.`,
    empty: "There is no syllable to write yet.",
    heldOut: (which) => (which ? `Held out of training, so never seen: ${which}.` : "Nothing here was held out of training."),
    title: "Generative Models",
  },
  ko: {
    input: "이름: 한글이나 로마자", placeholder: "민준 또는 Minjun", again: "다시 쓰기", againTitle: "새 잡음에서 다시 쓰기",
    t: "시각 t: 1이면 잡음, 0이면 글자", guidance: "안내의 세기 ω: 정해 준 자모를 따르는 정도", short: ["시각", "안내"], play: "재생", pause: "일시 정지",
    link: "링크 복사", linked: "링크를 복사했다.", linkedBar: "주소창에 링크가 있다.", picture: "그림 저장",
    edit: "자모 고치기", letters: ["초성", "중성", "종성"], none: "없음", isNew: "처음 보는 글자", seen: "배운 글자",
    loading: "신경망을 받는 중이다(2.0 MB) …",
    failed: "신경망을 받지 못했다. 연결을 확인하고 ‘다시 쓰기’를 누르면 된다.",
    others: (what) => `빼고 쓴 것: ${what}. 이 신경망은 한글 음절만 쓴다.`,
    more: `앞에서부터 ${MOST}글자만 쓴다.`,
    latin: (text) => `${text}: 이렇게 읽었다. 다르게 적는 이름이면 글자를 골라 자모를 바꾸면 된다.`,
    empty: "아직 쓸 음절이 없다.",
    heldOut: (which) => (which ? `훈련에서 감추어 본 적이 없는 글자: ${which}.` : "훈련에서 감추어 둔 글자는 없다."),
    title: "생성 모델",
  },
};

const SHOWN = "공원"; // what writer.png shows

const writerTemplate = (t) => `
  <style>
    :host { max-width: none; margin: 0; }
    .entry { display: flex; gap: 0.6rem; }
    input[type="text"] { flex: 1; min-width: 0; font: inherit; font-size: 1.15rem; color: inherit; background: none; min-height: 2.75rem; padding: 0 0.8rem; border: 1px solid color-mix(in srgb, currentColor 55%, transparent); border-radius: 6px; }
    input::placeholder { color: inherit; opacity: 0.65; }
    button { min-height: 2.75rem; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(7rem, 22%), 1fr)); gap: 0.7rem; margin: 0.9rem 0; }
    .tiles.few { grid-template-columns: repeat(auto-fill, minmax(min(10rem, 30%), 1fr)); }
    .tile { display: grid; align-content: start; padding: 0.3rem 0.3rem 0.4rem; white-space: normal; text-align: left; }
    .tile canvas { position: static; display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; }
    .tile .under { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 0.5em; padding: 0 0.2rem; font-size: 0.85rem; }
    .tile b { font-size: 1.1rem; }
    .new { color: var(--vermilion-text); }
    .letters { display: flex; flex-wrap: wrap; gap: 0.4rem 1rem; align-items: center; border: 0; margin: 0 0 0.6rem; padding: 0; }
    .letters legend { float: left; padding: 0; margin-right: 0.2rem; }
    .letters label { display: inline-flex; align-items: center; gap: 0.4em; }
    select { font: inherit; color: inherit; background: var(--paper); min-height: 2.75rem; min-width: 3.6rem; border: 1px solid color-mix(in srgb, currentColor 40%, transparent); border-radius: 6px; padding: 0 0.4rem; }
    .time { display: flex; align-items: center; gap: 0.7rem; }
    #play { min-width: 2.75rem; } #play svg { width: 1em; height: 1em; margin: 0 auto; fill: currentColor; }
    .time .control, .sliders .control { flex: 1; min-width: 0; }
    .sliders { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: 0 1.6rem; }
    .share { display: flex; flex-wrap: wrap; gap: 0.5rem; margin-top: 0.4rem; }
    [role="status"] { min-height: 1.5em; margin: 0.5rem 0 0; font-size: 0.95rem; }
    @media print { .entry, .sliders, .share, .letters { display: none; } }
  </style>
  <div class="entry">
    <input type="text" id="name" lang="ko" maxlength="80" autocomplete="off" autocapitalize="off" spellcheck="false" enterkeyhint="done" aria-label="${t.input}" placeholder="${t.placeholder}">
    <button id="again" title="${t.againTitle}">${t.again}</button>
  </div>
  <div class="tiles"></div>
  <fieldset class="letters" hidden><legend>${t.edit} <b></b></legend>${[INITIALS, VOWELS, FINALS].map((letters, k) => `
    <label>${t.letters[k]} <select id="letter-${k}">${letters.map((letter, value) => `<option value="${value}">${letter || t.none}</option>`).join("")}</select></label>`).join("")}
  </fieldset>
  <div class="sliders">
    <div class="time"><button id="play"><svg viewBox="0 0 16 16" aria-hidden="true"><path/></svg></button>${slider("t", `${t.short[0]} <i>t</i>`, t.t, 0, 1, 0.01)}</div>
    ${slider("guidance", `${t.short[1]} <i>ω</i>`, t.guidance, 0, 4, 0.25)}
  </div>
  <p role="status"></p>
  <div class="share"><button id="link">${t.link}</button><button id="picture">${t.picture}</button></div>`;

const WRITER_PLAY = "M3 1.5V14.5L14.5 8z";
const WRITER_PAUSE = "M3 2h3.6v12H3zM9.4 2H13v12H9.4z";
const WRITING_SECONDS = 2.5; // from noise to writing
const SIDE = 16; // pixels of an image

/** The ways that a picture of them shows: one syllable below the other, each from noise, on the left, to writing. */
function recorded(image) {
  const [columns, rows] = [image.naturalWidth / SIDE, image.naturalHeight / SIDE];
  const context = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const cut = (row, column) => {
    const { data } = context.getImageData(column * SIDE, row * SIDE, SIDE, SIDE);
    return Array.from({ length: SIDE * SIDE }, (_, i) => 1 - (2 * data[4 * i]) / 255);
  };
  return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => cut(row, column)));
}

/** A picture to share, black on white: the images in rows of six, and a line below them. */
function picture(images, line) {
  const [size, gap, below] = [192, 16, 56];
  const [columns, rows] = [Math.min(images.length, 6), Math.ceil(images.length / 6)];
  const canvas = Object.assign(document.createElement("canvas"), { width: Math.max(480, columns * (size + gap) + gap), height: rows * (size + gap) + gap + below });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  images.forEach((values, i) => {
    const small = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    small.getContext("2d").putImageData(develop(values, [SIDE, SIDE], [0, 0, 0]), 0, 0);
    context.drawImage(small, gap + (i % 6) * (size + gap), gap + Math.floor(i / 6) * (size + gap), size, size);
  });
  context.fillStyle = "#555";
  context.font = "20px system-ui, sans-serif";
  context.fillText(line, gap, canvas.height - below / 2, canvas.width - 2 * gap);
  return canvas.toDataURL();
}

function buildWriter(root, signal, model, image) {
  const t = dictionary(WRITER_WORDS);
  root.innerHTML += writerTemplate(t);
  const $ = (selector) => root.querySelector(selector);
  const on = (selector, event, listener) => $(selector).addEventListener(event, listener, { signal });
  const state = { text: "", seed: 1, guidance: 2.5, time: 0, chosen: 0, playing: null, said: "" };
  const ways = new Map(); // of the syllables that are written, by all that decides them
  const film = recorded(image);
  const key = (syllable, place) => [syllable, place, state.seed, state.guidance].join();
  [...SHOWN].forEach((syllable, place) => ways.set(key(syllable, place), film[place]));
  let [loading, task] = [null, 0];
  const redraw = () => model.redraw?.();

  /** The network, once it is needed. */
  const load = () => {
    loading ??= (async () => {
      const answers = await Promise.all(["writer.json", "writer.bin"].map((name) => fetch(new URL(name, image.src))));
      if (!answers.every(({ ok }) => ok)) throw new Error("not found");
      return writer(await answers[0].json(), await answers[1].arrayBuffer());
    })();
    loading.catch(() => (loading = null));
    return loading;
  };
  const seen = () => (state.text.trim() ? read(state.text) : { syllables: [...SHOWN], others: "" });

  /** Write what is not yet written, a syllable at a time; the page stays free in between. */
  const write = async () => {
    const mine = ++task;
    const missing = () => seen().syllables.findIndex((syllable, place) => !ways.has(key(syllable, place)));
    if (missing() < 0) return say();
    try {
      say(t.loading);
      const net = await load();
      say();
      for (let place; mine === task && (place = missing()) >= 0; redraw()) {
        const syllable = seen().syllables[place];
        ways.set(key(syllable, place), net(noise(state.seed, place), decompose(syllable), state.guidance));
        await new Promise((done) => setTimeout(done));
      }
    } catch {
      if (mine === task) say(t.failed);
    }
  };

  const say = (words) => {
    const { syllables, others, more, latin } = seen();
    const sentences = [
      others && !(state.composing && /^[ㄱ-ㅎㅏ-ㅣ]+$/.test(others)) && t.others(others),
      more && t.more,
      latin && syllables.length && t.latin(syllables.join("")),
      syllables.length ? t.heldOut([...new Set(syllables.filter(heldOut))].join(", ")) : t.empty,
    ];
    state.said = words ?? sentences.filter(Boolean).join(" ");
    redraw();
  };

  const change = (values, again) => {
    Object.assign(state, values);
    if (again) begin();
    write();
    redraw();
  };

  const play = () => {
    const going = state.playing !== null;
    Object.assign(state, { time: 1, playing: performance.now() });
    if (!going) requestAnimationFrame(step);
  };
  /** From noise to writing, unless the reader wants no motion. */
  const begin = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? Object.assign(state, { time: 0, playing: null }) : play());
  const step = (now) => {
    if (state.playing === null || signal.aborted) return;
    state.time = Math.max(0, state.time - elapsed(now, state.playing) / WRITING_SECONDS);
    state.playing = state.time > 0 ? Math.max(now, state.playing) : null;
    redraw();
    requestAnimationFrame(step);
  };

  on("#name", "input", ({ target, isComposing }) => {
    const before = seen().syllables.join();
    Object.assign(state, { text: target.value, composing: isComposing });
    const after = seen().syllables;
    change({ chosen: clamp(state.chosen, 0, Math.max(0, after.length - 1)) }, before !== after.join());
  });
  on("#name", "compositionend", () => (state.composing = false, write()));
  on("#again", "click", () => change({ seed: 1 + Math.floor(Math.random() * 9999) }, true));
  on("#guidance", "input", ({ target }) => change({ guidance: Number(target.value) }));
  on("#t", "input", ({ target }) => change({ time: Number(target.value), playing: null }));
  on("#play", "click", () => (state.playing === null ? play() : (state.playing = null), redraw()));
  on(".tiles", "click", ({ target }) => {
    const tile = target.closest(".tile");
    if (tile) change({ chosen: Number(tile.dataset.place) });
  });
  for (const k of [0, 1, 2])
    on(`#letter-${k}`, "change", () => {
      const letters = [0, 1, 2].map((place) => Number($(`#letter-${place}`).value));
      const text = seen().syllables.with(state.chosen, compose(letters)).join("");
      $("#name").value = text;
      change({ text });
    });
  on("#link", "click", async () => {
    const settings = { write: seen().syllables.join(""), seed: state.seed, guidance: state.guidance, t: state.time };
    history.replaceState(null, "", `#${new URLSearchParams(settings)}`);
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    say(copied ? t.linked : t.linkedBar);
  });
  on("#picture", "click", () => {
    const { syllables } = seen();
    const link = document.createElement("a");
    link.href = picture(syllables.map(at), `${syllables.join("")} · t = ${show(state.time)} · ω = ${show(state.guidance)} · ${t.title}`);
    link.download = `${syllables.join("")}.png`;
    link.click();
  });

  const arrive = () => {
    const settings = new URLSearchParams(location.hash.slice(1));
    if (!settings.get("write")) return;
    const number = (name, low, high, other) => (settings.has(name) ? clamp(Number(settings.get(name)) || 0, low, high) : other);
    $("#name").value = settings.get("write");
    change({ text: settings.get("write"), seed: number("seed", 1, 9999, 1), guidance: number("guidance", 0, 4, 2.5), time: number("t", 0, 1, 0), chosen: 0, playing: null });
    root.host.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", arrive, { signal });

  /** The image of a syllable at the time of the slider, from 0 to 1; until it is written its noise. */
  const at = (syllable, place) => {
    const way = ways.get(key(syllable, place));
    const times = way?.map((_, i) => (way.length - 1 - i) / (way.length - 1));
    return (way ? between(times, way, state.time) : noise(state.seed, place)).map((value) => (value + 1) / 2);
  };

  begin();
  say();
  arrive();
  return (element) => {
    const { syllables } = seen();
    for (const button of ["#link", "#picture"]) $(button).disabled = !syllables.length;
    const tiles = $(".tiles");
    if (tiles.dataset.text !== syllables.join("")) {
      tiles.dataset.text = syllables.join("");
      while (tiles.children.length > syllables.length) tiles.lastChild.remove();
      while (tiles.children.length < syllables.length) {
        const tile = Object.assign(document.createElement("button"), { className: "tile", innerHTML: `<canvas width="${SIDE}" height="${SIDE}" role="img"></canvas><span class="under"><b lang="ko" aria-hidden="true"></b><span></span></span>` });
        tile.dataset.place = tiles.children.length;
        tiles.append(tile);
      }
      tiles.classList.toggle("few", syllables.length < 5);
    }
    const ink = getComputedStyle(element).color.match(/[\d.]+/g).map(Number);
    [...tiles.children].forEach((tile, place) => {
      const syllable = syllables[place];
      tile.querySelector("canvas").getContext("2d").putImageData(develop(at(syllable, place), [SIDE, SIDE], ink), 0, 0);
      const mark = heldOut(syllable);
      tile.querySelector("b").textContent = syllable;
      tile.querySelector("canvas").setAttribute("aria-label", `${syllable}, t = ${show(state.time)}`);
      Object.assign(tile.querySelector(".under span"), { textContent: mark ? t.isNew : t.seen, className: mark ? "new" : "" });
      tile.setAttribute("aria-pressed", place === state.chosen);
    });
    $(".letters").hidden = !syllables.length;
    if (syllables.length) {
      const chosen = syllables[Math.min(state.chosen, syllables.length - 1)];
      $(".letters b").textContent = chosen;
      decompose(chosen).forEach((letter, k) => ($(`#letter-${k}`).value = letter));
    }
    for (const [name, value] of [["t", state.time], ["guidance", state.guidance]]) {
      $(`#${name}`).value = value;
      $(`#${name}-number`).textContent = show(value);
    }
    $("#play path").setAttribute("d", state.playing === null ? WRITER_PLAY : WRITER_PAUSE);
    $("#play").setAttribute("aria-label", state.playing === null ? t.play : t.pause);
    if ($("[role=status]").textContent !== state.said) $("[role=status]").textContent = state.said;
    const waiting = syllables.filter((syllable, place) => !ways.has(key(syllable, place))).length;
    Object.assign(element.dataset, { text: syllables.join(""), waiting, time: state.time, seed: state.seed, guidance: state.guidance });
  };
}

/** Where a page has a place for it; what stands there until then says why nothing moves. */
const place = document.querySelector("#writer");
if (place) {
  const image = place.querySelector("img");
  await image.decode();
  const model = { get() {}, on: (name, redraw) => name === "change:written" && (model.redraw = redraw), off() {} };
  place.replaceChildren();
  mount({ model, el: place }, ["written"], (root, signal) => buildWriter(root, signal, model, image));
}
