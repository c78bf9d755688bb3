import { type DType, isDType, isFloat, largestOf } from '../dtype.js';
import { outOfRange, wrongType } from '../errors.js';
import { broadcastShapes } from '../shape.js';
import { apply, checkFloat, checkTensor, type Op, type Tensor } from '../tensor.js';
import { beforeBroadcast, sumTo } from './broadcast.js';
import { toTensor } from './constant.js';

/** A Tensor, or a number: a constant of the other operand's dtype. */
export type TensorOrNumber = Tensor | number;

/** The operands of a binary op as Tensors of one dtype, after the checks that all of them share. */
export function operands(fn: string, a: TensorOrNumber, b: TensorOrNumber, names = ['a', 'b'] as const): [Tensor, Tensor] {
  const other = typeof a === 'number' ? b : a;
  const dtype: DType = typeof other === 'number' ? 'float32' : checkTensor(fn, names[typeof a === 'number' ? 1 : 0], other).dtype;
  const x = toTensor(fn, names[0], a, dtype);
  const y = toTensor(fn, names[1], b, dtype);
  if (x.dtype !== y.dtype) {
    throw new TypeError(`${fn}: ${names[0]} is ${x.dtype} and ${names[1]} is ${y.dtype}; convert one of them with cast()`);
  }
  if (!broadcastShapes(x.shape, y.shape)) {
    throw new RangeError(
      `${fn}: the shapes of ${names[0]} [${x.shape.join(', ')}] and ${names[1]} [${y.shape.join(', ')}] do not broadcast`,
    );
  }
  return [x, y];
}

type BinaryOp = Op<[Tensor, Tensor], null>;

const comparison = (name: string, type: string): BinaryOp => ({
  name,
  rewrite: beforeBroadcast,
  infer: ([a, b]) => [{ shape: broadcastShapes(a.shape, b.shape) as number[], dtype: 'bool' }],
  emit: (graph, inputs) => [graph.node(type, inputs)],
});

const equalOp = /* @__PURE__ */ comparison('equal', 'Equal');
const greaterOp = /* @__PURE__ */ comparison('greater', 'Greater');
const greaterEqualOp = /* @__PURE__ */ comparison('greaterEqual', 'GreaterOrEqual');
const lessOp = /* @__PURE__ */ comparison('less', 'Less');
const lessEqualOp = /* @__PURE__ */ comparison('lessEqual', 'LessOrEqual');

function compare(op: BinaryOp, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  const inputs = operands(op.name, a, b);
  if (inputs[0].dtype === 'bool') throw wrongType(op.name, 'a', 'a numeric Tensor', inputs[0]);
  return apply(op, inputs, null)[0];
}

/** `a == b`, elementwise with broadcasting, as bool. No gradient. NaN equals nothing. */
export const equal = (a: TensorOrNumber, b: TensorOrNumber): Tensor => compare(equalOp, a, b);
/** `a != b`, elementwise with broadcasting, as bool. No gradient. */
export const notEqual = (a: TensorOrNumber, b: TensorOrNumber): Tensor => logicalNot(equal(a, b));
/** `a > b`, elementwise with broadcasting, as bool. No gradient. */
export const greater = (a: TensorOrNumber, b: TensorOrNumber): Tensor => compare(greaterOp, a, b);
/** `a >= b`, elementwise with broadcasting, as bool. No gradient. */
export const greaterEqual = (a: TensorOrNumber, b: TensorOrNumber): Tensor => compare(greaterEqualOp, a, b);
/** `a < b`, elementwise with broadcasting, as bool. No gradient. */
export const less = (a: TensorOrNumber, b: TensorOrNumber): Tensor => compare(lessOp, a, b);
/** `a <= b`, elementwise with broadcasting, as bool. No gradient. */
export const lessEqual = (a: TensorOrNumber, b: TensorOrNumber): Tensor => compare(lessEqualOp, a, b);

const notOp: Op<[Tensor], null> = {
  name: 'logicalNot',
  rewrite: beforeBroadcast,
  infer: ([x]) => [{ shape: x.shape, dtype: 'bool' }],
  emit: (graph, inputs) => [graph.node('Not', inputs)],
};

const andOp = /* @__PURE__ */ comparison('logicalAnd', 'And');

const checkBool = (fn: string, argument: string, value: unknown): Tensor => {
  const tensor = checkTensor(fn, argument, value);
  if (tensor.dtype !== 'bool') throw wrongType(fn, argument, 'a bool Tensor', tensor);
  return tensor;
};

