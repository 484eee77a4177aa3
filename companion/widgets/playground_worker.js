// One family of the playground, in a Web Worker of its own: it trains, and sends what the page draws. train.js precedes.

const VIEW = 1.5; // the pictures show [−1.5, 1.5]²
const FLOOR = 1e-4; // the least variance of any model: a standard deviation of 0.01, about a pixel
const [BATCH, SAMPLES, CELLS, ARROWS, MEASURED] = [128, 256, 40, 11, 64];
const LAST = 5000; // steps; then a forgotten page stops

/** The middle of each of k × k cells of the view, row by row from the top. */
const cells = (k) =>
  Float64Array.from({ length: 2 * k * k }, (_, i) => {
    const [row, column] = [Math.floor((i >> 1) / k), (i >> 1) % k];
    return VIEW * (i % 2 ? 1 - (2 * row + 1) / k : (2 * column + 1) / k - 1);
  });
const GRID = cells(CELLS);
const BLUR = (VIEW / CELLS) ** 2; // variance of half a cell: a density is shown as wide as the cells are
const blurred = ([a, b, c]) => [a + BLUR, b, c + BLUR];

/**
 * Each family from its settings, data and two sources of chance, for training and for pictures: `step(x)` trains and
 * returns its losses; `samples()`; `map()` is a density, a probability of being real, or a field; `logProb(x)`.
 */
const FAMILIES = {
  ppca(settings, x, chance, noise) {
    const [z, eps] = [noise.normals(SAMPLES), noise.normals(2 * SAMPLES)];
    let model = PPCA.fit(x, FLOOR);
    return {
      step(x) {
        model = PPCA.fit(x, FLOOR);
        return [];
      },
      change: (x) => (model = PPCA.fit(x, FLOOR)),
      done: () => true,
      samples: () => model.sample(z, eps),
      map: () => {
        const { mu, W: [u, v], sigma2 } = model;
        return { density: new GaussianMixture([1], [mu], [blurred([u * u + sigma2, u * v, v * v + sigma2])]).logProb(GRID) };
      },
      logProb: (x) => mean(model.logProb(x)),
    };
  },
  mixture({ components }, x, chance, noise) {
    const [u, eps] = [noise.uniforms(SAMPLES), noise.normals(2 * SAMPLES)];
    const start = (x) => GaussianMixture.start(x, Math.min(components, x.length / 2), FLOOR, chance);
    let [model, before, gain] = [start(x), -Infinity, Infinity];
    return {
      step(x) {
        const now = mean(model.logProb(x));
        [gain, before] = [Math.abs(now - before), now];
        model = model.step(x, FLOOR);
        return [-now];
      },
      change: (x) => ([model, before, gain] = [start(x), -Infinity, Infinity]),
      done: () => gain < 1e-6,
      samples: () => model.sample(u, eps),
      map: () => ({ density: new GaussianMixture(model.pi, model.mu, model.Sigma.map(blurred)).logProb(GRID) }),
      logProb: (x) => mean(model.logProb(x)),
    };
  },
  vae({ beta, lr }, x, chance, noise) {
    const model = new VAE(new MLP([2, 64, 64, 4], chance), new MLP([2, 64, 64, 2], chance), 2, beta);
    model.logSigma2.weights[0] = Math.log(0.05); // from 1, above every variance of the data, z is never used (section 3.17)
    const adam = new Adam(model.parts, { lr, ema: 0.99 });
    const [z, eps] = [noise.normals(2 * SAMPLES), noise.normals(2 * SAMPLES)];
    const draws = Array.from({ length: 32 }, () => noise.normals(2 * MEASURED));
    return {
      step(x) {
        adam.zeroGrad();
        const loss = model.loss(chance.rows(x, BATCH), chance.normals(2 * BATCH));
        adam.step();
        const { weights } = model.logSigma2;
        weights[0] = Math.max(weights[0], Math.log(FLOOR));
        return [loss];
      },
      samples: () => adam.averaged(() => model.sample(z, eps)),
      // p(x) = ∫ p(x | z) p(z) dz as a mixture over draws of z
      map: () => adam.averaged(() => {
        const centres = model.decoder.forward(z);
        const mu = Array.from({ length: SAMPLES }, (_, i) => [centres[2 * i], centres[2 * i + 1]]);
        const Sigma = blurred([model.sigma2, 0, model.sigma2]);
        return { density: new GaussianMixture(mu.map(() => 1 / SAMPLES), mu, mu.map(() => Sigma)).logProb(GRID) };
      }),
      logProb: (x) => adam.averaged(() => mean(model.importanceBound(x, draws))),
    };
  },
  gan({ loss, at, momentum, lr }, x, chance, noise) {
    const penalty = at === "none" ? 0 : at === "between" ? 10 : 0.1;
    const model = new GAN(new MLP([2, 64, 64, 2], chance), new MLP([2, 64, 64, 1], chance), 2, loss, { penalty, at });
    const settings = { lr, betas: [momentum, 0.99], ema: 0.99 };
    const [D, G] = [model.discriminator, model.generator].map((part) => new Adam([part], settings));
    const z = noise.normals(2 * SAMPLES);
    return {
      step(x) {
        let lossD;
        for (let turn = 0; turn < model.turns; turn++) {
          D.zeroGrad();
          lossD = model.discriminatorLoss(chance.rows(x, BATCH), chance.normals(2 * BATCH), chance.uniforms(BATCH));
          D.step();
        }
        G.zeroGrad();
        const lossG = model.generatorLoss(chance.rows(x, BATCH), chance.normals(2 * BATCH));
        G.step();
        return [lossD, lossG];
      },
      samples: () => G.averaged(() => model.sample(z)),
      // D(x), or the probability that x looks more real than points of the data do
      map: (x) => {
        const rivals = ["minimax", "non-saturating"].includes(loss) ? [0] : model.discriminator.forward(x.subarray(0, 2 * MEASURED));
        return { real: model.discriminator.forward(GRID).map((a) => mean(rivals.map((b) => sigmoid(a - b)))) };
      },
    };
  },
  diffusion({ predict, lr }, x, chance, noise) {
    const waves = Array.from(chance.normals(8), (wave) => 6 * wave);
    const net = new MLP([3 + 2 * waves.length, 64, 64, 64, 2], chance);
    // With PyTorch's small weights the network is almost linear in x, and training stops at the best linear prediction
    const { W, inputs } = net.layers[0];
    for (let i = 0; i < W.length; i += inputs) for (const axis of [0, 1]) W[i + axis] *= 3;
    const model = new Diffusion(net, waves, predict, VIEW);
    const adam = new Adam([model.net], { lr, ema: 0.99 });
    const start = noise.normals(2 * SAMPLES);
    return {
      step(x) {
        adam.zeroGrad();
        const t = chance.uniforms(BATCH).map((u, i) => (i + u) / BATCH); // stratified
        const value = model.loss(chance.rows(x, BATCH), t, chance.normals(2 * BATCH));
        adam.step();
        return [value];
      },
      samples: ({ steps, sampler }) => adam.averaged(() => model.sample(start, steps, sampler)),
      map: (x, { time }) => adam.averaged(() => ({ field: model.velocity(cells(ARROWS), Math.max(time, 0.01)) })),
      logProb: (x) => adam.averaged(() => mean(model.logProb(x, 30))),
    };
  },
};

