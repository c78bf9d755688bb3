import { describe, expect, it } from 'vitest';
import { inputLeaf } from '../../src/core/leaf.js';
import { expectRange } from '../../src/core/ops/indexing.js';
import { apply, type Op } from '../../src/core/tensor.js';
import {
  add,
  constant,
  exp,
  hostInput,
  matmul,
  mul,
  neg,
  relu,
  reshape,
  softmax,
  split,
  stopGradient,
  type Tensor,
  transpose,
} from '../../src/index.js';
import type { OnnxGraph } from '../../src/onnx/graph.js';
import { type Lowered, lower } from '../../src/onnx/lower.js';

const leaf = (name: string, shape: readonly number[] = [2, 3], dtype: 'float32' | 'int32' | 'bool' = 'float32') =>
  inputLeaf({ shape, dtype }, name);

/** Lowers named Tensors. */
const lowered = (inputs: Record<string, Tensor>, outputs: Record<string, Tensor>, device = 'cpu'): Lowered => {
  const list = (named: Record<string, Tensor>) => Object.entries(named).map(([name, tensor]) => ({ name, tensor }));
  return lower(list(outputs), list(inputs), device);
};

const types = ({ graph }: Lowered) => graph.nodes.map(({ type }) => type);

/** A graph is well formed if every value is there before it is read and is written once. */
function checkWellFormed({ nodes, inputs, outputs, initializers }: OnnxGraph): void {
  const values = [...inputs.map(({ name }) => name), ...initializers.keys()];
  for (const node of nodes) {
    for (const name of node.inputs) expect(values).toContain(name);
    values.push(...node.outputs);
  }
  for (const { name } of outputs) expect(values).toContain(name);
  expect(new Set(values).size).toBe(values.length);
}

