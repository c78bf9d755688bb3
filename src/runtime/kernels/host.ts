/** What the host computes from up to three numbers. It gets three whatever it takes. */
export type HostFunction = (a: number, b: number, c: number) => number;

/** Computes the number of one slot from those of others. */
export interface HostStep {
  readonly to: number;
  readonly compute: HostFunction;
  readonly from: readonly [number, number, number];
}

/**
 * The numbers that the host computes in float64 between loops. Each has a slot, and a phase: the number of loops one after the other
 * that it waits for.
 */
export class HostProgram {
  readonly #phases: number[] = [];
  readonly #steps: HostStep[][] = [];
  readonly #constants = new Map<unknown, { slot: number; value: number }>();

  /** Number of slots. */
  get size(): number {
    return this.#phases.length;
  }

  /** Values of slots that never change. */
  get constants(): readonly { readonly slot: number; readonly value: number }[] {
    return [...this.#constants.values()];
  }

  /** A number that is there from `phase` on: an input, or what the loops of the phase before it have summed up. */
  slot(phase: number): number {
    return this.#phases.push(phase) - 1;
  }

  constant(value: number): number {
    const key = Object.is(value, -0) ? '-0' : value;
    const known = this.#constants.get(key) ?? { slot: this.slot(0), value };
    this.#constants.set(key, known);
    return known.slot;
  }

  /** A number computed from others. */
  apply(compute: HostFunction, from: readonly number[]): number {
    const phase = Math.max(0, ...from.map((slot) => this.phaseOf(slot)));
    const to = this.slot(phase);
    const [a = 0, b = 0, c = 0] = from;
    const steps = this.#steps[phase] ?? [];
    this.#steps[phase] = steps;
    steps.push({ to, compute, from: [a, b, c] });
    return to;
  }

  /** Number of phases that there are slots of. */
  get phases(): number {
    return 1 + this.#phases.reduce((a, b) => Math.max(a, b), 0);
  }

  phaseOf(slot: number): number {
    return this.#phases[slot] as number;
  }

  /** What has to be computed before the loops of `phase`. */
  steps(phase: number): readonly HostStep[] {
    return this.#steps[phase] ?? [];
  }
}
