import type { NDArray } from '../core/array.js';
import { wrongType } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import { lookUp, mapRecord } from '../core/tree.js';
import type { Named, Refresh } from '../optim/gradients.js';
import type { OrtBackend } from '../runtime/backend.js';
import { type RunContext, streamRng } from '../runtime/host-inputs.js';
import { type Leaf, type Program, toArray, toValue, type Value } from '../runtime/program.js';
import type { Place } from './outcome.js';
import { difference } from './snapshot.js';
import type { BatchSource, Held } from './step-trace.js';

export type Values = Readonly<Record<string, Value>>;
export type Arrays = Readonly<Record<string, NDArray>>;

/** What a trainer holds: all parameters, the model's state, the optimizer's state. */
export interface Holdings<V> {
  readonly params: V;
  readonly state: V;
  readonly optimizer: V;
}

/** A batch with its values. */
export interface BatchInput extends BatchSource {
  readonly values: readonly Value[];
}

/** What a step found. */
export interface StepResult {
  readonly packed: Value;
  readonly places: readonly Place[];
  readonly perSample: Value | undefined;
}

/** What holds values on a device. */
export interface Store {
  readonly values: Holdings<Values>;
  /** Puts arrays in the place of all values. Names, shapes and dtypes were checked. */
  write(arrays: Holdings<Arrays>): void;
}

/** What holds parameters and state and updates them from arrays of gradients. */
export interface Updater extends Store {
  update(gradients: Arrays, extra: Readonly<Record<string, Arrays>>, context: RunContext): Promise<void>;
  release(): Promise<void>;
}

/** Values on a device and the steps that change them. To be called from within the backend's queue. */
export interface Engine extends Store {
  /**
   * One update. If it fails, or `accept` does, nothing has changed.
   *
   * @param accept sees what the step found before anything changes
   * @returns what `accept` made of it
   */
  step<T>(batch: BatchInput, context: RunContext, accept: (result: StepResult) => Promise<T>): Promise<T>;
  release(): Promise<void>;
}

/** Leaves of a trace for named values. */
export const leavesOf = (prefix: string, values: Values): Leaf[] =>
  Object.entries(values).map(([name, { shape, dtype }]) => ({ path: `${prefix}.${name}`, shape, dtype }));

/** The Tensors of named values, taken from the leaves of a trace. */
export const takeNamed = (values: Values, tensors: Iterator<Tensor>): Named => mapRecord(values, () => tensors.next().value as Tensor);

/** An array of the host as a value of our own. */
export const ownValue = ({ ort }: OrtBackend, array: NDArray): Value => toValue(ort, { ...array, data: array.data.slice() });

/** The program of a variant of the step. */
export function programOf<S, M>(programs: Map<string, Program<S, M>>, variant: string, make: () => Program<S, M>): Program<S, M> {
  const program = programs.get(variant) ?? make();
  programs.set(variant, program);
  return program;
}

/** Leaves and values of the parameters and the model's state. */
export const heldLeaves = ({ params, state }: Holdings<Values>): { leaves: Leaf[]; values: Value[] } => ({
  leaves: [...leavesOf('params', params), ...leavesOf('state', state)],
  values: [...Object.values(params), ...Object.values(state)],
});

/** The Tensors of parameters and model state, taken from the leaves of a trace. */
export const takeHeld = ({ params, state }: Holdings<Values>, tensors: Iterator<Tensor>): Held => ({
  params: takeNamed(params, tensors),
  state: takeNamed(state, tensors),
});

/** A copy of a value that lies on the host. */
export const copyOf = (value: Value): NDArray => {
  const array = toArray(value);
  return { ...array, data: array.data.slice() };
};

/** A stream of random numbers that no host input has. */
const REFRESH_STREAM = 2 ** 32;

/** What the host computes before the update of a step: new values for entries of the optimizer's state. */
export async function refresh(
  fn: string,
  refreshes: readonly Refresh[],
  { seed, step }: RunContext,
  current: { params: () => Promise<Arrays>; state: () => Promise<Arrays>; gradients: () => Promise<Arrays> },
): Promise<Arrays> {
  const due = refreshes.map((item, i) => ({ ...item, rng: streamRng(seed, step, REFRESH_STREAM + i) })).filter(({ when }) => when(step));
  if (due.length === 0) return {};
  const params = await current.params();
  const state = await current.state();
  const gradients = due.some(({ needsGradients }) => needsGradients) ? await current.gradients() : {};
  const result: Record<string, NDArray> = {};
  for (const { compute, rng, needsGradients } of due) {
    const fresh = await compute({ step, rng, params, state, gradients: needsGradients ? gradients : {} });
    if (typeof fresh !== 'object' || fresh === null) throw wrongType(fn, 'refresh', 'a record of arrays as the result of compute()', fresh);
    for (const [name, array] of Object.entries(fresh)) {
      const before = lookUp(state, name);
      if (!before) throw new TypeError(`${fn}: refresh: '${name}' is no entry of the optimizer's state`);
      const wrong = difference(before, array);
      if (wrong !== undefined) throw new RangeError(`${fn}: refresh: state '${name}': ${wrong}`);
      result[name] = array;
    }
  }
  return result;
}
