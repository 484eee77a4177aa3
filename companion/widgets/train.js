// Training in the page, from chapter 1 to chapter 5: networks with their gradients, Adam, and what each family minimises
// and how it samples, as in the package. Sets of n points, and all matrices, are Float64Arrays, row by row. Losses take
// their noise as an argument, so that PyTorch's classes, given the same noise, must agree.

const LOG_2PI = Math.log(2 * Math.PI);

/** A seeded source of chance: sfc32 of Doty-Humphrey, and Box and Muller's normal numbers. */
export class Random {
  constructor(seed) {
    this.state = Uint32Array.of(seed, seed >>> 16, 0x9e3779b9, 1);
    for (let i = 0; i < 16; i++) this.uniform();
  }
  /** A number in (0, 1). */
  uniform() {
    const { state } = this;
    const [a, b, c, d] = state;
    const sum = (a + b + d) >>> 0;
    state[0] = b ^ (b >>> 9);
    state[1] = c + (c << 3);
    state[2] = ((c << 21) | (c >>> 11)) + sum;
    state[3] = d + 1;
    return (sum + 0.5) / 2 ** 32;
  }
  /** n of them. */
  uniforms = (n) => fill(n, () => this.uniform());
  /** An integer below n. */
  below = (n) => Math.floor(this.uniform() * n);
  /** n draws from N(0, 1). */
  normals(n) {
    const radius = () => Math.sqrt(-2 * Math.log(this.uniform()));
    return fill(n, () => radius() * Math.cos(2 * Math.PI * this.uniform()));
  }
  /** n rows of x, shape (…, 2), each drawn with equal probability. */
  rows(x, n) {
    const batch = new Float64Array(2 * n);
    for (let i = 0; i < n; i++) {
      const row = this.below(x.length / 2);
      batch.set(x.subarray(2 * row, 2 * row + 2), 2 * i);
    }
    return batch;
  }
}

/** n numbers, each from its index: much faster than Float64Array.from. */
function fill(n, value) {
  const array = new Float64Array(n);
  for (let i = 0; i < n; i++) array[i] = value(i);
  return array;
}
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const logSumExp = (values) => {
  const top = values.reduce((a, b) => Math.max(a, b));
  return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
};
/** The same of each column. */
const logSumExpDown = (rows) => fill(rows[0].length, (i) => logSumExp(rows.map((row) => row[i])));

// --- networks --------------------------------------------------------------------------------------------------------

/** A Bᵀ, for A of p × m and B of r × m: two rows by four at once, because numbers read once then serve several times. */
function product(A, B, m) {
  const [p, r] = [A.length / m, B.length / m];
  const C = new Float64Array(p * r);
  for (let i = 0; i < p; i += 2) {
    const i1 = Math.min(i + 1, p - 1); // beyond the edge, the last row once more
    const a0 = i * m, a1 = i1 * m;
    for (let j = 0; j < r; j += 4) {
      const j1 = Math.min(j + 1, r - 1);
      const j2 = Math.min(j + 2, r - 1);
      const j3 = Math.min(j + 3, r - 1);
      const b0 = j * m, b1 = j1 * m, b2 = j2 * m, b3 = j3 * m;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
      for (let k = 0; k < m; k++) {
        const s = A[a0 + k];
        const t = A[a1 + k];
        const u0 = B[b0 + k];
        const u1 = B[b1 + k];
        const u2 = B[b2 + k];
        const u3 = B[b3 + k];
        s0 += s * u0;
        s1 += s * u1;
        s2 += s * u2;
        s3 += s * u3;
        t0 += t * u0;
        t1 += t * u1;
        t2 += t * u2;
        t3 += t * u3;
      }
      const c = i * r, d = i1 * r;
      C[c + j] = s0;
      C[c + j1] = s1;
      C[c + j2] = s2;
      C[c + j3] = s3;
      C[d + j] = t0;
      C[d + j1] = t1;
      C[d + j2] = t2;
      C[d + j3] = t3;
    }
  }
  return C;
}

