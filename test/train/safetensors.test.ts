import { afterEach, describe, expect, it, vi } from 'vitest';
import { sizeOf } from '../../src/core/shape.js';
import { array, createRng, type DType, type NDArray, type Rng } from '../../src/index.js';
import { decodeSafetensors, encodeSafetensors } from '../../src/train/index.js';

afterEach(() => vi.unstubAllGlobals());

/** A file from the text of its header and its data, put together here and not by the encoder. */
function file(header: unknown, data: readonly number[] = [], length?: number): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(length ?? text.length), true);
  return Uint8Array.of(...prefix, ...text, ...data);
}

/** A file of one tensor `x`. */
const one = (dtype: string, shape: readonly number[], data: readonly number[]): Uint8Array =>
  file({ x: { dtype, shape, data_offsets: [0, data.length] } }, data);

const bytesOf = ({ data }: NDArray): number[] => [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];

/** The little-endian bytes of 64-bit integers and floats. */
const int64 = (...values: bigint[]): number[] => [...new Uint8Array(BigInt64Array.from(values).buffer)];
const float64 = (...values: number[]): number[] => [...new Uint8Array(Float64Array.from(values).buffer)];

describe('encodeSafetensors', () => {
  it('writes the format byte by byte', () => {
    const bytes = encodeSafetensors({ b: array([true, false]), w: array([1, -2]) }, { k: 'v' });
    const header =
      '{"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[8,10]}}';
    expect(header.length).toBe(134);
    const data = [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 1, 0];
    expect([...bytes]).toEqual([136, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode(header), 0x20, 0x20, ...data]);
  });

  it('writes every dtype, scalars and arrays without elements', () => {
    const tensors = {
      half: array([1], { dtype: 'float16' }),
      empty: array(new Float32Array(0), { shape: [0, 3] }),
      flag: array(true),
      count: array([-2], { dtype: 'int32' }),
      scalar: array(0.5),
    };
    const bytes = encodeSafetensors(tensors);
    const length = new DataView(bytes.buffer).getUint32(0, true);
    expect(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)))).toEqual({
      empty: { dtype: 'F32', shape: [0, 3], data_offsets: [0, 0] },
      count: { dtype: 'I32', shape: [1], data_offsets: [0, 4] },
      scalar: { dtype: 'F32', shape: [], data_offsets: [4, 8] },
      half: { dtype: 'F16', shape: [1], data_offsets: [8, 10] },
      flag: { dtype: 'BOOL', shape: [], data_offsets: [10, 11] },
    });
    expect([...bytes.subarray(8 + length)]).toEqual([0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0x3f, 0, 0x3c, 1]);
    expect(decodeSafetensors(bytes).tensors).toEqual(tensors);
  });

  it('takes whatever is an array, a part of a buffer too', () => {
    const buffer = Float32Array.of(9, 1, 2, 9);
    const { tensors } = decodeSafetensors(
      encodeSafetensors({
        part: { data: buffer.subarray(1, 3), shape: [2] },
        turned: { data: [1, 2, 3, 4], shape: [2, 2], stride: [1, 2] },
        doubles: { data: Float64Array.of(0.5), shape: [] },
        mask: { data: Uint8Array.of(0, 7), shape: [2], dtype: 'bool' },
      }),
    );
    expect(tensors).toEqual({
      part: array([1, 2]),
      turned: array([
        [1, 3],
        [2, 4],
      ]),
      doubles: array(0.5),
      mask: array([false, true]),
    });
    expect([...buffer]).toEqual([9, 1, 2, 9]);
  });

  it('writes bytes of bool as 0 and 1', () => {
    expect([...encodeSafetensors({ x: { data: Uint8Array.of(0, 7, 255), shape: [3], dtype: 'bool' } }).subarray(-3)]).toEqual([0, 1, 1]);
  });

  it('writes nothing', () => {
    expect([...encodeSafetensors({})]).toEqual([8, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20]);
    expect(decodeSafetensors(encodeSafetensors({}))).toEqual({ tensors: {}, metadata: {} });
  });

  it.each<[string, unknown, unknown, string]>([
    ['no record', [array(1)], {}, 'tensors: expected a record of arrays by name, received [an array float32[]]'],
    ['numbers', { x: [1, 2] }, {}, "tensor 'x': expected an array { data, shape }, received [1, 2]"],
    ['data that do not fit', { x: { data: [1], shape: [2] } }, {}, "tensor 'x'.data: expected 2 elements for shape [2], received 1"],
    ["the format's own name", { __metadata__: array(1) }, {}, "tensors: '__metadata__' is no name for a tensor in this format"],
    ['metadata that are a number', {}, { step: 1 }, "metadata 'step': expected a string, received 1"],
    ['metadata that are a list', {}, ['a'], "metadata: expected an object of strings, received ['a']"],
  ])('refuses %s', (_, tensors, metadata, message) => {
    const encode = encodeSafetensors as (tensors: unknown, metadata: unknown) => Uint8Array;
    expect(() => encode(tensors, metadata)).toThrow(`encodeSafetensors: ${message}`);
  });

  it('refuses a header that readers would refuse', () => {
    const metadata = { text: 'x'.repeat(100_000_000) };
    expect(() => encodeSafetensors({}, metadata)).toThrow('expected names and metadata of at most 100000000 bytes, received 100000032');
  });
});

