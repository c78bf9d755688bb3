import type { NDArray } from '../../core/array.js';
import { topologicalOrder } from '../../core/graph.js';
import { type HostCompute, hostInputOp } from '../../core/leaf.js';
import { sizeOf } from '../../core/shape.js';
import type { Node, Spec, Tensor } from '../../core/tensor.js';
import { type HostFunction, HostProgram } from './host.js';
import { type Loop, LoopBuilder, type ReductionKind, type Value } from './loop.js';
import { inLoop, onHost, transparent } from './ops.js';

/** A number that the host has to supply for every run. */
export interface KernelHostInput extends Spec {
  readonly compute: HostCompute;
  readonly tensor: Tensor;
}

/** An input of one element, and the slot of the host that it is read into or written from. */
export interface NumberInput {
  readonly input: number;
  readonly slot: number;
}

/** A number that a loop computes from all elements of a Tensor. */
export interface Reduction {
  readonly kind: ReductionKind;
  readonly of: Tensor;
  readonly slot: number;
}

/** The new elements of an input. */
export interface Store {
  readonly tensor: Tensor;
  readonly into: number;
}

const reciprocal: HostFunction = (x) => 1 / x;

/** What the Tensors of a trace are to kernels: numbers of the host, or arrays with one element per element of the inputs behind them. */
export class Analysis {
  readonly host = new HostProgram();
  readonly hostInputs: (KernelHostInput & { readonly slot: number })[] = [];
  readonly reads: NumberInput[] = [];
  readonly reductions: Reduction[] = [];
  readonly #inputs: ReadonlyMap<Tensor, number>;
  /** The slots of numbers. A Tensor with equal elements by construction is a number, whatever its shape. */
  readonly #slots = new Map<Tensor, number>();
  /** The phases of arrays: how many reductions, one after the other, they wait for. */
  readonly #phases = new Map<Tensor, number>();
  readonly #reciprocals = new Map<number, number>();

  constructor(inputs: readonly Tensor[]) {
    this.#inputs = new Map(inputs.map((tensor, i) => [tensor, i]));
  }

