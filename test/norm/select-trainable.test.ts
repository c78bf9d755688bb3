import { describe, expect, it } from 'vitest';
import { array, filled, type NDArray, square, sub, sum, type Tensor, type Tensors } from '../../src/index.js';
import { linear } from '../../src/layers/index.js';
import {
  adaptableNormParams,
  batchNorm,
  initBatchChannelNorm,
  initBatchNorm,
  initLayerNorm,
  initQkNorm,
  initRmsNorm,
  selectTrainable,
} from '../../src/norm/index.js';
import { sgd } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { normalArray } from '../support/numeric.js';
import { testDevices } from '../support/test-devices.js';

const params = () => ({
  stem: { conv: { weight: filled([4, 3, 3, 3], 1) }, norm: initBatchNorm(4).params },
  blocks: [0, 1].map(() => ({
    linear: { weight: filled([4, 4], 1), bias: filled([4], 0) },
    norm: initLayerNorm(4),
    rms: initRmsNorm(4),
    mix: initBatchChannelNorm(4, { numGroups: 2 }).params,
    attention: { ...initQkNorm(2), temperature: array(1) },
  })),
  scale: filled([4], 1),
});
const names = (prefix: string) => [`${prefix}.weight`, `${prefix}.bias`];
const normsOf = (block: string) => [
  ...names(`${block}.norm`),
  `${block}.rms.weight`,
  ...['bnWeight', 'bnBias', 'weight', 'bias'].map((name) => `${block}.mix.${name}`),
];

/** The names of the parameters above. */
const all: string[] = [];
selectTrainable(params(), ({ name }) => all.push(name) > 0);

describe('selectTrainable', () => {
  it('tells kinds of layers', () => {
    const kinds: Record<string, string> = {};
    const shapes: Record<string, readonly number[]> = {};
    selectTrainable(params(), ({ name, layer, shape }) => {
      kinds[name] = layer;
      shapes[name] = shape;
      return true;
    });
    const of = (kind: string) => Object.keys(kinds).filter((name) => kinds[name] === kind);
    expect(of('conv')).toEqual(['stem.conv.weight']);
    expect(of('linear')).toEqual([...names('blocks.0.linear'), ...names('blocks.1.linear')]);
    const attention = (block: string) => ['weightQ', 'weightK', 'temperature'].map((name) => `${block}.attention.${name}`);
    expect(of('norm')).toEqual([...names('stem.norm'), ...[0, 1].flatMap((i) => [...normsOf(`blocks.${i}`), ...attention(`blocks.${i}`)])]);
    expect(of('other')).toEqual(['scale']);
    expect(shapes['stem.conv.weight']).toEqual([4, 3, 3, 3]);
    expect(shapes['blocks.1.attention.temperature']).toEqual([]);
  });

  it('keeps what the predicate holds for', () => {
    expect(all.filter(selectTrainable(params(), ({ name, layer }) => layer === 'conv' || name === 'scale'))).toEqual([
      'stem.conv.weight',
      'scale',
    ]);
  });

  it('does not take projections of queries for scales of them', () => {
    const kinds: string[] = [];
    selectTrainable({ weightQ: filled([2, 2], 1), weight: filled([2, 2], 1) }, ({ layer }) => kinds.push(layer) > 0);
    expect(kinds).toEqual(['linear', 'linear']);
  });

  it('may be asked for names that are not there', () => {
    const trainable = selectTrainable({ w: array([1]) }, () => true);
    expect([trainable('w'), trainable('v')]).toEqual([true, false]);
  });

  const few = { a: { w: array([1]) }, b: array([2]) };
  it.each<[string, () => unknown, string]>([
    ['a predicate that holds for nothing', () => selectTrainable(few, () => false), 'predicate holds for no parameter; there are a.w, b'],
    ['no parameters', () => selectTrainable({}, () => true), 'predicate holds for no parameter; there are no parameters'],
    ['a predicate that is no function', () => selectTrainable(few, 'norm' as never), "predicate: expected a function, received 'norm'"],
    ['numbers as parameters', () => selectTrainable({ a: 1 }, () => true), 'a: expected an array as a parameter, received 1'],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `selectTrainable: ${message}` }));
  });
});

