import { outOfRange, wrongType } from '../errors.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { zeros } from './constant.js';
import { add } from './elementwise.js';
import { concat, padConstant, slice, split } from './movement.js';

/** The number of spatial axes: 1 for sequences, 2 for images, 3 for volumes. */
export type SpatialRank = 1 | 2 | 3;

type Each<T, R extends SpatialRank> = { readonly 1: readonly [T]; readonly 2: readonly [T, T]; readonly 3: readonly [T, T, T] }[R];

/** A number for all spatial axes, or a list of one for each, such as `[height, width]`. */
export type PerAxis<R extends SpatialRank = 2> = number | Each<number, R>;

/**
 * What is put around the image: as much on every side, per axis, or `[before, after]` per axis; `'same'` gives ceil(size / stride)
 * windows, `'valid'` none.
 */
export type Padding<R extends SpatialRank = 2> = 'same' | 'valid' | number | Each<number | readonly [number, number], R>;

export interface WindowOptions<R extends SpatialRank = 2> {
  /** Default 1. */
  stride?: PerAxis<R>;
  /** Default 0. */
  padding?: Padding<R>;
  /** Distance between neighbouring taps of the kernel. Default 1. */
  dilation?: PerAxis<R>;
}

/** A sliding window in full: per spatial axis stride, dilation, and padding `[...before, ...after]`. */
export interface Window {
  readonly kernel: Shape;
  readonly stride: Shape;
  readonly dilation: Shape;
  readonly padding: Shape;
}

/** Names of the spatial axes, for messages. */
export const axisNames = (rank: SpatialRank): string[] => (rank === 1 ? ['length'] : ['depth', 'height', 'width'].slice(3 - rank));

/** The layout of an input, for messages: `[N, C, H, W]`. */
export const layoutOf = (rank: SpatialRank): string =>
  `[N, C, ${axisNames(rank)
    .map((name) => name.charAt(0).toUpperCase())
    .join(', ')}]`;

/** One integer `>= min` per spatial axis. */
export function perAxis(fn: string, argument: string, value: unknown, rank: SpatialRank, min = 1): number[] {
  const list = Array.isArray(value) ? value : Array<unknown>(rank).fill(value);
  if (list.length !== rank || !list.every((n) => Number.isInteger(n) && n >= min)) {
    throw outOfRange(fn, argument, `an integer >= ${min}, or a list of one for each of ${axisNames(rank).join(', ')}`, value);
  }
  return list as number[];
}

/** How many elements a window spans along every axis. */
export const extentOf = ({ kernel, dilation }: Pick<Window, 'kernel' | 'dilation'>): number[] =>
  kernel.map((taps, i) => (dilation[i] as number) * (taps - 1) + 1);

/** Reads the options of a convolution or pooling over an image of `size`. */
export function windowOf(fn: string, size: Shape, kernel: Shape, options: WindowOptions<SpatialRank>): Window {
  const rank = kernel.length as SpatialRank;
  const stride = perAxis(fn, 'stride', options.stride ?? 1, rank);
  const dilation = perAxis(fn, 'dilation', options.dilation ?? 1, rank);
  const extent = extentOf({ kernel, dilation });
  const padding: unknown = options.padding ?? 0;
  const sides = size.map((length, i): unknown[] => {
    if (padding === 'valid') return [0, 0];
    if (padding !== 'same') {
      const own: unknown = Array.isArray(padding) ? padding[i] : padding;
      return Array.isArray(own) ? own : [own, own];
    }
    const step = stride[i] as number;
    const total = Math.max((Math.ceil(length / step) - 1) * step + (extent[i] as number) - length, 0);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  });
  if (
    (Array.isArray(padding) && padding.length !== rank) ||
    !sides.every((pair) => pair.length === 2 && pair.every((n) => Number.isInteger(n) && (n as number) >= 0))
  ) {
    const axes = axisNames(rank).join(', ');
    throw wrongType(fn, 'padding', `'same', 'valid', an integer >= 0, or a list of one or of [before, after] for each of ${axes}`, padding);
  }
  return { kernel: [...kernel], stride, dilation, padding: [0, 1].flatMap((side) => sides.map((pair) => pair[side] as number)) };
}

