import { type DType, isFloat, largestOf } from '../dtype.js';
import { checkNumber, checkOneOf, checkOptions, outOfRange, wrongType } from '../errors.js';
import { normalizeAxes, normalizeAxis, type Shape, sameShape } from '../shape.js';
import { apply, checkTensor, type Emitter, type Op, type Tensor } from '../tensor.js';
import { broadcastTo, reshape } from './broadcast.js';
import { zerosLike } from './constant.js';

/** WebGPU has no kernels that move masks: `body` gets them as integers there. */
function asIntegers(
  graph: Emitter,
  inputs: readonly string[],
  dtype: DType,
  body: (inputs: readonly string[], dtype: DType) => string,
): string {
  if (graph.device !== 'webgpu' || dtype !== 'bool') return body(inputs, dtype);
  const integers = inputs.map((x) => graph.node('Cast', [x], { to: 6 }));
  return graph.node('Cast', [body(integers, 'int32')], { to: 9 });
}

/** Every `stride`-th index of an axis from `start` towards `end`, which is exclusive and may be -1. */
interface Range {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly stride: number;
}

const countOf = ({ start, end, stride }: Omit<Range, 'axis'>): number => Math.ceil(Math.abs(end - start) / Math.abs(stride));

/** The elements in a range of every axis that is named. WebGPU slices only floats: the others are gathered there. */
export function emitSlice(graph: Emitter, x: string, dtype: DType, ranges: readonly Range[]): string {
  if (ranges.length === 0) return x;
  if (graph.device !== 'webgpu' || isFloat(dtype)) {
    const all = (key: keyof Range) => graph.ints(ranges.map((range) => range[key]));
    // To ONNX -1 is the last element; what lies far before the first is as good as -1 is here.
    const ends = graph.ints(ranges.map(({ end }) => (end < 0 ? -(2 ** 31) : end)));
    return graph.node('Slice', [x, all('start'), ends, all('axis'), all('stride')]);
  }
  return ranges.reduce((value, range) => {
    const { axis, start, stride } = range;
    const indices = Int32Array.from({ length: countOf(range) }, (_, i) => start + i * stride);
    return graph.node('Gather', [value, graph.initializer(indices, [indices.length], 'int32')], { axis });
  }, x);
}

export const transposeOp: Op<[Tensor], { permutation: readonly number[] }> = {
  name: 'transpose',
  infer: ([x], { permutation }) => [{ shape: permutation.map((axis) => x.shape[axis] as number), dtype: x.dtype }],
  emit: (graph, inputs, { inputs: [{ dtype }], attributes }) => [
    asIntegers(graph, inputs, dtype, (x) => graph.node('Transpose', x, { perm: attributes.permutation })),
  ],
  vjp: ([g], { attributes: { permutation } }) => [
    transpose(
      g,
      permutation.map((_, axis) => permutation.indexOf(axis)),
    ),
  ],
  // A transpose of a transpose needs only one, or none.
  rewrite: ({ inputs: [x], attributes: { permutation } }) => {
    if (x.node.op !== transposeOp) return undefined;
    const before = (x.node.attributes as { permutation: readonly number[] }).permutation;
    return [
      transpose(
        x.node.inputs[0] as Tensor,
        permutation.map((axis) => before[axis] as number),
      ),
    ];
  },
};

/**
 * Reorders axes: axis `i` of the result is axis `permutation[i]` of `x`. Default: the last two change places.
 *
 * @example
 * ```ts
 * import { transpose, type Tensor } from 'tracegrad';
 *
 * const toChannelsLast = (x: Tensor) => transpose(x, [0, 2, 3, 1]);
 * ```
 */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const { rank } = checkTensor('transpose', 'x', x);
  if (!permutation && rank < 2) throw outOfRange('transpose', 'x', 'at least two axes', x);
  if (permutation && !Array.isArray(permutation)) throw wrongType('transpose', 'permutation', 'a list of axes', permutation);
  const identity = x.shape.map((_, axis) => axis);
  const axes = permutation
    ? permutation.map((axis) => normalizeAxis('transpose', axis, rank, 'permutation'))
    : [...identity.slice(0, -2), rank - 1, rank - 2];
  if (axes.length !== rank || new Set(axes).size !== rank) {
    throw outOfRange('transpose', 'permutation', `every axis of x ([${x.shape.join(', ')}]) once`, permutation);
  }
  if (sameShape(axes, identity)) return x;
  return apply(transposeOp, [x], { permutation: axes })[0];
}

