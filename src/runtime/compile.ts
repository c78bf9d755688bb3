import { checkOptions, wrongType } from '../core/errors.js';
import { checkSeed } from '../core/rng.js';
import type { Tree } from '../core/tree.js';
import type { ArrayInputs, Arrays } from '../core/types.js';
import { type Backend, openBackend } from './backend.js';
import { type Axes, arrayLeaves, fillOutputs, indexOutputs, withTensors } from './edge.js';
import { Program, toValue } from './program.js';

/** A traced function on a backend: arrays in, arrays out. */
export interface Compiled<A extends unknown[], R> extends AsyncDisposable {
  (...args: ArrayInputs<A>): Promise<Arrays<R>>;
  /** The step number that host inputs see in the next run; counts successful runs. */
  step: number;
  /** Releases the sessions. */
  close(): Promise<void>;
}

export interface CompileOptions {
  /** Named axes of every argument. One session then serves all sizes (except 1) of such an axis. */
  axes?: readonly Axes[];
  /** Seed of the generators that host inputs draw from. Default 0. */
  seed?: number;
}

/**
 * Traces `fn` and runs it on a backend. It is traced once for every set of shapes and dtypes it is called with, and with named
 * axes at a few other sizes for comparison; what it does besides computing Tensors happens at those times only. Arrays are read when the run starts: do not change them
 * before the returned promise resolves.
 *
 * @param backend made by `createBackend`
 * @param fn a function of Tensors (or trees of them) that returns a Tensor or a tree of Tensors
 * @param options.axes names of axes whose size may vary from call to call without a new session
 * @returns an async function of arrays; it closes with the backend, or earlier by its `close()`
 * @throws when called with something other than arrays, with sizes that disagree, or after `close()`
 * @example
 * ```ts
 * import { array, compile, matmul, type Tensor } from 'tracegrad';
 * import { createBackend } from 'tracegrad/node';
 *
 * const backend = await createBackend({ device: 'cpu' });
 * const product = compile(backend, (a: Tensor, b: Tensor) => matmul(a, b));
 * const { data } = await product(array([[1, 2]]), array([[3], [4]])); // Float32Array [11]
 * await backend.close();
 * ```
 */
export function compile<A extends unknown[], R>(backend: Backend, fn: (...args: A) => R, options: CompileOptions = {}): Compiled<A, R> {
  const device = openBackend('compile', backend);
  if (typeof fn !== 'function') throw wrongType('compile', 'fn', 'a function', fn);
  checkOptions('compile', options, ['axes', 'seed']);
  const { axes = [], seed = 0 } = options;
  if (!Array.isArray(axes)) throw wrongType('compile', 'axes', 'a list with one entry per argument', axes);
  checkSeed('compile', 'seed', seed);
  const name = fn.name || 'compiled function';
  const program = new Program<readonly unknown[], Tree<number>>(name, device, (leaves, args) => {
    const tensors = leaves.values();
    return indexOutputs(name, fn(...(args.map((arg) => withTensors(arg, tensors)) as A)));
  });
  let closed = false;
  const run = async (...inputs: unknown[]): Promise<unknown> => {
    if (closed) throw new Error(`${name}: the compiled function is closed`);
    const leaves = inputs.flatMap((input, i) => arrayLeaves(name, `argument ${i}`, input, axes[i]));
    return device.queue.add(async () => {
      openBackend(name, device); // it may have been closed while this run waited
      const values = leaves.map(({ array }) => toValue(device.ort, array));
      const { outputs, meta } = await program.run(leaves, values, { step: compiled.step, seed }, inputs);
      compiled.step++;
      return fillOutputs(name, meta, outputs);
    });
  };
  const close = async (): Promise<void> => {
    closed = true;
    await device.queue.add(() => program.release());
  };
  const compiled = Object.assign(run, { step: 0, close, [Symbol.asyncDispose]: close }) as unknown as Compiled<A, R>;
  return compiled;
}
