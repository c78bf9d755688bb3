import type { NDArray } from '../core/array.js';
import { checkNumber, checkOneOf, checkOptions, outOfRange } from '../core/errors.js';
import type { Rng } from '../core/rng.js';
import { checkShape, type Shape, sizeOf } from '../core/shape.js';

/** An array of draws. */
function draw(fn: string, shape: Shape, next: () => number): NDArray {
  checkShape(fn, 'shape', shape);
  return { data: Float32Array.from({ length: sizeOf(shape) }, next), shape: [...shape], dtype: 'float32' };
}

/** Uniformly distributed from `low` to `high`. Defaults 0 and 1. */
export function uniform(rng: Rng, shape: Shape, options: { low?: number; high?: number } = {}): NDArray {
  checkOptions('uniform', options, ['low', 'high']);
  const { low = 0, high = 1 } = options;
  checkNumber('uniform', 'low', low, 'a number');
  checkNumber('uniform', 'high', high, 'a number >= low', (h) => h >= low);
  return draw('uniform', shape, () => low + (high - low) * rng.float53());
}

/** Normally distributed. Defaults: mean 0, standard deviation 1. */
export function normal(rng: Rng, shape: Shape, options: { mean?: number; std?: number } = {}): NDArray {
  checkOptions('normal', options, ['mean', 'std']);
  const { mean = 0, std = 1 } = options;
  checkNumber('normal', 'mean', mean, 'a number');
  checkNumber('normal', 'std', std, 'a number >= 0', (s) => s >= 0);
  return draw('normal', shape, () => mean + std * rng.normal());
}

export interface TruncatedNormalOptions {
  /** Of the normal distribution before it is cut off. Default 0. */
  mean?: number;
  /** Of the normal distribution before it is cut off. Default 1. */
  std?: number;
  /** Bounds of the values themselves, not in standard deviations. Defaults `mean - 2 std` and `mean + 2 std`. */
  low?: number;
  high?: number;
}

/**
 * Normally distributed within bounds; what would lie outside is drawn again, not clipped. The standard deviation of the
 * result is below `std`: by a factor of 0.88 with the default bounds. PyTorch's `trunc_normal_` has bounds -2 and 2 whatever
 * its `std`.
 */
export function truncatedNormal(rng: Rng, shape: Shape, options: TruncatedNormalOptions = {}): NDArray {
  const fn = 'truncatedNormal';
  checkOptions(fn, options, ['mean', 'std', 'low', 'high']);
  const { mean = 0, std = 1 } = options;
  checkNumber(fn, 'mean', mean, 'a number');
  checkNumber(fn, 'std', std, 'a number > 0', (s) => s > 0);
  const { low = mean - 2 * std, high = mean + 2 * std } = options;
  checkNumber(fn, 'low', low, 'a number');
  checkNumber(fn, 'high', high, `a number > low, which is ${low}`, (h) => h > low);
  // Uniform draws are kept with the density relative to its peak within the bounds, beyond which 1e-16 of it is too little to matter.
  const [from, to] = [(low - mean) / std, (high - mean) / std];
  const peak = Math.max(from, Math.min(0, to));
  const reach = Math.sqrt(peak * peak + 74);
  const [start, end] = [Math.max(from, -reach), Math.min(to, reach)];
  return draw(fn, shape, () => {
    for (;;) {
      const z = start + (end - start) * rng.float53();
      if (rng.float53() < Math.exp((peak * peak - z * z) / 2)) return mean + std * z;
    }
  });
}

/** Inputs and outputs per unit of a weight `[out, in, ...kernel]`. */
function fans(fn: string, shape: Shape): { in: number; out: number } {
  checkShape(fn, 'shape', shape);
  if (shape.length < 2 || sizeOf(shape) === 0) {
    throw outOfRange(fn, 'shape', 'at least two axes [out, in, ...kernel], none of size 0', shape);
  }
  const [out, input, ...kernel] = shape as [number, number, ...number[]];
  return { in: input * sizeOf(kernel), out: out * sizeOf(kernel) };
}

export interface HeOptions {
  /** Default `sqrt(2)`, for relu. */
  gain?: number;
  /** Which number the variance is kept constant over. Default `'fanIn'`. */
  mode?: 'fanIn' | 'fanOut';
}

function heStd(fn: string, shape: Shape, options: HeOptions): number {
  checkOptions(fn, options, ['gain', 'mode']);
  const { gain = Math.SQRT2, mode = 'fanIn' } = options;
  checkNumber(fn, 'gain', gain, 'a number > 0', (g) => g > 0);
  checkOneOf(fn, 'mode', mode, ['fanIn', 'fanOut']);
  const fan = fans(fn, shape);
  return gain / Math.sqrt(mode === 'fanIn' ? fan.in : fan.out);
}

