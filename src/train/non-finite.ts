import { isFloat } from '../core/dtype.js';
import { topologicalOrder } from '../core/graph.js';
import { hostInputOp, inputOp } from '../core/leaf.js';
import { concat } from '../core/ops/movement.js';
import { sizeOf } from '../core/shape.js';
import type { Node, Tensor } from '../core/tensor.js';
import type { OrtBackend } from '../runtime/backend.js';
import { hostInputsOf, type RunContext } from '../runtime/host-inputs.js';
import { Program, toArray, type Value } from '../runtime/program.js';
import { type BatchInput, type Engine, heldLeaves, type StepResult, takeHeld } from './engine.js';
import { type BatchSource, type Job, nonFinite, traceGradients } from './step-trace.js';

/** What is said of a Tensor that is looked at. */
interface Place {
  readonly what: string;
  readonly backward: boolean;
  /** A constant may well be infinite: it masks scores. */
  readonly constant: boolean;
  /** The places of what it was made of. */
  readonly from: readonly number[];
}

/** Throws if the loss or a gradient of a step is not finite, with an error that names the first Tensor that was not. */
export async function checkFinite(
  device: OrtBackend,
  job: Job,
  engine: Engine,
  batch: BatchInput,
  context: RunContext,
  { packed, places }: StepResult,
): Promise<void> {
  const end = places.at(-1)?.to ?? 0;
  const numbers = [...toArray(packed).data];
  if (Number.isFinite(numbers[0]) && numbers.slice(end).every((count) => count === 0)) return;
  const variant = job.strategy.variant?.(context.step) ?? '';
  const program = new Program<BatchSource, Place[]>('trainer.step', device, (leaves, source) => {
    const tensors = leaves.values();
    const held = takeHeld(engine.values, tensors);
    const found = traceGradients({ ...job, countNonFinite: false }, held, [...tensors], source, variant);
    const all = [found.packed, ...Object.values(found.gradients)];
    const forward = new Set(topologicalOrder([found.packed]));
    const order = topologicalOrder(all);
    const looked = order.flatMap((node) =>
      node.outputs.flatMap((tensor) => (isFloat(tensor.dtype) && sizeOf(tensor.shape) > 0 ? [{ tensor, node }] : [])),
    );
    const index = new Map(looked.map(({ tensor }, i) => [tensor, i]));
    return {
      outputs: [concat(looked.map(({ tensor }) => nonFinite(tensor)))],
      // The draws of the step, though its Tensors are visited in another order.
      hostInputs: hostInputsOf(all),
      meta: looked.map(({ tensor, node }) => ({
        what: describe(tensor),
        backward: !forward.has(node),
        constant: node.inputs.length === 0 && node.op !== inputOp && node.op !== hostInputOp,
        from: node.inputs.flatMap((input) => index.get(input) ?? []),
      })),
    };
  });
  const { leaves, values } = heldLeaves(engine.values);
  try {
    const { outputs, meta } = await program.run([...leaves, ...batch.leaves], [...values, ...batch.values], context, batch);
    const counts = [...toArray(outputs[0] as Value).data];
    const isBad = (i: number) => (counts[i] as number) > 0;
    // What is not finite though all that it was made of is; where infinite constants leave none, whatever is not finite.
    const origin = meta.findIndex(({ constant, from }, i) => isBad(i) && !constant && !from.some(isBad));
    const first = origin >= 0 ? origin : meta.findIndex(({ constant }, i) => isBad(i) && !constant);
    const place = meta[first];
    const where = place
      ? `the first is ${place.what}${place.backward ? ', in the gradient' : ''}: ${counts[first]} of its elements`
      : 'where is not clear';
    throw new Error(`trainer.step: step ${context.step}: the loss or its gradients are not finite; ${where}`);
  } finally {
    await program.release();
  }
}

/** A Tensor in words: what it is, or what it was made of. */
function describe(tensor: Tensor): string {
  const { node } = tensor;
  const type = `${tensor.dtype}[${tensor.shape.join(', ')}]`;
  if (node.op === inputOp) return `${(node.attributes as { name: string }).name} ${type}`;
  const from = node.inputs.map((input) => nameOf(input.node)).join(', ');
  return `${node.op.name}(${from}) ${type}`;
}

const nameOf = ({ op, attributes }: Node): string => (op === inputOp ? (attributes as { name: string }).name : op.name);
