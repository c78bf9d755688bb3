import { checkOneOf, checkOptions, wrongType } from '../errors.js';
import { broadcastShapes } from '../shape.js';
import { checkFloat, checkTensor, type Op, type Tensor } from '../tensor.js';
import { applyElementwise, sumTo } from './broadcast.js';
import { cast, equal, greater, operands, type TensorOrNumber, where } from './select.js';

type UnaryOp<A = null> = Op<[Tensor], A>;
type BinaryOp = Op<[Tensor, Tensor], null>;

/** An elementwise function with a native ONNX op; `derivative(g, x, y)` is the cotangent of x. */
const unary = (name: string, type: string, derivative: (g: Tensor, x: Tensor, y: Tensor) => Tensor): UnaryOp => ({
  name,
  infer: ([x]) => [x],
  emit: (graph, inputs) => [graph.node(type, inputs)],
  vjp: ([g], { inputs: [x], outputs: [y] }) => [derivative(g, x, y)],
});

const float = (op: UnaryOp, x: Tensor): Tensor => applyElementwise(op, [checkFloat(op.name, 'x', x)], null);

/** A broadcasting op; `derivative(g, a, b, y)` are the cotangents of a and b before broadcasting is undone. */
const binary = (name: string, type: string, derivative: (g: Tensor, a: Tensor, b: Tensor, y: Tensor) => [Tensor, Tensor]): BinaryOp => ({
  name,
  infer: ([a, b]) => [{ shape: broadcastShapes(a.shape, b.shape) as number[], dtype: a.dtype }],
  emit: (graph, inputs) => [graph.node(type, inputs)],
  vjp: ([g], { inputs: [a, b], outputs: [y] }) => {
    const [da, db] = derivative(g, a, b, y);
    return [sumTo(da, a.shape), sumTo(db, b.shape)];
  },
});

function arithmetic(op: BinaryOp, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  const inputs = operands(op.name, a, b);
  if (inputs[0].dtype === 'bool') throw wrongType(op.name, 'a', 'a numeric Tensor (cast a mask first)', inputs[0]);
  return applyElementwise(op, inputs, null);
}

const addOp = /* @__PURE__ */ binary('add', 'Add', (g) => [g, g]);
const subOp = /* @__PURE__ */ binary('sub', 'Sub', (g) => [g, neg(g)]);
const mulOp = /* @__PURE__ */ binary('mul', 'Mul', (g, a, b) => [mul(g, b), mul(g, a)]);
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

/** `-x` */
export function neg(x: Tensor): Tensor {
  checkTensor('neg', 'x', x);
  if (x.dtype === 'bool') throw wrongType('neg', 'x', 'a numeric Tensor', x);
  return applyElementwise(negOp, [x], null);
}
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
  infer: ([x]) => [x],
  emit: (graph, [x]) => [graph.node('Mul', [x, x])],
  vjp: ([g], { inputs: [x] }) => [mul(mul(g, 2), x)],
};

/** `x * x`, of a float Tensor. */
export const square = (x: Tensor): Tensor => float(squareOp, x);

const expm1Op: UnaryOp = {
  name: 'expm1',
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

export interface GeluOptions {
  /** `'none'` (default): with the error function; `'tanh'`: the faster approximation of GPT-2 and BERT. */
  approximate?: 'none' | 'tanh';
}

const geluOp: UnaryOp<{ approximate: 'none' | 'tanh' }> = {
  name: 'gelu',
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
  return applyElementwise(geluOp, [checkFloat('gelu', 'x', x)], { approximate });
}