const concatOp: Op<readonly Tensor[], { axis: number }> = {
  name: 'concat',
  infer: (inputs, { axis }) => {
    const [first] = inputs as [Tensor];
    const total = inputs.reduce((size, x) => size + (x.shape[axis] as number), 0);
    return [{ shape: first.shape.map((size, i) => (i === axis ? total : size)), dtype: first.dtype }];
  },
  emit: (graph, inputs, { outputs: [{ dtype }], attributes }) => [
    asIntegers(graph, inputs, dtype, (parts) => graph.node('Concat', parts, { axis: attributes.axis })),
  ],
  vjp: ([g], { inputs, attributes: { axis } }) =>
    split(
      g,
      inputs.map((x) => x.shape[axis] as number),
      { axis },
    ),
};

/**
 * Joins Tensors along an existing axis.
 *
 * @param tensors at least one; equal in dtype and in every axis but `axis`
 * @param options.axis default 0
 */
export function concat(tensors: readonly Tensor[], options: { axis?: number } = {}): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0) throw wrongType('concat', 'tensors', 'a list of Tensors', tensors);
  checkOptions('concat', options, ['axis']);
  const [first] = tensors as [Tensor];
  checkTensor('concat', 'tensors[0]', first);
  const axis = normalizeAxis('concat', options.axis ?? 0, first.rank);
  tensors.forEach((x: Tensor, i) => {
    checkTensor('concat', `tensors[${i}]`, x);
    if (x.dtype !== first.dtype || x.rank !== first.rank || x.shape.some((size, k) => k !== axis && size !== first.shape[k])) {
      throw outOfRange('concat', `tensors[${i}]`, `${first.dtype}[${first.shape.join(', ')}] but for axis ${axis}`, x);
    }
  });
  return tensors.length === 1 ? first : apply(concatOp, [...tensors], { axis })[0];
}

const splitOp: Op<[Tensor], { sizes: readonly number[]; axis: number }, readonly Tensor[]> = {
  name: 'split',
  infer: ([x], { sizes, axis }) => sizes.map((size) => ({ shape: x.shape.map((s, i) => (i === axis ? size : s)), dtype: x.dtype })),
  emit: (graph, [x], { inputs: [{ dtype }], attributes: { sizes, axis } }) => {
    if (sizes.length <= 4 && dtype !== 'bool') return graph.nodes('Split', [x, graph.ints(sizes)], sizes.length, { axis });
    // Many outputs exceed WebGPU's buffer limit.
    let start = 0;
    return sizes.map((size) => {
      start += size;
      return emitSlice(graph, x, dtype, [{ axis, start: start - size, end: start, stride: 1 }]);
    });
  },
  vjp: (cotangents, { outputs, attributes: { axis } }) => [
    concat(
      cotangents.map((g, i) => g ?? zerosLike(outputs[i] as Tensor)),
      { axis },
    ),
  ],
};

/**
 * Cuts `x` along an axis.
 *
 * @param sections the number of equal parts, or the size of every part (adding up to the axis)
 * @param options.axis default 0
 */
export function split(x: Tensor, sections: number | readonly number[], options: { axis?: number } = {}): Tensor[] {
  checkOptions('split', options, ['axis']);
  const axis = normalizeAxis('split', options.axis ?? 0, checkTensor('split', 'x', x).rank);
  const size = x.shape[axis] as number;
  const sizes = Array.isArray(sections) ? sections : equalParts(size, sections as number);
  if (sizes.length === 0 || sizes.some((s) => !Number.isInteger(s) || s < 0) || sizes.reduce((a, b) => a + b, 0) !== size) {
    throw outOfRange('split', 'sections', `parts of axis ${axis}, which has size ${size}`, sections);
  }
  return sizes.length === 1 ? [x] : [...apply(splitOp, [x], { sizes: [...sizes], axis })];
}

