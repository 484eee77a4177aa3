// What checks a formula: the ✓ opens it in a dialog, the list of formulas shows the sources and filters its entries.
{
  const folder = document.currentScript.src.replace(/proof\.js.*/, "checks/");
  const loading = {};
  const load = ({ chapter, number }) =>
    (loading[chapter] ??= new Promise((done, fail) => {
      const script = Object.assign(document.createElement("script"), { src: `${folder}${chapter}.js`, onload: done, onerror: fail });
      document.head.append(script);
    })).then(() => window.checks[chapter][number]);

  const dialog = document.createElement("dialog");
  dialog.className = "check-dialog bd-article";
  dialog.setAttribute("aria-labelledby", "check-title");
  const korean = document.documentElement.lang === "ko";
  dialog.innerHTML = `<header><h2 id="check-title"></h2><button type="button" aria-label="${korean ? "닫기" : "Close"}">×</button></header><div></div>`;
  const [header, body] = dialog.children;
  header.lastChild.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener("click", ({ target }) => target.closest("a")?.hash && dialog.close());

  document.addEventListener("click", async (event) => {
    const link = event.target.closest(".formula-check");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    try {
      body.innerHTML = await load(link.dataset);
    } catch {
      location.href = link.href;
      return;
    }
    header.firstChild.textContent = link.ariaLabel;
    if (!dialog.isConnected) document.querySelector("main").append(dialog);
    dialog.showModal();
    dialog.scrollTop = 0;
    fit([body]);
  });

  for (const details of document.querySelectorAll(".check-source")) {
    details.addEventListener("toggle", async () => {
      const box = Object.assign(document.createElement("div"), { innerHTML: await load(details.dataset) });
      box.querySelectorAll(".check-method, .check-error, :scope > p:last-child").forEach((part) => part.remove());
      details.replaceChildren(details.firstChild, ...box.childNodes);
      fit([details]);
    }, { once: true });
  }

  const form = document.querySelector(".formula-filter");
  if (form) {
    const { 0: chapter, 1: text } = form.elements;
    const entries = [...document.querySelectorAll(".formula-proof")].map((element) => {
      const names = [...element.querySelectorAll(".formula-number, .check-method, .check-name")].map((part) => part.textContent);
      return { element, words: names.join(" ").toLowerCase().normalize("NFC"), section: element.closest("section") };
    });
    const filter = () => {
      const asked = text.value.toLowerCase().normalize("NFC").split(/\s+/);
      const shown = new Set();
      for (const { element, words, section } of entries) {
        element.hidden = (chapter.value && section.id !== chapter.value) || !asked.every((word) => words.includes(word));
        if (!element.hidden) shown.add(section).add(element);
      }
      let count = 0;
      for (const { element, section } of entries) {
        section.hidden = !shown.has(section);
        count += !element.hidden;
      }
      form.querySelector("output").textContent = `${count} / ${entries.length}`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("pageshow", filter); // the browser has put back what was typed
    addEventListener("hashchange", () => {
      if (!document.querySelector(":target")?.closest("[hidden]")) return;
      form.reset();
      filter();
      document.querySelector(":target").scrollIntoView();
    });
  }
}
