import { type ArrayLike, type NDArray, toNDArray } from '../core/array.js';
import { type DType, fromFloat16Bits, isFloat } from '../core/dtype.js';
import { checkOptions, wrongType } from '../core/errors.js';
import { sameShape } from '../core/shape.js';
import { readSafetensors, roundFloats } from './safetensors.js';
import { checkNames, checkTrainer, difference, few, type Snapshot, type Snapshotable } from './snapshot.js';

export interface LoadWeightsOptions {
  /**
   * What a tensor of the file is in the trainer: a record or a function from its name to the path of a parameter or of model
   * state; where one path is both, `params.<path>` or `state.<path>` says which. Names that a record lacks stay as they are;
   * `undefined` skips the tensor. Default `{}`.
   */
  names?: Readonly<Record<string, string | undefined>> | ((name: string) => string | undefined);
  /** Whether parameters and model state that the file lacks, and tensors that the trainer lacks, are errors. Default true. */
  strict?: boolean;
  /**
   * Called with every tensor that is loaded, by its name in the file; returns what to load in its place. Arrays are those of
   * `decodeSafetensors`: float16 as bit patterns, bfloat16 as float32. A matrix `[rows, columns]` is transposed by
   * strides: `{ ...matrix, shape: [columns, rows], stride: [1, columns] }`.
   */
  transform?: (name: string, array: NDArray) => ArrayLike;
}

/** What did not fit together, if that is no error. */
export interface LoadWeightsResult {
  /** Parameters and model state that the file lacks; they are as they were. */
  readonly missing: readonly string[];
  /** Tensors of the file that the trainer lacks. */
  readonly unexpected: readonly string[];
}

/** A parameter, or an array of model state. */
interface Target {
  readonly section: 'params' | 'state';
  readonly path: string;
  /** For messages: the path, with the section where it would stand for two. */
  readonly name: string;
  readonly array: NDArray;
}

const fullName = (section: string, path: string): string => `${section}.${path}`;

function targetsOf({ params, state }: Snapshot): Target[] {
  const entries = (section: Target['section'], arrays: Snapshot['params'], others: Snapshot['params']): Target[] =>
    Object.entries(arrays).map(([path, array]) => {
      const name = Object.hasOwn(others, path) ? fullName(section, path) : path;
      return { section, path, name, array };
    });
  return [...entries('params', params, state), ...entries('state', state, params)];
}

interface Matches {
  /** The name in the file of what goes to a target. */
  readonly sources: ReadonlyMap<Target, string>;
  readonly missing: readonly string[];
  /** Names in the file, with the names they were to have here. */
  readonly unexpected: readonly (readonly [name: string, renamed: string])[];
}

/** Which tensor of the file goes where. */
function match(fn: string, names: readonly string[], rename: (name: string) => string | undefined, targets: readonly Target[]): Matches {
  const byName = new Map<string, Target[]>();
  for (const target of targets) {
    for (const name of [target.path, fullName(target.section, target.path)]) byName.set(name, [...(byName.get(name) ?? []), target]);
  }
  const sources = new Map<Target, string>();
  const unexpected: [string, string][] = [];
  for (const name of names) {
    const renamed = rename(name);
    if (renamed === undefined) continue;
    if (typeof renamed !== 'string') throw wrongType(fn, `names: '${name}'`, 'a path or undefined', renamed);
    const [target, other] = byName.get(renamed) ?? [];
    if (!target) {
      unexpected.push([name, renamed]);
      continue;
    }
    if (other) {
      const [a, b] = [target, other].map(({ section, path }) => `'${fullName(section, path)}'`);
      throw new TypeError(`${fn}: names: '${name}': '${renamed}' may be ${a} or ${b}; say which it is`);
    }
    const first = sources.get(target);
    if (first !== undefined) throw new TypeError(`${fn}: names: '${first}' and '${name}' both go to '${target.name}'`);
    sources.set(target, name);
  }
  return { sources, missing: targets.filter((target) => !sources.has(target)).map(({ name }) => name), unexpected };
}

