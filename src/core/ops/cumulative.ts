import { checkBoolean, checkOptions, wrongType } from '../errors.js';
import { normalizeAxis, type Shape } from '../shape.js';
import { apply, checkFloat, checkTensor, type Emitter, type Op, type Tensor } from '../tensor.js';
import { blocksOf } from './broadcast.js';
import { mul } from './elementwise.js';
import { emitSlice, padConstant, sliceAxis } from './movement.js';

export interface CumulativeOptions {
  /** Default -1. */
  axis?: number;
  /** Every element stands for those before it, itself left out. Default false. */
  exclusive?: boolean;
  /** From the end to the start. Default false. */
  reverse?: boolean;
}

type Attributes = Required<CumulativeOptions>;

function attributesOf(fn: string, x: Tensor, options: CumulativeOptions): Attributes {
  checkOptions(fn, options, ['axis', 'exclusive', 'reverse']);
  const { axis = -1, exclusive = false, reverse = false } = options;
  checkBoolean(fn, 'exclusive', exclusive);
  checkBoolean(fn, 'reverse', reverse);
  return { axis: normalizeAxis(fn, axis, x.rank), exclusive, reverse };
}

/** Longest axis that is summed in one go: ONNX Runtime's kernel keeps one running sum, and on WebGPU takes quadratic time. */
const limitOn = (device: string): number => (device === 'webgpu' ? 64 : 512);

/** Writes running sums as those within blocks, plus the running sums of all blocks before. */
function emitCumsum(graph: Emitter, x: string, shape: Shape, dtype: 'float32' | 'int32', attributes: Attributes): string {
  const { axis, exclusive, reverse } = attributes;
  const running = (value: string, along: number) =>
    graph.node('CumSum', [value, graph.ints([along])], { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 });
  const size = shape[axis] as number;
  const limit = limitOn(graph.device);
  if (size <= limit) return running(x, axis);
  const { blocks, block } = blocksOf(size, limit);
  const [outer, inner] = [shape.slice(0, axis), shape.slice(axis + 1)];
  const pads = [...shape.map(() => 0), ...shape.map((_, i) => (i === axis ? blocks * block - size : 0))];
  const padded = blocks * block === size ? x : graph.node('Pad', [x, graph.ints(pads)]);
  const cut = graph.node('Reshape', [padded, graph.ints([...outer, blocks, block, ...inner])], { allowzero: 1 });
  const totals = graph.node('ReduceSum', [cut, graph.ints([axis + 1])], { keepdims: 0 });
  const before = emitCumsum(graph, totals, [...outer, blocks, ...inner], dtype, { axis, exclusive: true, reverse });
  const spread = graph.node('Unsqueeze', [before, graph.ints([axis + 1])]);
  const sums = graph.node('Add', [running(cut, axis + 1), spread]);
  const joined = graph.node('Reshape', [sums, graph.ints([...outer, blocks * block, ...inner])], { allowzero: 1 });
  return padded === x ? joined : emitSlice(graph, joined, dtype, [{ axis, start: 0, end: size, stride: 1 }]);
}

const cumsumOp: Op<[Tensor], Attributes> = {
  name: 'cumsum',
  infer: ([x]) => [x],
  emit: (graph, [x], { inputs: [{ shape, dtype }], attributes }) => {
    if (dtype !== 'float16') return [emitCumsum(graph, x, shape, dtype as 'float32' | 'int32', attributes)];
    return [graph.node('Cast', [emitCumsum(graph, graph.node('Cast', [x], { to: 1 }), shape, 'float32', attributes)], { to: 10 })];
  },
  vjp: ([g], { attributes }) => [apply(cumsumOp, [g], { ...attributes, reverse: !attributes.reverse })[0]],
};

/**
 * Running sum along an axis: element `i` of the result is the sum of elements 0 to `i`. Accurate in float32 for any length (summed in
 * blocks); float16 is summed in float32.
 *
 * @param x float or int32
 * @example
 * ```ts
 * import { cumsum, type Tensor } from 'tracegrad';
 *
 * const rewardsToGo = (rewards: Tensor) => cumsum(rewards, { axis: 1, reverse: true }); // [B, T]
 * ```
 */
export function cumsum(x: Tensor, options: CumulativeOptions = {}): Tensor {
  if (checkTensor('cumsum', 'x', x).dtype === 'bool') throw wrongType('cumsum', 'x', 'a numeric Tensor (cast a mask first)', x);
  return apply(cumsumOp, [x], attributesOf('cumsum', x, options))[0];
}

/**
 * Running product along an axis: element `i` of the result is the product of elements 0 to `i`. Its derivatives are right at zeros. Every
 * doubling of the length is one more multiplication of all elements.
 *
 * @param x float
 */
export function cumprod(x: Tensor, options: CumulativeOptions = {}): Tensor {
  checkFloat('cumprod', 'x', x);
  const { axis, exclusive, reverse } = attributesOf('cumprod', x, options);
  const size = x.shape[axis] as number;
  /** Elements moved by some places; 1 moves in. */
  const moved = (y: Tensor, by: number): Tensor => {
    const kept = reverse ? sliceAxis(y, axis, by, size) : sliceAxis(y, axis, 0, size - by);
    return padConstant(
      kept,
      x.shape.map((_, i) => (i !== axis ? [0, 0] : reverse ? [0, by] : [by, 0])),
      1,
    );
  };
  let products = exclusive && size > 0 ? moved(x, 1) : x;
  for (let reach = 1; reach < size; reach *= 2) products = mul(products, moved(products, reach));
  return products;
}