describe('decodeSafetensors', () => {
  it('reads a file written by hand', () => {
    const header =
      '{"__metadata__":{"format":"pt"},"fc.bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},"fc.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}  ';
    const data = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40, 0, 0, 0, 0xbf];
    expect(decodeSafetensors(file(header, data))).toEqual({
      tensors: { 'fc.bias': array([-0.5]), 'fc.weight': array([[1, 2, 3, 4]]) },
      metadata: { format: 'pt' },
    });
  });

  it.each<[string, number[], DType, number[]]>([
    ['F32', [0, 0, 0xc0, 0x3f], 'float32', [1.5]],
    ['F16', [0, 0x3e, 0, 0x80], 'float16', [0x3e00, 0x8000]],
    ['I32', [0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f], 'int32', [-(2 ** 31), 2 ** 31 - 1]],
    ['BOOL', [0, 1, 255], 'bool', [0, 1, 1]],
    ['BF16', [0x80, 0x3f, 0, 0xc0, 0x80, 0x7f, 1, 0], 'float32', [1, -2, Number.POSITIVE_INFINITY, 2 ** -133]],
    ['F64', float64(0.1, -0, Number.NEGATIVE_INFINITY, 1e-60), 'float32', [Math.fround(0.1), -0, Number.NEGATIVE_INFINITY, 0]],
    ['I64', int64(-5n, 2n ** 31n - 1n), 'int32', [-5, 2 ** 31 - 1]],
    ['U64', int64(7n), 'int32', [7]],
    ['U32', [1, 0, 0, 0x7f], 'int32', [0x7f000001]],
    ['I16', [0xfe, 0xff], 'int32', [-2]],
    ['U16', [0xfe, 0xff], 'int32', [65534]],
    ['I8', [0xfe], 'int32', [-2]],
    ['U8', [0xfe], 'int32', [254]],
  ])('reads %s', (format, data, dtype, expected) => {
    const { x } = decodeSafetensors(one(format, [expected.length], data)).tensors as { x: NDArray };
    expect(x.dtype).toBe(dtype);
    expect(x.shape).toEqual([expected.length]);
    expect([...x.data]).toEqual(expected);
  });

  it('keeps the bits of NaN', () => {
    const signalling = [1, 0, 0xa0, 0x7f];
    const negative = [0x34, 0x12, 0xc0, 0xff];
    const wide = one('F32', [2], [...signalling, ...negative]);
    expect(bytesOf(decodeSafetensors(wide).tensors.x as NDArray)).toEqual([...signalling, ...negative]);
    const brain = decodeSafetensors(one('BF16', [2], [0xa1, 0x7f, 0xc1, 0xff])).tensors.x as NDArray;
    expect(bytesOf(brain)).toEqual([0, 0, 0xa1, 0x7f, 0, 0, 0xc1, 0xff]);
    expect(decodeSafetensors(one('F64', [1], float64(Number.NaN))).tensors.x?.data).toEqual(Float32Array.of(Number.NaN));
  });

  it('reads data at any place of a buffer, and copies them', () => {
    const bytes = one('F32', [1], [0, 0, 0x80, 0x3f]);
    for (let shift = 0; shift < 8; shift++) {
      const buffer = Buffer.alloc(bytes.length + 16, 0xee);
      buffer.set(bytes, shift);
      const { x } = decodeSafetensors(buffer.subarray(shift, shift + bytes.length)).tensors;
      buffer.fill(0);
      expect(x).toEqual(array([1]));
    }
  });

  it('reads scalars, arrays without elements, keys that objects treat specially, and ignores what it does not know', () => {
    const header = {
      2: { dtype: 'U8', shape: [], data_offsets: [0, 1], device: 'cpu' },
      1: { dtype: 'F32', shape: [4, 0], data_offsets: [1, 1] },
    };
    const special = `{"__proto__":{"dtype":"BOOL","shape":[1],"data_offsets":[1,2]},"":{"dtype":"F16","shape":[0],"data_offsets":[2,2]},${JSON.stringify(header).slice(1)}`;
    const { tensors, metadata } = decodeSafetensors(file(special, [3, 1]));
    expect(metadata).toEqual({});
    expect(new Map(Object.entries(tensors))).toEqual(
      new Map<string, NDArray>([
        ['1', array(new Float32Array(0), { shape: [4, 0] })],
        ['2', array(3, { dtype: 'int32' })],
        ['__proto__', array([true])],
        ['', array([], { dtype: 'float16' })],
      ]),
    );
    expect(decodeSafetensors(encodeSafetensors(tensors)).tensors).toEqual(tensors);
  });

  const x = (entry: object) => file({ x: { dtype: 'U8', shape: [2], data_offsets: [0, 2], ...entry } }, [1, 2]);
  const pair = (a: number[], b: number[], size: number) => {
    const entry = ([begin = 0, end = 0]: number[]) => ({ dtype: 'U8', shape: [end - begin], data_offsets: [begin, end] });
    return file({ a: entry(a), b: entry(b) }, new Array(size).fill(0));
  };
  it.each<[string, unknown, string]>([
    ['a promise', Promise.resolve(), 'bytes: expected a Uint8Array, received a Promise'],
    ['no bytes', new Uint8Array(0), 'not a safetensors file: it has 0 bytes, and its first 8 are the length of the header'],
    ['a header that is too large', file('{}', [], 2 ** 40), 'not a safetensors file: a header of 1099511627776 bytes, at most 100000000'],
    ['half a header', file('{}', [], 3), 'not a safetensors file: cut off in its header: 10 bytes, the header ends at 11'],
    ['a zip file', file('PK'), "not a safetensors file: the header does not begin with '{'"],
    ['an empty header', file(''), "not a safetensors file: the header does not begin with '{'"],
    ['a header that is cut off', file('{"x":'), 'not a safetensors file: the header is no JSON: '],
    ['a header that goes on', file('{} {}'), 'not a safetensors file: the header is no JSON: '],
    ['metadata that are a list', file({ __metadata__: [] }), '__metadata__: expected an object of strings, received []'],
    ['metadata that are a number', file({ __metadata__: { a: 1 } }), "__metadata__ 'a': expected a string, received 1"],
    ['an entry that is a list', file({ x: [1] }), "tensor 'x': expected { dtype, shape, data_offsets } in the header, received [1]"],
    ['an unknown dtype', x({ dtype: 'F8_E4M3' }), "tensor 'x': dtype: expected one of F32, F16, I32, BOOL, BF16,"],
    ['a dtype that objects inherit', x({ dtype: 'toString' }), "tensor 'x': dtype: expected one of F32,"],
    [
      'no dtype',
      x({ dtype: undefined }),
      "tensor 'x': dtype: expected one of F32, F16, I32, BOOL, BF16, F64, I64, U64, U32, I16, U16, I8, U8, received undefined",
    ],
    ['half an element', x({ shape: [0.5] }), "tensor 'x': shape: expected a list of integers >= 0, received [0.5]"],
    ['a negative size', x({ shape: [-2] }), "tensor 'x': shape: expected a list of integers >= 0, received [-2]"],
    ['no shape', x({ shape: undefined }), "tensor 'x': shape: expected a list of integers >= 0, received undefined"],
    ['one offset', x({ data_offsets: [0] }), "tensor 'x': data_offsets: expected two integers >= 0, received [0]"],
    ['a negative offset', x({ data_offsets: [-1, 1] }), "tensor 'x': data_offsets: expected two integers >= 0, received [-1, 1]"],
    ['offsets the wrong way round', x({ data_offsets: [2, 0] }), "tensor 'x': data_offsets: expected 2 bytes for U8[2], received [2, 0]"],
    ['another size', x({ dtype: 'F32' }), "tensor 'x': data_offsets: expected 8 bytes for F32[2], received [0, 2]"],
    ['a size beyond numbers', x({ shape: [1e200, 1e200, 0] }), "tensor 'x': data_offsets: expected NaN bytes"],
    [
      'data that are cut off',
      pair([0, 2], [2, 4], 3),
      "tensor 'b': data_offsets: expected offsets within the 3 bytes of data (is the file cut off?)",
    ],
    [
      'an overlap',
      pair([0, 2], [1, 3], 3),
      "tensor 'b': data_offsets: expected tensors one after the other without overlap, this one from 2, received [1, 3]",
    ],
    [
      'tensors that share data',
      pair([0, 2], [0, 2], 2),
      "tensor 'b': data_offsets: expected tensors one after the other without overlap, this one from 2",
    ],
    [
      'an empty tensor within another',
      pair([0, 2], [1, 1], 2),
      "tensor 'b': data_offsets: expected tensors one after the other without overlap",
    ],
    [
      'a gap',
      pair([0, 2], [3, 4], 4),
      "tensor 'b': data_offsets: expected tensors one after the other without a gap, this one from 2, received [3, 4]",
    ],
    [
      'a gap at the start',
      pair([1, 2], [2, 4], 4),
      "tensor 'a': data_offsets: expected tensors one after the other without a gap, this one from 0",
    ],
    ['bytes at the end', pair([0, 1], [1, 2], 5), 'bytes: 3 bytes after the last tensor belong to none'],
    ['a number beyond float32', one('F64', [2], float64(1, -1e300)), "tensor 'x': expected numbers within float32, received -1e+300"],
    ['an I64 beyond int32', one('I64', [1], int64(2n ** 31n)), "tensor 'x': expected integers within 32 bits, received 2147483648"],
    ['a U64 beyond int32', one('U64', [1], int64(-1n)), "tensor 'x': expected integers within 32 bits, received 18446744073709551615"],
    ['a U32 beyond int32', one('U32', [1], [0, 0, 0, 0x80]), "tensor 'x': expected integers within 32 bits, received 2147483648"],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => decodeSafetensors(bytes as Uint8Array)).toThrow(`decodeSafetensors: ${message}`);
  });

  it('reads tensors without elements wherever others begin and end', () => {
    for (const [b, size] of [
      [[0, 0], 2],
      [[2, 2], 2],
    ] as const) {
      const { tensors } = decodeSafetensors(pair([0, 2], [...b], size));
      expect([tensors.a?.shape, tensors.b?.shape]).toEqual([[2], [0]]);
    }
  });

  it('refuses text that is not UTF-8', () => {
    const bytes = file('{"?":{}}');
    bytes[10] = 0xff;
    expect(() => decodeSafetensors(bytes)).toThrow('decodeSafetensors: not a safetensors file: the header is no JSON: ');
  });

  it('refuses big-endian processors, as does the encoder', () => {
    const bytes = encodeSafetensors({});
    vi.stubGlobal('Uint16Array', { of: () => ({ buffer: Uint8Array.of(0, 1).buffer }) });
    expect(() => decodeSafetensors(bytes)).toThrow('decodeSafetensors: big-endian processors are not supported');
    expect(() => encodeSafetensors({})).toThrow('encodeSafetensors: big-endian processors are not supported');
  });
});