describe('lower', () => {
  const x = leaf('x');

  it('leaves out what the outputs do not need', () => {
    const unused = exp(x);
    const { graph } = lowered({ x, y: leaf('y') }, { out: relu(x) });
    expect(unused.shape).toEqual([2, 3]);
    expect(graph.nodes).toEqual([{ type: 'Relu', inputs: ['x'], outputs: ['out'], attributes: {} }]);
    expect(graph.inputs.map(({ name }) => name)).toEqual(['x', 'y']);
  });

  it('counts a pass over memory like the several operations that it takes as long as', () => {
    const [a, b] = [leaf('a', [100, 50]), leaf('b', [50, 100])];
    expect(lowered({ a }, { out: exp(a) }).flops).toBe(8 * 5000);
    expect(lowered({ a, b }, { out: matmul(a, b) }).flops).toBe(2 * 100 * 50 * 100 + 8 * 10_000);
  });

  it('writes what an op builds from its inputs while it is written', () => {
    const twiceOp: Op<[Tensor], null> = {
      name: 'twice',
      infer: ([input]) => [input],
      emit: (graph, _, { inputs: [input] }) => [graph.value(add(relu(input), relu(input)))],
    };
    const found = lowered({ x }, { out: neg(apply(twiceOp, [exp(x)], null)[0]) });
    expect(types(found)).toEqual(['Exp', 'Relu', 'Relu', 'Add', 'Neg']);
    expect(found.size).toBe(6);
    checkWellFormed(found.graph);
  });

  it('leaves out nodes that an op reads past', () => {
    const w = leaf('w', [4, 3]);
    expect(types(lowered({ x, w }, { out: matmul(x, transpose(w)) }))).toEqual(['Gemm']);
  });

  it('merges equal nodes', () => {
    const program = lowered({ x }, { out: add(exp(neg(x)), exp(neg(x))) });
    expect(types(program)).toEqual(['Neg', 'Exp', 'Add']);
    expect(program.graph.nodes.at(-1)?.inputs).toEqual([program.graph.nodes[1]?.outputs[0], program.graph.nodes[1]?.outputs[0]]);
  });

  it('does not merge nodes that differ in an attribute or a leaf', () => {
    const y = leaf('y');
    expect(types(lowered({ x, y }, { out: add(exp(x), exp(y)) }))).toEqual(['Exp', 'Exp', 'Add']);
    expect(types(lowered({ x }, { a: softmax(x, { axis: 0 }), b: softmax(x, { axis: 1 }) }))).toEqual(['Softmax', 'Softmax']);
  });

  it.each<[string, (x: Tensor) => Record<string, Tensor>, string[]]>([
    ['an input', (t) => ({ a: t }), ['Identity']],
    ['an input, twice', (t) => ({ a: t, b: t }), ['Identity', 'Identity']],
    ['a constant', () => ({ a: constant([1, 2]) }), ['Identity']],
    ['a value that is needed inside', (t) => ({ a: exp(t), b: neg(exp(t)) }), ['Exp', 'Neg']],
    ['one value under two names', (t) => ({ a: exp(t), b: exp(t) }), ['Exp', 'Identity']],
    ['an input that passes through', (t) => ({ a: stopGradient(t), b: reshape(reshape(t, [6]), [2, 3]) }), ['Identity', 'Identity']],
    ['parts of a value', (t) => ({ a: split(t, 2)[1] as Tensor, b: split(t, 2)[0] as Tensor }), ['Split']],
  ])('gives names of their own to outputs: %s', (_, outputs, expected) => {
    const program = lowered({ x }, outputs(x));
    checkWellFormed(program.graph);
    expect(types(program)).toEqual(expected);
    expect(program.graph.outputs.map(({ name }) => name)).toEqual(Object.keys(outputs(x)));
  });

  it('copies masks without Identity on WebGPU', () => {
    const mask = leaf('mask', [2], 'bool');
    expect(types(lowered({ mask }, { out: mask }, 'webgpu'))).toEqual(['Not', 'Not']);
    expect(types(lowered({ mask }, { out: mask }, 'cpu'))).toEqual(['Identity']);
  });

  it('never takes names that inputs and outputs have', () => {
    const inputs = { c0: x, v0: leaf('b'), v1: leaf('c') };
    const { graph } = lowered(inputs, { c1: mul(add(inputs.c0, 2), inputs.v0), v2: exp(mul(inputs.v1, 3)), c2: constant([1]) });
    checkWellFormed(graph);
  });

  it('names the Tensor that leaked from another trace', () => {
    const foreign = leaf('w1', [3, 4]);
    expect(() => lowered({ x }, { out: matmul(x, foreign) })).toThrow(
      /leaked out of its trace: 'w1' float32\[3, 4\] .* pass it as an argument/,
    );
  });

  it('lists host inputs in the order of their use, as inputs of the graph', () => {
    const rate = hostInput(({ step }) => step);
    const noise = hostInput(() => [1, 2, 3], { shape: [3] });
    const unused = hostInput(() => 0);
    const { graph, hostInputs } = lowered({ x }, { out: add(mul(x, rate), noise), again: mul(noise, rate) });
    expect(unused.shape).toEqual([]);
    expect(hostInputs.map(({ shape, compute }) => [shape, compute({ step: 7, rng: undefined as never })])).toEqual([
      [[], 7],
      [[3], [1, 2, 3]],
    ]);
    expect(graph.inputs.slice(1)).toEqual(hostInputs.map(({ name, shape, dtype }) => ({ name, shape, dtype })));
    checkWellFormed(graph);
  });

  it('keeps checks of values, through ops that hand them on, where they are inputs', () => {
    const labels = leaf('labels', [6], 'int32');
    const check = { fn: 'f', argument: 'labels', min: 0, max: 9 };
    const checked = expectRange(stopGradient(reshape(labels, [2, 3])), check);
    expect(lowered({ x, labels }, { out: checked }).checks).toEqual([{ name: 'labels', check }]);
    expect(lowered({ x, labels }, { out: expectRange(add(labels, 1), check) }).checks).toEqual([]);
  });
});
