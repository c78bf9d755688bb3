import type { NDArray } from '../array.js';
import { type DType, isFloat } from '../dtype.js';
import { checkNumber, checkOptions, outOfRange, wrongType } from '../errors.js';
import { normalizeAxis, type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkTensor, type Emitter, type Op, type RangeCheck, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { arange, constantOp } from './constant.js';
import { add } from './elementwise.js';
import { padConstant, slice, transpose } from './movement.js';
import { cast, equal } from './select.js';

const checkIndices = (fn: string, argument: string, value: unknown): Tensor => {
  const tensor = checkTensor(fn, argument, value);
  if (tensor.dtype !== 'int32') throw wrongType(fn, argument, 'an int32 Tensor', tensor);
  return tensor;
};

/** Throws at the first value outside a range. */
export function checkRange({ fn, argument, min, max, except }: RangeCheck, values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) {
    const item = values[i] as number;
    if ((item < min || item > max) && item !== except) {
      const allowed = except === undefined ? '' : ` or ${except}`;
      throw new RangeError(`${fn}: ${argument}: expected integers from ${min} to ${max}${allowed}, received ${item} at index ${i}`);
    }
  }
}

const expectRangeOp: Op<[Tensor], RangeCheck> = {
  name: 'expectRange',
  infer: ([x]) => [x],
  emit: (graph, inputs, { inputs: [x], attributes }) => {
    graph.check(x, attributes);
    return inputs;
  },
};

/**
 * Indices or labels that must lie in a range. Where `x` is an argument of the compiled function, its values are
 * checked on the host before every run and a bad one is an error that names it; devices would read it as 0 or
 * as garbage. Constants are checked at once; values computed inside the graph are not checked.
 */
export function expectRange(x: Tensor, check: RangeCheck): Tensor {
  checkIndices(check.fn, check.argument, x);
  if (x.node.op === constantOp) checkRange(check, (x.node.attributes as NDArray).data);
  return apply(expectRangeOp, [x], check)[0];
}

/** Zeros of `shape` to which rows are added: `result[indices[i]] += updates[i]`, repeated indices add up. */
const scatterRowsOp: Op<[Tensor, Tensor], { shape: Shape }> = {
  name: 'scatterRows',
  infer: ([, updates], { shape }) => [{ shape, dtype: updates.dtype }],
  emit: (graph, [indices, updates], { inputs, attributes: { shape } }) => {
    const { dtype } = inputs[1];
    return [
      widened(graph, updates, dtype, (wide, type) => {
        const zeros = graph.node('Expand', [graph.scalar(0, type), graph.ints(shape)]);
        if (graph.device === 'webgpu') {
          // ScatterND's int64 indices would be prepared on the CPU there.
          const count = inputs[0].shape[0] as number;
          const row = sizeOf(shape.slice(1));
          const flat = graph.node('Reshape', [zeros, graph.ints([shape[0] as number, row])], { allowzero: 1 });
          const column = graph.node('Reshape', [indices, graph.ints([count, 1])], { allowzero: 1 });
          const spread = graph.node('Expand', [column, graph.ints([count, row])]);
          const rows = graph.node('Reshape', [wide, graph.ints([count, row])], { allowzero: 1 });
          const sum = graph.node('ScatterElements', [flat, spread, rows], { axis: 0, reduction: 'add' });
          return graph.node('Reshape', [sum, graph.ints(shape)], { allowzero: 1 });
        }
        const tuples = graph.node('Unsqueeze', [graph.node('Cast', [indices], { to: 7 }), graph.ints([1])]);
        return graph.node('ScatterND', [zeros, tuples, wide], { reduction: 'add' });
      }),
    ];
  },
  vjp: ([g], { inputs: [indices] }) => [undefined, gather(g, indices)],
};

/** Scattering with addition has no float16 kernels: `body` gets float32 instead. */
function widened(graph: Emitter, x: string, dtype: DType, body: (wide: string, dtype: DType) => string): string {
  return dtype === 'float16' ? graph.node('Cast', [body(graph.node('Cast', [x], { to: 1 }), 'float32')], { to: 10 }) : body(x, dtype);
}

const gatherOp: Op<[Tensor, Tensor], { axis: number }> = {
  name: 'gather',
  infer: ([x, indices], { axis }) => [{ shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], dtype: x.dtype }],
  emit: (graph, inputs, { attributes }) => [graph.node('Gather', inputs, { axis: attributes.axis })],
  vjp: ([g], { inputs: [x, indices], attributes: { axis } }) => {
    // Bring the indexed axis to the front, add rows there, and put it back.
    const depth = indices.rank;
    const outer = x.shape.slice(0, axis).map((_, i) => i);
    const inner = x.shape.slice(axis + 1).map((_, i) => axis + depth + i);
    const front = transpose(g, [...indices.shape.map((_, i) => axis + i), ...outer, ...inner]);
    const rest = [...x.shape.slice(0, axis), ...x.shape.slice(axis + 1)];
    const count = sizeOf(indices.shape);
    const shape = [x.shape[axis] as number, ...rest];
    const [rows] = apply(scatterRowsOp, [reshape(indices, [count]), reshape(front, [count, ...rest])], { shape });
    return [transpose(rows, [...outer.map((i) => i + 1), 0, ...rest.slice(axis).map((_, i) => axis + 1 + i)]), undefined];
  },
};

