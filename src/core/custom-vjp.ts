import { isFloat } from './dtype.js';
import { wrongType } from './errors.js';
import { alias, stopGradientOp } from './grad.js';
import { topologicalOrder } from './graph.js';
import { inputOp } from './leaf.js';
import { sameShape } from './shape.js';
import { apply, checkTensor, isTensor, type Op, type Tensor } from './tensor.js';

export interface CustomVjpRule<I extends readonly Tensor[]> {
  /** The value, and whatever the backward rule needs besides inputs and outputs. */
  forward: (...inputs: I) => { outputs: readonly Tensor[]; residuals?: readonly Tensor[] };
  /**
   * One cotangent per input (undefined for zero). It may use only what it is given: Tensors captured from outside
   * are not part of the node. `wanted` says which inputs' cotangents are used; the others may be left out.
   */
  backward: (saved: {
    cotangents: readonly (Tensor | undefined)[];
    inputs: I;
    outputs: readonly Tensor[];
    residuals: readonly Tensor[];
    wanted: readonly boolean[];
  }) => readonly (Tensor | undefined)[];
}

// Inputs of the node: the declared inputs, then the values of the outputs, then the residuals.
const customOp: Op<
  readonly Tensor[],
  { name: string; inputs: number; outputs: number; backward: CustomVjpRule<readonly Tensor[]>['backward'] },
  readonly Tensor[]
> = {
  name: 'customVjp',
  infer: (all, { inputs, outputs }) => all.slice(inputs, inputs + outputs),
  emit: (_graph, all, { attributes: { inputs, outputs } }) => all.slice(inputs, inputs + outputs),
  vjp: (cotangents, { inputs: all, outputs: ys, attributes: { name, inputs, outputs, backward } }, used) => {
    const declared = all.slice(0, inputs);
    const wanted = used.slice(0, inputs);
    const back = backward({ cotangents, inputs: declared, outputs: ys, residuals: all.slice(inputs + outputs), wanted });
    if (!Array.isArray(back)) throw wrongType(`customVjp '${name}'`, 'backward', 'a list of cotangents', back);
    if (back.length !== inputs) {
      throw new RangeError(`customVjp '${name}': backward: expected ${inputs} cotangents, one per input, received ${back.length}`);
    }
    back.forEach((g, i) => {
      const x = declared[i] as Tensor;
      if (g !== undefined) checkTensor(`customVjp '${name}'`, `cotangent of input ${i}`, g);
      if (g && (!sameShape(g.shape, x.shape) || g.dtype !== x.dtype)) {
        throw new RangeError(
          `customVjp '${name}': backward: expected ${x.dtype}[${x.shape.join(', ')}] as the cotangent of input ${i}, received ${g.dtype}[${g.shape.join(', ')}]`,
        );
      }
    });
    return [...back, ...all.slice(inputs).map(() => undefined)];
  },
  // Once everything is differentiated, the values are all that is left of it.
  rewrite: ({ inputs: all, attributes: { inputs, outputs } }) => all.slice(inputs, inputs + outputs),
};

/**
 * A function with its own backward rule, where the derived one would be slower, less accurate or not what is wanted.
 *
 * @param name for error messages
 * @returns a function of Tensors that returns the list of outputs
 * @throws when called, if the forward body reaches a traced float value that is not among its inputs: the gradient
 *   with respect to that value would silently be zero. Pass it as an input, or through {@link stopGradient}.
 * @example
 * ```ts
 * import { customVjp, greater, type Tensor, where } from 'tracegrad';
 *
 * // Straight-through sign: the gradient passes as if it were the identity.
 * const straightThroughSign = customVjp<[Tensor]>('straightThroughSign', {
 *   forward: (x) => ({ outputs: [where(greater(x, 0), 1, -1)] }),
 *   backward: ({ cotangents }) => [cotangents[0]],
 * });
 * ```
 */
export function customVjp<I extends readonly Tensor[]>(name: string, rule: CustomVjpRule<I>): (...inputs: I) => readonly Tensor[] {
  return (...inputs) => {
    inputs.forEach((x, i) => {
      checkTensor(`customVjp '${name}'`, `input ${i}`, x);
    });
    // Stand-ins, so that an input that the body captures instead of taking it is told from one that it was given.
    const own = inputs.map(alias) as unknown as I;
    const { outputs, residuals = [] } = rule.forward(...own);
    if (!Array.isArray(outputs) || ![...outputs, ...residuals].every(isTensor)) {
      throw wrongType(`customVjp '${name}'`, 'forward', '{ outputs, residuals? } with lists of Tensors', outputs);
    }
    checkCaptured(name, 'forward', outputs, own);
    const attributes = { name, inputs: inputs.length, outputs: outputs.length, backward: rule.backward as never };
    return apply(customOp, [...inputs, ...outputs, ...residuals], attributes);
  };
}

/** Throws if `outputs` depend on a traced float value otherwise than through `declared` or stopGradient(). */
function checkCaptured(name: string, part: string, outputs: readonly Tensor[], declared: readonly Tensor[]): void {
  const known = new Set(declared);
  for (const { op, attributes, outputs: leaves } of topologicalOrder(outputs, (x) => known.has(x) || x.node.op === stopGradientOp)) {
    if (op === inputOp && leaves.some((leaf) => isFloat(leaf.dtype))) {
      throw new Error(
        `customVjp '${name}': the ${part} body uses '${(attributes as { name: string }).name}', which is not among its inputs, so its gradient would silently be zero; pass it as an input, or through stopGradient()`,
      );
    }
  }
}
