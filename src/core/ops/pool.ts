import { largestOf } from '../dtype.js';
import { checkBoolean, checkOptions, outOfRange } from '../errors.js';
import { sizeOf } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { constant, full, ones } from './constant.js';
import { convOp } from './conv.js';
import { div } from './elementwise.js';
import { gather, takeAlongAxis } from './indexing.js';
import { matmul } from './linalg.js';
import { transpose } from './movement.js';
import { argMax, mean } from './reduce.js';
import { equal, logicalAnd, logicalNot, where } from './select.js';
import {
  checkFits,
  layoutOf,
  type Padding,
  type PerAxis,
  perAxis,
  replaced,
  type SpatialRank,
  scatterTaps,
  slidOver,
  taps,
  type Window,
  windowAttributes,
  windowOf,
} from './window.js';

interface PoolOptions<R extends SpatialRank> {
  /** Size of the window: a number, or one for each spatial axis. */
  kernelSize: PerAxis<R>;
  /** Default: `kernelSize`. */
  stride?: PerAxis<R>;
  /** Default 0. Every window must hold an element of the image. */
  padding?: Padding<R>;
}

export interface MaxPoolOptions<R extends SpatialRank = 2> extends PoolOptions<R> {
  /** Distance between neighbouring elements of a window. Default 1. */
  dilation?: PerAxis<R>;
}

export interface AvgPoolOptions<R extends SpatialRank = 2> extends PoolOptions<R> {
  /** Whether padding counts as zeros; if not, a window is averaged over the elements of the image in it. Default true. */
  countIncludePad?: boolean;
}

export interface AdaptivePoolOptions<R extends SpatialRank = 2> {
  /** Size of the result: a number, or one for each spatial axis. */
  outputSize: PerAxis<R>;
}

export interface GlobalPoolOptions {
  /** Keep the spatial axes with size 1. Default false. */
  keepDims?: boolean;
}

const maxPoolOp: Op<[Tensor], Window> = {
  name: 'maxPool',
  infer: ([x], window) => [{ shape: [...x.shape.slice(0, 2), ...slidOver(x.shape.slice(2), window)], dtype: x.dtype }],
  emit: (graph, [x], { inputs, attributes }) => {
    const { kernel, padding } = attributes;
    if (padding.every((p, side) => p < (kernel[side % kernel.length] as number))) {
      return [graph.node('MaxPool', [x], windowAttributes(attributes))];
    }
    // More padding is not allowed there.
    const sides = [padding.slice(0, kernel.length), padding.slice(kernel.length)].flatMap((side) => [0, 0, ...side]);
    const padded = graph.node('Pad', [x, graph.ints(sides), graph.scalar(-largestOf(inputs[0].dtype), inputs[0].dtype)]);
    return [graph.node('MaxPool', [padded], windowAttributes({ ...attributes, padding: padding.map(() => 0) }))];
  },
  vjp: ([g], { inputs: [x], outputs: [y], attributes: window }) => {
    // The first tap that equals the maximum gets the gradient: ties are common after relu.
    let free: Tensor | undefined;
    const parts = taps(x, window, y.shape.slice(2), { value: -largestOf(x.dtype) }).map((tap) => {
      const hit = equal(tap, y);
      const taken = free ? logicalAnd(hit, free) : hit;
      free = free ? logicalAnd(free, logicalNot(hit)) : logicalNot(hit);
      return where(taken, g, 0);
    });
    return [scatterTaps(parts, window, x.shape.slice(2))];
  },
};

/** Checks the input of a pooling. */
function checkImage(fn: string, rank: SpatialRank, x: Tensor, options: unknown, allowed: readonly string[]): void {
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, allowed);
  if (x.rank !== rank + 2) throw outOfRange(fn, 'x', `a Tensor ${layoutOf(rank)}`, x);
  if (x.shape.slice(1).includes(0)) throw outOfRange(fn, 'x', 'no axis of size 0, but for the first', x);
}

/** The window of a pooling over `x`. */
function poolWindow(fn: string, rank: SpatialRank, x: Tensor, options: MaxPoolOptions<SpatialRank>): Window {
  const kernel = perAxis(fn, 'kernelSize', options.kernelSize, rank);
  const size = x.shape.slice(2);
  const window = windowOf(fn, size, kernel, { ...options, stride: options.stride ?? options.kernelSize });
  checkFits(fn, size, window);
  const { stride, dilation, padding } = window;
  const seen = slidOver(size, window).every((windows, i) =>
    Array.from({ length: windows }, (_, w) => w * (stride[i] as number) - (padding[i] as number)).every((start) =>
      Array.from({ length: kernel[i] as number }, (_, tap) => start + tap * (dilation[i] as number)).some(
        (at) => at >= 0 && at < (size[i] as number),
      ),
    ),
  );
  if (!seen) throw outOfRange(fn, 'padding', 'an element of x in every window', options.padding);
  return window;
}

