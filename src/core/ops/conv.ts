import { checkOptions, outOfRange, show } from '../errors.js';
import { type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { add } from './elementwise.js';
import { matmul } from './linalg.js';
import { concat, flip, padConstant, slice, transpose } from './movement.js';
import {
  axisNames,
  checkFits,
  extentOf,
  layoutOf,
  type PerAxis,
  perAxis,
  type SpatialRank,
  scatterTaps,
  slidOver,
  taps,
  type Window,
  type WindowOptions,
  windowAttributes,
  windowOf,
} from './window.js';

export interface ConvOptions<R extends SpatialRank = 2> extends WindowOptions<R> {
  /** Channels are cut into so many groups, each with kernels of its own; as many as channels is a depthwise convolution. Default 1. */
  groups?: number;
  /** `[O]`, added to every channel. */
  bias?: Tensor;
}

export interface ConvTransposeOptions<R extends SpatialRank = 2> extends ConvOptions<R> {
  /** Further elements at the end of every axis, fewer than the stride. Default 0. */
  outputPadding?: PerAxis<R>;
}

type Attributes = Window & { readonly groups: number };

/** An image of `size`, from which the attributes of a transposed convolution lead to its input. */
type TransposeAttributes = Attributes & { readonly size: Shape };

const convAttributes = ({ groups, ...window }: Attributes) => ({ ...windowAttributes(window), group: groups });

/** The gradient of a bias. */
const sumOfChannels = (g: Tensor): Tensor => sum(g, { axis: g.shape.flatMap((_, axis) => (axis === 1 ? [] : [axis])) });

// Inputs: x, weight, and a bias if there is one.
export const convOp: Op<readonly Tensor[], Attributes> = {
  name: 'conv',
  infer: (inputs, window) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    return [{ shape: [x.shape[0] as number, weight.shape[0] as number, ...slidOver(x.shape.slice(2), window)], dtype: x.dtype }];
  },
  emit: (graph, names, { inputs, attributes }) => {
    const other = graph.device === 'webgpu' ? convOnWebgpu(inputs, attributes) : undefined;
    return [other ? graph.value(other) : graph.node('Conv', names, convAttributes(attributes))];
  },
  vjp: ([g], { inputs, attributes }) => {
    const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
    const dx = apply(convTransposeOp, [g, weight], { ...attributes, size: x.shape.slice(2) })[0];
    return [dx, convWeight(x, g, attributes), ...(bias ? [sumOfChannels(g)] : [])];
  },
  flops: ({ inputs, outputs: [y] }) => 2 * sizeOf(y.shape) * sizeOf((inputs[1] as Tensor).shape.slice(1)),
};

/**
 * The gradient of a convolution with respect to its input, which comes from an image of `size`. Inputs: x, weight, and a bias if there is
 * one.
 */
const convTransposeOp: Op<readonly Tensor[], TransposeAttributes> = {
  name: 'convTranspose',
  infer: (inputs, { groups, size }) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    return [{ shape: [x.shape[0] as number, groups * (weight.shape[1] as number), ...size], dtype: x.dtype }];
  },
  emit: (graph, names, { inputs, attributes }) => {
    const { size, ...window } = attributes;
    const { stride, padding } = window;
    const [x, weight] = inputs as [Tensor, Tensor];
    const rank = stride.length;
    const extent = extentOf(window);
    const rest = size.map((length, i) => {
      const covered = ((x.shape[i + 2] as number) - 1) * (stride[i] as number) + (extent[i] as number);
      return length + (padding[i] as number) + (padding[rank + i] as number) - covered;
    });
    const around = padding.map((p, side) => (extent[side % rank] as number) - 1 - p + (side < rank ? 0 : (rest[side - rank] as number)));
    if (sizeOf(stride) === 1 && around.every((p) => p >= 0)) {
      // A convolution with the kernel turned round, which is faster than a transposed one.
      const turned = flip(swapChannels(weight, window.groups), { axis: size.map((_, i) => i + 2) });
      return [graph.value(apply(convOp, [x, turned, ...inputs.slice(2)], { ...window, padding: around })[0])];
    }
    const other = graph.device === 'webgpu' ? convTransposeOnWebgpu(inputs, attributes) : undefined;
    if (other) return [graph.value(other)];
    return [graph.node('ConvTranspose', names, { ...convAttributes(window), output_padding: rest })];
  },
  vjp: ([g], { inputs, attributes: { size: _, ...window } }) => {
    const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
    return [apply(convOp, [g, weight], window)[0], convWeight(g, x, window), ...(bias ? [sumOfChannels(g)] : [])];
  },
  flops: ({ inputs }) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    return 2 * sizeOf(x.shape) * sizeOf(weight.shape.slice(1));
  },
};

