import type { NDArray } from '../core/array.js';
import type { TypedArray } from '../core/dtype.js';
import { inputLeaf } from '../core/leaf.js';
import { checkRange } from '../core/ops/indexing.js';
import { sizeOf } from '../core/shape.js';
import type { RangeCheck, Spec, Tensor } from '../core/tensor.js';
import { encode } from '../onnx/encode.js';
import { fuseProducts } from '../onnx/fuse.js';
import { fits, type Initializer, type OnnxGraph, sameInitializer, sameStructure } from '../onnx/graph.js';
import { type Lowered, lower } from '../onnx/lower.js';
import { type Unified, unify } from '../onnx/unify.js';
import type { OrtBackend } from './backend.js';
import { hostInputsOf, hostValue, type RunContext } from './host-inputs.js';
import type { Ort, OrtTensor } from './ort.js';

/** A value fed to a program: an array of the host, or one that a run left on the device. */
export interface Value extends Spec {
  readonly tensor: OrtTensor;
  /** Key of the session that left it on the device. */
  readonly owner?: object;
}

/** Names of the axes of an input; equal names have equal sizes. */
export type AxisNames = readonly (string | null)[];

export interface Leaf extends Spec {
  /** Path, for error messages and as part of the key. */
  readonly path: string;
  readonly axes?: AxisNames | undefined;
}

export interface Traced<M> {
  readonly outputs: readonly Tensor[];
  /** Whether an output stays on the device. */
  readonly kept?: readonly boolean[];
  /** Whether the weights are constants of the graph, which the runtime can prepare. */
  readonly constantWeights?: boolean;
  /** Host inputs by the number of their stream. Default: in the order of the trace. */
  readonly hostInputs?: readonly Tensor[];
  /** Whatever the caller wants to remember of this trace. */
  readonly meta: M;
}

/** One session, serving one set of shapes or, if unified, all sizes of the named axes. */
interface Family extends Unified {
  /** Sizes of the named axes it was traced at; none if it serves no others. */
  readonly sizes: ReadonlyMap<string, number>;
  readonly kept: readonly string[];
  readonly constantWeights: boolean;
  /** The graph as it runs. */
  readonly model: OnnxGraph;
  /** Threads of its session: those of the largest run so far. */
  threads: number;
}

interface Plan<M> {
  readonly family: Family;
  readonly hostInputs: readonly (Lowered['hostInputs'][number] & { readonly stream: number })[];
  readonly checks: readonly { index: number; check: RangeCheck }[];
  readonly flops: number;
  readonly bytes: number;
  /** Values of what varies with the sizes. */
  readonly sizes: Record<string, OrtTensor>;
  readonly outputs: readonly Spec[];
  readonly meta: M;
}

/** Above this many nodes a trace is probably an unrolled loop. */
const LARGE_TRACE = 20_000;

/**
 * Sizes to trace at for comparison; different for every named axis. Long sums are cut into equal blocks, so that
 * their graph depends on divisors: a size 60 apart shares many.
 */
const PROBES: readonly ((size: number, axis: number) => number)[] = [
  (size, axis) => size + 1 + axis,
  (size, axis) => size - 1 - axis,
  (size, axis) => size + 60 * (1 + axis),
  (size, axis) => size - 60 * (1 + axis),
  (size, axis) => size * (2 + axis),
];

const inputName = (index: number): string => `x${index}`;
const outputName = (index: number): string => `y${index}`;

const onDevice = ({ tensor }: Value): boolean => tensor.location !== 'cpu';

/** Frees the device memory of values; before the sessions that made them are released. */
export function dispose(backend: OrtBackend, values: readonly Value[]): void {
  for (const { tensor, owner } of values.filter(onDevice)) {
    tensor.dispose();
    if (owner) backend.sessions.hold(owner, -1);
  }
}

/** An array of the host as a value to feed. */
export const toValue = (ort: Ort, { data, shape, dtype }: NDArray): Value => ({ shape, dtype, tensor: new ort.Tensor(dtype, data, shape) });

/** The array of a value that lies on the host. */
export function toArray({ shape, dtype, tensor }: Value): NDArray {
  const data = tensor.data as TypedArray;
  // Newer platforms have a Float16Array; ours are bit patterns.
  const raw = dtype === 'float16' && !(data instanceof Uint16Array);
  return {
    data: raw ? new Uint16Array((data as Float32Array).buffer, (data as Float32Array).byteOffset, sizeOf(shape)) : data,
    shape,
    dtype,
  };
}