/** How many windows there are along every axis of an image of `size`. */
export function slidOver(size: Shape, window: Window): number[] {
  const extent = extentOf(window);
  return size.map((length, i) => {
    const padded = length + (window.padding[i] as number) + (window.padding[size.length + i] as number);
    return Math.floor((padded - (extent[i] as number)) / (window.stride[i] as number)) + 1;
  });
}

/** Throws unless the window fits into an image of `size`. */
export function checkFits(fn: string, size: Shape, window: Window): void {
  const rank = size.length;
  extentOf(window).forEach((extent, i) => {
    const padded = (size[i] as number) + (window.padding[i] as number) + (window.padding[rank + i] as number);
    if (padded < extent) {
      const name = axisNames(rank as SpatialRank)[i];
      throw new RangeError(`${fn}: the window spans ${extent} elements, but the padded ${name} is ${padded}`);
    }
  });
}

/** ONNX attributes of a window. */
export const windowAttributes = ({ kernel, stride, dilation, padding }: Window) => ({
  kernel_shape: kernel,
  strides: stride,
  dilations: dilation,
  pads: padding,
});

/**
 * How a window slides along one axis of a padded image. The image is seen as blocks of `step` elements, and the elements with the same
 * place in their block as one image each, the phases: what a tap sees of all windows lies side by side in one phase.
 */
interface Line {
  readonly axis: number;
  /** Distance of the windows. */
  readonly step: number;
  /** Number of windows, and of blocks. */
  readonly windows: number;
  readonly count: number;
  /** Where the taps of the first window lie. */
  readonly offsets: readonly number[];
  /** Where the image begins, and its size. */
  readonly before: number;
  readonly size: number;
}

const linesOf = ({ kernel, stride, dilation, padding }: Window, size: Shape, windows: Shape, first: number): Line[] =>
  kernel.map((count, i) => {
    const step = stride[i] as number;
    const offsets = Array.from({ length: count }, (_, tap) => tap * (dilation[i] as number));
    return {
      axis: first + i,
      step,
      windows: windows[i] as number,
      count: (windows[i] as number) + Math.floor((offsets.at(-1) as number) / step),
      offsets,
      before: padding[i] as number,
      size: size[i] as number,
    };
  });

/** For every tap in row-major order its phase, also counted so, and where it begins there along every axis. */
const tapsOf = (lines: readonly Line[]): { phase: number; starts: number[] }[] =>
  lines.reduce<{ phase: number; starts: number[] }[]>(
    (all, { step, offsets }) =>
      all.flatMap(({ phase, starts }) =>
        offsets.map((offset) => ({ phase: phase * step + (offset % step), starts: [...starts, Math.floor(offset / step)] })),
      ),
    [{ phase: 0, starts: [] }],
  );

/** `shape` with other sizes in place of those from `axis` to `end`. */
export const replaced = (shape: Shape, axis: number, end: number, ...sizes: number[]): number[] => [
  ...shape.slice(0, axis),
  ...sizes,
  ...shape.slice(end),
];

/** The elements from `start` to `end` along some axes. */
function cut(x: Tensor, ranges: readonly { axis: number; start: number; end: number; stride?: number }[]): Tensor {
  const range = (axis: number) => ranges.find((r) => r.axis === axis);
  return slice(
    x,
    x.shape.map((_, axis) => range(axis)?.start ?? 0),
    x.shape.map((size, axis) => range(axis)?.end ?? size),
    x.shape.map((_, axis) => range(axis)?.stride ?? 1),
  );
}

/** `x` with `value` around it along some axes. */
function padAlong(x: Tensor, sides: readonly { axis: number; before: number; after: number }[], value = 0): Tensor {
  const around = (axis: number) => sides.find((side) => side.axis === axis) ?? { before: 0, after: 0 };
  return padConstant(
    x,
    x.shape.map((_, axis) => [around(axis).before, around(axis).after]),
    value,
  );
}