function maxPool(fn: string, rank: SpatialRank, x: Tensor, options: MaxPoolOptions<SpatialRank>): Tensor {
  checkImage(fn, rank, x, options, ['kernelSize', 'stride', 'padding', 'dilation']);
  const window = poolWindow(fn, rank, x, options);
  return sizeOf(window.kernel) === 1 && sizeOf(window.stride) === 1 ? x : apply(maxPoolOp, [x], window)[0];
}

function avgPool(fn: string, rank: SpatialRank, x: Tensor, options: AvgPoolOptions<SpatialRank>): Tensor {
  checkImage(fn, rank, x, options, ['kernelSize', 'stride', 'padding', 'countIncludePad']);
  const { countIncludePad = true, ...sliding } = options;
  checkBoolean(fn, 'countIncludePad', countIncludePad);
  const window = poolWindow(fn, rank, x, sliding);
  // As a convolution of every channel by itself, which ONNX Runtime computes and differentiates faster than AveragePool.
  const average = (image: Tensor): Tensor => {
    const groups = image.shape[1] as number;
    const weight = full([groups, 1, ...window.kernel], 1 / sizeOf(window.kernel), x.dtype);
    return apply(convOp, [image, weight], { ...window, groups })[0];
  };
  const y = average(x);
  return countIncludePad || window.padding.every((p) => p === 0) ? y : div(y, average(ones([1, 1, ...x.shape.slice(2)], x.dtype)));
}

/** Where the bins of adaptive pooling begin and end. */
const binsOf = (size: number, count: number): [start: number, end: number][] =>
  Array.from({ length: count }, (_, i) => [Math.floor((i * size) / count), Math.ceil(((i + 1) * size) / count)]);

/** The largest element of every bin along an axis; the first where several tie. */
function maxOfBins(x: Tensor, axis: number, count: number): Tensor {
  const bins = binsOf(x.shape[axis] as number, count);
  const width = Math.max(...bins.map(([start, end]) => end - start));
  // Bins of one width: shorter ones repeat their last element.
  const places = bins.flatMap(([start, end]) => Array.from({ length: width }, (_, i) => Math.min(start + i, end - 1)));
  const row = places.every((place, i) => place === i) ? x : gather(x, constant(places, { dtype: 'int32' }), { axis });
  const blocks = reshape(row, replaced(x.shape, axis, axis + 1, count, width));
  const largest = takeAlongAxis(blocks, argMax(blocks, { axis: axis + 1, keepDims: true }), { axis: axis + 1 });
  return reshape(largest, replaced(x.shape, axis, axis + 1, count));
}

/** The mean of every bin along an axis, as a product with a matrix. */
function meanOfBins(x: Tensor, axis: number, count: number): Tensor {
  const size = x.shape[axis] as number;
  const rows = binsOf(size, count).map(([start, end]) =>
    Array.from({ length: size }, (_, i) => (i >= start && i < end ? 1 / (end - start) : 0)),
  );
  const matrix = constant(rows, { dtype: x.dtype });
  if (axis === x.rank - 1) return matmul(x, transpose(matrix));
  const columns = reshape(x, [...x.shape.slice(0, axis + 1), sizeOf(x.shape.slice(axis + 1))]);
  return reshape(matmul(matrix, columns), replaced(x.shape, axis, axis + 1, count));
}

/** Pools axis by axis, from the last one on: bins are boxes, and their rows are pooled first. */
function adaptivePool(
  fn: string,
  rank: SpatialRank,
  x: Tensor,
  options: AdaptivePoolOptions<SpatialRank>,
  along: (x: Tensor, axis: number, count: number) => Tensor,
): Tensor {
  checkImage(fn, rank, x, options, ['outputSize']);
  checkSome(fn, x);
  return perAxis(fn, 'outputSize', options.outputSize, rank).reduceRight(
    (y, count, i) => (count === y.shape[i + 2] ? y : along(y, i + 2, count)),
    x,
  );
}

