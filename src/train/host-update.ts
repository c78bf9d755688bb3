import type { NDArray } from '../core/array.js';
import { allocate } from '../core/dtype.js';
import { inputLeaf } from '../core/leaf.js';
import { sizeOf } from '../core/shape.js';
import type { Spec, Tensor } from '../core/tensor.js';
import { mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { hostInputsOf, hostValue, type RunContext } from '../runtime/host-inputs.js';
import { allocateMemory, createKernels, fitsMemory, type KernelMemory, planUpdate, type Update } from '../runtime/kernels/index.js';
import { type Leaf, Program, toArray, toValue, type Value } from '../runtime/program.js';
import { type Arrays, copyOf, type Holdings, leavesOf, refresh, type Updater, type Values } from './engine.js';
import { traceUpdate, type UpdateJob } from './step-trace.js';

/** The gradients that an update gets. */
export interface Selection {
  /** Names of the parameters that have one. */
  readonly gradients: readonly string[];
  /** The same for further gradients, by what the strategy calls them. */
  readonly extra: Readonly<Record<string, readonly string[]>>;
  /** How many streams of host inputs were used before the update. */
  readonly streams: number;
}

/** An update for one selection: computes everything that may fail, and then changes the held values. */
interface Plan {
  run(context: RunContext, refreshed: ReadonlyMap<Value, NDArray>): Promise<void>;
  release(): Promise<void>;
}

/** Everything that an update reads, each kind by name. */
interface Slots<V> {
  readonly params: V;
  readonly optimizer: V;
  readonly gradients: V;
  readonly extra: Readonly<Record<string, V>>;
}

const pick = <V>(record: Readonly<Record<string, V>>, names: readonly string[]): Record<string, V> =>
  Object.fromEntries(names.map((name) => [name, record[name] as V]));

/** All values of slots, in one order. */
const list = <V>({ params, optimizer, gradients, extra }: Slots<Readonly<Record<string, V>>>): V[] =>
  [params, optimizer, gradients, ...Object.values(extra)].flatMap((record) => Object.values(record));

/**
 * Trained parameters, optimizer state and gradients in the memory of the host, and the updates that change them in place: fused
 * kernels generated from the traced update, or a graph for ONNX Runtime where some op of the update has no kernel.
 */
export class HostUpdate implements Updater {
  readonly #plans = new Map<string, Plan>();
  /** The same by the object: a trainer comes with one and the same in every step. */
  readonly #known = new WeakMap<Selection, Plan>();

  private constructor(
    private readonly fn: string,
    private readonly device: OrtBackend,
    private readonly job: UpdateJob,
    /** The memory. Gradients are to be written there before {@link run}. */
    readonly slots: Slots<Values>,
    /** Undefined where updates have no kernels. */
    private readonly memory: KernelMemory | undefined,
  ) {}

  static async create(fn: string, device: OrtBackend, job: UpdateJob, params: Arrays, optimizer: Arrays): Promise<HostUpdate> {
    const specs: Slots<Readonly<Record<string, Spec>>> = {
      params,
      optimizer,
      gradients: params,
      extra: Object.fromEntries((job.strategy.extra ?? []).map((name) => [name, params])),
    };
    const leaves = mapSlots(specs, (spec) => inputLeaf(spec, ''));
    const plan = planUpdate(updateOf(fn, job, leaves, leaves).update);
    const memory = plan && allocateMemory([plan]);
    const data = memory?.data ?? list(specs).map(({ shape, dtype }) => allocate(dtype, sizeOf(shape)));
    const arrays = data.values();
    const values = mapSlots(specs, ({ shape, dtype }) =>
      toValue(device.ort, { data: arrays.next().value as NDArray['data'], shape, dtype }),
    );
    overwrite(values.params, params);
    overwrite(values.optimizer, optimizer);
    return new HostUpdate(fn, device, job, values, memory);
  }

  get values(): Holdings<Values> {
    return { params: this.slots.params, state: {}, optimizer: this.slots.optimizer };
  }

  write({ params, optimizer }: Holdings<Arrays>): void {
    overwrite(this.slots.params, params);
    overwrite(this.slots.optimizer, optimizer);
  }

  /** One update, from arrays. If it fails, nothing has changed. */
  async update(gradients: Arrays, extra: Readonly<Record<string, Arrays>>, context: RunContext): Promise<void> {
    overwrite(this.slots.gradients, gradients);
    for (const [name, arrays] of Object.entries(extra)) overwrite(this.slots.extra[name] ?? {}, arrays);
    await this.run({ gradients: Object.keys(gradients), extra: mapRecord(extra, Object.keys), streams: 0 }, context);
  }

  /** One update, from the gradients in memory. If it fails, nothing has changed. */
  async run(selection: Selection, context: RunContext): Promise<void> {
    const copies = (values: Values) => async () => mapRecord(values, copyOf);
    const { params, optimizer, gradients } = this.slots;
    const refreshed = await refresh(this.fn, this.job.optimizer.refreshes ?? [], context, {
      params: copies(params),
      state: copies(optimizer),
      gradients: copies(pick(gradients, selection.gradients)),
    });
    const plan = this.#known.get(selection) ?? (await this.#planFor(selection));
    this.#known.set(selection, plan);
    await plan.run(context, new Map(Object.entries(refreshed).map(([name, array]) => [optimizer[name] as Value, array])));
  }

  async release(): Promise<void> {
    for (const plan of this.#plans.values()) await plan.release();
    this.#plans.clear();
  }

  async #planFor(selection: Selection): Promise<Plan> {
    const key = JSON.stringify(selection);
    const plan = this.#plans.get(key) ?? (await this.#kernelPlan(selection)) ?? this.#graphPlan(selection);
    this.#plans.set(key, plan);
    return plan;
  }

  async #kernelPlan({ gradients, extra, streams }: Selection): Promise<Plan | undefined> {
    const { memory } = this;
    if (!memory) return undefined;
    const leaves = mapSlots(this.slots, (spec) => inputLeaf(spec, ''));
    const given = {
      ...leaves,
      gradients: pick(leaves.gradients, gradients),
      extra: mapRecord(extra, (names, name) => pick(leaves.extra[name] ?? {}, names)),
    };
    const { update, order } = updateOf(this.fn, this.job, leaves, given);
    const plan = planUpdate(update);
    if (!plan || !fitsMemory(plan, memory)) return undefined;
    const kernels = await createKernels(plan, { memory });
    const inputs = kernels.hostInputs.map((input) => ({ ...input, stream: streams + order.indexOf(input.tensor) }));
    return {
      run: async (context, refreshed) => {
        const numbers = inputs.map(({ compute, stream, ...spec }) => hostValue(compute, spec, context, stream)[0] as number);
        for (const [value, { data }] of refreshed) toArray(value).data.set(data);
        kernels.run(numbers);
      },
      release: async () => {},
    };
  }

  #graphPlan({ gradients, extra, streams }: Selection): Plan {
    const { params, optimizer } = this.slots;
    const given = {
      params,
      optimizer,
      gradients: pick(this.slots.gradients, gradients),
      extra: mapRecord(extra, (names, name) => pick(this.slots.extra[name] ?? {}, names)),
    };
    const groups = Object.entries({ params, state: optimizer, gradient: given.gradients, ...given.extra });
    const leaves: readonly Leaf[] = groups.flatMap(([name, values]) => leavesOf(name, values));
    const values = list(given);
    const program = new Program<null, readonly number[]>(this.fn, this.device, (tensors) => {
      const rest = tensors.values();
      const slots = mapSlots(given, () => rest.next().value as Tensor);
      const { update, order } = updateOf(this.fn, this.job, slots, slots);
      const outputs = update.outputs.map(({ tensor }) => tensor);
      // Streams go on counting where those of the gradients end.
      return { outputs, hostInputs: [...Array(streams), ...order], meta: update.outputs.map(({ into }) => into) };
    });
    return {
      run: async (context, refreshed) => {
        const current = values.map((value) => {
          const array = refreshed.get(value);
          return array ? toValue(this.device.ort, array) : value;
        });
        const { outputs, meta } = await program.run(leaves, current, context, null);
        for (const [value, { data }] of refreshed) toArray(value).data.set(data);
        meta.forEach((into, i) => {
          toArray(values[into] as Value).data.set(toArray(outputs[i] as Value).data);
        });
      },
      release: () => program.release(),
    };
  }
}

