import {
  type ArrayLike,
  add,
  arange,
  type Backend,
  compile,
  conv2d,
  full,
  gather,
  gelu,
  gradients,
  greater,
  matmul,
  maxPool2d,
  mul,
  type NDArray,
  relu,
  reshape,
  softmax,
  split,
  sum,
  type Tensor,
  toNumbers,
  toScalar,
  transpose,
  where,
} from '../src/index.js';
import { crossEntropyLoss } from '../src/losses/index.js';
import { batchNorm, layerNorm, standardizedConv } from '../src/norm/index.js';
import { adam, adamw, type Optimizer, sgd } from '../src/optim/index.js';
import { compileUpdate, createTrainer } from '../src/train/index.js';
import { batchNormSpec, ceSpec, cnnSpec, layerNormSpec, mlpSpec, optimSpec, standardizedConvSpec, transformerSpec } from './data.js';

type Params = Record<string, Tensor>;

/** A job that is under way. */
export interface Running {
  /** One step; its loss, if there is one. */
  step(): Promise<number | null>;
  /** A number that says whether what the losses do not show was right so far. */
  check?(): Promise<number>;
  close(): Promise<void>;
}

export type Workload = (backend: Backend) => Promise<Running>;

/** A training job: steps on one fixed batch. */
interface Training {
  readonly params: Record<string, ArrayLike>;
  readonly batch: { x: ArrayLike; y: ArrayLike };
  readonly optimizer: Optimizer;
  readonly loss: (params: Params, batch: { x: Tensor; y: Tensor }) => Tensor;
}

const param = (params: Params, name: string): Tensor => params[name] as Tensor;

/** W1 and W1b: a perceptron with one hidden layer, SGD. */
function mlp(batch: number, hidden: number, seed: number): Training {
  const { x, y, params, lr } = mlpSpec(batch, hidden, seed);
  return {
    params,
    batch: { x, y },
    optimizer: sgd({ learningRate: lr }),
    loss: (p, { x: input, y: labels }) => {
      const hiddenLayer = relu(add(matmul(input, param(p, 'w1')), param(p, 'b1')));
      return crossEntropyLoss(add(matmul(hiddenLayer, param(p, 'w2')), param(p, 'b2')), labels);
    },
  };
}

/** W2: two convolutions with pooling on 28 x 28 images, Adam. */
function cnn(): Training {
  const { x, y, params, lr, b1, b2, eps } = cnnSpec();
  const block = (input: Tensor, weight: Tensor, bias: Tensor) =>
    maxPool2d(relu(conv2d(input, weight, { bias, padding: 1 })), { kernelSize: 2 });
  return {
    params,
    batch: { x, y },
    optimizer: adam({ learningRate: lr, beta1: b1, beta2: b2, eps }),
    loss: (p, { x: input, y: labels }) => {
      const features = block(block(input, param(p, 'w1'), param(p, 'b1')), param(p, 'w2'), param(p, 'b2'));
      const flat = reshape(features, [features.shape[0] as number, -1]);
      return crossEntropyLoss(add(matmul(flat, param(p, 'fc')), param(p, 'fb')), labels);
    },
  };
}

/** W3: a decoder of two pre-norm blocks, AdamW. */
function transformer(): Training {
  const { D, H, L, T, V, lr, b1, b2, eps, wd, x, y, params } = transformerSpec();
  const size = D / H;
  const loss: Training['loss'] = (p, { x: tokens, y: targets }) => {
    const batch = tokens.shape[0] as number;
    const norm = (h: Tensor, weight: string, bias: string) => layerNorm(h, { weight: param(p, weight), bias: param(p, bias) });
    const affine = (h: Tensor, weight: string, bias: string) => add(matmul(h, param(p, weight)), param(p, bias));
    const heads = (h: Tensor) => transpose(reshape(h, [batch, T, H, size]), [0, 2, 1, 3]);
    const future = greater(arange(T), reshape(arange(T), [T, 1]));
    const mask = where(future, full([], -1e9), 0);
    let h = add(gather(param(p, 'tok'), tokens), param(p, 'pos'));
    for (let l = 0; l < L; l++) {
      const name = (key: string) => `l${l}_${key}`;
      const [q, k, v] = split(affine(norm(h, name('g1'), name('c1')), name('wqkv'), name('bqkv')), 3, { axis: 2 }).map(heads) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const weights = softmax(add(mul(matmul(q, transpose(k)), 1 / Math.sqrt(size)), mask));
      const attended = reshape(transpose(matmul(weights, v), [0, 2, 1, 3]), [batch, T, D]);
      h = add(h, affine(attended, name('wo'), name('bo')));
      const inner = gelu(affine(norm(h, name('g2'), name('c2')), name('w1'), name('b1')), { approximate: 'tanh' });
      h = add(h, affine(inner, name('w2'), name('b2')));
    }
    const logits = matmul(norm(h, 'gf', 'cf'), param(p, 'head'));
    return crossEntropyLoss(reshape(logits, [batch * T, V]), reshape(targets, [batch * T]));
  };
  return {
    params,
    // One axis of targets per axis of tokens.
    batch: { x, y: { ...y, shape: x.shape } },
    optimizer: adamw({ learningRate: lr, beta1: b1, beta2: b2, eps, weightDecay: wd }),
    loss,
  };
}

