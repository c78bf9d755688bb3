import { instructions } from './instructions.js';
import type { LoopCode } from './loop.js';

/** Elements per instruction: few enough for the values of a loop to stay in the caches. */
const BLOCK = 1024;

/**
 * Does what the kernel of a loop does, without WebAssembly: tens of times slower.
 *
 * @returns runs the loop for the current scalars and returns the results of its reductions
 */
export function interpretLoop(code: LoopCode, arrays: readonly Float32Array[], size: number): (scalars: readonly number[]) => number[] {
  const values = code.instructions.map(() => new Float32Array(Math.min(BLOCK, size)));
  return (scalars) => {
    const results = code.reductions.map(({ kind }) => (kind === 'sum' ? 0 : Number.NEGATIVE_INFINITY));
    code.instructions.forEach(({ name, operands }, i) => {
      if (name === 'scalar' || name === 'flag') values[i]?.fill(scalars[operands[0] as number] as number);
    });
    for (let start = 0; start < size; start += BLOCK) {
      const length = Math.min(BLOCK, size - start);
      const block = length === values[0]?.length ? values : values.map((value) => value.subarray(0, length));
      code.instructions.forEach(({ name, operands }, i) => {
        const y = block[i] as Float32Array;
        if (name === 'load') y.set((arrays[operands[0] as number] as Float32Array).subarray(start, start + length));
        else if (name !== 'scalar' && name !== 'flag') {
          const [a, b, c] = operands.map((operand) => block[operand]) as [Float32Array, Float32Array, Float32Array];
          instructions[name].block(y, a, b, c);
        }
      });
      code.reductions.forEach(({ kind, value }, r) => {
        let result = results[r] as number;
        for (const element of block[value] as Float32Array) result = kind === 'sum' ? result + element : Math.max(result, element);
        results[r] = result;
      });
      for (const { array, value } of code.stores) (arrays[array] as Float32Array).set(block[value] as Float32Array, start);
    }
    return results;
  };
}
