import { checkOptions, outOfRange, show, wrongType } from '../errors.js';
import { type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { matmul } from './linalg.js';
import { concat, padConstant, slice, transpose } from './movement.js';

/** A number for both spatial axes, or `[height, width]`. */
export type Pair = number | readonly [number, number];

/** Zeros around the image: on every side, per axis, or per side; `'same'` gives ceil(size / stride), `'valid'` none. */
export type Padding2d = 'same' | 'valid' | number | readonly [number | readonly [number, number], number | readonly [number, number]];

export interface Window2d {
  /** Default 1. */
  stride?: Pair;
  /** Default 0. */
  padding?: Padding2d;
  /** Distance between neighbouring taps of the kernel. Default 1. */
  dilation?: Pair;
}

export interface Conv2dOptions extends Window2d {
  /** `[O]`, added to every channel. */
  bias?: Tensor;
}

/** A sliding window in full: per axis stride, dilation, and padding `[top, left, bottom, right]`. */
export interface Window {
  readonly kernel: Shape;
  readonly stride: Shape;
  readonly dilation: Shape;
  readonly padding: Shape;
}

export function pairOf(fn: string, argument: string, value: unknown): [number, number] {
  const pair = Array.isArray(value) ? value : [value, value];
  if (pair.length !== 2 || !pair.every((n) => Number.isInteger(n) && n > 0)) {
    throw outOfRange(fn, argument, 'a positive integer or two of them', value);
  }
  return pair as [number, number];
}

/** How many elements a window spans along an axis. */
const extentOf = (kernel: Shape, dilation: Shape, axis: number): number => (dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;

/** Reads the options of a convolution or pooling over an image of `size`. */
export function windowOf(fn: string, size: Shape, kernel: Shape, options: Window2d): Window {
  const stride = pairOf(fn, 'stride', options.stride ?? 1);
  const dilation = pairOf(fn, 'dilation', options.dilation ?? 1);
  const { padding = 0 } = options;
  const sides = size.map((length, axis) => {
    if (padding === 'valid') return [0, 0];
    if (padding !== 'same') {
      const own = Array.isArray(padding) ? padding[axis] : padding;
      return Array.isArray(own) ? own : [own, own];
    }
    const step = stride[axis] as number;
    const total = Math.max((Math.ceil(length / step) - 1) * step + extentOf(kernel, dilation, axis) - length, 0);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  });
  if (
    (Array.isArray(padding) && padding.length !== 2) ||
    sides.flat().length !== 4 ||
    !sides.flat().every((n) => Number.isInteger(n) && n >= 0)
  ) {
    throw wrongType(fn, 'padding', "'same', 'valid', an integer >= 0, or one or two of them for each of two axes", padding);
  }
  return { kernel: [...kernel], stride, dilation, padding: [0, 1].flatMap((side) => sides.map((pair) => pair[side] as number)) };
}

/** Height and width of what the window slides over `size`; throws where it does not fit. */
export function slidOver(fn: string, size: Shape, { kernel, stride, dilation, padding }: Window): number[] {
  return size.map((length, axis) => {
    const extent = extentOf(kernel, dilation, axis);
    const padded = length + (padding[axis] as number) + (padding[axis + 2] as number);
    if (padded < extent) {
      throw new RangeError(`${fn}: the window spans ${extent} elements, but the padded ${axis === 0 ? 'height' : 'width'} is ${padded}`);
    }
    return Math.floor((padded - extent) / (stride[axis] as number)) + 1;
  });
}

/** ONNX attributes of a window. */
export const windowAttributes = ({ kernel, stride, dilation, padding }: Window) => ({
  kernel_shape: kernel,
  strides: stride,
  dilations: dilation,
  pads: padding,
});

/** `x` with its two spatial axes padded as `window` asks. */
export const padImage = (x: Tensor, { padding }: Window, value = 0): Tensor => {
  const [top, left, bottom, right] = padding as [number, number, number, number];
  return padConstant(x, [...x.shape.slice(0, -2).map(() => [0, 0] as const), [top, bottom], [left, right]], value);
};

/**
 * What every tap of the window sees, in row-major order of the taps: strided slices of the padded image `x`, whose
 * spatial axes are `axes`.
 */
export function taps(x: Tensor, { kernel, stride, dilation }: Window, out: Shape, axes: readonly [number, number]): Tensor[] {
  return Array.from({ length: sizeOf(kernel) }, (_, tap) => {
    const starts = x.shape.map(() => 0);
    const ends = [...x.shape];
    const strides = x.shape.map(() => 1);
    [Math.floor(tap / (kernel[1] as number)), tap % (kernel[1] as number)].forEach((offset, i) => {
      const axis = axes[i] as number;
      const step = stride[i] as number;
      starts[axis] = offset * (dilation[i] as number);
      ends[axis] = (starts[axis] as number) + ((out[i] as number) - 1) * step + 1;
      strides[axis] = step;
    });
    return slice(x, starts, ends, strides);
  });
}

// Inputs: x, weight, and a bias if there is one.
const convOp: Op<readonly Tensor[], Window> = {
  name: 'conv2d',
  infer: (inputs, window) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    return [{ shape: [x.shape[0] as number, weight.shape[0] as number, ...slidOver('conv2d', x.shape.slice(2), window)], dtype: x.dtype }];
  },
  emit: (graph, inputs, { attributes }) => [graph.node('Conv', inputs, windowAttributes(attributes))],
  vjp: ([g], { inputs, attributes }) => {
    const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
    const dx = apply(convInputOp, [g, weight], { ...attributes, size: x.shape.slice(2) })[0];
    return [dx, convWeight(x, g, attributes), ...(bias ? [sum(g, { axis: [0, 2, 3] })] : [])];
  },
  flops: ({ inputs, outputs: [y] }) => 2 * sizeOf(y.shape) * sizeOf((inputs[1] as Tensor).shape.slice(1)),
};

/** The gradient of a convolution with respect to its input: the transposed convolution. */
const convInputOp: Op<[Tensor, Tensor], Window & { size: Shape }> = {
  name: 'convInput',
  infer: ([g, weight], { size }) => [{ shape: [g.shape[0] as number, weight.shape[1] as number, ...size], dtype: g.dtype }],
  emit: (graph, [g, weight], { inputs, attributes: { size, ...window } }) => {
    const { kernel, stride, dilation, padding } = window;
    const extent = kernel.map((_, axis) => extentOf(kernel, dilation, axis));
    const around = [0, 1, 2, 3].map((side) => (extent[side % 2] as number) - 1 - (padding[side] as number));
    if (sizeOf(stride) === 1 && around.every((p) => p >= 0)) {
      // A convolution with the kernel turned round, which is faster than a transposed one.
      const swapped = graph.node('Transpose', [weight], { perm: [1, 0, 2, 3] });
      const [last, first, step] = [-1, -(2 ** 31), -1].map((n) => graph.ints([n, n])) as [string, string, string];
      const turned = sizeOf(kernel) === 1 ? swapped : graph.node('Slice', [swapped, last, first, graph.ints([2, 3]), step]);
      return [graph.node('Conv', [g, turned], windowAttributes({ ...window, padding: around }))];
    }
    const rest = size.map((length, axis) => {
      const covered = ((inputs[0].shape[axis + 2] as number) - 1) * (stride[axis] as number) + (extent[axis] as number);
      return length + (padding[axis] as number) + (padding[axis + 2] as number) - covered;
    });
    return [graph.node('ConvTranspose', [g, weight], { ...windowAttributes(window), output_padding: rest })];
  },
  vjp: ([c], { inputs: [g, weight], attributes: { size: _, ...window } }) => [
    apply(convOp, [c, weight], window)[0],
    convWeight(c, g, window),
  ],
  flops: ({ inputs: [g, weight] }) => 2 * sizeOf(g.shape) * sizeOf(weight.shape.slice(1)),
};

/**
 * The gradient of a convolution with respect to its weight, as matrix products. Which layout is fastest depends
 * on the number of input channels and the stride.
 */
function convWeight(x: Tensor, g: Tensor, window: Window): Tensor {
  const [n, out, height, width] = g.shape as [number, number, number, number];
  const channels = x.shape[1] as number;
  const { kernel, stride } = window;
  const count = sizeOf(kernel);
  const pixels = height * width;
  const shape = [out, channels, ...kernel];
  if (channels <= 4 || (count === 1 && channels < 256)) {
    // Image by image: the taps of all channels as rows.
    const columns = concat(
      taps(padImage(x, window), window, [height, width], [2, 3]).map((tap) => reshape(tap, [n, 1, channels, pixels])),
      { axis: 1 },
    );
    const perImage = matmul(reshape(g, [n, out, pixels]), transpose(reshape(columns, [n, count * channels, pixels])));
    return reshape(transpose(reshape(sum(perImage, { axis: 0 }), [out, count, channels]), [0, 2, 1]), shape);
  }
  if (sizeOf(stride) > 1) {
    // Channels last: one product over all pixels.
    const columns = concat(taps(transpose(padImage(x, window), [0, 2, 3, 1]), window, [height, width], [1, 2]), { axis: 3 });
    const rows = reshape(transpose(g, [0, 2, 3, 1]), [n * pixels, out]);
    const product = matmul(transpose(rows), reshape(columns, [n * pixels, count * channels]));
    return reshape(transpose(reshape(product, [out, count, channels]), [0, 2, 1]), shape);
  }
  // Channels first: one product for every tap.
  const rows = reshape(transpose(g, [1, 0, 2, 3]), [out, n * pixels]);
  const products = taps(padImage(transpose(x, [1, 0, 2, 3]), window), window, [height, width], [2, 3]).map((tap) =>
    reshape(matmul(rows, transpose(reshape(tap, [channels, n * pixels]))), [out, channels, 1]),
  );
  return reshape(concat(products, { axis: 2 }), shape);
}

/**
 * Two-dimensional convolution (cross-correlation, as everywhere in deep learning).
 *
 * @param x `[N, C, H, W]`, float
 * @param weight `[O, C, kernel height, kernel width]`, of the same dtype
 * @returns `[N, O, floor((H + padding - dilation (kernel - 1) - 1) / stride) + 1, ...]`
 * @throws if channels differ or the window does not fit into the padded image
 * @example
 * ```ts
 * import { conv2d, type Tensor } from 'tracegrad';
 *
 * const halve = (x: Tensor, weight: Tensor) => conv2d(x, weight, { stride: 2, padding: 'same' });
 * ```
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  checkFloat('conv2d', 'x', x);
  checkFloat('conv2d', 'weight', weight);
  checkOptions('conv2d', options, ['stride', 'padding', 'dilation', 'bias']);
  if (x.rank !== 4 || weight.rank !== 4 || x.shape[1] !== weight.shape[1] || x.dtype !== weight.dtype) {
    throw new RangeError(
      `conv2d: expected x [N, C, H, W] and weight [O, C, kernel height, kernel width] of one dtype, received ${show(x)} and ${show(weight)}`,
    );
  }
  const { bias } = options;
  if (bias !== undefined && (checkFloat('conv2d', 'bias', bias).dtype !== x.dtype || !sameShape(bias.shape, weight.shape.slice(0, 1)))) {
    throw outOfRange('conv2d', 'bias', `${x.dtype}[${weight.shape[0]}]`, bias);
  }
  const window = windowOf('conv2d', x.shape.slice(2), weight.shape.slice(2), options);
  return apply(convOp, bias ? [x, weight, bias] : [x, weight], window)[0];
}