/** Groups are an axis of their own where there are several, so that products of matrices stay what they are without. */
const batchOf = (groups: number): number[] => (groups === 1 ? [] : [groups]);

/** Exchanges input and output channels of every group: `[O, C / groups, ...kernel]` to `[C, O / groups, ...kernel]`. */
function swapChannels(weight: Tensor, groups: number): Tensor {
  const [out, channels, ...kernel] = weight.shape as [number, number, ...number[]];
  const batch = batchOf(groups);
  const at = batch.length;
  const swapped = transpose(reshape(weight, [...batch, out / groups, channels, ...kernel]), [
    ...batch.map((_, i) => i),
    at + 1,
    at,
    ...kernel.map((_, i) => at + 2 + i),
  ]);
  return reshape(swapped, [groups * channels, out / groups, ...kernel]);
}

/** `x` with zeros after its elements along an axis, `size` of them in all. */
const extended = (x: Tensor, axis: number, size: number): Tensor =>
  padConstant(
    x,
    x.shape.map((own, i) => [0, i === axis ? size - own : 0]),
  );

/** What to compute instead of a convolution for which WebGPU has no kernel or, in ONNX Runtime 1.30, one that gives wrong numbers. */
function convOnWebgpu(inputs: readonly Tensor[], attributes: Attributes): Tensor | undefined {
  const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
  const { groups, kernel, stride, padding } = attributes;
  const [out, channels] = weight.shape as [number, number];
  const after = padding.slice(kernel.length);
  const asProduct = sizeOf(kernel) === 1 || sameShape(kernel, x.shape.slice(2));
  if (asProduct && after.some((p) => p > 0) && padding.every((p, side) => p === 0 || side >= kernel.length)) {
    // Where the image itself can be an operand of a product, padding at the end alone is overlooked.
    const padded = padConstant(x, [[0, 0], [0, 0], ...after.map((p): [number, number] => [0, p])]);
    return apply(convOp, [padded, ...inputs.slice(1)], { ...attributes, padding: padding.map(() => 0) })[0];
  }
  if (groups === 1) {
    // Channels are read in threes, and wrongly if they are more than three.
    const inThrees = channels > 3 && channels % 3 === 0 && channels % 4 !== 0 && out % 4 === 0 && kernel.length < 3;
    if (!inThrees || (sizeOf(kernel) === 1 && sizeOf(stride) === 1 && padding.every((p) => p === 0))) return undefined;
    const more = channels + 4 - (channels % 4);
    return apply(convOp, [extended(x, 1, more), extended(weight, 1, more), ...inputs.slice(2)], attributes)[0];
  }
  if (kernel.length === 3) return convByDepth(inputs, attributes);
  // Channels are written in vectors, which must not be of two groups.
  const own = out / groups;
  const vector = out % 4 === 0 ? 4 : out % 2 === 0 ? 2 : 1;
  if (own < 4 || own % vector === 0) return undefined;
  const more = own + 4 - (own % 4);
  const wide = extended(reshape(weight, [groups, own, channels, ...kernel]), 1, more);
  const [y] = apply(convOp, [x, reshape(wide, [groups * more, channels, ...kernel])], attributes);
  return withBias(firstOfGroups(y, groups, own), bias);
}