/** Aᵀ, for A with so many columns. */
function transpose(A, columns) {
  const rows = A.length / columns;
  const turned = new Float64Array(A.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = A[i * columns + j];
  return turned;
}

function add(to, values) {
  for (let i = 0; i < to.length; i++) to[i] += values[i];
}

/**
 * A multilayer perceptron, `companion.nets.mlp`: linear maps h = W x + b with SiLU, φ(h) = h σ(h), between them.
 *
 * Beside rows x, `forward` takes rows u, and gives the directional derivatives of the output along u beside it: its
 * tangents. `backward` differentiates both. So the gradient of a gradient penalty needs no second machinery:
 * ∂|∇a|²/∂θ = 2 ∂(u·∇a)/∂θ with u = ∇a held fixed, and u·∇a is the tangent of a along u.
 */
export class MLP {
  constructor(sizes, random) {
    const total = sizes.slice(1).reduce((sum, outputs, l) => sum + (sizes[l] + 1) * outputs, 0);
    this.weights = new Float64Array(total); // W row by row, then b, layer after layer: PyTorch's parameters()
    this.gradient = new Float64Array(total);
    let at = 0;
    this.layers = sizes.slice(1).map((outputs, l) => {
      const inputs = sizes[l];
      const [start, middle] = [at, at + inputs * outputs];
      at = middle + outputs;
      if (random) for (let i = start; i < at; i++) this.weights[i] = (2 * random.uniform() - 1) / Math.sqrt(inputs);
      const part = (array) => [array.subarray(start, middle), array.subarray(middle, middle + outputs)];
      const [[W, b], [dW, db]] = [part(this.weights), part(this.gradient)];
      return { inputs, outputs, W, b, dW, db };
    });
    this.inputs = sizes[0];
  }

  /** The outputs of rows x, shape (n, inputs), and their tangents along rows u, if there are any. */
  forward(x, u = null) {
    this.trace = this.layers.map(({ inputs, outputs, W, b }, l) => {
      const layer = { x, u };
      const [h, hu] = [product(x, W, inputs), u && product(u, W, inputs)];
      for (let i = 0; i < h.length; i++) h[i] += b[i % outputs];
      [x, u] = [h, hu];
      if (l === this.layers.length - 1) return layer;
      layer.slope = new Float64Array(h.length); // φ'(h)
      layer.bend = hu && new Float64Array(h.length); // φ''(h) times the tangent
      for (let i = 0; i < h.length; i++) {
        const s = sigmoid(h[i]);
        layer.slope[i] = s * (1 + h[i] * (1 - s));
        if (hu) {
          layer.bend[i] = s * (1 - s) * (2 + h[i] * (1 - 2 * s)) * hu[i];
          hu[i] *= layer.slope[i];
        }
        h[i] *= s;
      }
      return layer;
    });
    return u ? [x, u] : x;
  }

  /** From ∂L/∂output, and ∂L/∂tangent if there are tangents, to ∂L/∂x; adds ∂L/∂weights to the gradient, if it learns. */
  backward(g, gu = null, learn = true) {
    for (let l = this.layers.length - 1; l >= 0; l--) {
      const { inputs, outputs, W, dW, db } = this.layers[l];
      const { x, u, slope, bend } = this.trace[l];
      if (slope) {
        const [above, aboveU] = [g, gu];
        g = new Float64Array(slope.length);
        gu = aboveU && new Float64Array(slope.length);
        for (let i = 0; i < g.length; i++) {
          g[i] = above[i] * slope[i];
          if (!gu) continue;
          g[i] += aboveU[i] * bend[i];
          gu[i] = aboveU[i] * slope[i];
        }
      }
      if (learn) {
        add(dW, product(transpose(g, outputs), transpose(x, inputs), g.length / outputs));
        if (gu) add(dW, product(transpose(gu, outputs), transpose(u, inputs), g.length / outputs));
        for (let i = 0; i < g.length; i++) db[i % outputs] += g[i];
      }
      const turned = transpose(W, inputs);
      g = product(g, turned, outputs);
      gu = gu && product(gu, turned, outputs);
    }
    return g;
  }
}

/** Adam for what has weights and a gradient; `average` is the exponential moving average of the weights, as in `fit`. */
export class Adam {
  constructor(parts, { lr = 1e-3, betas = [0.9, 0.999], ema = 0 } = {}) {
    Object.assign(this, { lr, betas, ema, steps: 0 });
    this.parts = parts.map((part) => ({ part, m: part.weights.slice(), v: part.weights.slice(), average: part.weights.slice() }));
    for (const { m, v } of this.parts) [m, v].forEach((moment) => moment.fill(0));
  }
  zeroGrad() {
    for (const { part } of this.parts) part.gradient.fill(0);
  }
  step() {
    this.steps += 1;
    const [beta1, beta2] = this.betas;
    const [scale1, scale2] = this.betas.map((beta) => 1 - beta ** this.steps);
    const share = this.ema ? (1 - this.ema) / (1 - this.ema ** this.steps) : 1;
    for (const { part, m, v, average } of this.parts) {
      const { weights, gradient } = part;
      for (let i = 0; i < weights.length; i++) {
        m[i] += (1 - beta1) * (gradient[i] - m[i]);
        v[i] += (1 - beta2) * (gradient[i] ** 2 - v[i]);
        weights[i] -= ((this.lr / scale1) * m[i]) / (Math.sqrt(v[i] / scale2) + 1e-8);
        average[i] += share * (weights[i] - average[i]);
      }
    }
  }
  /** What `draw` returns with the averaged weights in place. */
  averaged(draw) {
    const swap = () => {
      for (const { part, average } of this.parts) {
        const weights = part.weights.slice();
        part.weights.set(average);
        average.set(weights);
      }
    };
    swap();
    try {
      return draw();
    } finally {
      swap();
    }
  }
}

// --- chapter 2: probabilistic PCA ------------------------------------------------------------------------------------

/** Mean μ and covariance S = [a, b, c], for [[a, b], [b, c]], of points with weights r. */
function moments(x, r = null) {
  const n = x.length / 2;
  let [total, mx, my, a, b, c] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const w = r ? r[i] : 1;
    total += w;
    mx += w * x[2 * i];
    my += w * x[2 * i + 1];
  }
  total = Math.max(total, 1e-300 * n);
  const mu = [mx / total, my / total];
  for (let i = 0; i < n; i++) {
    const [w, u, v] = [(r ? r[i] : 1) / total, x[2 * i] - mu[0], x[2 * i + 1] - mu[1]];
    a += w * u * u;
    b += w * u * v;
    c += w * v * v;
  }
  return { total, mu, S: [a, b, c] };
}