/**
 * A traced function on a backend: traces once per set of shapes, keeps sessions, computes host inputs, runs.
 * Everything that runs graphs (compiled functions, trainers) is made of programs.
 */
export class Program<S, M> {
  readonly #plans = new Map<string, Plan<M>>();
  readonly #families: Family[] = [];
  #warned = false;

  /**
   * @param fn name for error messages
   * @param trace builds the outputs from one Tensor per leaf and from what `run` was given as the source of the leaves
   */
  constructor(
    private readonly fn: string,
    private readonly backend: OrtBackend,
    private readonly trace: (leaves: readonly Tensor[], source: S) => Traced<M>,
  ) {}

  /**
   * Runs once. To be called from within the backend's queue. Kept outputs belong to the caller, to be disposed.
   *
   * @param into arrays of the host for the outputs to be written to, by index; asked for with what the trace said
   */
  async run(
    leaves: readonly Leaf[],
    values: readonly Value[],
    context: RunContext,
    source: S,
    into?: (meta: M) => readonly (Value | undefined)[],
  ): Promise<{ outputs: Value[]; meta: M }> {
    const { backend } = this;
    const plan = this.#plan(leaves, source);
    for (const { index, check } of plan.checks) {
      const { tensor } = values[index] as Value;
      if (tensor.location === 'cpu') checkRange(check, tensor.data as Int32Array);
    }
    // ONNX Runtime has no graphs without outputs; an optimizer without state asks for one.
    if (plan.outputs.length === 0) return { outputs: [], meta: plan.meta };
    const { family } = plan;
    const feeds: Record<string, OrtTensor> = { ...plan.sizes };
    values.forEach(({ tensor }, i) => {
      feeds[inputName(i)] = tensor;
    });
    for (const { name, stream, compute, ...spec } of plan.hostInputs) {
      feeds[name] = new backend.ort.Tensor(spec.dtype, hostValue(compute, spec, context, stream), spec.shape);
    }
    const threads = backend.threadsFor(plan.flops);
    if (threads > family.threads) {
      await backend.sessions.release(family);
      family.threads = threads;
    }
    const session = await backend.sessions.get(family, plan.bytes, () => backend.createSession({ ...family, model: encode(family.model) }));
    const given = into?.(plan.meta) ?? [];
    const fetches = plan.outputs.map((_, i) => [outputName(i), given[i]?.tensor ?? null] as const);
    const results = await session.run(feeds, Object.fromEntries(fetches));
    const outputs = plan.outputs.map(
      (spec, i): Value => given[i] ?? { ...spec, tensor: results[outputName(i)] as OrtTensor, owner: family },
    );
    backend.sessions.hold(family, outputs.filter(onDevice).length);
    return { outputs, meta: plan.meta };
  }

  /** Releases the sessions. To be called from within the backend's queue. */
  async release(): Promise<void> {
    for (const family of this.#families) await this.backend.sessions.release(family);
    this.#families.length = 0;
    this.#plans.clear();
  }

  #plan(leaves: readonly Leaf[], source: S): Plan<M> {
    const key = leaves.map(({ path, dtype, shape }) => `${path}:${dtype}[${shape}]`).join();
    const known = this.#plans.get(key);
    if (known) return known;
    const sizes = axisSizes(this.fn, leaves);
    const { lowered, traced } = this.#lower(leaves, source);
    if (lowered.size > LARGE_TRACE) {
      console.warn(
        `${this.fn}: the trace has ${lowered.size} nodes. Loops are unrolled in the trace; shorten them, or compile one iteration and call it repeatedly.`,
      );
    }
    const family = this.#family(lowered, leaves, source, sizes, traced);
    const values = family.varying.map(([first]) => {
      const { data, shape, dtype } = lowered.graph.initializers.get(first as string) as Initializer;
      return [first as string, new this.backend.ort.Tensor(dtype, data, shape)];
    });
    const streams = traced.hostInputs ?? hostInputsOf(traced.outputs);
    const plan: Plan<M> = {
      family,
      hostInputs: lowered.hostInputs.map((host) => ({ ...host, stream: streams.indexOf(host.tensor) })),
      checks: lowered.checks.map(({ name, check }) => ({ index: leaves.findIndex((_, i) => inputName(i) === name), check })),
      flops: lowered.flops,
      bytes: lowered.bytes,
      sizes: Object.fromEntries(values),
      outputs: traced.outputs.map(({ shape, dtype }) => ({ shape, dtype })),
      meta: traced.meta,
    };
    this.#plans.set(key, plan);
    return plan;
  }

