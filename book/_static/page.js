// The language switch keeps the place on the page and remembers the choice for the root page.
for (const link of document.querySelectorAll(".language-switch")) {
  link.addEventListener("click", () => {
    link.hash = location.hash;
    localStorage.setItem("lang", link.lang);
  });
}

// What is wider than the column scrolls: show that it does, and let the keyboard reach it.
function markScrolling() {
  for (const box of document.querySelectorAll("div.math, .cell_output, div.highlight pre, .pst-scrollable-table-container")) {
    const rest = box.scrollWidth - box.clientWidth;
    if (rest <= 1) continue;
    box.tabIndex = 0;
    const update = () => box.classList.toggle("scrolls", box.scrollLeft < rest - 4);
    box.addEventListener("scroll", update, { passive: true });
    update();
  }
}
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(markScrolling));

// Paper has no buttons: print what is folded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => (box.open = true)));

// The lines under a search result come from the article alone, and name formulas without TeX's delimiters.
if (typeof Search !== "undefined") {
  Search.htmlToText = (text) => {
    const article = new DOMParser().parseFromString(text, "text/html").querySelector("article");
    article?.querySelectorAll(".headerlink, script, style, noscript").forEach((element) => element.remove());
    return article?.textContent.replace(/\\[()[\]]/g, "").trim() ?? "";
  };
}
