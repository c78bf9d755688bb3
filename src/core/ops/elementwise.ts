import { checkNumber, checkOneOf, checkOptions, outOfRange, wrongType } from '../errors.js';
import { broadcastShapes, type Shape, sameShape } from '../shape.js';
import { apply, checkFloat, checkTensor, type Op, type Tensor } from '../tensor.js';
import { beforeBroadcast, sumTo } from './broadcast.js';
import { isOne } from './constant.js';
import { cast, equal, greater, operands, type TensorOrNumber, where } from './select.js';

type UnaryOp<A = null> = Op<[Tensor], A>;
type BinaryOp = Op<[Tensor, Tensor], null>;

/** An elementwise function with a native ONNX op; `derivative(g, x, y)` is the cotangent of x. */
const unary = (name: string, type: string, derivative: (g: Tensor, x: Tensor, y: Tensor) => Tensor): UnaryOp => ({
  name,
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, inputs) => [graph.node(type, inputs)],
  vjp: ([g], { inputs: [x], outputs: [y] }) => [derivative(g, x, y)],
});

const float = (op: UnaryOp, x: Tensor): Tensor => apply(op, [checkFloat(op.name, 'x', x)], null)[0];

/** A broadcasting op; `derivative(g, a, b, y)` are the cotangents of a and b before broadcasting is undone. */
const binary = (name: string, type: string, derivative: (g: Tensor, a: Tensor, b: Tensor, y: Tensor) => [Tensor, Tensor]): BinaryOp => ({
  name,
  rewrite: beforeBroadcast,
  infer: ([a, b]) => [{ shape: broadcastShapes(a.shape, b.shape) as number[], dtype: a.dtype }],
  emit: (graph, inputs) => [graph.node(type, inputs)],
  vjp: ([g], { inputs: [a, b], outputs: [y] }) => {
    const [da, db] = derivative(g, a, b, y);
    return [sumTo(da, a.shape), sumTo(db, b.shape)];
  },
});

/** A product with 1 is the other factor. The cotangent of a sum is a Tensor of ones, so gradients begin with such products. */
function withoutOnes(op: BinaryOp): BinaryOp {
  return {
    ...op,
    rewrite: (node) => {
      const shape = broadcastShapes(node.inputs[0].shape, node.inputs[1].shape) as Shape;
      const other = node.inputs.find((x, i) => isOne(node.inputs[1 - i] as Tensor) && sameShape(x.shape, shape));
      return other ? [other] : beforeBroadcast(node);
    },
  };
}

function arithmetic(op: BinaryOp, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  const inputs = operands(op.name, a, b);
  if (inputs[0].dtype === 'bool') throw wrongType(op.name, 'a', 'a numeric Tensor (cast a mask first)', inputs[0]);
  return apply(op, inputs, null)[0];
}

const addOp = /* @__PURE__ */ binary('add', 'Add', (g) => [g, g]);
const subOp = /* @__PURE__ */ binary('sub', 'Sub', (g) => [g, neg(g)]);
const mulOp: BinaryOp = /* @__PURE__ */ withoutOnes(/* @__PURE__ */ binary('mul', 'Mul', (g, a, b) => [mul(g, b), mul(g, a)]));
const divOp = /* @__PURE__ */ binary('div', 'Div', (g, _, b, y) => [div(g, b), neg(mul(div(g, b), y))]);
const maximumOp = /* @__PURE__ */ binary('maximum', 'Max', (g, a, b) => [mul(g, share(a, b)), mul(g, share(b, a))]);
const minimumOp = /* @__PURE__ */ binary('minimum', 'Min', (g, a, b) => [mul(g, share(b, a)), mul(g, share(a, b))]);

/** 1 where a > b, 1/2 where they are equal, 0 elsewhere. */
const share = (a: Tensor, b: Tensor): Tensor => where(equal(a, b), 0.5, cast(greater(a, b), a.dtype));

