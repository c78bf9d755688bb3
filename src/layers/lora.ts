import { checkNumber, checkOptions, checkSize, outOfRange } from '../core/errors.js';
import { stopGradient } from '../core/grad.js';
import { reshape } from '../core/ops/broadcast.js';
import { add, mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { transpose } from '../core/ops/movement.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';

export interface LoraOptions {
  /** The update is multiplied by `alpha / rank`. Default 1. */
  alpha?: number;
}

/** A weight `W` with the factors of its low-rank update. */
export interface LoraParams {
  weight: Tensor;
  loraA: Tensor;
  loraB: Tensor;
}

export interface InitLoraOptions {
  /** Rank of the update, at least 1. */
  rank: number;
}

/** The rank of {@link InitLoraOptions}, checked. */
export function rankOf(fn: string, options: unknown): number {
  checkOptions(fn, options, ['rank']);
  const { rank } = options as InitLoraOptions;
  checkSize(fn, 'rank', rank);
  return rank;
}

/** What is not trained: the value, without a gradient. */
export const frozen = (fn: string, argument: string, value: Tensor): Tensor => stopGradient(checkFloat(fn, argument, value));

/**
 * The factors, checked, and `alpha / rank`.
 *
 * @param size `loraA` is `[perRank * rank, columns]`, `loraB` is `[rows, perRank * rank]`
 */
export function loraFactors(
  fn: string,
  { loraA, loraB }: LoraParams,
  alpha: number,
  { columns, rows, perRank = 1 }: { columns: number; rows: number; perRank?: number },
): { loraA: Tensor; loraB: Tensor; scale: number } {
  checkNumber(fn, 'alpha', alpha, 'a number');
  const [inner = 0] = checkFloat(fn, 'loraA', loraA).shape;
  if (inner === 0 || inner % perRank !== 0 || !sameShape(loraA.shape, [inner, columns])) {
    throw outOfRange(fn, 'loraA', `shape [${perRank === 1 ? '' : `${perRank} * `}rank, ${columns}]`, loraA);
  }
  if (!sameShape(checkFloat(fn, 'loraB', loraB).shape, [rows, inner])) throw outOfRange(fn, 'loraB', `shape [${rows}, ${inner}]`, loraB);
  return { loraA, loraB, scale: (alpha * perRank) / inner };
}

/** `W + (alpha / rank) B A`, as the weight of the layer has it; `W` gets no gradient. `groups` are those of a convolution. */
export function mergedWeight(fn: string, params: LoraParams, alpha: number, layer: 'linear' | 'embedding' | { groups: number }): Tensor {
  const weight = frozen(fn, 'weight', params.weight);
  const expected = layer === 'linear' ? '[out, in]' : layer === 'embedding' ? '[vocabulary, features]' : '[out, in / groups, k, k]';
  const [first = 0, second = 0, k = 1, width = k] = weight.shape;
  if (weight.rank !== (typeof layer === 'string' ? 2 : 4) || k !== width) throw outOfRange(fn, 'weight', `shape ${expected}`, weight);
  const [rows, columns] =
    layer === 'embedding'
      ? [second, first]
      : layer === 'linear'
        ? [first, second]
        : [(first / layer.groups) * k, second * layer.groups * k];
  const { loraA, loraB, scale } = loraFactors(fn, params, alpha, { rows, columns, perRank: k });
  const product = matmul(loraB, loraA);
  return add(weight, mul(layer === 'embedding' ? transpose(product) : reshape(product, weight.shape), scale));
}
