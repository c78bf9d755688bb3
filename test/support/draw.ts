import { sizeOf } from '../../src/core/shape.js';
import { array, type DType, type NDArray, type Rng, type Shape, type Spec } from '../../src/index.js';

/** An argument of a test, with how its elements are drawn. */
export interface Argument extends Spec {
  draw(rng: Rng): number[];
}

const each = (shape: Shape, dtype: DType, draw: (rng: Rng) => number): Argument => ({
  shape,
  dtype,
  draw: (rng) => Array.from({ length: sizeOf(shape) }, () => draw(rng)),
});

/** Standard normal floats. */
export const normal = (shape: Shape, dtype: DType = 'float32'): Argument => each(shape, dtype, (rng) => rng.normal());

/** Floats from 0.5 to 2. */
export const positive = (shape: Shape, dtype: DType = 'float32'): Argument => each(shape, dtype, (rng) => 0.5 + 1.5 * rng.float());

/** Floats that keep a distance of 0.1 from each other and 0.025 from 0: far from the kinks of max and relu. */
export const distinct = (shape: Shape, dtype: DType = 'float32'): Argument => ({
  shape,
  dtype,
  draw: (rng) => {
    const size = sizeOf(shape);
    return rng.shuffle(Array.from({ length: size }, (_, i) => (i + 0.75 - size / 2) / 10));
  },
});

/** Integers from `low` to `high`, both included. */
export const integers = (shape: Shape, low: number, high: number): Argument => each(shape, 'int32', (rng) => low + rng.int(high - low + 1));

export const mask = (shape: Shape): Argument => each(shape, 'bool', (rng) => rng.int(2));

/** These values. */
export const given = (shape: Shape, values: readonly number[], dtype: DType = 'float32'): Argument => ({
  shape,
  dtype,
  draw: () => [...values],
});

/** The arguments as arrays. */
export const drawAll = (inputs: readonly Argument[], rng: Rng): NDArray[] =>
  inputs.map(({ shape, dtype, draw }) => array(draw(rng), { shape, dtype }));
