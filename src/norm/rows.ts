import { outOfRange } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { full } from '../core/ops/constant.js';
import { mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
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

/** The means of `values * weight` over the axes from `axis` on: a product of matrices, so the elementwise one is never written out. */
export function rowMeans(values: Tensor, weight: Tensor | undefined, axis: number): Tensor {
  const inner = values.shape.slice(axis);
  const count = sizeOf(inner);
  const share = weight ? mul(reshape(weight, [count, 1]), 1 / count) : full([count, 1], 1 / count);
  const rows = matmul(reshape(values, [sizeOf(values.shape.slice(0, axis)), count]), share);
  return reshape(rows, [...values.shape.slice(0, axis), ...inner.map(() => 1)]);
}
