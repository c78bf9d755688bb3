import { constant } from '../core/ops/constant.js';
import { mapRecord, type Tree } from '../core/tree.js';
import type { Named } from '../optim/gradients.js';
import type { OrtBackend } from '../runtime/backend.js';
import { type ArrayLeaf, fillOutputs, indexOutputs, withTensors } from '../runtime/edge.js';
import type { RunContext } from '../runtime/host-inputs.js';
import { Program, toValue } from '../runtime/program.js';
import { type Arrays, type Engine, heldLeaves, takeHeld } from './engine.js';
import type { LossContext } from './outcome.js';
import type { Job } from './step-trace.js';

/** A forward pass. */
export type Predict = (params: unknown, inputs: unknown, context: LossContext) => unknown;

const fn = 'trainer.predict';

const trace = (job: Job, predict: Predict, params: Named, state: Named, inputs: unknown) =>
  indexOutputs(fn, predict(job.paramTree(params), inputs, { training: false, state: job.stateTree(state) }));

/** Runs a forward pass on inputs that were read. To be called from within the backend's queue. */
export class Prediction {
  readonly #program: Program<unknown, Tree<number>>;
  readonly #engine: Engine | undefined;

  /**
   * @param weights where parameters and state come from: those of an engine at the time of a run, or arrays, which become constants
   */
  constructor(
    private readonly device: OrtBackend,
    job: Job,
    predict: Predict,
    weights: Engine | { params: Arrays; state: Arrays },
  ) {
    this.#engine = 'values' in weights ? weights : undefined;
    this.#program = new Program(fn, device, (leaves, inputs) => {
      const tensors = leaves.values();
      const asConstants = (arrays: Arrays): Named => mapRecord(arrays, (array) => constant(array));
      const { params, state } =
        'values' in weights
          ? takeHeld(weights.values, tensors)
          : { params: asConstants(weights.params), state: asConstants(weights.state) };
      return { ...trace(job, predict, params, state, withTensors(inputs, tensors)), constantWeights: !('values' in weights) };
    });
  }

  async run(inputs: unknown, given: readonly ArrayLeaf[], context: RunContext): Promise<unknown> {
    const held = this.#engine ? heldLeaves(this.#engine.values) : { leaves: [], values: [] };
    const values = given.map(({ array }) => toValue(this.device.ort, array));
    const { outputs, meta } = await this.#program.run([...held.leaves, ...given], [...held.values, ...values], context, inputs);
    return fillOutputs(fn, meta, outputs);
  }

  release(): Promise<void> {
    return this.#program.release();
  }
}
