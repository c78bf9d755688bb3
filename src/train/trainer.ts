import { isArrayLike, type NDArray } from '../core/array.js';
import { checkBoolean, checkOptions, checkSize, wrongType } from '../core/errors.js';
import { checkSeed } from '../core/rng.js';
import type { ArrayInputs, Arrays as ArraysOf } from '../core/types.js';
import type { GradientStrategy } from '../optim/gradients.js';
import type { Optimizer } from '../optim/transform.js';
import { type Backend, openBackend } from '../runtime/backend.js';
import { type ArrayLeaf, type Axes, arrayLeaves, isAxisNames } from '../runtime/edge.js';
import { toArray, toValue, type Value } from '../runtime/program.js';
import { defaultAxes, firstRows, padBatch, rowsOf } from './batch.js';
import type { BatchInput, Engine } from './engine.js';
import { Evaluator, type Totals } from './evaluator.js';
import { type LossContext, type LossResult, type Place, unpackMetrics } from './outcome.js';
import { type Predict, Prediction } from './prediction.js';
import { Reader } from './reader.js';
import { checkOptimizer, initialState, LearningRate, Run, readParams, readTree } from './run.js';
import type { Snapshot, Snapshotable } from './snapshot.js';
import { type GradientTracer, type Job, traceGradients, wholeBatch } from './step-trace.js';

export interface TrainerOptions<P, B, X, Y, S = unknown, M extends string = string> {
  /** The loss of a batch. Metrics, state and values per sample get no gradient. */
  loss: (params: P, batch: B, context: LossContext<S>) => LossResult<M, S>;
  /** Initial parameters: a tree of float arrays. They are copied; do not change them before the trainer is there. */
  params: ArrayInputs<P>;
  optimizer: Optimizer;
  /** The model's initial state, such as running statistics: a tree of arrays. They are copied. Default: none. */
  state?: ArrayInputs<S>;
  /** The model's forward pass, for {@link Trainer.predict}. */
  predict?: (params: P, inputs: X, context: LossContext<S>) => Y;
  /** Which parameters are trained. The others get no gradient, no optimizer state and no decay. Default: all. */
  trainable?: (name: string, shape: readonly number[]) => boolean;
  /** How gradients are obtained. Default: as the optimizer asks for, else one gradient of the whole batch. */
  gradients?: GradientStrategy;
  /**
   * Fill batches up to this many rows with zeros. The loss gets a `mask` and must leave the padding out. Batches of other
   * sizes work without, but not for a loss that looks at the batch as a whole. Default: no padding.
   */
  padTo?: number;
  /**
   * Named axes of the batch. Default: the first axis of every array is `'batch'`, so that a smaller last batch needs no
   * new session. `null`: none.
   */
  axes?: Axes;
  /** Seed of the generators that host inputs draw from. Default 0. */
  seed?: number;
  /**
   * Called before every step with its number, from 0. If it fails, the step is not made. With hooks a step begins when the one before
   * has ended, hooks included; other calls do not wait for steps that are not awaited, and a hook that awaits a step waits forever.
   */
  beforeStep?: (step: number) => unknown;
  /** Called after every step with its report. If it fails, `step` does, but the step was made. */
  afterStep?: (report: Report<M>, step: number) => unknown;
  /**
   * Keep a snapshot of every so many steps on the host, as {@link Trainer.lastSnapshot}: a lost device takes its memory along. If it
   * cannot be taken, `step` fails, but the step was made. Default: never.
   */
  snapshotEvery?: number;
  /**
   * Fail a step whose loss or gradients are not finite, before anything changes, with an error that names the first Tensor that was not.
   * Costs a look at every gradient. Default false: such numbers go on into the parameters.
   */
  debugNonFinite?: boolean;
}

export interface Report<M extends string = string> {
  readonly loss: number;
  /** What the loss function returned as metrics. */
  readonly metrics: Readonly<Record<M, number>>;
  /** What the loss function returned as `perSample`, without padding. */
  readonly perSample?: NDArray;
}

