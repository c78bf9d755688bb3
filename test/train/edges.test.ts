import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { add, array, type Backend, compile, hostInput, mean, mul, square, sub, sum, type Tensor, toNumbers } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { accumulatedGradients, chain, type GradientStrategy, type Named, type Optimizer, sgd, transform } from '../../src/optim/index.js';
import { compileUpdate, createTrainer, type Snapshot } from '../../src/train/index.js';
import { everything, initial, regression, rows } from './fixtures.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

const strategy = (gradients: GradientStrategy['gradients']): { gradients: GradientStrategy } => ({ gradients: { gradients } });

describe('strategies of the user', () => {
  it('move some parameters and train all', async () => {
    await using trainer = await regression(
      backend,
      strategy((evaluate, { params }) => evaluate({ params: { b: mul(params.b as Tensor, 2) } })),
    );
    const { w } = await trainer.params();
    await trainer.step(rows(0, 8));
    expect((await trainer.params()).w).not.toEqual(w);
  });

  it.each<[string, GradientStrategy['gradients'], string]>([
    [
      'a parameter that is not there',
      (ev, { params }) => ev({ params: { W: params.w as Tensor } }),
      "evaluate: params: 'W' is no parameter",
    ],
    [
      'a part that is none',
      (ev) => ev({ part: [5, 2] }),
      'evaluate: part: expected [index, count] with 0 <= index < count, received [5, 2]',
    ],
    ['an unknown request', (ev) => ev({ param: {} } as never), "trainer.step: evaluate: unknown option 'param'"],
    [
      'nothing',
      () => undefined as never,
      'the gradient strategy: expected { gradients, extra?, metrics? } as its result, received undefined',
    ],
  ])('are refused %s', async (_, gradients, message) => {
    await using trainer = await regression(backend, strategy(gradients));
    await expect(trainer.step(rows(0, 8))).rejects.toThrow(message);
  });

  const perSample = async (parts: readonly (readonly [number, number])[]) => {
    await using trainer = await createTrainer(backend, {
      loss: (p: { c: Tensor }, x: Tensor) => ({ loss: mean(square(sub(x, p.c))), perSample: square(x) }),
      params: { c: array(0) },
      optimizer: sgd({ learningRate: 0.1 }),
      ...strategy((evaluate) => parts.map((part) => evaluate({ part }))[0]!),
    });
    const { perSample } = await trainer.step(array([1, 2, 3, 4]));
    return perSample && toNumbers(perSample);
  };

  it('get values per sample in the order of the rows, if every row was seen once', async () => {
    expect(
      await perSample([
        [1, 2],
        [0, 2],
      ]),
    ).toEqual([1, 4, 9, 16]);
    expect(await perSample([[0, 2]])).toBeUndefined();
    expect(
      await perSample([
        [0, 1],
        [0, 1],
      ]),
    ).toBeUndefined();
  });
});

describe('optimizers of the user', () => {
  const bad = (update: Partial<Optimizer>): Optimizer => ({ ...sgd({ learningRate: 0.1 }), ...update });
  it.each<[string, Optimizer, string]>([
    [
      'updates of other parameters',
      bad({ update: () => ({ updates: { W: hostInput(() => 1) } as never, state: {} }) }),
      "what the optimizer returned: unexpected 'W'",
    ],
    [
      'updates that would be repeated',
      bad({ update: (g) => ({ updates: { w: sum((g as { w: Tensor }).w) } as never, state: {} }) }),
      'the update of w: expected the shape [3, 1]',
    ],
    [
      'state that was not there',
      bad({ update: (g) => ({ updates: g, state: { x: hostInput(() => 1) } }) }),
      "what the optimizer returned: unexpected 'x'",
    ],
    ['arrays as state', bad({ init: () => ({ x: array([1]) }) as never }), "createTrainer: state 'x' of the optimizer: expected a Tensor"],
    ['no state', bad({ init: () => undefined as never }), 'createTrainer: optimizer: expected a record of Tensors as the result of init()'],
    ['no init', bad({ init: undefined as never }), 'createTrainer: optimizer: expected an optimizer'],
  ])('are refused %s', async (_, optimizer, message) => {
    const step = async () => {
      await using trainer = await regression(backend, { optimizer });
      await trainer.step(rows(0, 8));
    };
    await expect(step()).rejects.toThrow(message);
  });
});

