// Trains with one or two images per step, where batch norm fails, and compares what there is instead.
import { join } from 'node:path';
import { createRng } from 'tracegrad';
import { createBackend } from 'tracegrad/node';
import { sgd } from 'tracegrad/optim';
import { createTrainer } from 'tracegrad/train';
import { program, readExperimentOptions } from '../support/command-line.js';
import { batches, loadSmallDigits, shuffled } from '../support/digits.js';
import { cosine, expectEffect, mean, overSeeds, printTable, summary } from '../support/experiment.js';
import { comparison, savePlot } from '../support/plot.js';
import { initNet, lossOf, type Method } from './model.js';

const { quick, seeds, output } = readExperimentOptions({
  text: `Trains on batches of one and two digits with batch norm (BN), group norm (GN) and batch-channel norm (BCN), with and
without weight standardization (WS).`,
  quick: 'one seed, and only the methods that show the effects',
});

/** How one compares. */
interface Setting {
  readonly name: string;
  /** Channels of the convolutions. */
  readonly widths: readonly number[];
  readonly batchSize: number;
  readonly epochs: number;
  readonly learningRate: number;
}
const widths = [16, 32, 32, 32];
const one: Setting = { name: 'batch 1', widths, batchSize: 1, epochs: 1, learningRate: 0.005 };
const two: Setting = { name: 'batch 2', widths, batchSize: 2, epochs: 2, learningRate: 0.01 };
const fast: Setting = { name: 'batch 2, narrow, high rate', widths: [8, 16, 16, 16], batchSize: 2, epochs: 2, learningRate: 0.03 };

const bn: Method = { name: 'BN', norm: 'BN' };
const gn: Method = { name: 'GN', norm: 'GN' };
const bcn = (updateRate: number): Method => ({ name: `BCN ${updateRate}`, norm: 'BCN', updateRate });
const ws = (method: Method): Method => ({ ...method, name: `WS + ${method.name}`, standardized: true });

const all = [bn, ws(bn), gn, ws(gn), bcn(0.1), ws(bcn(0.1)), ws(bcn(0.01)), ws(bcn(0))];
const comparisons: readonly [Setting, readonly Method[]][] = quick
  ? [
      [one, [bn, ws(gn), ws(bcn(0.1))]],
      [fast, [gn, bcn(0.1)]],
    ]
  : [
      [one, all],
      [two, all],
      [fast, [gn, bcn(0.1), bcn(0.01)]],
    ];

// The runs

const { train, test } = loadSmallDigits();
const backend = await createBackend({ device: 'cpu' });

async function run({ widths, batchSize, epochs, learningRate }: Setting, method: Method, seed: number) {
  const rng = createRng(seed);
  const steps = Math.ceil(train.labels.length / batchSize) * epochs;
  await using trainer = await createTrainer(backend, {
    ...initNet(rng, method, widths),
    loss: lossOf(method),
    optimizer: sgd({ learningRate: cosine(learningRate, steps), momentum: 0.9 }),
  });
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const batch of batches(shuffled(train, rng), batchSize)) await trainer.step(batch);
  }
  const { accuracy } = (await trainer.evaluateAll(batches(test, 450))).metrics;
  const { dead } = (await trainer.evaluateAll(batches(train, 450))).metrics;
  return { accuracy: 100 * accuracy, dead: 100 * dead };
}

/** In percent, of every seed: what is read right of the test digits, and which channels are dead on the training digits. */
interface Result {
  readonly setting: string;
  readonly method: string;
  readonly accuracy: readonly number[];
  readonly dead: readonly number[];
}
const results: Result[] = [];
for (const [setting, methods] of comparisons) {
  for (const method of methods) {
    const found = await overSeeds(seeds, (seed) => run(setting, method, seed));
    results.push({ setting: setting.name, method: method.name, ...found });
    console.log(`${setting.name}, ${method.name}: accuracy ${summary(found.accuracy)} %`);
  }
}
await backend.close();

// What came of it

const of = (name: string): Result[] => results.filter(({ setting }) => setting === name);
for (const [{ name }] of comparisons) {
  const rows = of(name).map(({ method, accuracy, dead }) => [method, summary(accuracy), summary(dead)]);
  printTable([[name, 'accuracy, %', 'dead channels, %'], ...rows]);
}
const panel = ({ name }: Setting, what: 'accuracy' | 'dead', scale: { axis: string; largest?: number }) =>
  comparison({ title: name, results: of(name).map(({ method, [what]: values }) => ({ method, values })), ...scale });
const plotFile = join(output, `${program}.svg`);
await savePlot(plotFile, {
  columns: 2,
  concat: [
    ...comparisons.map(([setting]) => panel(setting, 'accuracy', { axis: 'accuracy, %', largest: 100 })),
    panel(fast, 'dead', { axis: 'dead channels, %' }),
  ],
});
console.log(`wrote ${plotFile}`);

const meanOf = (what: 'accuracy' | 'dead', setting: Setting, { name }: Method): number =>
  mean(of(setting.name).find(({ method }) => method === name)![what]);
/** By how many points the first method is above the second. */
const gain = (what: 'accuracy' | 'dead', setting: Setting, first: Method, second: Method): number =>
  meanOf(what, setting, first) - meanOf(what, setting, second);
const points = (count: number): string => `${count < 0 ? '' : '+'}${count.toFixed(1)} points`;

for (const method of [ws(gn), ws(bcn(0.1))]) {
  const above = gain('accuracy', one, method, bn);
  expectEffect(`at batch 1, ${method.name} is over 20 points above BN (${points(above)})`, above > 20);
}
const above = gain('accuracy', fast, bcn(0.1), gn);
expectEffect(`at the high rate, without WS, BCN is above GN (${points(above)})`, above > 0);
const dead = gain('dead', fast, bcn(0.1), gn);
expectEffect(`there, fewer channels are dead with BCN (${points(dead)})`, dead < 0);
if (!quick) {
  const gains = [0.1, 0.01, 0].map((rate) => `${points(gain('accuracy', one, ws(bcn(rate)), ws(gn)))} with rate ${rate}`);
  console.log(`where both have WS, BCN against GN comes to ${gains.join(', ')} at batch 1`);
}