/** Eigenvalues of S, the larger first, and the unit eigenvector of the larger; the other one is at a right angle. */
function eigen([a, b, c]) {
  const [middle, half] = [(a + c) / 2, Math.hypot((a - c) / 2, b)];
  const angle = Math.atan2(2 * b, a - c) / 2;
  return { values: [middle + half, middle - half], vector: [Math.cos(angle), Math.sin(angle)] };
}

/** log N(x; μ, Σ) of rows x, for Σ = [a, b, c]. */
function logNormal(x, mu, [a, b, c]) {
  const determinant = a * c - b * b;
  return fill(x.length / 2, (i) => {
    const [u, v] = [x[2 * i] - mu[0], x[2 * i + 1] - mu[1]];
    return -LOG_2PI - 0.5 * (Math.log(determinant) + (c * u * u - 2 * b * u * v + a * v * v) / determinant);
  });
}

/** x = W z + μ + σ ε with one number z, fitted in one step: W and σ² of (2.12). σ² is never below `floor`. */
export class PPCA {
  static fit(x, floor = 0) {
    const { mu, S } = moments(x);
    const { values, vector } = eigen(S);
    const sigma2 = Math.max(values[1], floor);
    const length = Math.sqrt(Math.max(values[0] - sigma2, 0));
    return Object.assign(new PPCA(), { mu, sigma2, W: vector.map((entry) => length * entry) });
  }
  /** log p(x) = log N(x; μ, WWᵀ + σ²I), (2.4). */
  logProb(x) {
    const { W: [u, v], mu, sigma2 } = this;
    return logNormal(x, mu, [u * u + sigma2, u * v, v * v + sigma2]);
  }
  sample(z, eps) {
    return eps.map((noise, i) => this.W[i % 2] * z[i >> 1] + this.mu[i % 2] + Math.sqrt(this.sigma2) * noise);
  }
}

