import type { TypedArray } from '../../core/dtype.js';
import { outOfRange } from '../../core/errors.js';
import type { KernelHostInput } from './analysis.js';
import { encodeModule } from './encode.js';
import { interpretLoop } from './interpret.js';
import type { Loop, LoopCode } from './loop.js';
import { type Arena, allocateMemory, fitsMemory, type KernelMemory } from './memory.js';
import { convert, isInvertible } from './ops.js';
import type { UpdatePlan } from './plan.js';

export interface KernelOptions {
  /** Default: memory of its own. Updates of the same inputs may share it; see {@link allocateMemory}. */
  memory?: KernelMemory;
  /** Do without WebAssembly. Default false; it is also done without where it is missing or not allowed. */
  interpret?: boolean;
}

/** An update that is ready to run. */
export interface Kernels {
  /** The elements of every input. Live: what is written here is what the next run sees. */
  readonly data: readonly TypedArray[];
  /** The numbers that `run` takes, in the order of the trace. */
  readonly hostInputs: readonly KernelHostInput[];
  /** Whether all of it is WebAssembly. */
  readonly compiled: boolean;
  /** Updates the inputs in place. Takes one number per host input, returns the values that the update was planned with. */
  run(hostValues: readonly number[]): number[];
}

/** Runs a loop: reads its scalars from the slots of the host and leaves its results there. */
type Runner = (slots: Float64Array) => void;

type Exported = (...args: readonly number[]) => void;

/** The distinct loops as a module, or undefined where there is no WebAssembly with SIMD, or a security policy forbids it. */
async function compile(codes: readonly LoopCode[]): Promise<WebAssembly.Module | undefined> {
  try {
    return await WebAssembly.compile(encodeModule(codes));
  } catch {
    return undefined;
  }
}

function compiledLoop(kernel: Exported, { size, arrays, scalars, results }: Loop, memory: KernelMemory, arena: Arena): Runner {
  const addresses = arrays.map((input) => (memory.places[input] as KernelMemory['places'][number]).offset);
  const args = [size, 0, ...addresses, ...scalars.map(() => 0)];
  const firstScalar = args.length - scalars.length;
  return (slots) => {
    for (let i = 0; i < scalars.length; i++) args[firstScalar + i] = slots[scalars[i] as number] as number;
    kernel(...args);
    for (let i = 0; i < results.length; i++) slots[results[i] as number] = arena.results[i] as number;
  };
}

function interpretedLoop({ code, size, arrays, scalars, results }: Loop, memory: KernelMemory, registers: Float32Array[]): Runner {
  const run = interpretLoop(
    code,
    arrays.map((input) => memory.data[input] as Float32Array),
    size,
    registers,
  );
  return (slots) => {
    const reduced = run(scalars.map((slot) => slots[slot] as number));
    reduced.forEach((result, i) => {
      slots[results[i] as number] = result;
    });
  };
}

/** Makes an update ready to run. Its inputs are 0 until their data is written. */
export async function createKernels(plan: UpdatePlan, options: KernelOptions = {}): Promise<Kernels> {
  const { memory = allocateMemory([plan]), interpret = false } = options;
  if (!fitsMemory(plan, memory)) throw new Error('createKernels: the memory was allocated for other updates');
  // Tensors that are treated alike share a kernel.
  const codes = new Map<string, LoopCode>();
  const loops = plan.phases.flatMap(({ loops }) => loops);
  for (const { key, code } of loops.flatMap((loop) => (loop.inverted ? [loop, loop.inverted.dividing] : [loop]))) codes.set(key, code);
  const names = new Map([...codes.keys()].map((key, i) => [key, String(i)]));
  const module = interpret ? undefined : await compile([...codes.values()]);
  const instances = new Map<Arena, WebAssembly.Exports>();
  if (module) {
    for (const { arena } of memory.places) {
      if (arena.memory && !instances.has(arena)) {
        instances.set(arena, (await WebAssembly.instantiate(module, { m: { m: arena.memory } })).exports);
      }
    }
  }

  const registers: Float32Array[] = [];
  const runnerOf = ({ inverted, ...loop }: Loop): Runner => {
    if (inverted) {
      const [multiply, divide] = [runnerOf(loop), runnerOf(inverted.dividing)];
      return (slots) => (inverted.divisors.every((slot) => isInvertible(slots[slot] as number)) ? multiply : divide)(slots);
    }
    const { arena } = memory.places[loop.arrays[0] as number] as KernelMemory['places'][number];
    const kernels = instances.get(arena);
    if (!kernels) return interpretedLoop(loop, memory, registers);
    return compiledLoop(kernels[names.get(loop.key) as string] as Exported, loop, memory, arena);
  };
  const phases = plan.phases.map(({ steps, loops }) => ({ steps, runners: loops.map(runnerOf) }));
  const slots = new Float64Array(plan.slots);
  for (const { slot, value } of plan.constants) slots[slot] = value;
  const conversions = plan.hostInputs.map(({ dtype }) => convert(dtype));
  const { data } = memory;
  return {
    data,
    hostInputs: plan.hostInputs,
    compiled: memory.places.every(({ arena }) => instances.has(arena)),
    run: (hostValues) => {
      if (hostValues.length !== plan.hostInputs.length) {
        throw outOfRange('Kernels.run', 'hostValues', `${plan.hostInputs.length} numbers, one per host input`, hostValues);
      }
      plan.hostInputs.forEach(({ slot }, i) => {
        slots[slot] = conversions[i]?.(hostValues[i] as number, 0, 0) as number;
      });
      for (const { input, slot } of plan.reads) slots[slot] = data[input]?.[0] as number;
      for (const { steps, runners } of phases) {
        for (const { to, compute, from } of steps) {
          slots[to] = compute(slots[from[0]] as number, slots[from[1]] as number, slots[from[2]] as number);
        }
        for (const runner of runners) runner(slots);
      }
      for (const { input, slot } of plan.writes) (data[input] as TypedArray)[0] = slots[slot] as number;
      return plan.values.map((slot) => slots[slot] as number);
    },
  };
}
