import { merge, simplify, topologicalOrder } from '../../core/graph.js';
import { sizeOf } from '../../core/shape.js';
import type { Spec, Tensor } from '../../core/tensor.js';
import { Analysis, type KernelHostInput, type NumberInput, type Reduction, type Store } from './analysis.js';
import { Groups } from './groups.js';
import type { HostStep } from './host.js';
import type { Loop } from './loop.js';

/** A traced update. */
export interface Update {
  /** Leaves: parameters, state, gradients. Each gets memory of its own. */
  readonly inputs: readonly Tensor[];
  /** The new values of inputs. Inputs that are not among them stay as they are. */
  readonly outputs: readonly { readonly tensor: Tensor; readonly into: number }[];
  /** Tensors of one element whose values a run returns. */
  readonly values?: readonly Tensor[];
}

/** What is done between two points at which loops wait for numbers: first the steps of the host, then the loops. */
export interface Phase {
  readonly steps: readonly HostStep[];
  readonly loops: readonly Loop[];
}

/** An update as steps of the host and loops. */
export interface UpdatePlan {
  readonly inputs: readonly Spec[];
  /** Inputs that are used together, so that their memory has to be in one place. */
  readonly groups: readonly (readonly number[])[];
  /** In the order of the trace. */
  readonly hostInputs: readonly (KernelHostInput & { readonly slot: number })[];
  /** Number of slots for numbers of the host. */
  readonly slots: number;
  readonly constants: readonly { readonly slot: number; readonly value: number }[];
  /** Inputs of one element that are read before the first phase. */
  readonly reads: readonly NumberInput[];
  readonly phases: readonly Phase[];
  /** Inputs of one element that are written after the last phase. */
  readonly writes: readonly NumberInput[];
  /** The slots of the values that a run returns. */
  readonly values: readonly number[];
}

/**
 * Kernels for a traced update: loops over the elements of its arrays, cut where one of them needs a sum over a whole array, and the
 * arithmetic of single numbers in between. Undefined where some op has none; the update can still be written as an ONNX graph.
 *
 * Arrays are float32. Ops on them are elementwise, together with arrays of as many elements and with numbers, or reduce them to one
 * number. Host inputs are numbers.
 */
export function planUpdate({ inputs, outputs, values = [] }: Update): UpdatePlan | undefined {
  const results = merge(simplify([...outputs.map(({ tensor }) => tensor), ...values]));
  const changed = outputs
    .map(({ into }, i): Store => ({ tensor: results[i] as Tensor, into }))
    .filter((store) => store.tensor !== inputs[store.into]);
  const returned = results.slice(outputs.length);
  const trace = new Analysis(inputs);
  for (const node of topologicalOrder([...changed.map(({ tensor }) => tensor), ...returned])) if (!trace.add(node)) return undefined;
  const sizeOfInput = (input: number): number => sizeOf((inputs[input] as Tensor).shape);
  const fits = changed.every(({ tensor, into }) => {
    const { dtype } = inputs[into] as Tensor;
    return tensor.dtype === dtype && sizeOf(tensor.shape) === sizeOfInput(into) && (dtype === 'float32' || sizeOfInput(into) === 1);
  });
  if (!fits || !returned.every(({ shape }) => sizeOf(shape) === 1)) return undefined;

  const { groups, loops } = planLoops(
    trace,
    inputs.map(({ shape }) => sizeOf(shape)),
    changed.filter(({ into }) => sizeOfInput(into) !== 1),
  );
  const { host } = trace;
  return {
    inputs: inputs.map(({ shape, dtype }) => ({ shape, dtype })),
    groups,
    hostInputs: trace.hostInputs,
    slots: host.size,
    constants: host.constants,
    reads: trace.reads,
    phases: loops.map((list, phase) => ({ steps: host.steps(phase), loops: list })),
    writes: changed.flatMap(({ tensor, into }) => (sizeOfInput(into) === 1 ? [{ input: into, slot: trace.slotOf(tensor) }] : [])),
    values: returned.map((tensor) => trace.slotOf(tensor)),
  };
}

/** The loops of every phase, and the inputs that they use together. */
function planLoops(trace: Analysis, sizes: readonly number[], stores: readonly Store[]): { groups: number[][]; loops: Loop[][] } {
  const sources = new Map(trace.reductions.map((reduction) => [reduction, trace.inputsOf(reduction.of)]));
  const groups = new Groups(sizes.length);
  for (const { tensor, into } of stores) groups.join([into, ...trace.inputsOf(tensor)]);
  for (const inputs of sources.values()) groups.join(inputs);

  const work = new Map<number, { size: number; reductions: Reduction[]; stores: Store[] }>();
  const workOf = (input: number) => {
    const group = groups.find(input);
    const known = work.get(group) ?? { size: sizes[group] as number, reductions: [], stores: [] };
    work.set(group, known);
    return known;
  };
  for (const [reduction, [source]] of sources) workOf(source as number).reductions.push(reduction);
  for (const store of stores) workOf(store.into).stores.push(store);

  const loops = Array.from({ length: trace.host.phases }, (): Loop[] => []);
  for (const { size, reductions, stores } of work.values()) {
    const computed = [...reductions.map(({ of }) => of), ...stores.map(({ tensor }) => tensor)];
    // Writing is left to the last loop, so that no loop reads what one before it has overwritten.
    const last = Math.max(...computed.map((x) => trace.phaseOf(x)));
    loops.forEach((list, phase) => {
      const reduced = reductions.filter(({ of }) => trace.phaseOf(of) === phase);
      const written = phase === last ? stores : [];
      if (reduced.length + written.length > 0) list.push(trace.loop(size, reduced, written));
    });
  }
  return { groups: groups.list(), loops };
}