/** The same for a transposed convolution. */
function convTransposeOnWebgpu(inputs: readonly Tensor[], attributes: TransposeAttributes): Tensor | undefined {
  const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
  const { groups, kernel } = attributes;
  if (kernel.length === 3) return convTransposeByDepth(inputs, attributes);
  // Several channels of a group that lead to a single one.
  if (groups === 1 || weight.shape[0] === groups || weight.shape[1] !== 1) return undefined;
  const [y] = apply(convTransposeOp, [x, extended(weight, 1, 2)], attributes);
  return withBias(firstOfGroups(y, groups, 1), bias);
}

/** The first `count` channels of every group. */
function firstOfGroups(y: Tensor, groups: number, count: number): Tensor {
  const [n, channels, ...size] = y.shape as [number, number, ...number[]];
  const grouped = reshape(y, [n, groups, channels / groups, ...size]);
  const first = slice(
    grouped,
    grouped.shape.map(() => 0),
    [n, groups, count, ...size],
  );
  return reshape(first, [n, groups * count, ...size]);
}

const withBias = (y: Tensor, bias: Tensor | undefined): Tensor =>
  bias ? add(y, reshape(bias, [-1, ...y.shape.slice(2).map(() => 1)])) : y;

/** The part of a window that slides along some of its axes. */
const along = ({ kernel, stride, dilation, padding }: Window, from: number, to?: number): Window => {
  const part = (sizes: Shape) => sizes.slice(from, to);
  const sides = [padding.slice(0, kernel.length), padding.slice(kernel.length)];
  return { kernel: part(kernel), stride: part(stride), dilation: part(dilation), padding: sides.flatMap(part) };
};

/** The kernels of every depth, `[O, C / groups, height, width]`. */
const planesOf = (weight: Tensor): Tensor[] => {
  const [out, channels, depth, ...plane] = weight.shape as [number, number, number, number, number];
  return Array.from({ length: depth }, (_, i) =>
    reshape(slice(weight, [0, 0, i, 0, 0], [out, channels, i + 1, ...plane]), [out, channels, ...plane]),
  );
};

/** `[N, C, D, H, W]` to `[N, D, C, H, W]` and back. */
const byDepth = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3, 4]);

/** The first two axes as one, and back. */
const merged = (x: Tensor): Tensor => reshape(x, [-1, ...x.shape.slice(2)]);
const unmerged = (x: Tensor, batch: number): Tensor => reshape(x, [batch, -1, ...x.shape.slice(1)]);

/** A convolution along three axes as the sum of one along two for every depth of the kernel. */
function convByDepth(inputs: readonly Tensor[], { groups, ...window }: Attributes): Tensor {
  const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
  const planes = planesOf(weight);
  const [depth] = slidOver(x.shape.slice(2), window) as [number];
  const sums = taps(byDepth(x), along(window, 0, 1), [depth], { first: 1 })
    .map((tap, i) => apply(convOp, [merged(tap), planes[i] as Tensor], { ...along(window, 1), groups })[0])
    .reduce(add);
  return withBias(byDepth(unmerged(sums, x.shape[0] as number)), bias);
}

/** The same for a transposed convolution, where every depth of the kernel gives to other depths of the image. */
function convTransposeByDepth(inputs: readonly Tensor[], { groups, size, ...window }: TransposeAttributes): Tensor {
  const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
  const frames = merged(byDepth(x));
  const parts = planesOf(weight).map((plane) => {
    const [part] = apply(convTransposeOp, [frames, plane], { ...along(window, 1), groups, size: size.slice(1) });
    return unmerged(part, x.shape[0] as number);
  });
  return withBias(byDepth(scatterTaps(parts, along(window, 0, 1), size.slice(0, 1), 1)), bias);
}

