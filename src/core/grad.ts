import { isFloat } from './dtype.js';
import { checkNumber, checkOptions, outOfRange, show, wrongType } from './errors.js';
import { topologicalOrder } from './graph.js';
import { ones, zerosLike } from './ops/constant.js';
import { add } from './ops/elementwise.js';
import { sameShape } from './shape.js';
import { apply, checkTensor, isTensor, type Op, type Tensor } from './tensor.js';
import { mapTree } from './tree.js';

export const stopGradientOp: Op<[Tensor], null> = {
  name: 'stopGradient',
  infer: ([x]) => [x],
  emit: (_graph, inputs) => inputs,
  rewrite: ({ inputs }) => inputs,
};

const identityOp: Op<[Tensor], null> = {
  name: 'identity',
  infer: ([x]) => [x],
  emit: (_graph, inputs) => inputs,
  vjp: ([g]) => [g],
  rewrite: ({ inputs }) => inputs,
};

/** The same value as a Tensor of its own, to tell a use of it from other uses of `x`. */
export const alias = (x: Tensor): Tensor => apply(identityOp, [x], null)[0];

/** What `x` is another name of, if it is one. */
export const unalias = (x: Tensor): Tensor => (x.node.op === identityOp ? unalias(x.node.inputs[0] as Tensor) : x);

/** `x` as a constant for differentiation: the same value, no gradient. */
export const stopGradient = (x: Tensor): Tensor => apply(stopGradientOp, [checkTensor('stopGradient', 'x', x)], null)[0];

/**
 * One walk over the nodes from outputs to inputs. Returns the cotangent of every `wrt` Tensor, or undefined where
 * the outputs do not depend on it. `wrt` Tensors count as independent: what they depend on is not entered.
 */
export function pullBack(
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  wrt: readonly Tensor[],
): (Tensor | undefined)[] {
  const stop = new Set(wrt);
  const total = new Map<Tensor, Tensor>();
  const accumulate = (tensor: Tensor, cotangent: Tensor | undefined): void => {
    if (!cotangent || !active.has(tensor)) return;
    const before = total.get(tensor);
    total.set(tensor, before ? add(before, cotangent) : cotangent);
  };
  const nodes = topologicalOrder(outputs, (x) => stop.has(x));
  // Only what depends on wrt needs a cotangent.
  const active = new Set(wrt);
  for (const node of nodes) {
    if (node.op.vjp && node.inputs.some((x) => active.has(x))) for (const y of node.outputs) if (isFloat(y.dtype)) active.add(y);
  }
  outputs.forEach((output, i) => {
    accumulate(output, cotangents[i]);
  });
  for (const node of nodes.reverse()) {
    const incoming = node.outputs.map((y) => (stop.has(y) ? undefined : total.get(y)));
    if (!node.op.vjp || incoming.every((g) => g === undefined)) continue;
    const wanted = node.inputs.map((x) => active.has(x));
    const outgoing: readonly (Tensor | undefined)[] = node.op.vjp(incoming, node, wanted);
    node.inputs.forEach((x, i) => {
      accumulate(x, outgoing[i]);
    });
  }
  return wrt.map((x) => total.get(x));
}

/** `loss`, checked to be a float scalar. */
export const scalarLoss = (fn: string, loss: unknown): Tensor => {
  const tensor = checkTensor(fn, 'the loss', loss);
  if (tensor.rank !== 0 || !isFloat(tensor.dtype)) {
    throw outOfRange(fn, 'the loss', 'a float scalar (shape []; reduce it with mean() or sum())', tensor);
  }
  return tensor;
};

/**
 * Derivatives of a scalar with respect to Tensors it was computed from. They are Tensors of the same trace, so they can be
 * differentiated again.
 *
 * @param loss float scalar
 * @param wrt float Tensors that the loss was computed from; each counts as independent of the others
 * @returns one Tensor per entry of `wrt`, zeros where the loss does not depend on it
 * @example
 * ```ts
 * import { gradients, mean, square, type Tensor } from 'tracegrad';
 *
 * const penalty = (critic: (x: Tensor) => Tensor, x: Tensor) => {
 *   const [dx] = gradients(mean(critic(x)), [x]);
 *   return mean(square(dx!));
 * };
 * ```
 */
export function gradients(loss: Tensor, wrt: readonly Tensor[]): Tensor[] {
  const scalar = scalarLoss('gradients', loss);
  if (!Array.isArray(wrt)) throw wrongType('gradients', 'wrt', 'a list of Tensors', wrt);
  wrt.forEach((x, i) => {
    checkDifferentiable('gradients', `wrt[${i}]`, x);
  });
  return pullBack([scalar], [ones([], scalar.dtype)], wrt).map((g, i) => g ?? zerosLike(wrt[i] as Tensor));
}

const checkDifferentiable = (fn: string, path: string, value: Tensor): void => {
  if (!isFloat(checkTensor(fn, path, value).dtype)) {
    throw wrongType(fn, path, 'a float Tensor (gradients exist only for those)', value);
  }
};

/** The Tensors of a tree with their paths. */
export function tensorsOf(fn: string, name: string, tree: unknown): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  mapTree(fn, tree, isTensor, `a tree of Tensors as ${name}`, (tensor, path) => found.set(path, tensor));
  return found;
}

/** A tree like `tree` with `values` at the leaves, in order. */
export const fill = <P>(tree: P, values: readonly Tensor[]): P => {
  let next = 0;
  return mapTree('grad', tree, isTensor, 'a Tensor', () => values[next++] as Tensor) as P;
};

