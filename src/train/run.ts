import type { ArrayLike, NDArray } from '../core/array.js';
import { isArrayLike } from '../core/array.js';
import { isFloat } from '../core/dtype.js';
import { checkNumber, wrongType } from '../core/errors.js';
import { checkSeed } from '../core/rng.js';
import { checkTensor } from '../core/tensor.js';
import { lookUp, mapRecord, mapTree, type Tree } from '../core/tree.js';
import type { Optimizer } from '../optim/transform.js';
import { type OrtBackend, openBackend } from '../runtime/backend.js';
import { arrayLeaves } from '../runtime/edge.js';
import type { RunContext } from '../runtime/host-inputs.js';
import { Program, toArray, toValue, type Value } from '../runtime/program.js';
import { type Arrays, type Holdings, leavesOf, type Store, takeNamed, type Values } from './engine.js';
import type { Reader } from './reader.js';
import { checkEntries, type Snapshot } from './snapshot.js';

const isCount = (n: number) => Number.isSafeInteger(n) && n >= 0;

/** The arrays of a tree by path, and a function that makes trees like it. */
export interface ArrayTree {
  readonly arrays: Arrays;
  readonly fill: <V>(named: Readonly<Record<string, V>>) => Tree<V>;
}

/** Takes a tree of arrays apart; `name` is what errors call it. */
export function readTree(fn: string, name: string, tree: unknown): ArrayTree {
  const leaves = arrayLeaves(fn, name, tree);
  // The tree without its data: what the caller does to theirs later changes nothing.
  const blank = mapTree(fn, tree, isArrayLike, 'an array', ({ shape }: ArrayLike) => ({ data: [], shape }));
  return {
    arrays: Object.fromEntries(leaves.map(({ path, array }) => [path.slice(name.length + 1), array])),
    fill: (named) => mapTree(fn, blank, isArrayLike, 'an array', (_, path) => lookUp(named, path)) as Tree<never>,
  };
}

/** {@link readTree} of parameters: float arrays, none of them twice. */
export function readParams(fn: string, tree: unknown): ArrayTree {
  const params = readTree(fn, 'params', tree);
  const seen = new Map<unknown, string>();
  for (const [name, array] of Object.entries(params.arrays)) {
    const path = name === '' ? 'params' : `params.${name}`;
    if (!isFloat(array.dtype)) throw wrongType(fn, path, 'a float array (parameters are trained)', array);
    const other = seen.get(array.data);
    if (other !== undefined) throw new TypeError(`${fn}: ${other} and ${path} are the same array; share weights inside the model instead`);
    seen.set(array.data, path);
  }
  if (seen.size === 0) throw new TypeError(`${fn}: params: expected at least one array`);
  return params;
}

export function checkOptimizer(fn: string, optimizer: unknown): asserts optimizer is Optimizer {
  const { init, update } = (optimizer ?? {}) as Partial<Optimizer>;
  if (typeof init !== 'function' || typeof update !== 'function') {
    throw wrongType(fn, 'optimizer', 'an optimizer, such as adam()', optimizer);
  }
}

/** The state that an optimizer begins with. */
export async function initialState(
  fn: string,
  device: OrtBackend,
  optimizer: Optimizer,
  paramTree: ArrayTree['fill'],
  trained: Arrays,
  seed: number,
): Promise<Arrays> {
  const values = mapRecord(trained, (array) => toValue(device.ort, array));
  const program = new Program<null, string[]>(fn, device, (leaves) => {
    const state = optimizer.init(paramTree(takeNamed(values, leaves.values())));
    const isRecord = typeof state === 'object' && state !== null;
    if (!isRecord) throw wrongType(fn, 'optimizer', 'a record of Tensors as the result of init()', state);
    const outputs = Object.entries(state).map(([name, tensor]) => checkTensor(fn, `state '${name}' of the optimizer`, tensor));
    return { outputs, meta: Object.keys(state) };
  });
  return device.queue.add(async () => {
    try {
      const { outputs, meta } = await program.run(leavesOf('params', values), Object.values(values), { step: 0, seed }, null);
      return Object.fromEntries(meta.map((name, i) => [name, toArray(outputs[i] as Value)]));
    } finally {
      await program.release();
    }
  });
}

