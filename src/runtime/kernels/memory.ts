import { byteSize, type DType, type TypedArray } from '../../core/dtype.js';
import { sameShape, sizeOf } from '../../core/shape.js';
import type { Spec } from '../../core/tensor.js';
import { Groups } from './groups.js';
import type { Loop } from './loop.js';
import type { UpdatePlan } from './plan.js';

/** Some memory that loops work in. */
export interface Arena {
  readonly buffer: ArrayBuffer;
  /** The same for WebAssembly; without it loops are interpreted. */
  readonly memory?: WebAssembly.Memory;
  /** Where kernels put the results of reductions: at the start of the buffer. */
  readonly results: Float64Array;
}

/** Memory for the inputs of updates. It never grows, which would detach views of it. */
export interface KernelMemory {
  readonly inputs: UpdatePlan['inputs'];
  /** The elements of every input. Live: what is written here is what the next run sees. */
  readonly data: readonly TypedArray[];
  /** Where every input lies; its data begins at `offset`. */
  readonly places: readonly { readonly arena: Arena; readonly offset: number }[];
}

export interface MemoryOptions {
  /** Bytes of an arena, unless a single group of inputs needs more. Default 2^30: larger ones are hard to get. */
  arenaBytes?: number;
}

const PAGE = 2 ** 16;

/** How many results of reductions there is room for at least: updates that the memory was not made for may need some. */
const RESULTS = 64;

/** Vectors of four lanes. The lanes behind the last element are there and stay 0. */
const align = (bytes: number): number => Math.ceil(bytes / 16) * 16;

const views = { float32: Float32Array, float16: Uint16Array, int32: Int32Array, bool: Uint8Array } satisfies Record<DType, unknown>;

function createArena(bytes: number, results: number): Arena {
  const pages = Math.ceil(bytes / PAGE);
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    return { memory, buffer: memory.buffer, results: new Float64Array(memory.buffer, 0, results) };
  } catch {
    // No WebAssembly, or more than its 4 GiB.
    const buffer = new ArrayBuffer(bytes);
    return { buffer, results: new Float64Array(buffer, 0, results) };
  }
}

/**
 * Memory for one or more updates of the same inputs, zero-filled. Others may use it if it fits them, see {@link fitsMemory}.
 *
 * @param plans with equal inputs, in the same order
 */
export function allocateMemory(plans: readonly [UpdatePlan, ...UpdatePlan[]], options: MemoryOptions = {}): KernelMemory {
  const { arenaBytes = 2 ** 30 } = options;
  const [{ inputs }] = plans;
  const groups = new Groups(inputs.length);
  for (const plan of plans) for (const group of plan.groups) groups.join(group);
  const counts = plans.flatMap(({ phases }) => phases.flatMap(({ loops }) => loops.map(({ results }) => results.length)));
  const results = Math.max(RESULTS, ...counts);
  const start = align(8 * results);

  const offsets: number[] = [];
  const arenas: { bytes: number; readonly members: number[] }[] = [];
  for (const group of groups.list()) {
    const sizes = group.map((input) => {
      const { shape, dtype } = inputs[input] as UpdatePlan['inputs'][number];
      return align(sizeOf(shape) * byteSize(dtype));
    });
    const bytes = sizes.reduce((a, b) => a + b, 0);
    let arena = arenas.find((other) => other.bytes + bytes <= arenaBytes);
    if (!arena) {
      arena = { bytes: start, members: [] };
      arenas.push(arena);
    }
    for (const [i, input] of group.entries()) {
      offsets[input] = arena.bytes;
      arena.bytes += sizes[i] as number;
      arena.members.push(input);
    }
  }

  const places: { arena: Arena; offset: number }[] = [];
  for (const { bytes, members } of arenas) {
    const arena = createArena(bytes, results);
    for (const input of members) places[input] = { arena, offset: offsets[input] as number };
  }
  const data = inputs.map(({ shape, dtype }, i) => {
    const { arena, offset } = places[i] as KernelMemory['places'][number];
    return new views[dtype](arena.buffer, offset, sizeOf(shape));
  });
  return { inputs, data, places };
}

/** Whether an update can work in some memory: its inputs are those, and what a loop needs is in one arena. */
export function fitsMemory(plan: UpdatePlan, { inputs, places }: KernelMemory): boolean {
  const alike = ({ shape, dtype }: Spec, i: number) => inputs[i]?.dtype === dtype && sameShape(inputs[i].shape, shape);
  const inOneArena = ({ arrays, results }: Loop) => {
    const arenas = new Set(arrays.map((input) => places[input]?.arena));
    const [arena] = arenas;
    return arenas.size === 1 && arena !== undefined && results.length <= arena.results.length;
  };
  return plan.inputs.length === inputs.length && plan.inputs.every(alike) && plan.phases.every(({ loops }) => loops.every(inOneArena));
}