/**
 * Takes slices of `x` along `axis` at `indices`: rows of an embedding table, for instance. Its gradient adds up the rows that
 * were taken more than once.
 *
 * @param x rank >= 1
 * @param indices int32 of any shape, each in `[0, size of axis)`; checked before every run where they are an argument
 *   of the compiled function. Computed ones are not checked: outside the range the CPU fails and WebGPU returns garbage
 * @param options.axis default 0
 * @returns `[...x.shape before axis, ...indices.shape, ...x.shape after axis]`
 * @example
 * ```ts
 * import { gather, type Tensor } from 'tracegrad';
 *
 * const lookUp = (table: Tensor, tokens: Tensor) => gather(table, tokens); // [V, D], [B, T] -> [B, T, D]
 * ```
 */
export function gather(x: Tensor, indices: Tensor, options: { axis?: number } = {}): Tensor {
  checkTensor('gather', 'x', x);
  checkOptions('gather', options, ['axis']);
  const axis = normalizeAxis('gather', options.axis ?? 0, x.rank);
  const range = { fn: 'gather', argument: 'indices', min: 0, max: (x.shape[axis] as number) - 1 };
  return apply(gatherOp, [x, expectRange(indices, range)], { axis })[0];
}

/** Zeros of `shape` to which elements are added along an axis; the transpose of takeAlongAxis. */
const scatterAlongAxisOp: Op<[Tensor, Tensor], { shape: Shape; axis: number }> = {
  name: 'scatterAlongAxis',
  infer: ([, updates], { shape }) => [{ shape, dtype: updates.dtype }],
  emit: (graph, [indices, updates], { inputs, attributes: { shape, axis } }) => [
    widened(graph, updates, inputs[1].dtype, (wide, type) => {
      const zeros = graph.node('Expand', [graph.scalar(0, type), graph.ints(shape)]);
      return graph.node('ScatterElements', [zeros, indices, wide], { axis, reduction: 'add' });
    }),
  ],
  vjp: ([g], { inputs: [indices], attributes: { axis } }) => [undefined, takeAlongAxis(g, indices, { axis })],
};

const takeAlongAxisOp: Op<[Tensor, Tensor], { axis: number }> = {
  name: 'takeAlongAxis',
  infer: ([x, indices]) => [{ shape: indices.shape, dtype: x.dtype }],
  emit: (graph, inputs, { inputs: [x], attributes: { axis } }) => {
    if (graph.device !== 'webgpu' || isFloat(x.dtype)) return [graph.node('GatherElements', inputs, { axis })];
    // Only floats have a kernel there; the others are gathered by their positions among all elements.
    const size = x.shape[axis] as number;
    const outer = x.shape.slice(0, axis);
    const inner = x.shape.slice(axis + 1);
    const step = sizeOf(inner);
    const lines = Int32Array.from({ length: sizeOf(outer) * step }, (_, i) => Math.floor(i / step) * size * step + (i % step));
    const along = graph.node('Mul', [inputs[1], graph.scalar(step, 'int32')]);
    const positions = graph.node('Add', [along, graph.initializer(lines, [...outer, 1, ...inner], 'int32')]);
    return [
      graph.node('Gather', [graph.node('Reshape', [inputs[0], graph.ints([sizeOf(x.shape)])], { allowzero: 1 }), positions], { axis: 0 }),
    ];
  },
  vjp: ([g], { inputs: [x, indices], attributes: { axis } }) => [
    apply(scatterAlongAxisOp, [indices, g], { shape: x.shape, axis })[0],
    undefined,
  ],
};

/** Indices of elements along an axis of `x`, checked; along the other axes they are as many as elements of `x`, or `fewer`. */
function indicesAlong(fn: string, x: Tensor, indices: Tensor, axis: number, fewer: boolean): Tensor {
  checkIndices(fn, 'indices', indices);
  const fits = (size: number, i: number) => i === axis || size === indices.shape[i] || (fewer && size > (indices.shape[i] as number));
  if (indices.rank !== x.rank || !x.shape.every(fits)) {
    throw outOfRange(
      fn,
      'indices',
      `the shape of x ([${x.shape.join(', ')}])${fewer ? ', or smaller,' : ''} but for axis ${axis}`,
      indices,
    );
  }
  return expectRange(indices, { fn, argument: 'indices', min: 0, max: (x.shape[axis] as number) - 1 });
}

