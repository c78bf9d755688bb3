import type { ArrayLike } from '../core/array.js';
import { isArrayLike } from '../core/array.js';
import { checkOptions, wrongType } from '../core/errors.js';
import type { Shape } from '../core/shape.js';
import { mapTree } from '../core/tree.js';

/** A parameter, with the kind of layer that it seems to belong to. */
export interface ParameterInfo {
  /** Its path, such as `blocks.0.norm.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /**
   * Told by the shape of the `weight` beside it, or by that of itself: one axis is a normalization, two are `'linear'` (or an embedding), more
   * a convolution; `bnWeight`, `weightQ` and `weightK` of one axis are scales of normalizations. `'other'` where there is no such weight.
   */
  readonly layer: 'norm' | 'linear' | 'conv' | 'other';
}

/** For the option `trainable` of a trainer. */
export type Trainable = (name: string) => boolean;

const scales = ['bnWeight', 'weightQ', 'weightK'];

function describe(fn: string, params: unknown): ParameterInfo[] {
  const shapes = new Map<string, Shape>();
  mapTree(fn, params, isArrayLike, 'an array as a parameter', ({ shape }: ArrayLike, name) => shapes.set(name, shape));
  const kind = (name: string): ParameterInfo['layer'] => {
    const within = name.slice(0, name.lastIndexOf('.') + 1);
    if (scales.some((scale) => shapes.get(within + scale)?.length === 1)) return 'norm';
    const rank = shapes.get(`${within}weight`)?.length ?? 0;
    return rank === 0 ? 'other' : rank === 1 ? 'norm' : rank === 2 ? 'linear' : 'conv';
  };
  return [...shapes].map(([name, shape]) => ({ name, shape, layer: kind(name) }));
}

/**
 * Which parameters to train, for the option `trainable` of a trainer: the others get no gradient, no optimizer state and no decay. State such
 * as running statistics is not a parameter and goes on.
 *
 * Source: training batch normalization only, 2003.00152.
 *
 * @param params a tree of arrays
 * @param predicate of every parameter
 * @throws if it holds for none of them
 * @example
 * ```ts
 * import type { NDArray } from 'tracegrad';
 * import { selectTrainable } from 'tracegrad/norm';
 *
 * const normsAndHead = (params: { [layer: string]: { weight: NDArray } }) =>
 *   selectTrainable(params, ({ name, layer }) => layer === 'norm' || name.startsWith('head.'));
 * ```
 */
export function selectTrainable(params: unknown, predicate: (parameter: ParameterInfo) => boolean): Trainable {
  const fn = 'selectTrainable';
  if (typeof predicate !== 'function') throw wrongType(fn, 'predicate', 'a function', predicate);
  return chosen(fn, params, predicate, 'predicate holds for no parameter');
}

function chosen(fn: string, params: unknown, predicate: (parameter: ParameterInfo) => boolean, reason: string): Trainable {
  const all = describe(fn, params);
  const names = new Set(all.filter(predicate).map(({ name }) => name));
  if (names.size === 0) throw new Error(`${fn}: ${reason}; there are ${all.map(({ name }) => name).join(', ') || 'no parameters'}`);
  return (name) => names.has(name);
}

/**
 * The parameters that test-time adaptation trains, for the option `trainable` of a trainer: scales and offsets of normalizations. Normalise
 * with `mode: 'batch'` where there is batch normalization; layer and group normalization stay as they are, and work with batches of one sample.
 *
 * Source: Tent (2006.10726); Towards Stable Test-Time Adaptation in Dynamic Wild World (2302.12400), which leaves out the last part of the
 * model: stage 4 of a ResNet, the last three blocks and the final normalization of a ViT-Base.
 *
 * @param params a tree of arrays
 * @param options.skip paths of parts to leave out, such as `'stages.3'`, or a predicate of a parameter's path. Default none
 * @throws if nothing is left, or a path of `skip` names no part
 * @example
 * ```ts
 * import type { NDArray } from 'tracegrad';
 * import { adaptableNormParams } from 'tracegrad/norm';
 *
 * const allButTheLast = (params: { stages: { norm: { weight: NDArray; bias: NDArray } }[] }) =>
 *   adaptableNormParams(params, { skip: ['stages.3'] });
 * ```
 */
export function adaptableNormParams(params: unknown, options: { skip?: readonly string[] | ((name: string) => boolean) } = {}): Trainable {
  const fn = 'adaptableNormParams';
  checkOptions(fn, options, ['skip']);
  const { skip = [] } = options;
  const left = (skipped: (name: string) => boolean) =>
    chosen(fn, params, ({ name, layer }) => layer === 'norm' && !skipped(name), 'no parameter of a normalization is left');
  if (typeof skip === 'function') return left(skip);
  if (!Array.isArray(skip)) throw wrongType(fn, 'skip', 'a list of paths or a function', skip);
  const under = (name: string, part: string) => name === part || name.startsWith(`${part}.`);
  const names = describe(fn, params).map(({ name }) => name);
  const unknown = skip.find((part: string) => !names.some((name) => under(name, part)));
  if (unknown !== undefined) throw new Error(`${fn}: skip: no parameter is under '${unknown}'; there are ${names.join(', ')}`);
  return left((name) => skip.some((part: string) => under(name, part)));
}
