import { customVjp } from '../core/custom-vjp.js';
import { stopGradient } from '../core/grad.js';
import { broadcastTo } from '../core/ops/broadcast.js';
import { add, div, maximum, mul, neg, sqrt, square, sub } from '../core/ops/elementwise.js';
import { mean } from '../core/ops/reduce.js';
import { sizeOf } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';

/** A Tensor less the means of its groups, which are runs over some axes, kept here with size 1. */
export interface Centered {
  /** A first estimate of the mean, through which no gradient passes. */
  readonly origin: Tensor;
  /** `x - origin` */
  readonly values: Tensor;
  /** `mean - origin`: 0 but for rounding, and the way of the gradient. */
  readonly offset: Tensor;
  readonly mean: Tensor;
  /** Of the population: the mean square of the distances from the mean. */
  readonly variance: Tensor;
}

/** How many elements a group has. */
export const groupSize = (x: Tensor, axes: readonly number[]): number => sizeOf(axes.map((axis) => x.shape[axis] as number));

/**
 * Mean and variance of groups, in two passes: the mean, then the deviations. The mean of the deviations, 0 but for rounding, corrects
 * both, so equal numbers have variance 0. The gradient of both together is one multiply-add: `(gMean + 2 gVariance (x - mean)) / m`.
 */
export function center(x: Tensor, axes: readonly number[]): Centered {
  const along = { axis: axes, keepDims: true };
  const count = groupSize(x, axes);
  const moments = customVjp<[Tensor]>('moments', {
    forward: (values) => {
      const offset = mean(values, along);
      return { outputs: [offset, maximum(sub(mean(square(values), along), square(offset)), 0)] };
    },
    backward: ({ cotangents: [gOffset, gVariance], inputs: [values], outputs: [offset] }) => {
      const constant = gOffset && mul(gOffset, 1 / count);
      if (!gVariance) return [constant && broadcastTo(constant, values.shape)];
      const slope = mul(gVariance, 2 / count);
      const shift = mul(slope, offset as Tensor);
      return [add(mul(values, slope), constant ? sub(constant, shift) : neg(shift))];
    },
  });
  const origin = stopGradient(mean(x, along));
  const values = sub(x, origin);
  const [offset, variance] = moments(values) as [Tensor, Tensor];
  return { origin, values, offset, mean: add(origin, offset), variance };
}

/** `x` less a mean that was found elsewhere. */
export function centerOn(x: Tensor, mean: Tensor, variance: Tensor): Centered {
  const origin = stopGradient(mean);
  return { origin, values: sub(x, origin), offset: sub(mean, origin), mean, variance };
}

/** `(x - mean) factor + shift`; where the factors are per channel that is one multiply-add of all elements. */
export function scaled({ values, offset }: Centered, factor: Tensor, shift?: Tensor): Tensor {
  const left = mul(offset, factor);
  return add(mul(values, factor), shift ? sub(shift, left) : neg(left));
}

/** `1 / sqrt(variance + eps)` */
export const rstdOf = (variance: Tensor, eps: number): Tensor => div(1, sqrt(add(variance, eps)));
