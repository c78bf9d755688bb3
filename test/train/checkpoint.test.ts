import { describe, expect, it } from 'vitest';
import { array, createRng } from '../../src/index.js';
import { decodeSafetensors, encodeSafetensors, load, type Snapshotable, save } from '../../src/train/index.js';
import { blank, example, Holder } from '../support/snapshots.js';

/** The file of a checkpoint with some of it changed. */
async function changed(change: { metadata?: Record<string, string | undefined>; tensors?: object }): Promise<Uint8Array> {
  const { tensors, metadata } = decodeSafetensors(await save(new Holder(example())));
  const texts = Object.entries({ ...metadata, ...change.metadata }).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return encodeSafetensors({ ...tensors, ...change.tensors }, Object.fromEntries(texts));
}

describe('save', () => {
  it('writes a file that others can read', async () => {
    const { params, optimizer, state } = example();
    expect(decodeSafetensors(await save(new Holder(example()), { extra: { epoch: 3 } }))).toEqual({
      metadata: { format: 'tracegrad-checkpoint', version: '1', step: '7', seed: '9007199254740991', extra: '{"epoch":3}' },
      tensors: {
        'params.head.weight': params['head.weight'],
        'params.head.bias': params['head.bias'],
        'params.norm.scale': params['norm.scale'],
        'optimizer.step': optimizer.step,
        'optimizer.m.head.bias': optimizer['m.head.bias'],
        'optimizer.v.head.bias': optimizer['v.head.bias'],
        'state.norm.mean': state['norm.mean'],
        'state.norm.count': state['norm.count'],
        'state.norm.seen': state['norm.seen'],
      },
    });
  });

  it('takes extra as it is when called', async () => {
    const extra = { order: [1, 2] };
    const saved = save(new Holder(example()), { extra });
    extra.order.push(3);
    expect(await load(new Holder(example()), await saved)).toEqual({ order: [1, 2] });
  });

  const loop: unknown[] = [];
  loop.push({ loop });
  it.each<[string, unknown, string]>([
    ['NaN', { best: [Number.NaN] }, 'extra.best.0: expected a finite number, as JSON has no other, received NaN'],
    ['infinity', Number.NEGATIVE_INFINITY, 'extra: expected a finite number, as JSON has no other, received -Infinity'],
    [
      'undefined',
      { a: { b: undefined } },
      'extra.a.b: expected JSON data (null, booleans, numbers, strings, arrays and plain objects), received undefined',
    ],
    // biome-ignore lint/suspicious/noSparseArray: a hole
    ['a hole', [1, , 2], 'extra.1: expected JSON data'],
    [
      'a function',
      { log: () => 0 },
      'extra.log: expected JSON data (null, booleans, numbers, strings, arrays and plain objects), received a function',
    ],
    ['a bigint', { n: 1n }, 'extra.n: expected JSON data'],
    ['a typed array', { rng: Uint32Array.of(1) }, 'received a Uint32Array'],
    ['a date', new Date(0), 'received a Date'],
    ['a map', { seen: new Map() }, 'received a Map'],
    ['a symbol', { [Symbol('key')]: 1 }, 'extra: expected JSON data, whose keys are strings, received Symbol(key)'],
    ['what contains itself', loop, 'extra.0.loop: expected JSON data, received an object that contains itself'],
  ])('refuses %s in extra', async (_, extra, message) => {
    await expect(save(new Holder(example()), { extra })).rejects.toThrow(/^save: extra/);
    await expect(save(new Holder(example()), { extra })).rejects.toThrow(message);
  });

  it('writes what JSON.stringify would change', async () => {
    class Log extends Array<number> {
      toJSON(): string {
        return 'a log';
      }
    }
    const extra = { log: Log.of(1, -0), hidden: Object.defineProperty({ b: 1 }, 'a', { value: [2] }) };
    expect(await load(new Holder(example()), await save(new Holder(example()), { extra }))).toEqual({
      log: [1, -0],
      hidden: { b: 1, a: [2] },
    });
  });

  it('refuses other arguments', async () => {
    await expect(save({ steps: 1 } as unknown as Snapshotable)).rejects.toThrow(
      "save: trainer: expected a trainer, received an object with keys 'steps'",
    );
    await expect(save(undefined as unknown as Snapshotable)).rejects.toThrow('save: trainer: expected a trainer, received undefined');
    await expect(save(new Holder(example()), { extras: 1 } as object)).rejects.toThrow(
      "save: unknown option 'extras'; the options are extra",
    );
  });
});

