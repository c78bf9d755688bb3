import type { NDArray } from '../core/array.js';
import { lookUp, mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { hostInputsOf, type RunContext } from '../runtime/host-inputs.js';
import { Program, type Value } from '../runtime/program.js';
import {
  type Arrays,
  type BatchInput,
  type Engine,
  type Holdings,
  heldLeaves,
  ownValue,
  programOf,
  type StepResult,
  takeHeld,
  type Values,
} from './engine.js';
import { HostUpdate, overwrite, type Selection } from './host-update.js';
import type { Place } from './outcome.js';
import { type BatchSource, type GradientTracer, gradientOutputs, type UpdateJob } from './step-trace.js';

/** What is known of the outputs of a gradient program, which are: the metrics, the values per sample, the changed state, the gradients. */
interface Layout {
  readonly places: readonly Place[];
  readonly perSample: boolean;
  /** Names of the model state that changes. */
  readonly state: readonly string[];
  readonly selection: Selection;
}

/**
 * The engine of devices whose memory is the host's: one graph computes gradients, and the update changes parameters and optimizer
 * state in place. ONNX Runtime copies what it returns, so it returns as little as possible.
 */
export class HostEngine implements Engine {
  readonly #programs = new Map<string, Program<BatchSource, Layout>>();
  readonly #params: Values;
  #state: Values;

  private constructor(
    private readonly device: OrtBackend,
    private readonly job: UpdateJob,
    private readonly trace: GradientTracer,
    private readonly update: HostUpdate,
    { params, state }: Holdings<Arrays>,
  ) {
    this.#params = mapRecord(params, (array, name) => lookUp(update.slots.params, name) ?? ownValue(device, array));
    this.#state = mapRecord(state, (array) => ownValue(device, array));
  }

  static async create(device: OrtBackend, job: UpdateJob, trace: GradientTracer, holdings: Holdings<Arrays>): Promise<HostEngine> {
    const trained = Object.fromEntries(job.trainable.map((name) => [name, holdings.params[name] as NDArray]));
    return new HostEngine(device, job, trace, await HostUpdate.create('trainer.step', device, job, trained, holdings.optimizer), holdings);
  }

  get values(): Holdings<Values> {
    return { params: this.#params, state: this.#state, optimizer: this.update.slots.optimizer };
  }

  async step<T>(batch: BatchInput, context: RunContext, accept: (result: StepResult) => Promise<T>): Promise<T> {
    const held = heldLeaves(this.values);
    const leaves = [...held.leaves, ...batch.leaves];
    const values = [...held.values, ...batch.values];
    const variant = this.job.strategy.variant?.(context.step) ?? '';
    const program = programOf(this.#programs, variant, () => this.#program(variant));
    const { outputs, meta } = await program.run(leaves, values, context, batch, (layout) => this.#targets(layout));
    const rest = outputs.values();
    const next = () => rest.next().value as Value;
    const result: StepResult = { packed: next(), places: meta.places, perSample: meta.perSample ? next() : undefined };
    const state = Object.fromEntries(meta.state.map((name) => [name, next()]));
    const accepted = await accept(result);
    await this.update.run(meta.selection, context);
    this.#state = { ...this.#state, ...state };
    return accepted;
  }

  write({ params, state, optimizer }: Holdings<Arrays>): void {
    overwrite(this.#params, params); // those that are trained lie in the memory of the update
    this.#state = mapRecord(this.#state, (_, name) => ownValue(this.device, state[name] as NDArray));
    overwrite(this.update.slots.optimizer, optimizer);
  }

  async release(): Promise<void> {
    for (const program of this.#programs.values()) await program.release();
    await this.update.release();
  }

  /** Where the outputs of a gradient program go: gradients to the memory of the update. */
  #targets({ perSample, state, selection }: Layout): (Value | undefined)[] {
    const before = Array<undefined>(1 + Number(perSample) + state.length).fill(undefined);
    const { gradients, extra } = this.update.slots;
    return [
      ...before,
      ...selection.gradients.map((name) => gradients[name]),
      ...Object.entries(selection.extra).flatMap(([key, names]) => names.map((name) => extra[key]?.[name])),
    ];
  }

  #program(variant: string): Program<BatchSource, Layout> {
    return new Program('trainer.step', this.device, (leaves, source) => {
      const tensors = leaves.values();
      const held = takeHeld(this.values, tensors);
      const found = this.trace(held, [...tensors], source, variant);
      const { outputs, state } = gradientOutputs(found, held.state);
      const hostInputs = hostInputsOf(outputs);
      const selection: Selection = {
        gradients: Object.keys(found.gradients),
        extra: mapRecord(found.extra, Object.keys),
        streams: hostInputs.length,
      };
      return {
        outputs: [found.reported, ...outputs.slice(1)],
        hostInputs,
        meta: { places: found.places, perSample: found.perSample !== undefined, state, selection },
      };
    });
  }
}
