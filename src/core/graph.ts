import { apply, type Node, type Tensor } from './tensor.js';

/** Every node that `outputs` depend on, inputs before users. Tensors for which `stop` holds are not entered. */
export function topologicalOrder(outputs: readonly Tensor[], stop: (tensor: Tensor) => boolean = () => false): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, number>(); // how many inputs were entered; iterative, as graphs are deep
  const stack: Node[] = [];
  const enter = (tensor: Tensor): void => {
    if (!state.has(tensor.node) && !stop(tensor)) {
      state.set(tensor.node, 0);
      stack.push(tensor.node);
    }
  };
  for (const output of outputs) {
    enter(output);
    for (let node = stack.at(-1); node; node = stack.at(-1)) {
      const next = state.get(node) as number;
      const input = node.inputs[next];
      if (input) {
        state.set(node, next + 1);
        enter(input);
      } else {
        order.push(node);
        stack.pop();
      }
    }
  }
  return order;
}

type Replace = (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined;

function rewrite(outputs: readonly Tensor[], given: ReadonlyMap<Tensor, Tensor>, replace: Replace): Tensor[] {
  const rewritten = new Map(given);
  const current = (tensor: Tensor) => rewritten.get(tensor) ?? tensor;
  for (const node of topologicalOrder(outputs, (tensor) => given.has(tensor))) {
    const inputs = node.inputs.map(current);
    const changed = inputs.some((input, i) => input !== node.inputs[i]);
    const result =
      replace(node, inputs) ??
      (changed ? apply<readonly Tensor[], unknown, readonly Tensor[]>(node.op, inputs, node.attributes) : undefined);
    result?.forEach((tensor, i) => {
      const before = node.outputs[i] as Tensor;
      if (!given.has(before)) rewritten.set(before, tensor);
    });
  }
  return outputs.map(current);
}

/**
 * The one way graphs are rewritten: rebuilds what `outputs` depend on, with `replace` deciding for every node, given
 * its already rewritten inputs, what stands in its place (its outputs), or nothing to keep it. Nodes whose inputs
 * did not change stay the same objects.
 */
export const rebuild = (outputs: readonly Tensor[], replace: Replace): Tensor[] => rewrite(outputs, new Map(), replace);

/** {@link rebuild} with other Tensors in the place of some; what only those depend on is not entered. */
export const substitute = (outputs: readonly Tensor[], replacements: ReadonlyMap<Tensor, Tensor>): Tensor[] =>
  rewrite(outputs, replacements, () => undefined);

/** Replaces nodes by what their ops know to be simpler. */
export const simplify = (outputs: readonly Tensor[]): Tensor[] =>
  rebuild(outputs, ({ op, attributes }, inputs) => op.rewrite?.({ op, inputs, attributes }));

/**
 * Merges nodes with the same op, inputs and attributes. Leaves are what they are and never merge; nor do constants, as one that
 * depends on a size may equal another by chance.
 */
export function merge(outputs: readonly Tensor[]): Tensor[] {
  const ids = new Map<unknown, number>();
  const id = (value: unknown): number => {
    const known = ids.get(value) ?? ids.size;
    ids.set(value, known);
    return known;
  };
  const seen = new Map<string, readonly Tensor[]>();
  return rebuild(outputs, (node, inputs) => {
    if (inputs.length === 0) return undefined;
    // Functions and typed arrays among attributes are compared by identity; -0 is not 0.
    const attributes = JSON.stringify(node.attributes, (_, value) => {
      if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
      return typeof value === 'function' || ArrayBuffer.isView(value) ? `#${id(value)}` : value;
    });
    const key = `${id(node.op)}(${inputs.map(id)})${attributes}`;
    const known = seen.get(key);
    if (known) return known;
    const kept = inputs.every((input, i) => input === node.inputs[i])
      ? node.outputs
      : apply<readonly Tensor[], unknown, readonly Tensor[]>(node.op, inputs, node.attributes);
    seen.set(key, kept);
    return kept;
  });
}
