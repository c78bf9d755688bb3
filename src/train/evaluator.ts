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
  /** Of the last batch. */
  readonly perSample: Value | undefined;
}

const fn = 'trainer.evaluate';

/** Evaluates batches and adds up what they found. To be called from within the backend's queue. */
export class Evaluator {
  readonly #evaluate: Program<BatchSource, readonly Place[]>;
  readonly #add: Program<null, null>;

  constructor(
    private readonly device: OrtBackend,
    job: Job,
    private readonly engine: Engine,
    private readonly reader: Reader,
  ) {
    this.#evaluate = new Program(fn, device, (leaves, source) => {
      const tensors = leaves.values();
      const held = takeHeld(engine.values, tensors);
      const { metrics, perSample } = traceLoss(fn, job, held, [...tensors], source, false);
      const { packed, places } = packMetrics(fn, [metrics]);
      return { outputs: [packed, ...(perSample ? [perSample] : [])], kept: [true, false], meta: places };
    });
    this.#add = new Program(fn, device, ([a, b]) => ({ outputs: [add(a as Tensor, b as Tensor)], kept: [true], meta: null }));
  }

  /** Evaluates a batch and adds what it found to what earlier ones found, which is given up. */
  async run(batch: BatchInput, context: RunContext, before?: Totals): Promise<Totals> {
    const { leaves, values } = heldLeaves(this.engine.values);
    const { outputs, meta } = await this.#evaluate.run([...leaves, ...batch.leaves], [...values, ...batch.values], context, batch);
    const [sums, perSample] = outputs as [Value, Value?];
    if (!before) return { sums, places: meta, perSample };
    try {
      if (before.places.map(({ name, to }) => `${name}:${to}`).join() !== meta.map(({ name, to }) => `${name}:${to}`).join()) {
        throw new Error(`${fn}: the metrics of the batches differ`);
      }
      const leaf = (path: string, { shape, dtype }: Value) => ({ path, shape, dtype });
      const added = await this.#add.run([leaf('a', sums), leaf('b', before.sums)], [sums, before.sums], context, null);
      return { sums: added.outputs[0] as Value, places: meta, perSample };
    } finally {
      this.drop(before);
      dispose(this.device, [sums]);
    }
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
    dispose(this.device, [sums]);
  }

  async release(): Promise<void> {
    await this.#evaluate.release();
    await this.#add.release();
  }
}
