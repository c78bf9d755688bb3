import { filled, type NDArray } from '../core/array.js';
import { checkOptions, checkParams } from '../core/errors.js';
import { emitSum, sumTo } from '../core/ops/broadcast.js';
import { zerosLike } from '../core/ops/constant.js';
import { add, mul, square, sub } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import { checkShape, type Shape, sizeOf } from '../core/shape.js';
import { apply, checkFloat, type Emitter, type Op, type Tensor } from '../core/tensor.js';
import { checkEps } from './channels.js';
import { checkRows, columnSums, rowMeans } from './rows.js';

/** Scale and offset per normalised element; each may be left out. */
export interface LayerNormParams {
  /** Shape `x.shape[axis:]`. */
  weight?: Tensor;
  /** Shape `x.shape[axis:]`. */
  bias?: Tensor;
}

export interface LayerNormOptions {
  /** First normalised axis; it and all axes after it are normalised together. Default -1. */
  axis?: number;
  /** Added to the variance. Default 1e-5; with 0 a constant group gives NaN. */
  eps?: number;
}

interface Attributes {
  readonly axis: number;
  readonly eps: number;
}

// Inputs: x, and if there are any the weight and the bias.
const layerNormOp: Op<readonly Tensor[], Attributes, [y: Tensor, mean: Tensor, rstd: Tensor]> = {
  name: 'layerNorm',
  infer: (inputs, { axis }) => {
    const [x] = inputs as [Tensor];
    const statistics = { shape: x.shape.map((size, i) => (i < axis ? size : 1)), dtype: x.dtype };
    return [x, statistics, statistics];
  },
  emit: (graph, names, { inputs, attributes: { axis, eps } }) => {
    const [x] = inputs as [Tensor];
    const [input, weight, bias] = names as [string, string?, string?];
    const inner = x.shape.slice(axis);
    if (graph.device === 'webgpu') return emitTwoPass(graph, input, weight, bias, x.shape, axis, eps);
    const scale = weight ?? graph.node('Expand', [graph.scalar(1, x.dtype), graph.ints(inner)]);
    const [y, mu, rstd] = graph.nodes('LayerNormalization', bias ? [input, scale, bias] : [input, scale], 3, {
      axis,
      epsilon: { float: eps },
    });
    return [y as string, mu as string, rstd as string];
  },
  vjp: ([g, gMean, gRstd], { inputs, outputs: [, mu, rstd], attributes: { axis } }) => {
    const [x, weight, bias] = inputs as [Tensor, Tensor?, Tensor?];
    const count = sizeOf(x.shape.slice(axis));
    const upstream = g ?? zerosLike(x);
    const centered = sub(x, mu);
    const along = mul(upstream, centered);
    const h = weight ? mul(upstream, weight) : upstream;
    // With x^ = rstd (x - mean): dx = rstd (h - mean(h) - x^ mean(h x^)).
    let slope = mul(rowMeans(along, weight, axis), square(rstd));
    if (gRstd) slope = add(slope, mul(mul(gRstd, square(rstd)), 1 / count));
    let dx = mul(sub(sub(h, rowMeans(upstream, weight, axis)), mul(centered, slope)), rstd);
    if (gMean) dx = add(dx, mul(gMean, 1 / count));
    const back = [dx];
    if (weight) back.push(columnSums(along, rstd, axis));
    if (bias) back.push(sumTo(upstream, bias.shape));
    return back;
  },
};

/**
 * WebGPU's LayerNormalization takes the variance in one pass, which loses all digits where the mean is large. The first element of
 * every group is subtracted before, as the mean of equal numbers need not be equal to them: a constant group then gives exactly 0.
 */