/** `a + b`, with broadcasting. */
export const add = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(addOp, a, b);
/** `a - b`, with broadcasting. */
export const sub = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(subOp, a, b);
/** `a * b`, with broadcasting. */
export const mul = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(mulOp, a, b);
/** `a / b`, with broadcasting; int32 truncates towards zero. Guard a `b` that may be 0 with {@link where}. */
export const div = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(divOp, a, b);
/** The larger of `a` and `b`, with broadcasting. Where they are equal each gets half of the gradient. */
export const maximum = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(maximumOp, a, b);
/** The smaller of `a` and `b`, with broadcasting. Where they are equal each gets half of the gradient. */
export const minimum = (a: TensorOrNumber, b: TensorOrNumber): Tensor => arithmetic(minimumOp, a, b);

const negOp: UnaryOp = {
  name: 'neg',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  // WebGPU has no Neg of integers.
  emit: (graph, [x], { inputs: [{ dtype }] }) => [
    dtype === 'int32' ? graph.node('Sub', [graph.scalar(0, dtype), x]) : graph.node('Neg', [x]),
  ],
  vjp: ([g]) => [neg(g)],
};
const expOp = /* @__PURE__ */ unary('exp', 'Exp', (g, _, y) => mul(g, y));
const logOp = /* @__PURE__ */ unary('log', 'Log', (g, x) => div(g, x));
const sqrtOp = /* @__PURE__ */ unary('sqrt', 'Sqrt', (g, _, y) => div(mul(g, 0.5), y));
const tanhOp = /* @__PURE__ */ unary('tanh', 'Tanh', (g, _, y) => mul(g, sub(1, square(y))));
const sigmoidOp = /* @__PURE__ */ unary('sigmoid', 'Sigmoid', (g, _, y) => mul(g, mul(y, sub(1, y))));
// From y, not x: the runtime then fuses relu into the product or convolution before it.
const reluOp = /* @__PURE__ */ unary('relu', 'Relu', (g, _, y) => mul(g, cast(greater(y, 0), y.dtype)));
const erfOp = /* @__PURE__ */ unary('erf', 'Erf', (g, x) => mul(g, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))));

/** e to the power of x. */
export const exp = (x: Tensor): Tensor => float(expOp, x);
/** Natural logarithm. Guard an `x` that may be <= 0 with {@link where}: devices differ in what they return there. */
export const log = (x: Tensor): Tensor => float(logOp, x);
/** Square root. Its gradient at 0 is infinite; guard with {@link where}. */
export const sqrt = (x: Tensor): Tensor => float(sqrtOp, x);
/** Hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor => float(tanhOp, x);
/** `1 / (1 + exp(-x))` */
export const sigmoid = (x: Tensor): Tensor => float(sigmoidOp, x);
/** `max(x, 0)`; the derivative at 0 is 0. */
export const relu = (x: Tensor): Tensor => float(reluOp, x);
/** The error function, `2/sqrt(pi)` times the integral of `exp(-t^2)` from 0 to x. */
export const erf = (x: Tensor): Tensor => float(erfOp, x);

const squareOp: UnaryOp = {
  name: 'square',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, [x]) => [graph.node('Mul', [x, x])],
  vjp: ([g], { inputs: [x] }) => [mul(mul(g, 2), x)],
};

/** `x * x`, of a float Tensor. */
export const square = (x: Tensor): Tensor => float(squareOp, x);

const expm1Op: UnaryOp = {
  name: 'expm1',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, [x], { inputs: [{ dtype }] }) => {
    const number = (value: number) => graph.scalar(value, dtype);
    const power = graph.node('Exp', [x]);
    if (graph.device !== 'webgpu') {
      // tanh(x/2) (exp(x) + 1), which keeps its digits where exp(x) - 1 cancels.
      const half = graph.node('Tanh', [graph.node('Mul', [x, number(0.5)])]);
      return [graph.node('Mul', [half, graph.node('Add', [power, number(1)])])];
    }
    // There tanh is computed from exp and has no digits near 0 either: the power series, x (1 + x/2 (1 + x/3 (1 + ...))).
    let series = number(1);
    for (let n = 9; n > 1; n--) series = graph.node('Add', [graph.node('Mul', [series, graph.node('Mul', [x, number(1 / n)])]), number(1)]);
    const near = graph.node('Less', [graph.node('Abs', [x]), number(0.5)]);
    return [graph.node('Where', [near, graph.node('Mul', [series, x]), graph.node('Sub', [power, number(1)])])];
  },
  vjp: ([g], { outputs: [y] }) => [mul(g, add(y, 1))],
};