/** What of `shape` indices along an axis reach. */
const reached = (shape: Shape, indices: Tensor, axis: number): number[] =>
  shape.map((size, i) => (i === axis ? size : (indices.shape[i] as number)));

/**
 * Picks one element per index along `axis`: `result[i, j] = x[i, indices[i, j]]` for axis 1. See {@link gatherElements} for indices
 * that are fewer.
 *
 * @param indices int32; equal to `x` in rank and, but for `axis`, in every size; values in `[0, size of axis)`, checked
 *   before every run where they are an argument of the compiled function
 * @param options.axis default -1
 */
export function takeAlongAxis(x: Tensor, indices: Tensor, options: { axis?: number } = {}): Tensor {
  checkTensor('takeAlongAxis', 'x', x);
  checkOptions('takeAlongAxis', options, ['axis']);
  const axis = normalizeAxis('takeAlongAxis', options.axis ?? -1, x.rank);
  return apply(takeAlongAxisOp, [x, indicesAlong('takeAlongAxis', x, indices, axis, false)], { axis })[0];
}

/**
 * Picks one element per index along `axis`, as `gather` of PyTorch and `GatherElements` of ONNX do: `result[i, j] = x[i, indices[i, j]]`
 * for axis 1. Unlike {@link takeAlongAxis} it lets indices leave out the last rows of `x`.
 *
 * @param indices int32; equal to `x` in rank and at most as large along every axis but `axis`; values in `[0, size of axis)`, checked
 *   before every run where they are an argument of the compiled function
 * @param options.axis default -1
 */
export function gatherElements(x: Tensor, indices: Tensor, options: { axis?: number } = {}): Tensor {
  checkTensor('gatherElements', 'x', x);
  checkOptions('gatherElements', options, ['axis']);
  const axis = normalizeAxis('gatherElements', options.axis ?? -1, x.rank);
  const places = indicesAlong('gatherElements', x, indices, axis, true);
  const part = slice(
    x,
    x.shape.map(() => 0),
    reached(x.shape, indices, axis),
  );
  return apply(takeAlongAxisOp, [part, places], { axis })[0];
}

/**
 * `x` with numbers added along `axis`: `result[i, indices[i, j]] += updates[i, j]` for axis 1. Updates at the same place add
 * up. The transpose of {@link gatherElements}. float16 is added up in float32.
 *
 * @param x float or int32
 * @param indices int32; equal to `x` in rank and at most as large along every axis but `axis`; values in `[0, size of axis)`, checked
 *   before every run where they are an argument of the compiled function
 * @param updates of the shape of `indices` and the dtype of `x`
 * @param options.axis default -1
 * @example
 * ```ts
 * import { ones, scatterAdd, type Tensor, zeros } from 'tracegrad';
 *
 * const histogram = (bins: Tensor) => scatterAdd(zeros([10]), bins, ones(bins.shape));
 * ```
 */
export function scatterAdd(x: Tensor, indices: Tensor, updates: Tensor, options: { axis?: number } = {}): Tensor {
  if (checkTensor('scatterAdd', 'x', x).dtype === 'bool') throw wrongType('scatterAdd', 'x', 'a numeric Tensor', x);
  checkOptions('scatterAdd', options, ['axis']);
  const axis = normalizeAxis('scatterAdd', options.axis ?? -1, x.rank);
  const places = indicesAlong('scatterAdd', x, indices, axis, true);
  if (!sameShape(checkTensor('scatterAdd', 'updates', updates).shape, indices.shape) || updates.dtype !== x.dtype) {
    throw outOfRange('scatterAdd', 'updates', `${x.dtype}[${indices.shape.join(', ')}], the shape of indices and the dtype of x`, updates);
  }
  const shape = reached(x.shape, indices, axis);
  const part = apply(scatterAlongAxisOp, [places, updates], { shape, axis })[0];
  return add(
    x,
    padConstant(
      part,
      x.shape.map((size, i) => [0, size - (shape[i] as number)]),
    ),
  );
}

/**
 * 1 at the index and 0 elsewhere, along a new last axis. An index outside `[0, depth)` gives a row of zeros.
 *
 * @param indices int32 of any shape
 * @param depth number of classes
 * @param options.dtype of the result, default float32
 * @returns `[...indices.shape, depth]`
 */
export function oneHot(indices: Tensor, depth: number, options: { dtype?: DType } = {}): Tensor {
  checkIndices('oneHot', 'indices', indices);
  checkOptions('oneHot', options, ['dtype']);
  checkNumber('oneHot', 'depth', depth, 'a positive integer', (n) => Number.isInteger(n) && n > 0);
  return cast(equal(reshape(indices, [...indices.shape, 1]), arange(depth)), options.dtype ?? 'float32');
}
