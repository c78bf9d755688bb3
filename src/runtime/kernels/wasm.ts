import { instructions } from './instructions.js';
import type { LoopCode, ReductionKind } from './loop.js';

/** Bytes of WebAssembly. */
type Bytes = readonly number[];

/** LEB128. */
function unsigned(value: number): Bytes {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

function signed(value: number): Bytes {
  return value >= -64 && value < 64 ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)];
}

const list = (items: readonly Bytes[]): Bytes => [...unsigned(items.length), ...items.flat()];
const section = (id: number, items: readonly Bytes[]): Bytes => sized([id], list(items));
const sized = (before: Bytes, content: Bytes): Bytes => [...before, ...unsigned(content.length), ...content];
const text = (value: string): Bytes => list([...value].map((character) => [character.charCodeAt(0)]));

const I32 = 0x7f;
const F32 = 0x7d;
const V128 = 0x7b;

const get = (local: number): Bytes => [0x20, ...unsigned(local)];
const set = (local: number): Bytes => [0x21, ...unsigned(local)];
const i32 = (value: number): Bytes => [0x41, ...signed(value)];
const I32_GREATER = 0x4a;
const I32_GREATER_EQUAL = 0x4e;
const I32_ADD = 0x6a;
const F32_MAX = 0x97;
const F64_ADD = 0xa0;
const F64_OF_F32 = 0xbb;
const END = 0x0b;