/** Sizes of `count` equal parts; none for what is no count. */
const equalParts = (size: number, count: number): number[] =>
  Number.isInteger(count) && count > 0 ? Array<number>(count).fill(size / count) : [];

interface SliceAttributes {
  starts: readonly number[];
  ends: readonly number[];
  strides: readonly number[];
}

const rangeAlong = ({ starts, ends, strides }: SliceAttributes, axis: number): Range => ({
  axis,
  start: starts[axis] as number,
  end: ends[axis] as number,
  stride: strides[axis] as number,
});

const sliceOp: Op<[Tensor], SliceAttributes> = {
  name: 'slice',
  infer: ([x], attributes) => [{ shape: x.shape.map((_, axis) => countOf(rangeAlong(attributes, axis))), dtype: x.dtype }],
  emit: (graph, [x], { inputs: [{ shape, dtype }], attributes }) => {
    const ranges = shape.map((_, axis) => rangeAlong(attributes, axis));
    // Backwards WebGPU's kernel starts with the last element, whatever the start: there the others are cut off first.
    const inner = ranges.filter(({ axis, start, stride }) => stride < 0 && start + 1 !== shape[axis] && graph.device === 'webgpu');
    const cut = inner.map(({ axis, start }): Range => ({ axis, start: 0, end: start + 1, stride: 1 }));
    const partial = ranges.filter(({ axis, start, end, stride }) => start !== 0 || end !== shape[axis] || stride !== 1);
    return [emitSlice(graph, emitSlice(graph, x, dtype, cut), dtype, partial)];
  },
  vjp: ([g], { inputs: [x], attributes: { starts, strides } }) => {
    // What was taken backwards is turned round; its last element is the lowest.
    const backwards = strides.flatMap((stride, axis) => (stride < 0 ? [axis] : []));
    const spread = dilate(
      flip(g, { axis: backwards }),
      strides.map((stride) => Math.abs(stride)),
    );
    return [
      padConstant(
        spread,
        x.shape.map((size, axis) => {
          const length = spread.shape[axis] as number;
          const before = (starts[axis] as number) - ((strides[axis] as number) < 0 ? length - 1 : 0);
          return [before, size - before - length];
        }),
      ),
    ];
  },
};

/** {@link slice} along one axis: from `start` to `end`, which is -1 to take element 0 with a negative stride. */
export function sliceAxis(x: Tensor, axis: number, start: number, end: number, stride = 1): Tensor {
  const along = (value: number, rest: readonly number[]) => rest.map((other, i) => (i === axis ? value : other));
  const zeros = x.shape.map(() => 0);
  const ones = x.shape.map(() => 1);
  return sliceOf(x, { starts: along(start, zeros), ends: along(end, x.shape), strides: along(stride, ones) });
}

function sliceOf(x: Tensor, attributes: SliceAttributes): Tensor {
  const { starts, ends, strides } = attributes;
  const whole = x.shape.every((size, i) => starts[i] === 0 && ends[i] === size && strides[i] === 1);
  return whole ? x : apply(sliceOp, [x], attributes)[0];
}

/** Puts `strides[axis] - 1` zeros between neighbours along every axis. */
export function dilate(x: Tensor, strides: readonly number[]): Tensor {
  const axis = strides.findIndex((stride, i) => stride > 1 && (x.shape[i] as number) > 1);
  if (axis < 0) return x;
  const stride = strides[axis] as number;
  const size = x.shape[axis] as number;
  const outer = x.shape.slice(0, axis);
  const inner = x.shape.slice(axis + 1);
  const padded = padConstant(reshape(x, [...outer, size, 1, ...inner]), [...outer.map(none), [0, 0], [0, stride - 1], ...inner.map(none)]);
  const long = reshape(padded, [...outer, size * stride, ...inner]);
  return dilate(
    sliceAxis(long, axis, 0, size * stride - stride + 1),
    strides.map((s, i) => (i === axis ? 1 : s)),
  );
}

