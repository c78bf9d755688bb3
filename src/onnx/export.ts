import { type ArrayLike, isArrayLike, toNDArray } from '../core/array.js';
import { checkOptions, wrongType } from '../core/errors.js';
import { inputLeaf } from '../core/leaf.js';
import { constant } from '../core/ops/constant.js';
import { isTensor, type Spec, type Tensor } from '../core/tensor.js';
import { mapTree } from '../core/tree.js';
import type { ArrayInputs } from '../core/types.js';
import { derive } from './derive.js';
import { encode } from './encode.js';
import type { OnnxGraph } from './graph.js';
import { lower } from './lower.js';
import { unify } from './unify.js';

export interface ExportOptions {
  /** Whether the first axis of every input is a batch of any size. Default true; false fixes all sizes to those of the example. */
  dynamicBatch?: boolean;
}

/** Batch sizes at which the function is traced: what depends on the size is found from the first two and checked with the others. */
const TRACE_SIZES = [12, 13, 31, 7, 64] as const;

/**
 * The bytes of an ONNX model of a function, with its parameters inside: the forward pass, for any runtime that reads opset 20.
 *
 * Inputs are called by their keys in `exampleInputs` (`input` if that is one array), outputs by their keys in the result
 * (`output` if it is one Tensor). The first axis of all inputs is one named dimension, `batch`.
 *
 * The function is traced at batch sizes 7, 12, 13, 31 and 64, and must be the same program at all of them.
 *
 * @param fn the forward pass; it must not use host inputs, and may use the batch size in shapes and counts only
 * @param params a tree of arrays
 * @param exampleInputs a tree of arrays with the shapes and dtypes of the inputs; their values do not matter
 * @throws if the graphs of different batch sizes differ in more than sizes; pass `dynamicBatch: false` then
 * @example
 * ```ts
 * import { writeFile } from 'node:fs/promises';
 * import { array, exportOnnx, filled, matmul, type Tensor } from 'tracegrad';
 *
 * const model = (p: { w: Tensor }, x: Tensor) => matmul(x, p.w);
 * await writeFile('model.onnx', exportOnnx(model, { w: array([[1], [2]]) }, filled([1, 2], 0)));
 * ```
 */
export function exportOnnx<P, X, Y>(
  fn: (params: P, inputs: X) => Y,
  params: ArrayInputs<P>,
  exampleInputs: ArrayInputs<X>,
  options: ExportOptions = {},
): Uint8Array {
  const name = 'exportOnnx';
  if (typeof fn !== 'function') throw wrongType(name, 'fn', 'a function of parameters and inputs', fn);
  checkOptions(name, options, ['dynamicBatch']);
  const { dynamicBatch = true } = options;
  const constants = mapTree(name, params, isArrayLike, 'an array', (value, path) =>
    constant(toNDArray(name, `params ${path}`, value)),
  ) as P;

  const traceAt = (batch: number | undefined): OnnxGraph => {
    const inputs: { name: string; tensor: Tensor }[] = [];
    const tree = mapTree(name, exampleInputs, isArrayLike, 'an array', (value: ArrayLike, path) => {
      const { shape, dtype } = toNDArray(name, `exampleInputs ${path}`, value);
      const spec: Spec = { dtype, shape: batch === undefined ? shape : shape.map((size, axis) => (axis === 0 ? batch : size)) };
      const tensor = inputLeaf(spec, path || 'input');
      inputs.push({ name: path || 'input', tensor });
      return tensor;
    }) as X;
    const outputs: { name: string; tensor: Tensor }[] = [];
    mapTree(name, fn(constants, tree), isTensor, 'a Tensor or a tree of Tensors as result', (tensor, path) =>
      outputs.push({ name: path || 'output', tensor }),
    );
    const both = outputs.find((output) => inputs.some((input) => input.name === output.name));
    if (both) throw new Error(`${name}: an input and an output are both called '${both.name}'; return it under another key`);
    const { graph, hostInputs } = lower(outputs, inputs, 'cpu');
    if (hostInputs.length > 0) throw new Error(`${name}: the function uses host inputs, which an exported model has no host for`);
    return graph;
  };
  if (!dynamicBatch) return encode(traceAt(undefined));
  const graphs = TRACE_SIZES.map(traceAt);
  const [first, second] = graphs as [OnnxGraph, OnnxGraph];
  const unified = unify(first, second, new Map([['batch', [TRACE_SIZES[0], TRACE_SIZES[1]]]]));
  const graph = unified && derive(unified, graphs, TRACE_SIZES);
  if (!graph) {
    throw new Error(
      `${name}: the graphs of different batch sizes differ in more than sizes; pass { dynamicBatch: false } to export the sizes of the example`,
    );
  }
  return encode(graph);
}