// --- chapter 1: a mixture of Gaussians, by EM ------------------------------------------------------------------------

/** z ~ Categorical(π), x | z ~ N(μ_z, Σ_z), (1.22). */
export class GaussianMixture {
  constructor(pi, mu, Sigma) {
    Object.assign(this, { pi, mu, Sigma });
  }
  /** A start: means drawn from the data, each far from those before, one pooled covariance; `floor` as in `mStep`. */
  static start(x, components, floor, random) {
    const n = x.length / 2;
    const row = (i) => [x[2 * i], x[2 * i + 1]];
    const apart = (i, [u, v]) => (x[2 * i] - u) ** 2 + (x[2 * i + 1] - v) ** 2;
    const mu = [row(random.below(n))];
    let nearest = fill(n, (i) => apart(i, mu[0]));
    while (mu.length < components) {
      let rest = random.uniform() * nearest.reduce((sum, value) => sum + value, 0);
      const next = nearest.findIndex((value) => (rest -= value) < 0);
      mu.push(row(next < 0 ? random.below(n) : next));
      nearest = nearest.map((value, i) => Math.min(value, apart(i, mu.at(-1))));
    }
    const residual = Float64Array.from(x, (value, k) => {
      const closest = mu.reduce((best, centre) => (apart(k >> 1, centre) < apart(k >> 1, best) ? centre : best));
      return value - closest[k % 2];
    });
    const [Sigma] = GaussianMixture.mStep(residual, [new Float64Array(n).fill(1)], floor).Sigma;
    return new GaussianMixture(mu.map(() => 1 / components), mu, mu.map(() => Sigma));
  }
  /** The best mixture for responsibilities r, one row a component, (1.25), with no variance below `floor`. */
  static mStep(x, r, floor) {
    const parts = r.map((weights) => moments(x, weights));
    const all = parts.reduce((sum, { total }) => sum + total, 0);
    const Sigma = parts.map(({ S }) => {
      const { values, vector: [u, v] } = eigen(S);
      const [p, q] = values.map((value) => Math.max(value, floor));
      return [p * u * u + q * v * v, (p - q) * u * v, p * v * v + q * u * u];
    });
    return new GaussianMixture(parts.map(({ total }) => total / all), parts.map(({ mu }) => mu), Sigma);
  }
  /** log p(x, z) of every z, one row each. */
  logJoint(x) {
    return this.pi.map((weight, z) => logNormal(x, this.mu[z], this.Sigma[z]).map((value) => value + Math.log(weight)));
  }
  logProb(x) {
    return logSumExpDown(this.logJoint(x));
  }
  /** Responsibilities p(z | x), (1.23), one row for each z. */
  posterior(x) {
    const joint = this.logJoint(x);
    const total = logSumExpDown(joint);
    return joint.map((row) => row.map((value, i) => Math.exp(value - total[i])));
  }
  /** One step of EM. */
  step(x, floor) {
    return GaussianMixture.mStep(x, this.posterior(x), floor);
  }
  /** One x for each number u in (0, 1), which chooses z, and two of noise. */
  sample(u, eps) {
    const x = new Float64Array(eps.length);
    for (let i = 0; i < u.length; i++) {
      let [z, rest] = [0, u[i]];
      while (rest >= this.pi[z] && z < this.pi.length - 1) rest -= this.pi[z++];
      const [a, b, c] = this.Sigma[z];
      const low = b / Math.sqrt(a); // Σ = LLᵀ with L = [[√a, 0], [low, √(c − low²)]]
      x[2 * i] = this.mu[z][0] + Math.sqrt(a) * eps[2 * i];
      x[2 * i + 1] = this.mu[z][1] + low * eps[2 * i] + Math.sqrt(Math.max(c - low * low, 0)) * eps[2 * i + 1];
    }
    return x;
  }
}