/** Whether all taps lie in the first phase. */
const inOnePhase = ({ step, offsets }: Line): boolean => offsets.every((offset) => offset % step === 0);

/** How much of the padded image has to be there. */
const lengthOf = (line: Line): number => (inOnePhase(line) ? (line.count - 1) * line.step + 1 : line.count * line.step);

/** The phases along one axis of a padded image, but for those that no tap sees. */
function phasesAlong(x: Tensor, line: Line): (Tensor | undefined)[] {
  const { axis, step, count } = line;
  if (inOnePhase(line)) return [cut(x, [{ axis, start: 0, end: lengthOf(line), stride: step }]), ...Array<undefined>(step - 1)];
  const blocks = reshape(cut(x, [{ axis, start: 0, end: count * step }]), replaced(x.shape, axis, axis + 1, count, step));
  return split(blocks, step, { axis: axis + 1 }).map((phase) => reshape(phase, replaced(x.shape, axis, axis + 1, count)));
}

/**
 * What every tap of the window sees, in row-major order of the taps, where it slides over the axes of `x` from `first` on. An image is
 * split by the stride first, which is faster than slicing with strides for every tap.
 *
 * @param windows their number along every axis
 * @param value what lies in the padding
 */
export function taps(x: Tensor, window: Window, windows: Shape, options: { first?: number; value?: number } = {}): Tensor[] {
  const { first = 2, value = 0 } = options;
  const lines = linesOf(window, x.shape.slice(first), windows, first);
  const sides = lines.map((line) => {
    const { axis, before, size } = line;
    return { axis, before, after: Math.max(lengthOf(line) - before - size, 0) };
  });
  const phases = lines.reduce<(Tensor | undefined)[]>(
    (images, line) => images.flatMap((image) => (image ? phasesAlong(image, line) : Array<undefined>(line.step).fill(undefined))),
    [padAlong(x, sides, value)],
  );
  return tapsOf(lines).map(({ phase, starts }) =>
    cut(
      phases[phase] as Tensor,
      lines.map((line, i) => ({ axis: line.axis, start: starts[i] as number, end: (starts[i] as number) + line.windows })),
    ),
  );
}

/**
 * The transpose of {@link taps}: adds up what the taps give to the elements of an image that they see.
 *
 * @param parts of one shape, one for every tap
 * @param size of the image, along the axes from `first` on
 */
export function scatterTaps(parts: readonly Tensor[], window: Window, size: Shape, first = 2): Tensor {
  const [{ shape, dtype }] = parts as [Tensor];
  const lines = linesOf(window, size, shape.slice(first), first);
  const all = sizeOf(window.stride);
  let phases = Array<Tensor | undefined>(all).fill(undefined);
  tapsOf(lines).forEach(({ phase, starts }, tap) => {
    const sides = lines.map(({ axis, count, windows }, i) => {
      const before = starts[i] as number;
      return { axis, before, after: count - before - windows };
    });
    const placed = padAlong(parts[tap] as Tensor, sides);
    const others = phases[phase];
    phases[phase] = others ? add(others, placed) : placed;
  });
  // Put the phases together again, from the last axis on.
  for (const { axis, step, count } of [...lines].reverse()) {
    phases = Array.from({ length: phases.length / step }, (_, group) => {
      const members = phases.slice(group * step, (group + 1) * step);
      const some = members.find((member) => member !== undefined);
      if (!some || step === 1) return some;
      const columns = members.map((member) => reshape(member ?? zeros(some.shape, dtype), replaced(some.shape, axis, axis + 1, count, 1)));
      return reshape(concat(columns, { axis: axis + 1 }), replaced(some.shape, axis, axis + 1, count * step));
    });
  }
  const seen = lines.map(({ axis, step, count, before, size: length }) => {
    const [start, end] = [before, before + length].map((at) => Math.min(at, count * step)) as [number, number];
    return { axis, start, end, before: 0, after: length - (end - start) };
  });
  return padAlong(cut(phases[0] as Tensor, seen), seen);
}