describe('adaptableNormParams', () => {
  const chosen = (options?: Parameters<typeof adaptableNormParams>[1]) => all.filter(adaptableNormParams(params(), options));

  it('are scales and offsets of normalizations', () => {
    const found = chosen();
    expect(found).toEqual(expect.arrayContaining([...names('stem.norm'), ...normsOf('blocks.0'), ...normsOf('blocks.1')]));
    expect(found.filter((name) => /conv|linear|scale/.test(name))).toEqual([]);
  });

  it('leave out parts by their paths, or what a predicate holds for', () => {
    const rest = chosen({ skip: ['blocks.1', 'stem.norm.bias', 'blocks.0.attention'] });
    expect(rest).toEqual(['stem.norm.weight', ...normsOf('blocks.0')]);
    expect(chosen({ skip: (name) => name.includes('.1.') || name === 'stem.norm.bias' || name.includes('attention') })).toEqual(rest);
    // A path is not the beginning of a name.
    expect(
      adaptableNormParams({ block: { weight: array([1]) }, block2: { weight: array([1]) } }, { skip: ['block'] })('block2.weight'),
    ).toBe(true);
  });

  const few = { norm: initBatchNorm(1).params, w: filled([1, 1], 1) };
  it.each<[string, () => unknown, string]>([
    [
      'parameters without normalizations',
      () => adaptableNormParams({ w: filled([1, 1], 1) }),
      'no parameter of a normalization is left; there are w',
    ],
    [
      'nothing that is left',
      () => adaptableNormParams(few, { skip: ['norm'] }),
      'no parameter of a normalization is left; there are norm.weight, norm.bias, w',
    ],
    [
      'nothing that is left by a predicate',
      () => adaptableNormParams(few, { skip: () => true }),
      'no parameter of a normalization is left; there are norm.weight, norm.bias, w',
    ],
    [
      'a path that is not there',
      () => adaptableNormParams(few, { skip: ['norms'] }),
      "skip: no parameter is under 'norms'; there are norm.weight, norm.bias, w",
    ],
    [
      'one path',
      () => adaptableNormParams(few, { skip: 'norm' as never }),
      "skip: expected a list of paths or a function, received 'norm'",
    ],
    ['an unknown option', () => adaptableNormParams(few, { except: [] } as never), "unknown option 'except'; the options are skip"],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `adaptableNormParams: ${message}` }));
  });
});

it.each(await testDevices())('a trainer on %s trains normalizations only, and running statistics go on', async (_, backend) => {
  const { params: norm, state } = initBatchNorm(3);
  const initial = { norm, head: { weight: normalArray(1, [1, 3]), bias: array([0.5]) } };
  type Params = Tensors<typeof initial>;
  type Batch = { x: Tensor; y: Tensor };
  await using trainer = await createTrainer(backend, {
    params: initial,
    state,
    trainable: adaptableNormParams(initial),
    optimizer: sgd({ learningRate: 0.1 }),
    loss: (p: Params, { x, y }: Batch, context: LossContext<Tensors<typeof state>>) => {
      const normal = batchNorm(x, p.norm, context.state, { mode: 'train' });
      return { loss: sum(square(sub(linear(normal.y, p.head), y))), state: normal.state };
    },
  });
  await trainer.step({ x: normalArray(2, [6, 3]), y: normalArray(3, [6, 1]) });
  const { norm: after, head } = await trainer.params();
  expect(head).toEqual(initial.head);
  const moved = (a: NDArray, b: NDArray) => a.data.every((v, i) => v !== b.data[i]);
  expect([moved(after.weight, norm.weight), moved(after.bias, norm.bias)]).toEqual([true, true]);
  const { runningMean, numBatchesTracked } = await trainer.state();
  expect([moved(runningMean, state.runningMean), moved(numBatchesTracked, state.numBatchesTracked)]).toEqual([true, true]);
});