const none = (): Sides => [0, 0];

/**
 * The elements from `starts` (inclusive) to `ends` (exclusive), every `strides`-th, axis by axis: NumPy's
 * `x[start:end:stride]`, but that ranges must lie within the axis. Negative starts and ends count from the end. A negative
 * stride goes from start down to end: start is then the larger one, and an end of `-size - 1` takes element 0 too. To
 * reverse whole axes see {@link flip}.
 *
 * @param starts one integer per axis
 * @param ends one integer per axis
 * @param strides one integer per axis, not 0; default 1
 * @throws unless `0 <= start <= end <= size`, or `-1 <= end <= start < size` with a negative stride, counted from the front
 * @example
 * ```ts
 * import { slice, type Tensor } from 'tracegrad';
 *
 * const topLeft = (x: Tensor) => slice(x, [0, 0, 0, 0], [x.shape[0]!, x.shape[1]!, 8, 8]);
 * const lastThreeBackwards = (x: Tensor) => slice(x, [-1], [-4], [-1]);
 * ```
 */
export function slice(
  x: Tensor,
  starts: readonly number[],
  ends: readonly number[],
  strides: readonly number[] = Array.from(starts ?? [], () => 1),
): Tensor {
  checkTensor('slice', 'x', x);
  for (const [name, list] of Object.entries({ starts, ends, strides })) {
    if (!Array.isArray(list) || list.length !== x.rank || !list.every(Number.isInteger)) {
      throw wrongType('slice', name, `${x.rank} integers, one per axis of x`, list);
    }
  }
  const fromFront = (list: readonly number[]) => list.map((index, i) => (index < 0 ? index + (x.shape[i] as number) : index));
  const attributes = { starts: fromFront(starts), ends: fromFront(ends), strides: [...strides] };
  x.shape.forEach((size, i) => {
    const { start, end, stride } = rangeAlong(attributes, i);
    if (stride === 0) throw outOfRange('slice', `strides[${i}]`, 'an integer other than 0', stride);
    if (stride > 0 ? start < 0 || end > size || start > end : end < -1 || start >= size || end > start) {
      const allowed = stride > 0 ? `0 <= start <= end <= ${size}` : `-1 <= end <= start < ${size}, counted from the front,`;
      throw outOfRange('slice', `axis ${i}`, `${allowed} with stride ${stride}`, [starts[i] as number, ends[i] as number]);
    }
  });
  return sliceOf(x, attributes);
}

/**
 * Reverses the order of elements along axes.
 *
 * @param options.axis which; default: all
 */
export function flip(x: Tensor, options: { axis?: number | readonly number[] } = {}): Tensor {
  checkTensor('flip', 'x', x);
  checkOptions('flip', options, ['axis']);
  const axes = normalizeAxes('flip', options.axis, x.rank).filter((axis) => (x.shape[axis] as number) > 1);
  return sliceOf(x, {
    starts: x.shape.map((size, i) => (axes.includes(i) ? size - 1 : 0)),
    ends: x.shape.map((size, i) => (axes.includes(i) ? -1 : size)),
    strides: x.shape.map((_, i) => (axes.includes(i) ? -1 : 1)),
  });
}

const padOp: Op<[Tensor], { before: Shape; after: Shape; value: number }> = {
  name: 'pad',
  infer: ([x], { before, after }) => [
    { shape: x.shape.map((size, i) => size + (before[i] as number) + (after[i] as number)), dtype: x.dtype },
  ],
  emit: (graph, inputs, { inputs: [x], attributes: { before, after, value } }) => [
    asIntegers(graph, inputs, x.dtype, (source, dtype) =>
      // With the axes named ONNX Runtime does not make it padding of the pooling or convolution that follows, which pads otherwise.
      graph.node('Pad', [...source, graph.ints([...before, ...after]), graph.scalar(value, dtype), graph.ints(before.map((_, i) => i))]),
    ),
  ],
  vjp: ([g], { inputs: [x], attributes: { before } }) => [
    sliceOf(g, { starts: before, ends: x.shape.map((size, i) => size + (before[i] as number)), strides: x.shape.map(() => 1) }),
  ],
};

