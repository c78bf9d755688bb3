import { allocate, type DType, type TypedArray, toFloat16Bits } from '../core/dtype.js';
import { outOfRange, wrongType } from '../core/errors.js';
import { topologicalOrder } from '../core/graph.js';
import { type HostCompute, type HostContext, hostInputOp } from '../core/leaf.js';
import { createRng, foldIn, keyFromSeed, type Rng } from '../core/rng.js';
import { sizeOf } from '../core/shape.js';
import type { Spec, Tensor } from '../core/tensor.js';

/** What host inputs are computed from, besides the number of their stream. */
export interface RunContext {
  readonly step: number;
  readonly seed: number;
}

/** The host inputs that `outputs` depend on, in the order of the trace. The place in this list is the number of the stream. */
export const hostInputsOf = (outputs: readonly Tensor[]): Tensor[] =>
  topologicalOrder(outputs).flatMap(({ op, outputs: [tensor] }) => (op === hostInputOp ? [tensor as Tensor] : []));

/** A generator of one step and one stream: the same draws on every device. */
export const streamRng = (seed: number, step: number, stream: number): Rng => createRng(foldIn(foldIn(keyFromSeed(seed), step), stream));

/** The value of a host input in a run. */
export function hostValue(compute: HostCompute, { shape, dtype }: Spec, { seed, step }: RunContext, stream: number): TypedArray {
  let rng: Rng | undefined; // made when it is first asked for
  const context: HostContext = {
    step,
    get rng() {
      rng ??= streamRng(seed, step, stream);
      return rng;
    },
  };
  return hostData(compute(context), dtype, sizeOf(shape));
}

function hostData(value: number | ArrayLike<number>, dtype: DType, size: number): TypedArray {
  if (typeof value !== 'number' && typeof value?.length !== 'number') {
    throw wrongType('hostInput', 'compute', 'a number or a list of numbers as its result', value);
  }
  const data = allocate(dtype, size);
  const count = typeof value === 'number' ? size : value.length;
  if (count !== size) throw outOfRange('hostInput', 'compute', `${size} numbers as its result`, count);
  if (typeof value !== 'number' && (dtype === 'float32' || dtype === 'int32')) {
    data.set(value);
    return data;
  }
  for (let i = 0; i < size; i++) {
    const item = typeof value === 'number' ? value : (value[i] as number);
    data[i] = dtype === 'float16' ? toFloat16Bits(item) : dtype === 'bool' ? (item ? 1 : 0) : item;
  }
  return data;
}