/** Throws if there is nothing to pool. */
function checkSome(fn: string, x: Tensor): void {
  if (sizeOf(x.shape.slice(2)) === 0) throw outOfRange(fn, 'x', 'at least one element along every spatial axis', x);
}

function globalPool(fn: string, x: Tensor, options: GlobalPoolOptions, along: (x: Tensor) => Tensor): Tensor {
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, ['keepDims']);
  if (x.rank < 3) throw outOfRange(fn, 'x', 'a Tensor [N, C, ...] with at least one spatial axis', x);
  checkSome(fn, x);
  const [n, c, ...size] = x.shape as [number, number, ...number[]];
  return reshape(along(reshape(x, [n, c, sizeOf(size)])), options.keepDims ? [n, c, ...size.map(() => 1)] : [n, c]);
}

/**
 * The largest element of every window of a sequence. See {@link maxPool2d}.
 *
 * @param x `[N, C, L]`, float
 * @returns `[N, C, floor((L + padding - dilation (kernelSize - 1) - 1) / stride) + 1]`
 * @throws if a window does not fit or holds nothing but padding
 */
export const maxPool1d = (x: Tensor, options: MaxPoolOptions<1>): Tensor => maxPool('maxPool1d', 1, x, options);

/**
 * The largest element of every window of an image. Padding never wins. Where several elements of a window tie, the first in row-major
 * order gets the gradient.
 *
 * @param x `[N, C, H, W]`, float
 * @param options.kernelSize required
 * @param options.stride default: `kernelSize`
 * @param options.padding default 0
 * @param options.dilation default 1
 * @returns `[N, C, floor((H + padding - dilation (kernelSize - 1) - 1) / stride) + 1, ...]`
 * @throws if a window does not fit or holds nothing but padding
 * @example
 * ```ts
 * import { maxPool2d, type Tensor } from 'tracegrad';
 *
 * const halve = (x: Tensor) => maxPool2d(x, { kernelSize: 2 });
 * ```
 */
export const maxPool2d = (x: Tensor, options: MaxPoolOptions): Tensor => maxPool('maxPool2d', 2, x, options);

/**
 * The largest element of every window of a volume. See {@link maxPool2d}.
 *
 * @param x `[N, C, D, H, W]`, float
 * @returns `[N, C, floor((D + padding - dilation (kernelSize - 1) - 1) / stride) + 1, ...]`
 * @throws if a window does not fit or holds nothing but padding
 */
export const maxPool3d = (x: Tensor, options: MaxPoolOptions<3>): Tensor => maxPool('maxPool3d', 3, x, options);

/**
 * The mean of every window of a sequence. See {@link avgPool2d}.
 *
 * @param x `[N, C, L]`, float
 * @returns `[N, C, floor((L + padding - kernelSize) / stride) + 1]`
 * @throws if a window does not fit or holds nothing but padding
 */
export const avgPool1d = (x: Tensor, options: AvgPoolOptions<1>): Tensor => avgPool('avgPool1d', 1, x, options);

/**
 * The mean of every window of an image.
 *
 * @param x `[N, C, H, W]`, float
 * @param options.kernelSize required
 * @param options.stride default: `kernelSize`
 * @param options.padding default 0
 * @param options.countIncludePad whether padding counts as zeros, default true, as in PyTorch; if not, a window is averaged over the elements
 *   of `x` in it
 * @returns `[N, C, floor((H + padding - kernelSize) / stride) + 1, ...]`
 * @throws if a window does not fit or holds nothing but padding
 * @example
 * ```ts
 * import { avgPool2d, type Tensor } from 'tracegrad';
 *
 * const blur = (x: Tensor) => avgPool2d(x, { kernelSize: 3, stride: 1, padding: 'same', countIncludePad: false });
 * ```
 */
export const avgPool2d = (x: Tensor, options: AvgPoolOptions): Tensor => avgPool('avgPool2d', 2, x, options);

/**
 * The mean of every window of a volume. See {@link avgPool2d}.
 *
 * @param x `[N, C, D, H, W]`, float
 * @returns `[N, C, floor((D + padding - kernelSize) / stride) + 1, ...]`
 * @throws if a window does not fit or holds nothing but padding
 */
export const avgPool3d = (x: Tensor, options: AvgPoolOptions<3>): Tensor => avgPool('avgPool3d', 3, x, options);

