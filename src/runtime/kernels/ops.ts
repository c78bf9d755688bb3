import { largestOf } from '../../core/dtype.js';
import type { Node, Tensor } from '../../core/tensor.js';
import type { HostFunction } from './host.js';
import { type InstructionName, instructions, roundToEven } from './instructions.js';
import type { LoopBuilder, Value } from './loop.js';

/** Ops by name: a rule beside `emit` and `vjp` would be in the bundle of every program. */

const LARGEST = /* @__PURE__ */ largestOf('float32');

/** Ops that hand on their first input. Repetition is one of them, as an element is repeated where it is used. */
export const transparent: ReadonlySet<string> = /* @__PURE__ */ new Set(['reshape', 'broadcastTo', 'stopGradient', 'identity']);

/** On numbers of the host, float64; truth values are 1 and 0. */
const numbers: Readonly<Record<string, HostFunction>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  pow: (a, b) => a ** b,
  neg: (x) => -x,
  abs: Math.abs,
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
  square: (x) => x * x,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  exp: Math.exp,
  expm1: Math.expm1,
  log: Math.log,
  log1p: Math.log1p,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  relu: (x) => (x < 0 ? 0 : x),
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundToEven,
  equal: (a, b) => Number(a === b),
  greater: (a, b) => Number(a > b),
  greaterEqual: (a, b) => Number(a >= b),
  less: (a, b) => Number(a < b),
  lessEqual: (a, b) => Number(a <= b),
  logicalNot: (x) => 1 - x,
  logicalAnd: (a, b) => a * b,
  isFinite: (x) => Number(Math.abs(x) <= LARGEST),
  where: (condition, a, b) => (condition ? a : b),
};

/** Where 32-bit integers differ from other numbers: they wrap around, and quotients are truncated. */
const integers: typeof numbers = {
  add: (a, b) => (a + b) | 0,
  sub: (a, b) => (a - b) | 0,
  mul: Math.imul,
  div: (a, b) => (a / b) | 0,
  neg: (x) => -x | 0,
};

/** A number as one of `dtype`. What is computed from float32 numbers keeps its digits until it is stored. */
const conversions: Readonly<Record<string, HostFunction>> = {
  float32: Math.fround,
  // NaN and what is out of range become -2^31, as on x86 and so in ONNX Runtime there. Elsewhere that depends on the processor.
  int32: (x) => (x > -(2 ** 31) - 1 && x < 2 ** 31 ? x | 0 : -(2 ** 31)),
  bool: (x) => Number(Math.fround(x) !== 0),
};

export const convert = (dtype: string): HostFunction | undefined => conversions[dtype];

/** Whether a product with the reciprocal is as accurate as a division in float32: neither number may be subnormal, or 0. */
export const isInvertible = (x: number): boolean => Math.abs(x) >= 2 ** -126 && Math.abs(x) <= 2 ** 126;

/** These see numbers as float32 does, so that a guard holds for what arrays meet. */
const comparisons: ReadonlySet<string> = /* @__PURE__ */ new Set(['equal', 'greater', 'greaterEqual', 'less', 'lessEqual']);

/** How the host computes the result of a node from single numbers, or undefined. */
export function onHost({ op: { name }, attributes, inputs: [input], outputs: [output] }: Node): HostFunction | undefined {
  if (name === 'cast') return conversions[(attributes as { dtype: string }).dtype];
  if (name === 'clip') {
    const { min, max } = attributes as { min: number; max: number };
    const [low, high] = output?.dtype === 'float32' ? [Math.fround(min), Math.fround(max)] : [min, max];
    return (x) => Math.min(Math.max(x, low), high);
  }
  const compute = (output?.dtype === 'int32' && integers[name]) || numbers[name];
  if (!compute || !comparisons.has(name) || input?.dtype !== 'float32') return compute;
  return (a, b) => compute(Math.fround(a), Math.fround(b), 0);
}

type LoopRule = (loop: LoopBuilder, inputs: readonly Value[], node: Node) => Value;

type Unary = readonly [Value];
type Binary = readonly [Value, Value];
type Ternary = readonly [Value, Value, Value];

/** Ops that are not one instruction. */
const composed: Readonly<Record<string, LoopRule>> = {
  square: (loop, inputs) => {
    const [x] = inputs as Unary;
    return loop.op('mul', x, x);
  },
  reciprocal: (loop, inputs) => loop.op('div', loop.constant(1), ...inputs),
  rsqrt: (loop, inputs) => loop.op('div', loop.constant(1), loop.op('sqrt', ...inputs)),
  sign: (loop, inputs) => {
    const [x] = inputs as Unary;
    const zero = loop.constant(0);
    const below = loop.op('select', loop.constant(-1), zero, loop.op('greater', zero, x));
    return loop.op('select', loop.constant(1), below, loop.op('greater', x, zero));
  },
  relu: (loop, inputs) => loop.op('atLeast', ...inputs, loop.constant(0)),
  clip: (loop, inputs, { attributes }) => {
    const { min, max } = attributes as { min: number; max: number };
    const [x] = inputs as Unary;
    const above = min === -Infinity ? x : loop.op('atLeast', x, loop.constant(min));
    return max === Infinity ? above : loop.op('atMost', above, loop.constant(max));
  },
  less: (loop, inputs) => {
    const [a, b] = inputs as Binary;
    return loop.op('greater', b, a);
  },
  lessEqual: (loop, inputs) => {
    const [a, b] = inputs as Binary;
    return loop.op('greaterEqual', b, a);
  },
  isFinite: (loop, inputs) => loop.op('greaterEqual', loop.constant(LARGEST), loop.op('abs', ...inputs)),
  where: (loop, inputs) => {
    const [condition, a, b] = inputs as Ternary;
    return loop.op('select', a, b, condition);
  },
  cast: (loop, inputs, { outputs }) => {
    const [x] = inputs as Unary;
    // Between float32 and bool: others do not get into a loop.
    if ((outputs[0] as Tensor).dtype === 'bool') return loop.op('logicalNot', loop.op('equal', x, loop.constant(0)));
    return loop.op('select', loop.constant(1), loop.constant(0), x);
  },
};

const isInstruction = (name: string): name is InstructionName => Object.hasOwn(instructions, name);

/** How a loop computes the elements of a node's result, or undefined. */
export function inLoop({ op: { name } }: Node): LoopRule | undefined {
  return isInstruction(name) ? (loop, inputs) => loop.op(name, ...inputs) : composed[name];
}