/** `exp(x) - 1`, with full relative accuracy near 0. */
export const expm1 = (x: Tensor): Tensor => float(expm1Op, x);

const absOp: UnaryOp = {
  name: 'abs',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  // WebGPU has no Abs of integers.
  emit: (graph, [x], { inputs: [{ dtype }] }) => [
    dtype === 'int32' ? graph.node('Max', [x, graph.node('Sub', [graph.scalar(0, dtype), x])]) : graph.node('Abs', [x]),
  ],
  vjp: ([g], { inputs: [x] }) => [mul(g, sign(x))],
};

const signOp: UnaryOp = {
  name: 'sign',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  // ONNX's Sign runs on the CPU where the rest runs on WebGPU.
  emit: (graph, [x], { inputs: [{ dtype }] }) => {
    const [zero, one, minusOne] = [0, 1, -1].map((value) => graph.scalar(value, dtype)) as [string, string, string];
    const below = graph.node('Where', [graph.node('Less', [x, zero]), minusOne, zero]);
    return [graph.node('Where', [graph.node('Greater', [x, zero]), one, below])];
  },
  vjp: () => [undefined],
};

const numeric = (op: UnaryOp, x: Tensor): Tensor => {
  if (checkTensor(op.name, 'x', x).dtype === 'bool') throw wrongType(op.name, 'x', 'a numeric Tensor', x);
  return apply(op, [x], null)[0];
};

/** `-x`, of a float or int32 Tensor. */
export const neg = (x: Tensor): Tensor => numeric(negOp, x);
/** `|x|`, of a float or int32 Tensor; the derivative at 0 is 0. */
export const abs = (x: Tensor): Tensor => numeric(absOp, x);
/** 1, 0 or -1, of a float or int32 Tensor; its derivative is 0. 0 for NaN. */
export const sign = (x: Tensor): Tensor => numeric(signOp, x);

const reciprocalOp = /* @__PURE__ */ unary('reciprocal', 'Reciprocal', (g, _, y) => neg(mul(g, square(y))));
const sinOp = /* @__PURE__ */ unary('sin', 'Sin', (g, x) => mul(g, cos(x)));
const cosOp = /* @__PURE__ */ unary('cos', 'Cos', (g, x) => neg(mul(g, sin(x))));

/** `1 / x` */
export const reciprocal = (x: Tensor): Tensor => float(reciprocalOp, x);
/** Sine of x in radians. GPUs are accurate to about 1e-4 only. */
export const sin = (x: Tensor): Tensor => float(sinOp, x);
/** Cosine of x in radians. GPUs are accurate to about 1e-4 only. */
export const cos = (x: Tensor): Tensor => float(cosOp, x);

const rsqrtOp: UnaryOp = {
  name: 'rsqrt',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, inputs) => [graph.node('Reciprocal', [graph.node('Sqrt', inputs)])],
  vjp: ([g], { outputs: [y] }) => [mul(mul(g, -0.5), mul(y, square(y)))],
};

/** `1 / sqrt(x)` */
export const rsqrt = (x: Tensor): Tensor => float(rsqrtOp, x);