const simd = (opcode: number, ...immediates: Bytes): Bytes => [0xfd, ...unsigned(opcode), ...immediates];
/** 2^4 is the alignment. */
const load = (offset: number): Bytes => simd(0x00, 4, ...unsigned(offset));
const store = (offset: number): Bytes => simd(0x0b, 4, ...unsigned(offset));
const i32x4 = (lanes: Bytes): Bytes => simd(0x0c, ...lanes.flatMap((lane) => [lane, 0, 0, 0]));
const ZEROS = i32x4([0, 0, 0, 0]);
/** -Infinity in all lanes. */
const LOWEST: Bytes = [0x43, 0, 0, 0x80, 0xff, ...simd(0x13)];
const I32X4_SPLAT = simd(0x11);
const I32X4_LESS = simd(0x39);
const F32X4_SPLAT = simd(0x13);
const F32X4_NOT_EQUAL = simd(0x42);
const F32X4_MAX = simd(0xe9);
const F64X2_ADD = simd(0xf0);
const AND = simd(0x4e);
const SELECT = simd(0x52);
/** The first two lanes in float64. */
const PROMOTE = simd(0x5f);
/** Both halves of the first operand, swapped. */
const SWAP = simd(0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
const f32Lane = (lane: number): Bytes => simd(0x1f, lane);
const f64Lane = (lane: number): Bytes => simd(0x21, lane);

/**
 * Vectors per iteration. Loops are bound by memory or by the latency of sums; more than two at a time measured no better.
 */
const UNROLL = 2;

/** Locals that a reduction adds up in: float64 sums have two lanes each. */
const WIDTH: Readonly<Record<ReductionKind, number>> = { sum: 2, max: 1 };

/** A function (count, address of results, addresses of arrays, scalars). Arrays are aligned to vectors and end on whole ones. */
function encodeLoop({ instructions: list_, arrays, scalars, reductions, stores }: LoopCode): { type: Bytes; body: Bytes } {
  const [count, results, firstArray, firstScalar] = [0, 1, 2, 2 + arrays];
  const firstValue = firstScalar + scalars;
  const mask = firstValue + list_.length;
  // Every vector of an iteration has accumulators of its own, so that additions need not wait for each other.
  const accumulators: number[][][] = [];
  let locals = mask + 1;
  for (let vector = 0; vector < UNROLL; vector++) {
    accumulators.push(reductions.map(({ kind }) => Array.from({ length: WIDTH[kind] }, () => locals++)));
  }

  const before = list_.flatMap(({ name, operands: [operand = 0] }, i) => {
    if (name !== 'scalar' && name !== 'flag') return [];
    const splat = [...get(firstScalar + operand), ...F32X4_SPLAT];
    return [...splat, ...(name === 'flag' ? [...ZEROS, ...F32X4_NOT_EQUAL] : []), ...set(firstValue + i)];
  });
  const lowest = accumulators.flatMap((of) =>
    reductions.flatMap(({ kind }, r) => (kind === 'max' ? [...LOWEST, ...set(of[r]?.[0] as number)] : [])),
  );

  const reduce = (kind: ReductionKind, value: number, [low, high]: readonly number[], masked: boolean): Bytes => {
    if (kind === 'max') {
      const lanes = masked ? [...get(value), ...LOWEST, ...get(mask), ...SELECT] : get(value);
      return [...get(low as number), ...lanes, ...F32X4_MAX, ...set(low as number)];
    }
    const lanes = masked ? [...get(value), ...get(mask), ...AND] : get(value);
    const add = (half: Bytes, to: number): Bytes => [...lanes, ...half, ...PROMOTE, ...get(to), ...F64X2_ADD, ...set(to)];
    return [...add([], low as number), ...add([...get(value), ...SWAP], high as number)];
  };

  /** What is done with one vector. */
  const body = (vector: number, masked: boolean): Bytes => [
    ...list_.flatMap(({ name, operands }, i) => {
      if (name === 'scalar' || name === 'flag') return [];
      const result = set(firstValue + i);
      if (name === 'load') return [...get(firstArray + (operands[0] as number)), ...load(16 * vector), ...result];
      return [...operands.flatMap((operand) => get(firstValue + operand)), ...simd(instructions[name].opcode), ...result];
    }),
    ...reductions.flatMap(({ kind, value }, r) => reduce(kind, firstValue + value, accumulators[vector]?.[r] as number[], masked)),
    ...stores.flatMap(({ array, value }) => [
      ...get(firstArray + array),
      ...get(firstValue + value),
      ...(masked ? [...get(mask), ...AND] : []),
      ...store(16 * vector),
    ]),
  ];

  const advance = (vectors: number): Bytes => [
    ...Array.from({ length: arrays }, (_, a) => [...get(firstArray + a), ...i32(16 * vectors), I32_ADD, ...set(firstArray + a)]).flat(),
    ...[...get(count), ...i32(-4 * vectors), I32_ADD, ...set(count)],
  ];
  /** if (condition) do { ... } while (condition) */
  const loopWhile = (condition: Bytes, content: Bytes): Bytes => [
    ...[...condition, 0x04, 0x40, 0x03, 0x40],
    ...content,
    ...[...condition, 0x0d, 0, END, END],
  ];
  const whole = loopWhile(
    [...get(count), ...i32(4 * UNROLL), I32_GREATER_EQUAL],
    [...Array.from({ length: UNROLL }, (_, vector) => body(vector, false)).flat(), ...advance(UNROLL)],
  );
  // The rest, with a mask of the lanes that there are elements for.
  const rest = loopWhile(
    [...get(count), ...i32(0), I32_GREATER],
    [...i32x4([0, 1, 2, 3]), ...get(count), ...I32X4_SPLAT, ...I32X4_LESS, ...set(mask), ...body(0, true), ...advance(1)],
  );

  const after = reductions.flatMap(({ kind }, r) => {
    const [first, ...others] = accumulators.flatMap((of) => of[r] as number[]) as [number, ...number[]];
    const joined = [
      ...get(first),
      ...others.flatMap((other) => [...get(other), ...(kind === 'sum' ? F64X2_ADD : F32X4_MAX)]),
      ...set(first),
    ];
    const total =
      kind === 'sum'
        ? [...get(first), ...f64Lane(0), ...get(first), ...f64Lane(1), F64_ADD]
        : [...[0, 1, 2, 3].flatMap((lane) => [...get(first), ...f32Lane(lane), ...(lane > 0 ? [F32_MAX] : [])]), F64_OF_F32];
    return [...joined, ...get(results), ...total, 0x39, 3, ...unsigned(8 * r)];
  });

  const parameters = [...Array(2 + arrays).fill([I32]), ...Array(scalars).fill([F32])] as Bytes[];
  const declared = list([[...unsigned(locals - firstValue), V128]]);
  return {
    type: [0x60, ...list(parameters), 0],
    body: sized([], [...declared, ...before, ...lowest, ...whole, ...rest, ...after, END]),
  };
}

/** A WebAssembly module with one function per loop, named by its index, which works in the memory `m.m`. */
export function encodeModule(loops: readonly LoopCode[]): Uint8Array<ArrayBuffer> {
  const functions = loops.map(encodeLoop);
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      functions.map(({ type }) => type),
    ),
    ...section(2, [[...text('m'), ...text('m'), 2, 0, 0]]),
    ...section(
      3,
      functions.map((_, i) => unsigned(i)),
    ),
    ...section(
      7,
      functions.map((_, i) => [...text(String(i)), 0, ...unsigned(i)]),
    ),
    ...section(
      10,
      functions.map(({ body }) => body),
    ),
  ]);
}
