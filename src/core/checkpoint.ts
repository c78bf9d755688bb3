import { customVjp } from './custom-vjp.js';
import { isFloat } from './dtype.js';
import { wrongType } from './errors.js';
import { fill, pullBack, tensorsOf, unalias } from './grad.js';
import { substitute } from './graph.js';
import { sub } from './ops/elementwise.js';
import { cast } from './ops/select.js';
import { sizeOf } from './shape.js';
import { apply, type Op, type Tensor } from './tensor.js';

// A value is not less than itself, NaN included, but a runtime does not know that: it has to compute the inputs first.
const zeroAfterOp: Op<readonly Tensor[], null> = {
  name: 'zeroAfter',
  infer: () => [{ shape: [], dtype: 'float32' }],
  emit: (graph, names, { inputs }) => {
    const elements = names.map((name, i) => {
      const { rank, dtype } = inputs[i] as Tensor;
      const all = (index: number) => graph.ints(Array.from({ length: rank }, () => index));
      const first = rank === 0 ? name : graph.node('Slice', [name, all(0), all(1)]);
      return dtype === 'float32' ? first : graph.node('Cast', [first], { to: 1 });
    });
    const total = elements.reduce((a, b) => graph.node('Add', [a, b]));
    const scalar = graph.node('Reshape', [total, graph.ints([])], { allowzero: 1 });
    return [graph.node('Cast', [graph.node('Less', [scalar, scalar])], { to: 1 })];
  },
};

/**
 * The same values as `x`, bit by bit, as a Tensor that is not there before all of `signals` were computed. What is computed from
 * it is not merged with what was computed from `x`, by us or by the runtime. Costs a pass over `x`.
 *
 * @param x float
 * @param signals float; their values do not matter
 */
export function waitFor(x: Tensor, signals: readonly Tensor[]): Tensor {
  const there = signals.filter(({ shape }) => sizeOf(shape) > 0);
  // Subtracted, as -0 + 0 is 0.
  return there.length === 0 ? x : sub(x, cast(apply(zeroAfterOp, there, null)[0], x.dtype));
}

/**
 * The cotangents of a node's inputs, arranged so that the walk does not go on before all of them were computed: what they are
 * computed from is free by then. The inputs of the program itself lead nowhere, so theirs stay as they are.
 */
export function together(cotangents: readonly (Tensor | undefined)[], inputs: readonly Tensor[]): (Tensor | undefined)[] {
  const all = cotangents.filter((g) => g !== undefined);
  const leadsOn = (i: number) => all.length > 1 && !unalias(inputs[i] as Tensor).node.op.leaf;
  return cotangents.map((g, i) => (g && leadsOn(i) ? waitFor(g, all) : g));
}

/**
 * A function whose intermediate values are not kept for differentiation but computed again when they are needed: memory for time.
 * A chain of n such functions keeps its n inputs and the intermediate values of one function at a time; the price is one more
 * forward pass.
 *
 * Values and gradients are those of `fn`. Host inputs, such as dropout masks, are shared: what is computed again has the
 * same masks. State that `fn` returns, such as running statistics, comes from the first pass and is updated once. Derivatives of any
 * order are right; memory is saved in the first.
 *
 * Values that depend on no float argument (masks made from integers, constants) are kept. The runtime decides when it computes what;
 * what is enforced is that no function is computed again before the cotangents of its outputs are there, and that the backward pass
 * goes on to the function before it when all its gradients are there. Both cost a pass over the arguments.
 *
 * Source: Training Deep Nets with Sublinear Memory Cost (1604.06174); `jax.checkpoint`.
 *
 * @param fn from Tensors (or trees) to a Tensor or a tree of Tensors
 * @returns a function of the same arguments
 * @throws when called, if an argument or the result is no tree of Tensors, or if `fn` uses a traced float value that is not among its
 *   arguments (see {@link customVjp})
 * @example
 * ```ts
 * import { add, checkpoint, relu, type Tensor } from 'tracegrad';
 * import { type LinearParams, linear } from 'tracegrad/layers';
 *
 * type Block = { up: LinearParams; down: LinearParams };
 * const block = checkpoint((p: Block, x: Tensor) => add(x, linear(relu(linear(x, p.up)), p.down)));
 * const network = (blocks: Block[], x: Tensor) => blocks.reduce((h, p) => block(p, h), x);
 * ```
 */
export function checkpoint<A extends unknown[], R>(fn: (...args: A) => R): (...args: A) => R {
  if (typeof fn !== 'function') throw wrongType('checkpoint', 'fn', 'a function', fn);
  return (...args) => {
    let result: R | undefined;
    const run = customVjp('checkpoint', {
      // The trace is part of the residuals, so that it follows the node where that is rebuilt (in another checkpoint).
      forward: (...own) => {
        result = fn(...fill(args, own));
        const outputs = [...tensorsOf('checkpoint', 'the result of fn', result).values()];
        return { outputs, residuals: [...own, ...outputs] };
      },
      backward: ({ cotangents, inputs, residuals, wanted }) => {
        const used = cotangents.flatMap((g, i) => (g ? [{ g, output: residuals[inputs.length + i] as Tensor }] : []));
        const floats = inputs.flatMap((x, i) => (isFloat(x.dtype) ? [{ x, own: residuals[i] as Tensor, i }] : []));
        // An input among the signals, as a cotangent may be a constant, which is there at once.
        const signals = [...used.map(({ g }) => g), ...floats.slice(0, 1).map(({ x }) => x)];
        const again = floats.map(({ x }) => waitFor(x, signals));
        const values = substitute(
          used.map(({ output }) => output),
          new Map(floats.map(({ own }, k) => [own, again[k] as Tensor])),
        );
        const back = pullBack(
          values,
          used.map(({ g }) => g),
          again,
        );
        const cotangentOf = new Map(floats.map(({ i }, k) => [i, back[k]]));
        return together(
          inputs.map((_, i) => (wanted[i] ? cotangentOf.get(i) : undefined)),
          inputs,
        );
      },
    });
    const outputs = run(...tensorsOf('checkpoint', 'the arguments', args).values());
    return fill(result as R, outputs);
  };
}
