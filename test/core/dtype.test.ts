import { describe, expect, it } from 'vitest';
import { allocate, byteSize, fromFloat16Bits, isDType, isFloat, toFloat16Bits } from '../../src/core/dtype.js';

/** The number of a float16 pattern, from the definition of IEEE 754. */
function decode(pattern: number): number {
  const bits = pattern.toString(2).padStart(16, '0');
  const sign = bits[0] === '1' ? -1 : 1;
  const exponent = Number.parseInt(bits.slice(1, 6), 2);
  const fraction = Number.parseInt(bits.slice(6), 2) / 1024;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}

const patterns = Array.from({ length: 65536 }, (_, pattern) => pattern);
const isNaNPattern = (pattern: number) => (pattern & 0x7c00) === 0x7c00 && (pattern & 0x03ff) !== 0;

describe('float16', () => {
  it('decodes all patterns', () => {
    expect(patterns.filter((pattern) => !Object.is(fromFloat16Bits(pattern), decode(pattern)))).toEqual([]);
  });

  it('encodes all numbers back to their patterns', () => {
    const changed = patterns.filter((pattern) => !isNaNPattern(pattern) && toFloat16Bits(fromFloat16Bits(pattern)) !== pattern);
    expect(changed).toEqual([]);
  });

  it('rounds to the nearest number, ties to even', () => {
    // Between two neighbours: a quarter of the way, half of it, and three quarters.
    for (const low of patterns.filter((pattern) => pattern < 0x7bff)) {
      const [a, b] = [decode(low), decode(low + 1)];
      const even = low % 2 === 0 ? low : low + 1;
      expect([0.25, 0.5, 0.75].map((t) => toFloat16Bits(a + t * (b - a)))).toEqual([low, even, low + 1]);
    }
  });

  it.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [1 / 3, 0x3555],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e10, 0xfc00],
    [Infinity, 0x7c00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [1.5 * 2 ** -25, 0x0001],
    [-1e-30, 0x8000],
    [Number.NaN, 0x7e00],
  ])('encodes %d', (value, pattern) => {
    expect(toFloat16Bits(value)).toBe(pattern);
  });
});

describe('dtypes', () => {
  it('are known by name', () => {
    expect(['float32', 'float16', 'int32', 'bool'].every(isDType)).toBe(true);
    expect(['float64', 'int64', 'toString', '', undefined, 4].some(isDType)).toBe(false);
    expect((['float32', 'float16', 'int32', 'bool'] as const).map(isFloat)).toEqual([true, true, false, false]);
  });

  it('have storage', () => {
    expect((['float32', 'float16', 'int32', 'bool'] as const).map(byteSize)).toEqual([4, 2, 4, 1]);
    expect(allocate('float16', 3)).toEqual(new Uint16Array(3));
    expect(allocate('bool', 2)).toEqual(new Uint8Array(2));
  });
});
