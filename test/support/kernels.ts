import { type Backend, compile, createRng, type NDArray, type Spec, type Tensor, toNumbers } from '../../src/index.js';
import { applyUpdates, type Named, type Optimizer } from '../../src/optim/index.js';
import {
  createKernels,
  type KernelOptions,
  type Kernels,
  planUpdate,
  type Update,
  type UpdatePlan,
} from '../../src/runtime/kernels/index.js';
import { expectClose, scaleOf } from './close.js';
import { leaf } from './leaves.js';

type NamedArrays = Readonly<Record<string, NDArray>>;

/** A step of named arrays: the new values of those that change, and numbers to return. */
export type Step = (inputs: Named) => { readonly next: Named; readonly values?: Named };

/** The update that a step traces. Inputs are in the order of `specs`. */
export function traceStep(specs: Readonly<Record<string, Spec>>, step: Step): Update {
  const inputs = Object.fromEntries(Object.entries(specs).map(([name, { shape, dtype }]) => [name, leaf(shape, dtype, name)]));
  const { next, values = {} } = step(inputs);
  const names = Object.keys(specs);
  return {
    inputs: Object.values(inputs),
    outputs: Object.entries(next).map(([name, tensor]) => ({ tensor, into: names.indexOf(name) })),
    values: Object.values(values),
  };
}

/** The plan of a step, which there has to be. */
export function planStep(specs: Readonly<Record<string, Spec>>, step: Step): UpdatePlan {
  const plan = planUpdate(traceStep(specs, step));
  if (!plan) throw new Error('there is no plan for this step');
  return plan;
}

/** A step as kernels that hold `arrays`. */
export async function stepKernels(arrays: NamedArrays, step: Step, options?: KernelOptions): Promise<Kernels> {
  const kernels = await createKernels(planStep(arrays, step), options);
  Object.values(arrays).forEach(({ data }, i) => {
    kernels.data[i]!.set(data);
  });
  return kernels;
}

/** Runs kernels as step number `step`. */
export const runAt = (kernels: Kernels, step: number): number[] =>
  kernels.run(kernels.hostInputs.map(({ compute }) => (compute as (context: unknown) => number)({ step, rng: createRng(step) })));

/** The ways in which kernels run. */
export const engines = [
  ['WebAssembly', {}],
  ['the interpreter', { interpret: true }],
] as const satisfies readonly (readonly [string, KernelOptions])[];

/**
 * Runs a step several times as an ONNX graph and as kernels, and compares all arrays and values after each.
 *
 * @param feed arrays that are written before step `t`, such as gradients
 */
export async function expectLikeOnnx(
  backend: Backend,
  arrays: NamedArrays,
  step: Step,
  options: { feed?: (t: number) => NamedArrays; steps?: number; rtol?: number } = {},
): Promise<void> {
  const { feed = () => ({}), steps = 5, rtol = 1e-6 } = options;
  const names = Object.keys(arrays);
  await using graph = compile(backend, (inputs: Named) => {
    const { next, values = {} } = step(inputs);
    return { next, values };
  });
  const all = await Promise.all(engines.map(async ([engine, how]) => ({ engine, kernels: await stepKernels(arrays, step, how) })));
  let current = arrays;
  // Errors of rounding stay when a number becomes small.
  const scales: Record<string, number> = {};
  for (let t = 0; t < steps; t++) {
    const fed: NamedArrays = feed(t);
    const { next, values }: { next: NamedArrays; values: NamedArrays } = await graph({ ...current, ...fed });
    current = { ...current, ...fed, ...next };
    for (const name of names) scales[name] = Math.max(scales[name] ?? 0, scaleOf(current[name]!.data));
    for (const { engine, kernels } of all) {
      if (kernels.compiled !== (engine === 'WebAssembly')) throw new Error(`${engine}: the kernels run otherwise`);
      for (const [name, { data }] of Object.entries(fed)) kernels.data[names.indexOf(name)]!.set(data);
      const returned = runAt(kernels, t);
      names.forEach((name, i) => {
        expectClose(`${name} after step ${t} by ${engine}`, kernels.data[i]!, current[name]!.data, rtol, scales[name]);
      });
      const expected = Object.values(values).map((value) => toNumbers(value)[0]!);
      expectClose(`values of step ${t} by ${engine}`, returned, expected, rtol);
    }
  }
}

/** One step of an optimizer. Inputs are `<name>` of parameters, `<slot>` of the state, and `grad.<name>`. */
export const optimizerStep =
  (optimizer: Optimizer, params: readonly string[]): Step =>
  (inputs) => {
    const p = Object.fromEntries(params.map((name) => [name, inputs[name] as Tensor]));
    const g = Object.fromEntries(params.flatMap((name) => (inputs[`grad.${name}`] ? [[name, inputs[`grad.${name}`] as Tensor]] : [])));
    const state = Object.fromEntries(Object.entries(inputs).filter(([name]) => !params.includes(name) && !name.startsWith('grad.')));
    const { updates, state: next } = optimizer.update<Named>(g, state, p);
    return { next: { ...applyUpdates(p, updates), ...next } };
  };