function xavierStd(fn: string, shape: Shape, options: { gain?: number }): number {
  checkOptions(fn, options, ['gain']);
  const { gain = 1 } = options;
  checkNumber(fn, 'gain', gain, 'a number > 0', (g) => g > 0);
  const fan = fans(fn, shape);
  return gain * Math.sqrt(2 / (fan.in + fan.out));
}

const uniformOf = (rng: Rng, shape: Shape, std: number): NDArray =>
  uniform(rng, shape, { low: -Math.sqrt(3) * std, high: Math.sqrt(3) * std });

/** He (Kaiming) initialisation, normal with std `gain / sqrt(fan)`. Weights are `[out, in, ...kernel]`. Source: 1502.01852. */
export const heNormal = (rng: Rng, shape: Shape, options: HeOptions = {}): NDArray =>
  normal(rng, shape, { std: heStd('heNormal', shape, options) });

/** He (Kaiming) initialisation, uniform with the same variance as {@link heNormal}. Source: 1502.01852. */
export const heUniform = (rng: Rng, shape: Shape, options: HeOptions = {}): NDArray =>
  uniformOf(rng, shape, heStd('heUniform', shape, options));

/** Xavier (Glorot) initialisation, normal with std `gain * sqrt(2 / (fanIn + fanOut))`. Gain 1. Source: Glorot and Bengio, 2010. */
export const xavierNormal = (rng: Rng, shape: Shape, options: { gain?: number } = {}): NDArray =>
  normal(rng, shape, { std: xavierStd('xavierNormal', shape, options) });

/** Xavier (Glorot) initialisation, uniform with the same variance as {@link xavierNormal}. */
export const xavierUniform = (rng: Rng, shape: Shape, options: { gain?: number } = {}): NDArray =>
  uniformOf(rng, shape, xavierStd('xavierUniform', shape, options));

/** LeCun initialisation, normal with std `1 / sqrt(fanIn)`. */
export const lecunNormal = (rng: Rng, shape: Shape): NDArray => normal(rng, shape, { std: 1 / Math.sqrt(fans('lecunNormal', shape).in) });

/**
 * A random orthogonal matrix times `gain`, of any shape `[rows, ...columns]` whose later axes count as one: rows are
 * orthonormal where there are not more of them than columns, else columns are. Uniformly distributed over all such matrices.
 * Source: 1312.6120.
 *
 * @param options.gain default 1
 */
export function orthogonal(rng: Rng, shape: Shape, options: { gain?: number } = {}): NDArray {
  checkOptions('orthogonal', options, ['gain']);
  const { gain = 1 } = options;
  checkNumber('orthogonal', 'gain', gain, 'a number');
  const columns = fans('orthogonal', shape).in;
  const rows = shape[0] as number;
  const vectors = orthonormal(rng, Math.min(rows, columns), Math.max(rows, columns));
  const data = new Float32Array(rows * columns);
  vectors.forEach((vector, i) => {
    vector.forEach((value, k) => {
      data[rows <= columns ? i * columns + k : k * columns + i] = gain * value;
    });
  });
  return { data, shape: [...shape], dtype: 'float32' };
}

/** Vectors of a normal distribution made orthonormal one after the other (Gram and Schmidt, each projection from what is left). */
function orthonormal(rng: Rng, count: number, length: number): Float64Array[] {
  const done: Float64Array[] = [];
  while (done.length < count) {
    const vector = Float64Array.from({ length }, rng.normal);
    for (const other of done) {
      const along = dot(vector, other);
      for (let i = 0; i < length; i++) vector[i] = (vector[i] as number) - along * (other[i] as number);
    }
    const norm = Math.sqrt(dot(vector, vector));
    done.push(vector.map((value) => value / norm));
  }
  return done;
}

function dot(a: Float64Array, b: Float64Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] as number) * (b[i] as number);
  return total;
}

/** Parameters of a layer whose bias may be switched off. */
export type WeightAndBias<B extends boolean> = B extends true ? { weight: NDArray; bias: NDArray } : { weight: NDArray };

/** PyTorch's default for layers: a weight of `shape` and a bias `[out]`, both uniform within `1 / sqrt(fanIn)`. */
export function weightAndBias<B extends boolean>(
  fn: string,
  rng: Rng,
  shape: Shape,
  options: { bias?: B },
  out = shape[0] as number,
): WeightAndBias<B> {
  checkOptions(fn, options, ['bias']);
  const bound = 1 / Math.sqrt(fans(fn, shape).in);
  const range = { low: -bound, high: bound };
  const weight = uniform(rng, shape, range);
  return (options.bias === false ? { weight } : { weight, bias: uniform(rng, [out], range) }) as WeightAndBias<B>;
}
