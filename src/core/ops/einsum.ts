import { outOfRange, wrongType } from '../errors.js';
import { sizeOf } from '../shape.js';
import { checkFloat, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { mul } from './elementwise.js';
import { matmul } from './linalg.js';
import { sliceAxis, transpose } from './movement.js';

/**
 * A Tensor with a label for every axis: a letter, or for axes under an ellipsis their number from the right. Labels differ, and axes
 * of one label have one size in all terms.
 */
interface Term {
  readonly x: Tensor;
  readonly labels: readonly string[];
}

const SUBSCRIPTS = /^[a-zA-Z]*(\.\.\.)?[a-zA-Z]*$/;

/** The labels of subscripts, whose ellipsis stands for `under` axes. */
function labelsOf(subscripts: string, under: number): string[] {
  const [front = '', back] = subscripts.split('...');
  if (back === undefined) return [...front];
  return [...front, ...Array.from({ length: under }, (_, i) => String(under - 1 - i)), ...back];
}

/** The term along the diagonal of two axes that have the same label, as long as there are such. */
function diagonal({ x, labels }: Term): Term {
  const first = labels.findIndex((label, i) => labels.indexOf(label, i + 1) >= 0);
  if (first < 0) return { x, labels };
  const second = labels.indexOf(labels[first] as string, first + 1);
  const size = x.shape[first] as number;
  const others = labels.map((_, axis) => axis).filter((axis) => axis !== first && axis !== second);
  const outer = others.map((axis) => x.shape[axis] as number);
  const square = reshape(transpose(x, [...others, first, second]), [...outer, size * size]);
  const taken = sliceAxis(square, others.length, 0, size * size, size + 1);
  return diagonal({ x: taken, labels: [...others, first].map((axis) => labels[axis] as string) });
}

/** Drops axes of size 1 that are repeated to the size which their label has elsewhere. */
function withoutRepeated({ x, labels }: Term, sizes: ReadonlyMap<string, number>): Term {
  const kept = labels.map((label, axis) => x.shape[axis] === sizes.get(label));
  return {
    x: reshape(
      x,
      x.shape.filter((_, axis) => kept[axis]),
    ),
    labels: labels.filter((_, axis) => kept[axis]),
  };
}

/** Sums over the axes whose labels are not kept. */
function summed({ x, labels }: Term, kept: ReadonlySet<string>): Term {
  const axis = labels.flatMap((label, i) => (kept.has(label) ? [] : [i]));
  return { x: axis.length === 0 ? x : sum(x, { axis }), labels: labels.filter((label) => kept.has(label)) };
}

/** The term with its axes in another order. */
const ordered = ({ x, labels }: Term, order: readonly string[]): Tensor =>
  transpose(
    x,
    order.map((label) => labels.indexOf(label)),
  );

/** The product of two terms, summed over the labels that are not `needed`: a matrix product for every element of those in both. */
function contract(a: Term, b: Term, needed: ReadonlySet<string>): Term {
  const left = summed(a, new Set([...needed, ...b.labels]));
  const right = summed(b, new Set([...needed, ...a.labels]));
  const shared = left.labels.filter((label) => right.labels.includes(label));
  // Products of one row and one column each are slow.
  if (shared.length === left.labels.length && shared.length === right.labels.length) {
    return summed({ x: mul(left.x, ordered(right, shared)), labels: shared }, needed);
  }
  const batch = shared.filter((label) => needed.has(label));
  const inner = shared.filter((label) => !needed.has(label));
  const rows = left.labels.filter((label) => !shared.includes(label));
  const columns = right.labels.filter((label) => !shared.includes(label));
  const sizes = new Map([left, right].flatMap(({ x, labels }) => labels.map((label, i) => [label, x.shape[i] as number] as const)));
  const shapeOf = (labels: readonly string[]) => labels.map((label) => sizes.get(label) as number);
  const flat = (labels: readonly string[]) => sizeOf(shapeOf(labels));
  const x = reshape(ordered(left, [...batch, ...rows, ...inner]), [...shapeOf(batch), flat(rows), flat(inner)]);
  const y = reshape(ordered(right, [...batch, ...inner, ...columns]), [...shapeOf(batch), flat(inner), flat(columns)]);
  const labels = [...batch, ...rows, ...columns];
  return { x: reshape(inner.length === 0 ? mul(x, y) : matmul(x, y), shapeOf(labels)), labels };
}

/** The subscripts of every operand and of the result; implicit ones of the result are worked out. */
function parse(equation: string, operands: readonly Tensor[]): { inputs: string[][]; output: string[] } {
  const fn = 'einsum';
  const [left, right, ...more] = equation.replaceAll(' ', '').split('->') as [string, ...string[]];
  const subscripts = left.split(',');
  if (more.length > 0 || ![...subscripts, right ?? ''].every((part) => SUBSCRIPTS.test(part))) {
    throw outOfRange(fn, 'equation', "letters, at most one '...' per operand, ',' between operands and '->' before the result", equation);
  }
  if (subscripts.length !== operands.length) {
    throw outOfRange(fn, 'equation', `subscripts of ${operands.length} operands`, equation);
  }
  const under = operands.map((x, i) => {
    const part = subscripts[i] as string;
    const named = part.replace('...', '').length;
    if (part.includes('...') ? x.rank < named : x.rank !== named) {
      const expected = `${part.includes('...') ? 'at least ' : ''}${named} axes, as '${part}' has`;
      throw outOfRange(fn, `operands[${i}]`, expected, x);
    }
    return x.rank - named;
  });
  const inputs = subscripts.map((part, i) => labelsOf(part, under[i] as number));
  const all = inputs.flat();
  const longest = Math.max(...under);
  if (right === undefined) {
    const once = all.filter((label) => /[a-zA-Z]/.test(label) && all.indexOf(label) === all.lastIndexOf(label)).sort();
    return { inputs, output: [...labelsOf('...', longest), ...once] };
  }
  const output = labelsOf(right, longest);
  const odd = output.find((label, i) => !all.includes(label) || output.indexOf(label) !== i);
  if (odd !== undefined) throw outOfRange(fn, 'equation', `'${odd}' in an operand, and once in the result`, equation);
  return { inputs, output };
}

/** The size of every label; axes of size 1 are repeated. */
function sizesOf(inputs: readonly (readonly string[])[], operands: readonly Tensor[]): Map<string, number> {
  const sizes = new Map<string, number>();
  operands.forEach((x, i) => {
    const labels = inputs[i] as string[];
    labels.forEach((label, axis) => {
      const size = x.shape[axis] as number;
      const known = sizes.get(label) ?? 1;
      const twin = x.shape[labels.indexOf(label)] as number; // on a diagonal, where nothing is repeated
      if (size !== twin || (size !== known && size !== 1 && known !== 1)) {
        throw outOfRange('einsum', `operands[${i}]`, `size ${size === twin ? known : twin} along axis ${axis}, which is '${label}'`, x);
      }
      sizes.set(label, size === 1 ? known : size);
    });
  });
  return sizes;
}

/**
 * Sums of products by Einstein's convention. Every axis has a letter; axes with the same letter go together, and letters
 * that the result does not have are summed over. A letter twice in one operand takes its diagonal. `...` stands for any
 * number of axes, which are broadcast. An axis of size 1 is repeated where its letter has another size. Without `->` the
 * result has the axes under `...` and then, in alphabetical order, the letters that occur once. More than two operands are
 * taken in from left to right.
 *
 * @param equation such as `'bik,bkj->bij'`; spaces are ignored
 * @param operands one per part of the equation, float and of one dtype
 * @example
 * ```ts
 * import { einsum, type Tensor } from 'tracegrad';
 *
 * const scores = (q: Tensor, k: Tensor) => einsum('bqhd,bkhd->bhqk', q, k);
 * const bilinear = (x: Tensor, w: Tensor, y: Tensor) => einsum('...i,kij,...j->...k', x, w, y);
 * const trace = (x: Tensor) => einsum('...ii->...', x);
 * ```
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  if (typeof equation !== 'string') throw wrongType('einsum', 'equation', "a string such as 'ij,jk->ik'", equation);
  if (operands.length === 0) throw wrongType('einsum', 'operands', 'at least one Tensor', operands);
  operands.forEach((x, i) => {
    const { dtype } = checkFloat('einsum', `operands[${i}]`, x);
    if (dtype !== operands[0]?.dtype) throw wrongType('einsum', `operands[${i}]`, `a ${operands[0]?.dtype} Tensor, like the first`, x);
  });
  const { inputs, output } = parse(equation, operands);
  const sizes = sizesOf(inputs, operands);
  const terms = operands.map((x, i) => withoutRepeated(diagonal({ x, labels: inputs[i] as string[] }), sizes));
  const all = terms.reduce((a, b, i) => contract(a, b, new Set([...output, ...terms.slice(i + 1).flatMap(({ labels }) => labels)])));
  return ordered(summed(all, new Set(output)), output);
}