  #lower(leaves: readonly Leaf[], source: S): { lowered: Lowered; traced: Traced<M> } {
    const tensors = leaves.map((leaf) => inputLeaf(leaf, leaf.path));
    const traced = this.trace(tensors, source);
    const lowered = lower(
      traced.outputs.map((tensor, i) => ({ name: outputName(i), tensor })),
      tensors.map((tensor, i) => ({ name: inputName(i), tensor })),
      this.backend.device,
    );
    return { lowered, traced };
  }

  /** A family that serves this graph: one that is there, else one unified with a trace at other sizes, else the graph alone. */
  #family(lowered: Lowered, leaves: readonly Leaf[], source: S, axes: ReadonlyMap<string, number>, traced: Traced<M>): Family {
    const { graph } = lowered;
    const { kept: keep = [], constantWeights = false } = traced;
    const kept = keep.flatMap((yes, i) => (yes ? [outputName(i)] : []));
    const add = (unified: Unified, served: ReadonlyMap<string, number>): Family => {
      const model = fuseProducts(unified.graph, (name) => lowered.shapes.get(name));
      const family = { ...unified, sizes: served, kept, constantWeights, model, threads: 1 };
      this.#families.push(family);
      return family;
    };
    // Size 1 broadcasts, which makes another graph; an axis without elements is as special.
    const sizes = new Map([...axes].filter(([, size]) => size > 1));
    if (sizes.size > 0) {
      const known = this.#families.find((family) => serves(family, lowered));
      if (known) return known;
      for (const other of this.#probes(sizes)) {
        try {
          const moved = leaves.map((leaf) => ({
            ...leaf,
            shape: leaf.shape.map((size, axis) => other.get(leaf.axes?.[axis] as string) ?? size),
          }));
          const both = new Map([...sizes].map(([name, size]) => [name, [size, other.get(name) as number] as const]));
          const unified = unify(graph, this.#lower(moved, source).lowered.graph, both);
          if (unified) return add(unified, sizes);
        } catch {
          // The function does not trace at that size (it may need an even one): try another, or do without.
        }
      }
      // One size alone is nothing to warn about.
      if (!this.#warned && this.#families.length > 0) {
        this.#warned = true;
        console.warn(
          `${this.fn}: the graphs of different sizes of ${[...sizes.keys()].join(', ')} differ in more than sizes, so every size gets a session of its own.`,
        );
      }
    }
    return add({ graph, varying: [] }, new Map());
  }

  /** Sizes to compare with, all of them different from `sizes` and above 1. */
  #probes(sizes: ReadonlyMap<string, number>): ReadonlyMap<string, number>[] {
    // First those of earlier families that did not serve: what is halved on the way is equal for neighbours, so such a family
    // serves few sizes, but two of them together show what varies.
    const earlier = this.#families.filter((family) => family.sizes.size === sizes.size).slice(-3);
    const others = PROBES.map((probe) => new Map([...sizes].map(([name, size], i) => [name, probe(size, i)])));
    return [...earlier.map((family) => family.sizes), ...others].filter((other) =>
      [...sizes].every(([name, size]) => (other.get(name) ?? 0) > 1 && other.get(name) !== size),
    );
  }
}

/** Whether the session of a family computes this graph. */
function serves({ graph, varying, sizes }: Family, { graph: other }: Lowered): boolean {
  if (sizes.size === 0 || !fits(graph, other)) return false;
  const value = (name: string) => other.initializers.get(name) as Initializer;
  const renamed = new Map(varying.flatMap((group) => group.map((name) => [name, group[0] as string])));
  const nodes = other.nodes.map((node) => ({ ...node, inputs: node.inputs.map((name) => renamed.get(name) ?? name) }));
  return (
    sameStructure(graph, { ...other, nodes, initializers: graph.initializers }) &&
    [...graph.initializers].every(([name, own]) => sameInitializer(own, value(name))) &&
    varying.every(([first, ...rest]) => rest.every((name) => sameInitializer(value(first as string), value(name))))
  );
}

function axisSizes(fn: string, leaves: readonly Leaf[]): Map<string, number> {
  const sizes = new Map<string, { size: number; path: string }>();
  for (const { axes = [], shape, path } of leaves) {
    axes.forEach((name, axis) => {
      const size = shape[axis];
      if (name === null || size === undefined) return;
      const known = sizes.get(name);
      if (known && known.size !== size) {
        throw new RangeError(`${fn}: axis '${name}' has size ${known.size} in ${known.path} and ${size} in ${path}`);
      }
      sizes.set(name, { size, path });
    });
  }
  return new Map([...sizes].map(([name, { size }]) => [name, size]));
}
