import { describe, expect, it } from 'vitest';
import { add, array, type Backend, createRng, hostInput, mul, sum, type Tensor, type Tensors } from '../../src/index.js';
import { initLinear, linear, normal } from '../../src/layers/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { chain, type Refresh, scaleByAdam, scaleByLearningRate, transform } from '../../src/optim/index.js';
import { mapNamed, slot } from '../../src/optim/transform.js';
import { createTrainer, type LossContext, type TrainerOptions } from '../../src/train/index.js';
import { webgpuBackend } from '../support/devices.js';
import { interceptRuns, trackGpuTensors } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import { bytesOf, everything } from './fixtures.js';

/** What shall fail. */
type Fault = 'loss' | 'mask' | 'short mask' | 'noise' | 'rate' | 'when' | 'refresh' | 'late refresh' | undefined;

type Params = Tensors<ReturnType<typeof initLinear>>;
type Batch = { x: Tensor; label: Tensor };
type State = { seen: Tensor };
const batch = (count: number) => ({
  x: normal(createRng(count), [count, 3]),
  label: array(
    Array.from({ length: count }, (_, i) => i % 4),
    { dtype: 'int32' },
  ),
});

/** A trainer with all that a step may contain, parts of which fail on demand. */
async function fragile(backend: Backend, more: Partial<TrainerOptions<Params, Batch, Tensor, Tensor, State>> = {}) {
  const faults: { now: Fault } = { now: undefined };
  const check = (fault: Fault) => {
    if (faults.now === fault) throw new Error(`${fault} fails`);
  };
  const loss = (p: Params, b: Batch, { state }: LossContext<State>) => {
    check('loss');
    const mask = hostInput(
      ({ rng }) => {
        check('mask');
        return Array.from({ length: faults.now === 'short mask' ? 2 : 3 }, () => rng.float());
      },
      { shape: [3] },
    );
    return { loss: crossEntropyLoss(linear(mul(b.x, mask), p), b.label), state: { seen: add(state.seen, sum(b.x)) } };
  };
  const refreshes: Refresh[] = [
    {
      when: () => {
        check('when');
        return true;
      },
      compute: ({ rng }) => {
        check('refresh');
        return { 'noise.bias': array([rng.float(), 0, 0, 0]) };
      },
    },
    {
      when: () => true,
      needsGradients: true,
      compute: async () => {
        check('late refresh');
        return {};
      },
    },
  ];
  const noisy = transform('noisy', {
    slots: ['noise'],
    init: (params) =>
      slot(
        'noise',
        mapNamed(params, (p) => mul(p, 0)),
      ),
    update: (updates, state) => {
      const noise = hostInput(({ rng }) => {
        check('noise');
        return rng.float();
      });
      return { updates: mapNamed(updates, (u, name) => add(u, mul(state[`noise.${name}`]!, noise))) };
    },
    refreshes,
  });
  const trainer = await createTrainer(backend, {
    loss,
    params: initLinear(createRng(1), 3, 4),
    state: { seen: array(0) },
    optimizer: chain(
      noisy,
      scaleByAdam(),
      scaleByLearningRate((step) => (faults.now === 'rate' ? Number.NaN : 0.1 / (step + 1))),
    ),
    axes: null,
    ...more,
  });
  return { trainer, faults };
}

const badLabel = () => {
  const bad = batch(6);
  bad.label.data[3] = 9;
  return bad;
};

