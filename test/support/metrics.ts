import { type ArrayLike, add, type Backend, type CompileOptions, compile, type NDArray, type Tensor, toNumbers } from '../../src/index.js';
import type { Metric } from '../../src/train/index.js';

/** A metric as a function of arrays, of one batch or of several, whose sums are added on the device. */
export interface Meter extends AsyncDisposable {
  sums(...batches: readonly (readonly ArrayLike[])[]): Promise<number[]>;
  value(...batches: readonly (readonly ArrayLike[])[]): Promise<number>;
}

/** Compiles a metric, and the addition of sums. */
export function meter(backend: Backend, metric: (...batch: Tensor[]) => Metric, options: CompileOptions = {}): Meter {
  let compute: Metric['compute'] | undefined;
  const one = compile(
    backend,
    (...batch: Tensor[]) => {
      const traced = metric(...batch);
      compute = traced.compute;
      return traced.sums;
    },
    options,
  );
  const plus = compile(backend, add as (a: Tensor, b: Tensor) => Tensor);
  const sums = async (...batches: readonly (readonly ArrayLike[])[]): Promise<number[]> => {
    let total: NDArray | undefined;
    for (const batch of batches) {
      const next = await one(...batch);
      total = total ? await plus(total, next) : next;
    }
    return toNumbers(total as NDArray);
  };
  return {
    sums,
    value: async (...batches) => {
      const values = await sums(...batches);
      return (compute as Metric['compute'])(values);
    },
    [Symbol.asyncDispose]: async () => {
      await one.close();
      await plus.close();
    },
  };
}
