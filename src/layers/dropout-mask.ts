import { checkNumber } from '../core/errors.js';
import { hostInput } from '../core/leaf.js';
import { zeros } from '../core/ops/constant.js';
import { mul } from '../core/ops/elementwise.js';
import { cast, where } from '../core/ops/select.js';
import { broadcastShapes, type Shape, sizeOf } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';

export const checkRate = (fn: string, argument: string, rate: unknown): void =>
  checkNumber(fn, argument, rate, 'a number from 0 to 1', (r) => r >= 0 && r <= 1);

/** Which elements are kept, as bool of `shape`: each with probability `1 - rate`, drawn on the host before every run. */
export function keepMask(shape: Shape, rate: number): Tensor {
  const size = sizeOf(shape);
  const threshold = rate * 2 ** 32;
  return hostInput(
    ({ rng }) => {
      const mask = new Uint8Array(size);
      for (let i = 0; i < size; i++) mask[i] = rng.u32() < threshold ? 0 : 1;
      return mask;
    },
    { shape, dtype: 'bool' },
  );
}

/** `x / (1 - rate)` where `kept` holds and 0 elsewhere, with broadcasting; zeros with rate 1. */
export function keepOnly(x: Tensor, kept: Tensor, rate: number): Tensor {
  if (rate === 1) return zeros(broadcastShapes(x.shape, kept.shape) as Shape, x.dtype);
  // In float32: what is kept of little may be scaled by more than float16 holds.
  return cast(where(kept, mul(cast(x, 'float32'), 1 / (1 - rate)), 0), x.dtype);
}
