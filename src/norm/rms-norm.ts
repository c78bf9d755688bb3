import { filled, type NDArray } from '../core/array.js';
import { customVjp } from '../core/custom-vjp.js';
import { checkOptions, checkParams } from '../core/errors.js';
import { sumTo } from '../core/ops/broadcast.js';
import { zerosLike } from '../core/ops/constant.js';
import { add, mul, square, sub } from '../core/ops/elementwise.js';
import { mean } from '../core/ops/reduce.js';
import { cast } from '../core/ops/select.js';
import { checkShape, type Shape, sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { checkEps } from './channels.js';
import { checkRows, rowMeans } from './rows.js';
import { rstdOf } from './standardize.js';

/** A scale per normalised element, which may be left out. */
export interface RmsNormParams {
  /** Shape `x.shape[axis:]`. */
  weight?: Tensor;
}

export interface RmsNormOptions {
  /** First normalised axis; it and all axes after it are normalised together. Default -1. */
  axis?: number;
  /** Added to the mean square. Default 1e-6; with 0 a row of zeros gives NaN. */
  eps?: number;
}

export interface RmsNormResult {
  /** The normalised values, like `x`. */
  y: Tensor;
  /** `1 / sqrt(mean(x^2) + eps)` of every row, float32, normalised axes of size 1. */
  rrms: Tensor;
}

/** {@link rmsNorm} that also returns the statistic. */
export function rmsNormWithStatistics(x: Tensor, params: RmsNormParams = {}, options: RmsNormOptions = {}): RmsNormResult {
  const fn = 'rmsNorm';
  checkFloat(fn, 'x', x);
  checkParams(fn, params, ['weight']);
  checkOptions(fn, options, ['axis', 'eps']);
  const { eps = 1e-6 } = options;
  checkEps(fn, eps);
  const axis = checkRows(fn, x, { ...params }, options.axis);
  const axes = x.shape.flatMap((_, i) => (i >= axis ? [i] : []));
  const count = sizeOf(x.shape.slice(axis));
  const normalize = customVjp<readonly Tensor[]>(fn, {
    forward: (wide, weight) => {
      const rrms = rstdOf(mean(square(wide as Tensor), { axis: axes, keepDims: true }), eps);
      const normal = mul(wide as Tensor, rrms);
      return { outputs: [weight ? mul(normal, weight) : normal, rrms], residuals: [normal] };
    },
    backward: ({ cotangents: [g, gRrms], inputs: [wide, weight], outputs, residuals }) => {
      const [normal, rrms] = [residuals[0], outputs[1]] as [Tensor, Tensor];
      const upstream = g ?? zerosLike(wide as Tensor);
      const along = mul(upstream, normal);
      const slope = mul(rowMeans(along, weight, axis), rrms);
      const total = gRrms ? add(slope, mul(mul(gRrms, mul(rrms, rrms)), 1 / count)) : slope;
      const dx = sub(mul(weight ? mul(upstream, weight) : upstream, rrms), mul(normal, total));
      return weight ? [dx, sumTo(along, weight.shape)] : [dx];
    },
  });
  const { weight } = params;
  const [y, rrms] = normalize(cast(x, 'float32'), ...(weight ? [cast(weight, 'float32')] : [])) as [Tensor, Tensor];
  return { y: cast(y, x.dtype), rrms };
}

/**
 * Root mean square normalization: `x / sqrt(mean(x^2) + eps) * weight`, over the trailing axes of every remaining index. Like
 * {@link layerNorm} without mean and bias. The same in training and evaluation; no state.
 *
 * A row of zeros gives 0, with gradient `g weight / sqrt(eps)`. float16 is normalised in float32, as squares exceed it above 255.
 *
 * Source: Root Mean Square Layer Normalization (1910.07467). eps as in flax and most published weights; ONNX's RMSNormalization has 1e-5,
 * PyTorch the machine epsilon of the dtype.
 *
 * @param x float, rank >= 1
 * @param params `weight` of shape `x.shape[axis:]`, optional; see {@link initRmsNorm}
 * @returns a Tensor like `x`
 * @throws if the weight has another shape, or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type RmsNormParams, rmsNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: RmsNormParams, x: Tensor) => rmsNorm(x, p);
 * ```
 */
export function rmsNorm(x: Tensor, params: RmsNormParams = {}, options: RmsNormOptions = {}): Tensor {
  return rmsNormWithStatistics(x, params, options).y;
}

/**
 * Initial parameters of {@link rmsNorm}: weight 1.
 *
 * @param shape the normalised axes: a number for the last one, or a list
 */
export function initRmsNorm(shape: number | Shape): { weight: NDArray } {
  const sizes = typeof shape === 'number' ? [shape] : shape;
  checkShape('initRmsNorm', 'shape', sizes);
  return { weight: filled(sizes, 1) };
}