/**
 * The gradient of a convolution with respect to its weight, as matrix products. Which layout is fastest depends on the number of input
 * channels of a group.
 */
function convWeight(x: Tensor, g: Tensor, { groups, ...window }: Attributes): Tensor {
  const [n, out, ...size] = g.shape as [number, number, ...number[]];
  const channels = (x.shape[1] as number) / groups;
  const count = sizeOf(window.kernel);
  const pixels = sizeOf(size);
  const shape = [out, channels, ...window.kernel];
  const batch = batchOf(groups);
  const depthwise = groups > 1 && out === groups;
  if ((channels <= 4 && !depthwise) || (count === 1 && channels < 256)) {
    // Image by image: the taps of all channels as rows.
    const columns = concat(
      taps(x, window, size).map((tap) => reshape(tap, [n, ...batch, 1, channels, pixels])),
      { axis: -3 },
    );
    const rows = reshape(g, [n, ...batch, out / groups, pixels]);
    const perImage = matmul(rows, transpose(reshape(columns, [n, ...batch, count * channels, pixels])));
    return reshape(transpose(reshape(sum(perImage, { axis: 0 }), [out, count, channels]), [0, 2, 1]), shape);
  }
  // Channels first: one product for every tap.
  const channelsFirst = (image: Tensor) => transpose(image, [1, 0, ...size.map((_, i) => i + 2)]);
  const rows = reshape(channelsFirst(g), [...batch, out / groups, n * pixels]);
  const products = taps(channelsFirst(x), window, size).map((tap) =>
    reshape(matmul(rows, transpose(reshape(tap, [...batch, channels, n * pixels]))), [out, channels, 1]),
  );
  return reshape(concat(products, { axis: 2 }), shape);
}

/** Checks what all convolutions share; `channels` are those of the result in terms of the weight. */
function operandsOf(fn: string, rank: SpatialRank, x: Tensor, weight: Tensor, options: ConvOptions<SpatialRank>, transposed: boolean) {
  checkOptions(fn, options, ['stride', 'padding', 'dilation', 'groups', 'bias', ...(transposed ? ['outputPadding'] : [])]);
  checkFloat(fn, 'x', x);
  checkFloat(fn, 'weight', weight);
  const { groups = 1, bias } = options;
  const channels = x.shape[1] as number;
  const [outer, inner] = weight.shape as [number, number];
  if (!Number.isInteger(groups) || groups < 1) throw outOfRange(fn, 'groups', 'a positive integer', groups);
  const fits = transposed ? outer === channels : inner * groups === channels;
  if (x.rank !== rank + 2 || weight.rank !== rank + 2 || x.dtype !== weight.dtype || !fits) {
    const kernel = axisNames(rank).map((name) => `kernel ${name}`);
    const layout = [...(transposed ? ['C', 'O / groups'] : ['O', 'C / groups']), ...kernel].join(', ');
    throw new RangeError(
      `${fn}: expected x ${layoutOf(rank)} and weight [${layout}] of one dtype, received ${show(x)} and ${show(weight)} with groups ${groups}`,
    );
  }
  for (const [name, tensor, sizes] of [
    ['x', x, x.shape.slice(1)],
    ['weight', weight, weight.shape],
  ] as const) {
    if (sizes.includes(0)) throw outOfRange(fn, name, `no axis of size 0${name === 'x' ? ', but for the first' : ''}`, tensor);
  }
  if (outer % groups !== 0) {
    throw outOfRange(fn, 'groups', `a divisor of the ${outer} ${transposed ? 'channels of x' : 'channels of the result'}`, groups);
  }
  const out = transposed ? inner * groups : outer;
  if (bias !== undefined && (checkFloat(fn, 'bias', bias).dtype !== x.dtype || !sameShape(bias.shape, [out]))) {
    throw outOfRange(fn, 'bias', `${x.dtype}[${out}]`, bias);
  }
  return { inputs: bias ? [x, weight, bias] : [x, weight], kernel: weight.shape.slice(2), size: x.shape.slice(2), groups };
}

