import { describe, expect, it } from 'vitest';
import { add, matmul, mul, relu, reshape, type Tensor, transpose } from '../../src/index.js';
import { fuseProducts } from '../../src/onnx/fuse.js';
import { lower } from '../../src/onnx/lower.js';
import { leaf } from '../support/leaves.js';

/** The nodes of a function of x [4, 3], g [4, 2] and w [3, 2] after fusing. */
function fused(fn: (x: Tensor, g: Tensor, w: Tensor) => readonly Tensor[]) {
  const inputs = { x: leaf([4, 3]), g: leaf([4, 2]), w: leaf([3, 2]) };
  const { graph, shapes } = lower(
    fn(inputs.x, inputs.g, inputs.w).map((tensor, i) => ({ name: `y${i}`, tensor })),
    Object.entries(inputs).map(([name, tensor]) => ({ name, tensor })),
    'cpu',
  );
  return fuseProducts(graph, (name) => shapes.get(name)).nodes;
}

const product = (x: Tensor, g: Tensor) => matmul(transpose(x), g);

describe('fuseProducts', () => {
  it('makes a gradient step one product', () => {
    const [node, ...rest] = fused((x, g, w) => [add(w, mul(product(x, g), -0.5))]);
    expect(rest).toEqual([]);
    expect(node).toEqual({
      type: 'Gemm',
      inputs: ['x', 'g', 'w'],
      outputs: ['y0'],
      attributes: { transA: 1, transB: 0, alpha: { float: -0.5 } },
    });
  });

  it('multiplies factors', () => {
    const [node] = fused((x, g) => [mul(mul(product(x, g), 3), 2)]);
    expect(node?.attributes.alpha).toEqual({ float: 6 });
  });

  it.each<[string, (x: Tensor, g: Tensor, w: Tensor) => readonly Tensor[], string[]]>([
    ['a product that is used twice', (x, g, w) => [add(w, product(x, g)), relu(product(x, g))], ['Gemm', 'Add', 'Relu']],
    ['a product that is also a result', (x, g) => [product(x, g), mul(product(x, g), 2)], ['Gemm', 'Mul']],
    ['a factor that is no constant', (x, g, w) => [mul(product(x, g), w)], ['Gemm', 'Mul']],
    ['a factor after a sum', (x, g, w) => [mul(add(product(x, g), w), 2)], ['Gemm', 'Mul']],
    ['a sum that repeats the product', (x, g, w) => [add(product(x, g), reshape(w, [1, 3, 2]))], ['Gemm', 'Reshape', 'Add']],
  ])('leaves alone %s', (_, fn, types) => {
    expect(fused(fn).map(({ type }) => type)).toEqual(types);
  });
});