function emitTwoPass(
  graph: Emitter,
  x: string,
  weight: string | undefined,
  bias: string | undefined,
  shape: Shape,
  axis: number,
  eps: number,
): [string, string, string] {
  const axes = shape.flatMap((_, i) => (i >= axis ? [i] : []));
  const share = graph.scalar(1 / sizeOf(shape.slice(axis)), 'float32');
  const average = (values: string) => graph.node('Mul', [emitSum(graph, values, shape, axes, 'float32'), share]);
  const ints = (value: number) => graph.ints(axes.map(() => value));
  const first = graph.node('Slice', [x, ints(0), ints(1), graph.ints(axes)]);
  const shifted = graph.node('Sub', [x, first]);
  const shift = average(shifted);
  const mu = graph.node('Add', [first, shift]);
  const centered = graph.node('Sub', [shifted, shift]);
  const spread = average(graph.node('Mul', [centered, centered]));
  const deviation = graph.node('Sqrt', [graph.node('Add', [spread, graph.scalar(eps, 'float32')])]);
  const rstd = graph.node('Reciprocal', [deviation]);
  let y = graph.node('Mul', [centered, rstd]);
  if (weight) y = graph.node('Mul', [y, weight]);
  if (bias) y = graph.node('Add', [y, bias]);
  return [y, mu, rstd];
}

export interface LayerNormResult {
  /** The normalised values, like `x`. */
  y: Tensor;
  /** Mean of every normalised group, float32, normalised axes of size 1. */
  mean: Tensor;
  /** `1 / sqrt(variance + eps)` of every group, float32, normalised axes of size 1. */
  rstd: Tensor;
}

/** The layer with its statistics, under the name of the function that was called; `allowed` are its parameters. */
export function normalizeRows(
  fn: string,
  x: Tensor,
  params: LayerNormParams,
  options: LayerNormOptions,
  allowed: readonly string[] = ['weight', 'bias'],
): LayerNormResult {
  checkFloat(fn, 'x', x);
  checkParams(fn, params, allowed);
  checkOptions(fn, options, ['axis', 'eps']);
  const { eps = 1e-5 } = options;
  checkEps(fn, eps);
  const axis = checkRows(fn, x, { ...params }, options.axis);
  const wide = (value: Tensor) => cast(value, 'float32');
  const { bias } = params;
  // The bias is the third input, so that one without a weight is added apart.
  const inputs = params.weight ? [wide(x), wide(params.weight), ...(bias ? [wide(bias)] : [])] : [wide(x)];
  const [y, mu, rstd] = apply(layerNormOp, inputs, { axis, eps });
  const shifted = bias && !params.weight ? add(y, wide(bias)) : y;
  return { y: cast(shifted, x.dtype), mean: mu, rstd };
}

/** {@link layerNorm} that also returns the statistics. */
export function layerNormWithStatistics(x: Tensor, params: LayerNormParams = {}, options: LayerNormOptions = {}): LayerNormResult {
  return normalizeRows('layerNorm', x, params, options);
}

/**
 * Layer normalization: `(x - mean) / sqrt(variance + eps) * weight + bias`, with mean and population variance over the trailing
 * axes of every remaining index. The same in training and evaluation; no state.
 *
 * The variance is taken in two passes on every device. float16 is normalised in float32. A constant group gives `bias`, with
 * finite gradients.
 *
 * Source: Layer Normalization (1607.06450). Defaults as in PyTorch (flax: eps 1e-6).
 *
 * @param x float, rank >= 1
 * @param params `weight` and `bias` of shape `x.shape[axis:]`, each optional; see {@link initLayerNorm}
 * @returns a Tensor like `x`
 * @throws if a parameter has another shape, or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type LayerNormParams, layerNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: LayerNormParams, x: Tensor) => layerNorm(x, p, { eps: 1e-6 });
 * ```
 */
export function layerNorm(x: Tensor, params: LayerNormParams = {}, options: LayerNormOptions = {}): Tensor {
  return normalizeRows('layerNorm', x, params, options).y;
}

/**
 * Initial parameters of {@link layerNorm}: weight 1, bias 0.
 *
 * @param shape the normalised axes: a number for the last one, or a list
 */
export function initLayerNorm(shape: number | Shape): { weight: NDArray; bias: NDArray } {
  const sizes = typeof shape === 'number' ? [shape] : shape;
  checkShape('initLayerNorm', 'shape', sizes);
  return { weight: filled(sizes, 1), bias: filled(sizes, 0) };
}
