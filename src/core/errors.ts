import type { DType } from './dtype.js';

/** A short description of a value for error messages. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return value.length > 8 ? `an array of ${value.length}` : `[${value.map(show).join(', ')}]`;
  const { shape, dtype } = value as { shape?: readonly number[]; dtype?: DType };
  if (Array.isArray(shape)) return `${'data' in value ? 'an array ' : ''}${dtype ?? ''}[${shape.join(', ')}]`;
  const name = value.constructor?.name ?? 'Object';
  return name === 'Object' ? `an object with keys ${Object.keys(value).map(show).join(', ') || '(none)'}` : `a ${name}`;
}

/** The error of a value of the wrong kind: `add: b: expected a Tensor, received 'x'`. */
export const wrongType = (fn: string, argument: string, expected: string, received: unknown): TypeError =>
  new TypeError(`${fn}: ${argument}: expected ${expected}, received ${show(received)}`);

/** The error of a value of the right kind that is out of range or of the wrong shape. */
export const outOfRange = (fn: string, argument: string, expected: string, received: unknown): RangeError =>
  new RangeError(`${fn}: ${argument}: expected ${expected}, received ${show(received)}`);

/** Throws unless every key of `options` is one of `allowed`. */
export function checkOptions(fn: string, options: unknown, allowed: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw wrongType(fn, 'options', 'an object', options);
  for (const key of Object.keys(options)) {
    if (!allowed.includes(key)) {
      throw new TypeError(`${fn}: unknown option '${key}'; the options are ${allowed.join(', ') || '(none)'}`);
    }
  }
}

/** Throws unless `value` is a finite number for which `holds`; `expected` names the range. */
export function checkNumber(
  fn: string,
  argument: string,
  value: unknown,
  expected: string,
  holds: (value: number) => boolean = () => true,
): asserts value is number {
  if (typeof value !== 'number') throw wrongType(fn, argument, expected, value);
  if (!Number.isFinite(value) || !holds(value)) throw outOfRange(fn, argument, expected, value);
}

/** Throws unless `value` is one of `allowed`. */
export function checkOneOf<T>(fn: string, argument: string, value: unknown, allowed: readonly T[]): asserts value is T {
  if (!allowed.includes(value as T)) throw outOfRange(fn, argument, `one of ${allowed.map(show).join(', ')}`, value);
}

/** Throws unless `value` is a boolean. */
export function checkBoolean(fn: string, argument: string, value: unknown): asserts value is boolean {
  if (typeof value !== 'boolean') throw wrongType(fn, argument, 'true or false', value);
}

/** Throws unless `value` is a positive integer. */
export const checkSize = (fn: string, argument: string, value: unknown): void =>
  checkNumber(fn, argument, value, 'a positive integer', (n) => Number.isInteger(n) && n > 0);

/** Throws unless `params` is an object, and one with no other keys than `allowed`. */
export function checkParams(fn: string, params: unknown, allowed: readonly string[]): void {
  if (typeof params !== 'object' || params === null) throw wrongType(fn, 'params', `{ ${allowed.join(', ')} }`, params);
  const unknown = Object.keys(params).find((key) => !allowed.includes(key));
  if (unknown !== undefined) throw new TypeError(`${fn}: params: unknown parameter '${unknown}'; expected { ${allowed.join(', ')} }`);
}
