import { outOfRange, wrongType } from '../core/errors.js';
import { isContainer } from '../core/tree.js';

/**
 * A value as JSON that `JSON.parse` turns into an equal value. What JSON has no form for is an error that names its place,
 * where `JSON.stringify` leaves it out or writes something else.
 */
export function toJson(fn: string, path: string, value: unknown, within: readonly unknown[] = []): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw outOfRange(fn, path, 'a finite number, as JSON has no other', value);
    return Object.is(value, -0) ? '-0' : String(value);
  }
  if (!isContainer(value)) throw wrongType(fn, path, 'JSON data (null, booleans, numbers, strings, arrays and plain objects)', value);
  if (within.includes(value)) throw new TypeError(`${fn}: ${path}: expected JSON data, received an object that contains itself`);
  const child = (key: PropertyKey, item: unknown): string => toJson(fn, `${path}.${String(key)}`, item, [...within, value]);
  // Array.from also visits holes.
  if (Array.isArray(value)) return `[${Array.from(value, (item, index) => child(index, item)).join(',')}]`;
  const members = Reflect.ownKeys(value).map((key) => {
    if (typeof key === 'symbol') throw wrongType(fn, path, 'JSON data, whose keys are strings', key);
    return `${JSON.stringify(key)}:${child(key, value[key])}`;
  });
  return `{${members.join(',')}}`;
}
