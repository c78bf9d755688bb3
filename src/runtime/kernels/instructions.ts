/** What a loop does to elements: as one WebAssembly instruction on four lanes, and on a block of elements. */
interface Instruction {
  /** After the prefix 0xfd of SIMD instructions. */
  readonly opcode: number;
  /** Fills `y`. Masks are 1 and 0 here, all bits and none in WebAssembly. Writing to a Float32Array rounds as float32 does. */
  readonly block: (y: Float32Array, a: Float32Array, b: Float32Array, c: Float32Array) => void;
}

type Block = Instruction['block'];

const at = (x: Float32Array, i: number): number => x[i] as number;

/** The nearest integer; half-way cases go to the even one. */
export function roundToEven(x: number): number {
  const nearest = Math.round(x); // half-way cases go up
  return nearest - x === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}

// A loop each: with one loop that calls a function per element the interpreter would be five times slower.
const add: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) + at(b, i);
};
const sub: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) - at(b, i);
};
const mul: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) * at(b, i);
};
const div: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) / at(b, i);
};
const maximum: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.max(at(a, i), at(b, i));
};
const minimum: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.min(at(a, i), at(b, i));
};
const atLeast: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) < at(b, i) ? at(b, i) : at(a, i);
};
const atMost: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(b, i) < at(a, i) ? at(b, i) : at(a, i);
};
const neg: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = -at(a, i);
};
const abs: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.abs(at(a, i));
};
const sqrt: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.sqrt(at(a, i));
};
const floor: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.floor(at(a, i));
};
const ceil: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = Math.ceil(at(a, i));
};
const round: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = roundToEven(at(a, i));
};
const equal: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) === at(b, i) ? 1 : 0;
};
const greater: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) > at(b, i) ? 1 : 0;
};
const greaterEqual: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) >= at(b, i) ? 1 : 0;
};
const logicalNot: Block = (y, a) => {
  for (let i = 0; i < y.length; i++) y[i] = 1 - at(a, i);
};
const logicalAnd: Block = (y, a, b) => {
  for (let i = 0; i < y.length; i++) y[i] = at(a, i) * at(b, i);
};
const select: Block = (y, a, b, mask) => {
  for (let i = 0; i < y.length; i++) y[i] = at(mask, i) ? at(a, i) : at(b, i);
};

/** Names are those of ops where one does the same. */
export const instructions = {
  add: { opcode: 0xe4, block: add },
  sub: { opcode: 0xe5, block: sub },
  mul: { opcode: 0xe6, block: mul },
  div: { opcode: 0xe7, block: div },
  maximum: { opcode: 0xe9, block: maximum },
  minimum: { opcode: 0xe8, block: minimum },
  /** The second operand where the first is smaller: unlike maximum a single instruction on x86, and NaN stays NaN. */
  atLeast: { opcode: 0xeb, block: atLeast },
  atMost: { opcode: 0xea, block: atMost },
  neg: { opcode: 0xe1, block: neg },
  abs: { opcode: 0xe0, block: abs },
  sqrt: { opcode: 0xe3, block: sqrt },
  floor: { opcode: 0x68, block: floor },
  ceil: { opcode: 0x67, block: ceil },
  round: { opcode: 0x6a, block: round },
  equal: { opcode: 0x41, block: equal },
  greater: { opcode: 0x44, block: greater },
  greaterEqual: { opcode: 0x46, block: greaterEqual },
  logicalNot: { opcode: 0x4d, block: logicalNot },
  logicalAnd: { opcode: 0x4e, block: logicalAnd },
  /** The first operand where the third, a mask, holds, else the second. */
  select: { opcode: 0x52, block: select },
} satisfies Record<string, Instruction>;

export type InstructionName = keyof typeof instructions;