const log1pOp: UnaryOp = {
  name: 'log1p',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  // Near 0 as 2 atanh(z) with z = x / (2 + x): 2 z (1 + z^2/3 + z^4/5 + ...), where log(1 + x) has lost the digits of x.
  emit: (graph, [x], { inputs: [{ dtype }] }) => {
    const number = (value: number) => graph.scalar(value, dtype);
    const z = graph.node('Div', [x, graph.node('Add', [x, number(2)])]);
    const z2 = graph.node('Mul', [z, z]);
    let series = number(1 / 15);
    for (let n = 13; n >= 1; n -= 2) series = graph.node('Add', [graph.node('Mul', [series, z2]), number(1 / n)]);
    const near = graph.node('Mul', [graph.node('Mul', [series, z]), number(2)]);
    const far = graph.node('Log', [graph.node('Add', [x, number(1)])]);
    return [graph.node('Where', [graph.node('Less', [graph.node('Abs', [x]), number(0.5)]), near, far])];
  },
  vjp: ([g], { inputs: [x] }) => [div(g, add(x, 1))],
};

/** `log(1 + x)`, with full relative accuracy near 0. Guard an `x` that may be <= -1 with {@link where}. */
export const log1p = (x: Tensor): Tensor => float(log1pOp, x);

/** A step function: no gradient. */
const rounding = (name: string, type: string): UnaryOp => ({
  name,
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, inputs) => [graph.node(type, inputs)],
  vjp: () => [undefined],
});

const floorOp = /* @__PURE__ */ rounding('floor', 'Floor');
const ceilOp = /* @__PURE__ */ rounding('ceil', 'Ceil');
const roundOp: UnaryOp = {
  name: 'round',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  // ONNX's Round runs on the CPU where the rest runs on WebGPU.
  emit: (graph, [x], { inputs: [{ dtype }] }) => {
    const number = (value: number) => graph.scalar(value, dtype);
    const floor = graph.node('Floor', [x]);
    const rest = graph.node('Sub', [x, floor]);
    const half = graph.node('Mul', [floor, number(0.5)]);
    const odd = graph.node('Greater', [graph.node('Sub', [half, graph.node('Floor', [half])]), number(0.25)]);
    const next = graph.node('Add', [floor, number(1)]);
    const even = graph.node('Where', [odd, next, floor]);
    const nearest = graph.node('Where', [graph.node('Greater', [rest, number(0.5)]), next, floor]);
    return [graph.node('Where', [graph.node('Equal', [rest, number(0.5)]), even, nearest])];
  },
  vjp: () => [undefined],
};

/** The largest integer <= x, as a float. Derivative 0. */
export const floor = (x: Tensor): Tensor => float(floorOp, x);
/** The smallest integer >= x, as a float. Derivative 0. */
export const ceil = (x: Tensor): Tensor => float(ceilOp, x);
/** The nearest integer, as a float; half-way cases go to the even one, as in PyTorch. Derivative 0. */
export const round = (x: Tensor): Tensor => float(roundOp, x);

const powOp: BinaryOp = {
  name: 'pow',
  rewrite: beforeBroadcast,
  infer: ([a, b]) => [{ shape: broadcastShapes(a.shape, b.shape) as number[], dtype: a.dtype }],
  // WebGPU's Pow fails where both operands are repeated.
  emit: (graph, inputs, { inputs: operands, outputs: [{ shape }] }) => {
    const both = operands.every((x) => !sameShape(x.shape, shape));
    const [a, b] = both ? inputs.map((x) => graph.node('Expand', [x, graph.ints(shape)])) : inputs;
    return [graph.node('Pow', [a as string, b as string])];
  },
  vjp: ([g], { inputs: [a, b], outputs: [y] }) => {
    // Where b is 0 the derivative by a is 0, and where a is 0 that by b; neither may become 0 times infinity.
    const da = mul(b, pow(where(equal(b, 0), 1, a), sub(b, 1)));
    const positive = greater(a, 0);
    const db = where(positive, mul(y, log(where(positive, a, 1))), 0);
    return [sumTo(mul(g, da), a.shape), sumTo(mul(g, db), b.shape)];
  },
};

/**
 * `a` to the power of `b`, with broadcasting, both float. The gradient with respect to `b` is 0 where `a <= 0`. Numbers 1, 2, 3, -1, 0.5 and
 * -0.5 as `b` are written as products, reciprocals and roots, which are much faster. A negative `a` needs an integer `b`.
 */