let family;
let data;
let view;
let step;
let running = false;
let pause = 0; // milliseconds between two steps
let measured; // log p(x) of MEASURED points, and how long until it is measured again
let due;

function train() {
  const losses = family.step(data);
  step += 1;
  return losses;
}

/** What the page draws. A measurement may take a tenth of the time, a picture a fifth. */
function show(losses, everything) {
  const begin = performance.now();
  const samples = family.samples(view);
  const map = family.map(data, view);
  due.picture = performance.now() + 4 * (performance.now() - begin);
  if (family.logProb && (everything || begin > due.measure)) {
    measured = family.logProb(data.subarray(0, 2 * MEASURED));
    due.measure = performance.now() + 9 * (performance.now() - begin);
  }
  postMessage({ step, samples, map, losses, logProb: measured, done: ended() });
}

const ended = () => step >= LAST || (step > 0 && family.done?.());

let waiting;
function loop() {
  waiting = undefined;
  if (!running) return;
  const end = performance.now() + 25;
  let losses;
  do losses = train();
  while (!pause && performance.now() < end && !ended());
  running = !ended();
  if (!running || pause || performance.now() > due.picture) show(losses, !running);
  if (running) waiting = setTimeout(loop, pause);
}

onmessage = ({ data: message }) => {
  if (message.start) {
    const { name, settings, seed } = message.start;
    data = message.start.x;
    ({ view } = message.start);
    [step, measured, due] = [0, undefined, { picture: 0, measure: 0 }];
    family = FAMILIES[name](settings, data, new Random(seed), new Random(seed + 1e6));
    show([], true);
  }
  if (message.x) {
    data = message.x;
    family.change?.(data);
    if (!running) show([], true);
  }
  if (message.view) {
    ({ view } = message);
    if (!running) show([], false);
  }
  if (message.step && !ended()) show(train(), true);
  if (message.run !== undefined) {
    ({ run: running, pause } = message);
    running &&= !ended();
    clearTimeout(waiting);
    if (running) loop();
  }
};