type Sides = readonly [before: number, after: number];

/** {@link pad} with a constant, for callers that know what they pass. */
export function padConstant(x: Tensor, padding: readonly Sides[], value = 0): Tensor {
  if (padding.every(([before, after]) => before === 0 && after === 0)) return x;
  return apply(padOp, [x], { before: padding.map(([before]) => before), after: padding.map(([, after]) => after), value })[0];
}

export interface PadOptions {
  /**
   * What the new elements are. `'constant'` (default): `value`; `'reflect'`: those next to the edge in reverse order, the edge itself not
   * repeated; `'edge'`: the outermost element again and again (PyTorch's `'replicate'`).
   */
  mode?: 'constant' | 'reflect' | 'edge';
  /** Of mode `'constant'`. Default 0. */
  value?: number;
}

/**
 * Puts new elements around `x`.
 *
 * @param padding `[before, after]` for every axis, integers >= 0
 * @throws if an axis is too short: reflection takes elements that are there, each once, and an edge needs one
 * @example
 * ```ts
 * import { pad, type Tensor } from 'tracegrad';
 *
 * const frame = (image: Tensor) => pad(image, [[0, 0], [0, 0], [1, 1], [1, 1]], { mode: 'reflect' });
 * ```
 */
export function pad(x: Tensor, padding: readonly (readonly [number, number])[], options: PadOptions = {}): Tensor {
  checkTensor('pad', 'x', x);
  checkOptions('pad', options, ['mode', 'value']);
  const { mode = 'constant', value = 0 } = options;
  checkOneOf('pad', 'mode', mode, ['constant', 'reflect', 'edge']);
  const isInt32 = (n: number) => Number.isInteger(n) && Math.abs(n) < 2 ** 31;
  if (x.dtype === 'int32') checkNumber('pad', 'value', value, 'an integer of 32 bits, as x is int32', isInt32);
  else if (x.dtype === 'bool') checkNumber('pad', 'value', value, '0 or 1, as x is bool', (n) => n === 0 || n === 1);
  else checkNumber('pad', 'value', value, `a finite number of ${x.dtype}`, (n) => Math.abs(n) <= largestOf(x.dtype));
  if (mode !== 'constant' && options.value !== undefined) throw outOfRange('pad', 'value', `no value, as mode is '${mode}'`, value);
  if (
    !Array.isArray(padding) ||
    padding.length !== x.rank ||
    padding.some((p) => !Array.isArray(p) || p.length !== 2 || p.some((n: number) => !Number.isInteger(n) || n < 0))
  ) {
    throw wrongType('pad', 'padding', `${x.rank} pairs of integers >= 0, one per axis of x`, padding);
  }
  if (mode === 'constant') return padConstant(x, padding, value);
  return padding.reduce((part: Tensor, sides, axis) => padAxis(part, axis, sides, mode), x);
}

function padAxis(x: Tensor, axis: number, sides: Sides, mode: 'reflect' | 'edge'): Tensor {
  const size = x.shape[axis] as number;
  const longest = size === 0 ? 0 : mode === 'reflect' ? size - 1 : Infinity;
  if (Math.max(...sides) > longest) {
    throw outOfRange('pad', `padding[${axis}]`, `at most ${longest} with mode '${mode}', as axis ${axis} has size ${size}`, sides);
  }
  const [before, after] = sides;
  if (before + after === 0) return x;
  const filler = (count: number, edge: number, reflected: () => Tensor): Tensor[] => {
    if (count === 0) return [];
    if (mode === 'reflect') return [reflected()];
    const shape = x.shape.map((s, i) => (i === axis ? count : s));
    return [broadcastTo(sliceAxis(x, axis, edge, edge + 1), shape)];
  };
  const inFront = filler(before, 0, () => sliceAxis(x, axis, before, 0, -1));
  const behind = filler(after, size - 1, () => sliceAxis(x, axis, size - 2, size - 2 - after, -1));
  return concat([...inFront, x, ...behind], { axis });
}