/** How an array of the file differs from what it is to replace, in words; floats may be of another width. */
function misfit({ array: expected }: Target, given: NDArray): string | undefined {
  const { shape } = expected;
  const dtype = isFloat(expected.dtype) && isFloat(given.dtype) ? given.dtype : expected.dtype;
  const transposed = shape.length === 2 && !sameShape(given.shape, shape) && sameShape([...given.shape].reverse(), shape);
  const reason = difference({ shape, dtype }, given);
  return reason && transposed ? `${reason} (if the file has the matrix transposed, the option transform can turn it round)` : reason;
}

/** An array with elements of a dtype; floats are rounded. */
function convert(fn: string, name: string, array: NDArray, dtype: DType): NDArray {
  if (array.dtype === dtype) return array;
  const numbers = array.dtype === 'float16' ? Float32Array.from(array.data, fromFloat16Bits) : (array.data as Float32Array);
  return { ...array, data: roundFloats(fn, `tensor '${name}'`, numbers, dtype as 'float32' | 'float16'), dtype };
}

/**
 * Loads weights that others wrote, such as a PyTorch model's, from a safetensors file. Parameters and model state (running
 * statistics) are replaced; optimizer state, step and seed stay. If anything is wrong, nothing has changed.
 *
 * Shapes must agree. Floats of another width are converted to the dtype of the parameter; a number that is too large for it
 * is an error.
 *
 * @param trainer await its steps first: one that ends while weights are loaded is lost
 * @throws if names are missing or unexpected (unless `strict` is false), two tensors go to one place, or a shape or dtype differs
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { loadWeights, type Snapshotable } from 'tracegrad/train';
 *
 * const fromPyTorch = async (trainer: Snapshotable) =>
 *   loadWeights(trainer, await readFile('model.safetensors'), {
 *     names: (name) => (name.endsWith('num_batches_tracked') ? undefined : name.replace(/^module\./, '')),
 *   });
 * ```
 */
export async function loadWeights(trainer: Snapshotable, bytes: Uint8Array, options: LoadWeightsOptions = {}): Promise<LoadWeightsResult> {
  const fn = 'loadWeights';
  checkTrainer(fn, trainer);
  checkOptions(fn, options, ['names', 'strict', 'transform']);
  const { names = {}, strict = true, transform } = options;
  if (typeof names !== 'function' && (typeof names !== 'object' || names === null)) {
    throw wrongType(fn, 'names', 'a record or a function from names of the file to paths', names);
  }
  if (typeof strict !== 'boolean') throw wrongType(fn, 'strict', 'a boolean', strict);
  if (transform !== undefined && typeof transform !== 'function') {
    throw wrongType(fn, 'transform', 'a function of a name and an array', transform);
  }
  const rename = typeof names === 'function' ? names : (name: string) => (Object.hasOwn(names, name) ? names[name] : name);

  const { tensors } = readSafetensors(fn, bytes);
  const snapshot = await trainer.snapshot();
  const targets = targetsOf(snapshot);
  const { sources, missing, unexpected } = match(fn, Object.keys(tensors), rename, targets);
  if (strict) checkNames(fn, 'the file', missing, unexpected);
  const given = new Map<Target, NDArray>();
  const wrong: string[] = [];
  for (const [target, name] of sources) {
    const stored = tensors[name] as NDArray;
    const array = transform ? toNDArray(fn, `transform('${name}')`, transform(name, stored)) : stored;
    const reason = misfit(target, array);
    if (reason === undefined) given.set(target, convert(fn, name, array, target.array.dtype));
    else wrong.push(`'${name}'${name === target.name ? '' : ` as '${target.name}'`}: ${reason}`);
  }
  if (wrong.length > 0) throw new RangeError(`${fn}: ${few(wrong, '; ')}`);
  const section = (wanted: Target['section']): Record<string, NDArray> =>
    Object.fromEntries(
      targets.filter(({ section }) => section === wanted).map((target) => [target.path, given.get(target) ?? target.array]),
    );
  await trainer.restore({ ...snapshot, params: section('params'), state: section('state') });
  return { missing, unexpected: unexpected.map(([name]) => name) };
}
