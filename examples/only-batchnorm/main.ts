// Trains nothing but the scales and offsets of batch norm in a random network, and compares that with as many other weights.
import { join } from 'node:path';
import { createRng } from 'tracegrad';
import { createBackend } from 'tracegrad/node';
import { type ParameterInfo, selectTrainable } from 'tracegrad/norm';
import { sgd } from 'tracegrad/optim';
import { createTrainer } from 'tracegrad/train';
import { program, readExperimentOptions } from '../support/command-line.js';
import { batches, loadSmallDigits, shuffled } from '../support/digits.js';
import { cosine, expectEffect, mean, overSeeds, printTable, summary } from '../support/experiment.js';
import { comparison, savePlot } from '../support/plot.js';
import { CHOSEN, initResNet, loss, scalesOf } from './model.js';

const { quick, seeds, output } = readExperimentOptions({
  text: `Trains residual networks of which most stays as it was drawn: only batch norm, as many other weights (two of every
channel, chosen at random), only the output layer, or all.`,
  quick: 'one seed of a network of 14 layers, and only the first two of these',
});

interface Method {
  readonly name: string;
  readonly trains: (parameter: ParameterInfo) => boolean;
}
const onlyNorm: Method = { name: 'only batch norm', trains: ({ layer }) => layer === 'norm' };
const randomWeights: Method = { name: 'random weights', trains: ({ name }) => name.endsWith('.delta') };
const onlyOutput: Method = { name: 'only output layer', trains: ({ name }) => name.startsWith('out.') };
const everything: Method = { name: 'everything', trains: () => true };

const depths = quick ? [14] : [14, 38];
const methods = quick ? [onlyNorm, randomWeights] : [onlyNorm, randomWeights, onlyOutput, everything];
const epochs = 5;
const batchSize = 32;

// The runs

const { train, test } = loadSmallDigits();
const backend = await createBackend({ device: 'cpu' });

async function run(depth: number, method: Method, seed: number) {
  const rng = createRng(seed);
  const { params, state } = initResNet(rng, depth, { masked: method === randomWeights });
  let trained = 0;
  const trainable = selectTrainable(params, (parameter) => {
    const chosen = method.trains(parameter);
    if (chosen) trained += sizeOf(parameter);
    return chosen;
  });
  const steps = Math.ceil(train.labels.length / batchSize) * epochs;
  const optimizer = sgd({ learningRate: cosine(0.1, steps), momentum: 0.9 });
  await using trainer = await createTrainer(backend, { loss, params, state, optimizer, trainable });
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const batch of batches(shuffled(train, rng), batchSize)) await trainer.step(batch);
  }
  const { metrics } = await trainer.evaluateAll(batches(test, 450));
  const scales = scalesOf(await trainer.params());
  const small = scales.filter((scale) => Math.abs(scale) < 0.01).length / scales.length;
  return { trained, accuracy: 100 * metrics.accuracy, small: 100 * small };
}

/** How many numbers of a parameter are trained. */
const sizeOf = ({ name, shape }: ParameterInfo): number =>
  name.endsWith('.delta') ? shape[0]! * CHOSEN : shape.reduce((product, size) => product * size, 1);

interface Result {
  readonly depth: number;
  readonly method: string;
  /** Of every seed: how many numbers are trained; in percent, what is read right of the test digits, and which scales are below 0.01. */
  readonly trained: readonly number[];
  readonly accuracy: readonly number[];
  readonly small: readonly number[];
}
const results: Result[] = [];
for (const depth of depths) {
  for (const method of methods) {
    const found = await overSeeds(seeds, (seed) => run(depth, method, seed));
    results.push({ depth, method: method.name, ...found });
    console.log(`${depth} layers, ${method.name}: accuracy ${summary(found.accuracy)} %`);
  }
}
await backend.close();

// What came of it

const ofDepth = (depth: number): Result[] => results.filter((result) => result.depth === depth);
for (const depth of depths) {
  printTable([
    [`${depth} layers`, 'numbers trained', 'accuracy, %', 'scales below 0.01, %'],
    ...ofDepth(depth).map(({ method, trained, accuracy, small }) => [method, String(trained[0]), summary(accuracy), summary(small)]),
  ]);
}
const plotFile = join(output, `${program}.svg`);
await savePlot(plotFile, {
  concat: depths.map((depth) =>
    comparison({
      title: `${depth} layers`,
      axis: 'accuracy, %',
      largest: 100,
      results: ofDepth(depth).map(({ method, accuracy }) => ({ method, values: accuracy })),
    }),
  ),
});
console.log(`wrote ${plotFile}`);

const meanOf = (what: 'accuracy' | 'small', { name }: Method): number =>
  mean(ofDepth(depths.at(-1)!).find(({ method }) => method === name)![what]);
const above = (method: Method): number => meanOf('accuracy', onlyNorm) - meanOf('accuracy', method);

const margin = quick ? 10 : 20;
const gain = above(randomWeights);
expectEffect(`only batch norm is over ${margin} points above as many random weights (${gain.toFixed(1)} points)`, gain > margin);
if (!quick) {
  expectEffect(`in the deep network it is above only the output layer (${above(onlyOutput).toFixed(1)} points)`, above(onlyOutput) > 0);
}
const small = meanOf('small', onlyNorm).toFixed(1);
console.log(`scales near 0: ${small} %, of 1 % as drawn; deeper networks after longer training have about a third in the paper`);
