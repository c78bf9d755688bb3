import { checkOptions } from '../errors.js';
import { normalizeAxis } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { sum } from './broadcast.js';
import { mul, sub } from './elementwise.js';
import { logSumExp } from './reduce.js';

export interface SoftmaxOptions {
  /** Axis along which the result adds up to 1. Default -1. */
  axis?: number;
}

const softmaxOp: Op<[Tensor], { axis: number }> = {
  name: 'softmax',
  infer: ([x]) => [x],
  emit: (graph, inputs, { attributes }) => [graph.node('Softmax', inputs, { axis: attributes.axis })],
  vjp: ([g], { outputs: [y], attributes: { axis } }) => {
    const weighted = mul(g, y);
    return [sub(weighted, mul(y, sum(weighted, { axis, keepDims: true })))];
  },
};

function softmaxAxis(fn: string, x: Tensor, options: SoftmaxOptions): number {
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, ['axis']);
  return normalizeAxis(fn, options.axis ?? -1, x.rank);
}

/**
 * `exp(x) / sum(exp(x))` along `axis`, without overflow.
 *
 * @param x float, rank >= 1
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  return apply(softmaxOp, [x], { axis: softmaxAxis('softmax', x, options) })[0];
}

/**
 * The logarithm of {@link softmax}, without overflow or loss of small probabilities: `x - logSumExp(x)`.
 *
 * @param x float, rank >= 1
 */
export function logSoftmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  const axis = softmaxAxis('logSoftmax', x, options);
  return sub(x, logSumExp(x, { axis, keepDims: true }));
}
