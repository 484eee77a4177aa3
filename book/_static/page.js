// The language switch keeps the place and remembers the choice for the root page. The place is what the address names, if it
// is in view, or else the section, formula or caption that begins in the upper third of the window, or the last one above it.
function placeInView() {
  const top = (place) => place.getBoundingClientRect().top;
  const aimed = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (aimed && top(aimed) > -10 && top(aimed) < innerHeight) return location.hash;
  const places = [...document.querySelectorAll("article :is(section, .formula, .figure-caption)[id]")];
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

// What is wider than the column: a formula shrinks a little, a table is stacked on a phone, all else scrolls; show that it
// does, and let the keyboard reach it.
function fitToWidth() {
  for (const table of document.querySelectorAll(".bd-article table.table")) {
    table.classList.remove("stacked");
    if (innerWidth < 600 && table.offsetWidth > table.parentElement.clientWidth) stack(table);
  }
  for (const changed of document.querySelectorAll(".scrolls-inline, .unbroken.wide")) changed.classList.remove("scrolls-inline", "scrolls", "wide");
  for (const formula of document.querySelectorAll("div.math mjx-container")) formula.style.removeProperty("font-size");
  const column = (element) => element.parentElement.closest("p, li, td, figcaption, section").clientWidth;
  const all = (selector, measure) => [...document.querySelectorAll(selector)].map((element) => [element, measure(element)]);
  const displayed = all("div.math mjx-container", ({ parentElement: box }) => Math.floor((112 * box.clientWidth) / box.scrollWidth));
  const inline = all("span.math mjx-container", (formula) => formula.getBoundingClientRect().width > column(formula) + 1);
  const words = all(".unbroken", (word) => word.offsetWidth > column(word));
  for (const [formula, percent] of displayed) {
    if (percent < 112 && percent >= 95) formula.style.setProperty("font-size", `${percent}%`, "important");
  }
  for (const [formula, wide] of inline) {
    formula.classList.toggle("scrolls-inline", wide);
    if (wide) formula.tabIndex = 0;
  }
  for (const [word, wide] of words) word.classList.toggle("wide", wide);
  for (const box of document.querySelectorAll("div.math, .scrolls-inline, .cell_output, div.highlight pre, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    box.onscroll = () => box.classList.toggle("scrolls", box.scrollLeft < box.scrollWidth - box.clientWidth - 4);
    box.onscroll();
  }
}
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(fitToWidth));
addEventListener("resize", fitToWidth);
document.fonts.addEventListener("loadingdone", fitToWidth);

function stack(table) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, index) => cell.textContent.trim() && (cell.dataset.column = columns[index]));
  }
  table.classList.add("stacked");
}

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
