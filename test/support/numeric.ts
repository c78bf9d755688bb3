import { array, createRng, type NDArray, type Shape } from '../../src/index.js';

/** Standard normal numbers that float32 represents exactly; the same for the same seed. */
export function normals(seed: number, count: number): number[] {
  const rng = createRng(seed);
  return Array.from({ length: count }, () => Math.fround(rng.normal()));
}

export const sizeOf = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/** {@link normals} as an array. */
export const normalArray = (seed: number, shape: Shape): NDArray => array(normals(seed, sizeOf(shape)), { shape });

/** The gradient of a function of float64 numbers, by central differences: good to about 9 digits. */
export function numericGradient(f: (x: readonly number[]) => number, x: readonly number[]): number[] {
  return x.map((value, i) => {
    const step = 1e-5 * Math.max(1, Math.abs(value));
    const at = (shifted: number) => f(x.with(i, shifted));
    return (at(value + step) - at(value - step)) / (2 * step);
  });
}
