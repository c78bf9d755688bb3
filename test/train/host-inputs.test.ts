import { describe, expect, it } from 'vitest';
import {
  add,
  array,
  type Backend,
  createRng,
  foldIn,
  type HostContext,
  hostInput,
  keyFromSeed,
  mul,
  sum,
  type Tensor,
  toNumbers,
} from '../../src/index.js';
import {
  accumulatedGradients,
  chain,
  type GradientStrategy,
  halfGradients,
  perturbedGradients,
  scaleByLearningRate,
  transform,
} from '../../src/optim/index.js';
import { mapNamed } from '../../src/optim/transform.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, initial, loss, type Params, regression, rows, weightsOf } from './fixtures.js';

const devices = await testDevices();

/** Remembers what host inputs drew, and by which key. */
function recorder() {
  const draws: { name: string; step: number; values: number[] }[] = [];
  const noise = (name: string, shape: number[]): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return hostInput(
      ({ rng, step }: HostContext) => {
        const values = Array.from({ length: size }, () => rng.float());
        draws.push({ name, step, values });
        return values;
      },
      { shape },
    );
  };
  return { draws, noise };
}

/** A loss with two masks, model state with noise that the loss does not see, and updates with noise, one per parameter. */
async function noisyRun(backend: Backend, gradients?: GradientStrategy) {
  const { draws, noise } = recorder();
  const masked = (p: Params, b: Batch, { state }: LossContext<{ walk: Tensor }>) => {
    const w = mul(p.w, noise('first', [3, 1]));
    const x = mul(b.x, noise('second', [...b.x.shape]));
    return { loss: loss({ w, b: p.b }, { x, y: b.y }), state: { walk: add(state.walk, noise('walk', [])) } };
  };
  const link = transform('noise', {
    update: (updates) => ({ updates: mapNamed(updates, (u, name) => add(u, noise(name, [...u.shape]))) }),
  });
  await using trainer = await createTrainer(backend, {
    seed: 11,
    loss: masked,
    params: initial(),
    state: { walk: array(0) },
    optimizer: chain(
      link,
      scaleByLearningRate((step) => 0.1 / (1 + step)),
    ),
    axes: null,
    ...(gradients ? { gradients } : {}),
  });
  const losses: number[] = [];
  for (let step = 0; step < 3; step++) losses.push((await trainer.step(rows(0, 6))).loss);
  const { walk } = await trainer.state();
  return { losses, weights: [...weightsOf(await trainer.params()), ...toNumbers(walk)], draws };
}

const strategies: [string, GradientStrategy | undefined][] = [
  ['plain', undefined],
  ['micro-batches', accumulatedGradients({ parts: 2 })],
  ['perturbed', perturbedGradients()],
  ['halves, now and then', halfGradients({ when: (step) => step === 1 })],
];

describe('host inputs of a trainer', () => {
  it.each(strategies)('draw the same on all devices: %s', async (_what, gradients) => {
    const results = [];
    for (const [, backend] of devices) results.push(await noisyRun(backend, gradients));
    const [cpu, webgpu] = results;
    const inOrder = (draws: readonly object[]) => draws.map((draw) => JSON.stringify(draw)).sort();
    expect(new Set(cpu!.draws.map(({ values }) => values[0])).size).toBe(cpu!.draws.length);
    if (!webgpu) return;
    expect(inOrder(webgpu.draws)).toEqual(inOrder(cpu!.draws));
    expectClose('losses', webgpu.losses, cpu!.losses, 1e-5);
    expectClose('weights', webgpu.weights, cpu!.weights, 1e-5);
  });
});

describe.each(devices)('host inputs of a trainer (%s)', (_, backend) => {
  it('have streams of their own, those of the gradients first', async () => {
    const { draws } = await noisyRun(backend);
    for (const step of [0, 1, 2]) {
      const streams = ['first', 'second', 'walk', 'w', 'b'].map((name) => {
        const { values } = draws.find((draw) => draw.step === step && draw.name === name)!;
        return [...Array(8).keys()].find((stream) => {
          const rng = createRng(foldIn(foldIn(keyFromSeed(11), step), stream));
          return values.every((value) => value === rng.float());
        });
      });
      // Those of the gradients come first; among those of the update is the learning rate's.
      expect(new Set(streams.slice(0, 3))).toEqual(new Set([0, 1, 2]));
      expect(new Set([...streams, 3, 4, 5]).size).toBe(6);
      expect(new Set(streams).size).toBe(5);
    }
  });

  it('differ even where they share a function', async () => {
    const found: number[] = [];
    const compute = ({ rng }: HostContext) => {
      const value = rng.float();
      found.push(value);
      return value;
    };
    await using trainer = await regression(backend, {
      loss: (p, b) => add(mul(loss(p, b), hostInput(compute)), mul(sum(p.b), hostInput(compute))),
    });
    await trainer.step(rows(0, 4));
    expect(new Set(found).size).toBe(2);
  });

  it('see the step and the seed of the trainer, also at its start', async () => {
    const drawn = async (seed: number) => {
      const values: number[] = [];
      const start = transform('start', {
        slots: ['basis'],
        init: () => ({
          basis: hostInput(({ rng, step }) => {
            values.push(step);
            return rng.float();
          }),
        }),
        update: (updates) => ({ updates }),
      });
      await using trainer = await regression(backend, { seed, optimizer: chain(start, scaleByLearningRate(0.1)) });
      expect(values).toEqual([0]);
      return toNumbers((await trainer.optimizerState()).basis!)[0];
    };
    const [one, again, other] = [await drawn(1), await drawn(1), await drawn(2)];
    expect(again).toBe(one);
    expect(other).not.toBe(one);
  });

  it('of a step stay the same in another trainer that evaluates in between', async () => {
    const dropout = (p: Params, b: Batch, { training }: { training: boolean }) => {
      const mask = hostInput(({ rng }) => Array.from({ length: 12 }, () => 2 * rng.int(2)), { shape: [4, 3] });
      return loss(p, training ? { ...b, x: mul(b.x, mask) } : b);
    };
    await using trainer = await regression(backend, { loss: dropout, axes: null });
    await using twin = await regression(backend, { loss: dropout, axes: null });
    for (let step = 0; step < 3; step++) {
      await trainer.evaluate(rows(0, 4));
      await trainer.predict(array([[1, 2, 3]]));
      expect(await trainer.step(rows(0, 4))).toEqual(await twin.step(rows(0, 4)));
    }
  });
});
