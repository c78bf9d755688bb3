import { readFileSync } from 'node:fs';

/** An array of a golden file. Its typed array fits the dtype; int64 is int32 for us, and without a dtype it is float64. */
export interface GoldenArray {
  readonly data: Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** Arrays, numbers and the like, in records and lists of any depth. */
export type Golden = GoldenArray | number | boolean | string | null | readonly Golden[] | { readonly [name: string]: Golden };

export interface GoldenCase {
  readonly id: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, Golden>>;
  readonly outputs: Readonly<Record<string, Golden>>;
  readonly rtol: number;
  readonly atol: number;
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);

export const isArray = (value: unknown): value is GoldenArray => isRecord(value) && 'data' in value && Array.isArray(value.shape);

/** JSON has no such numbers. */
const nonFinite: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};

function toNumber(value: unknown): number {
  const number = typeof value === 'boolean' ? Number(value) : typeof value === 'string' ? nonFinite[value] : value;
  if (typeof number !== 'number') throw new TypeError(`golden: expected a number, received ${JSON.stringify(value)}`);
  return number;
}

function toInteger(value: unknown, low: number, high: number): number {
  const number = toNumber(value);
  if (!Number.isInteger(number) || number < low || number > high)
    throw new RangeError(`golden: ${number} is no integer from ${low} to ${high}`);
  return number;
}

/** Arrays by the dtype that the file states. */
const storage: Readonly<Record<string, (data: readonly unknown[]) => Pick<GoldenArray, 'data' | 'dtype'>>> = {
  float32: (data) => ({ data: Float32Array.from(data, toNumber), dtype: 'float32' }),
  float64: (data) => ({ data: Float64Array.from(data, toNumber), dtype: 'float64' }),
  int32: (data) => ({ data: Int32Array.from(data, (x) => toInteger(x, -(2 ** 31), 2 ** 31 - 1)), dtype: 'int32' }),
  int64: (data) => ({ data: Int32Array.from(data, (x) => toInteger(x, -(2 ** 31), 2 ** 31 - 1)), dtype: 'int32' }),
  uint32: (data) => ({ data: Uint32Array.from(data, (x) => toInteger(x, 0, 2 ** 32 - 1)), dtype: 'uint32' }),
  uint8: (data) => ({ data: Uint8Array.from(data, (x) => toInteger(x, 0, 255)), dtype: 'uint8' }),
  bool: (data) => ({ data: Uint8Array.from(data, (x) => toInteger(x, 0, 1)), dtype: 'bool' }),
};

/** A value of the file as {@link Golden}; float32 arrays become `float32`. */
function decode(value: unknown, float32 = 'float32'): unknown {
  if (typeof value === 'string') return nonFinite[value] ?? value;
  if (Array.isArray(value)) return value.map((item) => decode(item, float32));
  if (!isRecord(value)) return value;
  if (!isArray(value)) return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, decode(item, float32)]));
  const { data, shape, dtype = 'float64' } = value as { data: unknown; shape: number[]; dtype?: string };
  const store = storage[dtype === 'float32' ? float32 : dtype];
  if (!store) throw new TypeError(`golden: unknown dtype '${dtype}'`);
  const size = shape.reduce((a, b) => a * b, 1);
  if (!Array.isArray(data) || data.length !== size) throw new RangeError(`golden: shape [${shape.join(', ')}] needs ${size} elements`);
  return { ...store(data), shape };
}

/** Reads a golden file: `{ name, source, cases: [{ id, options, inputs, outputs, rtol, atol }] }`. */
export function readGolden(path: string): GoldenCase[] {
  const { cases } = JSON.parse(readFileSync(path, 'utf8')) as { cases?: unknown };
  if (!Array.isArray(cases)) throw new TypeError(`golden: ${path} has no list of cases`);
  return cases.map((item: Record<string, unknown>) => {
    const { id, options = {}, inputs = {}, outputs, rtol, atol } = item;
    if (typeof id !== 'string' || !isRecord(outputs) || typeof rtol !== 'number' || typeof atol !== 'number') {
      throw new TypeError(
        `golden: ${path}: expected { id, outputs, rtol, atol } in every case, received keys ${Object.keys(item).join(', ')}`,
      );
    }
    // Expected values have the digits of float64 whatever their dtype.
    return { id, options: decode(options), inputs: decode(inputs), outputs: decode(outputs, 'float64'), rtol, atol } as GoldenCase;
  });
}
