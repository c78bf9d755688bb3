import type { NDArray } from '../core/array.js';
import { checkBoolean, checkOptions, checkParams, checkSize, outOfRange, wrongType } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { arange } from '../core/ops/constant.js';
import { mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { split, transpose } from '../core/ops/movement.js';
import { greaterEqual, logicalAnd, where } from '../core/ops/select.js';
import { softmax } from '../core/ops/softmax.js';
import type { Rng } from '../core/rng.js';
import { broadcastShapes, sameShape } from '../core/shape.js';
import { checkFloat, checkTensor, type Tensor } from '../core/tensor.js';
import { initLinear, type LinearParams, linear } from './linear.js';

export interface SelfAttentionParams {
  /** Queries, keys and values in one: weight `[3 features, features]`, bias `[3 features]`. */
  qkv: LinearParams;
  /** Output projection: weight `[features, features]`, bias `[features]`. */
  out: LinearParams;
}

export interface SelfAttentionOptions {
  /** Number of heads; divides the features. */
  heads: number;
  /** Each position sees itself and earlier ones only. Default false. */
  causal?: boolean;
  /** bool, broadcastable to `[batch, heads, length, length]` (queries, keys); false hides a key from a query. */
  mask?: Tensor;
}

/**
 * Multi-head scaled dot-product self-attention. A query that sees no key at all attends to all keys equally.
 *
 * Source: Attention Is All You Need (1706.03762).
 *
 * @param x `[batch, length, features]`, float
 * @param params see {@link initSelfAttention}
 * @returns a Tensor like `x`
 * @throws if heads do not divide the features, or the mask does not broadcast
 * @example
 * ```ts
 * import { add, type Tensor } from 'tracegrad';
 * import { type SelfAttentionParams, selfAttention } from 'tracegrad/layers';
 *
 * const block = (p: SelfAttentionParams, x: Tensor) => add(x, selfAttention(x, p, { heads: 4, causal: true }));
 * ```
 */
export function selfAttention(x: Tensor, params: SelfAttentionParams, options: SelfAttentionOptions): Tensor {
  const fn = 'selfAttention';
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, ['heads', 'causal', 'mask']);
  checkParams(fn, params, ['qkv', 'out']);
  const { heads, causal = false, mask } = options;
  checkSize(fn, 'heads', heads);
  checkBoolean(fn, 'causal', causal);
  if (x.rank !== 3) throw outOfRange(fn, 'x', 'a Tensor [batch, length, features]', x);
  const [batch, length, features] = x.shape as [number, number, number];
  if (features % heads !== 0) throw outOfRange(fn, 'heads', `a divisor of the ${features} features`, heads);
  for (const [name, rows] of [
    ['qkv', 3 * features],
    ['out', features],
  ] as const) {
    const weight = checkFloat(fn, `${name}.weight`, params[name]?.weight);
    if (!sameShape(weight.shape, [rows, features])) throw outOfRange(fn, `${name}.weight`, `shape [${rows}, ${features}]`, weight);
  }
  const size = features / heads;
  const [q, k, v] = split(linear(x, params.qkv), 3, { axis: 2 }).map((part) =>
    transpose(reshape(part, [batch, length, heads, size]), [0, 2, 1, 3]),
  ) as [Tensor, Tensor, Tensor];
  const scores = matmul(mul(q, 1 / Math.sqrt(size)), transpose(k));
  const visible = visibility(fn, scores, causal, mask);
  const weights = softmax(visible ? where(visible, scores, x.dtype === 'float16' ? -6e4 : -1e30) : scores);
  return linear(reshape(transpose(matmul(weights, v), [0, 2, 1, 3]), [batch, length, features]), params.out);
}

function visibility(fn: string, scores: Tensor, causal: boolean, mask: Tensor | undefined): Tensor | undefined {
  if (mask !== undefined) {
    if (checkTensor(fn, 'mask', mask).dtype !== 'bool') throw wrongType(fn, 'mask', 'a bool Tensor', mask);
    const shape = broadcastShapes(mask.shape, scores.shape);
    if (shape?.join() !== scores.shape.join())
      throw outOfRange(fn, 'mask', `a shape that broadcasts to [${scores.shape.join(', ')}]`, mask);
  }
  if (!causal) return mask;
  const positions = arange(scores.shape.at(-1) as number);
  const earlier = greaterEqual(reshape(positions, [-1, 1]), positions);
  return mask ? logicalAnd(earlier, mask) : earlier;
}

/** Initial parameters of {@link selfAttention}, each part as `initLinear` makes it. */
export function initSelfAttention(rng: Rng, features: number): Record<'qkv' | 'out', Record<'weight' | 'bias', NDArray>> {
  checkSize('initSelfAttention', 'features', features);
  return { qkv: initLinear(rng, features, 3 * features), out: initLinear(rng, features, features) };
}
