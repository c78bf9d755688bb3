import { largestOf } from '../dtype.js';
import { checkOptions, outOfRange } from '../errors.js';
import { type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { type Padding2d, type Pair, padImage, pairOf, slidOver, taps, type Window, windowAttributes, windowOf } from './conv.js';
import { add } from './elementwise.js';
import { concat, dilate, padConstant, slice, split } from './movement.js';
import { equal, logicalAnd, logicalNot, where } from './select.js';

export interface MaxPoolOptions {
  /** Height and width of the window. */
  kernelSize: Pair;
  /** Default: `kernelSize`. */
  stride?: Pair;
  /** Default 0. Padding never wins. */
  padding?: Padding2d;
}

const maxPoolOp: Op<[Tensor], Window> = {
  name: 'maxPool2d',
  infer: ([x], window) => [{ shape: [...x.shape.slice(0, 2), ...slidOver('maxPool2d', x.shape.slice(2), window)], dtype: x.dtype }],
  emit: (graph, inputs, { attributes }) => [graph.node('MaxPool', inputs, windowAttributes(attributes))],
  vjp: ([g], { inputs: [x], outputs: [y], attributes: window }) => {
    const padded = padImage(x, window, -largestOf(x.dtype));
    // The first tap that equals the maximum gets the gradient: ties are common after relu.
    let free: Tensor | undefined;
    const parts = gatherTaps(padded, window, y.shape.slice(2)).map((tap) => {
      const hit = equal(tap, y);
      const taken = free ? logicalAnd(hit, free) : hit;
      free = free ? logicalAnd(free, logicalNot(hit)) : logicalNot(hit);
      return where(taken, g, 0);
    });
    const spread = scatterTaps(parts, window, padded.shape);
    const [top, left] = window.padding as [number, number];
    return [slice(spread, [0, 0, top, left], [...x.shape.slice(0, 2), top + (x.shape[2] as number), left + (x.shape[3] as number)])];
  },
};

const overlaps = ({ kernel, stride }: Window): boolean => !sameShape(kernel, stride);

/** What every tap of a window sees; windows side by side are split, which is faster than slicing with strides. */
function gatherTaps(x: Tensor, window: Window, out: Shape): Tensor[] {
  if (overlaps(window)) return taps(x, window, out, [2, 3]);
  const [kh, kw] = window.kernel as [number, number];
  const [n, c] = x.shape as [number, number];
  const [height, width] = out as [number, number];
  const covered = slice(x, [0, 0, 0, 0], [n, c, height * kh, width * kw]);
  const columns = split(reshape(covered, [n, c, height, kh, width, kw]), kw, { axis: 5 });
  const grid = columns.map((column) => split(column, kh, { axis: 3 }));
  return Array.from({ length: kh * kw }, (_, tap) => reshape(grid[tap % kw]?.[Math.floor(tap / kw)] as Tensor, [n, c, height, width]));
}

/** Adds up what the taps of a window contribute to the image of `shape`. */
function scatterTaps(parts: readonly Tensor[], window: Window, shape: Shape): Tensor {
  const { kernel, stride } = window;
  const [n, c, height, width] = (parts[0] as Tensor).shape as [number, number, number, number];
  const [kh, kw] = kernel as [number, number];
  const [sh, sw] = stride as [number, number];
  const toImage = (x: Tensor, top: number, left: number) =>
    padConstant(x, [
      [0, 0],
      [0, 0],
      [top, (shape[2] as number) - top - (x.shape[2] as number)],
      [left, (shape[3] as number) - left - (x.shape[3] as number)],
    ]);
  if (!overlaps(window)) {
    // Interleave columns, then rows.
    const rows = Array.from({ length: kh }, (_, i) => {
      const row = parts.slice(i * kw, (i + 1) * kw).map((part) => reshape(part, [n, c, height, width, 1]));
      return reshape(concat(row, { axis: 4 }), [n, c, height, 1, width * kw]);
    });
    return toImage(reshape(concat(rows, { axis: 3 }), [n, c, height * kh, width * kw]), 0, 0);
  }
  return parts.map((part, tap) => toImage(dilate(part, [1, 1, sh, sw]), Math.floor(tap / kw), tap % kw)).reduce(add);
}

/**
 * The largest element of every window. Where several elements of a window tie, the first in row-major order gets
 * the gradient.
 *
 * @param x `[N, C, H, W]`, float
 * @returns `[N, C, floor((H + padding - kernel) / stride) + 1, ...]`
 * @throws if padding is more than half of the kernel, or the window does not fit
 * @example
 * ```ts
 * import { maxPool2d, type Tensor } from 'tracegrad';
 *
 * const halve = (x: Tensor) => maxPool2d(x, { kernelSize: 2 });
 * ```
 */
export function maxPool2d(x: Tensor, options: MaxPoolOptions): Tensor {
  checkFloat('maxPool2d', 'x', x);
  checkOptions('maxPool2d', options, ['kernelSize', 'stride', 'padding']);
  if (x.rank !== 4) throw outOfRange('maxPool2d', 'x', 'a Tensor [N, C, H, W]', x);
  const kernel = pairOf('maxPool2d', 'kernelSize', options.kernelSize);
  const window = windowOf('maxPool2d', x.shape.slice(2), kernel, { stride: options.stride ?? kernel, padding: options.padding ?? 0 });
  // A window of nothing but padding would have no maximum.
  if (window.padding.some((p, side) => 2 * p > (kernel[side % 2] as number))) {
    throw outOfRange('maxPool2d', 'padding', 'at most half of kernelSize', options.padding);
  }
  return sizeOf(kernel) === 1 && sizeOf(window.stride) === 1 ? x : apply(maxPoolOp, [x], window)[0];
}
