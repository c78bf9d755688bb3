import { checkNumber, checkOptions } from '../errors.js';
import { checkFloat, type Tensor } from '../tensor.js';
import { abs, add, exp, expm1, log1p, minimum, mul, neg, relu, sigmoid } from './elementwise.js';
import { greater, where } from './select.js';

/**
 * `log(1 + exp(x))`, without overflow: a smooth relu.
 *
 * @param x float
 */
export function softplus(x: Tensor): Tensor {
  checkFloat('softplus', 'x', x);
  return add(relu(x), log1p(exp(neg(abs(x)))));
}

/**
 * Sigmoid linear unit (swish), `x * sigmoid(x)`.
 *
 * Source: 1702.03118, 1710.05941.
 *
 * @param x float
 */
export function silu(x: Tensor): Tensor {
  checkFloat('silu', 'x', x);
  return mul(x, sigmoid(x));
}

/**
 * `x` where it is positive, `negativeSlope * x` elsewhere.
 *
 * @param x float
 * @param options.negativeSlope default 0.01
 */
export function leakyRelu(x: Tensor, options: { negativeSlope?: number } = {}): Tensor {
  checkFloat('leakyRelu', 'x', x);
  checkOptions('leakyRelu', options, ['negativeSlope']);
  const { negativeSlope = 0.01 } = options;
  checkNumber('leakyRelu', 'negativeSlope', negativeSlope, 'a number');
  return where(greater(x, 0), x, mul(x, negativeSlope));
}

/**
 * Exponential linear unit: `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.
 *
 * Source: 1511.07289.
 *
 * @param x float
 * @param options.alpha default 1
 */
export function elu(x: Tensor, options: { alpha?: number } = {}): Tensor {
  checkFloat('elu', 'x', x);
  checkOptions('elu', options, ['alpha']);
  const { alpha = 1 } = options;
  checkNumber('elu', 'alpha', alpha, 'a number');
  // The branch that is not taken must not overflow.
  return where(greater(x, 0), x, mul(expm1(minimum(x, 0)), alpha));
}
