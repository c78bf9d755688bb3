import { checkNumber, checkParams, outOfRange, wrongType } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { cast } from '../core/ops/select.js';
import { sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';

/** Scale and offset per channel; each may be left out. */
export interface ChannelParams {
  /** `[C]` */
  weight?: Tensor;
  /** `[C]` */
  bias?: Tensor;
}

/** `x` in float32, checked to be `[N, C, ...]` with some elements. */
export function checkImage(fn: string, x: Tensor): Tensor {
  checkFloat(fn, 'x', x);
  if (x.rank < 2 || sizeOf(x.shape) === 0) throw outOfRange(fn, 'x', 'a Tensor [N, C, ...] with at least one element', x);
  return cast(x, 'float32');
}

/** Throws unless eps is a number >= 0. */
export const checkEps = (fn: string, eps: unknown, name = 'eps'): void => checkNumber(fn, name, eps, 'a number >= 0', (e) => e >= 0);

/** Throws unless `rate` is a number from 0 to 1. */
export const checkRate = (fn: string, name: string, rate: unknown, expected = 'a number from 0 to 1'): void =>
  checkNumber(fn, name, rate, expected, (r) => r >= 0 && r <= 1);

/** A vector with one number per `what`, in float32. */
export function checkVector(fn: string, name: string, vector: Tensor, size: number, what = 'channel'): Tensor {
  checkFloat(fn, name, vector);
  if (vector.rank !== 1 || vector.shape[0] !== size) throw outOfRange(fn, name, `shape [${size}], one number per ${what}`, vector);
  return cast(vector, 'float32');
}

/** Vectors with one number per channel, in float32, under the names that are allowed. */
export function checkVectors<K extends string>(
  fn: string,
  params: { readonly [key in K]?: Tensor | undefined },
  names: readonly K[],
  channels: number,
): { [key in K]?: Tensor } {
  checkParams(fn, params, names);
  const found: { [key in K]?: Tensor } = {};
  for (const name of names) {
    const vector = params[name];
    if (vector !== undefined) found[name] = checkVector(fn, name, vector, channels);
  }
  return found;
}

/** A state, checked to have the vectors of `names`; it may have more. */
export function checkState<K extends string>(fn: string, state: unknown, names: readonly K[], channels: number): { [key in K]: Tensor } {
  if (typeof state !== 'object' || state === null) throw wrongType(fn, 'state', `{ ${names.join(', ')} }`, state);
  const given = state as { [key in K]: Tensor };
  return Object.fromEntries(names.map((name) => [name, checkVector(fn, `state.${name}`, given[name], channels)])) as { [key in K]: Tensor };
}

/** A vector of numbers per channel along axis `axis` of a Tensor of `rank` axes. */
export const alongAxis = (vector: Tensor, rank: number, axis = 1): Tensor =>
  reshape(
    vector,
    Array.from({ length: rank }, (_, i) => (i === axis ? (vector.shape[0] as number) : 1)),
  );

/** All axes of `x` but those of the channels. */
export const axesBut = (x: Tensor, ...kept: readonly number[]): number[] =>
  x.shape.flatMap((_, axis) => (kept.includes(axis) ? [] : [axis]));
