import { allocate } from '../core/dtype.js';
import { sizeOf } from '../core/shape.js';
import type { Spec, Tensor } from '../core/tensor.js';
import { mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { hostInputsOf, type RunContext } from '../runtime/host-inputs.js';
import { type Leaf, Program, toArray, toValue, type Value } from '../runtime/program.js';
import { type Arrays, leavesOf, ownValue, type Values } from './engine.js';
import { type Job, traceUpdate } from './step-trace.js';

/** The gradients that an update gets. */
export interface Selection {
  /** Names of the parameters that have one. */
  readonly gradients: readonly string[];
  /** The same for further gradients, by what the strategy calls them. */
  readonly extra: Readonly<Record<string, readonly string[]>>;
  /** How many streams of host inputs were used before the update. */
  readonly streams: number;
}

/** An update for one selection. Indices are those of parameters and optimizer state in one list. */
interface Plan {
  readonly leaves: readonly Leaf[];
  readonly values: readonly Value[];
  readonly program: Program<null, readonly number[]>;
}

const pick = (values: Values, names: readonly string[]): Values => Object.fromEntries(names.map((name) => [name, values[name] as Value]));

/** Trained parameters, optimizer state and gradients in the memory of the host, and the updates that change them in place. */
export class HostUpdate {
  readonly params: Values;
  readonly optimizer: Values;
  /** Where gradients are to be written before an update. */
  readonly gradients: Values;
  readonly extra: Readonly<Record<string, Values>>;
  readonly #plans = new Map<string, Plan>();

  constructor(
    private readonly fn: string,
    private readonly device: OrtBackend,
    private readonly job: Pick<Job, 'optimizer' | 'paramTree' | 'learningRate' | 'strategy'>,
    params: Arrays,
    optimizer: Arrays,
  ) {
    const blank = ({ shape, dtype }: Spec) => toValue(device.ort, { data: allocate(dtype, sizeOf(shape)), shape, dtype });
    this.params = mapRecord(params, (array) => ownValue(device, array));
    this.optimizer = mapRecord(optimizer, (array) => ownValue(device, array));
    this.gradients = mapRecord(params, blank);
    this.extra = Object.fromEntries((job.strategy.extra ?? []).map((name) => [name, mapRecord(params, blank)]));
  }

  /**
   * One update, from the gradients in memory. If it fails, nothing has changed.
   *
   * @param refreshed entries of the optimizer state that change before it
   */
  async run(selection: Selection, context: RunContext, refreshed: Arrays): Promise<void> {
    const { leaves, values, program } = this.#plan(selection);
    const held = this.#held;
    const fresh = new Map(Object.entries(refreshed).map(([name, array]) => [this.optimizer[name], toValue(this.device.ort, array)]));
    const current = values.map((value) => fresh.get(value) ?? value);
    const { outputs, meta: changed } = await program.run(leaves, current, context, null);
    overwrite(this.optimizer, refreshed);
    changed.forEach((index, i) => {
      toArray(held[index] as Value).data.set(toArray(outputs[i] as Value).data);
    });
  }

  async release(): Promise<void> {
    for (const { program } of this.#plans.values()) await program.release();
    this.#plans.clear();
  }

  get #held(): readonly Value[] {
    return [...Object.values(this.params), ...Object.values(this.optimizer)];
  }

  #plan(selection: Selection): Plan {
    const key = JSON.stringify(selection);
    const known = this.#plans.get(key);
    if (known) return known;
    const { params, optimizer } = this;
    const gradients = pick(this.gradients, selection.gradients);
    const extra = Object.entries(selection.extra).map(([name, names]) => [name, pick(this.extra[name] as Values, names)] as const);
    const groups: readonly (readonly [string, Values])[] = [['params', params], ['state', optimizer], ['gradient', gradients], ...extra];
    const trace = (leaves: readonly Tensor[]) => {
      const tensors = leaves.values();
      const [p, state, g, ...rest] = groups.map(([, values]) => mapRecord(values, () => tensors.next().value as Tensor));
      const named = Object.fromEntries(extra.map(([name], i) => [name, rest[i] as Record<string, Tensor>]));
      const next = traceUpdate(
        this.fn,
        this.job,
        p as Record<string, Tensor>,
        state as Record<string, Tensor>,
        g as Record<string, Tensor>,
        named,
      );
      const after = [...Object.values(next.params), ...Object.values(next.state)];
      const changed = after.flatMap((tensor, i) => (tensor === leaves[i] ? [] : [i]));
      const outputs = changed.map((i) => after[i] as Tensor);
      // Streams go on counting where those of the gradients end.
      return { outputs, hostInputs: [...Array(selection.streams), ...hostInputsOf(outputs)], meta: changed };
    };
    const plan: Plan = {
      leaves: groups.flatMap(([name, values]) => leavesOf(name, values)),
      values: groups.flatMap(([, values]) => Object.values(values)),
      program: new Program(this.fn, this.device, trace),
    };
    this.#plans.set(key, plan);
    return plan;
  }
}

/** Writes arrays into the memory of values. */
export function overwrite(values: Values, arrays: Arrays): void {
  for (const [name, { data }] of Object.entries(arrays)) toArray(values[name] as Value).data.set(data);
}
