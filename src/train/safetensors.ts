import { type ArrayLike, type NDArray, toNDArray } from '../core/array.js';
import { allocate, byteSize, type TypedArray, toFloat16Bits } from '../core/dtype.js';
import { outOfRange, wrongType } from '../core/errors.js';
import { checkShape, type Shape, sizeOf } from '../core/shape.js';

/** What a safetensors file holds. */
export interface Safetensors {
  /** Arrays by name. */
  readonly tensors: Readonly<Record<string, NDArray>>;
  /** Free text by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The element types that can be read: how they are stored, and what they become. */
const formats = {
  F32: { dtype: 'float32', storage: Float32Array },
  F16: { dtype: 'float16', storage: Uint16Array },
  I32: { dtype: 'int32', storage: Int32Array },
  BOOL: { dtype: 'bool', storage: Uint8Array },
  BF16: { dtype: 'float32', storage: Uint16Array },
  F64: { dtype: 'float32', storage: Float64Array },
  I64: { dtype: 'int32', storage: BigInt64Array },
  U64: { dtype: 'int32', storage: BigUint64Array },
  U32: { dtype: 'int32', storage: Uint32Array },
  I16: { dtype: 'int32', storage: Int16Array },
  U16: { dtype: 'int32', storage: Uint16Array },
  I8: { dtype: 'int32', storage: Int8Array },
  U8: { dtype: 'int32', storage: Uint8Array },
} as const;

/** The element types that are written. */
const written = { float32: 'F32', float16: 'F16', int32: 'I32', bool: 'BOOL' } as const;

const METADATA = '__metadata__';

/** The length of the header comes first, as a 64-bit integer. */
const PREFIX = 8;

/** The format's limit, against headers that take all memory. */
const MAX_HEADER = 100_000_000;

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

function checkMetadata(fn: string, argument: string, metadata: unknown): asserts metadata is Record<string, string> {
  if (!isRecord(metadata)) throw wrongType(fn, argument, 'an object of strings', metadata);
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') throw wrongType(fn, `${argument} '${key}'`, 'a string', value);
  }
}

/** Files are little-endian, and arrays are copied as they lie in memory. */
function checkHost(fn: string): void {
  if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) throw new Error(`${fn}: big-endian processors are not supported`);
}

/** Any byte but 0 is true. */
const truths = (bytes: TypedArray): Uint8Array => Uint8Array.from(bytes, (byte) => (byte === 0 ? 0 : 1));

/** Numbers rounded to a float dtype; a finite one that would become infinite is an error. */
export function roundFloats(fn: string, argument: string, numbers: Float32Array | Float64Array, dtype: 'float32' | 'float16'): TypedArray {
  const data = allocate(dtype, numbers.length);
  numbers.forEach((value, i) => {
    const rounded = dtype === 'float16' ? toFloat16Bits(value) : Math.fround(value);
    const finite = dtype === 'float16' ? (rounded & 0x7c00) !== 0x7c00 : Number.isFinite(rounded);
    if (Number.isFinite(value) && !finite) throw outOfRange(fn, argument, `numbers within ${dtype}`, value);
    data[i] = rounded;
  });
  return data;
}

/**
 * Arrays by name as the bytes of a safetensors file, which PyTorch and most other frameworks can read.
 *
 * float32, float16, int32 and bool are stored as F32, F16, I32 and BOOL, bit by bit. The same arguments give the same bytes.
 *
 * @param tensors arrays by name; the name `__metadata__` is the format's own
 * @param metadata free text by name
 * @throws if a tensor is no array, or metadata are no texts
 * @example
 * ```ts
 * import { array } from 'tracegrad';
 * import { encodeSafetensors } from 'tracegrad/train';
 *
 * const bytes = encodeSafetensors({ 'head.weight': array([[1, 2], [3, 4]]), 'head.bias': array([0, 0]) }, { author: 'me' });
 * ```
 */
export function encodeSafetensors(
  tensors: Readonly<Record<string, ArrayLike>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const fn = 'encodeSafetensors';
  checkHost(fn);
  if (!isRecord(tensors)) throw wrongType(fn, 'tensors', 'a record of arrays by name', tensors);
  checkMetadata(fn, 'metadata', metadata);
  if (Object.hasOwn(tensors, METADATA)) throw new TypeError(`${fn}: tensors: '${METADATA}' is no name for a tensor in this format`);
  // The widest elements first: then all of them are aligned.
  const arrays = Object.entries(tensors)
    .map(([name, value]) => [name, toNDArray(fn, `tensor '${name}'`, value)] as const)
    .sort(([, a], [, b]) => byteSize(b.dtype) - byteSize(a.dtype));
  let size = 0;
  const entries = arrays.map(([name, { shape, dtype, data }]) => {
    const begin = size;
    size += data.byteLength;
    return [name, { dtype: written[dtype], shape, data_offsets: [begin, size] }] as const;
  });
  const described = Object.keys(metadata).length > 0 ? [[METADATA, metadata] as const] : [];
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries([...described, ...entries])));
  const length = Math.ceil(header.length / 8) * 8;
  if (length > MAX_HEADER) throw outOfRange(fn, 'tensors', `names and metadata of at most ${MAX_HEADER} bytes`, length);
  const bytes = new Uint8Array(PREFIX + length + size);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(header, PREFIX);
  bytes.fill(0x20, PREFIX + header.length, PREFIX + length);
  let offset = PREFIX + length;
  for (const [, { data, dtype }] of arrays) {
    const stored = dtype === 'bool' ? truths(data) : data;
    bytes.set(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength), offset);
    offset += stored.byteLength;
  }
  return bytes;
}

