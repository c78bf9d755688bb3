import { describe, expect, it } from 'vitest';
import { merge, rebuild, substitute, topologicalOrder } from '../../src/core/graph.js';
import {
  add,
  constant,
  customVjp,
  div,
  exp,
  full,
  gradients,
  hostInput,
  mul,
  pad,
  reshape,
  split,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
} from '../../src/index.js';
import { leaf, numbersOf } from '../support/leaves.js';

const countNodes = (...outputs: Tensor[]): number => topologicalOrder(outputs).length;

/** A chain of additions, much deeper than the stack. */
function deep(x: Tensor, depth: number): Tensor {
  let y = x;
  for (let i = 0; i < depth; i++) y = add(y, x);
  return y;
}

describe('topologicalOrder', () => {
  it('lists every node once, inputs before users', () => {
    const [x, y] = [leaf([2]), leaf([2])];
    const shared = mul(x, y);
    const outputs = [add(shared, exp(shared)), sub(shared, y)];
    const order = topologicalOrder(outputs);
    expect(order.map(({ op }) => op.name).sort()).toEqual(['add', 'exp', 'input', 'input', 'mul', 'sub']);
    for (const [i, node] of order.entries()) {
      for (const input of node.inputs) expect(order.indexOf(input.node)).toBeLessThan(i);
    }
    expect(order.indexOf(shared.node)).toBeGreaterThanOrEqual(0);
  });

  it('does not enter what it is told to stop at', () => {
    const x = leaf([2]);
    const inner = exp(x);
    const outer = tanh(inner);
    expect(topologicalOrder([outer], (tensor) => tensor === inner).map(({ op }) => op.name)).toEqual(['tanh']);
    expect(topologicalOrder([outer], (tensor) => tensor === outer)).toEqual([]);
  });
});

describe('rebuild', () => {
  it('keeps what does not change', () => {
    const x = leaf([4]);
    const y = leaf([4]);
    const kept = exp(x);
    const touched = tanh(y);
    const outputs = [add(kept, touched), mul(kept, 2)];
    expect(rebuild(outputs, () => undefined)).toEqual(outputs);
    const z = leaf([4]);
    const [changed, same] = rebuild(outputs, (node) => (node === y.node ? [z] : undefined)) as [Tensor, Tensor];
    expect(same).toBe(outputs[1]);
    expect(changed).not.toBe(outputs[0]);
    expect(changed.node.inputs[0]).toBe(kept);
    expect(changed.node.inputs[1]?.node.inputs[0]).toBe(z);
  });

  it('substitutes Tensors', () => {
    const x = leaf([2]);
    const y = leaf([2]);
    const f = add(mul(x, x), x);
    const [g] = rebuild([f], (node) => (node === x.node ? [exp(y)] : undefined)) as [Tensor];
    expect(numbersOf([g], [[y, [0, Math.log(3)]]])[0]?.map(Math.round)).toEqual([2, 12]);
  });

  it('substitutes ops, given their rewritten inputs', () => {
    const x = leaf([2]);
    const f = tanh(tanh(x));
    const [g] = rebuild([f], (node, inputs) => (node.op.name === 'tanh' ? [mul(inputs[0] as Tensor, 3)] : undefined)) as [Tensor];
    expect(numbersOf([g], [[x, [1, -2]]])).toEqual([[9, -18]]);
  });

  it('infers shapes again', () => {
    const x = leaf([2, 3]);
    const [y] = rebuild([sum(exp(x), { axis: 0, keepDims: true })], (node) => (node === x.node ? [leaf([5, 3])] : undefined)) as [Tensor];
    expect(y.shape).toEqual([1, 3]);
    expect(y.node.inputs[0]?.shape).toEqual([5, 3]);
  });

  it('replaces outputs of a node with several', () => {
    const x = leaf([4]);
    const parts = split(x, 2) as [Tensor, Tensor];
    const [difference] = rebuild([sub(parts[0], parts[1])], (node) => (node === parts[0].node ? [parts[1], parts[0]] : undefined)) as [
      Tensor,
    ];
    expect(numbersOf([difference], [[x, [1, 2, 10, 20]]])).toEqual([[9, 18]]);
  });

  it('does not overflow the stack', () => {
    const x = leaf();
    const y = leaf();
    const [chain] = rebuild([deep(x, 50_000)], (node) => (node === x.node ? [y] : undefined)) as [Tensor];
    expect(numbersOf([chain], [[y, [1]]])).toEqual([[50_001]]);
  });
});

