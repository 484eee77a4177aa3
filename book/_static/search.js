// The search: section by section, as you type, in the dialog that the theme opens and on the search page.
// `sections.js` holds what it looks through (see _ext/search.py).

{
  // Small letters without accents, in British spelling; what a Mac or a phone types letter by letter is composed.
  const fold = (text) =>
    text.normalize("NFC").toLowerCase().replace(/[à-ɏ]/g, (letter) => letter.normalize("NFD")[0]).replace(/([iy])z(?=[aei])/g, "$1s");

  // Korean attaches particles and endings to nouns. A noun that ends like one is spared: 가능도, 정확도, 중요도 …
  const PARTICLE =
    "(?:에서는|에서도|으로는|으로도|이라는|이라고|에서|에게|으로|까지|부터|보다|처럼|이다|이며|이고|이란|이나|라는|라고|" +
    "하는|하고|하며|하면|하여|해서|한다|했다|하다|된다|되는|되고|되며|되어|되다|이라|적인|적으로|한가|는가|인가|하나|할까|일까|까요|가요|나요|는지|인지|" +
    "은|는|이|가|을|를|의|에|와|과|로|란|들|만|한|할|함|된|될|됨|(?<![능밀뢰확속온척각빈농강잡요감임])도)(?![가-힣])";
  const ENDING = new RegExp(PARTICLE);
  const AFTER_LATIN = new RegExp(`(?<=[a-z\\d])${PARTICLE}`, "g");
  // What a question has beside what is asked for.
  const QUESTION = /^(?:what|which|who|why|how|when|where|is|are|was|does|do|did|can|should|an?|the|of|in|to|for|from|with|and|my|i|this|that|not|it|mean|왜|어떻게|무엇|뭐|어떤|어느|언제|누구|누가|대신|위한)$/;
  const isHangul = (word) => /^[가-힣]/.test(word);

  // The words of a folded text, without particles.
  function split(text) {
    const found = text.replace(AFTER_LATIN, "").match(/[가-힣]+|(?:(?![가-힣])[\p{L}\p{N}_])+/gu) ?? [];
    return found.map((word) => {
      if (!isHangul(word)) return word.replace("parametr", "parameter");
      for (let stem = word; (stem = word.replace(ENDING, "")) !== word && stem.length > 1; word = stem);
      return word;
    });
  }

  // Where a word stands: Hangul with or without spaces between its syllables, everything else as the start of a word, and if
  // it is short as a whole one, but for a Korean particle.
  function pattern(word) {
    if (isHangul(word)) return [...word].join(" ?");
    const stem = word.replace(/^(.{4,}?)(?:ations?|ing|ed|es|s|e|y)$/, "$1").replace(/(?<=..)([bdgmnprt])\1$/, "$1");
    return `(?<![\\p{L}\\p{N}])${stem}${stem.length < 4 ? "s?(?!(?![가-힣])[\\p{L}\\p{Nd}])" : "[a-z]*"}`;
  }
  const matcher = (words) => new RegExp(words.map(pattern).join("[^\\p{N}]{0,3}?"), "gu");

  // What "3.12" may stand for, and the words that say which of them is meant.
  const KINDS = {
    figure: /그림|fig[a-z]*\.?/,
    section: /절|sec[a-z]*\.?|§/,
    exercise: /연습 ?문제|연습|문제|풀이|exercises?|solution/,
    eq: /식|eq[a-z]*\.?|formula/,
  };

  // How many letters, or neighbours that changed places, differ.
  function distance(one, other) {
    let [before, row] = [[], [...Array(other.length + 1).keys()]];
    for (let i = 1; i <= one.length; i++) {
      const next = [i];
      for (let j = 1; j <= other.length; j++) {
        next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (one[i - 1] !== other[j - 1]));
        if (one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]) next[j] = Math.min(next[j], before[j - 2] + 1);
      }
      [before, row] = [row, next];
    }
    return row[other.length];
  }

  class Index {
    constructor({ records, synonyms }) {
      this.records = records.map((record) => ({
        ...record,
        part: /^\d/.test(record.url) ? 1 : /^bibliography/.test(record.url) ? 5 : 2.5, // what is no chapter counts less
        place: /#(eq|figure|exercise|term)-/.exec(record.url)?.[1],
        folded: { title: fold(record.title), other: fold(record.other ?? ""), terms: fold(record.terms ?? ""), text: fold(record.text) },
      }));
      this.sections = this.records.filter(({ place }) => !place);
      const terms = this.records.filter(({ place }) => place === "term").map((record) => [split(record.folded.title).join(" "), record]);
      this.terms = new Map(terms);
      const size = (record) => record.text.length + 400;
      const mean = this.sections.reduce((sum, record) => sum + size(record), 0) / this.sections.length;
      for (const record of this.sections) record.length = size(record) / mean;
      this.synonyms = synonyms.map(([own, other]) => ({ own: own.map(fold), all: [...own, ...other].map((name) => split(fold(name))) }));
      this.seen = new Map();
      const names = [...this.sections.flatMap(({ folded: { title, terms } }) => split(`${title}\n${terms}`)), ...this.synonyms.flatMap(({ all }) => all.flat())];
      this.words = [...new Set(names)];
    }

    // A word that stands nowhere is one of the book's own with a letter wrong, if there is one; Hangul is compared jamo by jamo.
    spelled(word) {
      const typed = word.normalize("NFD");
      const within = (name) => name.startsWith(word) || (isHangul(name) && name.length > 1 && (word.includes(name) || name.includes(word)));
      const known = this.find([word]).weight || this.synonyms.some(({ all }) => all.some((words) => within(words.join(""))));
      if (known || typed.length < 6 || /\d/.test(word)) return word;
      const most = typed.length < 9 ? 1 : 2;
      const near = this.words
        .map((name) => [name, name.normalize("NFD")])
        .filter(([, letters]) => letters[0] === typed[0] && Math.abs(letters.length - typed.length) <= most)
        .map(([name, letters]) => [name, distance(typed, letters)])
        .sort(([, one], [, other]) => one - other)[0];
      return near?.[1] <= most ? near[0] : word;
    }

    // The query and what it becomes when its words are replaced by those of the book.
    readings(query) {
      const said = split(query).map((word) => this.spelled(word));
      const asked = said.filter((word) => !QUESTION.test(word));
      const typed = (asked.length ? asked : said).join(" ");
      const found = new Map([[typed.replaceAll("_", " "), 0.9]]).set(typed, 1);
      for (const [reading, weight] of found) {
        if (weight < 0.8 || !reading) continue;
        for (const { own, all } of this.synonyms) {
          const bare = reading.replaceAll(" ", "");
          const said = all.find((words) => bare.includes(words.join("")) && this.names(reading, matcher(words).exec(reading)));
          if (!said) continue;
          for (const other of own) {
            const replaced = split(reading.replace(matcher(said), ` ${other} `)).join(" ");
            if (!found.has(replaced)) found.set(replaced, weight * 0.9);
          }
        }
      }
      return found;
    }

    // Whether what was found in the query is meant: not if it is part of one longer word that the book has.
    names(query, found) {
      if (!found) return false;
      const before = /\S*$/.exec(query.slice(0, found.index))[0];
      const after = /^\S*/.exec(query.slice(found.index + found[0].length))[0];
      const whole = before + found[0] + after;
      return whole === found[0] || whole.includes(" ") || !this.find([whole]).weight;
    }

    // Where the words stand one after the other: in each section's title, terms, text (how often) and page.
    find(words) {
      const key = words.join(" ");
      if (!this.seen.has(key)) {
        const expression = matcher(words);
        const count = (text) => [...text.matchAll(expression)].reduce((sum, { index }) => sum + (isHangul(key) && isHangul(text[index - 1] ?? "") ? 0.3 : 1), 0);
        const once = new RegExp(expression.source, "u");
        const hits = this.sections.map(({ folded: { title, other, terms, text } }) => {
          const share = Math.max(0, ...terms.split("\n").map((term) => (term.match(expression)?.[0].length ?? 0) / (term.length || 1)));
          return { title: once.exec(title) ?? once.exec(other), terms: share, text: count(text) };
        });
        const there = ({ title, terms, text }) => title || terms || text;
        const sections = hits.filter(there).length;
        const first = hits.findIndex(there);
        this.seen.set(key, { hits, first, weight: sections ? Math.log(1 + hits.length / sections) : 0 });
      }
      return this.seen.get(key);
    }

    score(index, words) {
      const record = this.sections[index];
      let score = 0;
      let matched = 0;
      for (const word of words) {
        const { hits, weight } = this.find([word]);
        const { title, terms, text } = hits[index];
        if (!title && !terms && !text) continue;
        matched += 1;
        score += weight * ((title ? 3 : 0) + 1.5 * terms + (3 * text) / (text + 2 * record.length));
      }
      const { hits, first, weight } = this.find(words);
      const { title, terms, text } = hits[index];
      let { part } = record;
      if (title) {
        const name = title.input.replace(/^(?:\d+[a-z]?|a)(\.\d+)?\.? /, "");
        const start = title.input.length - name.length;
        if (title[0].length === name.length) part = 1;
        score += weight * (3 + (4 * title[0].length) / name.length + (title.index <= start ? 3 : 0));
      }
      score += 5 * terms ** 2 * weight;
      if (text) score += weight;
      if (index === first) score += weight; // where the book comes to it
      return (score * (matched / words.length) ** 3) / part;
    }

    // The places of "3.12", "figure 3.4", "exercise 2.3" and "chapter 5", what else the query says, and the page it names.
    numbered(query) {
      query = query.normalize("NFKC");
      const number = /(?<!\d\.?)(?:\d+|(?<![a-z])a)\.\d+(?!\.?\d)/.exec(query)?.[0];
      const chapter = /(?<![a-z])ch(?:apter|\.)? ?(\d+b?)(?![\w.])|(?<![\w.])(\d+b?)장|(?:appendix|부록)(?: a(?![\w.]))?/.exec(query);
      const kind = Object.keys(KINDS).find((kind) => KINDS[kind].test(query));
      const rank = ({ place = "section" }) => (place === (kind ?? "eq") ? 0 : ["eq", "section", "figure", "exercise"].indexOf(place) + 1);
      const places = this.records.filter((record) => number && record.number === number.toUpperCase()).sort((one, other) => rank(one) - rank(other));
      const start = chapter && `${chapter[1] ?? chapter[2] ?? "a"}. `;
      if (!places.length && start) places.push(...this.sections.filter(({ url, folded: { title } }) => !url.includes("#") && title.startsWith(start)));
      if (!places.length && !chapter?.[1]) return [[], query];
      const said = [number, number && KINDS[kind]?.source, chapter?.[0]].filter(Boolean);
      const rest = said.reduce((rest, words) => rest.replace(new RegExp(`(?:${words})\\)?(?:${PARTICLE})?`), ""), query);
      return [places, rest, number ? undefined : places[0]?.url];
    }

    // How many sections there are, and the best, each with the sentence that says most about the query and what to mark in it.
    search(query, most) {
      const [places, rest, page] = this.numbered(fold(query));
      const best = new Map();
      const readings = this.readings(rest);
      for (const [reading, weight] of readings) {
        const words = [...new Set(reading.split(" "))].filter(Boolean);
        if (!words.length) continue;
        this.sections.forEach((record, index) => {
          const score = page && !record.url.startsWith(page) ? 0 : weight * this.score(index, words);
          if (score > (best.get(record)?.score ?? 0)) best.set(record, { record, score, words });
        });
      }
      const found = (page && best.size ? [] : places).map((record) => ({ record, words: [] }));
      const ranked = [...best.values()].sort((one, other) => other.score - one.score);
      const term = [...readings.keys()].map((reading) => this.terms.get(reading)).find(Boolean);
      const others = ranked.filter(({ record }) => !found.some((one) => one.record === record) && record.url !== term?.url.split("#")[0]);
      found.push(...others.filter(({ score }) => score > ranked[0].score / 20));
      if (term) found.splice(1, 0, { record: term, words: [] }); // what it means comes second
      return { total: found.length, results: found.slice(0, most).map(({ record, words }) => ({ ...record, ...excerpt(record, words) })) };
    }
  }

  function excerpt({ text, terms = "" }, words) {
    const sentences = text.split(/\n|(?<=(?<!\.\.)[.?!]['"”’)]?) (?=\S)/);
    const matchers = words.map((word) => matcher([word]));
    let [sentence, most] = [sentences[0], 0];
    for (const candidate of sentences) {
      const folded = fold(candidate);
      const found = matchers.filter((expression) => folded.search(expression) >= 0).length;
      const together = found && folded.search(matcher(words)) >= 0 ? 1 : 0;
      const quoted = /^["“]|["”]$/.test(candidate) ? 1.5 : 0; // a mistake that the book warns of
      if (found >= words.length / 2 && found + together - quoted > most) [sentence, most] = [candidate, found + together - quoted];
    }
    const name = !most && words.length === 1 && terms.split("\n").find((term) => /^\w*[_A-Z]\w*$/.test(term) && fold(term).search(matchers[0]) >= 0);
    if (name) sentence = TEXT.code(name);
    const folded = fold(sentence);
    const marks = matchers.flatMap((expression) => [...folded.matchAll(expression)].map(({ 0: { length }, index }) => [index, index + length]));
    return { sentence, marks: marks.sort(([one], [other]) => one - other) };
  }

  const TEXT = {
    ko: { found: (total) => (total ? `${total}곳을 찾았다` : "찾은 곳이 없다"), failed: "검색할 내용을 불러오지 못했다", code: (name) => `이 절의 코드에 ${name}` },
    en: { found: (total) => (total ? `${total} place${total > 1 ? "s" : ""} found` : "Nothing found"), failed: "What the search needs could not be loaded", code: (name) => `In the code of this section: ${name}` },
  }[document.documentElement.lang];

  let loading;
  function load() {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script"); // a page opened as a file may not fetch
      const failed = (event) => {
        loading = undefined; // the next key tries again
        script.remove();
        reject(event);
      };
      Object.assign(script, { src: `${document.documentElement.dataset.content_root}sections.js`, onload: () => resolve(new Index(SECTIONS)), onerror: failed });
      document.head.append(script);
    });
    return loading;
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // Matched words are marked here and, if they are not so short that they stand within others, on the page too.
  function item({ url, title, page, sentence, marks: found }) {
    const marks = found.filter(([start, end]) => end > start + 1);
    const said = new Set(marks.map(([start, end]) => sentence.slice(start, end)).filter((word) => /[가-힣]{2}|.{4}/.test(word)));
    const [path, place] = url.split("#");
    const href = path + (said.size ? `?highlight=${encodeURIComponent([...said].join(" "))}` : "") + (place ? `#${place}` : "");
    const text = element("p");
    let end = 0;
    for (const [start, stop] of marks) {
      if (start < end) continue;
      text.append(sentence.slice(end, start), element("mark", {}, sentence.slice(start, stop)));
      end = stop;
    }
    text.append(sentence.slice(end));
    return element("li", {}, element("a", { href }, title), ...(page === title ? [] : [" ", element("span", {}, page)]), text);
  }

  for (const form of document.querySelectorAll("form.bd-search")) {
    const input = form.querySelector("input");
    const status = element("p", { className: "search-status", role: "status" });
    const list = element("ol", { className: "search-results" });
    form.after(status, list);
    const onPage = form.closest(".bd-search-container");

    const show = async () => {
      const query = input.value;
      const answer = query.trim() && (await load().then((index) => index.search(query, onPage ? 50 : 8), () => null));
      if (query !== input.value) return;
      status.textContent = answer ? TEXT.found(answer.total) : answer === null ? TEXT.failed : "";
      list.replaceChildren(...(answer ? answer.results.map(item) : []));
      list.dataset.query = query;
      if (onPage) history.replaceState(null, "", query ? `?q=${encodeURIComponent(query)}` : location.pathname);
    };
    input.addEventListener("focus", load, { once: true });
    input.addEventListener("input", show);
    if (!onPage) continue;
    form.addEventListener("submit", (event) => event.preventDefault());
    input.value = new URLSearchParams(location.search).get("q") ?? "";
    input.focus();
    show();
  }
}
