import { add } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import type { OrtBackend } from '../runtime/backend.js';
import type { RunContext } from '../runtime/host-inputs.js';
import { dispose, Program, type Value } from '../runtime/program.js';
import { type BatchInput, type Engine, heldLeaves, takeHeld } from './engine.js';
import { type Place, packMetrics } from './outcome.js';
import type { Reader } from './reader.js';
import { type BatchSource, type Job, traceLoss } from './step-trace.js';

/** What the evaluation of some batches found so far: sums, which stay on the device. */
export interface Totals {
  readonly sums: Value;
  readonly places: readonly Place[];
  /** Of one batch. */
  readonly perSample?: Value;
}

const fn = 'trainer.evaluate';

/** Which metrics there are, and where; equal for sums that can be added. */
const layoutOf = ({ places }: Totals): string => JSON.stringify(places.map(({ name, to }) => [name, to]));

/** Evaluates batches and adds up what they found. To be called from within the backend's queue. */
export class Evaluator {
  /** With the sums brought to the host, and with the sums left on the device. */
  readonly #once: Program<BatchSource, readonly Place[]>;
  readonly #adding: Program<BatchSource, readonly Place[]>;
  readonly #add: Program<null, null>;
  /** Sums that nobody has given up. */
  readonly #live = new Set<Value>();

  constructor(
    private readonly device: OrtBackend,
    job: Job,
    private readonly engine: Engine,
    private readonly reader: Reader,
  ) {
    const program = (keep: boolean): Program<BatchSource, readonly Place[]> =>
      new Program(fn, device, (leaves, source) => {
        const tensors = leaves.values();
        const { metrics, perSample } = traceLoss(fn, job, takeHeld(engine.values, tensors), [...tensors], source, false);
        const { packed, places } = packMetrics(fn, [metrics]);
        return { outputs: [packed, ...(perSample ? [perSample] : [])], kept: [keep, false], meta: places };
      });
    this.#once = program(false);
    this.#adding = device.device === 'cpu' ? this.#once : program(true);
    this.#add = new Program(fn, device, ([a, b]) => ({ outputs: [add(a as Tensor, b as Tensor)], kept: [true], meta: null }));
  }

  /** Evaluates a batch. */
  async evaluate(batch: BatchInput, context: RunContext): Promise<Totals> {
    return this.#run(this.#once, batch, context);
  }

  /** Evaluates a batch and adds what it found to what earlier ones found, which is given up. */
  async add(batch: BatchInput, context: RunContext, before: Totals | undefined): Promise<Totals> {
    try {
      const found = await this.#run(this.#adding, batch, context);
      return before ? await this.#sum(before, found, context) : found;
    } finally {
      if (before) this.drop(before);
    }
  }

  /** The sums of both; those of `found` are given up. */
  async #sum(before: Totals, found: Totals, context: RunContext): Promise<Totals> {
    const { sums, places } = found;
    try {
      if (layoutOf(before) !== layoutOf(found)) {
        throw new Error(`${fn}: the metrics of the batches differ`);
      }
      const leaf = (path: string, { shape, dtype }: Value) => ({ path, shape, dtype });
      const { outputs } = await this.#add.run([leaf('a', sums), leaf('b', before.sums)], [sums, before.sums], context, null);
      return { sums: this.#own(outputs[0] as Value), places };
    } finally {
      this.drop(found);
    }
  }

  async #run(program: Program<BatchSource, readonly Place[]>, batch: BatchInput, context: RunContext): Promise<Totals> {
    const { leaves, values } = heldLeaves(this.engine.values);
    const { outputs, meta } = await program.run([...leaves, ...batch.leaves], [...values, ...batch.values], context, batch);
    return { sums: this.#own(outputs[0] as Value), places: meta, ...(outputs[1] ? { perSample: outputs[1] } : {}) };
  }

  /** The sums, on the host; they are given up. */
  async read(totals: Totals): Promise<number[]> {
    try {
      const { sums } = await this.reader.read({ sums: totals.sums });
      return [...(sums?.data ?? [])];
    } finally {
      this.drop(totals);
    }
  }

  drop({ sums }: Totals): void {
    if (this.#live.delete(sums)) dispose(this.device, [sums]);
  }

  #own(sums: Value): Value {
    this.#live.add(sums);
    return sums;
  }

  /** Sums of evaluations that go on are given up: their memory goes with the sessions. */
  async release(): Promise<void> {
    dispose(this.device, [...this.#live]);
    this.#live.clear();
    await this.#once.release();
    await this.#adding.release();
    await this.#add.release();
  }
}