/** What the header says of a tensor. */
interface Entry {
  readonly name: string;
  readonly format: keyof typeof formats;
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}

function parseHeader(fn: string, bytes: Uint8Array): { header: Record<string, unknown>; data: Uint8Array } {
  const malformed = (reason: string, cause?: unknown): Error => new Error(`${fn}: not a safetensors file: ${reason}`, { cause });
  if (bytes.length < PREFIX) throw malformed(`it has ${bytes.length} bytes, and its first ${PREFIX} are the length of the header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true) + 2 ** 32 * view.getUint32(4, true);
  if (length > MAX_HEADER) throw malformed(`a header of ${length} bytes, at most ${MAX_HEADER} are allowed`);
  const start = PREFIX + length;
  if (bytes.length < start) throw malformed(`cut off in its header: ${bytes.length} bytes, the header ends at ${start}`);
  if (bytes[PREFIX] !== 0x7b) throw malformed("the header does not begin with '{'");
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(PREFIX, start)));
  } catch (cause) {
    throw malformed(`the header is no JSON: ${(cause as Error).message}`, cause);
  }
  return { header: header as Record<string, unknown>, data: bytes.subarray(start) };
}

const isOffsets = (value: unknown): value is [number, number] =>
  Array.isArray(value) && value.length === 2 && value.every((offset) => Number.isSafeInteger(offset) && offset >= 0);

function parseEntry(fn: string, name: string, value: unknown): Entry {
  const argument = `tensor '${name}'`;
  if (!isRecord(value)) throw wrongType(fn, argument, '{ dtype, shape, data_offsets } in the header', value);
  const { dtype: format, shape, data_offsets: offsets } = value;
  if (typeof format !== 'string' || !Object.hasOwn(formats, format)) {
    throw outOfRange(fn, `${argument}: dtype`, `one of ${Object.keys(formats).join(', ')}`, format);
  }
  checkShape(fn, `${argument}: shape`, shape);
  if (!isOffsets(offsets)) throw wrongType(fn, `${argument}: data_offsets`, 'two integers >= 0', offsets);
  const [begin, end] = offsets;
  const needed = sizeOf(shape) * formats[format as keyof typeof formats].storage.BYTES_PER_ELEMENT;
  if (end - begin !== needed) {
    throw outOfRange(fn, `${argument}: data_offsets`, `${needed} bytes for ${format}[${shape.join(', ')}]`, offsets);
  }
  return { name, format: format as keyof typeof formats, shape, begin, end };
}

/** Tensors lie one after the other and fill the file: nothing is shared, nothing hidden between them. */
function checkLayout(fn: string, entries: readonly Entry[], size: number): void {
  let end = 0;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const argument = `tensor '${entry.name}': data_offsets`;
    if (entry.end > size)
      throw outOfRange(fn, argument, `offsets within the ${size} bytes of data (is the file cut off?)`, [entry.begin, entry.end]);
    if (entry.begin !== end) {
      const fault = entry.begin < end ? 'without overlap' : 'without a gap';
      throw outOfRange(fn, argument, `tensors one after the other ${fault}, this one from ${end}`, [entry.begin, entry.end]);
    }
    end = entry.end;
  }
  if (end !== size) throw new RangeError(`${fn}: bytes: ${size - end} bytes after the last tensor belong to none`);
}

/** The array of an entry; its data are copied, as they need not be aligned. */
function readEntry(fn: string, { name, format, shape, begin, end }: Entry, bytes: Uint8Array): NDArray {
  const argument = `tensor '${name}'`;
  const { dtype, storage } = formats[format];
  const stored = new storage(new Uint8Array(bytes.subarray(begin, end)).buffer);
  const data =
    format === 'BF16'
      ? new Float32Array(Uint32Array.from(stored as Uint16Array, (pattern) => pattern << 16).buffer)
      : format === 'F64'
        ? roundFloats(fn, argument, stored as Float64Array, 'float32')
        : format === 'BOOL'
          ? truths(stored as Uint8Array)
          : stored;
  return toNDArray(fn, argument, { data, shape, dtype });
}

/** {@link decodeSafetensors} on behalf of `fn`, which errors name. */
export function readSafetensors(fn: string, bytes: Uint8Array): Safetensors {
  checkHost(fn);
  if (!(bytes instanceof Uint8Array)) throw wrongType(fn, 'bytes', 'a Uint8Array', bytes);
  const { header, data } = parseHeader(fn, bytes);
  const { [METADATA]: metadata = {}, ...described } = header;
  checkMetadata(fn, METADATA, metadata);
  const entries = Object.entries(described).map(([name, value]) => parseEntry(fn, name, value));
  checkLayout(fn, entries, data.length);
  return { tensors: Object.fromEntries(entries.map((entry) => [entry.name, readEntry(fn, entry, data)])), metadata };
}

/**
 * The arrays of a safetensors file, copied out of its bytes.
 *
 * F32, F16, I32 and BOOL are taken bit by bit (any byte of BOOL but 0 is true). BF16 becomes float32, and so does F64,
 * rounded; other integers, signed or not, of 8 to 64 bits become int32.
 *
 * @throws if the bytes are no complete, well-formed file, a type is not one of these, or a number is beyond the range of
 *   float32 or int32
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { decodeSafetensors } from 'tracegrad/train';
 *
 * const { tensors, metadata } = decodeSafetensors(await readFile('model.safetensors'));
 * console.log(Object.keys(tensors), metadata);
 * ```
 */
export const decodeSafetensors = (bytes: Uint8Array): Safetensors => readSafetensors('decodeSafetensors', bytes);
