// Puts the pages of an edition into one document: run in a page of pdf.html, which stands in the edition's folder.
async ({ pages, pictures, folder, words }) => {
  const main = document.querySelector("main");
  const link = (href, ...content) => {
    const element = document.createElement("a");
    element.href = href;
    element.append(...content);
    return element;
  };
  const without = (heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".headerlink").forEach((sign) => sign.remove());
    return [...copy.childNodes];
  };

  /** Where a link of a page leads within this document, on the site if that is published, or nowhere. */
  function aim(anchor, page) {
    const url = new URL(anchor.getAttribute("href"), new URL(`${page}.html`, location));
    if (url.origin !== location.origin) return;
    const name = url.pathname.split("/").at(-1).replace(".html", "");
    const here = url.pathname.startsWith(new URL(".", location).pathname) && pages.includes(name);
    if (here) anchor.href = `#${name}${url.hash ? `--${decodeURIComponent(url.hash.slice(1))}` : ""}`;
    else if (folder) anchor.href = folder + url.href.slice(new URL(".", location).href.length);
    else anchor.removeAttribute("href");
  }

  /** A live figure as it stands at first, with the address at which it moves. */
  function still(place, page) {
    const name = place.parentElement.querySelector(".share-box").id.replace("share-", "");
    const address = `embed/${name}.html`;
    const figure = Object.assign(document.createElement("div"), { className: "live" });
    const picture = Object.assign(new Image(), { src: pictures[name], alt: "" });
    const where = Object.assign(document.createElement("p"), { className: "widget-note" });
    where.append(`${words.live}: `, folder ? link(folder + address, folder + address) : address);
    figure.append(...(pictures[name] ? [picture] : []), where);
    place.replaceWith(figure);
  }

  const solutions = Object.assign(document.createElement("article"), { className: "bd-article", id: "solutions" });
  solutions.innerHTML = `<h1>${words.solutions}</h1>`;
  let solved = 0;
  const NUMBER = /^\d+\.\d+/; // of an exercise, which its paragraph begins with

  /** A solution moves to the end of the book; a proof stays, open; the code of figures and imports is in the notebooks. */
  function unfold(details, chapter) {
    const summary = details.querySelector("summary");
    if (words.solution.some((word) => summary.textContent.startsWith(word))) {
      const place = `solution-${++solved}`;
      if (!solutions.querySelector(`[data-of="${chapter.id}"]`)) {
        const heading = document.createElement("h2");
        heading.dataset.of = chapter.id;
        heading.id = `solutions--${chapter.id}`;
        heading.append(...without(chapter.querySelector("h1")));
        solutions.append(heading);
      }
      const numbers = [...chapter.querySelectorAll("p > strong:first-child")].filter((strong) => NUMBER.test(strong.textContent));
      const number = numbers.findLast((strong) => strong.compareDocumentPosition(details) & Node.DOCUMENT_POSITION_FOLLOWING);
      const name = summary.textContent.trim();
      const title = /\d/.test(name) || !number ? name : `${name} ${number.textContent.match(NUMBER)[0]}`;
      const back = Object.assign(document.createElement("h3"), { id: place });
      back.append(link(`#exercise-${solved}`, `${title} ↑`));
      const pointer = Object.assign(document.createElement("p"), { id: `exercise-${solved}` });
      pointer.append(link(`#${place}`, `${title} →`));
      details.replaceWith(pointer);
      summary.remove();
      solutions.append(back, ...details.childNodes);
    } else if (details.matches(".hide")) details.remove();
    else details.open = true;
  }

  for (const page of pages) {
    const text = await (await fetch(`${page}.html`)).text();
    const article = document.adoptNode(new DOMParser().parseFromString(text, "text/html").querySelector("article"));
    article.id = page;
    for (const element of article.querySelectorAll("section[id], :is(p, div)[id]:not(.share-box)")) element.id = `${page}--${element.id}`;
    for (const anchor of article.querySelectorAll("a[href]")) aim(anchor, page);
    article.querySelectorAll(".widget").forEach((place) => still(place, page));
    for (const note of article.querySelectorAll("noscript")) note.replaceWith(...note.querySelectorAll("img"));
    article.querySelectorAll("script, .headerlink, .share, .share-box, mjx-assistive-mml").forEach((part) => part.remove());
    article.querySelectorAll("img").forEach((image) => image.removeAttribute("loading"));
    for (const details of [...article.querySelectorAll("details")].filter((box) => !box.parentElement.closest("details"))) unfold(details, article);
    main.append(article);
  }
  if (solved) main.append(solutions);

  const entry = (target, heading) => {
    const item = document.createElement("li");
    const page = Object.assign(document.createElement("span"), { className: "page" });
    const title = document.createElement("span");
    title.append(...without(heading));
    item.append(link(`#${target}`, title, page));
    return item;
  };
  for (const article of main.children) {
    const item = entry(article.id, article.querySelector("h1"));
    const sections = document.createElement("ol");
    for (const heading of article.querySelectorAll("h2")) sections.append(entry(heading.id || heading.closest("section").id, heading));
    if (sections.hasChildNodes()) item.append(sections);
    document.querySelector(".book-contents ol").append(item);
  }
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
}
