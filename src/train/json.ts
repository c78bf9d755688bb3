import { outOfRange, wrongType } from '../core/errors.js';
import { isContainer } from '../core/tree.js';

/** What JSON.stringify changes as well: -0, keys that are not enumerable, and objects that have a `toJSON`. */
function write(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(write).join(',')}]`;
  if (isContainer(value)) {
    const members = Object.getOwnPropertyNames(value).map((key) => `${JSON.stringify(key)}:${write(value[key])}`);
    return `{${members.join(',')}}`;
  }
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  return JSON.stringify(value);
}

/**
 * A value as JSON that `JSON.parse` turns into an equal value. What JSON has no form for is an error that names its place,
 * where `JSON.stringify` leaves it out or writes something else.
 */
export function toJson(fn: string, path: string, value: unknown): string {
  const keys: PropertyKey[] = [];
  const within: unknown[] = [];
  /** Joined for errors only: there may be millions of values. */
  const place = () => [path, ...keys].map(String).join('.');

  /** Throws unless it is JSON data; says whether JSON.stringify would write all of it. */
  const check = (item: unknown): boolean => {
    if (typeof item === 'number') {
      if (!Number.isFinite(item)) throw outOfRange(fn, place(), 'a finite number, as JSON has no other', item);
      return !Object.is(item, -0);
    }
    if (item === null || typeof item === 'boolean' || typeof item === 'string') return true;
    if (!isContainer(item)) {
      throw wrongType(fn, place(), 'JSON data (null, booleans, numbers, strings, arrays and plain objects)', item);
    }
    if (within.includes(item)) throw new TypeError(`${fn}: ${place()}: expected JSON data, received an object that contains itself`);
    within.push(item);
    let usual = typeof item.toJSON !== 'function';
    const visit = (key: string | number, child: unknown): void => {
      keys.push(key);
      if (!check(child)) usual = false;
      keys.pop();
    };
    if (Array.isArray(item)) {
      // Holes as well.
      for (let i = 0; i < item.length; i++) visit(i, item[i]);
    } else {
      const all = Reflect.ownKeys(item);
      for (const key of all) {
        if (typeof key === 'symbol') throw wrongType(fn, place(), 'JSON data, whose keys are strings', key);
        visit(key, item[key]);
      }
      if (Object.keys(item).length < all.length) usual = false;
    }
    within.pop();
    return usual;
  };
  return check(value) ? JSON.stringify(value) : write(value);
}