// --- chapter 3: the variational autoencoder --------------------------------------------------------------------------

/** z ~ N(0, I), x | z ~ N(g(z), σ²I), q(z | x) = N(m(x), diag s(x)²), (3.7), (3.8), (3.15). The encoder gives m and log s². */
export class VAE {
  constructor(encoder, decoder, latentDim, beta = 1) {
    Object.assign(this, { encoder, decoder, latentDim, beta });
    this.logSigma2 = { weights: new Float64Array(1), gradient: new Float64Array(1) };
    this.parts = [encoder, decoder, this.logSigma2];
  }
  get sigma2() {
    return Math.exp(this.logSigma2.weights[0]);
  }
  encode(x) {
    const [q, h] = [this.latentDim, this.encoder.forward(x)];
    const pick = (from) => fill(h.length / 2, (i) => h[2 * q * Math.floor(i / q) + (i % q) + from]);
    return { m: pick(0), s: pick(q).map((logVariance) => Math.exp(logVariance / 2)) };
  }
  /** log p(x | z), (3.15), for each row. */
  logLikelihood(x, z) {
    const g = this.decoder.forward(z);
    return fill(x.length / 2, (i) => {
      const square = (x[2 * i] - g[2 * i]) ** 2 + (x[2 * i + 1] - g[2 * i + 1]) ** 2;
      return -square / (2 * this.sigma2) - LOG_2PI - Math.log(this.sigma2);
    });
  }
  /** −E_q[log p(x | z)] + β KL(q ‖ p(z)), (3.29), with z = m + s ε, (3.23), and its gradients. */
  loss(x, eps) {
    const [n, q, { sigma2, beta }] = [x.length / 2, this.latentDim, this];
    const { m, s } = this.encode(x);
    const z = m.map((value, i) => value + s[i] * eps[i]);
    const g = this.decoder.forward(z);
    const error = g.map((value, i) => value - x[i]);
    const squares = error.reduce((sum, value) => sum + value * value, 0);
    const kl = m.reduce((sum, value, i) => sum + (value ** 2 + s[i] ** 2 - 1) / 2 - Math.log(s[i]), 0); // (3.18)
    const dz = this.decoder.backward(error.map((value) => value / (n * sigma2)));
    this.logSigma2.gradient[0] += 1 - squares / (2 * n * sigma2);
    const dh = new Float64Array(2 * n * q);
    for (let i = 0; i < n * q; i++) {
      const at = 2 * q * Math.floor(i / q) + (i % q);
      dh[at] = dz[i] + (beta * m[i]) / n;
      dh[at + q] = (dz[i] * eps[i] * s[i]) / 2 + (beta * (s[i] ** 2 - 1)) / (2 * n);
    }
    this.encoder.backward(dh);
    return squares / (2 * n * sigma2) + LOG_2PI + Math.log(sigma2) + (beta * kl) / n;
  }
  /** log 1/k Σ p(x, zᵢ)/q(zᵢ | x) ≤ log p(x) in expectation, (3.12), for each row, from k arrays of noise. */
  importanceBound(x, noise) {
    const [q, { m, s }] = [this.latentDim, this.encode(x)];
    const logW = noise.map((eps) => {
      const z = m.map((value, i) => value + s[i] * eps[i]);
      return this.logLikelihood(x, z).map((value, i) => {
        for (let j = i * q; j < (i + 1) * q; j++) value += Math.log(s[j]) + (eps[j] ** 2 - z[j] ** 2) / 2;
        return value;
      });
    });
    return logSumExpDown(logW).map((value) => value - Math.log(noise.length));
  }
  sample(z, eps) {
    const sigma = Math.sqrt(this.sigma2);
    return this.decoder.forward(z).map((value, i) => value + sigma * eps[i]);
  }
}

