import { describe, expect, it } from 'vitest';
import { add, array, hostInput, mul, type NDArray, sum, type Tensor } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { sgd } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { webgpuBackend } from '../support/devices.js';
import { countSessions } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import { loss, regression, rows } from './fixtures.js';

const close = (what: string, found: NDArray, expected: NDArray) => {
  expect([found.shape, found.dtype]).toEqual([expected.shape, expected.dtype]);
  expectClose(what, found.data as Float32Array, expected.data as Float32Array, 1e-5);
};

describe.each(await testDevices())('trainer.predictor (%s)', (device, backend) => {
  it('predicts with the parameters of its time, batches of any size', async () => {
    await using trainer = await regression(backend);
    await trainer.step(rows(0, 16));
    await using early = await trainer.predictor();
    const expected = await trainer.predict(rows(0, 16).x);
    close('at once', await early(rows(0, 16).x), expected);
    for (let step = 0; step < 2; step++) await trainer.step(rows(0, 16));
    await using late = await trainer.predictor();
    for (const [from, to] of [
      [0, 16],
      [0, 5],
      [3, 4],
      [2, 9],
    ] as const) {
      const { x } = rows(from, to);
      close(`late, rows ${from} to ${to}`, await late(x), await trainer.predict(x));
      const data = expected.data.slice(from, to);
      close(`early, rows ${from} to ${to}`, await early(x), { ...expected, data, shape: [to - from, 1] });
    }
  });

  it('knows the weights before its first call', async () => {
    await using trainer = await regression(backend);
    const expected = await trainer.predict(rows(0, 4).x);
    await using predictor = await trainer.predictor();
    await trainer.step(rows(0, 16));
    const { params } = await trainer.snapshot();
    for (const { data } of Object.values(params)) data.fill(0);
    await trainer.restore({ ...(await trainer.snapshot()), params });
    close('predictions', await predictor(rows(0, 4).x), expected);
  });

  it('keeps model state and the step, too', async () => {
    type Running = { seen: Tensor };
    await using trainer = await createTrainer(backend, {
      loss: (p: { w: Tensor }, x: Tensor, { state }: LossContext<Running>) => ({
        loss: sum(mul(p.w, x)),
        state: { seen: add(state.seen, sum(x)) },
      }),
      predict: (p: { w: Tensor }, x: Tensor, { state, training }: LossContext<Running>) => {
        const step = hostInput((context) => context.step);
        return { scaled: mul(x, p.w), seen: training ? x : add(state.seen, 0), step: mul(step, 1) };
      },
      params: { w: array([2]) },
      state: { seen: array(1) },
      optimizer: sgd({ learningRate: 0.5 }),
    });
    await trainer.step(array([3]));
    await using predictor = await trainer.predictor();
    await trainer.step(array([5]));
    const at = (scaled: number, seen: number, step: number) => ({ scaled: array([scaled]), seen: array(seen), step: array(step) });
    expect(await predictor(array([1]))).toEqual(at(0.5, 4, 1));
    expect(await trainer.predict(array([1]))).toEqual(at(-2, 9, 2));
  });

  it('serves many sizes with one session, and releases it', async () => {
    await using trainer = await regression(backend);
    const sessions = countSessions(backend);
    const predictor = await trainer.predictor();
    for (const count of [8, 3, 5]) expect((await predictor(rows(0, count).x)).shape).toEqual([count, 1]);
    expect(sessions).toEqual({ created: 1, released: 0 });
    await predictor.close();
    await predictor.close();
    expect(sessions).toEqual({ created: 1, released: 1 });
    await expect(predictor(rows(0, 3).x)).rejects.toThrow('predictor: the predictor is closed');
    expect((await trainer.predict(rows(0, 3).x)).shape).toEqual([3, 1]);
  });

  it('is refused without predict, and outlives its trainer', async () => {
    await using without = await createTrainer(backend, {
      loss,
      params: { w: array([[1], [1], [1]]), b: array([1]) },
      optimizer: sgd({ learningRate: 1 }),
    });
    await expect(without.predictor()).rejects.toThrow('createTrainer() was given no predict function');
    const trainer = await regression(backend);
    const predictor = await trainer.predictor();
    const before = await predictor(rows(0, 3).x);
    await trainer.close();
    expect(await predictor(rows(0, 3).x)).toEqual(before);
    await predictor.close();
    await expect(predictor(rows(0, 3).x)).rejects.toThrow('predictor: the predictor is closed');
    await expect(trainer.predictor()).rejects.toThrow('trainer.predictor: the trainer is closed');
  });

  it('is refused what predict is refused', async () => {
    await using trainer = await regression(backend);
    await using predictor = await trainer.predictor();
    await expect(predictor(3 as never)).rejects.toThrow('inputs: expected an array');
    await expect(predictor(rows(0, 3).y)).rejects.toThrow('matmul');
    close('afterwards', await predictor(rows(0, 3).x), await trainer.predict(rows(0, 3).x));
  });

  it('may outlive its backend', async () => {
    const own = device === 'webgpu' ? await webgpuBackend() : await createBackend({ device: 'cpu' });
    if (!own) throw new Error('there was a device before');
    const trainer = await regression(own);
    const predictor = await trainer.predictor();
    await predictor(rows(0, 3).x);
    await own.close();
    await expect(predictor(rows(0, 3).x)).rejects.toThrow('the backend is closed');
    await predictor.close();
    await trainer.close();
  });
});
