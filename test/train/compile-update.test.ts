import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { add, array, type Backend, createRng, hostInput, mul, type NDArray, sub, type Tensor } from '../../src/index.js';
import { normal } from '../../src/layers/index.js';
import { createBackend } from '../../src/node.js';
import { adam, adamw, chain, halfGradients, type Named, scaleByLearningRate, sgd, transform } from '../../src/optim/index.js';
import { compileUpdate, load, save } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { webgpuBackend } from '../support/devices.js';
import { runSteps } from '../support/run.js';

const backends: Record<string, Backend | undefined> = {};
beforeAll(async () => {
  backends.cpu = await createBackend({ device: 'cpu' });
  backends.webgpu = await webgpuBackend();
});
afterAll(async () => {
  for (const backend of Object.values(backends)) await backend?.close();
});

const rng = createRng(3);
const draw = () => ({ w: normal(rng, [3, 5]), b: normal(rng, [5]), scale: normal(rng, []) });
const initial = draw();
const gradients = Array.from({ length: 6 }, draw);

/** A device that may not be there. */
function onEach(name: string, test: (backend: Backend) => Promise<void>): void {
  for (const device of ['cpu', 'webgpu']) {
    it(`${name} (${device})`, async ({ skip }) => {
      const backend = backends[device];
      return backend ? test(backend) : skip('no device');
    });
  }
}

describe('compileUpdate', () => {
  onEach('does what the optimizer says', async (backend) => {
    const optimizer = adamw({ learningRate: (step) => 0.1 / (1 + step), weightDecay: 0.1, amsgrad: true });
    const expected = await runSteps(backends.cpu as Backend, optimizer, initial, gradients);
    await using update = await compileUpdate(backend, optimizer, initial);
    for (const [i, grads] of gradients.entries()) {
      await update.step(grads);
      const params = await update.params();
      const state = await update.optimizerState();
      for (const name of ['w', 'b', 'scale'] as const) {
        expectClose(name, params[name].data, expected[i]?.params[name]?.data ?? [], 1e-5);
        expect(params[name].shape).toEqual(initial[name].shape);
      }
      expect([...(state.step?.data ?? [])]).toEqual([i + 1]);
    }
    expect(update.steps).toBe(6);
  });

  onEach('leaves parameters without gradient alone', async (backend) => {
    await using update = await compileUpdate(backend, adam({ learningRate: 0.1 }), initial);
    const { w, b } = gradients[0] as ReturnType<typeof draw>;
    await update.step({ w });
    await update.step({ b, scale: undefined });
    const state = await update.optimizerState();
    const params = await update.params();
    expect(params.scale).toEqual(initial.scale);
    expect([...(state['v.scale'] as NDArray).data]).toEqual([0]);
    expect(params.w).not.toEqual(initial.w);
    expect(params.b).not.toEqual(initial.b);
  });

  onEach('hands further gradients on', async (backend) => {
    const difference = transform('difference', {
      gradients: halfGradients(),
      update: (updates, _state, _params, extra) => {
        const { first, second } = extra.gradients as Record<'first' | 'second', Named>;
        return { updates: Object.fromEntries(Object.keys(updates).map((k) => [k, sub(first[k] as Tensor, second[k] as Tensor)])) };
      },
    });
    const params = { p: array([1, 2]) };
    await using update = await compileUpdate(backend, chain(difference, scaleByLearningRate(1)), params);
    await update.step({ p: array([9, 9]) }, { first: { p: array([3, 5]) }, second: { p: array([1, 1]) } });
    expect((await update.params()).p).toEqual(array([-1, -2]));
    await expect(update.step(params, { third: params } as never)).rejects.toThrow(
      "update.step: unknown option 'third'; the options are first, second",
    );
  });

  onEach('goes on from a checkpoint to the bit', async (backend) => {
    const noisy = transform('noise', {
      update: (updates) => ({
        updates: addTo(
          updates,
          hostInput(({ rng }) => rng.normal()),
        ),
      }),
    });
    const addTo = (named: Named, x: Tensor): Named =>
      Object.fromEntries(Object.entries(named).map(([name, u]) => [name, add(u, mul(x, 0.1))]));
    const start = () => compileUpdate(backend, chain(noisy, adam({ learningRate: 0.1 })), initial, { seed: 5 });
    await using whole = await start();
    await using first = await start();
    await using second = await start();
    for (const grads of gradients) await whole.step(grads);
    first.learningRate = 0.1;
    for (const grads of gradients.slice(0, 3)) await first.step(grads);
    await load(second, await save(first));
    expect([second.steps, second.learningRate]).toEqual([3, 0.1]);
    for (const grads of gradients.slice(3)) await second.step(grads);
    expect(await second.snapshot()).toEqual({ ...(await whole.snapshot()), learningRate: 0.1 });
  });

  onEach('changes nothing when it fails', async (backend) => {
    let fails = false;
    const learningRate = () => {
      if (fails) throw new Error('no rate today');
      return 0.1;
    };
    await using update = await compileUpdate(backend, sgd({ learningRate, momentum: 0.9 }), initial);
    await update.step(gradients[0] as ReturnType<typeof draw>);
    const before = await update.snapshot();
    fails = true;
    await expect(update.step(gradients[1] as ReturnType<typeof draw>)).rejects.toThrow('no rate today');
    await expect(update.step({ w: array([1]) })).rejects.toThrow('update.step: gradients.w: expected float32[3, 5]');
    await expect(update.step({ v: array([1]) } as never)).rejects.toThrow('update.step: gradients: expected a tree like the parameters');
    await expect(update.restore({ ...before, params: {} })).rejects.toThrow('update.restore: params: missing');
    expect(await update.snapshot()).toEqual(before);
    await update.close();
    await expect(update.step({})).rejects.toThrow('update.step: the update is closed');
  });

  it('refuses what is no optimizer, no parameters or no option', async () => {
    const backend = backends.cpu as Backend;
    await expect(compileUpdate(backend, {} as never, initial)).rejects.toThrow('compileUpdate: optimizer: expected an optimizer');
    await expect(compileUpdate(backend, adam(), {})).rejects.toThrow('compileUpdate: params: expected at least one array');
    await expect(compileUpdate(backend, adam(), initial, { sed: 1 } as never)).rejects.toThrow("compileUpdate: unknown option 'sed'");
  });
});