/** Elementwise negation of a bool Tensor. */
export const logicalNot = (x: Tensor): Tensor => apply(notOp, [checkBool('logicalNot', 'x', x)], null)[0];

/** Elementwise conjunction of two bool Tensors, with broadcasting. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  checkBool('logicalAnd', 'a', a);
  return apply(andOp, operands('logicalAnd', a, b), null)[0];
}

/** Elementwise disjunction of two bool Tensors, with broadcasting. (ONNX's Or runs on the CPU where the rest runs on WebGPU.) */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  checkBool('logicalOr', 'a', a);
  checkBool('logicalOr', 'b', b);
  return logicalNot(logicalAnd(logicalNot(a), logicalNot(b)));
}

/** Where exactly one of two bool Tensors holds, with broadcasting. */
export function logicalXor(a: Tensor, b: Tensor): Tensor {
  checkBool('logicalXor', 'a', a);
  checkBool('logicalXor', 'b', b);
  return logicalAnd(logicalOr(a, b), logicalNot(logicalAnd(a, b)));
}

const isFiniteOp: Op<[Tensor], null> = {
  name: 'isFinite',
  rewrite: beforeBroadcast,
  infer: ([x]) => [{ shape: x.shape, dtype: 'bool' }],
  emit: (graph, [x], { inputs: [{ dtype }] }) => [
    graph.node('LessOrEqual', [graph.node('Abs', [x]), graph.scalar(largestOf(dtype), dtype)]),
  ],
};

/** Where a float Tensor is neither NaN nor infinite. */
// biome-ignore lint/suspicious/noShadowRestrictedNames: the field's name for it
export function isFinite(x: Tensor): Tensor {
  return apply(isFiniteOp, [checkFloat('isFinite', 'x', x)], null)[0];
}

const whereOp: Op<[Tensor, Tensor, Tensor], null> = {
  name: 'where',
  rewrite: beforeBroadcast,
  infer: ([condition, a, b]) => [
    { shape: broadcastShapes(condition.shape, broadcastShapes(a.shape, b.shape) as number[]) as number[], dtype: a.dtype },
  ],
  emit: (graph, inputs) => [graph.node('Where', inputs)],
  vjp: ([g], { inputs: [condition, a, b] }) => [undefined, sumTo(where(condition, g, 0), a.shape), sumTo(where(condition, 0, g), b.shape)],
};

/**
 * `a` where `condition` holds, `b` elsewhere, with broadcasting. The branch that is not taken gets gradient 0. What
 * lies behind that branch still multiplies this 0 by its own derivative, which is NaN where the derivative
 * is infinite: guard the input as well, `where(ok, log(where(ok, x, 1)), 0)`.
 *
 * @param condition bool
 * @param a float or int32; numbers take the dtype of the other branch
 */
export function where(condition: Tensor, a: TensorOrNumber, b: TensorOrNumber): Tensor {
  checkBool('where', 'condition', condition);
  const [x, y] = operands('where', a, b);
  const values = broadcastShapes(x.shape, y.shape) as number[];
  if (!broadcastShapes(condition.shape, values)) {
    throw new RangeError(
      `where: the shapes of condition [${condition.shape.join(', ')}] and of the values [${values.join(', ')}] do not broadcast`,
    );
  }
  return apply(whereOp, [condition, x, y], null)[0];
}

const onnxType: Record<DType, number> = { float32: 1, float16: 10, int32: 6, bool: 9 };

const castOp: Op<[Tensor], { dtype: DType }> = {
  name: 'cast',
  rewrite: beforeBroadcast,
  infer: ([x], { dtype }) => [{ shape: x.shape, dtype }],
  emit: (graph, [x], { attributes }) => [graph.node('Cast', [x], { to: onnxType[attributes.dtype] })],
  vjp: ([g], { inputs: [x] }) => [isFloat(x.dtype) && isFloat(g.dtype) ? cast(g, x.dtype) : undefined],
};

/**
 * Converts to another dtype. Float to int32 truncates towards zero, to bool is `x != 0`; bool to a number is 0 or 1. The
 * gradient passes between float dtypes and stops at the others.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkTensor('cast', 'x', x);
  if (!isDType(dtype)) throw outOfRange('cast', 'dtype', "'float32', 'float16', 'int32' or 'bool'", dtype);
  return x.dtype === dtype ? x : apply(castOp, [x], { dtype })[0];
}