/** A forward pass with fixed weights. */
export interface Predictor<X, Y> extends AsyncDisposable {
  (inputs: ArrayInputs<X>): Promise<ArraysOf<Y>>;
  /** Releases the sessions. */
  close(): Promise<void>;
}

/** Parameters, model and optimizer state on a device, and the steps that change them. */
export interface Trainer<P, B, X, Y, S = unknown, M extends string = string> extends Snapshotable, AsyncDisposable {
  /** Number of successful steps so far; schedules see it. */
  readonly steps: number;
  /**
   * The learning rate of the step that runs next; undefined if the optimizer has none or several. A number that is set takes the place of the
   * optimizer's own rate or schedule, until it is set to undefined.
   */
  get learningRate(): number | undefined;
  set learningRate(rate: number | undefined);
  /** With the option `snapshotEvery` the newest of its snapshots. */
  readonly lastSnapshot: Snapshot | undefined;
  /**
   * One update. If it fails, nothing has changed. Steps that are not awaited run in order; the arrays of a batch are read when it is
   * its turn, so do not change them before.
   */
  step(batch: ArrayInputs<B>): Promise<Report<M>>;
  /** Loss and metrics without an update, with `training: false`. */
  evaluate(batch: ArrayInputs<B>): Promise<Report<M>>;
  /** Loss and metrics of many batches together: their sums are added up on the device and read once. Values per sample are left out. */
  evaluateAll(batches: Iterable<ArrayInputs<B>> | AsyncIterable<ArrayInputs<B>>): Promise<Report<M>>;
  /** The outputs of the `predict` function for the current parameters. */
  predict(inputs: ArrayInputs<X>): Promise<ArraysOf<Y>>;
  /**
   * The `predict` function with the parameters and the state of now as constants of its graph, which later steps do not change. Faster
   * than `predict` for many calls, as the runtime prepares weights that it knows. It does not need the trainer any more: it lives
   * until it is closed, or the backend is.
   */
  predictor(): Promise<Predictor<X, Y>>;
  /** A copy of the current parameters. */
  params(): Promise<ArraysOf<P>>;
  /** A copy of the model's state. */
  state(): Promise<ArraysOf<S>>;
  /** A copy of the optimizer's state: `<slot>.<parameter>`. */
  optimizerState(): Promise<Record<string, NDArray>>;
  /** Releases sessions and device memory. Steps that wait for their turn are refused. */
  close(): Promise<void>;
}

const fn = 'createTrainer';
const trainerOptions = [
  'loss',
  'params',
  'optimizer',
  'state',
  'predict',
  'trainable',
  'gradients',
  'padTo',
  'axes',
  'seed',
  'beforeStep',
  'afterStep',
  'snapshotEvery',
  'debugNonFinite',
];

