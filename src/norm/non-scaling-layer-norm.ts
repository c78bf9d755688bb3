import { type ArrayLike, array, filled, type NDArray, toNDArray, toNumbers } from '../core/array.js';
import { isFloat } from '../core/dtype.js';
import { checkParams, outOfRange } from '../core/errors.js';
import { checkShape, type Shape, sameShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { type LayerNormOptions, normalizeRows } from './layer-norm.js';

/** An offset per normalised element, which may be left out. */
export interface NonScalingLayerNormParams {
  /** Shape `x.shape[axis:]`. */
  bias?: Tensor;
}

/**
 * Layer normalization without a learned scale: `(x - mean) / sqrt(variance + eps) + bias`. A learned scale amplifies features with
 * outliers, such as those of latents. Without a bias it is plain standardization. Otherwise as {@link layerNorm}.
 *
 * Source: Improved Training Technique for Latent Consistency Models (2502.01441), of which no code was public when this was written;
 * whether it changes other layers as well, and its eps, are not known. After Outlier Suppression (2209.13325), whose conversion of trained
 * layers is {@link absorbScale}.
 *
 * @param x float, rank >= 1
 * @param params `bias` of shape `x.shape[axis:]`, optional; see {@link initNonScalingLayerNorm}
 * @returns a Tensor like `x`
 * @throws if the bias has another shape, or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type NonScalingLayerNormParams, nonScalingLayerNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: NonScalingLayerNormParams, x: Tensor) => nonScalingLayerNorm(x, p);
 * ```
 */
export function nonScalingLayerNorm(x: Tensor, params: NonScalingLayerNormParams = {}, options: LayerNormOptions = {}): Tensor {
  return normalizeRows('nonScalingLayerNorm', x, params, options, ['bias']).y;
}

/**
 * Initial parameters of {@link nonScalingLayerNorm}: bias 0.
 *
 * @param shape the normalised axes: a number for the last one, or a list
 */
export function initNonScalingLayerNorm(shape: number | Shape): { bias: NDArray } {
  const sizes = typeof shape === 'number' ? [shape] : shape;
  checkShape('initNonScalingLayerNorm', 'shape', sizes);
  return { bias: filled(sizes, 0) };
}

/**
 * Moves the scale of a trained layer normalization over the last axis into the linear layer after it, which makes the former a
 * {@link nonScalingLayerNorm}: `bias / weight` and `nextWeight diag(weight)`, with the same outputs.
 *
 * Source: Outlier Suppression (2209.13325).
 *
 * @param params of the layer normalization, `[D]` each; without a bias there is none in the result
 * @param nextWeight `[out, D]`
 * @throws if an entry of the weight is 0, whose feature would lose its bias, or a shape does not fit
 * @example
 * ```ts
 * import { array } from 'tracegrad';
 * import { absorbScale } from 'tracegrad/norm';
 *
 * const { bias, nextWeight } = absorbScale({ weight: array([2, 4]), bias: array([1, 1]) }, array([[1, 1]]));
 * // bias [0.5, 0.25], nextWeight [[2, 4]]
 * ```
 */
export function absorbScale(
  params: { weight: ArrayLike; bias?: ArrayLike },
  nextWeight: ArrayLike,
): { nextWeight: NDArray; bias?: NDArray } {
  const fn = 'absorbScale';
  checkParams(fn, params, ['weight', 'bias']);
  const read = (name: string, value: unknown): NDArray => {
    const found = toNDArray(fn, name, value);
    if (!isFloat(found.dtype)) throw outOfRange(fn, name, 'an array of floats', found);
    return found;
  };
  const weight = read('weight', params.weight);
  const next = read('nextWeight', nextWeight);
  const size = weight.shape[0] as number;
  if (weight.shape.length !== 1) throw outOfRange(fn, 'weight', 'shape [D]', weight);
  if (next.shape.length !== 2 || next.shape[1] !== size) throw outOfRange(fn, 'nextWeight', `shape [out, ${size}]`, next);
  const scale = toNumbers(weight);
  const zero = scale.indexOf(0);
  if (zero >= 0) throw new RangeError(`${fn}: weight: expected numbers other than 0, received 0 at index ${zero}`);
  const mapped = (x: NDArray, f: (value: number, scale: number) => number): NDArray =>
    array(
      toNumbers(x).map((value, i) => f(value, scale[i % size] as number)),
      { shape: x.shape, dtype: x.dtype },
    );
  const scaled = mapped(next, (value, factor) => value * factor);
  if (params.bias === undefined) return { nextWeight: scaled };
  const bias = read('bias', params.bias);
  if (!sameShape(bias.shape, weight.shape)) throw outOfRange(fn, 'bias', `shape [${size}]`, bias);
  return { nextWeight: scaled, bias: mapped(bias, (value, factor) => value / factor) };
}
