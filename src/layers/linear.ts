import { checkParams, checkSize, outOfRange } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { add } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { transpose } from '../core/ops/movement.js';
import type { Rng } from '../core/rng.js';
import { sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { type WeightAndBias, weightAndBias } from './init.js';

export interface LinearParams {
  /** `[out, in]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
}

/**
 * `x weight^T + bias`, over the last axis.
 *
 * @param x `[..., in]`, float
 * @param params in PyTorch's layout; see {@link initLinear}
 * @returns `[..., out]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type LinearParams, linear } from 'tracegrad/layers';
 *
 * const mlp = (p: { up: LinearParams; down: LinearParams }, x: Tensor) => linear(relu(linear(x, p.up)), p.down);
 * ```
 */
export function linear(x: Tensor, params: LinearParams): Tensor {
  checkFloat('linear', 'x', x);
  checkParams('linear', params, ['weight', 'bias']);
  const weight = checkFloat('linear', 'weight', params.weight);
  const [out, features] = weight.shape;
  if (weight.rank !== 2 || out === undefined || x.rank === 0 || x.shape.at(-1) !== features) {
    throw new RangeError(
      `linear: expected x [..., in] and weight [out, in], received [${x.shape.join(', ')}] and [${weight.shape.join(', ')}]`,
    );
  }
  // In two dimensions, where product and bias are one operation of the runtime.
  const product = matmul(reshape(x, [sizeOf(x.shape.slice(0, -1)), features as number]), transpose(weight));
  const { bias } = params;
  if (bias && (checkFloat('linear', 'bias', bias).rank !== 1 || bias.shape[0] !== out))
    throw outOfRange('linear', 'bias', `shape [${out}]`, bias);
  return reshape(bias ? add(product, bias) : product, [...x.shape.slice(0, -1), out]);
}

/**
 * Initial parameters of {@link linear}: weight and bias uniform within `1 / sqrt(in)`, as in PyTorch.
 *
 * @param options.bias default true
 */
export function initLinear<B extends boolean = true>(
  rng: Rng,
  inFeatures: number,
  outFeatures: number,
  options: { bias?: B } = {},
): WeightAndBias<B> {
  checkSize('initLinear', 'inFeatures', inFeatures);
  checkSize('initLinear', 'outFeatures', outFeatures);
  return weightAndBias('initLinear', rng, [outFeatures, inFeatures], options);
}
