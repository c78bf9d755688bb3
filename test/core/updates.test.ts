import { describe, expect, it } from 'vitest';
import { applyUpdates, likeTree, namedTensors } from '../../src/core/updates.js';
import { leaf, numbersOf } from '../support/leaves.js';

describe('applyUpdates', () => {
  it('adds trees, leaf by leaf', () => {
    const params = { a: leaf([2]), b: [leaf([1])] as const };
    const updates = { a: leaf([2]), b: [leaf([1])] as const };
    const result = applyUpdates(params, updates);
    const values = [
      [params.a, [1, 2]],
      [params.b[0], [3]],
      [updates.a, [10, 20]],
      [updates.b[0], [30]],
    ] as const;
    expect(numbersOf([result.a, result.b[0]], values)).toEqual([[11, 22], [33]]);
  });

  it('leaves alone what has no update', () => {
    const params = { a: leaf([2]), b: leaf([1]) };
    expect(applyUpdates(params, { a: undefined, b: leaf([1]) } as unknown as typeof params).a).toBe(params.a);
  });

  it('adds to float16 in float32', () => {
    const params = { a: leaf([2], 'float16') };
    const { a } = applyUpdates(params, { a: leaf([2], 'float32') });
    expect(a.dtype).toBe('float16');
    expect(a.node.op.name).toBe('cast');
    expect(a.node.inputs[0]?.dtype).toBe('float32');
  });
});

describe('trees by name', () => {
  it('there and back', () => {
    const tree = { a: leaf(), b: [leaf(), undefined] };
    const named = namedTensors('fn', tree);
    expect(named).toEqual({ a: tree.a, 'b.0': tree.b[0] });
    expect(likeTree('fn', tree, named)).toEqual(tree);
    expect(() => namedTensors('fn', { a: 1 })).toThrow(new TypeError('fn: a: expected a Tensor, received 1'));
  });
});
