import { type ArrayLike, isArrayLike, type NDArray } from '../core/array.js';
import { isFloat } from '../core/dtype.js';
import { checkNumber, checkOptions, outOfRange, wrongType } from '../core/errors.js';
import { pullBack, scalarLoss } from '../core/grad.js';
import { reshape } from '../core/ops/broadcast.js';
import { ones } from '../core/ops/constant.js';
import { concat } from '../core/ops/movement.js';
import { cast } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkTensor, isTensor, type Tensor } from '../core/tensor.js';
import { mapTree, type Tree } from '../core/tree.js';
import type { ArrayInputs, Arrays } from '../core/types.js';
import { applyUpdates, likeTree, namedTensors } from '../core/updates.js';
import type { Named, Optimizer } from '../optim/transform.js';
import { type Backend, openBackend } from '../runtime/backend.js';
import { type ArrayLeaf, type Axes, arrayLeaves, fillOutputs, indexOutputs, isAxisNames, withTensors } from '../runtime/edge.js';
import { dispose, type Leaf, Program, toArray, toValue, type Value } from '../runtime/program.js';

export interface LossContext {
  /** True in `step`, false in `evaluate`. */
  readonly training: boolean;
}

/** A scalar loss, alone or with scalars to report. */
export type LossResult<M extends string = string> = Tensor | { readonly loss: Tensor; readonly metrics?: Readonly<Record<M, Tensor>> };

export interface TrainerOptions<P, B, X, Y, M extends string = string> {
  /** The loss of a batch. Its metrics are scalars; they get no gradient. */
  loss: (params: P, batch: B, context: LossContext) => LossResult<M>;
  /** Initial parameters: a tree of float arrays. They are copied. */
  params: ArrayInputs<P>;
  optimizer: Optimizer;
  /** The model's forward pass, for {@link Trainer.predict}. */
  predict?: (params: P, inputs: X) => Y;
  /**
   * Named axes of the batch. Default: the first axis of every array is `'batch'`, so that a smaller last batch needs no
   * new session. `null`: none.
   */
  axes?: Axes;
  /** Seed of the generators that host inputs draw from. Default 0. */
  seed?: number;
}

export interface Report<M extends string = string> {
  readonly loss: number;
  /** What the loss function returned as metrics. */
  readonly metrics: Readonly<Record<M, number>>;
}

/** Parameters and optimizer state on a device, and the steps that change them. */
export interface Trainer<P, B, X, Y, M extends string = string> extends AsyncDisposable {
  /** Number of successful steps so far; schedules see it. */
  readonly steps: number;
  /** One update. If it fails, nothing has changed. Steps that are not awaited run in order. */
  step(batch: ArrayInputs<B>): Promise<Report<M>>;
  /** Loss and metrics without an update, with `training: false`. */
  evaluate(batch: ArrayInputs<B>): Promise<Report<M>>;
  /** The outputs of the `predict` function for the current parameters. */
  predict(inputs: ArrayInputs<X>): Promise<Arrays<Y>>;
  /** A copy of the current parameters. */
  params(): Promise<Arrays<P>>;
  /** A copy of the optimizer's state: `<slot>.<parameter>`. */
  optimizerState(): Promise<Record<string, NDArray>>;
  /** Releases sessions and device memory. Steps that wait for their turn are refused. */
  close(): Promise<void>;
}

const fn = 'createTrainer';
const trainerOptions = ['loss', 'params', 'optimizer', 'predict', 'axes', 'seed'];