function mapSlots<A, B>(slots: Slots<Readonly<Record<string, A>>>, visit: (item: A) => B): Slots<Record<string, B>> {
  const each = (record: Readonly<Record<string, A>>) => mapRecord(record, visit);
  return {
    params: each(slots.params),
    optimizer: each(slots.optimizer),
    gradients: each(slots.gradients),
    extra: mapRecord(slots.extra, each),
  };
}

/**
 * Traces an update.
 *
 * @param inputs all leaves
 * @param given those that the update gets
 * @returns the update of the leaves in the order of {@link list}, and its host inputs in the order of the trace
 */
function updateOf(
  fn: string,
  job: UpdateJob,
  inputs: Slots<Readonly<Record<string, Tensor>>>,
  given: Slots<Readonly<Record<string, Tensor>>>,
): { update: Update; order: Tensor[] } {
  const next = traceUpdate(fn, job, given.params, given.optimizer, given.gradients, given.extra);
  const leaves = list(inputs);
  const after = [...Object.values(next.params), ...Object.values(next.state)];
  const outputs = after.flatMap((tensor, into) => (tensor === leaves[into] ? [] : [{ tensor, into }]));
  return { update: { inputs: leaves, outputs }, order: hostInputsOf(after) };
}

/** Writes arrays into the memory of values. */
export function overwrite(values: Values, arrays: Arrays): void {
  for (const [name, { data }] of Object.entries(arrays)) toArray(values[name] as Value).data.set(data);
}