/**
 * A training loop's engine: holds parameters, model state and optimizer state on the device, and turns a loss function and an
 * optimizer into compiled steps.
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
export async function createTrainer<P, B, X = unknown, Y = unknown, S = unknown, M extends string = never>(
  backend: Backend,
  options: TrainerOptions<P, B, X, Y, S, M>,
): Promise<Trainer<P, B, X, Y, S, M>> {
  const device = openBackend(fn, backend);
  checkOptions(fn, options, trainerOptions);
  const { loss, optimizer, predict, trainable = () => true, padTo, axes, beforeStep, afterStep, snapshotEvery } = options;
  const { seed = 0, debugNonFinite = false } = options;
  if (typeof loss !== 'function') throw wrongType(fn, 'loss', 'a function of parameters and batch', loss);
  for (const [name, value] of Object.entries({ predict, trainable, beforeStep, afterStep })) {
    if (value !== undefined && typeof value !== 'function') throw wrongType(fn, name, 'a function', value);
  }
  checkOptimizer(fn, optimizer);
  const strategy = options.gradients ?? optimizer.gradients ?? wholeBatch;
  if (typeof strategy.gradients !== 'function') throw wrongType(fn, 'gradients', 'a gradient strategy', strategy);
  if (options.gradients && optimizer.gradients) throw new TypeError(`${fn}: gradients: the optimizer asks for a strategy of its own`);
  checkBoolean(fn, 'debugNonFinite', debugNonFinite);
  if (padTo !== undefined) checkSize(fn, 'padTo', padTo);
  if (snapshotEvery !== undefined) checkSize(fn, 'snapshotEvery', snapshotEvery);
  checkSeed(fn, 'seed', seed);

  const params = readParams(fn, options.params);
  const state = readTree(fn, 'state', options.state ?? {});
  const trained = Object.entries(params.arrays).filter(([name, { shape }]) => trainable(name, shape));
  if (trained.length === 0) {
    throw new Error(`${fn}: trainable leaves no parameter to train; there are ${Object.keys(params.arrays).join(', ')}`);
  }
  const rate = new LearningRate(optimizer);
  const job: Job = {
    loss: loss as Job['loss'],
    optimizer,
    strategy,
    paramTree: params.fill,
    stateTree: state.fill,
    trainable: trained.map(([name]) => name),
    countNonFinite: debugNonFinite,
    learningRate: rate.at,
  };
  const holdings = {
    params: params.arrays,
    state: state.arrays,
    optimizer: await initialState(fn, device, optimizer, params.fill, Object.fromEntries(trained), seed),
  };
  const reader = new Reader(device);
  const trace: GradientTracer = (...step) => traceGradients(job, ...step);
  // A bundle need not hold the engine of the other kind of device.
  const engine: Engine =
    device.device === 'cpu'
      ? await (await import('./host-engine.js')).HostEngine.create(device, job, trace, holdings)
      : new (await import('./device-engine.js')).DeviceEngine('trainer.step', device, job, trace, reader, holdings);
  const evaluator = new Evaluator(device, job, engine, reader);
  const checkPredict = () => {
    if (!predict) throw new TypeError('trainer.predict: createTrainer() was given no predict function');
    return predict as Predict;
  };
  const prediction = predict && new Prediction(device, job, checkPredict(), engine);

  const run = new Run('trainer', device, seed, rate, engine, reader, [engine, evaluator, ...(prediction ? [prediction] : [])]);

  let lastSnapshot: Snapshot | undefined;
  const readInputs = (method: string, name: string, tree: unknown, named: Axes): readonly ArrayLeaf[] => {
    const found = arrayLeaves(`trainer.${method}`, name, tree, named);
    return named === undefined ? defaultAxes(found) : found;
  };
  /** The leaves of a batch are read now, whenever it is its turn. */
  const readBatch = (method: string, tree: unknown): { input: BatchInput; rows: number | undefined } => {
    run.checkOpen(method);
    const found = readInputs(method, 'batch', tree, axes);
    const leaves = padTo === undefined ? found : padBatch(`trainer.${method}`, found, padTo);
    const values = leaves.map(({ array }) => toValue(device.ort, array));
    return { input: { tree, leaves, values, masked: padTo !== undefined }, rows: rowsOf(found) };
  };
  const report = (places: readonly Place[], sums: readonly number[], perSample?: Value, rows?: number): Report<M> => ({
    ...(unpackMetrics(places, sums) as Report<M>),
    ...(perSample ? { perSample: rows === undefined ? toArray(perSample) : firstRows(toArray(perSample), rows) } : {}),
  });
  const readPredicted = (inputs: unknown) => {
    // Names for the parts of a batch say nothing about inputs that are one array.
    const partsOnly = isArrayLike(inputs) && axes !== null && !isAxisNames(axes);
    return readInputs('predict', 'inputs', inputs, partsOnly ? undefined : axes);
  };
  const makeStep = (batch: unknown): Promise<Report<M>> => {
    const { input, rows } = readBatch('step', batch);
    return run.enqueue('step', async () => {
      // The report is made before anything changes: what computes a metric may fail.
      const made = await engine.step(input, run.context, async (found) => {
        if (debugNonFinite) await (await import('./non-finite.js')).checkFinite(device, job, engine, input, run.context, found);
        return report(found.places, [...toArray(found.packed).data], found.perSample, rows);
      });
      run.steps++;
      if (snapshotEvery !== undefined && run.steps % snapshotEvery === 0) lastSnapshot = await run.snapshot();
      return made;
    });
  };
  // With hooks a step begins when the one before has ended, hooks included.
  let last: Promise<unknown> = Promise.resolve();
  const stepWithHooks = (batch: unknown): Promise<Report<M>> => {
    const result = last.then(async () => {
      run.checkOpen('step');
      const step = run.steps;
      await beforeStep?.(step);
      const found = await makeStep(batch);
      await afterStep?.(found, step);
      return found;
    });
    last = result.catch(() => undefined);
    return result;
  };

  return {
    get steps() {
      return run.steps;
    },
    get learningRate() {
      return rate.at?.(run.steps);
    },
    set learningRate(value) {
      rate.check('trainer.learningRate', value);
      rate.fixed = value;
    },
    get lastSnapshot() {
      return lastSnapshot;
    },
    step: async (batch) => (beforeStep || afterStep ? stepWithHooks(batch) : makeStep(batch)),
    evaluate: async (batch) => {
      const { input, rows } = readBatch('evaluate', batch);
      return run.enqueue('evaluate', async () => {
        const totals = await evaluator.evaluate(input, run.context);
        return report(totals.places, await evaluator.read(totals), totals.perSample, rows);
      });
    },
    evaluateAll: async (batches) => {
      const iterable = [Symbol.iterator, Symbol.asyncIterator].some((key) => typeof Object(batches)[key] === 'function');
      if (!iterable) throw wrongType('trainer.evaluateAll', 'batches', 'an iterable of batches', batches);
      let totals: Totals | undefined;
      try {
        for await (const batch of batches) {
          const { input } = readBatch('evaluateAll', batch);
          const before: Totals | undefined = totals;
          totals = undefined; // given up, whatever happens
          totals = await run.enqueue('evaluateAll', () => evaluator.add(input, run.context, before));
        }
        const all = totals;
        if (!all) throw new RangeError('trainer.evaluateAll: batches: expected at least one batch, received none');
        totals = undefined;
        return await run.enqueue('evaluateAll', async () => report(all.places, await evaluator.read(all)));
      } finally {
        const rest = totals;
        if (rest) await device.queue.add(async () => evaluator.drop(rest));
      }
    },
    predict: async (inputs) => {
      checkPredict();
      run.checkOpen('predict');
      const leaves = readPredicted(inputs);
      return run.enqueue('predict', async () => (await prediction?.run(inputs, leaves, run.context)) as ArraysOf<Y>);
    },
    predictor: async () => {
      const forward = checkPredict();
      const { fixed, at } = await run.enqueue('predictor', async () => {
        const { params, state } = engine.values;
        const weights = { params: await reader.read(params), state: await reader.read(state) };
        return { fixed: new Prediction(device, job, forward, weights), at: run.context };
      });
      let isClosed = false;
      const call = async (inputs: ArrayInputs<X>): Promise<ArraysOf<Y>> => {
        const leaves = readPredicted(inputs);
        return device.queue.add(async () => {
          if (isClosed) throw new Error('predictor: the predictor is closed');
          openBackend('predictor', device);
          return (await fixed.run(inputs, leaves, at)) as ArraysOf<Y>;
        });
      };
      const end = async (): Promise<void> => {
        isClosed = true;
        await device.queue.add(() => fixed.release());
      };
      return Object.assign(call, { close: end, [Symbol.asyncDispose]: end });
    },
    params: async () => params.fill(await run.read('params', 'params')) as ArraysOf<P>,
    state: async () => state.fill(await run.read('state', 'state')) as ArraysOf<S>,
    optimizerState: () => run.read('optimizerState', 'optimizer'),
    snapshot: () => run.enqueue('snapshot', () => run.snapshot()),
    restore: (snapshot) => run.restore(snapshot),
    close: () => run.close(),
    [Symbol.asyncDispose]: () => run.close(),
  };
}
