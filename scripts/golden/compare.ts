import { type DType, fromFloat16Bits } from '../../src/core/dtype.js';
import { isArray, isRecord } from './format.js';

/** What a value is once it is clear what shape it has: an array or a number, or something that must simply be equal. */
type Leaf = { readonly shape: readonly number[]; readonly data: readonly number[] } | { readonly value: unknown };

const fromArray = (data: ArrayLike<number>, shape: readonly number[], dtype?: string): Leaf => ({
  shape,
  data: dtype === ('float16' satisfies DType) ? Array.from(data, fromFloat16Bits) : Array.from(data, Number),
});

const isNumeric = (value: unknown): value is number | boolean => typeof value === 'number' || typeof value === 'boolean';

/** Arrays, typed arrays, lists of numbers and single numbers alike; undefined for records and other lists. */
function leafOf(value: unknown): Leaf | undefined {
  if (isArray(value)) return fromArray(value.data, value.shape, value.dtype);
  if (ArrayBuffer.isView(value)) return fromArray(value as Float32Array, [(value as Float32Array).length]);
  if (isNumeric(value)) return fromArray([Number(value)], []);
  if (Array.isArray(value)) return value.every(isNumeric) ? fromArray(value.map(Number), [value.length]) : undefined;
  return isRecord(value) ? undefined : { value };
}

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

export interface Comparison {
  /** What differs: `grad_logits[3]: expected 0.5, received 0.6`. */
  readonly failures: string[];
  /** The largest error, as a share of what is allowed. */
  worst: number;
}

function compareLeaves(path: string, expected: Leaf, actual: Leaf, { rtol, atol }: Tolerance, result: Comparison): void {
  if ('value' in expected || 'value' in actual) {
    const [e, a] = [expected, actual].map((leaf) => ('value' in leaf ? JSON.stringify(leaf.value) : `[${leaf.shape.join(', ')}]`));
    if (e !== a) result.failures.push(`${path}: expected ${e}, received ${a}`);
    return;
  }
  if (expected.shape.join() !== actual.shape.join() || actual.data.length !== expected.data.length) {
    result.failures.push(
      `${path}: expected shape [${expected.shape.join(', ')}], received [${actual.shape.join(', ')}] with ${actual.data.length} elements`,
    );
    return;
  }
  let first: string | undefined;
  let wrong = 0;
  expected.data.forEach((e, i) => {
    const a = actual.data[i] as number;
    if (Object.is(e, a) || e === a) return;
    // An infinity would allow any error.
    const share = Number.isFinite(e) ? Math.abs(a - e) / (atol + rtol * Math.abs(e)) : Number.POSITIVE_INFINITY;
    if (share <= 1) {
      result.worst = Math.max(result.worst, share);
      return;
    }
    result.worst = Number.POSITIVE_INFINITY === share || Number.isNaN(share) ? Number.POSITIVE_INFINITY : Math.max(result.worst, share);
    wrong++;
    first ??= `${path}${expected.shape.length === 0 ? '' : `[${i}]`}: expected ${e}, received ${a}`;
  });
  if (first !== undefined) result.failures.push(wrong === 1 ? first : `${first} (and ${wrong - 1} more of ${expected.data.length})`);
}

function compareTrees(path: string, expected: unknown, actual: unknown, tolerance: Tolerance, result: Comparison): void {
  const wanted = leafOf(expected);
  const found = leafOf(actual);
  if (wanted && found) {
    compareLeaves(path, wanted, found, tolerance, result);
    return;
  }
  if (wanted || found || Array.isArray(expected) !== Array.isArray(actual)) {
    const kind = (leaf: Leaf | undefined, value: unknown) => (leaf ? 'a value' : Array.isArray(value) ? 'a list' : 'a record');
    result.failures.push(`${path}: expected ${kind(wanted, expected)}, received ${kind(found, actual)}`);
    return;
  }
  const [e, a] = [expected as Record<string, unknown>, actual as Record<string, unknown>];
  const child = (key: string) => (path === '' ? key : `${path}.${key}`);
  for (const key of Object.keys(e)) {
    if (a[key] === undefined) result.failures.push(`${child(key)}: missing`);
    else compareTrees(child(key), e[key], a[key], tolerance, result);
  }
  for (const key of Object.keys(a)) if (!(key in e) && a[key] !== undefined) result.failures.push(`${child(key)}: not expected`);
}

/**
 * Compares trees of arrays and numbers: the same keys, shapes and elements, each within `atol + rtol |expected|`; NaN and
 * infinities must be the same. A number is an array of shape `[]`, a list of numbers one of rank 1.
 */
export function compare(expected: unknown, actual: unknown, tolerance: Tolerance): Comparison {
  const result: Comparison = { failures: [], worst: 0 };
  compareTrees('', expected, actual, tolerance, result);
  return result;
}
