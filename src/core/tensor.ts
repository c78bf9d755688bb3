import type { DType } from './dtype.js';
import { isFloat } from './dtype.js';
import { wrongType } from './errors.js';
import type { Shape } from './shape.js';

/** Shape and dtype. */
export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}

const brand: unique symbol = Symbol.for('tracegrad.tensor');

/**
 * A value of a traced program: an edge of the ONNX graph that is being written.
 *
 * It holds no numbers. It knows its shape and dtype and the {@link Node} that produces it; a graph is
 * whatever is reachable from its outputs.
 */
export class Tensor implements Spec {
  readonly [brand] = true;

  /** @internal Tensors are made by ops. */
  constructor(
    readonly shape: Shape,
    readonly dtype: DType,
    readonly node: Node,
    readonly index: number,
  ) {}

  get rank(): number {
    return this.shape.length;
  }
}

/** One operation of a traced program, as data. Rewriting a graph is building new nodes. */
export interface Node<I extends readonly Tensor[] = readonly Tensor[], A = unknown, O extends readonly Tensor[] = readonly Tensor[]> {
  readonly op: AnyOp;
  readonly inputs: I;
  readonly attributes: A;
  readonly outputs: O;
}

// biome-ignore lint/suspicious/noExplicitAny: a node holds an op of any signature
export type AnyOp = Op<any, any, any>;

type Each<T extends readonly Tensor[], V> = { readonly [K in keyof T]: V };

/**
 * An operation: its shape rule, its ONNX nodes and its backward rule, side by side. It captures nothing;
 * nodes hold the op itself, so what a program does not import is not in its bundle.
 *
 * @typeParam I its inputs
 * @typeParam A its attributes, plain data
 * @typeParam O its outputs
 */
export interface Op<I extends readonly Tensor[] = readonly Tensor[], A = unknown, O extends readonly Tensor[] = [Tensor]> {
  readonly name: string;
  /** Leaves are told apart by identity: they stand for values that are supplied from outside. */
  readonly leaf?: true;
  /** Shape and dtype of every output. Arguments were checked by the public function. */
  infer(inputs: I, attributes: A): Each<O, Spec>;
  /** Writes the ONNX nodes; `inputs` and the result are value names. */
  emit(graph: Emitter, inputs: Each<I, string>, node: Node<I, A, O>): Each<O, string>;
  /**
   * Cotangents of the inputs from those of the outputs, built from ops again. `undefined` stands for zero;
   * a cotangent of the only output is never undefined. `wanted` says which inputs' cotangents are used, for rules whose result
   * is more than what is asked for. Without a rule the op has no gradient.
   */
  vjp?(
    cotangents: O extends readonly [Tensor] ? readonly [Tensor] : Each<O, Tensor | undefined>,
    node: Node<I, A, O>,
    wanted: Each<I, boolean>,
  ): Each<I, Tensor | undefined>;
  /**
   * A simpler graph for this node, built before a graph is written and after everything was differentiated: a Tensor that the
   * program holds must stay part of it until then.
   */
  rewrite?(node: Omit<Node<I, A, O>, 'outputs'>): O | undefined;
  /** Multiply-adds times two, where they dominate; for choosing the number of threads. */
  flops?(node: Node<I, A, O>): number;
}

/** An ONNX attribute: integers, integer lists, strings; floats are wrapped to tell them from integers. */
export type Attribute = number | readonly number[] | string | { readonly float: number };

/** What an op's `emit` writes with. Returned and accepted strings are value names. */
export interface Emitter {
  /** `'webgpu'` where a formulation differs by execution provider. */
  readonly device: string;
  /** Adds a node with one output. */
  node(type: string, inputs: readonly string[], attributes?: Record<string, Attribute>): string;
  /** Adds a node with `count` outputs. */
  nodes(type: string, inputs: readonly string[], count: number, attributes?: Record<string, Attribute>): string[];
  /** A one-dimensional int64 initializer: shapes, axes, pads. */
  ints(values: readonly number[]): string;
  /** A scalar initializer. */
  scalar(value: number, dtype: DType): string;
  /** An initializer. */
  initializer(data: ArrayBufferView, shape: Shape, dtype: DType): string;
  /** Emits another Tensor, of the same trace or built from its Tensors, or finds it if it was: ops can be written with ops. */
  value(tensor: Tensor): string;
  /** Asks the runtime to check the values fed to a leaf before every run. Ignored for other Tensors. */
  check(tensor: Tensor, check: RangeCheck): void;
}

/** Values that a graph input may take; what else comes is an error of `fn` about `argument`. */
export interface RangeCheck {
  readonly fn: string;
  readonly argument: string;
  readonly min: number;
  /** Inclusive. */
  readonly max: number;
  /** One value outside the range that is allowed too. */
  readonly except?: number;
}

/** Builds a node and returns its outputs. */
export function apply<I extends readonly Tensor[], A, O extends readonly Tensor[]>(op: Op<I, A, O>, inputs: I, attributes: A): O {
  const outputs: Tensor[] = [];
  const node = { op, inputs, attributes, outputs };
  for (const { shape, dtype } of op.infer(inputs, attributes)) outputs.push(new Tensor(shape, dtype, node, outputs.length));
  return outputs as unknown as O;
}

/** Whether `value` is a Tensor. Throws for one of another copy of this package: their ops do not mix. */
export function isTensor(value: unknown): value is Tensor {
  if (value instanceof Tensor) return true;
  if (typeof value === 'object' && value !== null && brand in value) {
    throw new TypeError(
      'tracegrad is loaded twice: a Tensor made by one copy of the package was given to the other. Check for two installed versions (npm ls tracegrad) or a mix of bundled and unbundled imports.',
    );
  }
  return false;
}

/** `value`, checked to be a Tensor. */
export function checkTensor(fn: string, argument: string, value: unknown): Tensor {
  if (value === undefined) throw wrongType(fn, argument, 'a Tensor (is a parameter missing?)', value);
  if (!isTensor(value)) throw wrongType(fn, argument, 'a Tensor', value);
  return value;
}

/** `value`, checked to be a Tensor of a floating-point dtype. */
export function checkFloat(fn: string, argument: string, value: unknown): Tensor {
  const tensor = checkTensor(fn, argument, value);
  if (!isFloat(tensor.dtype)) throw wrongType(fn, argument, 'a float32 or float16 Tensor', tensor);
  return tensor;
}
