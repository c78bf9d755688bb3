import type { HostProgram } from './host.js';
import type { InstructionName } from './instructions.js';

/** A value of a loop: the index of the instruction that makes it. */
export type Value = number;

/** One value per element. Operands of `load` are arrays, of `scalar` and `flag` scalars, of all others values. */
export interface LoopInstruction {
  /** `scalar` is the same number for all elements, `flag` the same truth value as a mask. */
  readonly name: InstructionName | 'load' | 'scalar' | 'flag';
  readonly operands: readonly number[];
}

export type ReductionKind = 'sum' | 'max';

/**
 * What one pass over some arrays of the same length computes. It does not say which arrays, how long or which numbers, so that all
 * tensors which are treated alike share one.
 */
export interface LoopCode {
  readonly instructions: readonly LoopInstruction[];
  readonly arrays: number;
  readonly scalars: number;
  readonly reductions: readonly { readonly kind: ReductionKind; readonly value: Value }[];
  /** All of them take place after all loads of the same element. */
  readonly stores: readonly { readonly array: number; readonly value: Value }[];
}

/** A loop over certain arrays. */
export interface Loop {
  readonly code: LoopCode;
  /** Equal for equal code. */
  readonly key: string;
  /** Number of elements. */
  readonly size: number;
  /** The inputs that its arrays are. */
  readonly arrays: readonly number[];
  /** The slots of the host that hold its scalars. */
  readonly scalars: readonly number[];
  /** The slots that take the results of its reductions. */
  readonly results: readonly number[];
  /** Where it multiplies by the reciprocals of numbers: their slots, and a loop that divides, for when one has none in float32. */
  readonly inverted?: { readonly divisors: readonly number[]; readonly dividing: Loop };
}

/** Writes a loop, instruction by instruction. Arrays and scalars are numbered as they come. */
export class LoopBuilder {
  readonly #instructions: LoopInstruction[] = [];
  readonly #arrays: number[] = [];
  readonly #scalars: number[] = [];
  readonly #known = new Map<string, Value>();
  readonly #reductions: { kind: ReductionKind; value: Value }[] = [];
  readonly #results: number[] = [];
  readonly #stores: { array: number; value: Value }[] = [];

  constructor(private readonly host: HostProgram) {}

  /** The elements of an input. */
  load(input: number): Value {
    return this.#write('load', [indexIn(this.#arrays, input)]);
  }

  /** A number of the host. */
  scalar(slot: number): Value {
    return this.#write('scalar', [indexIn(this.#scalars, slot)]);
  }

  /** A truth value of the host, as a mask. */
  flag(slot: number): Value {
    return this.#write('flag', [indexIn(this.#scalars, slot)]);
  }

  constant(value: number): Value {
    return this.scalar(this.host.constant(value));
  }

  op(name: InstructionName, ...operands: readonly Value[]): Value {
    return this.#write(name, operands);
  }

  reduce(kind: ReductionKind, value: Value, result: number): void {
    this.#reductions.push({ kind, value });
    this.#results.push(result);
  }

  store(input: number, value: Value): void {
    this.#stores.push({ array: indexIn(this.#arrays, input), value });
  }

  build(size: number): Loop {
    const code: LoopCode = {
      instructions: this.#instructions,
      arrays: this.#arrays.length,
      scalars: this.#scalars.length,
      reductions: this.#reductions,
      stores: this.#stores,
    };
    return { code, key: JSON.stringify(code), size, arrays: this.#arrays, scalars: this.#scalars, results: this.#results };
  }

  #write(name: LoopInstruction['name'], operands: readonly number[]): Value {
    const key = `${name} ${operands}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    this.#known.set(key, this.#instructions.length);
    return this.#instructions.push({ name, operands }) - 1;
  }
}

function indexIn(list: number[], item: number): number {
  const index = list.indexOf(item);
  return index >= 0 ? index : list.push(item) - 1;
}
