import type { NDArray } from '../../src/core/array.js';
import { fromFloat16Bits } from '../../src/core/dtype.js';
import { topologicalOrder } from '../../src/core/graph.js';
import type { Node, Tensor } from '../../src/core/tensor.js';

/** An array of the reference: float64 whatever the dtype; bool is 0 and 1. */
export interface RefArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What a node of the trace computes, from the definition of its op. */
type Rule = (inputs: readonly RefArray[], node: Node) => readonly RefArray[];

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const scalar = (value: number): RefArray => ({ shape: [], data: Float64Array.of(value) });

/** An array of the host as the reference sees it. */
export const fromArray = ({ shape, data, dtype }: NDArray): RefArray => ({
  shape,
  data: dtype === 'float16' ? Float64Array.from(data, fromFloat16Bits) : Float64Array.from(data),
});

/** An array of `shape` with the element `at(index)` at every index. The index is reused: do not keep it. */
function build(shape: readonly number[], at: (index: readonly number[]) => number): RefArray {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = at(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if (index[axis] !== shape[axis]) break;
      index[axis] = 0;
    }
  }
  return { shape, data };
}

const filled = (shape: readonly number[], value: number): RefArray => ({ shape, data: new Float64Array(sizeOf(shape)).fill(value) });

/** Position of an element, row-major. */
const offset = (shape: readonly number[], index: readonly number[]): number =>
  shape.reduce((position, size, axis) => position * size + (index[axis] as number), 0);

/** The element at `index`. */
function at(x: RefArray, ...index: readonly number[]): number {
  const value = x.data[offset(x.shape, index)];
  if (value === undefined) throw new Error(`reference: no element [${index.join(', ')}] in shape [${x.shape.join(', ')}]`);
  return value;
}

function addAt(x: RefArray, index: readonly number[], value: number): void {
  const position = offset(x.shape, index);
  x.data[position] = (x.data[position] as number) + value;
}

/** Calls `visit` with every index of `shape`. */
const forEachIndex = (shape: readonly number[], visit: (index: readonly number[]) => void): void => {
  build(shape, (index) => {
    visit(index);
    return 0;
  });
};

/** The element that stands at `index` once `x` is broadcast to the rank of the index. */
function atBroadcast({ shape, data }: RefArray, index: readonly number[]): number {
  const extra = index.length - shape.length;
  let position = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis] as number;
    position = position * size + (size === 1 ? 0 : (index[extra + axis] as number));
  }
  return data[position] as number;
}

const replaced = (index: readonly number[], axis: number, value: number): number[] => index.map((i, k) => (k === axis ? value : i));

const outputShape = (node: Node, output = 0): readonly number[] => (node.outputs[output] as Tensor).shape;

/** A rule of an op with one output. */
const single =
  <A>(compute: (inputs: readonly RefArray[], attributes: A, node: Node) => RefArray): Rule =>
  (inputs, node) => [compute(inputs, node.attributes as A, node)];

/** A broadcasting op. Its shape is found here, not taken from the trace. */
const elementwise = (f: (...x: number[]) => number): Rule =>
  single((inputs) => {
    const rank = Math.max(...inputs.map((x) => x.shape.length));
    const shape = Array.from({ length: rank }, (_, axis) => {
      const sizes = inputs.map((x) => x.shape[axis - rank + x.shape.length] ?? 1);
      return sizes.find((size) => size !== 1) ?? 1;
    });
    return build(shape, (index) => f(...inputs.map((x) => atBroadcast(x, index))));
  });

/** An op that reduces `axes` to size 1; `f` gets the elements of one group. */
const reduction = (f: (elements: readonly number[]) => number): Rule =>
  single<{ axes: readonly number[] }>(([x], { axes }) => {
    const source = x as RefArray;
    const kept = source.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
    const groups = Array.from({ length: sizeOf(kept) }, (): number[] => []);
    forEachIndex(source.shape, (index) => {
      groups[
        offset(
          kept,
          index.map((i, axis) => (axes.includes(axis) ? 0 : i)),
        )
      ]?.push(at(source, ...index));
    });
    return { shape: kept, data: Float64Array.from(groups, f) };
  });

