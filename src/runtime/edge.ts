import { type ArrayLike, isArrayLike, type NDArray, toNDArray } from '../core/array.js';
import { wrongType } from '../core/errors.js';
import { isTensor, type Tensor } from '../core/tensor.js';
import { mapTree, type Tree } from '../core/tree.js';
import { type AxisNames, type Leaf, toArray, type Value } from './program.js';

/**
 * Names of the axes of an argument: a list for an array (`['batch', null]`; axes beyond the list have no name),
 * or a tree of such lists that goes as deep as needed. A list stands for all arrays below it.
 */
export type Axes = AxisNames | readonly Axes[] | { readonly [key: string]: Axes } | null | undefined;

export const isAxisNames = (axes: unknown): axes is AxisNames =>
  Array.isArray(axes) && axes.every((name) => name === null || typeof name === 'string');

/** The axis names that hold at a path of an argument tree. */
export function axesAt(fn: string, axes: Axes, path: string): AxisNames | undefined {
  let level: unknown = axes;
  let rest = path === '' ? [] : path.split('.');
  while (rest.length > 0 && typeof level === 'object' && level !== null && !isAxisNames(level)) {
    // Keys may hold dots: the first so many parts of the path that are one.
    const count = rest.findIndex((_, i) => Object.hasOwn(level as object, rest.slice(0, i + 1).join('.'))) + 1;
    if (count === 0) return undefined;
    level = (level as Record<string, unknown>)[rest.slice(0, count).join('.')];
    rest = rest.slice(count);
  }
  if (level === null || level === undefined) return undefined;
  if (!isAxisNames(level))
    throw wrongType(fn, `axes of ${path || 'the argument'}`, "a list of names and nulls, such as ['batch', null]", level);
  return level;
}

/** An array of a tree with where it stands. */
export interface ArrayLeaf extends Leaf {
  readonly array: NDArray;
}

/** Throws if `axes` names something that is not there: a misspelt name would cost a session per size. */
function checkAxes(fn: string, axes: Axes, paths: readonly string[]): void {
  const isLeaf = (value: unknown): value is AxisNames | null | undefined => value === null || value === undefined || isAxisNames(value);
  mapTree(fn, axes, isLeaf, "a list of names and nulls, such as ['batch', null], as axes", (_, at) => {
    if (at !== '' && !paths.some((path) => path === at || path.startsWith(`${at}.`))) {
      throw new TypeError(`${fn}: axes: there is no array '${at}'; there are ${paths.join(', ')}`);
    }
  });
}

/** The arrays of a tree, checked; `name` is what errors call the tree. */
export function arrayLeaves(fn: string, name: string, tree: unknown, axes?: Axes): ArrayLeaf[] {
  const leaves: ArrayLeaf[] = [];
  mapTree(
    fn,
    { [name]: tree },
    isArrayLike,
    'an array { data, shape } or a tree of arrays (a number: array(number))',
    (value: ArrayLike, path) => {
      const array = toNDArray(fn, path, value);
      const { shape, dtype } = array;
      leaves.push({ path, shape, dtype, array, axes: axesAt(fn, axes, path.slice(name.length + 1)) });
    },
  );
  checkAxes(
    fn,
    axes,
    leaves.map(({ path }) => path.slice(name.length + 1)),
  );
  return leaves;
}

/** A tree like one of arrays, with Tensors in their place, taken in order. */
export const withTensors = (tree: unknown, tensors: Iterator<Tensor>): unknown =>
  mapTree('compile', tree, isArrayLike, 'an array', () => tensors.next().value as Tensor);

/** The Tensors of a result as a list, and the result with their indices in their place. */
export function indexOutputs(fn: string, result: unknown): { outputs: Tensor[]; meta: Tree<number> } {
  const outputs: Tensor[] = [];
  const meta = mapTree(fn, result, isTensor, 'a Tensor or a tree of Tensors as result', (tensor) => outputs.push(tensor) - 1);
  return { outputs, meta };
}

const isIndex = (value: unknown): value is number => typeof value === 'number';

/** The result that {@link indexOutputs} took apart, with arrays in place of Tensors. */
export const fillOutputs = (fn: string, meta: Tree<number>, outputs: readonly Value[]): unknown =>
  mapTree(fn, meta, isIndex, 'an index', (index) => toArray(outputs[index] as Value));