/**
 * The mean over all spatial axes.
 *
 * @param x `[N, C, ...]` with at least one spatial axis, float
 * @param options.keepDims keep the spatial axes with size 1, default false
 * @returns `[N, C]`, or `[N, C, 1, ...]`
 * @throws if a spatial axis has no elements
 * @example
 * ```ts
 * import { globalAvgPool, matmul, type Tensor } from 'tracegrad';
 *
 * const logits = (features: Tensor, weight: Tensor) => matmul(globalAvgPool(features), weight);
 * ```
 */
export const globalAvgPool = (x: Tensor, options: GlobalPoolOptions = {}): Tensor =>
  globalPool('globalAvgPool', x, options, (flat) => mean(flat, { axis: 2 }));

/**
 * The largest element over all spatial axes. Where several tie, the first in row-major order gets the gradient.
 *
 * @param x `[N, C, ...]` with at least one spatial axis, float
 * @param options.keepDims keep the spatial axes with size 1, default false
 * @returns `[N, C]`, or `[N, C, 1, ...]`
 * @throws if a spatial axis has no elements
 */
export const globalMaxPool = (x: Tensor, options: GlobalPoolOptions = {}): Tensor =>
  globalPool('globalMaxPool', x, options, (flat) => maxOfBins(flat, 2, 1));

/**
 * Means of bins of a sequence, as many as asked for. See {@link adaptiveAvgPool2d}.
 *
 * @param x `[N, C, L]`, float
 * @returns `[N, C, outputSize]`
 */
export const adaptiveAvgPool1d = (x: Tensor, options: AdaptivePoolOptions<1>): Tensor =>
  adaptivePool('adaptiveAvgPool1d', 1, x, options, meanOfBins);

/**
 * Means of bins of an image, as many as asked for: along an axis of `n` elements, bin `i` of `o` goes from `floor(i n / o)` to
 * `ceil((i + 1) n / o)`, as in PyTorch. Bins overlap where `o` does not divide `n`.
 *
 * @param x `[N, C, H, W]`, float
 * @param options.outputSize required; height and width of the result
 * @returns `[N, C, ...outputSize]`
 * @throws if a spatial axis has no elements
 * @example
 * ```ts
 * import { adaptiveAvgPool2d, type Tensor } from 'tracegrad';
 *
 * const sevenBySeven = (x: Tensor) => adaptiveAvgPool2d(x, { outputSize: 7 });
 * ```
 */
export const adaptiveAvgPool2d = (x: Tensor, options: AdaptivePoolOptions): Tensor =>
  adaptivePool('adaptiveAvgPool2d', 2, x, options, meanOfBins);

/**
 * Means of bins of a volume, as many as asked for. See {@link adaptiveAvgPool2d}.
 *
 * @param x `[N, C, D, H, W]`, float
 * @returns `[N, C, ...outputSize]`
 */
export const adaptiveAvgPool3d = (x: Tensor, options: AdaptivePoolOptions<3>): Tensor =>
  adaptivePool('adaptiveAvgPool3d', 3, x, options, meanOfBins);

/**
 * The largest elements of bins of a sequence, as many as asked for. See {@link adaptiveMaxPool2d}.
 *
 * @param x `[N, C, L]`, float
 * @returns `[N, C, outputSize]`
 */
export const adaptiveMaxPool1d = (x: Tensor, options: AdaptivePoolOptions<1>): Tensor =>
  adaptivePool('adaptiveMaxPool1d', 1, x, options, maxOfBins);

/**
 * The largest elements of bins of an image, as many as asked for; the bins are those of {@link adaptiveAvgPool2d}. Where several elements of a
 * bin tie, the first in row-major order gets the gradient.
 *
 * @param x `[N, C, H, W]`, float
 * @param options.outputSize required; height and width of the result
 * @returns `[N, C, ...outputSize]`
 * @throws if a spatial axis has no elements
 */
export const adaptiveMaxPool2d = (x: Tensor, options: AdaptivePoolOptions): Tensor =>
  adaptivePool('adaptiveMaxPool2d', 2, x, options, maxOfBins);

/**
 * The largest elements of bins of a volume, as many as asked for. See {@link adaptiveMaxPool2d}.
 *
 * @param x `[N, C, D, H, W]`, float
 * @returns `[N, C, ...outputSize]`
 */
export const adaptiveMaxPool3d = (x: Tensor, options: AdaptivePoolOptions<3>): Tensor =>
  adaptivePool('adaptiveMaxPool3d', 3, x, options, maxOfBins);
