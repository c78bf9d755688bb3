/** Mean size of the elements: what errors of small ones are measured by. */
export const scaleOf = (values: ArrayLike<number>): number => {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += Math.abs(values[i] as number);
  return values.length === 0 || !Number.isFinite(total) ? 0 : total / values.length;
};

/**
 * Throws unless `actual` is `expected` but for errors of `rtol` relative to the element or, for small elements, to the
 * mean size of all, or to `scale`. Infinities and NaN must be at the same places.
 */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  rtol: number,
  scale = scaleOf(expected),
): void {
  if (actual.length !== expected.length) throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    const error = Math.abs(a - e) / Math.max(Math.abs(e), scale);
    if (!(error <= rtol))
      throw new Error(`${what}: element ${i} is ${a}, expected ${e} (error ${error.toExponential(1)}, allowed ${rtol})`);
  }
}
