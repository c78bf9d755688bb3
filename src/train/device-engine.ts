import type { NDArray } from '../core/array.js';
import type { Tensor } from '../core/tensor.js';
import { mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { hostInputsOf, type RunContext } from '../runtime/host-inputs.js';
import { dispose, type Leaf, Program, toArray, type Value } from '../runtime/program.js';
import {
  type Arrays,
  type BatchInput,
  type Engine,
  type Holdings,
  heldLeaves,
  leavesOf,
  ownValue,
  programOf,
  refresh,
  type StepResult,
  takeHeld,
  takeNamed,
  type Values,
} from './engine.js';
import type { Place } from './outcome.js';
import type { Reader } from './reader.js';
import { type BatchSource, type GradientTracer, gradientOutputs, traceUpdate, type UpdateJob } from './step-trace.js';

/** What is known of the outputs of a step, which are: the metrics, the values per sample, and what has changed of the held values. */
interface Layout {
  readonly places: readonly Place[];
  readonly perSample: boolean;
  readonly changed: readonly number[];
}

/** The engine of devices with memory of their own: a step is one graph, and what it changes stays on the device. */
export class DeviceEngine implements Engine {
  readonly #steps = new Map<string, Program<BatchSource, Layout>>();
  readonly #gradients = new Map<string, Program<BatchSource, readonly string[]>>();
  #values: Holdings<Values>;

  constructor(
    private readonly fn: string,
    private readonly device: OrtBackend,
    private readonly job: UpdateJob,
    private readonly trace: GradientTracer,
    private readonly reader: Reader,
    arrays: Holdings<Arrays>,
  ) {
    const own = (record: Arrays) => mapRecord(record, (array) => ownValue(device, array));
    this.#values = { params: own(arrays.params), state: own(arrays.state), optimizer: own(arrays.optimizer) };
  }

  get values(): Holdings<Values> {
    return this.#values;
  }

  async step<T>(batch: BatchInput, context: RunContext, accept: (result: StepResult) => Promise<T>): Promise<T> {
    const variant = this.job.strategy.variant?.(context.step) ?? '';
    const refreshed = await this.#refresh(batch, context, variant);
    const { leaves, list } = this.#held({ ...this.#values, optimizer: { ...this.#values.optimizer, ...refreshed } });
    const program = programOf(this.#steps, variant, () => this.#stepProgram(variant));
    const { outputs, meta } = await program.run([...leaves, ...batch.leaves], [...list, ...batch.values], context, batch);
    const fresh = outputs.slice(outputs.length - meta.changed.length);
    const result: StepResult = {
      packed: outputs[0] as Value,
      places: meta.places,
      perSample: meta.perSample ? outputs[1] : undefined,
    };
    let accepted: T;
    try {
      accepted = await accept(result);
    } catch (error) {
      dispose(this.device, fresh);
      throw error;
    }
    const after = [...list];
    meta.changed.forEach((index, i) => {
      after[index] = fresh[i] as Value;
    });
    this.#replace(after);
    return accepted;
  }

  write(arrays: Holdings<Arrays>): void {
    const { params, state, optimizer } = this.#values;
    const own = (before: Values, after: Arrays) => mapRecord(before, (_, name) => ownValue(this.device, after[name] as NDArray));
    this.#replace(
      this.#held({ params: own(params, arrays.params), state: own(state, arrays.state), optimizer: own(optimizer, arrays.optimizer) }).list,
    );
  }

  async release(): Promise<void> {
    dispose(this.device, this.#held(this.#values).list);
    for (const program of [...this.#steps.values(), ...this.#gradients.values()]) await program.release();
  }

  /** All held values in one list. */
  #held(all: Holdings<Values>): { leaves: Leaf[]; list: Value[] } {
    const { leaves, values } = heldLeaves(all);
    return { leaves: [...leaves, ...leavesOf('optimizer', all.optimizer)], list: [...values, ...Object.values(all.optimizer)] };
  }

  /** Puts a list of values in the place of the held ones, and frees those that are not in it. */
  #replace(after: readonly Value[]): void {
    const kept = new Set(after);
    dispose(
      this.device,
      this.#held(this.#values).list.filter((value) => !kept.has(value)),
    );
    const rest = after.values();
    const take = (values: Values) => mapRecord(values, () => rest.next().value as Value);
    const { params, state, optimizer } = this.#values;
    this.#values = { params: take(params), state: take(state), optimizer: take(optimizer) };
  }

  #stepProgram(variant: string): Program<BatchSource, Layout> {
    return new Program(this.fn, this.device, (leaves, source) => {
      const tensors = leaves.values();
      const { params, state, optimizer } = this.#values;
      const held = { params: takeNamed(params, tensors), state: takeNamed(state, tensors), optimizer: takeNamed(optimizer, tensors) };
      const found = this.trace(held, [...tensors], source, variant);
      const trained = Object.fromEntries(this.job.trainable.map((name) => [name, held.params[name] as Tensor]));
      const next = traceUpdate(this.fn, this.job, trained, held.optimizer, found.gradients, found.extra);
      const after = [{ ...held.params, ...next.params }, found.state, next.state].flatMap((named) => Object.values(named));
      // What stays as it is need not be returned.
      const changed = after.flatMap((tensor, i) => (tensor === leaves[i] ? [] : [i]));
      const reported = [found.reported, ...(found.perSample ? [found.perSample] : [])];
      const outputs = [...reported, ...changed.map((i) => after[i] as Tensor)];
      return {
        outputs,
        kept: outputs.map((_, i) => i >= reported.length),
        hostInputs: hostInputsOf([...gradientOutputs(found, held.state).outputs, ...outputs]),
        meta: { places: found.places, perSample: found.perSample !== undefined, changed },
      };
    });
  }

  /** New values of the optimizer state. Gradients for them cost a run of their own, and come to the host. */
  async #refresh(batch: BatchInput, context: RunContext, variant: string): Promise<Values> {
    const { params, optimizer } = this.#values;
    const arrays = await refresh(this.fn, this.job.optimizer.refreshes ?? [], context, {
      params: () => this.reader.read(Object.fromEntries(this.job.trainable.map((name) => [name, params[name] as Value]))),
      state: () => this.reader.read(optimizer),
      gradients: async () => {
        const program = programOf(this.#gradients, variant, () => this.#gradientProgram(variant));
        const held = heldLeaves(this.#values);
        const { outputs, meta } = await program.run([...held.leaves, ...batch.leaves], [...held.values, ...batch.values], context, batch);
        return Object.fromEntries(meta.map((name, i) => [name, toArray(outputs[i] as Value)]));
      },
    });
    return mapRecord(arrays, (array) => ownValue(this.device, array));
  }

  #gradientProgram(variant: string): Program<BatchSource, readonly string[]> {
    return new Program(this.fn, this.device, (leaves, source) => {
      const tensors = leaves.values();
      const held = takeHeld(this.#values, tensors);
      const found = this.trace(held, [...tensors], source, variant);
      return {
        outputs: Object.values(found.gradients),
        hostInputs: hostInputsOf(gradientOutputs(found, held.state).outputs),
        meta: Object.keys(found.gradients),
      };
    });
  }
}