/** The error function to full precision, by a series of terms of one sign. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
}

const gelu = (x: number, approximate: string): number =>
  approximate === 'tanh'
    ? 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
    : 0.5 * x * (1 + erf(x / Math.SQRT2));

function logSumExp(elements: readonly number[]): number {
  const top = Math.max(...elements);
  if (!Number.isFinite(top)) return top;
  return top + Math.log(elements.reduce((total, x) => total + Math.exp(x - top), 0));
}

/** Sliding windows, as the attributes of convolutions and poolings give them; padding is that before every axis, then that after. */
interface Window {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly padding: readonly number[];
}

/** What a tap of a window sees: a position of an image of `size`, or undefined in the padding. */
function seenBy({ stride, dilation, padding }: Window, size: readonly number[], window: readonly number[], tap: readonly number[]) {
  const position = size.map(
    (_, axis) =>
      (window[axis] as number) * (stride[axis] as number) + (tap[axis] as number) * (dilation[axis] as number) - (padding[axis] as number),
  );
  return position.every((i, axis) => i >= 0 && i < (size[axis] as number)) ? position : undefined;
}

const windowsOver = (size: readonly number[], { kernel, stride, dilation, padding }: Window): number[] =>
  size.map((length, axis) => {
    const spanned = (dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;
    const padded = length + (padding[axis] as number) + (padding[axis + size.length] as number);
    let count = 0;
    for (let start = 0; start + spanned <= padded; start += stride[axis] as number) count++;
    return count;
  });

interface Convolution extends Window {
  readonly groups: number;
}

/**
 * Visits every product of a convolution of images `[batch, channels, ...size]` by kernels `[out, channels / groups, ...kernel]`: the positions of
 * its three elements in the data of image, weight and result.
 */
function forEachProduct(
  window: Convolution,
  [batch, channels, ...size]: readonly number[],
  [out, inner, ...kernel]: readonly number[],
  [, , ...windows]: readonly number[],
  visit: (image: number, weight: number, result: number) => void,
): void {
  // Pairs of a tap and a pixel that meet, for every window.
  const meetings: (readonly [number, number])[][] = [];
  forEachIndex(windows, (position) => {
    const pairs: (readonly [number, number])[] = [];
    forEachIndex(kernel, (tap) => {
      const seen = seenBy(window, size, position, tap);
      if (seen) pairs.push([offset(kernel, tap), offset(size, seen)]);
    });
    meetings.push(pairs);
  });
  const [pixels, taps] = [sizeOf(size), sizeOf(kernel)];
  forEachIndex([batch as number, out as number], ([n, o]) => {
    const group = Math.floor((o as number) / ((out as number) / window.groups));
    meetings.forEach((pairs, position) => {
      const result = ((n as number) * (out as number) + (o as number)) * meetings.length + position;
      for (let c = 0; c < (inner as number); c++) {
        const image = ((n as number) * (channels as number) + group * (inner as number) + c) * pixels;
        const weight = ((o as number) * (inner as number) + c) * taps;
        for (const [tap, pixel] of pairs) visit(image + pixel, weight + tap, result);
      }
    });
  });
}

/** Adds its bias to every channel. */
const withBias = (y: RefArray, bias: RefArray | undefined): RefArray =>
  bias ? build(y.shape, (index) => at(y, ...index) + at(bias, index[1] as number)) : y;

/**
 * One entry per op. A new op needs one here before its tests can run.
 */
const rules: Readonly<Record<string, Rule>> = {
  // constant.ts
  scalar: single<{ value: number }>((_, { value }) => scalar(value)),
  constant: single<NDArray>((_, value) => fromArray(value)),
  arange: single<{ length: number }>((_, { length }) => build([length], ([i]) => i as number)),

  // broadcast.ts
  reshape: single<{ shape: readonly number[] }>(([x], { shape }) => ({ shape, data: (x as RefArray).data })),
  broadcastTo: single<{ shape: readonly number[] }>(([x], { shape }) => build(shape, (index) => atBroadcast(x as RefArray, index))),
  sum: reduction((elements) => elements.reduce((a, b) => a + b, 0)),

  // elementwise.ts
  add: elementwise((a, b) => (a as number) + (b as number)),
  sub: elementwise((a, b) => (a as number) - (b as number)),
  mul: elementwise((a, b) => (a as number) * (b as number)),
  div: (inputs, node) => {
    const integer = (node.outputs[0] as Tensor).dtype === 'int32';
    return elementwise((a, b) => (integer ? Math.trunc((a as number) / (b as number)) : (a as number) / (b as number)))(inputs, node);
  },
  maximum: elementwise(Math.max),
  minimum: elementwise(Math.min),
  neg: elementwise((x) => -(x as number)),
  exp: elementwise((x) => Math.exp(x as number)),
  log: elementwise((x) => Math.log(x as number)),
  sqrt: elementwise((x) => Math.sqrt(x as number)),
  tanh: elementwise((x) => Math.tanh(x as number)),
  sigmoid: elementwise((x) => 1 / (1 + Math.exp(-(x as number)))),
  relu: elementwise((x) => Math.max(x as number, 0)),
  erf: elementwise((x) => erf(x as number)),
  square: elementwise((x) => (x as number) ** 2),
  expm1: elementwise((x) => Math.expm1(x as number)),
  log1p: elementwise((x) => Math.log1p(x as number)),
  abs: elementwise((x) => Math.abs(x as number)),
  sign: elementwise((x) => Math.sign(x as number)),
  reciprocal: elementwise((x) => 1 / (x as number)),
  rsqrt: elementwise((x) => 1 / Math.sqrt(x as number)),
  sin: elementwise((x) => Math.sin(x as number)),
  cos: elementwise((x) => Math.cos(x as number)),
  floor: elementwise((x) => Math.floor(x as number)),
  ceil: elementwise((x) => Math.ceil(x as number)),
  // The even one of two neighbours: what a quotient of a half leaves.
  round: elementwise((x) => {
    const value = x as number;
    return value % 1 === 0.5 || value % 1 === -0.5 ? 2 * Math.round(value / 2) : Math.round(value);
  }),
  pow: elementwise((a, b) => (a as number) ** (b as number)),
  clip: (inputs, node) => {
    const { min, max } = node.attributes as { min: number; max: number };
    return elementwise((x) => Math.min(Math.max(x as number, min), max))(inputs, node);
  },
  gelu: (inputs, node) => {
    const { approximate } = node.attributes as { approximate: string };
    return elementwise((x) => gelu(x as number, approximate))(inputs, node);
  },

  // reduce.ts, softmax.ts
  max: reduction((elements) => Math.max(...elements)),
  prod: reduction((elements) => elements.reduce((a, b) => a * b, 1)),
  argMax: (inputs, node) => {
    const { axis } = node.attributes as { axis: number };
    const axes = { ...node, attributes: { axes: [axis] } };
    return reduction((elements) => elements.indexOf(Math.max(...elements)))(inputs, axes);
  },
  logSumExp: reduction(logSumExp),
  softmax: single<{ axis: number }>(([x], { axis }) => {
    const source = x as RefArray;
    return build(source.shape, (index) => {
      const line = Array.from({ length: source.shape[axis] as number }, (_, i) => at(source, ...replaced(index, axis, i)));
      return Math.exp(at(source, ...index) - logSumExp(line));
    });
  }),

  // sort.ts
  topIndices: single<{ k: number; axis: number; largest: boolean }>(([x], { k, axis, largest }) => {
    const source = x as RefArray;
    const result = filled(replaced(source.shape, axis, k), 0);
    forEachIndex(replaced(source.shape, axis, 1), (line) => {
      const values = Array.from({ length: source.shape[axis] as number }, (_, i) => at(source, ...replaced(line, axis, i)));
      // The place of an element is the number of those that come before it.
      values.forEach((value, i) => {
        const ahead = values.filter((other, j) => (other === value ? j < i : largest ? other > value : other < value)).length;
        if (ahead < k) addAt(result, replaced(line, axis, ahead), i);
      });
    });
    return result;
  }),

  // cumulative.ts
  cumsum: single<{ axis: number; exclusive: boolean; reverse: boolean }>(([x], { axis, exclusive, reverse }) => {
    const source = x as RefArray;
    const size = source.shape[axis] as number;
    const result = filled(source.shape, 0);
    forEachIndex(replaced(source.shape, axis, 1), (line) => {
      let total = 0;
      for (let i = 0; i < size; i++) {
        const index = replaced(line, axis, reverse ? size - 1 - i : i);
        const before = total;
        total += at(source, ...index);
        addAt(result, index, exclusive ? before : total);
      }
    });
    return result;
  }),

  // linalg.ts
  matmul: single(([a, b]) => {
    const [x, y] = [a as RefArray, b as RefArray];
    const [rows, inner] = x.shape.slice(-2) as [number, number];
    const columns = y.shape.at(-1) as number;
    const rank = Math.max(x.shape.length, y.shape.length);
    const batch = Array.from({ length: rank - 2 }, (_, axis) => {
      const sizes = [x, y].map(({ shape }) => shape[axis - rank + shape.length] ?? 1);
      return sizes.find((size) => size !== 1) ?? 1;
    });
    return build([...batch, rows, columns], (index) => {
      const outer = index.slice(0, -2);
      const [i, j] = index.slice(-2) as [number, number];
      let total = 0;
      for (let k = 0; k < inner; k++) total += atBroadcast(x, [...outer, i, k]) * atBroadcast(y, [...outer, k, j]);
      return total;
    });
  }),

  // conv.ts, pool.ts
  conv: single<Convolution>(([image, kernels, bias], window) => {
    const [x, weight] = [image as RefArray, kernels as RefArray];
    const y = filled([x.shape[0] as number, weight.shape[0] as number, ...windowsOver(x.shape.slice(2), window)], 0);
    forEachProduct(window, x.shape, weight.shape, y.shape, (from, by, to) => {
      y.data[to] = (y.data[to] as number) + (x.data[from] as number) * (weight.data[by] as number);
    });
    return withBias(y, bias);
  }),
  convTranspose: single<Convolution & { size: readonly number[] }>(([image, kernels, bias], { size, ...window }) => {
    const [x, weight] = [image as RefArray, kernels as RefArray];
    const y = filled([x.shape[0] as number, (weight.shape[1] as number) * window.groups, ...size], 0);
    forEachProduct(window, y.shape, weight.shape, x.shape, (to, by, from) => {
      y.data[to] = (y.data[to] as number) + (x.data[from] as number) * (weight.data[by] as number);
    });
    return withBias(y, bias);
  }),
  maxPool: single<Window>(([image], window) => {
    const x = image as RefArray;
    const [batch, channels, ...size] = x.shape as [number, number, ...number[]];
    return build([batch, channels, ...windowsOver(size, window)], ([n, c, ...position]) => {
      let top = Number.NEGATIVE_INFINITY;
      forEachIndex(window.kernel, (tap) => {
        const seen = seenBy(window, size, position, tap);
        if (seen) top = Math.max(top, at(x, n as number, c as number, ...seen));
      });
      return top;
    });
  }),

  // indexing.ts
  expectRange: (inputs) => inputs,
  gather: single<{ axis: number }>(([x, indices], { axis }, node) => {
    const [source, at_] = [x as RefArray, indices as RefArray];
    const depth = at_.shape.length;
    return build(outputShape(node), (index) =>
      at(source, ...index.slice(0, axis), at(at_, ...index.slice(axis, axis + depth)), ...index.slice(axis + depth)),
    );
  }),
  scatterRows: single<{ shape: readonly number[] }>(([indices, updates], { shape }) => {
    const result = filled(shape, 0);
    forEachIndex((updates as RefArray).shape, (index) => {
      const [i, ...rest] = index as [number, ...number[]];
      addAt(result, [at(indices as RefArray, i), ...rest], at(updates as RefArray, ...index));
    });
    return result;
  }),
  takeAlongAxis: single<{ axis: number }>(([x, indices], { axis }) =>
    build((indices as RefArray).shape, (index) => at(x as RefArray, ...replaced(index, axis, at(indices as RefArray, ...index)))),
  ),
  scatterAlongAxis: single<{ shape: readonly number[]; axis: number }>(([indices, updates], { shape, axis }) => {
    const result = filled(shape, 0);
    forEachIndex((updates as RefArray).shape, (index) => {
      addAt(result, replaced(index, axis, at(indices as RefArray, ...index)), at(updates as RefArray, ...index));
    });
    return result;
  }),

  // select.ts
  equal: elementwise((a, b) => (a === b ? 1 : 0)),
  greater: elementwise((a, b) => ((a as number) > (b as number) ? 1 : 0)),
  greaterEqual: elementwise((a, b) => ((a as number) >= (b as number) ? 1 : 0)),
  less: elementwise((a, b) => ((a as number) < (b as number) ? 1 : 0)),
  lessEqual: elementwise((a, b) => ((a as number) <= (b as number) ? 1 : 0)),
  logicalAnd: elementwise((a, b) => (a && b ? 1 : 0)),
  logicalNot: elementwise((x) => (x ? 0 : 1)),
  isFinite: elementwise((x) => Number(Number.isFinite(x as number))),
  where: elementwise((condition, a, b) => (condition ? a : b) as number),
  cast: (inputs, node) => {
    const { dtype } = node.attributes as { dtype: string };
    const convert = (x: number) => (dtype === 'int32' ? Math.trunc(x) : dtype === 'bool' ? Number(x !== 0) : x);
    return elementwise((x) => convert(x as number))(inputs, node);
  },

  // movement.ts
  transpose: single<{ permutation: readonly number[] }>(([x], { permutation }) => {
    const source = x as RefArray;
    const shape = permutation.map((axis) => source.shape[axis] as number);
    return build(shape, (index) => at(source, ...permutation.map((_, axis) => index[permutation.indexOf(axis)] as number)));
  }),
  concat: single<{ axis: number }>((inputs, { axis }) => {
    const [first] = inputs as [RefArray];
    const total = inputs.reduce((size, x) => size + (x.shape[axis] as number), 0);
    return build(replaced(first.shape, axis, total), (index) => {
      let position = index[axis] as number;
      for (const x of inputs) {
        if (position < (x.shape[axis] as number)) return at(x, ...replaced(index, axis, position));
        position -= x.shape[axis] as number;
      }
      throw new Error('reference: concat: past the end');
    });
  }),
  split: ([x], node) => {
    const { sizes, axis } = node.attributes as { sizes: readonly number[]; axis: number };
    const source = x as RefArray;
    let start = 0;
    return sizes.map((size) => {
      const from = start;
      start += size;
      return build(replaced(source.shape, axis, size), (index) => at(source, ...replaced(index, axis, from + (index[axis] as number))));
    });
  },
  slice: single<{ starts: readonly number[]; ends: readonly number[]; strides: readonly number[] }>(([x], { starts, ends, strides }) => {
    const shape = starts.map((start, axis) => {
      let count = 0;
      const [end, stride] = [ends[axis] as number, strides[axis] as number];
      for (let i = start; stride > 0 ? i < end : i > end; i += stride) count++;
      return count;
    });
    return build(shape, (index) => at(x as RefArray, ...index.map((i, axis) => (starts[axis] as number) + i * (strides[axis] as number))));
  }),
  pad: single<{ before: readonly number[]; after: readonly number[]; value: number }>(([x], { before, after, value }) => {
    const source = x as RefArray;
    const shape = source.shape.map((size, axis) => (before[axis] as number) + size + (after[axis] as number));
    return build(shape, (index) => {
      const inner = index.map((i, axis) => i - (before[axis] as number));
      return inner.every((i, axis) => i >= 0 && i < (source.shape[axis] as number)) ? at(source, ...inner) : value;
    });
  }),

  // norm/layer-norm.ts
  layerNorm: ([x, weight, bias], node) => {
    const { axis, eps } = node.attributes as { axis: number; eps: number };
    const source = x as RefArray;
    const statistics = node.outputs[1] as Tensor;
    const group = (index: readonly number[]): number[] => {
      const elements: number[] = [];
      forEachIndex(source.shape.slice(axis), (inner) => elements.push(at(source, ...index.slice(0, axis), ...inner)));
      return elements;
    };
    const average = (elements: readonly number[]) => elements.reduce((a, b) => a + b, 0) / elements.length;
    const mean = build(statistics.shape, (index) => average(group(index)));
    const rstd = build(
      statistics.shape,
      (index) => 1 / Math.sqrt(average(group(index).map((e) => (e - atBroadcast(mean, index)) ** 2)) + eps),
    );
    const y = build(source.shape, (index) => {
      const normal = (at(source, ...index) - atBroadcast(mean, index)) * atBroadcast(rstd, index);
      const inner = index.slice(axis);
      return normal * (weight ? at(weight, ...inner) : 1) + (bias ? at(bias, ...inner) : 0);
    });
    return [y, mean, rstd];
  },

  // grad.ts, custom-vjp.ts, checkpoint.ts
  zeroAfter: () => [scalar(0)],
  stopGradient: (inputs) => inputs,
  identity: (inputs) => inputs,
  customVjp: (inputs, node) => {
    const declared = (node.attributes as { inputs: number }).inputs;
    return inputs.slice(declared, declared + node.outputs.length);
  },
};

const sameShape = (a: readonly number[], b: readonly number[]) => a.length === b.length && a.every((size, axis) => size === b[axis]);

/**
 * Computes a traced program in float64, from the definitions of its ops: nothing here is shared with what the ops emit,
 * and ONNX Runtime is not involved.
 *
 * @param values the leaves the outputs depend on; any other Tensor given here replaces what computes it
 * @throws for an op without a rule, a leaf without a value, or a node whose traced shape is not that of its result
 */
export function evaluate(outputs: readonly Tensor[], values: ReadonlyMap<Tensor, RefArray>): RefArray[] {
  const known = new Map(values);
  const resultOf = (tensor: Tensor): RefArray => {
    const value = known.get(tensor);
    if (!value) throw new Error(`reference: no value for an output of '${tensor.node.op.name}'`);
    return value;
  };
  for (const node of topologicalOrder(outputs, (tensor) => values.has(tensor))) {
    const { name } = node.op;
    if (node.op.leaf) throw new Error(`reference: no value for the leaf '${(node.attributes as { name?: string }).name ?? name}'`);
    const rule = rules[name];
    if (!rule) throw new Error(`reference: no rule for the op '${name}'; add one to test/support/reference.ts`);
    const results = rule(node.inputs.map(resultOf), node);
    node.outputs.forEach((tensor, i) => {
      const { shape, data } = results[i] as RefArray;
      if (!sameShape(shape, tensor.shape) || data.length !== sizeOf(shape)) {
        throw new Error(
          `reference: '${name}' was traced as [${tensor.shape.join(', ')}] but computes ${data.length} elements, [${shape.join(', ')}]`,
        );
      }
      if (!known.has(tensor)) known.set(tensor, results[i] as RefArray);
    });
  }
  return outputs.map(resultOf);
}
