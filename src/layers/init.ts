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