it('a snapshot that changes while it waits is checked as it is written', async () => {
  await using trainer = await regression(backend);
  const before = await everything(trainer);
  const snapshot = (await trainer.snapshot()) as { -readonly [K in keyof Snapshot]: Snapshot[K] };
  const restoring = trainer.restore(snapshot);
  snapshot.params = { ...snapshot.params, b: array([1, 2]) };
  await expect(restoring).rejects.toThrow("trainer.restore: params: 'b': expected float32[1]");
  expect(await everything(trainer)).toBe(before);
});

it('parameters may have any name', async () => {
  const params = JSON.parse('{ "toString": 1, "constructor": 2, "__proto__": 3 }') as Record<string, number>;
  const arrays = Object.fromEntries(Object.entries(params).map(([name, value]) => [name, array([value])]));
  await using trainer = await createTrainer(backend, {
    loss: (p: Named) => sum(mul(p.toString as unknown as Tensor, Object.entries(p).find(([name]) => name === '__proto__')?.[1] as Tensor)),
    params: arrays,
    optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }),
    trainable: (name) => name !== 'constructor',
    axes: null,
  });
  await trainer.step([]);
  const after = Object.fromEntries(Object.entries((await trainer.snapshot()).params).map(([name, { data }]) => [name, data[0]]));
  expect(Object.entries(after)).toEqual([
    ['toString', expect.closeTo(0.7)],
    ['constructor', 2],
    ['__proto__', expect.closeTo(2.9)],
  ]);
});

it('debugNonFinite does not change what is drawn', async () => {
  const noise = transform('noise', {
    update: (u) => ({
      updates: Object.fromEntries(
        Object.entries(u).map(([k, g]) => [
          k,
          add(
            g,
            hostInput(({ rng }) => rng.float()),
          ),
        ]),
      ),
    }),
  });
  const end = async (debugNonFinite: boolean) => {
    await using trainer = await createTrainer(backend, {
      loss: (p: { w: Tensor }, x: Tensor, { state }: { state: { n: Tensor } }) => ({
        loss: mean(square(sub(x, p.w))),
        state: {
          n: add(
            state.n,
            hostInput(({ rng }) => rng.float()),
          ),
        },
      }),
      params: { w: array([0]) },
      state: { n: array(0) },
      optimizer: chain(noise, sgd({ learningRate: 0.1 })),
      debugNonFinite,
    });
    for (let step = 0; step < 3; step++) await trainer.step(array([1, 2]));
    return await everything(trainer);
  };
  expect(await end(true)).toBe(await end(false));
});

it('micro-batches of float16 gradients are added in float32', async () => {
  await using trainer = await createTrainer(backend, {
    loss: (p: { w: Tensor }, x: Tensor) => mean(mul(p.w, x)),
    params: { w: array([0], { dtype: 'float16' }) },
    optimizer: sgd({ learningRate: 1 }),
    gradients: accumulatedGradients({ parts: 8 }),
  });
  // Their mean is 125.28125, of which float16 holds 125.25; added up in float16 the first would swallow the rest: 125.0625.
  await trainer.step(array([1000.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25], { dtype: 'float16' }));
  expect(toNumbers((await trainer.params()).w)[0]).toBe(-125.25);
});

it('axes that name nothing are refused', async () => {
  await using trainer = await regression(backend, { axes: { X: ['batch'], y: ['batch'] } });
  await expect(trainer.step(rows(0, 8))).rejects.toThrow("trainer.step: axes: there is no array 'X'; there are x, y");
  const doubled = compile(backend, (x: { a: Tensor }) => mul(x.a, 2), { axes: [{ a: 7 } as never] });
  await expect(doubled({ a: array([1]) })).rejects.toThrow('expected a list of names and nulls');
});

it('a batch of one size alone is nothing to warn about', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  await using trainer = await createTrainer(backend, {
    loss: (p: { w: Tensor }, target: Tensor) => mean(square(sub(p.w, target))),
    params: { w: array([0, 0]) },
    optimizer: sgd({ learningRate: 0.1 }),
  });
  for (let step = 0; step < 3; step++) await trainer.step(array([1, 2]));
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

it('compileUpdate is called what it is in errors, and wants gradients', async () => {
  const drawing = transform('drawing', {
    update: (u) => ({ updates: u }),
    refreshes: [{ when: () => true, compute: () => ({ x: array([1]) }) }],
  });
  await using update = await compileUpdate(backend, drawing, initial());
  await expect(update.step(initial())).rejects.toThrow("update.step: refresh: 'x' is no entry of the optimizer's state");
  await expect(update.step(undefined as never)).rejects.toThrow('update.step: gradients: expected a tree like the parameters');
  expect(update.steps).toBe(0);
});