// --- chapter 4: generative adversarial networks ----------------------------------------------------------------------

/** Each loss's default weight of the penalty and turns of D in a step, as in `companion.gan`. */
export const LOSSES = { minimax: [0, 1], "non-saturating": [0, 1], wasserstein: [10, 5], relativistic: [0.1, 1] };

/** x = G(z), (4.1), and the logit a(x) of D(x), (4.6), in a game with one of four losses and a penalty on |∇a|. */
export class GAN {
  constructor(generator, discriminator, latentDim, loss, { penalty = LOSSES[loss][0], at, turns = LOSSES[loss][1] } = {}) {
    at ??= loss === "wasserstein" ? "between" : "both";
    Object.assign(this, { generator, discriminator, latentDim, loss, penalty, at, turns });
  }
  sample(z) {
    return this.generator.forward(z);
  }
  /** D's loss, (4.5), (4.17) or (4.28), with the penalty, and its gradients; u in (0, 1) chooses points between, (4.19). */
  discriminatorLoss(x, z, u) {
    const [n, D, { at, penalty }] = [x.length / 2, this.discriminator, this];
    const both = new Float64Array(2 * x.length);
    both.set(x);
    both.set(this.sample(z), x.length);
    let a = D.forward(both);
    const [real, fake] = [a.subarray(0, n), a.subarray(n)];
    const terms = {
      "cross entropy": [(i) => softplus(-real[i]) + softplus(fake[i]), (i) => [-sigmoid(-real[i]), sigmoid(fake[i])]],
      wasserstein: [(i) => fake[i] - real[i], () => [-1, 1]],
      relativistic: [(i) => softplus(fake[i] - real[i]), (i) => [-sigmoid(fake[i] - real[i]), sigmoid(fake[i] - real[i])]],
    };
    const [value, slope] = terms[this.loss] ?? terms["cross entropy"];
    let [loss, g] = [0, new Float64Array(2 * n)];
    for (let i = 0; i < n; i++) {
      loss += value(i) / n;
      [g[i], g[n + i]] = slope(i).map((entry) => entry / n);
    }
    if (!penalty) {
      D.backward(g);
      return loss;
    }
    const between = at === "between";
    const points = between ? x.map((entry, k) => u[k >> 1] * entry + (1 - u[k >> 1]) * both[x.length + k]) : both;
    if (between) {
      D.backward(g);
      a = D.forward(points);
      g = new Float64Array(n);
    }
    const chosen = { real: [0, n], fake: [n, 2 * n], both: [0, 2 * n], between: [0, n] }[at];
    const gradient = D.backward(new Float64Array(a.length).fill(1), null, false); // ∇a of each row
    const direction = new Float64Array(points.length);
    for (let i = chosen[0]; i < chosen[1]; i++) {
      const [down, right] = gradient.subarray(2 * i, 2 * i + 2);
      const norm = Math.hypot(down, right);
      const [height, rise] = between ? [(norm - 1) ** 2, 2 * (norm - 1)] : [norm ** 2, 2 * norm]; // (4.19), (4.29)
      loss += (penalty * height) / a.length;
      const scale = norm ? (penalty * rise) / (a.length * norm) : 0;
      direction.set([scale * down, scale * right], 2 * i);
    }
    D.forward(points, direction);
    D.backward(g, new Float64Array(a.length).fill(1));
    return loss;
  }
  /** G's loss and its gradients: E log(1 − D), −E log D, (4.14), −E f, or (4.28) with the real x behind. */
  generatorLoss(x, z) {
    const [n, D] = [x.length / 2, this.discriminator];
    const real = this.loss === "relativistic" ? D.forward(x) : null;
    const fake = D.forward(this.sample(z));
    const [value, slope] = {
      minimax: [(i) => -softplus(fake[i]), (i) => -sigmoid(fake[i])],
      "non-saturating": [(i) => softplus(-fake[i]), (i) => -sigmoid(-fake[i])],
      wasserstein: [(i) => -fake[i], () => -1],
      relativistic: [(i) => softplus(real[i] - fake[i]), (i) => -sigmoid(real[i] - fake[i])],
    }[this.loss];
    const dx = D.backward(fake.map((_, i) => slope(i) / n), null, false);
    this.generator.backward(dx);
    return mean(fake.map((_, i) => value(i)));
  }
}