describe('substitute', () => {
  it('puts other Tensors in the place of some, and does not enter what lies behind those', () => {
    const [x, y] = [leaf([2]), leaf([2])];
    const inner = exp(x);
    const other = tanh(y);
    const [f, g, h] = substitute([mul(inner, other), inner, other], new Map([[inner, y]])) as [Tensor, Tensor, Tensor];
    expect([g, h]).toEqual([y, other]);
    expect(f.node.inputs).toEqual([y, other]);
    expect(topologicalOrder([f]).map(({ op }) => op.name)).not.toContain('exp');
  });

  it('replaces one output of several', () => {
    const [a, b] = split(leaf([4]), 2) as [Tensor, Tensor];
    const z = leaf([2]);
    const [difference] = substitute([sub(a, b)], new Map([[a, z]])) as [Tensor];
    expect(difference.node.inputs).toEqual([z, b]);
  });
});

describe('merge', () => {
  it('merges equal subexpressions', () => {
    const x = leaf([2, 3]);
    const half = full([], 0.5);
    const f = () => mul(exp(transpose(x)), half);
    const outputs = [add(f(), f()), f()];
    const [both, one] = merge(outputs) as [Tensor, Tensor];
    expect(countNodes(...outputs)).toBe(2 + 3 * 3 + 1);
    expect(countNodes(both, one)).toBe(2 + 3 + 1);
    expect(both.node.inputs).toEqual([one, one]);
  });

  it('keeps the values', () => {
    const x = leaf([2]);
    const f = add(mul(exp(x), exp(x)), div(exp(x), 2));
    expect(numbersOf(merge([f]), [[x, [0.5, -1]]])).toEqual(numbersOf([f], [[x, [0.5, -1]]]));
  });

  it.each<[string, (x: Tensor) => [Tensor, Tensor]]>([
    ['numbers', (x) => [mul(x, 2), mul(x, 3)]],
    ['0 and -0', (x) => [div(x, 0), div(x, -0)]],
    ['infinities and NaN', (x) => [mul(x, Infinity), mul(x, Number.NaN)]],
    ['dtypes', () => [full([], 1), full([], 1, 'int32')]],
    ['shapes', (x) => [reshape(x, [4, 1]), reshape(x, [1, 4])]],
    ['attributes', (x) => [pad(x, [[1, 0]]), pad(x, [[0, 1]])]],
    ['the order of inputs', (x) => [sub(exp(x), x), sub(x, exp(x))]],
    ['ops', (x) => [add(x, x), mul(x, x)]],
    ['leaves', () => [exp(leaf([2])), exp(leaf([2]))]],
    ['host inputs', () => [hostInput(() => 1), hostInput(() => 1)]],
    ['constants with data of their own', () => [constant([1, 2]), constant([1, 2])]],
    [
      'functions',
      (x) =>
        [0, 1].map(() => customVjp<[Tensor]>('f', { forward: (a) => ({ outputs: [exp(a)] }), backward: () => [undefined] })(x)[0]) as [
          Tensor,
          Tensor,
        ],
    ],
  ])('tells %s apart', (_, make) => {
    const [a, b] = make(leaf([4])) as [Tensor, Tensor];
    const [first, second] = merge([a, b]);
    expect(first).not.toBe(second);
  });

  it('merges nodes with several outputs', () => {
    const x = leaf([4]);
    const [a, b] = [split(x, 2), split(x, 2)] as [[Tensor, Tensor], [Tensor, Tensor]];
    const [first, second, third] = merge([a[0], b[0], b[1]]) as [Tensor, Tensor, Tensor];
    expect(first).toBe(second);
    expect(third).not.toBe(first);
    expect(third.node).toBe(first.node);
  });

  it('does not overflow the stack', () => {
    const x = leaf();
    const [a, b] = merge([deep(x, 50_000), deep(x, 50_000)]);
    expect(a).toBe(b);
  });
});

describe('gradients', () => {
  it('do not overflow the stack', () => {
    const x = leaf();
    expect(numbersOf(gradients(deep(x, 50_000), [x]), [[x, [1]]])).toEqual([[50_001]]);
  });
});
