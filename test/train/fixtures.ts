import { add, array, type Backend, createRng, matmul, type NDArray, square, sub, sum, type Tensor, toNumbers } from '../../src/index.js';
import { normal } from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { sgd } from '../../src/optim/index.js';
import { createTrainer, type Snapshotable, type TrainerOptions } from '../../src/train/index.js';

// A regression in three variables: small enough to be repeated in plain JavaScript.
export type Params = { w: Tensor; b: Tensor };
export type Batch = { x: Tensor; y: Tensor };
const features = normal(createRng(8), [16, 3]);
const targets = normal(createRng(9), [16, 1]);
export const initial = () => ({ w: array([[0.1], [0.2], [0.3]]), b: array([0.5]) });
export const predict = (p: Params, x: Tensor): Tensor => add(matmul(x, p.w), p.b);
export const loss = (p: Params, { x, y }: Batch): Tensor => mseLoss(predict(p, x), y);
/** The squared error of every row, `[rows]`. */
export const squaredErrors = (p: Params, { x, y }: Batch): Tensor => sum(square(sub(predict(p, x), y)), { axis: 1 });

export type RegressionOptions = TrainerOptions<Params, Batch, Tensor, Tensor>;
export const regression = (backend: Backend, options: Partial<RegressionOptions> = {}) =>
  createTrainer(backend, { loss, predict, params: initial(), optimizer: sgd({ learningRate: 0.1 }), ...options });

/** Rows `from` to `to` of the data, of which there are 16. */
export const rows = (from: number, to: number) => ({
  x: array(features.data.slice(3 * from, 3 * to), { shape: [to - from, 3] }),
  y: array(targets.data.slice(from, to), { shape: [to - from, 1] }),
});

/** Loss and gradient of those rows at the weights `[w0, w1, w2, b]`, in float64. */
export function plainGradient(weights: readonly number[], from = 0, to = 16): { loss: number; gradient: number[] } {
  const { x, y } = rows(from, to);
  const count = to - from;
  const inputs = Array.from({ length: count }, (_, i) => [...x.data.slice(3 * i, 3 * i + 3), 1] as number[]);
  const errors = inputs.map((row, i) => row.reduce((total, v, k) => total + v * weights[k]!, -y.data[i]!));
  return {
    loss: errors.reduce((total, e) => total + e * e, 0) / count,
    gradient: weights.map((_, k) => errors.reduce((total, e, i) => total + (2 / count) * e * inputs[i]![k]!, 0)),
  };
}

/** `[w0, w1, w2, b]` of arrays by name, such as parameters or one slot of the optimizer's state. */
export const weightsOf = (named: Readonly<Record<string, NDArray>>, prefix = ''): number[] =>
  ['w', 'b'].flatMap((name) => toNumbers(named[`${prefix}${name}`]!));

/** A tree of arrays to the last bit: JSON knows neither NaN nor -0. */
export const bytesOf = (tree: unknown): string =>
  JSON.stringify(tree, (_, value) =>
    ArrayBuffer.isView(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex') : value,
  );

/** All that a trainer holds, to the last bit. */
export const everything = async (trainer: Snapshotable): Promise<string> => bytesOf(await trainer.snapshot());