const training =
  (make: () => Training): Workload =>
  async (backend) => {
    const { batch, ...options } = make();
    const trainer = await createTrainer(backend, options);
    return { step: async () => (await trainer.step(batch)).loss, close: () => trainer.close() };
  };

/** W4: nothing but an optimizer. The gradient comes as an array of the caller, in every step. */
const optimizing =
  (make: (options: ReturnType<typeof optimSpec>) => Optimizer): Workload =>
  async (backend) => {
    const spec = optimSpec();
    const update = await compileUpdate(backend, make(spec), { p: spec.p });
    return {
      step: async () => {
        await update.step({ p: spec.g });
        return null;
      },
      check: async () => {
        const values = toNumbers((await update.params()).p);
        return values.reduce((total, value) => total + value * value, 0) / values.length;
      },
      close: () => update.close(),
    };
  };

/** What is differentiated: a loss of named arrays, with respect to some of them. */
interface Evaluation {
  readonly inputs: Record<string, ArrayLike>;
  readonly wrt: readonly string[];
  readonly loss: (x: Record<string, Tensor>) => Tensor;
}

/** W5 and W6: value and gradients of one function, all of which come back to the host. */
const evaluating =
  (make: () => Evaluation): Workload =>
  async (backend) => {
    const { inputs, wrt, loss } = make();
    const evaluate = compile(backend, (x: Record<string, Tensor>) => {
      const value = loss(x);
      return {
        value,
        back: gradients(
          value,
          wrt.map((name) => param(x, name)),
        ),
      };
    });
    let last: readonly NDArray[] = [];
    return {
      step: async () => {
        const { value, back } = await evaluate(inputs);
        last = back;
        return toScalar(value);
      },
      // The L2 norm of all gradients.
      check: async () => {
        let total = 0;
        for (const gradient of last) for (const g of toNumbers(gradient)) total += g * g;
        return Math.sqrt(total);
      },
      close: () => evaluate.close(),
    };
  };

/** W6: the sum of a layer's output times fixed numbers `r`, with eps 1e-5. */
const weighed = (inputs: Evaluation['inputs'], layer: (x: Tensor, params: { weight: Tensor; bias?: Tensor }) => Tensor): Evaluation => ({
  inputs,
  wrt: Object.keys(inputs).filter((name) => name !== 'r'),
  loss: ({ x, r, ...params }) => sum(mul(layer(x as Tensor, params as { weight: Tensor }), r as Tensor)),
});

export const workloads: Readonly<Record<string, Workload>> = {
  W1_mlp: training(() => mlp(64, 256, 101)),
  W1b_mlp: training(() => mlp(256, 1024, 111)),
  W2_cnn: training(cnn),
  W3_transformer: training(transformer),
  W4_adamw: optimizing(({ lr, b1, b2, eps, wd }) => adamw({ learningRate: lr, beta1: b1, beta2: b2, eps, weightDecay: wd })),
  W5_ce: evaluating(() => {
    const { logits, labels } = ceSpec();
    return { inputs: { logits, labels }, wrt: ['logits'], loss: (x) => crossEntropyLoss(param(x, 'logits'), param(x, 'labels')) };
  }),
  W6_layernorm: evaluating(() => weighed(layerNormSpec(), layerNorm)),
  W6_batchnorm: evaluating(() => weighed(batchNormSpec(), (x, params) => batchNorm(x, params, undefined, { mode: 'batch' }).y)),
  W6_wsconv: evaluating(() => weighed(standardizedConvSpec(), (x, params) => standardizedConv(x, params, { padding: 1 }))),
};