function conv(fn: string, rank: SpatialRank, x: Tensor, weight: Tensor, options: ConvOptions<SpatialRank>): Tensor {
  const { inputs, kernel, size, groups } = operandsOf(fn, rank, x, weight, options, false);
  const window = windowOf(fn, size, kernel, options);
  checkFits(fn, size, window);
  return apply(convOp, inputs, { ...window, groups })[0];
}

function convTranspose(fn: string, rank: SpatialRank, x: Tensor, weight: Tensor, options: ConvTransposeOptions<SpatialRank>): Tensor {
  const { inputs, kernel, size, groups } = operandsOf(fn, rank, x, weight, options, true);
  const stride = perAxis(fn, 'stride', options.stride ?? 1, rank);
  const more = perAxis(fn, 'outputPadding', options.outputPadding ?? 0, rank, 0);
  const same = options.padding === 'same';
  if (more.some((count, i) => count >= (same ? 1 : (stride[i] as number)))) {
    throw outOfRange(fn, 'outputPadding', same ? "0 with padding 'same'" : `less than the stride, ${show(stride)}`, options.outputPadding);
  }
  // With 'same' this is the transpose of the convolution that leads from the larger size to that of x.
  const scaled = size.map((length, i) => length * (stride[i] as number));
  const window = windowOf(fn, scaled, kernel, options);
  const result = extentOf(window).map((extent, i) => {
    const around = (window.padding[i] as number) + (window.padding[rank + i] as number);
    return same ? (scaled[i] as number) : (scaled[i] as number) - (stride[i] as number) + extent - around + (more[i] as number);
  });
  if (result.some((length) => length < 1)) {
    throw outOfRange(fn, 'padding', `less than what leaves nothing of the result, whose size is [${result.join(', ')}]`, options.padding);
  }
  return apply(convTransposeOp, inputs, { ...window, groups, size: result })[0];
}

/**
 * One-dimensional convolution (cross-correlation, as everywhere in deep learning), for sequences.
 *
 * @param x `[N, C, L]`, float
 * @param weight `[O, C / groups, kernel length]`, of the same dtype
 * @param options see {@link conv2d}
 * @returns `[N, O, floor((L + padding - dilation (kernel - 1) - 1) / stride) + 1]`
 * @throws if channels differ, `groups` does not divide them, or the window does not fit into the padded sequence
 * @example
 * ```ts
 * import { conv1d, type Tensor } from 'tracegrad';
 *
 * // Every element sees itself and the two before it.
 * const causal = (x: Tensor, weight: Tensor) => conv1d(x, weight, { padding: [[2, 0]] });
 * ```
 */
export const conv1d = (x: Tensor, weight: Tensor, options: ConvOptions<1> = {}): Tensor => conv('conv1d', 1, x, weight, options);

/**
 * Two-dimensional convolution (cross-correlation, as everywhere in deep learning), for images.
 *
 * @param x `[N, C, H, W]`, float
 * @param weight `[O, C / groups, kernel height, kernel width]`, of the same dtype
 * @param options.stride default 1, like `dilation`
 * @param options.padding default 0
 * @param options.groups default 1; output channels of a group see only the input channels of that group
 * @param options.bias `[O]`
 * @returns `[N, O, floor((H + padding - dilation (kernel - 1) - 1) / stride) + 1, ...]`
 * @throws if channels differ, `groups` does not divide them, or the window does not fit into the padded image
 * @example
 * ```ts
 * import { conv2d, type Tensor } from 'tracegrad';
 *
 * const halve = (x: Tensor, weight: Tensor) => conv2d(x, weight, { stride: 2, padding: 'same' });
 * const depthwise = (x: Tensor, weight: Tensor) => conv2d(x, weight, { padding: 1, groups: x.shape[1]! }); // weight [C, 1, 3, 3]
 * ```
 */