export interface GradOptions {
  /** Which argument to differentiate with respect to. Default 0. */
  argnum?: number;
}

/**
 * The function that computes a loss and its gradient.
 *
 * @param fn returns a scalar loss; with `hasAux: true` a pair `[loss, auxiliary]`, whose second part (any tree) is passed through
 * @param options.argnum which argument to differentiate with respect to, default 0: a Tensor or a tree of float Tensors
 * @returns a function of the same arguments that returns `[loss, gradient]` or `[[loss, auxiliary], gradient]`; the gradient is a
 *   tree like the argument
 * @example
 * ```ts
 * import { matmul, mean, square, sub, type Tensor, valueAndGrad } from 'tracegrad';
 *
 * const loss = (p: { w: Tensor }, x: Tensor, y: Tensor) => mean(square(sub(matmul(x, p.w), y)));
 * const step = (p: { w: Tensor }, x: Tensor, y: Tensor) => {
 *   const [value, { w }] = valueAndGrad(loss)(p, x, y);
 *   return { value, w };
 * };
 * ```
 */
export function valueAndGrad<A extends unknown[], X, const K extends number = 0>(
  fn: (...args: A) => readonly [loss: Tensor, auxiliary: X],
  options: { argnum?: K; hasAux: true },
): (...args: A) => [[loss: Tensor, auxiliary: X], gradient: A[K]];
export function valueAndGrad<A extends unknown[], const K extends number = 0>(
  fn: (...args: A) => Tensor,
  options?: { argnum?: K; hasAux?: false },
): (...args: A) => [loss: Tensor, gradient: A[K]];
export function valueAndGrad(fn: (...args: unknown[]) => unknown, options: { argnum?: number; hasAux?: boolean } = {}) {
  checkOptions('valueAndGrad', options, ['argnum', 'hasAux']);
  return differentiated('valueAndGrad', fn, options);
}

function differentiated(name: string, fn: (...args: unknown[]) => unknown, options: { argnum?: number; hasAux?: boolean }) {
  if (typeof fn !== 'function') throw wrongType(name, 'fn', 'a function', fn);
  const { argnum = 0, hasAux = false } = options;
  checkNumber(name, 'argnum', argnum, 'an integer >= 0', (n) => Number.isInteger(n) && n >= 0);
  return (...args: unknown[]): [result: unknown, gradient: unknown] => {
    const given = tensorsOf(name, `argument ${argnum}`, args[argnum]);
    for (const [path, tensor] of given) checkDifferentiable(name, path || `argument ${argnum}`, tensor);
    // What is captured, or passed as another argument too, is a constant there.
    const own = [...given.values()].map(alias);
    const result = fn(...args.map((arg, i) => (i === argnum ? fill(arg, own) : arg)));
    if (hasAux && !(Array.isArray(result) && result.length === 2)) {
      throw wrongType(name, 'fn', 'the pair [loss, auxiliary] as its result', result);
    }
    const loss = scalarLoss(name, hasAux ? (result as [unknown])[0] : result);
    return [result, fill(args[argnum], gradients(loss, own))];
  };
}

/**
 * The function that computes the gradient of a scalar loss: {@link valueAndGrad} without the value.
 *
 * @param fn returns a scalar loss
 * @param options.argnum which argument to differentiate with respect to, default 0
 */
export function grad<A extends unknown[], const K extends number = 0>(
  fn: (...args: A) => Tensor,
  options: { argnum?: K } = {},
): (...args: A) => A[K] {
  checkOptions('grad', options, ['argnum']);
  const both = differentiated('grad', fn as (...args: unknown[]) => unknown, options);
  return (...args) => both(...args)[1] as A[K];
}

/**
 * Values of a function and its vector-Jacobian product.
 *
 * @param fn from Tensors (or trees) to a Tensor or a tree of Tensors
 * @param primals the arguments, all float
 * @returns `[outputs, pullback]`; `pullback(cotangents)`, with cotangents like the outputs, returns one cotangent per argument
 * @example
 * ```ts
 * import { type Tensor, vjp } from 'tracegrad';
 *
 * const transposedProduct = (f: (x: Tensor) => Tensor, x: Tensor, v: Tensor) => {
 *   const [, pullback] = vjp(f, x);
 *   return pullback(v)[0];
 * };
 * ```
 */
export function vjp<A extends unknown[], R>(fn: (...args: A) => R, ...primals: A): [outputs: R, pullback: (cotangents: R) => A] {
  if (typeof fn !== 'function') throw wrongType('vjp', 'fn', 'a function', fn);
  const inputs = tensorsOf('vjp', 'the arguments', primals);
  for (const [path, tensor] of inputs) checkDifferentiable('vjp', `argument ${path}`, tensor);
  const wrt = [...inputs.values()].map(alias);
  const result = fn(...fill(primals, wrt));
  const outputs = tensorsOf('vjp', 'the result of fn', result);
  const pullback = (cotangents: R): A => {
    const given = tensorsOf('vjp', 'the cotangents', cotangents);
    const aligned = [...outputs].map(([path, y]) => {
      const g = given.get(path);
      if (!g || !sameShape(g.shape, y.shape) || g.dtype !== y.dtype) {
        throw outOfRange('vjp', path ? `cotangent ${path}` : 'the cotangent', `${show(y)}, like the output`, g);
      }
      return g;
    });
    const back = pullBack([...outputs.values()], aligned, wrt);
    return fill(
      primals,
      back.map((g, i) => g ?? zerosLike(wrt[i] as Tensor)),
    );
  };
  return [result, pullback];
}
