// The language switch keeps the place on the page and remembers the choice for the root page.
for (const link of document.querySelectorAll(".language-switch")) {
  link.addEventListener("click", () => {
    link.hash = location.hash;
    localStorage.setItem("lang", link.lang);
  });
}

// What is wider than the column is stacked (tables) or scrolls: show that it does, and let the keyboard reach it.
function fitToWidth() {
  for (const table of document.querySelectorAll(".bd-article table.table")) {
    table.classList.remove("stacked");
    if (innerWidth < 600 && table.offsetWidth > table.parentElement.clientWidth) stack(table);
  }
  for (const formula of document.querySelectorAll("span.math mjx-container")) {
    const column = formula.closest("p, li, td, figcaption, section");
    const wide = Math.max(formula.scrollWidth, formula.getBoundingClientRect().width) > column.clientWidth + 1;
    formula.classList.toggle("scrolls-inline", wide);
    if (wide) formula.tabIndex = 0;
  }
  for (const box of document.querySelectorAll("div.math, .cell_output, div.highlight pre, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    box.onscroll = () => box.classList.toggle("scrolls", box.scrollLeft < box.scrollWidth - box.clientWidth - 4);
    box.onscroll();
  }
}
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(fitToWidth));
addEventListener("resize", fitToWidth);

function stack(table) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, index) => (cell.dataset.column = cell.textContent.trim() ? columns[index] : ""));
  }
  table.classList.add("stacked");
}

// Paper has no buttons: print what is folded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => (box.open = true)));

// Chapters come before appendices in the search; the lines under a result come from the article alone, and name formulas
// without TeX's delimiters.
if (typeof Search !== "undefined") {
  Scorer.score = ([page, , , , score]) => score + (/^\d/.test(page) ? Scorer.title : 0);
  Search.htmlToText = (text) => {
    const article = new DOMParser().parseFromString(text, "text/html").querySelector("article");
    article?.querySelectorAll(".headerlink, .formula, div.math, script, style, noscript").forEach((element) => element.remove());
    return article?.textContent.replace(/\\[()[\]]/g, "").trim() ?? "";
  };
}
