// Typesets formulas without a browser. Reads a list of {tex, display} from standard input and writes {css, drawings}:
// of each formula its HTML, or what is wrong with it as {error}.
const fs = require("fs");
const [mathjax] = process.argv.slice(2);

const settings = {
  loader: { load: ["input/tex", "output/chtml", "a11y/assistive-mml"] },
  tex: {
    packages: { "[-]": ["noerrors", "noundefined"] },
    formatError: (_, error) => {
      throw error;
    },
  },
  chtml: { matchFontHeight: false, adaptiveCSS: false, fontURL: "." },
};

require(`${mathjax}/node-main.js`)
  .init(settings)
  .then(async (MathJax) => {
    const { adaptor, output } = MathJax.startup;
    output.postFilters.add(({ math, document, data }) => {
      if (math.display) adaptor.setStyle(data, "--width", output.getBBox(math, document).w.toFixed(2));
    });
    const draw = ({ tex, display }) =>
      MathJax.tex2chtmlPromise(tex, { display }).then(
        (drawing) => adaptor.outerHTML(drawing),
        ({ message }) => ({ error: message }),
      );
    const drawings = [];
    for (const formula of JSON.parse(fs.readFileSync(0, "utf8"))) drawings.push(await draw(formula));
    process.stdout.write(JSON.stringify({ css: adaptor.textContent(MathJax.chtmlStylesheet()), drawings }));
  })
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
