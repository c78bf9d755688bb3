import { allocate, byteSize, type DType, toFloat16Bits } from '../core/dtype.js';
import { merge, simplify, topologicalOrder } from '../core/graph.js';
import { type HostCompute, hostInputOp } from '../core/leaf.js';
import { type Shape, sizeOf } from '../core/shape.js';
import type { Attribute, Emitter, RangeCheck, Spec, Tensor } from '../core/tensor.js';
import type { Initializer, OnnxGraph, OnnxNode, ValueInfo } from './graph.js';

/** A traced program as an ONNX graph, with what the runtime has to know about it. */
export interface Lowered {
  readonly graph: OnnxGraph;
  /** Graph inputs whose values the host computes before every run. */
  readonly hostInputs: readonly (Spec & { readonly name: string; readonly compute: HostCompute; readonly tensor: Tensor })[];
  /** Checks of the values of graph inputs, by input name. */
  readonly checks: readonly { readonly name: string; readonly check: RangeCheck }[];
  /** Rough cost of a run. */
  readonly flops: number;
  /** Bytes of everything that is computed on the way: an upper bound of what a session holds. */
  readonly bytes: number;
  /** Number of nodes of the trace. */
  readonly size: number;
  /** Shapes of the values that are Tensors of the trace. */
  readonly shapes: ReadonlyMap<string, Shape>;
}

/** What writing an element to memory costs, in operations of a matrix product; measured 10 to 20. */
const ELEMENT_FLOPS = 8;

/** Ops that hand on values unchanged, so that a check of the result is a check of the source. */
const transparent = new Set(['reshape', 'transpose', 'broadcastTo', 'expectRange', 'stopGradient', 'identity']);

/**
 * Writes a traced program as an ONNX graph. Equal subexpressions are merged; what the outputs do not need is left out.
 *
 * @param outputs what the graph returns, with names
 * @param inputs leaves that are fed, with names
 * @param device the execution provider, for ops that are written differently
 */
export function lower(
  outputs: readonly { name: string; tensor: Tensor }[],
  inputs: readonly { name: string; tensor: Tensor }[],
  device: string,
): Lowered {
  const results = merge(simplify(outputs.map(({ tensor }) => tensor)));
  const names = new Map<Tensor, string>();
  const nodes: OnnxNode[] = [];
  const initializers = new Map<string, Initializer>();
  const hostInputs: (Spec & { name: string; compute: HostCompute; tensor: Tensor })[] = [];
  const checks: { name: string; check: RangeCheck }[] = [];
  const inputNames = new Map(inputs.map(({ name, tensor }) => [tensor, name]));
  let count = 0;
  let size = 0;
  let flops = 0;
  let bytes = 0;

  const given = new Set([...inputs, ...outputs].map(({ name }) => name));
  const fresh = (prefix: string): string => {
    const name = `${prefix}${count++}`;
    return given.has(name) ? fresh(prefix) : name;
  };
  const initializer = (data: ArrayBufferView, shape: readonly number[], dtype: DType | 'int64'): string => {
    const name = fresh('c');
    initializers.set(name, { data, shape, dtype });
    return name;
  };
  const emitNodes = (type: string, from: readonly string[], outputCount: number, attributes: Record<string, Attribute> = {}) => {
    const to = Array.from({ length: outputCount }, () => fresh('v'));
    nodes.push({ type, inputs: from, outputs: to, attributes });
    return to;
  };
  const emitter: Emitter = {
    device,
    nodes: emitNodes,
    node: (type, from, attributes) => emitNodes(type, from, 1, attributes)[0] as string,
    ints: (values) => initializer(BigInt64Array.from(values, BigInt), [values.length], 'int64'),
    scalar: (value, dtype) => {
      const data = allocate(dtype, 1);
      data[0] = dtype === 'float16' ? toFloat16Bits(value) : value;
      return initializer(data, [], dtype);
    },
    initializer,
    value: (tensor) => {
      write([tensor]);
      return names.get(tensor) as string;
    },
    check: (tensor, check) => {
      let source = tensor;
      while (transparent.has(source.node.op.name)) source = source.node.inputs[0] as Tensor;
      const name = inputNames.get(source);
      if (name !== undefined) checks.push({ name, check });
    },
  };

  /** Writes what `tensors` depend on and is not written yet. */
  const write = (tensors: readonly Tensor[]): void => {
    for (const node of topologicalOrder(tensors, (tensor) => names.has(tensor))) {
      size++;
      if (node.op === hostInputOp) {
        const [tensor] = node.outputs as [Tensor];
        const { compute } = node.attributes as { compute: HostCompute };
        const name = `h${hostInputs.length}`;
        hostInputs.push({ name, shape: tensor.shape, dtype: tensor.dtype, compute, tensor });
        names.set(tensor, name);
        continue;
      }
      // What has no elements needs no node, and on WebGPU has no kernels.
      const empty = !node.op.leaf && node.outputs.every(({ shape }) => sizeOf(shape) === 0);
      const written: readonly string[] = empty
        ? node.outputs.map(({ shape, dtype }) => initializer(allocate(dtype, 0), shape, dtype))
        : node.op.emit(
            emitter,
            node.inputs.map((x) => names.get(x) as string),
            node,
          );
      node.outputs.forEach((tensor, i) => {
        names.set(tensor, written[i] as string);
        bytes += sizeOf(tensor.shape) * byteSize(tensor.dtype);
      });
      flops += (node.op.flops?.(node) ?? 0) + ELEMENT_FLOPS * sizeOf(node.outputs[0]?.shape ?? []);
    }
  };
  for (const { name, tensor } of inputs) names.set(tensor, name);
  write(results);

  // Every output gets a name of its own; values that are also inputs, constants or other outputs are copied.
  const renamed = new Map<string, string>();
  const own = new Set(nodes.flatMap((node) => node.outputs));
  outputs.forEach(({ name }, i) => {
    const value = names.get(results[i] as Tensor) as string;
    if (own.has(value) && !renamed.has(value)) renamed.set(value, name);
    else if (device === 'webgpu' && results[i]?.dtype === 'bool') {
      // Masks have no Identity there.
      const [negated] = emitNodes('Not', [value], 1);
      nodes.push({ type: 'Not', inputs: [negated as string], outputs: [name], attributes: {} });
    } else nodes.push({ type: 'Identity', inputs: [value], outputs: [name], attributes: {} });
  });
  const rename = (value: string) => renamed.get(value) ?? value;
  const final = nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) }));
  const info = (name: string, { shape, dtype }: Spec): ValueInfo => ({ name, shape, dtype });
  const graph = withoutDeadNodes({
    nodes: final,
    initializers,
    inputs: [...inputs.map(({ name, tensor }) => info(name, tensor)), ...hostInputs.map((host) => info(host.name, host))],
    outputs: outputs.map(({ name }, i) => info(name, results[i] as Tensor)),
  });
  const shapes = new Map([...names].map(([tensor, name]) => [rename(name), tensor.shape]));
  return { graph, hostInputs, checks, flops, bytes, size, shapes };
}

/** Drops nodes and initializers that no output needs (an op may read past its inputs, leaving some unused). */
function withoutDeadNodes(graph: OnnxGraph): OnnxGraph {
  const live = new Set(graph.outputs.map(({ name }) => name));
  const nodes: OnnxNode[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((name) => live.has(name))) continue;
    nodes.push(node);
    for (const name of node.inputs) live.add(name);
  }
  const initializers = new Map([...graph.initializers].filter(([name]) => live.has(name)));
  return { ...graph, nodes: nodes.reverse(), initializers };
}
