import * as wasm from './assembly.js';
import { type Bytes, get, set } from './assembly.js';
import { instructions } from './instructions.js';
import type { LoopCode } from './loop.js';

/**
 * A function (count, address of results, addresses of arrays, scalars). Arrays are aligned to vectors of four lanes and have memory up
 * to the end of the last one. Several vectors per iteration were no faster: loops wait for memory, divisions and roots.
 */
function encodeLoop({ instructions: lines, arrays, scalars, reductions, stores }: LoopCode): { type: Bytes; body: Bytes } {
  const [count, results, firstArray, firstScalar] = [0, 1, 2, 2 + arrays];
  const firstValue = firstScalar + scalars;
  const mask = firstValue + lines.length;
  // A sum in float64 takes two vectors, a maximum the first of them.
  const accumulators = reductions.map((_, r) => [mask + 1 + 2 * r, mask + 2 + 2 * r] as const);
  const locals = lines.length + 1 + 2 * reductions.length;

  const splat = lines.flatMap(({ name, operands: [operand = 0] }, i): Bytes => {
    if (name !== 'scalar' && name !== 'flag') return [];
    const number = [...get(firstScalar + operand), ...wasm.F32X4_SPLAT];
    return [...number, ...(name === 'flag' ? [...wasm.i32x4([0, 0, 0, 0]), ...wasm.F32X4_NOT_EQUAL] : []), ...set(firstValue + i)];
  });
  const start = reductions.flatMap(({ kind }, r) => (kind === 'max' ? [...wasm.LOWEST, ...set(accumulators[r]?.[0] as number)] : []));

  /** What is done with a vector; `masked` where only some of its lanes hold elements. */
  const body = (masked: boolean): Bytes => {
    const compute = lines.map(({ name, operands }, i): Bytes => {
      if (name === 'scalar' || name === 'flag') return [];
      if (name === 'load') return [...get(firstArray + (operands[0] as number)), ...wasm.LOAD, ...set(firstValue + i)];
      const given = operands.flatMap((operand) => get(firstValue + operand));
      return [...given, ...wasm.simd(instructions[name].opcode), ...set(firstValue + i)];
    });
    const reduce = reductions.map(({ kind, value }, r): Bytes => {
      const [low, high] = accumulators[r] as readonly [number, number];
      const lanes = get(firstValue + value);
      if (kind === 'max') {
        const present = masked ? [...lanes, ...wasm.LOWEST, ...get(mask), ...wasm.SELECT] : lanes;
        return [...present, ...get(low), ...wasm.F32X4_MAX, ...set(low)];
      }
      const present = masked ? [...lanes, ...get(mask), ...wasm.AND] : lanes;
      const add = (two: Bytes, to: number): Bytes => [...two, ...wasm.PROMOTE, ...get(to), ...wasm.F64X2_ADD, ...set(to)];
      return [...add(present, low), ...add([...present, ...present, ...wasm.SWAP], high)];
    });
    const write = stores.map(({ array, value }): Bytes => {
      const present = masked ? [...get(mask), ...wasm.AND] : [];
      return [...get(firstArray + array), ...get(firstValue + value), ...present, ...wasm.STORE];
    });
    return [...compute, ...reduce, ...write].flat();
  };
  const add = (local: number, value: number): Bytes => [...get(local), ...wasm.i32(value), ...wasm.I32_ADD, ...set(local)];
  const advance = [...Array.from({ length: arrays }, (_, a) => add(firstArray + a, 16)), add(count, -4)].flat();
  const whole = wasm.repeatWhile([...get(count), ...wasm.i32(4), ...wasm.I32_GREATER_EQUAL], [...body(false), ...advance]);
  const lanes = [...wasm.i32x4([0, 1, 2, 3]), ...get(count), ...wasm.I32X4_SPLAT, ...wasm.I32X4_LESS, ...set(mask)];
  const rest = wasm.when([...get(count), ...wasm.i32(0), ...wasm.I32_GREATER], [...lanes, ...body(true)]);

  const finish = reductions.flatMap(({ kind }, r): Bytes => {
    const [low, high] = accumulators[r] as readonly [number, number];
    const halves = [low, high].flatMap((local) => [0, 1].map((lane) => [...get(local), ...wasm.f64Lane(lane)]));
    const quarters = [0, 1, 2, 3].map((lane) => [...get(low), ...wasm.f32Lane(lane)]);
    const joined = (parts: readonly Bytes[], op: Bytes): Bytes => parts.flatMap((part, i) => (i === 0 ? part : [...part, ...op]));
    const total = kind === 'sum' ? joined(halves, wasm.F64_ADD) : [...joined(quarters, wasm.F32_MAX), ...wasm.F64_OF_F32];
    return [...get(results), ...total, ...wasm.f64Store(8 * r)];
  });

  const declared = wasm.list([[...wasm.unsigned(locals), wasm.V128]]);
  return {
    type: wasm.functionType([...Array(2 + arrays).fill(wasm.I32), ...Array(scalars).fill(wasm.F32)]),
    body: wasm.sized([...declared, ...splat, ...start, ...whole, ...rest, ...finish, ...wasm.END]),
  };
}

/** A WebAssembly module with one function per loop, named by its index, which works in the memory `m.m`. */
export function encodeModule(loops: readonly LoopCode[]): Uint8Array<ArrayBuffer> {
  const functions = loops.map(encodeLoop);
  const types = functions.map(({ type }) => type);
  const memory = [...wasm.text('m'), ...wasm.text('m'), 2, 0, 0];
  const names = functions.map((_, i) => [...wasm.text(String(i)), 0, ...wasm.unsigned(i)]);
  const bodies = functions.map(({ body }) => body);
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...wasm.section(1, types),
    ...wasm.section(2, [memory]),
    ...wasm.section(
      3,
      functions.map((_, i) => wasm.unsigned(i)),
    ),
    ...wasm.section(7, names),
    ...wasm.section(10, bodies),
  ]);
}
