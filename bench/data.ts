// Deterministic inputs and initial weights of the workloads.
//
// Generator: 32-bit linear congruential generator, one independent stream per tensor.
//   s0    = ((seed * 2654435761) mod 2^32) xor 0x9e3779b9
//   s     = (1664525 * s + 1013904223) mod 2^32          (the first 8 states are thrown away)
//   value = float32(lo + (hi - lo) * s / 2^32)           (the arithmetic is float64, one rounding at the end)
// Class labels / token ids: floor(C * s / 2^32).
export function lcg(n: number, seed: number, map: (i: number, u: number) => void): void {
  let s = (Math.imul(seed, 2654435761) ^ 0x9e3779b9) >>> 0;
  for (let i = 0; i < 8; i++) s = (Math.imul(1664525, s) + 1013904223) >>> 0;
  for (let i = 0; i < n; i++) {
    s = (Math.imul(1664525, s) + 1013904223) >>> 0;
    map(i, s / 4294967296);
  }
}
export const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
export function uniform(shape: number[], seed: number, lo: number, hi: number) {
  const data = new Float32Array(size(shape));
  lcg(data.length, seed, (i, u) => {
    data[i] = lo + (hi - lo) * u;
  });
  return { shape, data };
}
export function ints(shape: number[], seed: number, classes: number) {
  const data = new Int32Array(size(shape));
  lcg(data.length, seed, (i, u) => {
    data[i] = Math.floor(classes * u);
  });
  return { shape, data };
}
const filled = (shape: number[], v: number) => ({ shape, data: new Float32Array(size(shape)).fill(v) });
const zeros = (shape: number[]) => filled(shape, 0);
const ones = (shape: number[]) => filled(shape, 1);
const fan = (shape: number[], seed: number, fanIn: number) => uniform(shape, seed, -1 / Math.sqrt(fanIn), 1 / Math.sqrt(fanIn));

export function mlpSpec(batch: number, hidden: number, seed: number) {
  return {
    lr: 0.1,
    classes: 10,
    x: uniform([batch, 784], seed, 0, 1),
    y: ints([batch], seed + 1, 10),
    params: {
      w1: fan([784, hidden], seed + 2, 784),
      b1: zeros([hidden]),
      w2: fan([hidden, 10], seed + 3, hidden),
      b2: zeros([10]),
    },
  };
}
// Convolution weights are OIHW and activations NCHW.
export function cnnSpec() {
  return {
    lr: 1e-3,
    b1: 0.9,
    b2: 0.999,
    eps: 1e-8,
    classes: 10,
    x: uniform([64, 1, 28, 28], 201, 0, 1),
    y: ints([64], 202, 10),
    params: {
      w1: fan([32, 1, 3, 3], 203, 9),
      b1: zeros([32]),
      w2: fan([64, 32, 3, 3], 204, 288),
      b2: zeros([64]),
      fc: fan([3136, 10], 205, 3136),
      fb: zeros([10]),
    },
  };
}
export function transformerSpec() {
  const V = 1000,
    D = 128,
    H = 4,
    L = 2,
    T = 64,
    B = 16;
  const tokens = ints([B, T + 1], 300, V);
  const inp = new Int32Array(B * T),
    tgt = new Int32Array(B * T);
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++) {
      inp[b * T + t] = tokens.data[b * (T + 1) + t] as number;
      tgt[b * T + t] = tokens.data[b * (T + 1) + t + 1] as number;
    }
  const params: Record<string, ReturnType<typeof uniform>> = {
    tok: uniform([V, D], 301, -0.05, 0.05),
    pos: uniform([T, D], 302, -0.05, 0.05),
  };
  for (let l = 0; l < L; l++) {
    const s = 310 + 20 * l,
      p = `l${l}_`;
    params[`${p}g1`] = ones([D]);
    params[`${p}c1`] = zeros([D]);
    params[`${p}wqkv`] = fan([D, 3 * D], s, D);
    params[`${p}bqkv`] = zeros([3 * D]);
    params[`${p}wo`] = fan([D, D], s + 1, D);
    params[`${p}bo`] = zeros([D]);
    params[`${p}g2`] = ones([D]);
    params[`${p}c2`] = zeros([D]);
    params[`${p}w1`] = fan([D, 4 * D], s + 2, D);
    params[`${p}b1`] = zeros([4 * D]);
    params[`${p}w2`] = fan([4 * D, D], s + 3, 4 * D);
    params[`${p}b2`] = zeros([D]);
  }
  params.gf = ones([D]);
  params.cf = zeros([D]);
  params.head = fan([D, V], 399, D);
  return {
    V,
    D,
    H,
    L,
    T,
    B,
    lr: 1e-3,
    b1: 0.9,
    b2: 0.999,
    eps: 1e-8,
    wd: 0.01,
    x: { shape: [B, T], data: inp },
    y: { shape: [B * T], data: tgt },
    params,
  };
}

/** One tensor of 10^7 parameters and one gradient. */
export function optimSpec(n = 10_000_000) {
  return { lr: 1e-3, b1: 0.9, b2: 0.999, eps: 1e-8, wd: 0.01, p: uniform([n], 401, -0.05, 0.05), g: uniform([n], 402, -0.01, 0.01) };
}

/** Logits and labels of a classifier. */
export const ceSpec = () => ({ logits: uniform([4096, 1000], 501, -4, 4), labels: ints([4096], 502, 1000) });

export const layerNormSpec = () => ({
  x: uniform([4096, 1024], 601, -1, 1),
  weight: uniform([1024], 602, 0.5, 1.5),
  bias: uniform([1024], 603, -0.5, 0.5),
  r: uniform([4096, 1024], 604, -1, 1),
});
export const batchNormSpec = () => ({
  x: uniform([64, 64, 28, 28], 611, -1, 1),
  weight: uniform([64], 612, 0.5, 1.5),
  bias: uniform([64], 613, -0.5, 0.5),
  r: uniform([64, 64, 28, 28], 614, -1, 1),
});
export const standardizedConvSpec = () => ({
  x: uniform([2, 64, 56, 56], 621, -1, 1),
  weight: fan([64, 64, 3, 3], 622, 576),
  r: uniform([2, 64, 56, 56], 623, -1, 1),
});
