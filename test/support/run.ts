import { type ArrayInputs, type ArrayLike, type Arrays, type Backend, compile, type NDArray } from '../../src/index.js';
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
  await using update = compile(backend, (p: Named, g: Named, state: Named) => {
    const next = optimizer.update<Named>(g, state, p);
    return { params: applyUpdates(p, next.updates), state: next.state };
  });
  const steps: AfterStep[] = [];
  let current: { params: NamedArrays; state: NamedArrays } = { params, state: await run(backend, (p: Named) => optimizer.init(p), params) };
  for (const g of grads) {
    const next: AfterStep = await update(current.params, g, current.state);
    steps.push(next);
    current = next;
  }
  return steps;
}
