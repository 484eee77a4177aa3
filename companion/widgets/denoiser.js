// Chapter 5. The network, and the equation that it leads from noise to data.

/** α(t), σ(t) and their derivatives. */
export const SCHEDULES = {
  linear: (t) => {
    const [alpha, sigma] = [Math.exp(-(0.05 + 4.975 * t) * t), Math.sqrt(-Math.expm1(-(0.1 + 9.95 * t) * t))];
    const dAlpha = -(0.05 + 9.95 * t) * alpha;
    return { alpha, sigma, dAlpha, dSigma: (-alpha * dAlpha) / sigma };
  },
  cosine: (t) => {
    const angle = Math.acos(Math.exp(-10.05 / 2));
    const [alpha, sigma] = [Math.cos(angle * t), Math.sin(angle * t)];
    return { alpha, sigma, dAlpha: -angle * sigma, dSigma: angle * alpha };
  },
  straight: (t) => ({ alpha: 1 - t, sigma: t, dAlpha: -1, dSigma: 1 }),
};

/** x_0 and ε, one entry of each, from that of x_t and of the prediction. */
export function split(predicts, prediction, x, { alpha, sigma, dAlpha, dSigma }) {
  if (predicts === "noise") return [(x - sigma * prediction) / alpha, prediction];
  if (predicts === "data") return [prediction, (x - alpha * prediction) / sigma];
  const determinant = alpha * dSigma - dAlpha * sigma;
  return [(dSigma * x - sigma * prediction) / determinant, (alpha * prediction - dAlpha * x) / determinant];
}

/**
 * The ResidualMLP, as a function of points, one after the other in one array, of t, and of a value for each label, −1 for
 * any.
 */
export function network({ dim = 2, width, depth, waves, labels = [] }, w) {
  let end = 0;
  const take = (count) => (end += count) - count;
  const linear = (inputs, outputs) => take((inputs + 1) * outputs);
  const [inward, frequencies, time] = [linear(dim, width), take(waves), linear(1 + 2 * waves, width)];
  const tables = labels.map((count) => take((count + 1) * width));
  const blocks = Array.from({ length: depth }, () => ({
    norm: take(2 * width), first: linear(width, width), second: linear(width, width), condition: linear(width, width),
  }));
  const [norm, outward] = [take(2 * width), linear(width, dim)];
  const [h, normal, inner, known] = Array.from({ length: 4 }, () => new Float64Array(width));
  const features = new Float64Array(1 + 2 * waves);
  const shifts = blocks.map(() => new Float64Array(width));
  const [x, y] = [new Float64Array(dim), new Float64Array(dim)];
  const [silu] = ACTIVATIONS.silu;

  const normalise = (at) => {
    let [mean, square] = [0, 0];
    for (const value of h) mean += value / width;
    for (const value of h) square += (value - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(square + 1e-5);
    for (let i = 0; i < width; i++) normal[i] = (h[i] - mean) * scale * w[at + i] + w[at + width + i];
  };
  return (points, t, asked = labels.map(() => -1)) => {
    features[0] = t;
    for (let k = 0; k < waves; k++) {
      features[1 + k] = Math.sin(t * w[frequencies + k]);
      features[1 + waves + k] = Math.cos(t * w[frequencies + k]);
    }
    affine(w, time, features, known);
    tables.forEach((table, k) => {
      const row = table + (asked[k] + 1) * width;
      for (let i = 0; i < width; i++) known[i] += w[row + i];
    });
    for (let i = 0; i < width; i++) known[i] = silu(known[i]);
    blocks.forEach(({ condition }, k) => affine(w, condition, known, shifts[k]));
    const outputs = new Float64Array(points.length);
    for (let n = 0; n < points.length; n += dim) {
      for (let i = 0; i < dim; i++) x[i] = points[n + i];
      affine(w, inward, x, h);
      for (let k = 0; k < depth; k++) {
        normalise(blocks[k].norm);
        affine(w, blocks[k].first, normal, inner);
        for (let i = 0; i < width; i++) inner[i] = silu(inner[i] + shifts[k][i]);
        affine(w, blocks[k].second, inner, normal);
        for (let i = 0; i < width; i++) h[i] += normal[i];
      }
      normalise(norm);
      outputs.set(affine(w, outward, normal, y), n);
    }
    return outputs;
  };
}

/**
 * Positions at each of the times, which rise or fall: Heun's method on dx = x̂_0 dα + ε̂ dσ, onto t = 0 Euler's.
 * `predict(x, t)` gives [x̂_0, ε̂]; the points stand one after the other in x.
 */
export function flow(predict, schedule, x, times) {
  const path = [x];
  for (let k = 1; k < times.length; k++) {
    const [from, to] = [schedule(times[k - 1]), schedule(times[k])];
    const [data, noise] = [to.alpha - from.alpha, to.sigma - from.sigma];
    const [x_0, eps] = predict(x, times[k - 1]);
    let next = x.map((value, i) => value + data * x_0[i] + noise * eps[i]);
    if (times[k] > 0) {
      const [x_0next, epsNext] = predict(next, times[k]);
      next = x.map((value, i) => value + (data * (x_0[i] + x_0next[i]) + noise * (eps[i] + epsNext[i])) / 2);
    }
    path.push((x = next));
  }
  return path;
}

/** Values at t from those at the times, which fall, on straight lines. */
export function between(times, path, t) {
  let k = times.findIndex((time) => time <= t);
  if (k <= 0) return path[k < 0 ? path.length - 1 : 0];
  const part = (times[k - 1] - t) / (times[k - 1] - times[k]);
  return path[k].map((value, i) => value + (1 - part) * (path[k - 1][i] - value));
}
