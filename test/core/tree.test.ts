import { describe, expect, it } from 'vitest';
import { mapTree } from '../../src/core/tree.js';

const isNumber = (value: unknown): value is number => typeof value === 'number';
const paths = (tree: unknown): [string, number][] => {
  const found: [string, number][] = [];
  mapTree('fn', tree, isNumber, 'a number', (leaf, path) => found.push([path, leaf]));
  return found;
};

describe('mapTree', () => {
  it('visits leaves in order, with keys and indices joined by dots', () => {
    expect(paths({ blocks: [{ weight: 1, bias: 2 }, { weight: 3 }], head: 4 })).toEqual([
      ['blocks.0.weight', 1],
      ['blocks.0.bias', 2],
      ['blocks.1.weight', 3],
      ['head', 4],
    ]);
  });

  it('gives a lone leaf the empty path', () => {
    expect(paths(7)).toEqual([['', 7]]);
  });

  it('keeps the structure', () => {
    const tree = { a: [1, [2, 3]], empty: {}, none: [], b: { c: 4 } };
    const doubled = mapTree('fn', tree, isNumber, 'a number', (leaf) => leaf * 2);
    expect(doubled).toEqual({ a: [2, [4, 6]], empty: {}, none: [], b: { c: 8 } });
    expect(mapTree('fn', doubled, isNumber, 'a number', (leaf) => leaf / 2)).toEqual(tree);
  });

  it('takes objects without a prototype', () => {
    const tree = Object.assign(Object.create(null) as object, { a: 1 });
    expect(paths(tree)).toEqual([['a', 1]]);
  });

  it.each([
    [{ 'a.b': 1, a: { b: 2 } }, "fn: two leaves are called 'a.b'; paths are names, so they must differ"],
    [{ block: { '': 1 } }, "fn: an empty key in 'block'; paths are names"],
    [{ layers: [1, 'two'] }, "fn: layers.1: expected a number, received 'two'"],
    [{ a: undefined }, 'fn: a: expected a number, received undefined'],
    [null, 'fn: value: expected a number, received null'],
    [{ when: new Date(0) }, 'fn: when: expected a number, received a Date'],
    [new Map([['a', 1]]), 'fn: value: expected a number, received a Map'],
  ])('refuses %o', (tree, message) => {
    expect(() => paths(tree)).toThrow(new TypeError(message));
  });
});
