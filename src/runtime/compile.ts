import { type ArrayLike, isArrayLike, type NDArray, toNDArray } from '../core/array.js';
import { checkNumber, checkOptions, wrongType } from '../core/errors.js';
import { isTensor, type Tensor } from '../core/tensor.js';
import { mapTree, type Tree } from '../core/tree.js';
import type { ArrayInputs, Arrays } from '../core/types.js';
import { type Backend, openBackend } from './backend.js';
import { type AxisNames, type Leaf, Program, toArray, toValue } from './program.js';

/** A traced function on a backend: arrays in, arrays out. */
export interface Compiled<A extends unknown[], R> extends AsyncDisposable {
  (...args: ArrayInputs<A>): Promise<Arrays<R>>;
  /** The step number that host inputs see in the next run; counts successful runs. */
  step: number;
  /** Releases the sessions. */
  close(): Promise<void>;
}

/**
 * Names of the axes of an argument: a list for an array (`['batch', null]`; axes beyond the list have no name),
 * or a tree of such lists that goes as deep as needed. A list stands for all arrays below it.
 */
export type Axes = AxisNames | { readonly [key: string]: Axes } | null | undefined;

export interface CompileOptions {
  /** Named axes of every argument. One session then serves all sizes (except 1) of such an axis. */
  axes?: readonly Axes[];
  /** Seed of the generators that host inputs draw from. Default 0. */
  seed?: number;
}

const isAxisNames = (axes: unknown): axes is AxisNames =>
  Array.isArray(axes) && axes.every((name) => name === null || typeof name === 'string');

/** The axis names that hold at a path of an argument tree. */
export function axesAt(fn: string, axes: Axes, path: string): AxisNames | undefined {
  let level: unknown = axes;
  for (const key of path === '' ? [] : path.split('.')) {
    if (level === null || level === undefined || isAxisNames(level)) break;
    level = (level as Record<string, unknown>)[key];
  }
  if (level === null || level === undefined) return undefined;
  if (!isAxisNames(level)) throw wrongType(fn, `axes of ${path || 'the argument'}`, "a list of names and nulls, such as ['batch', null]", level);
  return level;
}

/** An array of a tree with where it stands. */
export interface ArrayLeaf extends Leaf {
  readonly array: NDArray;
}

/** The arrays of a tree, checked; `name` is what errors call the tree. */
export function arrayLeaves(fn: string, name: string, tree: unknown, axes?: Axes): ArrayLeaf[] {
  const leaves: ArrayLeaf[] = [];
  mapTree(fn, { [name]: tree }, isArrayLike, 'an array { data, shape } or a tree of arrays (a number: array(number))', (value: ArrayLike, path) => {
    const array = toNDArray(fn, path, value);
    const { shape, dtype } = array;
    leaves.push({ path, shape, dtype, array, axes: axesAt(fn, axes, path.slice(name.length + 1)) });
  });
  return leaves;
}

/** A tree like one of arrays, with Tensors in their place, taken in order. */
export const withTensors = (tree: unknown, tensors: Iterator<Tensor>): unknown =>
  mapTree('compile', tree, isArrayLike, 'an array', () => tensors.next().value as Tensor);

/**
 * Traces `fn` and runs it on a backend. It is traced once for every set of shapes and dtypes it is called with; what
 * it does besides computing Tensors happens at that time only.
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
  checkNumber('compile', 'seed', seed, 'an integer from 0 to 2^53 - 1', (n) => Number.isSafeInteger(n) && n >= 0);
  const name = fn.name || 'compiled function';
  let args: unknown[] = [];
  const program = new Program<Tree<number>>(
    name,
    device,
    (leaves) => {
      const tensors = leaves.values();
      const result = fn(...(args.map((arg) => withTensors(arg, tensors)) as A));
      const outputs: Tensor[] = [];
      const meta = mapTree(name, result, isTensor, 'a Tensor or a tree of Tensors as result', (tensor) => outputs.push(tensor) - 1);
      return { outputs, meta };
    },
    seed,
  );
  let closed = false;
  const run = async (...inputs: unknown[]): Promise<unknown> => {
    if (closed) throw new Error(`${name}: the compiled function is closed`);
    openBackend(name, device);
    const leaves = inputs.flatMap((input, i) => arrayLeaves(name, `argument ${i}`, input, axes[i]));
    return device.queue.add(async () => {
      args = inputs;
      const values = leaves.map(({ array }) => toValue(device.ort, array));
      const { outputs, meta } = await program.run(leaves, values, compiled.step);
      compiled.step++;
      return mapTree(name, meta, (value) => typeof value === 'number', 'an index', (index) => toArray(outputs[index] as never));
    });
  };
  const close = async (): Promise<void> => {
    closed = true;
    await device.queue.add(() => program.release());
  };
  const compiled = Object.assign(run, { step: 0, close, [Symbol.asyncDispose]: close }) as unknown as Compiled<A, R>;
  return compiled;
}
