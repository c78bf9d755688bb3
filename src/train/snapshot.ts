import type { NDArray } from '../core/array.js';
import { isStorageOf } from '../core/dtype.js';
import { show, wrongType } from '../core/errors.js';
import { sameShape, sizeOf } from '../core/shape.js';
import type { Spec } from '../core/tensor.js';

/** Everything that a run needs to continue, as data on the host. */
export interface Snapshot {
  /** Successful steps so far. */
  readonly step: number;
  /** Seed of the generators that host inputs draw from; with `step` that is their whole state. */
  readonly seed: number;
  /** A learning rate that was set by hand and takes the place of the optimizer's. */
  readonly learningRate?: number;
  /** Parameters by path: `blocks.0.weight`. */
  readonly params: Readonly<Record<string, NDArray>>;
  /** Optimizer state by slot and path: `m.blocks.0.weight`, `step`. */
  readonly optimizer: Readonly<Record<string, NDArray>>;
  /** Model state by path, such as running statistics. */
  readonly state: Readonly<Record<string, NDArray>>;
}

/** What can be saved and restored: a trainer. */
export interface Snapshotable {
  /** A copy of everything. */
  snapshot(): Promise<Snapshot>;
  /** Replaces everything. If names, shapes or dtypes are not those of the trainer, nothing has changed. */
  restore(snapshot: Snapshot): Promise<void>;
}

/** Throws unless `trainer` can be saved and restored. */
export function checkTrainer(fn: string, trainer: unknown): asserts trainer is Snapshotable {
  const { snapshot, restore } = (trainer ?? {}) as Partial<Snapshotable>;
  if (typeof snapshot !== 'function' || typeof restore !== 'function') throw wrongType(fn, 'trainer', 'a trainer', trainer);
}

/** An error names at most this many entries. */
const LISTED = 3;

/** The first few of a list, in words. */
export const few = (items: readonly string[], separator = ', '): string =>
  items.slice(0, LISTED).join(separator) + (items.length > LISTED ? ` and ${items.length - LISTED} more` : '');

/** Insertions, deletions and substitutions that turn `a` into `b` (Levenshtein's distance). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const substituted = (row[j] as number) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(substituted, (row[j + 1] as number) + 1, (next[j] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** The candidate most like `name`, if it differs in at most a quarter of its characters. */
function nearest(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.ceil(name.length / 4) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - name.length) >= least) continue;
    const distance = editDistance(name, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/**
 * Throws if there are any names in the lists.
 *
 * @param missing names that were expected
 * @param unexpected names that came, each with what it stands for (the same name, unless it was mapped)
 */
export function checkNames(
  fn: string,
  what: string,
  missing: readonly string[],
  unexpected: readonly (readonly [name: string, target: string])[],
): void {
  if (missing.length === 0 && unexpected.length === 0) return;
  const others = unexpected.slice(0, LISTED).map(([name, target]) => {
    const suggestion = nearest(target, missing);
    return `'${name}'${name === target ? '' : ` as '${target}'`}${suggestion === undefined ? '' : ` (did you mean '${suggestion}'?)`}`;
  });
  const parts = [
    missing.length > 0 ? `missing ${few(missing.map(show))}` : '',
    unexpected.length > 0 ? `unexpected ${few([...others, ...unexpected.slice(LISTED).map(([name]) => name)])}` : '',
  ];
  throw new TypeError(`${fn}: ${what}: ${parts.filter((part) => part !== '').join('; ')}`);
}

/** How a value differs from the array that was expected, in words; undefined if it does not. */
export function difference({ shape, dtype }: Spec, value: unknown): string | undefined {
  const expected = `expected ${dtype}[${shape.join(', ')}], received ${show(value)}`;
  const given = value as Partial<NDArray> | undefined;
  if (!Array.isArray(given?.shape) || !sameShape(given.shape, shape) || given.dtype !== dtype) return expected;
  const { data } = given;
  return isStorageOf(dtype, data) && data.length === sizeOf(shape)
    ? undefined
    : `${expected} whose data are ${show(data)} of length ${(data as { length?: number } | undefined)?.length}`;
}

/**
 * Throws unless a record has the expected entries and no others, each of the expected shape and dtype.
 *
 * @param what what errors call the record
 */
export function checkEntries(
  fn: string,
  what: string,
  expected: Readonly<Record<string, Spec>>,
  given: Readonly<Record<string, NDArray>>,
): void {
  if (typeof given !== 'object' || given === null) throw wrongType(fn, what, 'a record of arrays by name', given);
  checkNames(
    fn,
    what,
    Object.keys(expected).filter((name) => !Object.hasOwn(given, name)),
    Object.keys(given).flatMap((name) => (Object.hasOwn(expected, name) ? [] : [[name, name] as const])),
  );
  const wrong = Object.entries(expected).flatMap(([name, spec]) => {
    const reason = difference(spec, given[name]);
    return reason === undefined ? [] : [`'${name}': ${reason}`];
  });
  if (wrong.length > 0) throw new RangeError(`${fn}: ${what}: ${few(wrong, '; ')}`);
}
