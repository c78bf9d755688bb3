import type { Shape } from '../core/shape.js';
import type { OnnxGraph, OnnxNode } from './graph.js';

/**
 * Lets matrix products take up a constant factor and a sum that follow them (`alpha` and `C` of Gemm), so that a plain
 * gradient step writes its result once. ONNX Runtime does this for MatMul, but not for products of transposed matrices.
 *
 * @param shapeOf shapes of values, where known
 */
export function fuseProducts(graph: OnnxGraph, shapeOf: (name: string) => Shape | undefined): OnnxGraph {
  const uses = new Map<string, number>();
  const use = (name: string) => uses.set(name, (uses.get(name) ?? 0) + 1);
  for (const { inputs } of graph.nodes) inputs.forEach(use);
  for (const { name } of graph.outputs) use(name);
  const products = new Map<string, OnnxNode>(); // by output, those that something may still be added to
  const nodes: OnnxNode[] = [];
  const replace = (product: OnnxNode, by: OnnxNode): void => {
    // In the place of the later node, as its inputs may come after the product.
    nodes.splice(nodes.indexOf(product), 1);
    push(by);
  };
  const push = (node: OnnxNode): void => {
    nodes.push(node);
    if (node.type === 'Gemm' && node.inputs.length === 2) products.set(node.outputs[0] as string, node);
  };
  const scalar = (name: string): number | undefined => {
    const value = graph.initializers.get(name);
    return value?.dtype === 'float32' && value.shape.length === 0 ? (value.data as Float32Array)[0] : undefined;
  };
  for (const node of graph.nodes) {
    const [a, b] = node.inputs as [string, string];
    const fusible = (name: string) => (uses.get(name) === 1 ? products.get(name) : undefined);
    const product = fusible(a) ?? fusible(b);
    const other = product?.outputs[0] === a ? b : a;
    const factor = scalar(other);
    if (product && node.type === 'Mul' && factor !== undefined) {
      const before = (product.attributes.alpha as { float: number } | undefined)?.float ?? 1;
      replace(product, { ...product, outputs: node.outputs, attributes: { ...product.attributes, alpha: { float: before * factor } } });
    } else if (
      product &&
      node.type === 'Add' &&
      sameKnownShape(shapeOf(other), shapeOf(node.outputs[0] as string), shapeOf(product.outputs[0] as string))
    ) {
      replace(product, { ...product, outputs: node.outputs, inputs: [...product.inputs, other] });
    } else push(node);
  }
  return { ...graph, nodes };
}

const sameKnownShape = (...shapes: readonly (Shape | undefined)[]): boolean =>
  shapes.every((shape) => shape !== undefined && shape.join() === shapes[0]?.join());