/** The learning rate of an optimizer, which a number set by hand may replace. */
export class LearningRate {
  fixed: number | undefined;

  constructor(private readonly optimizer: Optimizer) {}

  /** The rate of a step; undefined if the optimizer has none or several. */
  get at(): ((step: number) => number) | undefined {
    const [rate, another] = this.optimizer.learningRates ?? [];
    return rate && !another ? (step) => this.fixed ?? rate(step) : undefined;
  }

  check(fn: string, rate: number | undefined): void {
    if (!this.at) throw new TypeError(`${fn}: the optimizer has no single learning rate to replace`);
    if (rate !== undefined) checkNumber(fn, 'learningRate', rate, 'a number >= 0 or undefined', (lr) => lr >= 0);
  }
}

/** What a trainer and a compiled update have in common: how far they are, and values that are read, saved and restored in turn. */
export class Run {
  steps = 0;
  #closed = false;
  #released = false;
  readonly #release = async (): Promise<void> => {
    if (this.#released) return;
    this.#released = true;
    this.device.resources.delete(this.#release);
    for (const part of [...this.parts, this.reader]) await part.release();
  };

  /**
   * @param name what errors call it
   * @param parts what is released at the end, in this order
   */
  constructor(
    readonly name: string,
    readonly device: OrtBackend,
    private seed: number,
    private readonly rate: LearningRate,
    private readonly store: Store,
    private readonly reader: Reader,
    private readonly parts: readonly { release(): Promise<void> }[],
  ) {
    if (device.device !== 'cpu') device.resources.add(this.#release);
  }

  get context(): RunContext {
    return { step: this.steps, seed: this.seed };
  }

  checkOpen(method: string): void {
    if (this.#closed) throw new Error(`${this.name}.${method}: the ${this.name} is closed`);
    openBackend(`${this.name}.${method}`, this.device);
  }

  /** Runs a task when it is its turn. */
  async enqueue<T>(method: string, task: () => Promise<T>): Promise<T> {
    this.checkOpen(method);
    return this.device.queue.add(() => {
      this.checkOpen(method);
      return task();
    });
  }

  read(method: string, of: keyof Holdings<Values>): Promise<Record<string, NDArray>> {
    return this.enqueue(method, () => this.reader.read(this.store.values[of]));
  }

  /** To be called from within the backend's queue. */
  async snapshot(): Promise<Snapshot> {
    const { params, state, optimizer } = this.store.values;
    return {
      step: this.steps,
      seed: this.seed,
      ...(this.rate.fixed === undefined ? {} : { learningRate: this.rate.fixed }),
      params: await this.reader.read(params),
      state: await this.reader.read(state),
      optimizer: await this.reader.read(optimizer),
    };
  }

  async restore(snapshot: Snapshot): Promise<void> {
    const fn = `${this.name}.restore`;
    if (typeof snapshot !== 'object' || snapshot === null) throw wrongType(fn, 'snapshot', 'a snapshot of a trainer', snapshot);
    // Read when it is its turn, so what is checked is what is written.
    await this.enqueue('restore', async () => {
      checkNumber(fn, 'step', snapshot.step, 'an integer >= 0', isCount);
      checkSeed(fn, 'seed', snapshot.seed);
      for (const part of ['params', 'state', 'optimizer'] as const) checkEntries(fn, part, this.store.values[part], snapshot[part]);
      if (snapshot.learningRate !== undefined) this.rate.check(fn, snapshot.learningRate);
      this.rate.fixed = snapshot.learningRate;
      this.store.write(snapshot);
      this.steps = snapshot.step;
      this.seed = snapshot.seed;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.device.queue.add(this.#release);
  }
}
