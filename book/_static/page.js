// The language switch keeps the place and remembers the choice for the root page. The place is what the address names, if it
// is in view, or else the section, formula, caption, exercise, box or term that begins in the upper third of the window, or the last
// one above it. What is shared in an address, such as an experiment of the playground, is no place and is kept.
function placeInView() {
  const top = (place) => place.getBoundingClientRect().top;
  const bar = document.querySelector(".formula-filter")?.getBoundingClientRect().bottom ?? 0; // covers what is above
  const edge = Math.max(0, bar) - 10;
  if (location.hash.includes("=")) return location.hash;
  const aimed = location.hash && document.querySelector(":target");
  if (aimed && top(aimed) > -10 && top(aimed) < innerHeight) return location.hash;
  const places = [...document.querySelectorAll("article :is(section, .formula, .figure-caption, .callout-mistake, [id^='exercise-'], tr)[id]")].filter((place) => place.checkVisibility());
  const begins = places.find((place) => top(place) > edge && top(place) < innerHeight / 3);
  const place = begins ?? places.findLast((place) => top(place) <= edge);
  return place && place !== places[0] ? `#${place.id}` : "";
}
for (const link of document.querySelectorAll(".language-switch")) {
  link.addEventListener("click", () => {
    link.search = location.search;
    link.hash = placeInView();
    localStorage.setItem("lang", link.lang);
  });
}

// On a wide screen the button of the contents takes them away, where the theme would open them over the page.
document.querySelector(".primary-toggle")?.addEventListener("click", (event) => {
  if (!matchMedia("(min-width: 992px)").matches) return;
  event.stopImmediatePropagation();
  document.querySelector("#pst-primary-sidebar").classList.toggle("pst-sidebar-hidden");
}, true);

// What shares a live figure names the place where this site is served, unless the site knows its own.
for (const field of document.querySelectorAll(".share-box :is(input, textarea)")) {
  field.defaultValue = field.defaultValue.replace("{here}/", new URL(".", location));
  field.addEventListener("focus", () => field.select());
}

// What is wider than the column: an inline formula breaks its word or scrolls, all else scrolls; show that it does, and let
// the keyboard reach it. A part of the page is measured when it comes near, for that lays it out; until then the column is
// compared with the width that a displayed formula knows, in em, and with the longest line of code; a table may be wider.
const BOXES = "div.math, .cell_output, .cell_output > .output, div.highlight pre, .pst-scrollable-table-container";
const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) if (isIntersecting) setTimeout(fit, 0, [target]); // a short task each
}, { rootMargin: "100%" });

function fit(parts) {
  for (const part of parts) near.unobserve(part);
  const those = (selector) => parts.flatMap((part) => [part, ...part.querySelectorAll(selector)]).filter((element) => element.matches(selector));
  const words = those("span.math, .unbroken");
  for (const word of words) word.classList.remove("wide");
  const room = (word) => word.parentElement.closest("p, li, td, figcaption, section").clientWidth;
  const drawn = (word) => word.querySelector(":scope > mjx-container > mjx-math") ?? word; // the theme cuts what holds it
  const hangs = (word) => (word.matches(".math") ? 1 : 8); // a stop may stand in the margin, but not alone in a line
  const wide = words.filter((word) => drawn(word).getBoundingClientRect().width > room(word) + hangs(word));
  for (const word of wide) word.classList.add("wide");
  const formulas = wide.filter((word) => word.matches(".math")).map((word) => word.firstChild);
  const hidden = (box) => box.scrollWidth - box.clientWidth - box.scrollLeft;
  const boxes = [...those(BOXES), ...formulas].map((box) => [box, box.scrollWidth > box.clientWidth + 1, hidden(box) > 4]);
  for (const [box, scrolls, more] of boxes) {
    if (scrolls) box.tabIndex = 0;
    else if (box !== document.activeElement) box.removeAttribute("tabindex");
    box.classList.toggle("scrolls", more);
    box.onscroll = () => box.classList.toggle("scrolls", hidden(box) > 4);
  }
}

// Of a text's lines, in letters; Hangul is twice as wide.
const longest = (text) => Math.max(...text.split("\n").map((line) => line.replace(/[^\0-ÿ]/g, "xx").length));

let column = 0;
function observe([{ target: article, contentRect: { width } }]) {
  if (width === column) return; // only its height has changed
  column = width;
  near.disconnect();
  const proofs = document.getElementsByClassName("formula-proof");
  for (const part of proofs.length ? proofs : (article.querySelector(":scope > section") ?? article).children) near.observe(part);
  const size = parseFloat(getComputedStyle(article).fontSize);
  const guesses = {
    "div.math": (box) => 0.92 * box.firstChild.style.getPropertyValue("--width") + (box.matches(".formula > *") ? 6 : 0), // its number
    "div.highlight pre": (box) => 1.2 + 0.46 * longest(box.textContent),
    ".pst-scrollable-table-container": () => Infinity,
  };
  for (const [selector, guess] of Object.entries(guesses)) {
    for (const box of article.querySelectorAll(selector)) if (size * guess(box) > column) box.tabIndex = 0;
  }
}
for (const article of document.querySelectorAll("article")) new ResizeObserver(observe).observe(article);
document.addEventListener("toggle", ({ target }) => fit([target]), true);

// A formula is a drawing: a double click selects it whole, a selection shows that it holds it, a copy has its TeX.
const formulaAt = (node) => (node.closest ? node : node.parentElement)?.closest(".math");
addEventListener("dblclick", ({ target }) => formulaAt(target) && getSelection().selectAllChildren(formulaAt(target)));
document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  for (const formula of document.querySelectorAll(".math")) {
    formula.classList.toggle("selected", !selection.isCollapsed && selection.containsNode(formula, true));
  }
});
document.addEventListener("copy", (event) => {
  const range = getSelection().rangeCount && getSelection().getRangeAt(0).cloneRange();
  if (!range || range.collapsed) return;
  const [first, last] = [range.startContainer, range.endContainer].map(formulaAt);
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const copied = range.cloneContents();
  const formulas = copied.querySelectorAll(".math");
  if (!formulas.length) return;
  for (const formula of formulas) {
    const sign = formula.matches("div") ? "$$" : "$";
    formula.replaceWith(sign + formula.dataset.tex + sign);
  }
  event.clipboardData.setData("text/plain", copied.textContent);
  event.preventDefault();
});

// Paper has no buttons: print what is folded. And it is white: figures inverted for the dark theme would vanish on it.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((box) => (box.open = true));
  const { theme } = document.documentElement.dataset;
  document.documentElement.dataset.theme = "light";
  // A live figure redraws in the next frame. If that comes after printing, what it painted for the dark theme is inverted.
  const shadows = [...document.querySelectorAll(".widget *")].map(({ shadowRoot }) => shadowRoot).filter(Boolean);
  const paint = (filter) => shadows.flatMap((root) => [...root.querySelectorAll("canvas")]).forEach(({ style }) => (style.filter = filter));
  if (theme === "dark") paint("invert(1) hue-rotate(180deg)");
  requestAnimationFrame(() => paint(""));
  addEventListener("afterprint", () => (document.documentElement.dataset.theme = theme, paint("")), { once: true });
});