describe('any tensors', () => {
  const dtypes: DType[] = ['float32', 'float16', 'int32', 'bool'];

  /** An array of any bits. */
  function draw(rng: Rng): NDArray {
    const dtype = dtypes[rng.int(4)] as DType;
    const shape = Array.from({ length: rng.int(4) }, () => rng.int(4));
    const size = sizeOf(shape);
    const words = Uint32Array.from({ length: size }, rng.u32);
    if (dtype === 'bool') return { data: Uint8Array.from(words, (word) => word & 1), shape, dtype };
    if (dtype === 'float16') return { data: Uint16Array.from(words), shape, dtype };
    return { data: dtype === 'int32' ? new Int32Array(words.buffer) : new Float32Array(words.buffer), shape, dtype };
  }
  const drawName = (rng: Rng): string => String.fromCodePoint(...Array.from({ length: rng.int(6) }, () => rng.int(0x10ffff)));
  const drawFile = (rng: Rng) => ({
    tensors: Object.fromEntries(Array.from({ length: rng.int(8) }, () => [drawName(rng), draw(rng)])),
    metadata: Object.fromEntries(Array.from({ length: rng.int(3) }, () => [drawName(rng), drawName(rng)])),
  });

  it('come back bit by bit, at aligned offsets', () => {
    for (let seed = 0; seed < 300; seed++) {
      const { tensors, metadata } = drawFile(createRng(seed));
      const bytes = encodeSafetensors(tensors, metadata);
      const back = decodeSafetensors(bytes);
      expect(back.metadata).toEqual(metadata);
      expect(Object.keys(back.tensors).sort()).toEqual(Object.keys(tensors).sort());
      const length = new DataView(bytes.buffer).getUint32(0, true);
      expect(length % 8).toBe(0);
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
      for (const [name, value] of Object.entries(tensors)) {
        const { shape, dtype, ...other } = back.tensors[name] as NDArray;
        expect({ shape, dtype, data: bytesOf({ shape, dtype, ...other }) }).toEqual({
          shape: value.shape,
          dtype: value.dtype,
          data: bytesOf(value),
        });
        const [begin, end] = header[name].data_offsets;
        expect(begin % value.data.BYTES_PER_ELEMENT).toBe(0);
        expect([...bytes.subarray(8 + length + begin, 8 + length + end)]).toEqual(bytesOf(value));
      }
      expect(encodeSafetensors(back.tensors, back.metadata)).toEqual(bytes);
    }
  });

  it('are refused or read, whatever happens to their bytes', () => {
    const rng = createRng(5);
    const bytes = encodeSafetensors({ a: array([1, 2]), b: array([true]) }, { k: 'v' });
    for (let size = 0; size < bytes.length; size++) {
      expect(() => decodeSafetensors(bytes.subarray(0, size))).toThrow(/^decodeSafetensors: /);
    }
    let refused = 0;
    for (let i = 0; i < 3000; i++) {
      const changed = bytes.slice();
      changed[rng.int(bytes.length)] = rng.int(256);
      try {
        decodeSafetensors(changed);
      } catch (error) {
        expect((error as Error).message).toMatch(/^decodeSafetensors: /);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(1500);
  });
});
