import { outOfRange } from '../core/errors.js';
import { blocksOf, reshape, sum, sumTo } from '../core/ops/broadcast.js';
import { mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { mean } from '../core/ops/reduce.js';
import { normalizeAxis, sameShape, sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';

/** The first of the axes that are normalised together, up to the last. Throws unless parameters have their shape. */
export function checkRows(fn: string, x: Tensor, params: Readonly<Record<string, Tensor | undefined>>, first = -1): number {
  const axis = normalizeAxis(fn, first, x.rank);
  const shape = x.shape.slice(axis);
  if (sizeOf(shape) === 0) throw outOfRange(fn, 'x', 'at least one element to normalise', x);
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && !sameShape(checkFloat(fn, name, value).shape, shape)) {
      throw outOfRange(fn, name, `shape [${shape.join(', ')}], that of the normalised axes`, value);
    }
  }
  return axis;
}

/** How many products a matrix product may add up in one go and stay as accurate as a sum. */
const LIMIT = 4096;

/** The means of `values * weight` over the axes from `axis` on: a product of matrices, so the elementwise one is never written out. */
export function rowMeans(values: Tensor, weight: Tensor | undefined, axis: number): Tensor {
  const inner = values.shape.slice(axis);
  const count = sizeOf(inner);
  if (!weight || count > LIMIT) {
    const axes = inner.map((_, i) => axis + i);
    return mean(weight ? mul(values, weight) : values, { axis: axes, keepDims: true });
  }
  const rows = matmul(reshape(values, [sizeOf(values.shape.slice(0, axis)), count]), mul(reshape(weight, [count, 1]), 1 / count));
  return reshape(rows, [...values.shape.slice(0, axis), ...inner.map(() => 1)]);
}

/** The sums of `values * factor` over the axes before `axis`, where factors have size 1 from there on; likewise. */
export function columnSums(values: Tensor, factor: Tensor, axis: number): Tensor {
  const inner = values.shape.slice(axis);
  const rows = sizeOf(values.shape.slice(0, axis));
  const limit = LIMIT / 4;
  const { blocks, block } = rows <= limit ? { blocks: 1, block: rows } : blocksOf(rows, limit);
  if (blocks * block !== rows) return sumTo(mul(values, factor), inner);
  const partial = matmul(reshape(factor, [blocks, 1, block]), reshape(values, [blocks, block, sizeOf(inner)]));
  return reshape(sum(partial, { axis: 0 }), inner);
}
