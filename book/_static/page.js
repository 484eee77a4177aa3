// The language switch keeps the place and remembers the choice for the root page. The place is what the address names, if it
// is in view, or else the section, formula or caption that begins in the upper third of the window, or the last one above it.
function placeInView() {
  const top = (place) => place.getBoundingClientRect().top;
  const aimed = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (aimed && top(aimed) > -10 && top(aimed) < innerHeight) return location.hash;
  const places = [...document.querySelectorAll("article :is(section, .formula, .figure-caption)[id]")].filter((place) => place.checkVisibility());
  const begins = places.find((place) => top(place) > -10 && top(place) < innerHeight / 3);
  const place = begins ?? places.findLast((place) => top(place) <= -10);
  return place && place !== places[0] ? `#${place.id}` : "";
}
for (const link of document.querySelectorAll(".language-switch")) {
  link.addEventListener("click", () => {
    link.search = location.search;
    link.hash = placeInView();
    localStorage.setItem("lang", link.lang);
  });
}

// What shares a live figure names the place where this site is served, unless the site knows its own.
for (const field of document.querySelectorAll(".share-box :is(input, textarea)")) {
  field.defaultValue = field.defaultValue.replace("{here}/", new URL(".", location));
  field.addEventListener("focus", () => field.select());
}

// What is wider than the column: an inline formula breaks its word or scrolls, all else scrolls; show that it does, and let
// the keyboard reach it. Each is measured when it comes near.
const BOXES = "div.math, .cell_output, div.highlight pre, .pst-scrollable-table-container";
const near = new IntersectionObserver((seen) => fit(seen.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target)), { rootMargin: "100%" });

function fit(elements) {
  const those = (selector) => elements.filter((element) => element.matches(selector));
  for (const element of elements) {
    near.unobserve(element);
    element.classList.remove("wide");
  }
  const column = (element) => element.parentElement.closest("p, li, td, figcaption, section").clientWidth;
  const wide = those("span.math, .unbroken").filter((element) => element.getBoundingClientRect().width > column(element) + 1);
  for (const element of wide) element.classList.add("wide");
  const formulas = wide.filter((element) => element.matches(".math")).map((element) => element.firstChild);
  const boxes = [...those(BOXES), ...formulas].filter((box) => box.scrollWidth > box.clientWidth + 1);
  for (const box of boxes) {
    box.tabIndex = 0;
    box.onscroll = () => box.classList.toggle("scrolls", box.scrollLeft < box.scrollWidth - box.clientWidth - 4);
    box.onscroll();
  }
}

function observe() {
  near.disconnect();
  for (const element of document.querySelectorAll(`.bd-article :is(span.math, .unbroken, ${BOXES})`)) near.observe(element);
}
observe();
addEventListener("resize", observe);

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
  // A live figure redraws in the next frame, after printing: what it painted for the dark theme is inverted instead.
  const shadows = [...document.querySelectorAll(".widget *")].map(({ shadowRoot }) => shadowRoot).filter(Boolean);
  const paint = (filter) => shadows.flatMap((root) => [...root.querySelectorAll("canvas")]).forEach(({ style }) => (style.filter = filter));
  if (theme === "dark") paint("invert(1) hue-rotate(180deg)");
  addEventListener("afterprint", () => (document.documentElement.dataset.theme = theme, paint("")), { once: true });
});