/** Loss and metrics in one vector: every output that is read back costs. */
function pack(method: string, result: LossResult): { loss: Tensor; packed: Tensor; names: string[] } {
  const fn = `trainer.${method}`;
  const isRecord = typeof result === 'object' && result !== null && 'loss' in result;
  if (!isTensor(result) && !isRecord) throw wrongType(fn, 'the loss function', 'a Tensor or { loss, metrics? } as its result', result);
  const { loss, metrics = {}, ...rest } = isTensor(result) ? { loss: result } : result;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new TypeError(`${fn}: the loss function returned '${unknown}'; expected a Tensor or { loss, metrics? }`);
  const scalar = scalarLoss(fn, loss);
  const values = Object.entries(metrics).map(([name, value]) => {
    if (checkTensor(fn, `metric '${name}'`, value).rank !== 0) throw outOfRange(fn, `metric '${name}'`, 'a scalar (shape [])', value);
    return value;
  });
  const vector = [scalar, ...values].map((value) => reshape(cast(value, 'float32'), [1]));
  return { loss: scalar, packed: concat(vector), names: Object.keys(metrics) };
}

const unpack = (value: Value, names: readonly string[]): Report => {
  const [loss, ...rest] = toArray(value).data;
  return { loss: loss as number, metrics: Object.fromEntries(names.map((name, i) => [name, rest[i] as number])) };
};

/** The first axis of every array, where they agree on its size. */
function defaultAxes(leaves: readonly ArrayLeaf[]): readonly ArrayLeaf[] {
  const agree = leaves.every(({ shape }) => shape.length > 0 && shape[0] === leaves[0]?.shape[0]);
  return agree ? leaves.map((leaf) => ({ ...leaf, axes: ['batch'] })) : leaves;
}

/** What comes after a step must be like what was before it. */
function checkLike({ path, shape, dtype }: Leaf, tensor: Tensor): void {
  if (!sameShape(checkTensor('trainer.step', `${path} after the step`, tensor).shape, shape) || tensor.dtype !== dtype) {
    throw outOfRange('trainer.step', `${path} after the step`, `${dtype}[${shape.join(', ')}] from the optimizer, as before it`, tensor);
  }
}

function checkTrainable(leaves: readonly ArrayLeaf[]): void {
  const seen = new Map<unknown, string>();
  for (const { path, array } of leaves) {
    if (!isFloat(array.dtype)) throw wrongType(fn, path, 'a float array (parameters are trained)', array);
    const other = seen.get(array.data);
    if (other !== undefined) throw new TypeError(`${fn}: ${other} and ${path} are the same array; share weights inside the model instead`);
    seen.set(array.data, path);
  }
  if (leaves.length === 0) throw new TypeError(`${fn}: params: expected at least one array`);
}

/**
 * A training loop's engine: holds parameters and optimizer state on the device, and turns a loss function and an optimizer
 * into compiled steps.
 *
 * Parameters that the loss does not depend on stay as they are, without decay (PyTorch's rule).
 *
 * @param backend made by `createBackend`
 * @throws if the loss is no scalar, a parameter is no float array or stands at two places, or an option is unknown
 * @example
 * ```ts
 * import { array, matmul, type Tensor } from 'tracegrad';
 * import { mseLoss } from 'tracegrad/losses';
 * import { createBackend } from 'tracegrad/node';
 * import { adam } from 'tracegrad/optim';
 * import { createTrainer } from 'tracegrad/train';
 *
 * const backend = await createBackend({ device: 'cpu' });
 * const trainer = await createTrainer(backend, {
 *   loss: (p: { w: Tensor }, batch: { x: Tensor; y: Tensor }) => mseLoss(matmul(batch.x, p.w), batch.y),
 *   params: { w: array([[0], [0]]) },
 *   optimizer: adam({ learningRate: 0.1 }),
 * });
 * const { loss } = await trainer.step({ x: array([[1, 2], [3, 4]]), y: array([[5], [11]]) });
 * await trainer.close();
 * ```
 */
