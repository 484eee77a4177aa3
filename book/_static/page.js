// The language switch keeps the place on the page and remembers the choice for the root page.
for (const link of document.querySelectorAll(".language-switch")) {
  link.addEventListener("click", () => {
    link.hash = location.hash;
    localStorage.setItem("lang", link.lang);
  });
}

// A formula wider than the column scrolls: let the keyboard reach it.
addEventListener("load", () => {
  for (const box of document.querySelectorAll("div.math, .cell_output, div.highlight pre, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
  }
});
