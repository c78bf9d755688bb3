import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { add, array, type Backend, hostInput, mul, sum, type Tensor, tanh } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { adam, chain, type Named, type Optimizer, type Refresh, sgd, transform } from '../../src/optim/index.js';
import type { OrtBackend } from '../../src/runtime/backend.js';
import { expectClose } from '../support/close.js';
import { countSessions, interceptRuns } from '../support/sessions.js';
import { everything, initial, regression, rows, weightsOf } from './fixtures.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(async () => {
  vi.restoreAllMocks();
  await backend.close();
});

const each = (named: Named, visit: (x: Tensor) => Tensor): Named =>
  Object.fromEntries(Object.entries(named).map(([k, x]) => [k, visit(x)]));
const noise = transform('noise', {
  update: (u) => ({
    updates: each(u, (x) =>
      add(
        x,
        hostInput(({ rng }) => rng.normal()),
      ),
    ),
  }),
});
/** Draws a number for the state before every second step. */
const drawing: Refresh = { when: (step) => step % 2 === 1, compute: ({ rng }) => ({ extra: array(rng.normal()) }) };
const shift = transform('shift', {
  slots: ['extra'],
  init: (params) => ({ extra: mul(sum(Object.values(params)[0] as Tensor), 0) }),
  update: (u, state) => ({ updates: each(u, (x) => add(x, state.extra as Tensor)) }),
  refreshes: [drawing],
});
/** The same numbers, by an op that has no kernel. */
const without = transform('without', { update: (u) => ({ updates: each(u, (x) => add(x, mul(tanh(x), 0))) }) });

const make = (...links: Optimizer[]) => regression(backend, { optimizer: chain(noise, shift, ...links, adam({ learningRate: 0.05 })) });

describe('updates on the CPU', () => {
  it('are kernels, or a graph where there are none, with equal results', async () => {
    const kernels = countSessions(backend as OrtBackend);
    await using fused = await make();
    const own = kernels.created;
    for (let step = 0; step < 5; step++) await fused.step(rows(0, 16));
    expect(kernels.created - own).toBe(1); // that of the gradients
    const graphs = countSessions(backend as OrtBackend);
    await using written = await make(without);
    const before = graphs.created;
    for (let step = 0; step < 5; step++) await written.step(rows(0, 16));
    expect(graphs.created - before).toBe(2);
    const [a, b] = [await fused.snapshot(), await written.snapshot()];
    expectClose('params', weightsOf(a.params), weightsOf(b.params), 1e-5);
    for (const [name, { data }] of Object.entries(a.optimizer)) expectClose(name, data, b.optimizer[name]?.data ?? [], 1e-5);
    expect(a.optimizer.extra?.data[0]).not.toBe(0);
  });

  it('change nothing if the run of their graph fails', async () => {
    const own = (await createBackend({ device: 'cpu' })) as OrtBackend;
    let left = Number.POSITIVE_INFINITY;
    interceptRuns(own, () => {
      if (left-- === 0) throw new Error('out of memory');
    });
    const trainer = await regression(own, {
      params: initial(),
      optimizer: chain(shift, without, sgd({ learningRate: 0.1, momentum: 0.9 })),
    });
    await trainer.step(rows(0, 8));
    const before = await everything(trainer);
    left = 1; // the gradients, then the update
    await expect(trainer.step(rows(0, 8))).rejects.toThrow('out of memory');
    expect(await everything(trainer)).toBe(before);
    await trainer.step(rows(0, 8));
    expect(await everything(trainer)).not.toBe(before);
    await own.close();
  });

  it('work without WebAssembly', async () => {
    const compile = vi.spyOn(WebAssembly, 'compile').mockRejectedValue(new WebAssembly.CompileError('forbidden by the security policy'));
    await using interpreted = await make();
    for (let step = 0; step < 5; step++) await interpreted.step(rows(0, 16));
    expect(compile).toHaveBeenCalled();
    compile.mockRestore();
    await using compiled = await make();
    for (let step = 0; step < 5; step++) await compiled.step(rows(0, 16));
    const [a, b] = [await interpreted.snapshot(), await compiled.snapshot()];
    expectClose('params', weightsOf(a.params), weightsOf(b.params), 1e-6);
  });
});