  /** Takes in a node after its inputs. False for one that there are no kernels for. */
  add(node: Node): boolean {
    const [output, ...rest] = node.outputs;
    if (!output || rest.length > 0 || output.dtype === 'float16') return false;
    const [first] = node.inputs;
    const { name } = node.op;
    if (!first) return this.#addLeaf(node, output);
    if (transparent.has(name)) return this.#addSame(output, first);
    if (name === 'sum' || name === 'max') return this.#addReduction(name, output, first);
    if (node.inputs.every((x) => this.#slots.has(x))) return this.#addNumber(output, onHost(node), node.inputs);
    this.#phases.set(output, Math.max(...node.inputs.map((x) => this.phaseOf(x))));
    const alike = node.inputs.every((x) => this.#slots.has(x) || sizeOf(x.shape) === sizeOf(output.shape));
    return alike && inLoop(node) !== undefined && output.dtype !== 'int32';
  }

  slotOf(tensor: Tensor): number {
    return this.#slots.get(tensor) as number;
  }

  phaseOf(tensor: Tensor): number {
    return this.#phases.get(tensor) ?? this.host.phaseOf(this.slotOf(tensor));
  }

  /** The inputs whose elements make those of `tensor`. */
  inputsOf(tensor: Tensor): number[] {
    const leaves = this.#nodesOf([tensor]).filter(({ op }) => op.leaf);
    return leaves.map(({ outputs }) => this.#inputs.get(outputs[0] as Tensor) as number);
  }

  /** A loop over inputs of `size` elements. */
  loop(size: number, reductions: readonly Reduction[], stores: readonly Store[]): Loop {
    const divisors = new Set<number>();
    // Several times faster than a division.
    const loop = this.#loop(size, reductions, stores, (loop, x, divisor) => {
      divisors.add(divisor);
      return loop.op('mul', x, loop.scalar(this.#reciprocalOf(divisor)));
    });
    if (divisors.size === 0) return loop;
    const dividing = this.#loop(size, reductions, stores, (loop, x, divisor) => loop.op('div', x, loop.scalar(divisor)));
    return { ...loop, inverted: { divisors: [...divisors], dividing } };
  }

  #loop(
    size: number,
    reductions: readonly Reduction[],
    stores: readonly Store[],
    divide: (loop: LoopBuilder, x: Value, divisor: number) => Value,
  ): Loop {
    const loop = new LoopBuilder(this.host);
    const made = new Map<Tensor, Value>();
    const operand = (x: Tensor): Value => {
      const slot = this.#slots.get(x);
      if (slot === undefined) return made.get(x) as Value;
      return x.dtype === 'bool' ? loop.flag(slot) : loop.scalar(slot);
    };
    const write = (node: Node): Value => {
      const [a, b] = node.inputs as readonly [Tensor, Tensor];
      if (node.op.leaf) return loop.load(this.#inputs.get(node.outputs[0] as Tensor) as number);
      // Only such that change no element are left: a sum over an axis of size 1, say.
      if (transparent.has(node.op.name) || node.op.name === 'sum' || node.op.name === 'max') return operand(a);
      if (node.op.name === 'div' && this.#slots.has(b)) return divide(loop, operand(a), this.slotOf(b));
      return (inLoop(node) as NonNullable<ReturnType<typeof inLoop>>)(loop, node.inputs.map(operand), node);
    };
    const roots = [...reductions.map(({ of }) => of), ...stores.map(({ tensor }) => tensor)];
    for (const node of this.#nodesOf(roots)) made.set(node.outputs[0] as Tensor, write(node));
    for (const { kind, of, slot } of reductions) loop.reduce(kind, operand(of), slot);
    for (const { tensor, into } of stores) loop.store(into, operand(tensor));
    return loop.build(size);
  }

  /** The nodes that a loop has to compute for `tensors`. */
  #nodesOf(tensors: readonly Tensor[]): Node[] {
    return topologicalOrder(tensors, (x) => this.#slots.has(x));
  }

  #reciprocalOf(slot: number): number {
    const known = this.#reciprocals.get(slot) ?? this.host.apply(reciprocal, [slot]);
    this.#reciprocals.set(slot, known);
    return known;
  }

  #addLeaf({ op, attributes }: Node, output: Tensor): boolean {
    const input = this.#inputs.get(output);
    if (sizeOf(output.shape) !== 1) {
      this.#phases.set(output, 0);
      return input !== undefined && output.dtype === 'float32';
    }
    if (op.name === 'scalar') return this.#addConstant(output, (attributes as { value: number }).value);
    if (op.name === 'constant') return this.#addConstant(output, (attributes as NDArray).data[0] as number);
    const slot = this.host.slot(0);
    this.#slots.set(output, slot);
    if (input !== undefined) this.reads.push({ input, slot });
    else if (op === hostInputOp) {
      const { compute } = attributes as { compute: HostCompute };
      this.hostInputs.push({ compute, shape: output.shape, dtype: output.dtype, tensor: output, slot });
    } else return false;
    return true;
  }

  #addConstant(output: Tensor, value: number): boolean {
    // As a graph stores it: 0.1 is no float32.
    this.#slots.set(output, this.host.constant(output.dtype === 'float32' ? Math.fround(value) : value));
    return true;
  }

  /** An output with the elements of `x`, in the same order or all the same. */
  #addSame(output: Tensor, x: Tensor): boolean {
    const slot = this.#slots.get(x);
    if (slot !== undefined) this.#slots.set(output, slot);
    else this.#phases.set(output, this.phaseOf(x));
    return slot !== undefined || sizeOf(output.shape) === sizeOf(x.shape);
  }

  #addReduction(kind: ReductionKind, output: Tensor, of: Tensor): boolean {
    const [before, after] = [sizeOf(of.shape), sizeOf(output.shape)];
    const isNumber = this.#slots.has(of);
    if (before === after || (isNumber && kind === 'max')) return this.#addSame(output, of);
    if (isNumber) return this.#addNumber(output, (x) => x * (before / after), [of]);
    const slot = this.host.slot(this.phaseOf(of) + 1);
    this.#slots.set(output, slot);
    this.reductions.push({ kind, of, slot });
    return after === 1;
  }

  #addNumber(output: Tensor, compute: HostFunction | undefined, from: readonly Tensor[]): boolean {
    if (!compute) return false;
    const slots = from.map((x) => this.slotOf(x));
    this.#slots.set(output, this.host.apply(compute, slots));
    return true;
  }
}
