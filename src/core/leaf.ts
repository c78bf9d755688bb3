import { type DType, isDType } from './dtype.js';
import { checkOptions, outOfRange, wrongType } from './errors.js';
import type { Rng } from './rng.js';
import { checkShape, type Shape } from './shape.js';
import { apply, type Op, type Spec, type Tensor } from './tensor.js';

/** A value that is fed to the graph: a parameter, a batch, a state. */
export const inputOp: Op<[], Spec & { name: string }> = {
  name: 'input',
  leaf: true,
  infer: (_, { shape, dtype }) => [{ shape, dtype }],
  emit: (_graph, _inputs, { attributes }) => {
    throw new Error(
      `a Tensor leaked out of its trace: '${attributes.name}' ${attributes.dtype}[${attributes.shape.join(', ')}] is an input of another traced function; pass it as an argument instead`,
    );
  },
};

/** A new input leaf. `name` is for error messages. */
export const inputLeaf = (spec: Spec, name: string): Tensor => apply(inputOp, [], { ...spec, name })[0];

/** What the host knows when it computes a host input. */
export interface HostContext {
  /** Number of runs (training steps) before this one. */
  readonly step: number;
  /** A generator of this step and this host input alone: the same seed gives the same draws on every device. */
  readonly rng: Rng;
}

export type HostCompute = (context: HostContext) => number | ArrayLike<number>;

export const hostInputOp: Op<[], Spec & { compute: HostCompute }> = {
  name: 'hostInput',
  leaf: true,
  infer: (_, { shape, dtype }) => [{ shape, dtype }],
  emit: () => {
    throw new Error('hostInput: this graph runs without a host that could compute its host inputs (learning rates, masks)');
  },
};

/**
 * A Tensor whose value the host computes before every run, from the step number and a seeded generator: a learning
 * rate, a dropout mask, a random projection. One compiled graph then serves all steps.
 *
 * @param compute called before every run; returns a number (every element) or a list with one number per element, row-major
 * @param options.shape shape of the Tensor, default `[]`
 * @param options.dtype default `'float32'`
 * @example
 * ```ts
 * import { hostInput, mul, type Tensor } from 'tracegrad';
 *
 * const decayed = (update: Tensor) => mul(update, hostInput(({ step }) => 0.1 / (1 + step)));
 * ```
 */
export function hostInput(compute: HostCompute, options: { shape?: Shape; dtype?: DType } = {}): Tensor {
  checkOptions('hostInput', options, ['shape', 'dtype']);
  const { shape = [], dtype = 'float32' } = options;
  if (typeof compute !== 'function') throw wrongType('hostInput', 'compute', 'a function', compute);
  checkShape('hostInput', 'shape', shape);
  if (!isDType(dtype)) throw outOfRange('hostInput', 'dtype', "'float32', 'float16', 'int32' or 'bool'", dtype);
  return apply(hostInputOp, [], { shape, dtype, compute })[0];
}