export function pow(a: TensorOrNumber, b: TensorOrNumber): Tensor {
  if (typeof a !== 'number' && typeof b === 'number') {
    const x = checkFloat('pow', 'a', a);
    const short: Record<number, () => Tensor> = {
      1: () => x,
      2: () => square(x),
      3: () => mul(square(x), x),
      [-1]: () => reciprocal(x),
      0.5: () => sqrt(x),
      [-0.5]: () => rsqrt(x),
    };
    const written = short[b];
    if (written) return written();
  }
  const inputs = operands('pow', a, b);
  checkFloat('pow', typeof a === 'number' ? 'b' : 'a', inputs[0]);
  return apply(powOp, inputs, null)[0];
}

export interface ClipOptions {
  /** Default: no lower bound. */
  min?: number;
  /** Default: no upper bound. */
  max?: number;
}

const clipOp: UnaryOp<{ min: number; max: number }> = {
  name: 'clip',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, [x], { inputs: [{ dtype }], attributes: { min, max } }) => {
    const above = min === -Infinity ? x : graph.node('Max', [x, graph.scalar(min, dtype)]);
    return [max === Infinity ? above : graph.node('Min', [above, graph.scalar(max, dtype)])];
  },
  vjp: ([g], { inputs: [x], outputs: [y] }) => [mul(g, cast(equal(x, y), x.dtype))],
};

/**
 * `x` limited to `[min, max]`. The gradient passes where x lies in it, bounds included, as in PyTorch.
 *
 * @param x float or int32
 * @throws if no bound is given, or min > max
 */
export function clip(x: Tensor, options: ClipOptions): Tensor {
  checkTensor('clip', 'x', x);
  checkOptions('clip', options, ['min', 'max']);
  const { min = -Infinity, max = Infinity } = options;
  if (x.dtype === 'bool') throw wrongType('clip', 'x', 'a numeric Tensor', x);
  if (min === -Infinity && max === Infinity) throw outOfRange('clip', 'options', 'min or max', options);
  for (const [name, bound] of Object.entries(options)) {
    checkNumber('clip', name, bound, x.dtype === 'int32' ? 'an integer' : 'a number', (b) => x.dtype !== 'int32' || Number.isInteger(b));
  }
  if (min > max) throw outOfRange('clip', 'min', `at most max, which is ${max}`, min);
  return apply(clipOp, [x], { min, max })[0];
}

export interface GeluOptions {
  /** `'none'` (default): with the error function; `'tanh'`: the faster approximation of GPT-2 and BERT. */
  approximate?: 'none' | 'tanh';
}

const geluOp: UnaryOp<{ approximate: 'none' | 'tanh' }> = {
  name: 'gelu',
  rewrite: beforeBroadcast,
  infer: ([x]) => [x],
  emit: (graph, inputs, { attributes }) => [graph.node('Gelu', inputs, { approximate: attributes.approximate })],
  vjp: ([g], { inputs: [x], attributes }) => {
    if (attributes.approximate === 'none') {
      const cdf = mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5);
      const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      return [mul(g, add(cdf, mul(x, density)))];
    }
    // y = x s with s = sigmoid(2u) = (1 + tanh u) / 2, so y' = s + 2 x s (1 - s) u'. In this order nothing overflows that a 0 meets.
    const k = Math.sqrt(2 / Math.PI);
    const x2 = square(x);
    const s = sigmoid(mul(x, add(mul(x2, 2 * k * 0.044715), 2 * k)));
    const slope = add(mul(x2, 6 * k * 0.044715), 2 * k);
    return [mul(g, add(s, mul(mul(mul(x, s), sub(1, s)), slope)))];
  },
};

/**
 * Gaussian error linear unit, `x * Phi(x)` with the standard normal distribution function Phi.
 *
 * Source: Gaussian Error Linear Units (1606.08415).
 */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions('gelu', options, ['approximate']);
  const { approximate = 'none' } = options;
  checkOneOf('gelu', 'approximate', approximate, ['none', 'tanh']);
  return apply(geluOp, [checkFloat('gelu', 'x', x)], { approximate })[0];
}
