import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { encode } from '../../src/onnx/encode.js';
import type { OnnxGraph, OnnxNode, ValueInfo } from '../../src/onnx/graph.js';
import { expectClose } from '../support/close.js';
import { readModel } from '../support/protobuf.js';

const node = (type: string, inputs: string[], outputs: string[], attributes: OnnxNode['attributes'] = {}): OnnxNode => ({
  type,
  inputs,
  outputs,
  attributes,
});
const info = (name: string, shape: ValueInfo['shape'], dtype: ValueInfo['dtype'] = 'float32'): ValueInfo => ({ name, shape, dtype });

/** One node of every kind of attribute: y = elu(x transposed), z = y along the last axis without its last element. */
const graph: OnnxGraph = {
  nodes: [
    node('Transpose', ['x'], ['t'], { perm: [1, 0] }),
    node('Elu', ['t'], ['y'], { alpha: { float: 0.1 } }),
    node('Slice', ['y', 'start', 'end', 'axis'], ['s']),
    node('Gelu', ['s'], ['g'], { approximate: 'tanh' }),
    node('Softmax', ['g'], ['z'], { axis: -1 }),
  ],
  initializers: new Map([
    ['start', { dtype: 'int64', shape: [1], data: BigInt64Array.of(0n) }],
    ['end', { dtype: 'int64', shape: [1], data: BigInt64Array.of(-1n) }],
    ['axis', { dtype: 'int64', shape: [1], data: new BigInt64Array([9n, -1n, 9n]).subarray(1, 2) }],
  ]),
  inputs: [info('x', ['batch', 2])],
  outputs: [info('y', [2, 'batch']), info('z', [2, 'fewer'])],
};

describe('encode', () => {
  const model = readModel(encode(graph));

  it('writes opset 20 and IR version 9', () => {
    expect(model).toMatchObject({ irVersion: 9, opsets: [{ domain: '', version: 20 }], producer: 'tracegrad', name: 'tracegrad' });
  });

  it('writes nodes in order, each with a name of its own', () => {
    expect(model.nodes.map(({ type, inputs, outputs }) => node(type as string, inputs, outputs))).toEqual(
      graph.nodes.map(({ type, inputs, outputs }) => node(type, [...inputs], [...outputs])),
    );
    expect(new Set(model.nodes.map(({ name }) => name)).size).toBe(5);
  });

  it('writes attributes with their types', () => {
    const [transpose, elu, slice, gelu, softmax] = model.nodes.map(({ attributes }) => attributes);
    expect(transpose).toMatchObject([{ name: 'perm', type: 7, ints: [1, 0] }]);
    expect(elu).toMatchObject([{ name: 'alpha', type: 1, float: Math.fround(0.1) }]);
    expect(slice).toEqual([]);
    expect(gelu).toMatchObject([{ name: 'approximate', type: 3, string: 'tanh' }]);
    expect(softmax).toMatchObject([{ name: 'axis', type: 2, int: -1 }]);
  });

  it('writes integers of any size and sign, and names beyond ASCII', () => {
    const ints = [0, 127, 128, -128, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, -(2 ** 53 - 1)];
    const attributes = { größe: ints, one: 2 ** 40, zero: 0 };
    const [only] = readModel(encode({ ...graph, nodes: [node('Test', [], ['ä'], attributes)] })).nodes;
    expect(only?.outputs).toEqual(['ä']);
    expect(only?.attributes).toMatchObject([
      { name: 'größe', type: 7, ints },
      { name: 'one', type: 2, int: 2 ** 40 },
      { name: 'zero', type: 2, int: 0 },
    ]);
  });

  it('writes sizes and names of dimensions', () => {
    expect(model.inputs).toEqual([{ name: 'x', type: 1, dims: ['batch', 2] }]);
    expect(model.outputs).toEqual([
      { name: 'y', type: 1, dims: [2, 'batch'] },
      { name: 'z', type: 1, dims: [2, 'fewer'] },
    ]);
    const inputs = (['float32', 'float16', 'int32', 'int64', 'bool'] as const).map((dtype) => info(dtype, [], dtype));
    expect(readModel(encode({ ...graph, inputs })).inputs.map(({ type, dims }) => [type, dims])).toEqual(
      [1, 10, 6, 7, 9].map((n) => [n, []]),
    );
  });

  it('writes exactly the bytes of views into larger buffers', () => {
    expect(model.initializers.map(({ name, dims, type, data }) => [name, dims, type, [...data]])).toEqual([
      ['start', [1], 7, [0, 0, 0, 0, 0, 0, 0, 0]],
      ['end', [1], 7, Array(8).fill(255)],
      ['axis', [1], 7, Array(8).fill(255)],
    ]);
  });

  it('writes what ONNX Runtime reads', async () => {
    const session = await InferenceSession.create(encode(graph), { logSeverityLevel: 3 });
    const { y, z } = (await session.run({ x: new Tensor('float32', [1, -1, 2, -2, 3, -3], [3, 2]) })) as Record<'y' | 'z', Tensor>;
    const elu = (x: number) => Math.fround(0.1) * Math.expm1(x);
    expect(y.dims).toEqual([2, 3]);
    expectClose('y', y.data as Float32Array, [1, 2, 3, elu(-1), elu(-2), elu(-3)], 1e-6);
    expect(z.dims).toEqual([2, 2]);
    const [a, b, c, d] = z.data as unknown as [number, number, number, number];
    expectClose('sums of z', [a + b, c + d], [1, 1], 1e-6);
    await session.release();
  });
});
