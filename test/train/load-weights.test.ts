import { describe, expect, it } from 'vitest';
import { type ArrayLike, array } from '../../src/index.js';
import { encodeSafetensors, type LoadWeightsOptions, loadWeights, type Snapshot, save } from '../../src/train/index.js';
import { blank, example, Holder } from '../support/snapshots.js';

const { params, state } = example();
const start = blank(example());
const weights = { ...params, ...state };

/** What loading a file into a fresh trainer leaves there. */
async function loaded(tensors: Record<string, ArrayLike>, options?: LoadWeightsOptions): Promise<Snapshot> {
  const holder = new Holder(start);
  expect(await loadWeights(holder, encodeSafetensors(tensors), options)).toEqual({ missing: [], unexpected: [] });
  return holder.current;
}

describe('loadWeights', () => {
  it('replaces parameters and model state, and nothing else', async () => {
    expect(await loaded(weights)).toEqual({ ...start, params, state });
  });

  it('maps names by a record', async () => {
    const { 'head.weight': weight, 'norm.mean': mean, ...others } = weights;
    const names = { 'fc.weight': 'head.weight', 'bn.running_mean': 'norm.mean', 'bn.num_batches_tracked': undefined };
    const tensors = { ...others, 'fc.weight': weight!, 'bn.running_mean': mean!, 'bn.num_batches_tracked': array(9) };
    expect(await loaded(tensors, { names })).toEqual({ ...start, params, state });
  });

  it('maps names by a function', async () => {
    const prefixed = Object.entries(weights).map(([name, value]) => [`module.${name}`, value] as const);
    const names = (name: string) => (name.startsWith('module.') ? name.slice(7) : undefined);
    expect(await loaded({ ...Object.fromEntries(prefixed), skipped: array(1) }, { names })).toEqual({ ...start, params, state });
  });

  it('takes names with their section, as in a checkpoint', async () => {
    const holder = new Holder(start);
    const names = (name: string) => (name.startsWith('optimizer.') ? undefined : name);
    await loadWeights(holder, await save(new Holder(example())), { names });
    expect(holder.current).toEqual({ ...start, params, state });
  });

  it('tells a parameter and model state of one path apart', async () => {
    const twice = { ...start, params: { x: array(0) }, state: { x: array(0) } };
    const bytes = encodeSafetensors({ a: array(1), b: array(2) });
    const holder = new Holder(twice);
    await loadWeights(holder, bytes, { names: { a: 'params.x', b: 'state.x' } });
    expect(holder.current).toEqual({ ...start, params: { x: array(1) }, state: { x: array(2) } });
    await expect(loadWeights(holder, bytes, { names: { a: 'x', b: 'state.x' } })).rejects.toThrow(
      "loadWeights: names: 'a': 'x' may be 'params.x' or 'state.x'; say which it is",
    );
    await expect(loadWeights(holder, bytes, { names: { a: undefined, b: undefined } })).rejects.toThrow(
      "loadWeights: the file: missing 'params.x', 'state.x'",
    );
  });

  it('converts floats to the width of the parameter', async () => {
    const half = array([1, 0.1, -0, Number.NaN], { dtype: 'float16' });
    const holder = new Holder({ ...start, params: { wide: array([0, 0, 0, 0]), half: array([0, 0], { dtype: 'float16' }) }, state: {} });
    await loadWeights(holder, encodeSafetensors({ wide: half, half: array([0.1, Number.NEGATIVE_INFINITY]) }));
    expect(holder.current.params).toEqual({
      wide: array([1, 0.0999755859375, -0, Number.NaN]),
      half: array([0.1, Number.NEGATIVE_INFINITY], { dtype: 'float16' }),
    });
    await expect(loadWeights(holder, encodeSafetensors({ wide: half, half: array([1, 65520]) }))).rejects.toThrow(
      "loadWeights: tensor 'half': expected numbers within float16, received 65520",
    );
    // The largest that rounds down.
    await loadWeights(holder, encodeSafetensors({ wide: half, half: array([1, 65519]) }));
    expect(holder.current.params.half).toEqual(array([1, 65504], { dtype: 'float16' }));
  });

  it('transforms arrays by their names in the file', async () => {
    const seen: string[] = [];
    const kernel = array([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    const { 'head.weight': _, ...others } = weights;
    const result = await loaded(
      { ...others, kernel },
      {
        names: { kernel: 'head.weight' },
        transform: (name, value) => {
          seen.push(name);
          const [rows, columns] = value.shape as [number, number];
          return name === 'kernel' ? { ...value, shape: [columns, rows], stride: [1, columns] } : value;
        },
      },
    );
    expect(result.params).toEqual(params);
    expect(seen.sort()).toEqual(['head.bias', 'kernel', 'norm.count', 'norm.mean', 'norm.scale', 'norm.seen']);
  });

  it('says what did not fit if it is not strict', async () => {
    const holder = new Holder(start);
    const bytes = encodeSafetensors({ 'head.bias': params['head.bias']!, 'pooler.bias': array(1), old: array(2) });
    expect(await loadWeights(holder, bytes, { strict: false, names: { old: 'older' } })).toEqual({
      missing: ['head.weight', 'norm.scale', 'norm.mean', 'norm.count', 'norm.seen'],
      unexpected: ['pooler.bias', 'old'],
    });
    expect(holder.current).toEqual({ ...start, params: { ...start.params, 'head.bias': params['head.bias'] } });
  });

  const turned = array([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  const { 'head.bias': _, ...biasless } = weights;
  const options = (value: object) => value as LoadWeightsOptions;
  it.each<[string, Record<string, ArrayLike>, LoadWeightsOptions, string]>([
    ['a name that is missing', biasless, {}, "the file: missing 'head.bias'"],
    ['a name too many', { ...weights, x: array(1) }, {}, "the file: unexpected 'x'"],
    [
      'a name that is close',
      { ...biasless, 'heads.bias': array([1, 2]) },
      {},
      "the file: missing 'head.bias'; unexpected 'heads.bias' (did you mean 'head.bias'?)",
    ],
    [
      'a name mapped to nothing',
      { ...biasless, 'fc.bias': array([1, 2]) },
      { names: { 'fc.bias': 'head.bais' } },
      "the file: missing 'head.bias'; unexpected 'fc.bias' as 'head.bais' (did you mean 'head.bias'?)",
    ],
    [
      'two for one',
      { ...weights, x: array([1, 2]) },
      { names: { x: 'params.head.bias' } },
      "names: 'head.bias' and 'x' both go to 'head.bias'",
    ],
    [
      'a target that is a number',
      weights,
      options({ names: { 'head.bias': 3 } }),
      "names: 'head.bias': expected a path or undefined, received 3",
    ],
    [
      'a matrix that is transposed',
      { ...weights, 'head.weight': turned },
      {},
      "'head.weight': expected float32[2, 3], received an array float32[3, 2] (if the file has the matrix transposed, the option transform can turn it round)",
    ],
    [
      'another shape, though it is not strict',
      { ...weights, 'head.bias': array([[1], [2]]) },
      { strict: false },
      "'head.bias': expected float32[2], received an array float32[2, 1]",
    ],
    [
      'another shape under another name',
      { ...biasless, x: array([1]) },
      { names: { x: 'head.bias' } },
      "'x' as 'head.bias': expected float32[2], received an array float32[1]",
    ],
    [
      'integers for floats',
      { ...weights, 'head.bias': array([1, 2], { dtype: 'int32' }) },
      {},
      'expected float32[2], received an array int32[2]',
    ],
    ['floats for integers', { ...weights, 'norm.count': array(1) }, {}, 'expected int32[], received an array float32[]'],
    [
      'another shape and width',
      { ...weights, 'head.bias': array([1], { dtype: 'float16' }) },
      {},
      'expected float16[2], received an array float16[1]',
    ],
    [
      'a transform to nothing',
      weights,
      options({ transform: () => undefined }),
      "transform('head.weight'): expected an array { data, shape }, received undefined",
    ],
    [
      'a transform to another shape',
      weights,
      { transform: (name, value) => (name === 'head.weight' ? array(1) : value) },
      "'head.weight': expected float32[2, 3], received an array float32[]",
    ],
    [
      'names that are text',
      weights,
      options({ names: 'head' }),
      "names: expected a record or a function from names of the file to paths, received 'head'",
    ],
    ['strict as text', weights, options({ strict: 'no' }), "strict: expected a boolean, received 'no'"],
    [
      'a transform that is none',
      weights,
      options({ transform: {} }),
      'transform: expected a function of a name and an array, received an object with keys (none)',
    ],
    ['another option', weights, options({ name: {} }), "unknown option 'name'; the options are names, strict, transform"],
  ])('refuses %s and changes nothing', async (_, tensors, given, message) => {
    const holder = new Holder(start);
    await expect(loadWeights(holder, encodeSafetensors(tensors), given)).rejects.toThrow(/^loadWeights: /);
    // To the end: without a hint where none is due.
    await expect(loadWeights(holder, encodeSafetensors(tensors), given)).rejects.toSatisfy(({ message: text }) => text.endsWith(message));
    expect(holder.current).toBe(start);
    expect(start).toEqual(blank(example()));
  });

  it('takes only what may be a transposed matrix for one', async () => {
    const cube = { ...start, params: { square: array([[0]]), cube: array([[[0], [0]]]) }, state: {} };
    const bytes = encodeSafetensors({ square: array([[1]], { dtype: 'int32' }), cube: array([[[0]], [[0]]]) });
    await expect(loadWeights(new Holder(cube), bytes)).rejects.toThrow(
      /^loadWeights: 'square': expected float32\[1, 1\], received an array int32\[1, 1\]; 'cube': expected float32\[1, 2, 1\], received an array float32\[2, 1, 1\]$/,
    );
    const turned = encodeSafetensors({ square: array([[1]]), cube: array(new Float32Array(2), { shape: [1, 1, 2] }) });
    const other = { ...cube, params: { square: array([[0]]), cube: array(new Float32Array(2), { shape: [2, 1, 1] }) } };
    await expect(loadWeights(new Holder(other), turned)).rejects.toThrow(/received an array float32\[1, 1, 2\]$/);
  });

  it('refuses what is no file and what is no trainer', async () => {
    await expect(loadWeights(new Holder(start), new Uint8Array(4))).rejects.toThrow('loadWeights: not a safetensors file');
    await expect(loadWeights({} as Holder, encodeSafetensors(weights))).rejects.toThrow('loadWeights: trainer: expected a trainer');
  });
});
