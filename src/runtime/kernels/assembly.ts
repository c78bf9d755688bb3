/** Parts of a WebAssembly module. Operands of an instruction stand before it. */
export type Bytes = readonly number[];

/** LEB128. */
export function unsigned(value: number): Bytes {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

function signed(value: number): Bytes {
  return value >= -64 && value < 64 ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)];
}

/** With the number of bytes before them. */
export const sized = (content: Bytes): Bytes => [...unsigned(content.length), ...content];
export const list = (items: readonly Bytes[]): Bytes => [...unsigned(items.length), ...items.flat()];
export const text = (value: string): Bytes => list([...value].map((character) => [character.charCodeAt(0)]));
export const section = (id: number, items: readonly Bytes[]): Bytes => [id, ...sized(list(items))];

export const I32 = 0x7f;
export const F32 = 0x7d;
export const V128 = 0x7b;
export const functionType = (parameters: Bytes): Bytes => [0x60, ...sized(parameters), 0];

export const END: Bytes = [0x0b];
export const when = (condition: Bytes, content: Bytes): Bytes => [...condition, 0x04, 0x40, ...content, ...END];
export const repeatWhile = (condition: Bytes, content: Bytes): Bytes =>
  when(condition, [0x03, 0x40, ...content, ...condition, 0x0d, 0, ...END]);

export const get = (local: number): Bytes => [0x20, ...unsigned(local)];
export const set = (local: number): Bytes => [0x21, ...unsigned(local)];
export const i32 = (value: number): Bytes => [0x41, ...signed(value)];
export const I32_GREATER: Bytes = [0x4a];
export const I32_GREATER_EQUAL: Bytes = [0x4e];
export const I32_ADD: Bytes = [0x6a];
export const F32_MAX: Bytes = [0x97];
export const F64_ADD: Bytes = [0xa0];
export const F64_OF_F32: Bytes = [0xbb];
export const f64Store = (offset: number): Bytes => [0x39, 3, ...unsigned(offset)];

export const simd = (opcode: number, ...immediates: Bytes): Bytes => [0xfd, ...unsigned(opcode), ...immediates];
/** Aligned to 2^4 bytes, at the very address. */
export const LOAD = simd(0x00, 4, 0);
export const STORE = simd(0x0b, 4, 0);
export const i32x4 = (lanes: Bytes): Bytes => simd(0x0c, ...lanes.flatMap((lane) => [lane, 0, 0, 0]));
export const I32X4_SPLAT = simd(0x11);
export const I32X4_LESS = simd(0x39);
export const F32X4_SPLAT = simd(0x13);
export const F32X4_NOT_EQUAL = simd(0x42);
export const F32X4_MAX = simd(0xe9);
export const F64X2_ADD = simd(0xf0);
export const AND = simd(0x4e);
/** The first operand where the third has ones, else the second. */
export const SELECT = simd(0x52);
/** The first two lanes in float64. */
export const PROMOTE = simd(0x5f);
/** The last two lanes in front, of two equal operands. */
export const SWAP = simd(0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
export const f32Lane = (lane: number): Bytes => simd(0x1f, lane);
export const f64Lane = (lane: number): Bytes => simd(0x21, lane);
/** -Infinity in all lanes. */
export const LOWEST: Bytes = [0x43, 0, 0, 0x80, 0xff, ...F32X4_SPLAT];
