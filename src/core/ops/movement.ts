import { type DType, isFloat } from '../dtype.js';
import { checkNumber, checkOptions, outOfRange, wrongType } from '../errors.js';
import { normalizeAxis, type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkTensor, type Emitter, type Op, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
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

interface Range {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly stride: number;
}

/** The elements in a range of every axis that is named. WebGPU slices only floats: the others are gathered there. */
function emitSlice(graph: Emitter, x: string, dtype: DType, ranges: readonly Range[]): string {
  if (graph.device !== 'webgpu' || isFloat(dtype)) {
    const all = (key: keyof Range) => graph.ints(ranges.map((range) => range[key]));
    return graph.node('Slice', [x, all('start'), all('end'), all('axis'), all('stride')]);
  }
  return ranges.reduce((value, { axis, start, end, stride }) => {
    const indices = Int32Array.from({ length: Math.ceil((end - start) / stride) }, (_, i) => start + i * stride);
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

const sliceOp: Op<[Tensor], SliceAttributes> = {
  name: 'slice',
  infer: ([x], { starts, ends, strides }) => [
    { shape: starts.map((start, i) => Math.ceil(((ends[i] as number) - start) / (strides[i] as number))), dtype: x.dtype },
  ],
  emit: (graph, [x], { inputs, attributes: { starts, ends, strides } }) => {
    const { shape, dtype } = inputs[0];
    const ranges = shape.map(
      (_, axis): Range => ({ axis, start: starts[axis] as number, end: ends[axis] as number, stride: strides[axis] as number }),
    );
    const partial = ranges.filter(({ axis, start, end, stride }) => start !== 0 || end !== shape[axis] || stride !== 1);
    return [emitSlice(graph, x, dtype, partial)];
  },
  vjp: ([g], { inputs: [x], attributes: { starts, strides } }) => {
    const spread = dilate(g, strides);
    return [
      pad(
        spread,
        x.shape.map((size, i) => [starts[i] as number, size - (starts[i] as number) - (spread.shape[i] as number)]),
      ),
    ];
  },
};

/** Puts `strides[axis] - 1` zeros between neighbours along every axis. */
export function dilate(x: Tensor, strides: readonly number[]): Tensor {
  const axis = strides.findIndex((stride, i) => stride > 1 && (x.shape[i] as number) > 1);
  if (axis < 0) return x;
  const stride = strides[axis] as number;
  const size = x.shape[axis] as number;
  const outer = x.shape.slice(0, axis);
  const inner = x.shape.slice(axis + 1);
  const padded = pad(reshape(x, [...outer, size, 1, ...inner]), [...outer.map(none), [0, 0], [0, stride - 1], ...inner.map(none)]);
  const long = reshape(padded, [...outer, size * stride, ...inner]);
  const cut = slice(
    long,
    long.shape.map(() => 0),
    long.shape.map((s, i) => (i === axis ? s - stride + 1 : s)),
  );
  return dilate(
    cut,
    strides.map((s, i) => (i === axis ? 1 : s)),
  );
}

const none = (): [number, number] => [0, 0];

/**
 * The elements from `starts` (inclusive) to `ends` (exclusive), every `strides`-th, axis by axis.
 *
 * @param starts one per axis, `0 <= start <= end`; negative ones count from the end
 * @param ends one per axis, `<= size`; negative ones count from the end
 * @param strides one per axis, positive; default 1
 * @example
 * ```ts
 * import { slice, type Tensor } from 'tracegrad';
 *
 * const topLeft = (x: Tensor) => slice(x, [0, 0, 0, 0], [x.shape[0]!, x.shape[1]!, 8, 8]);
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
  const from = starts.map((start, i) => (start < 0 ? start + (x.shape[i] as number) : start));
  const to = ends.map((end, i) => (end < 0 ? end + (x.shape[i] as number) : end));
  x.shape.forEach((size, i) => {
    const [start, end] = [from[i] as number, to[i] as number];
    if (start < 0 || end > size || start > end) {
      throw outOfRange('slice', `axis ${i}`, `0 <= start <= end <= ${size}`, [starts[i] as number, ends[i] as number]);
    }
    if ((strides[i] as number) < 1) throw outOfRange('slice', `strides[${i}]`, 'a positive integer', strides[i]);
  });
  const whole = x.shape.every((size, i) => from[i] === 0 && to[i] === size && strides[i] === 1);
  return whole ? x : apply(sliceOp, [x], { starts: from, ends: to, strides: [...strides] })[0];
}

const padOp: Op<[Tensor], { before: Shape; after: Shape; value: number }> = {
  name: 'pad',
  infer: ([x], { before, after }) => [
    { shape: x.shape.map((size, i) => size + (before[i] as number) + (after[i] as number)), dtype: x.dtype },
  ],
  emit: (graph, inputs, { inputs: [x], attributes: { before, after, value } }) => [
    asIntegers(graph, inputs, x.dtype, (source, dtype) =>
      graph.node('Pad', [...source, graph.ints([...before, ...after]), graph.scalar(value, dtype)]),
    ),
  ],
  vjp: ([g], { inputs: [x], attributes: { before } }) => [
    slice(
      g,
      before,
      x.shape.map((size, i) => size + (before[i] as number)),
    ),
  ],
};

/**
 * Puts `value` around `x`.
 *
 * @param padding `[before, after]` for every axis, integers >= 0
 * @param value default 0
 */
export function pad(x: Tensor, padding: readonly (readonly [number, number])[], value = 0): Tensor {
  checkTensor('pad', 'x', x);
  if (x.dtype === 'int32') checkNumber('pad', 'value', value, 'an integer, as x is int32', Number.isInteger);
  checkNumber('pad', 'value', value, 'a finite number');
  if (
    !Array.isArray(padding) ||
    padding.length !== x.rank ||
    padding.some((p) => p.length !== 2 || p.some((n: number) => !Number.isInteger(n) || n < 0))
  ) {
    throw wrongType('pad', 'padding', `${x.rank} pairs of integers >= 0, one per axis of x`, padding);
  }
  const before = padding.map(([low]) => low);
  const after = padding.map(([, high]) => high);
  return sizeOf(x.shape.map((_, i) => 1 + (before[i] as number) + (after[i] as number))) === 1
    ? x
    : apply(padOp, [x], { before, after, value })[0];
}