describe('load', () => {
  it('restores everything', async () => {
    const holder = new Holder(blank(example()));
    expect(await load(holder, await save(new Holder(example())))).toBeUndefined();
    expect(holder.current).toEqual(example());
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['a number', -0],
    ['small and large numbers', [5e-324, -1.7976931348623157e308, 0.1, 1e21, 2 ** 53]],
    ['the state of a generator', createRng(3).state()],
    ['text', { '': 'a\n"\u2028\ud800', [`${'\\'}`]: '\u0000' }],
    ['nested data', { a: [[], {}, [{ b: [true, false, null] }]], 1: 2 }],
    ['a key that objects treat specially', JSON.parse('{"__proto__":{"a":1}}')],
    ['an object without a prototype', Object.assign(Object.create(null), { a: 1 })],
    ['negative zeros in nested data', { a: [0, -0, { b: -0 }], c: ['x', null, true] }],
    ['a toJSON that is data', { toJSON: 1, a: [2] }],
    ['one object at two places', ((shared: object) => [shared, shared])({ a: 1 })],
  ])('returns %s as extra', async (_, extra) => {
    const back = await load(new Holder(example()), await save(new Holder(example()), { extra }));
    expect(back).toEqual(extra);
    expect(Object.entries(Object(back))).toEqual(Object.entries(Object(extra)));
  });

  it('keeps parameters without a path and snapshots without optimizer or state', async () => {
    const alone = { step: 0, seed: 0, params: { '': array([1, 2]) }, optimizer: {}, state: {} };
    const holder = new Holder(blank(alone));
    await load(holder, await save(new Holder(alone)));
    expect(holder.current).toEqual(alone);
  });

  it.each<[string, Promise<Uint8Array> | Uint8Array, string]>([
    ['no file', new Uint8Array(3), 'load: not a safetensors file: it has 3 bytes'],
    [
      'weights of others',
      encodeSafetensors({ x: array(1) }, { format: 'pt' }),
      "load: not a checkpoint: expected format 'tracegrad-checkpoint' in the metadata, received 'pt'; loadWeights() loads weights that others wrote",
    ],
    [
      'no metadata',
      encodeSafetensors({ x: array(1) }),
      "load: not a checkpoint: expected format 'tracegrad-checkpoint' in the metadata, received undefined",
    ],
    ['a later version', changed({ metadata: { version: '2' } }), "load: a checkpoint of version '2'; this tracegrad reads '1'"],
    ['no version', changed({ metadata: { version: undefined } }), "load: a checkpoint of version undefined; this tracegrad reads '1'"],
    [
      'a step that is none',
      changed({ metadata: { step: '-1' } }),
      "load: metadata 'step': expected an integer from 0 to 2^53 - 1, received '-1'",
    ],
    [
      'half a step',
      changed({ metadata: { step: '1.5' } }),
      "load: metadata 'step': expected an integer from 0 to 2^53 - 1, received '1.5'",
    ],
    [
      'no step',
      changed({ metadata: { step: undefined } }),
      "load: metadata 'step': expected an integer from 0 to 2^53 - 1, received undefined",
    ],
    ['an empty seed', changed({ metadata: { seed: '' } }), "load: metadata 'seed': expected an integer from 0 to 2^53 - 1, received ''"],
    ['a seed that is too large', changed({ metadata: { seed: '9007199254740992' } }), "load: metadata 'seed': expected an integer"],
    ['extra that is no JSON', changed({ metadata: { extra: '{' } }), "load: metadata 'extra': no JSON: "],
    [
      'a tensor of another kind',
      changed({ tensors: { paramsx: array(1) } }),
      "load: a tensor: expected a name that begins with 'params.', 'optimizer.', 'state.', received 'paramsx'",
    ],
    // The trainer's own errors.
    ['another parameter', changed({ tensors: { 'params.x': array(1) } }), "restore: params: unexpected 'x'"],
    [
      'another shape',
      changed({ tensors: { 'state.norm.mean': array(1) } }),
      "restore: state: 'norm.mean': expected float32[1], received an array float32[]",
    ],
    [
      'another dtype',
      changed({ tensors: { 'optimizer.step': array(1, { dtype: 'int32' }) } }),
      "restore: optimizer: 'step': expected float32[], received",
    ],
  ])('refuses %s and changes nothing', async (_, bytes, message) => {
    const holder = new Holder(blank(example()));
    const before = holder.current;
    await expect(load(holder, await bytes)).rejects.toThrow(message);
    expect(holder.current).toBe(before);
    expect(before).toEqual(blank(example()));
  });

  it('refuses what is no trainer', async () => {
    const bytes = await save(new Holder(example()));
    await expect(load(example() as unknown as Snapshotable, bytes)).rejects.toThrow(
      'load: trainer: expected a trainer, received an object',
    );
  });
});
