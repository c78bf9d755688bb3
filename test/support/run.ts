import { type ArrayInputs, type ArrayLike, type Arrays, type Backend, compile, type NDArray, type Tensor } from '../../src/index.js';
import { applyUpdates, type Named, type Optimizer } from '../../src/optim/index.js';

/** Runs a traced function once. */
export async function run<A extends unknown[], R>(backend: Backend, fn: (...args: A) => R, ...args: ArrayInputs<A>): Promise<Arrays<R>> {
  await using compiled = compile(backend, fn);
  return await compiled(...args);
}

type NamedArrays = Readonly<Record<string, ArrayLike>>;

export interface AfterStep {
  readonly params: Readonly<Record<string, NDArray>>;
  readonly state: Readonly<Record<string, NDArray>>;
}

/**
 * Runs an optimizer step by step, and returns what every step leaves.
 *
 * @param grads one record per step; a parameter that is not in it has no gradient in that step
 */
export async function runSteps(
  backend: Backend,
  optimizer: Optimizer,
  params: NamedArrays,
  grads: readonly NamedArrays[],
): Promise<AfterStep[]> {
  // Keys of trees must not hold dots, as those of the state do: it goes in and out as a list.
  let names: string[] = [];
  const list = (state: Named) => {
    names = Object.keys(state);
    return Object.values(state);
  };
  const named = <T>(values: readonly T[]): Record<string, T> => Object.fromEntries(names.map((name, i) => [name, values[i] as T]));
  await using update = compile(backend, (p: Record<string, Tensor>, g: Record<string, Tensor>, state: Tensor[]) => {
    const next = optimizer.update(g, named(state), p);
    return { params: applyUpdates(p, next.updates), state: list(next.state) };
  });
  const steps: AfterStep[] = [];
  let current: { params: NamedArrays; state: ArrayLike[] } = {
    params,
    state: await run(backend, (p: Record<string, Tensor>) => list(optimizer.init(p)), params),
  };
  for (const g of grads) {
    current = await update(current.params, g, current.state);
    steps.push({ params: current.params, state: named(current.state) } as AfterStep);
  }
  return steps;
}