// --- chapter 5: diffusion --------------------------------------------------------------------------------------------

const ANGLE = Math.acos(Math.exp(-10.05 / 2));
/** The cosine schedule: α = cos θt and σ = sin θt, and their derivatives. */
export const alpha = (t) => Math.cos(ANGLE * t);
export const sigma = (t) => Math.sin(ANGLE * t);
const rates = (t) => [-ANGLE * sigma(t), ANGLE * alpha(t)];
const timeOf = (logSNR) => Math.atan(Math.exp(-logSNR / 2)) / ANGLE;

/** x_t = α x_0 + σ ε, (5.1), and a network of x_t, t, and sines and cosines of t, that predicts ε, x_0 or dx_t/dt. */
export class Diffusion {
  constructor(net, frequencies, predicts = "velocity", clip = Infinity) {
    Object.assign(this, { net, frequencies, predicts, clip });
  }
  /** What the network reads: x, t, sin ωt and cos ωt. */
  features(x, t) {
    const { frequencies: waves, net: { inputs } } = this;
    const rows = new Float64Array((x.length / 2) * inputs);
    for (let i = 0; i < x.length / 2; i++) {
      const time = t[i];
      rows.set([x[2 * i], x[2 * i + 1], time], i * inputs);
      waves.forEach((wave, k) => {
        rows[i * inputs + 3 + k] = Math.sin(wave * time);
        rows[i * inputs + 3 + waves.length + k] = Math.cos(wave * time);
      });
    }
    return rows;
  }
  /** The mean squared error of the prediction, at a time t and with noise ε for each row, (5.15) or (5.36), with its gradients. */
  loss(x, t, eps) {
    const xt = x.map((value, k) => alpha(t[k >> 1]) * value + sigma(t[k >> 1]) * eps[k]);
    const prediction = this.net.forward(this.features(xt, t));
    const error = prediction.map((value, k) => {
      if (this.predicts === "noise") return value - eps[k];
      if (this.predicts === "data") return value - x[k];
      const [dAlpha, dSigma] = rates(t[k >> 1]);
      return value - dAlpha * x[k] - dSigma * eps[k]; // (5.29)
    });
    this.net.backward(error.map((value) => (2 * value) / error.length));
    return mean(error.map((value) => value * value));
  }
  /** x̂_0, kept within ±clip, and ε̂ at one time, (5.35); along rows u also the tangents of x̂_0. */
  predict(x, t, { u = null, clip = Infinity } = {}) {
    const [a, s, [da, ds], rows] = [alpha(t), sigma(t), rates(t), this.features(x, new Float64Array(x.length / 2).fill(t))];
    const { inputs } = this.net;
    const along = u && rows.map((_, i) => (i % inputs < 2 ? u[2 * Math.floor(i / inputs) + (i % inputs)] : 0));
    const [out, tangent] = u ? this.net.forward(rows, along) : [this.net.forward(rows)];
    const data = { // x̂_0 from x_t and the prediction
      noise: (xt, p) => (xt - s * p) / a,
      data: (xt, p) => p,
      velocity: (xt, p) => (ds * xt - s * p) / (a * ds - da * s),
    }[this.predicts];
    const x0 = x.map((value, k) => Math.min(Math.max(data(value, out[k]), -clip), clip));
    const eps = x.map((value, k) => (value - a * x0[k]) / s);
    return { x0, eps, tangent: u && u.map((value, k) => data(value, tangent[k])) };
  }
  /** dx_t/dt = α' x̂_0 + σ' ε̂, (5.29). */
  velocity(x, t) {
    const [{ x0, eps }, [da, ds]] = [this.predict(x, t), rates(t)];
    return x0.map((value, k) => da * value + ds * eps[k]);
  }
  /** From noise at t = 1 to data at t = 0 in equal steps: "ddim" is Euler's method, (5.25), "heun" the trapezoidal rule, (5.30). */
  sample(x, steps, method) {
    for (let i = steps; i > 0; i--) {
      const [t, s] = [i / steps, (i - 1) / steps];
      const here = this.predict(x, t, this);
      const euler = x.map((_, k) => alpha(s) * here.x0[k] + sigma(s) * here.eps[k]);
      if (method === "ddim" || i === 1) x = euler;
      else {
        const there = this.predict(euler, s, this);
        const [dAlpha, dSigma] = [alpha(s) - alpha(t), sigma(s) - sigma(t)];
        x = x.map((value, k) => value + (dAlpha * (here.x0[k] + there.x0[k]) + dSigma * (here.eps[k] + there.eps[k])) / 2);
      }
    }
    return x;
  }
  /** log p(x) of what the probability-flow ODE makes of noise, (5.32): the divergence is summed up on the way to t = 1. */
  logProb(x, steps = 100) {
    const n = x.length / 2;
    const times = fill(steps + 1, (i) => timeOf(-2 * Math.log(1e-3) + (i / steps) * (-10.05 + 2 * Math.log(1e-3))));
    times[steps] = 1;
    const unit = (axis) => fill(2 * n, (k) => Number(k % 2 === axis));
    const slopes = (xt, t) => {
      const [first, second] = [0, 1].map((axis) => this.predict(xt, t, { u: unit(axis) }));
      const trace = fill(n, (i) => first.tangent[2 * i] + second.tangent[2 * i + 1]);
      return { ...first, trace, ofNoise: trace.map((value) => (2 - alpha(t) * value) / sigma(t)) };
    };
    let xt = x.map((value) => alpha(times[0]) * value);
    const volume = new Float64Array(n).fill(2 * Math.log(alpha(times[0])));
    let here = slopes(xt, times[0]);
    for (let i = 1; i <= steps; i++) {
      const [dAlpha, dSigma] = [alpha(times[i]) - alpha(times[i - 1]), sigma(times[i]) - sigma(times[i - 1])];
      const there = slopes(xt.map((value, k) => value + dAlpha * here.x0[k] + dSigma * here.eps[k]), times[i]);
      xt = xt.map((value, k) => value + (dAlpha * (here.x0[k] + there.x0[k]) + dSigma * (here.eps[k] + there.eps[k])) / 2);
      for (let j = 0; j < n; j++) volume[j] += (dAlpha * (here.trace[j] + there.trace[j]) + dSigma * (here.ofNoise[j] + there.ofNoise[j])) / 2;
      here = i < steps ? slopes(xt, times[i]) : there;
    }
    return volume.map((value, i) => value - LOG_2PI - (xt[2 * i] ** 2 + xt[2 * i + 1] ** 2) / 2);
  }
}