export const conv2d = (x: Tensor, weight: Tensor, options: ConvOptions = {}): Tensor => conv('conv2d', 2, x, weight, options);

/**
 * Three-dimensional convolution (cross-correlation, as everywhere in deep learning), for volumes and videos.
 *
 * @param x `[N, C, D, H, W]`, float
 * @param weight `[O, C / groups, kernel depth, kernel height, kernel width]`, of the same dtype
 * @param options see {@link conv2d}
 * @returns `[N, O, floor((D + padding - dilation (kernel - 1) - 1) / stride) + 1, ...]`
 * @throws if channels differ, `groups` does not divide them, or the window does not fit into the padded volume
 * @example
 * ```ts
 * import { conv3d, type Tensor } from 'tracegrad';
 *
 * // Every third frame, and half of the height and width.
 * const shrink = (video: Tensor, weight: Tensor) => conv3d(video, weight, { stride: [3, 2, 2], padding: 'same' });
 * ```
 */
export const conv3d = (x: Tensor, weight: Tensor, options: ConvOptions<3> = {}): Tensor => conv('conv3d', 3, x, weight, options);

/**
 * One-dimensional transposed convolution: the gradient of {@link conv1d} with respect to its input, as an operation of its own.
 *
 * @param x `[N, C, L]`, float
 * @param weight `[C, O / groups, kernel length]`, of the same dtype
 * @param options see {@link convTranspose2d}
 * @returns `[N, O, (L - 1) stride - padding + dilation (kernel - 1) + 1 + outputPadding]`
 * @throws if channels differ, `groups` does not divide them, or nothing would be left
 */
export const convTranspose1d = (x: Tensor, weight: Tensor, options: ConvTransposeOptions<1> = {}): Tensor =>
  convTranspose('convTranspose1d', 1, x, weight, options);

/**
 * Two-dimensional transposed convolution: the gradient of {@link conv2d} with respect to its input, as an operation of its own. Every
 * element of `x` adds the kernel, times itself, to the result, `stride` further for every neighbour.
 *
 * @param x `[N, C, H, W]`, float
 * @param weight `[C, O / groups, kernel height, kernel width]`, of the same dtype, as in PyTorch
 * @param options.stride default 1, like `dilation`
 * @param options.padding what is taken off the result, default 0; with `'same'` its size is that of `x` times the stride
 * @param options.outputPadding default 0; tells apart the sizes that a convolution with this stride leads to that of `x`. Unlike in
 *   PyTorch it is less than the stride even where the dilation is more
 * @param options.groups default 1
 * @param options.bias `[O]`
 * @returns `[N, O, (H - 1) stride - padding + dilation (kernel - 1) + 1 + outputPadding, ...]`
 * @throws if channels differ, `groups` does not divide them, or nothing would be left
 * @example
 * ```ts
 * import { convTranspose2d, type Tensor } from 'tracegrad';
 *
 * const twice = (x: Tensor, weight: Tensor) => convTranspose2d(x, weight, { stride: 2, padding: 'same' });
 * ```
 */
export const convTranspose2d = (x: Tensor, weight: Tensor, options: ConvTransposeOptions = {}): Tensor =>
  convTranspose('convTranspose2d', 2, x, weight, options);

/**
 * Three-dimensional transposed convolution: the gradient of {@link conv3d} with respect to its input, as an operation of its own.
 *
 * @param x `[N, C, D, H, W]`, float
 * @param weight `[C, O / groups, kernel depth, kernel height, kernel width]`, of the same dtype
 * @param options see {@link convTranspose2d}
 * @returns `[N, O, (D - 1) stride - padding + dilation (kernel - 1) + 1 + outputPadding, ...]`
 * @throws if channels differ, `groups` does not divide them, or nothing would be left
 */
export const convTranspose3d = (x: Tensor, weight: Tensor, options: ConvTransposeOptions<3> = {}): Tensor =>
  convTranspose('convTranspose3d', 3, x, weight, options);