export async function createTrainer<P, B, X = unknown, Y = unknown, M extends string = never>(
  backend: Backend,
  options: TrainerOptions<P, B, X, Y, M>,
): Promise<Trainer<P, B, X, Y, M>> {
  const device = openBackend(fn, backend);
  checkOptions(fn, options, trainerOptions);
  const { loss, params: initial, optimizer, predict, axes, seed = 0 } = options;
  if (typeof loss !== 'function') throw wrongType(fn, 'loss', 'a function of parameters and batch', loss);
  if (predict !== undefined && typeof predict !== 'function')
    throw wrongType(fn, 'predict', 'a function of parameters and inputs', predict);
  if (typeof optimizer?.update !== 'function') throw wrongType(fn, 'optimizer', 'an optimizer, such as adam()', optimizer);
  checkNumber(fn, 'seed', seed, 'an integer from 0 to 2^53 - 1', (n) => Number.isSafeInteger(n) && n >= 0);

  const paramArrays = arrayLeaves(fn, 'params', initial);
  checkTrainable(paramArrays);
  const paramLeaves = paramArrays.map(({ path, shape, dtype }): Leaf => ({ path, shape, dtype }));
  const paramNames = paramLeaves.map(({ path }) => path.slice('params.'.length));
  // The tree without its data: what the caller does to theirs later changes nothing.
  const tree = mapTree(fn, initial, isArrayLike, 'an array', ({ shape }: ArrayLike) => ({ data: [], shape }));
  const paramTree = (tensors: Iterator<Tensor>): P => withTensors(tree, tensors) as P;
  let params = paramArrays.map(({ array }) => toValue(device.ort, { ...array, data: array.data.slice() }));

  const initialise = new Program<null, string[]>(
    fn,
    device,
    (leaves) => {
      const state = optimizer.init(paramTree(leaves.values()));
      return { outputs: Object.values(state), meta: Object.keys(state) };
    },
    seed,
  );
  const { outputs: initialState, meta: stateNames } = await device.queue.add(async () => {
    const result = await initialise.run(paramLeaves, params, 0, null);
    await initialise.release();
    return result;
  });
  let state = initialState;
  const stateLeaves = state.map(({ shape, dtype }, i): Leaf => ({ path: `state ${stateNames[i]}`, shape, dtype }));

  const heldLeaves = [...paramLeaves, ...stateLeaves];

  const stepProgram = new Program<unknown, { names: string[]; changed: number[] }>(
    'trainer.step',
    device,
    (leaves, batch) => {
      const tensors = leaves.values();
      const current = paramTree(tensors);
      const before: Named = Object.fromEntries(stateNames.map((name) => [name, tensors.next().value as Tensor]));
      const { loss: value, packed, names } = pack('step', loss(current, withTensors(batch, tensors) as B, { training: true }));
      const trained = namedTensors(fn, current);
      const gradients = pullBack([value], [ones([], value.dtype)], Object.values(trained));
      if (gradients.every((g) => g === undefined)) throw new Error('trainer.step: the loss depends on no parameter');
      const reached = Object.keys(trained).flatMap((name, i) => (gradients[i] ? [[name, gradients[i]] as const] : []));
      const { updates, state: next } = optimizer.update(likeTree(fn, current, Object.fromEntries(reached)), before, current);
      const moved = namedTensors(fn, applyUpdates(current, updates));
      const after = [...paramNames.map((name) => moved[name] as Tensor), ...stateNames.map((name) => next[name] as Tensor)];
      after.forEach((tensor, i) => {
        checkLike(heldLeaves[i] as Leaf, tensor);
      });
      // What stays as it is need not be returned.
      const changed = after.flatMap((tensor, i) => (tensor === leaves[i] ? [] : [i]));
      const outputs = [packed, ...changed.map((i) => after[i] as Tensor)];
      return { outputs, kept: outputs.map((_, i) => i > 0), meta: { names, changed } };
    },
    seed,
  );
  const evaluateProgram = new Program<unknown, string[]>(
    'trainer.evaluate',
    device,
    (leaves, batch) => {
      const tensors = leaves.values();
      const { packed, names } = pack('evaluate', loss(paramTree(tensors), withTensors(batch, tensors) as B, { training: false }));
      return { outputs: [packed], meta: names };
    },
    seed,
  );
  const predictProgram = new Program<unknown, Tree<number>>(
    'trainer.predict',
    device,
    (leaves, inputs) => {
      const tensors = leaves.values();
      return indexOutputs('trainer.predict', predict?.(paramTree(tensors), withTensors(inputs, tensors) as X));
    },
    seed,
  );
  /** Copies values that lie on the device to the host. */
  const readProgram = new Program<null, null>('trainer', device, (leaves) => ({ outputs: leaves, meta: null }), seed);
  const programs = [stepProgram, evaluateProgram, predictProgram, readProgram];

  let steps = 0;
  let closed = false;
  const checkOpen = (method: string): void => {
    if (closed) throw new Error(`trainer.${method}: the trainer is closed`);
    openBackend(`trainer.${method}`, device);
  };
  /** Runs a task on a batch: leaves are read now, the task starts when it is its turn. */
  const withBatch = async <T>(
    method: string,
    batch: unknown,
    task: (leaves: readonly Leaf[], values: readonly Value[]) => Promise<T>,
  ): Promise<T> => {
    checkOpen(method);
    const predicting = method === 'predict';
    // Names for the parts of a batch say nothing about inputs that are one array.
    const names = predicting && isArrayLike(batch) && axes !== null && !isAxisNames(axes) ? undefined : axes;
    const found = arrayLeaves(`trainer.${method}`, predicting ? 'inputs' : 'batch', batch, names);
    const leaves = names === undefined ? defaultAxes(found) : found;
    return device.queue.add(() => {
      checkOpen(method);
      return task(
        leaves,
        leaves.map(({ array }) => toValue(device.ort, array)),
      );
    });
  };
  const read = async (method: string, leaves: readonly Leaf[], current: () => readonly Value[]): Promise<NDArray[]> => {
    checkOpen(method);
    return device.queue.add(async () => {
      const values = current();
      if (values.length === 0 || values.every(({ tensor }) => tensor.location === 'cpu')) {
        return values.map((value) => ({ ...toArray(value), data: toArray(value).data.slice() }));
      }
      return (await readProgram.run(leaves, values, steps, null)).outputs.map(toArray);
    });
  };
  let released = false;
  const release = async (): Promise<void> => {
    if (released) return;
    released = true;
    device.resources.delete(release);
    dispose(device, [...params, ...state]);
    for (const program of programs) await program.release();
  };
  if (device.device !== 'cpu') device.resources.add(release);
  const close = async (): Promise<void> => {
    closed = true;
    await device.queue.add(release);
  };
  return {
    get steps() {
      return steps;
    },
    step: (batch) =>
      withBatch('step', batch, async (leaves, values) => {
        const { outputs, meta } = await stepProgram.run([...heldLeaves, ...leaves], [...params, ...state, ...values], steps, batch);
        const [packed, ...fresh] = outputs as [Value, ...Value[]];
        const all = [...params, ...state];
        dispose(
          device,
          meta.changed.map((i) => all[i] as Value),
        );
        meta.changed.forEach((i, k) => {
          all[i] = fresh[k] as Value;
        });
        params = all.slice(0, params.length);
        state = all.slice(params.length);
        steps++;
        return unpack(packed, meta.names);
      }),
    evaluate: (batch) =>
      withBatch('evaluate', batch, async (leaves, values) => {
        const { outputs, meta } = await evaluateProgram.run([...paramLeaves, ...leaves], [...params, ...values], steps, batch);
        return unpack(outputs[0] as Value, meta);
      }),
    predict: (inputs) => {
      if (!predict) return Promise.reject(new TypeError('trainer.predict: createTrainer() was given no predict function'));
      return withBatch('predict', inputs, async (leaves, values) => {
        const { outputs, meta } = await predictProgram.run([...paramLeaves, ...leaves], [...params, ...values], steps, inputs);
        return fillOutputs('trainer.predict', meta, outputs) as Arrays<Y>;
      });
    },
    params: async () => {
      const arrays = (await read('params', paramLeaves, () => params)).values();
      return mapTree(fn, tree, isArrayLike, 'an array', () => arrays.next().value as NDArray) as Arrays<P>;
    },
    optimizerState: async () => {
      const arrays = await read('optimizerState', stateLeaves, () => state);
      return Object.fromEntries(stateNames.map((name, i) => [name, arrays[i] as NDArray]));
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