describe.each(await testDevices())('a step that fails changes nothing (%s)', (device, backend) => {
  const cases: [string, Fault, () => unknown, string][] = [
    ['no batch', undefined, () => undefined, 'trainer.step: batch: expected an array'],
    ['a number in the batch', undefined, () => ({ ...batch(6), x: 3 }), 'trainer.step: batch.x: expected an array'],
    [
      'arrays that do not fit',
      undefined,
      () => ({ ...batch(6), x: normal(createRng(1), [6, 2]) }),
      'mul: the shapes of a [6, 2] and b [3] do not broadcast',
    ],
    ['a missing array', undefined, () => ({ x: batch(6).x }), 'crossEntropyLoss: target: expected a Tensor'],
    ['a label out of range', undefined, badLabel, 'received 9 at index 3'],
    ['a loss function that throws', 'loss', () => batch(5), 'loss fails'],
    ['a host input that throws', 'mask', () => batch(6), 'mask fails'],
    ['a host input of another size', 'short mask', () => batch(6), 'hostInput: compute: expected 3 numbers as its result, received 2'],
    ['a host input of the update that throws', 'noise', () => batch(6), 'noise fails'],
    ['a schedule that returns NaN', 'rate', () => batch(6), 'learningRate(2): expected a number >= 0, received NaN'],
    ['a refresh that does not know whether', 'when', () => batch(6), 'when fails'],
    ['a refresh that throws', 'refresh', () => batch(6), 'refresh fails'],
    ['a refresh of several that throws', 'late refresh', () => batch(6), 'late refresh fails'],
  ];

  it('whatever is wrong with its arguments and functions', async () => {
    const { trainer, faults } = await fragile(backend);
    const { trainer: twin } = await fragile(backend);
    await using _both = { [Symbol.asyncDispose]: async () => void (await Promise.all([trainer.close(), twin.close()])) };
    for (const one of [trainer, twin]) for (let step = 0; step < 2; step++) await one.step(batch(6));
    const before = await everything(trainer);
    for (const [what, fault, bad, message] of cases) {
      faults.now = fault;
      const failing = trainer.step(bad() as never);
      await expect(failing, what).rejects.toThrow(message);
      faults.now = undefined;
      expect(await everything(trainer), what).toBe(before);
    }
    for (const one of [trainer, twin]) await one.step(batch(6));
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('between others that nobody waits for', async () => {
    const { trainer } = await fragile(backend);
    const { trainer: twin } = await fragile(backend);
    const steps = await Promise.allSettled([batch(6), badLabel(), batch(4), { x: 3 } as never, batch(6)].map(trainer.step));
    expect(steps.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled']);
    for (const count of [6, 4, 6]) await twin.step(batch(count));
    expect(await everything(trainer)).toBe(await everything(twin));
    await Promise.all([trainer.close(), twin.close()]);
  });

  const open = async () => (device === 'webgpu' ? ((await webgpuBackend()) as Backend) : createBackend({ device: 'cpu' }));

  it.each([
    ['of the runtime', false],
    ['of the runtime, with a look at what is not finite', true],
  ])('whichever run fails: %s', async (_what, debugNonFinite) => {
    const own = await open();
    const live = trackGpuTensors(own);
    let left = Number.POSITIVE_INFINITY;
    interceptRuns(own, () => {
      if (left-- === 0) throw new Error('device lost');
    });
    const { trainer } = await fragile(own, { debugNonFinite });
    const { trainer: twin } = await fragile(own, { debugNonFinite });
    for (const one of [trainer, twin]) await one.step(batch(6));
    const [before, held] = [await everything(trainer), live.size];
    let failures = 0;
    for (; ; failures++) {
      left = failures;
      const failed = await trainer.step(batch(6)).then(
        () => undefined,
        (error: Error) => error.message,
      );
      left = Number.POSITIVE_INFINITY;
      if (failed === undefined) break;
      expect(failed).toBe('device lost');
      expect(await everything(trainer)).toBe(before);
      expect(live.size).toBe(held);
    }
    // On the CPU that of the gradients; else the step, and before it what the refreshes read.
    expect(failures).toBeGreaterThanOrEqual(device === 'cpu' ? 1 : 4);
    await twin.step(batch(6));
    expect(await everything(trainer)).toBe(await everything(twin));
    if (debugNonFinite) {
      // The run succeeds, but nobody wants what it found.
      const bad = batch(6);
      bad.x.data.fill(Number.NaN);
      await expect(trainer.step(bad)).rejects.toThrow('the first is batch.x');
      expect(live.size).toBe(held);
    }
    await own.close();
  });

  it('whatever session cannot be made', async () => {
    const own = await open();
    const { trainer } = await fragile(own);
    const { trainer: twin } = await fragile(own);
    for (const one of [trainer, twin]) await one.step(batch(6));
    const before = await everything(trainer);
    const { ort } = own as unknown as { ort: { InferenceSession: { create: (...args: unknown[]) => Promise<unknown> } } };
    const { create } = ort.InferenceSession;
    try {
      ort.InferenceSession.create = () => Promise.reject(new Error('out of memory'));
      await expect(trainer.step(batch(5))).rejects.toThrow('out of memory');
    } finally {
      ort.InferenceSession.create = create;
    }
    expect(await everything(trainer)).toBe(before);
    for (const one of [trainer, twin]) await one.step(batch(5));
    expect(await everything(trainer)).toBe(await everything(twin));
    await own.close();
  });

  it.each(['trainer', 'backend'])('after its %s was closed', async (what) => {
    const own = await open();
    const { trainer } = await fragile(own, { snapshotEvery: 1 });
    await trainer.step(batch(6));
    const before = await everything(trainer);
    const waiting = [trainer.step(batch(6)), trainer.snapshot()];
    const closing = what === 'trainer' ? trainer.close() : own.close();
    for (const one of waiting) await expect(one).rejects.toThrow(`the ${what} is closed`);
    await closing;
    await expect(trainer.step(batch(6))).rejects.toThrow(`trainer.step: the ${what} is closed`);
    expect(trainer.steps).toBe(1);
    expect(bytesOf(trainer.lastSnapshot)).toBe(before);
    await trainer.close();
    await own.close();
    // What was kept goes on elsewhere.
    const { trainer: next } = await fragile(backend);
    await next.restore(trainer.lastSnapshot!);
    expect(await everything(next)).toBe(before);
    await next.close();
  });
});
