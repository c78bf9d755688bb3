import { instructions } from './instructions.js';
import type { LoopCode } from './loop.js';

/** Elements per instruction: many enough to forget what it costs to go from one to the next, few enough for the caches. */
const BLOCK = 1024;

/**
 * Does what the kernel of a loop does, without WebAssembly: tens of times slower.
 *
 * @param registers blocks of values, which loops share; missing ones are added
 * @returns runs the loop for the current scalars and returns the results of its reductions
 */
export function interpretLoop(
  code: LoopCode,
  arrays: readonly Float32Array[],
  size: number,
  registers: Float32Array[],
): (scalars: readonly number[]) => number[] {
  while (registers.length < code.instructions.length) registers.push(new Float32Array(BLOCK));
  const whole = registers.slice(0, code.instructions.length);
  const rest = whole.map((register) => register.subarray(0, size % BLOCK));
  return (scalars) => {
    const results = code.reductions.map(({ kind }) => (kind === 'sum' ? 0 : Number.NEGATIVE_INFINITY));
    code.instructions.forEach(({ name, operands }, i) => {
      if (name === 'scalar' || name === 'flag') whole[i]?.fill(scalars[operands[0] as number] as number);
    });
    for (let start = 0; start < size; start += BLOCK) {
      const values = start + BLOCK <= size ? whole : rest;
      code.instructions.forEach(({ name, operands }, i) => {
        const y = values[i] as Float32Array;
        // Copied, as what is stored first may be the source of what is stored next.
        if (name === 'load') y.set((arrays[operands[0] as number] as Float32Array).subarray(start, start + y.length));
        else if (name !== 'scalar' && name !== 'flag') {
          const [a, b, c] = operands.map((operand) => values[operand]) as [Float32Array, Float32Array, Float32Array];
          instructions[name].block(y, a, b, c);
        }
      });
      code.reductions.forEach(({ kind, value }, r) => {
        let result = results[r] as number;
        for (const element of values[value] as Float32Array) result = kind === 'sum' ? result + element : Math.max(result, element);
        results[r] = result;
      });
      for (const { array, value } of code.stores) (arrays[array] as Float32Array).set(values[value] as Float32Array, start);
    }
    return results;
  };
}
