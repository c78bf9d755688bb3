import { constant, div, gradients, mul, sum, type Tensor } from '../../src/index.js';
import {
  batchChannelNorm,
  batchNorm,
  batchNormWithStats,
  batchRenorm,
  batchStats,
  estimatedBatchNorm,
  ghostBatchNorm,
  groupNorm,
  instanceNorm,
  layerNormWithStatistics,
  nonScalingLayerNorm,
  patchBatchNorm,
  qkNorm,
  rmsNormWithStatistics,
  syncBatchNorm,
  weightStandardization,
} from '../../src/norm/index.js';
import type { Named } from '../../src/optim/index.js';
import { type Adapter, layer } from './adapter.js';

type Options = Readonly<Record<string, unknown>>;

/** The files switch parameters off by options, where ours are left out. */
function checkSwitch(option: unknown, parameter: unknown, name: string): void {
  if (option !== undefined && option !== (parameter !== undefined)) {
    throw new Error(`golden: the option for ${name} is ${option}, but the input is ${parameter ? '' : 'not '}there`);
  }
}

/** A layer with an affine pair that the option `affine` switches. */
const affine = (fn: (x: Tensor, params: Named, options: never) => Tensor): Adapter =>
  layer(
    ({ x, ...params }, { affine: both, ...options }) => {
      checkSwitch(both, params.weight, 'weight and bias');
      return { y: fn(x!, params, options as never) };
    },
    ['x', 'weight?', 'bias?'],
  );

/** A layer with state; evaluation lists it or not. */
const stateful = (
  fn: (x: Tensor, params: Named, state: never, options: never) => { y: Tensor; state: unknown },
  slots: readonly string[],
  params: readonly string[] = ['weight', 'bias'],
): Adapter =>
  layer(
    (inputs, { affine: both, numBatchesTracked, ...options }) => {
      checkSwitch(both, inputs.weight, 'weight and bias');
      const pick = (names: readonly string[]) => Object.fromEntries(names.flatMap((name) => (inputs[name] ? [[name, inputs[name]]] : [])));
      const tracked =
        numBatchesTracked === undefined ? {} : { numBatchesTracked: constant(numBatchesTracked as number, { dtype: 'int32' }) };
      const { y, state } = fn(inputs.x!, pick(params), { ...pick(slots), ...tracked } as never, options as never);
      return { y, ...(state as Named) };
    },
    ['x', ...params.map((name) => `${name}?`), ...slots],
    [...slots, 'numBatchesTracked'],
  );

const running = ['runningMean', 'runningVar'];

/** Shards `x0`, `x1`, ..., with their local statistics, and gradients of the parameters that each of them has for itself. */
function sync(inputs: Named, { counts, ...options }: Options, cotangents: Named): Named {
  const { weight, bias, runningMean, runningVar } = inputs as Record<string, Tensor>;
  const shards = (counts as number[]).map((count, i) => {
    const x = inputs[`x${i}`] as Tensor;
    if (x.shape[0] !== count) throw new Error(`golden: shard ${i} has ${x.shape[0]} samples, not ${count}`);
    return x;
  });
  const affinePair = { weight: weight!, bias: bias! };
  const { ys, stats, state } = syncBatchNorm(shards, affinePair, { runningMean: runningMean!, runningVar: runningVar! }, options);
  const named = (name: string, values: readonly Tensor[]) => Object.fromEntries(values.map((value, i) => [`${name}${i}`, value]));
  const local = shards.map(batchStats);
  const { eps = 1e-5 } = options as { eps?: number };
  // Each shard's own gradients of the parameters, from its part of the layer.
  const own = shards.map((x, i) => {
    const y = batchNormWithStats(x, stats, affinePair, { eps });
    return gradients(sum(mul(y, cotangents[`grad_y${i}`] as Tensor)), [weight!, bias!]);
  });
  return {
    ...named('y', ys),
    ...named(
      'localMean',
      local.map(({ mean }) => mean),
    ),
    ...named(
      'localM2_',
      local.map(({ m2 }) => m2),
    ),
    ...named(
      'localGradWeight',
      own.map(([dWeight]) => dWeight as Tensor),
    ),
    ...named(
      'localGradBias',
      own.map(([, dBias]) => dBias as Tensor),
    ),
    mean: stats.mean,
    var: div(stats.m2, stats.count),
    ...state,
  };
}

export const norm: Readonly<Record<string, Adapter>> = {
  'norm-batch-channel-norm': stateful(batchChannelNorm, running, ['bnWeight', 'bnBias', 'weight', 'bias']),
  'norm-batch-norm': stateful(batchNorm, running),
  'norm-batch-renorm': stateful(batchRenorm, ['runningMean', 'runningStd']),
  'norm-estimated-batch-norm': stateful(estimatedBatchNorm, running),
  'norm-ghost-batch-norm': stateful(ghostBatchNorm, running),
  'norm-group-norm': affine(groupNorm),
  'norm-instance-norm': affine(instanceNorm),
  'norm-layer-norm': layer(
    ({ x, ...params }, { scale, bias, ...options }) => {
      checkSwitch(scale, params.weight, 'weight');
      checkSwitch(bias, params.bias, 'bias');
      return { ...layerNormWithStatistics(x!, params, options) };
    },
    ['x', 'weight?', 'bias?'],
    ['mean', 'rstd'],
  ),
  'norm-non-scaling-layer-norm': layer(
    ({ x, ...params }, { bias, ...options }) => {
      checkSwitch(bias, params.bias, 'bias');
      return { y: nonScalingLayerNorm(x!, params, options) };
    },
    ['x', 'bias?'],
  ),
  'norm-patch-batch-norm': affine(patchBatchNorm),
  'norm-qk-norm': layer(
    ({ q, k, ...params }, { scale, logitScale, ...options }) => {
      checkSwitch(scale, params.weightQ, 'weightQ');
      checkSwitch(scale, params.weightK, 'weightK');
      // null is the default, as is what is not there.
      const factor = logitScale === null || logitScale === undefined ? {} : { logitScale: logitScale as number };
      const { q: qNormed, k: kNormed, logits } = qkNorm(q!, k!, params, { ...options, ...factor });
      return { qNormed, kNormed, logits };
    },
    ['q', 'k', 'weightQ?', 'weightK?'],
  ),
  'norm-rms-norm': layer(
    ({ x, ...params }, { scale, ...options }) => {
      checkSwitch(scale, params.weight, 'weight');
      return { ...rmsNormWithStatistics(x!, params, options) };
    },
    ['x', 'weight?'],
    ['rrms'],
  ),
  'norm-sync-batch-norm': layer(sync, ({ options }) => [
    'weight',
    'bias',
    ...running,
    ...(options.counts as number[]).map((_, i) => `x${i}`),
  ]),
  'norm-weight-standardization': layer(
    ({ w, gain }, { scaled, ...options }) => {
      // With 'clampFanIn' there is no other form, so the files' switch says nothing.
      const given = options.epsPlacement === 'clampFanIn' ? options : { ...options, scaled: scaled as boolean };
      return { wHat: weightStandardization(w!, { ...given, ...(gain && { gain }) }) };
    },
    ['w', 'gain?'],
  ),
};
