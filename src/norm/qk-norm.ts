import { filled, type NDArray } from '../core/array.js';
import { checkNumber, checkOneOf, checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import { mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { transpose } from '../core/ops/movement.js';
import { cast, type TensorOrNumber } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, isTensor, type Tensor } from '../core/tensor.js';
import { checkEps, checkVector } from './channels.js';
import { layerNorm } from './layer-norm.js';
import { rmsNorm } from './rms-norm.js';

export interface QkNormParams {
  /** Scale of the queries, `[D]`, shared by all heads. */
  weightQ?: Tensor;
  /** Scale of the keys, `[D]`, shared by all heads. */
  weightK?: Tensor;
}

export interface QkNormOptions {
  /** `'layer'` (default): layer normalization without bias; `'rms'`: root mean square; `'l2'`: to length 1. */
  type?: 'layer' | 'rms' | 'l2';
  /** Added to the variance, the mean square or the sum of squares. Default 1e-6. */
  eps?: number;
  /** Factor of the logits: a number, or a scalar Tensor that may be learned. Default `1 / sqrt(D)`. */
  logitScale?: TensorOrNumber;
}

export interface QkNormResult {
  /** Normalised queries, `[..., Tq, D]`. */
  q: Tensor;
  /** Normalised keys, `[..., Tk, D]`. */
  k: Tensor;
  /** `q k^T logitScale`, `[..., Tq, Tk]`. What is not used costs nothing. */
  logits: Tensor;
}

/**
 * Query-key normalization: queries and keys are normalised over the head dimension, after their projections and before their product, so
 * that attention logits cannot grow without bound. Without weights `|logit| <= sqrt(D)` for `'layer'` and `'rms'`, `|logit| <= logitScale` for
 * `'l2'`. With rotary embeddings most published weights normalise first, then rotate.
 *
 * Source: Small-scale proxies for large-scale Transformer training instabilities (2309.14322), after 2302.05442; as `normalize_qk` of flax.
 * `'l2'` is Query-Key Normalization (2010.04245), where `logitScale` is learned.
 *
 * @param q `[..., Tq, D]`, float, usually `[batch, heads, Tq, D]`
 * @param k `[..., Tk, D]`, float, otherwise like q
 * @param params each optional; see {@link initQkNorm}
 * @throws if a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { matmul, softmax, type Tensor } from 'tracegrad';
 * import { type QkNormParams, qkNorm } from 'tracegrad/norm';
 *
 * const attention = (p: QkNormParams, q: Tensor, k: Tensor, v: Tensor) => matmul(softmax(qkNorm(q, k, p).logits), v);
 * ```
 */
export function qkNorm(q: Tensor, k: Tensor, params: QkNormParams = {}, options: QkNormOptions = {}): QkNormResult {
  const fn = 'qkNorm';
  checkFloat(fn, 'q', q);
  checkFloat(fn, 'k', k);
  checkParams(fn, params, ['weightQ', 'weightK']);
  checkOptions(fn, options, ['type', 'eps', 'logitScale']);
  const { type = 'layer', eps = 1e-6 } = options;
  checkOneOf(fn, 'type', type, ['layer', 'rms', 'l2']);
  checkEps(fn, eps);
  const size = q.shape.at(-1) ?? 0;
  if (q.rank < 2 || size === 0) throw outOfRange(fn, 'q', 'a Tensor [..., Tq, D]', q);
  if (k.rank !== q.rank || k.shape.at(-1) !== size || !sameShape(k.shape.slice(0, -2), q.shape.slice(0, -2))) {
    throw outOfRange(fn, 'k', `shape [${[...q.shape.slice(0, -2), 'Tk', size].join(', ')}], as q is [${q.shape.join(', ')}]`, k);
  }
  if (k.dtype !== q.dtype) throw outOfRange(fn, 'k', `${q.dtype}, as q is`, k);
  const { logitScale = size ** -0.5 } = options;
  if (!isTensor(logitScale)) checkNumber(fn, 'logitScale', logitScale, 'a number or a Tensor of shape []');
  else if (checkFloat(fn, 'logitScale', logitScale).rank !== 0) {
    throw outOfRange(fn, 'logitScale', 'a number or a Tensor of shape []', logitScale);
  }
  const normal = (x: Tensor, name: 'weightQ' | 'weightK') => {
    const given = params[name];
    const weight = given && checkVector(fn, name, given, size, 'element of a head');
    const wide = cast(x, 'float32');
    if (type === 'layer') return cast(layerNorm(wide, weight ? { weight } : {}, { eps }), x.dtype);
    // The length is sqrt(D) times the root mean square.
    const rms = rmsNorm(wide, weight ? { weight } : {}, { eps: type === 'l2' ? eps / size : eps });
    return cast(type === 'l2' ? mul(rms, size ** -0.5) : rms, x.dtype);
  };
  const [queries, keys] = [normal(q, 'weightQ'), normal(k, 'weightK')];
  const scale = isTensor(logitScale) ? cast(logitScale, q.dtype) : logitScale;
  const last = Array.from({ length: k.rank }, (_, axis) => axis);
  const swapped = [...last.slice(0, -2), k.rank - 1, k.rank - 2];
  return { q: queries, k: keys, logits: mul(matmul(queries, transpose(keys, swapped)), scale) };
}

/** Initial parameters of {@link qkNorm}: weights 1. */
export function initQkNorm(headSize: number): { weightQ: NDArray; weightK: NDArray } {
  checkSize('initQkNorm', 'headSize', headSize);
  return { weightQ: filled([headSize], 1), weightK: filled([headSize], 1) };
}
