/**
 * Element types of Tensors and arrays.
 *
 * Labels, indices and counts are `int32` (64-bit integers do not run on WebGPU); masks are `bool`, one byte
 * per element; `float16` is stored as its bit pattern in a `Uint16Array`.
 */
export type DType = 'float32' | 'float16' | 'int32' | 'bool';

/** The typed array that holds elements of a dtype. */
export interface DTypeData {
  float32: Float32Array;
  float16: Uint16Array;
  int32: Int32Array;
  bool: Uint8Array;
}

export type TypedArray = DTypeData[DType];

const storage = { float32: Float32Array, float16: Uint16Array, int32: Int32Array, bool: Uint8Array };

/** Whether `value` names a dtype. */
export const isDType = (value: unknown): value is DType => typeof value === 'string' && Object.hasOwn(storage, value);

/** Whether a dtype is a floating-point one, so that gradients exist for it. */
export const isFloat = (dtype: DType): boolean => dtype === 'float32' || dtype === 'float16';

/** Bytes per element. */
export const byteSize = (dtype: DType): number => storage[dtype].BYTES_PER_ELEMENT;

/** The largest finite number of a float dtype. */
export const largestOf = (dtype: DType): number => (dtype === 'float16' ? 65504 : 3.4028234663852886e38);

/** A zero-filled typed array of `length` elements. */
export const allocate = (dtype: DType, length: number): TypedArray => new storage[dtype](length);

/** Whether `data` is the typed array that stores `dtype`. */
export const isStorageOf = (dtype: DType, data: unknown): data is TypedArray => data instanceof storage[dtype];

const scratch = /* @__PURE__ */ new DataView(/* @__PURE__ */ new ArrayBuffer(4));

/** The bit pattern of a number rounded to float32. */
function float32Bits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

/** The float16 bit pattern nearest to `value` (ties to even). */
export function toFloat16Bits(value: number): number {
  const pattern = float32Bits(value);
  const sign = (pattern >>> 16) & 0x8000;
  const magnitude = pattern & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // Adding 1/2 in float32 puts the bits of a subnormal result at the end of the fraction, rounded to even.
  if (magnitude < 0x38800000) return sign | (float32Bits(Math.abs(value) + 0.5) - 0x3f000000);
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | (rounded >= 0x47800000 ? 0x7c00 : (rounded - 0x38000000) >>> 13);
}

/** The number that a float16 bit pattern stands for. */
export function fromFloat16Bits(pattern: number): number {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >>> 10) & 31;
  const fraction = pattern & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent ? sign * 2 ** (exponent - 25) * (1024 + fraction) : sign * 2 ** -24 * fraction;
}
