import { describe, expect, it } from 'vitest';
import { array, type NDArray } from '../../src/index.js';
import { checkEntries } from '../../src/train/snapshot.js';

const expected = {
  'blocks.0.weight': { shape: [2, 3], dtype: 'float32' },
  'blocks.0.bias': { shape: [2], dtype: 'float32' },
  'blocks.1.weight': { shape: [1, 2], dtype: 'float16' },
  step: { shape: [], dtype: 'int32' },
} as const;
const given = (): Record<string, NDArray> => ({
  'blocks.0.weight': array(new Float32Array(6), { shape: [2, 3] }),
  'blocks.0.bias': array([1, 2]),
  'blocks.1.weight': array([[1, 2]], { dtype: 'float16' }),
  step: array(1, { dtype: 'int32' }),
});
const check = (entries: unknown) => () => checkEntries('restore', 'params', expected, entries as Record<string, NDArray>);
const without = (...names: string[]) => Object.fromEntries(Object.entries(given()).filter(([name]) => !names.includes(name)));

describe('checkEntries', () => {
  it('takes what is expected, in any order', () => {
    expect(check(given())).not.toThrow();
    expect(check(Object.fromEntries(Object.entries(given()).reverse()))).not.toThrow();
    expect(() => checkEntries('restore', 'state', {}, {})).not.toThrow();
  });

  it('does not take what records inherit', () => {
    const inherited = { toString: { shape: [], dtype: 'float32' } } as const;
    expect(() => checkEntries('restore', 'params', inherited, {})).toThrow("restore: params: missing 'toString'");
    expect(check({ ...given(), constructor: array(1) })).toThrow("restore: params: unexpected 'constructor'");
  });

  const x = array(1);
  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'expected a record of arrays by name, received undefined'],
    ['null', null, 'expected a record of arrays by name, received null'],
    ['one that is missing', without('step'), "missing 'step'"],
    ['several', without('step', 'blocks.0.bias'), "missing 'blocks.0.bias', 'step'"],
    ['all', {}, "missing 'blocks.0.weight', 'blocks.0.bias', 'blocks.1.weight' and 1 more"],
    ['one too many', { ...given(), extra: x }, "unexpected 'extra'"],
    ['many too many', { ...given(), a: x, b: x, c: x, d: x, e: x }, "unexpected 'a', 'b', 'c' and 2 more"],
    ['another name', { ...without('blocks.0.bias'), 'decoder.gain': x }, "missing 'blocks.0.bias'; unexpected 'decoder.gain'"],
    [
      'a name that is close',
      { ...without('blocks.0.weight'), 'block.0.weight': x },
      "missing 'blocks.0.weight'; unexpected 'block.0.weight' (did you mean 'blocks.0.weight'?)",
    ],
    [
      'names of which one is closer',
      { ...without('blocks.0.weight', 'blocks.1.weight'), 'blocks.1.weights': x },
      "unexpected 'blocks.1.weights' (did you mean 'blocks.1.weight'?)",
    ],
    [
      'a name with one letter in four that differs',
      { ...without('step'), stop: x },
      "missing 'step'; unexpected 'stop' (did you mean 'step'?)",
    ],
    [
      'a name with two letters in four that differ',
      { ...without('step'), stem: x, stir: x },
      "unexpected 'stem' (did you mean 'step'?), 'stir'",
    ],
    // What is there already is no suggestion.
    ['a name close to one that is there', { ...given(), 'blocks.1.weights': x }, "unexpected 'blocks.1.weights'"],
    [
      'another shape',
      { ...given(), 'blocks.0.bias': array([[1, 2]]) },
      "'blocks.0.bias': expected float32[2], received an array float32[1, 2]",
    ],
    ['another dtype', { ...given(), step: array(1) }, "'step': expected int32[], received an array float32[]"],
    ['a number', { ...given(), step: 1 }, "'step': expected int32[], received 1"],
    ['nothing for an array', { ...given(), step: undefined }, "'step': expected int32[], received undefined"],
    [
      'data of another type',
      { ...given(), step: { shape: [], dtype: 'int32', data: Float32Array.of(1) } },
      "'step': expected int32[], received an array int32[] whose data are a Float32Array of length 1",
    ],
    [
      'too few data',
      { ...given(), step: { shape: [], dtype: 'int32', data: new Int32Array(0) } },
      "'step': expected int32[], received an array int32[] whose data are a Int32Array of length 0",
    ],
    ['no data', { ...given(), step: { shape: [], dtype: 'int32' } }, 'whose data are undefined of length undefined'],
    [
      'several at once',
      { ...given(), 'blocks.0.weight': x, 'blocks.0.bias': x, 'blocks.1.weight': x, step: x },
      "'blocks.0.weight': expected float32[2, 3], received an array float32[]; 'blocks.0.bias': expected float32[2], received an array float32[]; 'blocks.1.weight': expected float16[1, 2], received an array float32[] and 1 more",
    ],
  ])('refuses %s', (_, entries, message) => {
    expect(check(entries)).toThrow(/^restore: params: /);
    try {
      check(entries)();
    } catch (error) {
      expect((error as Error).message.endsWith(message)).toBe(true);
    }
  });
});
