import { type ArrayLike, isArrayLike, type NDArray, toNDArray } from '../core/array.js';
import { checkOptions, wrongType } from '../core/errors.js';
import { checkSeed } from '../core/rng.js';
import { lookUp, mapRecord, mapTree } from '../core/tree.js';
import type { Arrays as ArraysOf, Tensors } from '../core/types.js';
import type { Optimizer } from '../optim/transform.js';
import { type Backend, openBackend } from '../runtime/backend.js';
import type { Arrays, Updater } from './engine.js';
import { Reader } from './reader.js';
import { checkOptimizer, initialState, LearningRate, Run, readParams } from './run.js';
import { difference, type Snapshotable } from './snapshot.js';
import { type UpdateJob, wholeBatch } from './step-trace.js';

/** A tree like `T` in which arrays may be missing. */
export type DeepPartial<T> = T extends ArrayLike
  ? T | undefined
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> | undefined }
    : T;

/** Parameters and optimizer state on a device, and the update that changes them. */
export interface CompiledUpdate<P> extends Snapshotable, AsyncDisposable {
  /** Number of successful updates so far; schedules see it. */
  readonly steps: number;
  /** The learning rate of the update that runs next, as in a trainer. */
  get learningRate(): number | undefined;
  set learningRate(rate: number | undefined);
  /**
   * One update. If it fails, nothing has changed.
   *
   * @param gradients a tree like the parameters; a parameter without gradient is left alone
   * @param extra further gradients that the optimizer asks for, by name
   */
  step(gradients: DeepPartial<P>, extra?: Readonly<Record<string, DeepPartial<P>>>): Promise<void>;
  /** A copy of the current parameters. */
  params(): Promise<ArraysOf<Tensors<P>>>;
  /** A copy of the optimizer's state: `<slot>.<parameter>`. */
  optimizerState(): Promise<Record<string, NDArray>>;
  /** Releases sessions and device memory. */
  close(): Promise<void>;
}

const fn = 'compileUpdate';

/** The arrays of a tree of gradients by path, checked against the parameters. */
function readGradients(name: string, tree: unknown, params: Arrays): Record<string, NDArray> {
  if (tree === undefined) throw wrongType('update.step', name, 'a tree like the parameters', tree);
  const found: [string, NDArray][] = [];
  const isLeaf = (value: unknown): value is ArrayLike | undefined => value === undefined || isArrayLike(value);
  mapTree('update.step', tree, isLeaf, 'an array, or undefined for no gradient', (value, path) => {
    if (value === undefined) return;
    const array = toNDArray('update.step', `${name}.${path}`, value);
    const param = lookUp(params, path);
    if (!param) throw wrongType('update.step', name, `a tree like the parameters (${Object.keys(params).join(', ')})`, path);
    const wrong = difference(param, array);
    if (wrong !== undefined) throw new RangeError(`update.step: ${name}.${path}: ${wrong}`);
    found.push([path, array]);
  });
  return Object.fromEntries(found);
}

/**
 * An optimizer of this package for use elsewhere: arrays of gradients in, arrays of parameters out. Another framework computes the
 * gradients. On the CPU the update runs as fused kernels.
 *
 * @param backend made by `createBackend`
 * @param optimizer such as `adamw()`
 * @param params initial parameters: a tree of float arrays. They are copied
 * @param options.seed of the generators that host inputs draw from. Default 0
 * @throws if a parameter is no float array or stands at two places, or a hyper-parameter is out of range
 * @example
 * ```ts
 * import { array } from 'tracegrad';
 * import { createBackend } from 'tracegrad/node';
 * import { adamw } from 'tracegrad/optim';
 * import { compileUpdate } from 'tracegrad/train';
 *
 * const backend = await createBackend({ device: 'cpu' });
 * const update = await compileUpdate(backend, adamw({ learningRate: 0.1 }), { w: array([1, 2]) });
 * await update.step({ w: array([0.5, -0.5]) });
 * const { w } = await update.params();
 * await backend.close();
 * ```
 */
export async function compileUpdate<P>(
  backend: Backend,
  optimizer: Optimizer,
  params: P,
  options: { seed?: number } = {},
): Promise<CompiledUpdate<P>> {
  const device = openBackend(fn, backend);
  checkOptimizer(fn, optimizer);
  checkOptions(fn, options, ['seed']);
  const { seed = 0 } = options;
  checkSeed(fn, 'seed', seed);
  const tree = readParams(fn, params);
  const rate = new LearningRate(optimizer);
  const job: UpdateJob = {
    optimizer,
    strategy: optimizer.gradients ?? wholeBatch,
    paramTree: tree.fill,
    trainable: Object.keys(tree.arrays),
    learningRate: rate.at,
  };
  const initial = await initialState(fn, device, optimizer, tree.fill, tree.arrays, seed);
  const reader = new Reader(device);
  const updater: Updater =
    device.device === 'cpu'
      ? await (await import('./host-update.js')).HostUpdate.create('update.step', device, job, tree.arrays, initial)
      : new (await import('./device-update.js')).DeviceUpdate(device, job, reader, { params: tree.arrays, state: {}, optimizer: initial });
  const run = new Run('update', device, seed, rate, updater, reader, [updater]);
  return {
    get steps() {
      return run.steps;
    },
    get learningRate() {
      return rate.at?.(run.steps);
    },
    set learningRate(value) {
      rate.check('update.learningRate', value);
      rate.fixed = value;
    },
    step: async (gradients, extra = {}) => {
      run.checkOpen('step');
      const known = job.strategy.extra ?? [];
      checkOptions('update.step', extra, known);
      const own = readGradients('gradients', gradients, tree.arrays);
      const further = mapRecord(extra, (record, name) => readGradients(`extra.${name}`, record, tree.arrays));
      await run.enqueue('step', async () => {
        await updater.update(own, further, run.context);
        run.steps++;
      });
    },
    params: async () => tree.fill(await run.read('params', 'params')) as ArraysOf<Tensors<P>>,
    optimizerState: () => run.read('optimizerState', 'optimizer'),
    snapshot: () => run.enqueue('snapshot', () => run.snapshot()),
    restore: (snapshot) => run.restore(snapshot),
    close: () => run.close(),
    [Symbol.asyncDispose]: () => run.close(),
  };
}
