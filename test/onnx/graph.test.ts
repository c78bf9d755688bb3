import { describe, expect, it } from 'vitest';
import { fits, type OnnxGraph, sameInitializer, sameStructure, type ValueInfo } from '../../src/onnx/graph.js';

type Shape = ValueInfo['shape'];
const graph = (inputs: Shape[], outputs: Shape[], dtype: ValueInfo['dtype'] = 'float32'): OnnxGraph => {
  const info = (shape: Shape, i: number): ValueInfo => ({ name: `${i}`, dtype, shape });
  return { nodes: [], initializers: new Map(), inputs: inputs.map(info), outputs: outputs.map(info) };
};

describe('fits', () => {
  const declared = graph([['batch', 3], ['batch']], [['batch', 'other'], [2]]);

  it.each<[boolean, string, OnnxGraph]>([
    [true, 'sizes for names', graph([[5, 3], [5]], [[5, 7], [2]])],
    [true, 'equal sizes for two names', graph([[5, 3], [5]], [[5, 5], [2]])],
    [false, 'another fixed size', graph([[5, 4], [5]], [[5, 7], [2]])],
    [false, 'another fixed size of an output', graph([[5, 3], [5]], [[5, 7], [3]])],
    [false, 'two sizes for a name', graph([[5, 3], [6]], [[5, 7], [2]])],
    [false, 'another size for a name in an output', graph([[5, 3], [5]], [[6, 7], [2]])],
    [false, 'more axes', graph([[5, 3, 1], [5]], [[5, 7], [2]])],
    [false, 'fewer axes', graph([[5], [5]], [[5, 7], [2]])],
    [false, 'more inputs', graph([[5, 3], [5], [5]], [[5, 7], [2]])],
    [false, 'another dtype', graph([[5, 3], [5]], [[5, 7], [2]], 'int32')],
  ])('is %s for %s', (expected, _, actual) => {
    expect(fits(declared, actual)).toBe(expected);
  });
});

describe('sameStructure', () => {
  const node = { type: 'Neg', inputs: ['a'], outputs: ['b'], attributes: { axis: 1 } };
  const of = (...nodes: OnnxGraph['nodes']): OnnxGraph => ({ ...graph([], []), nodes });

  it('compares nodes with their names and attributes', () => {
    expect(sameStructure(of(node), of({ ...node }))).toBe(true);
    const others = [
      of(),
      of(node, node),
      of({ ...node, type: 'Exp' }),
      of({ ...node, inputs: ['c'] }),
      of({ ...node, attributes: { axis: 2 } }),
    ];
    for (const other of others) expect(sameStructure(of(node), other)).toBe(false);
  });
});

describe('sameInitializer', () => {
  it('compares dtype, shape and bytes', () => {
    const value = { dtype: 'float32', shape: [2], data: Float32Array.of(1, Number.NaN) } as const;
    expect(sameInitializer(value, { ...value, data: Float32Array.of(0, 1, Number.NaN).subarray(1) })).toBe(true);
    expect(sameInitializer(value, { ...value, data: Float32Array.of(1, 2) })).toBe(false);
    expect(sameInitializer(value, { ...value, shape: [2, 1], data: value.data.slice() })).toBe(false);
    expect(sameInitializer(value, { ...value, dtype: 'int32', data: new Int32Array(value.data.buffer) })).toBe(false);
  });
});
