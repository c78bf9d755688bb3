// Trains a network on handwritten digits, writes a report and an ONNX model, and checks that the model does what was trained.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import {
  argMax,
  cast,
  createRng,
  equal,
  exportOnnx,
  filled,
  foldIn,
  keyFromSeed,
  maxPool2d,
  mean,
  relu,
  reshape,
  type Tensor,
  type Tensors,
} from 'tracegrad';
import { type ConvParams, conv2d, initConv2d, initLinear, linear } from 'tracegrad/layers';
import { crossEntropyLoss } from 'tracegrad/losses';
import { createBackend, writeFileAtomic } from 'tracegrad/node';
import { initLayerNorm, type LayerNormParams, layerNorm } from 'tracegrad/norm';
import { adamw, type Schedule } from 'tracegrad/optim';
import { createTrainer, load, save } from 'tracegrad/train';
import { refuse } from '../support/command-line.js';
import { batches, CLASSES, loadDigits, SIZE } from '../support/digits.js';
import { shuffledBatches } from './data.js';
import { readOptions } from './options.js';
import { Average, createProgress, type EpochScores, percent } from './progress.js';
import { readings, report } from './report.js';

const { device, epochs, seed, output, resume, batchSize, trainCount, testCount, goal } = readOptions(process.argv.slice(2));
try {
  mkdirSync(output, { recursive: true });
} catch (error) {
  refuse(`--output: ${(error as Error).message}`);
}
const { train, test } = loadDigits(trainCount, testCount);
const backend = await createBackend({ device }).catch((error: Error) => refuse(`--device: ${error.message}`));

// The model: initial parameters as a tree of arrays, and a function of the same tree of Tensors.

const rng = createRng(seed);
const initial = {
  conv1: initConv2d(rng, 1, 12, 3),
  norm1: initLayerNorm([12, SIZE, SIZE]),
  conv2: initConv2d(rng, 12, 24, 3),
  norm2: initLayerNorm([24, SIZE / 2, SIZE / 2]),
  out: initLinear(rng, 24 * (SIZE / 4) ** 2, CLASSES),
};
type Params = Tensors<typeof initial>;

function block(x: Tensor, conv: ConvParams, norm: LayerNormParams): Tensor {
  const features = layerNorm(conv2d(x, conv, { padding: 'same' }), norm, { axis: 1 });
  return maxPool2d(relu(features), { kernelSize: 2 });
}

/** Images `[N, 1, 28, 28]` to logits `[N, 10]`. */
function model(params: Params, images: Tensor): Tensor {
  const { conv1, norm1, conv2, norm2, out } = params;
  const features = block(block(images, conv1, norm1), conv2, norm2);
  return linear(reshape(features, [images.shape[0]!, -1]), out);
}

/** The loss, and the share of digits that are read right. */
function loss(params: Params, { images, labels }: { images: Tensor; labels: Tensor }) {
  const logits = model(params, images);
  const right = equal(argMax(logits), labels);
  return { loss: crossEntropyLoss(logits, labels), metrics: { accuracy: mean(cast(right, 'float32')) } };
}

/** A linear rise over the first tenth of the steps, then half a cosine down to 0. */
function warmUpAndDown(peak: number, steps: number): Schedule {
  const warmUp = Math.ceil(steps / 10);
  return (step) =>
    step < warmUp ? (peak * (step + 1)) / warmUp : (peak / 2) * (1 + Math.cos((Math.PI * (step - warmUp)) / (steps - warmUp)));
}

// The training: the loop is ours, a step of it is the trainer's.

const stepsPerEpoch = Math.ceil(trainCount / batchSize);
const trainer = await createTrainer(backend, {
  loss,
  params: initial,
  predict: model,
  seed,
  optimizer: adamw({
    learningRate: warmUpAndDown(0.008, epochs * stepsPerEpoch),
    weightDecay: 0.05,
    weightDecayMask: (name) => name.endsWith('weight') && !name.startsWith('norm'),
  }),
});

// What a run that goes on needs besides parameters, optimizer state and step: which run it is, and what it has to tell so far.

const checkpointFile = join(output, 'checkpoint.safetensors');
const settings = { device, seed, epochs, batchSize, trainCount, testCount };
interface Extra {
  readonly settings: Record<string, unknown>;
  readonly history: readonly EpochScores[];
  readonly stepLosses: readonly number[];
  readonly seconds: number;
}

async function readCheckpoint(): Promise<Extra> {
  let extra: Extra;
  try {
    extra = (await load(trainer, readFileSync(checkpointFile))) as Extra;
  } catch (error) {
    return refuse(`--resume: ${(error as Error).message}`);
  }
  for (const [name, value] of Object.entries(settings)) {
    if (extra.settings[name] !== value)
      refuse(`--resume: the checkpoint is of a run with ${name} ${extra.settings[name]}, this is ${value}`);
  }
  return extra;
}

const parameterCount = Object.values(initial).reduce((sum, { weight, bias }) => sum + weight.data.length + bias.data.length, 0);
console.log(`${trainCount} digits to train, ${testCount} to test, ${parameterCount} parameters, device ${device}, seed ${seed}`);
const before: Extra = resume ? await readCheckpoint() : { settings, history: [], stepLosses: [], seconds: 0 };
const stepLosses = [...before.stepLosses];
const history = [...before.history];
const start = performance.now() - 1000 * before.seconds;
const secondsSoFar = () => (performance.now() - start) / 1000;
if (resume) console.log(`goes on after epoch ${history.length} of ${checkpointFile}`);
const progress = createProgress(epochs, trainCount, history.length);
for (let epoch = history.length + 1; epoch <= epochs; epoch++) {
  const average = new Average();
  // Every epoch has a generator of its own, so that none depends on how the ones before it were run.
  for (const batch of shuffledBatches(train, batchSize, createRng(foldIn(keyFromSeed(seed), epoch)))) {
    const { loss, metrics } = await trainer.step(batch);
    stepLosses.push(loss);
    const count = batch.labels.shape[0]!;
    average.add({ loss, accuracy: metrics.accuracy }, count);
    progress.advance(count, epoch, average);
  }
  const { loss, metrics } = await trainer.evaluateAll(batches(test, 250));
  history.push({ train: { loss: average.loss, accuracy: average.accuracy }, test: { loss, accuracy: metrics.accuracy } });
  const extra: Extra = { settings, history, stepLosses, seconds: secondsSoFar() };
  await writeFileAtomic(checkpointFile, await save(trainer, { extra }));
  progress.finish(epoch, history.at(-1)!);
}
progress.stop();
const seconds = secondsSoFar();

const logits = new Float32Array(testCount * CLASSES);
let end = 0;
for (const batch of batches(test, 250)) {
  const { data } = await trainer.predict(batch.images);
  logits.set(data, end);
  end += data.length;
}
const predicted = readings(logits);
const accuracy = predicted.filter(({ digit }, i) => digit === test.labels[i]).length / testCount;

// The files: the trained model for any ONNX runtime, and a page on how it went.

const modelFile = join(output, 'model.onnx');
const reportFile = join(output, 'report.html');
writeFileSync(modelFile, exportOnnx(model, await trainer.params(), filled([1, 1, SIZE, SIZE], 0)));
writeFileSync(reportFile, report({ history, stepLosses, test, predicted, device, seed, seconds, trainCount, parameterCount }));
await trainer.close();
await backend.close();
console.log(`trained in ${seconds.toFixed(1)} s; wrote ${modelFile} and ${reportFile}`);

// The check: ONNX Runtime alone must read every test digit like the trainer, whatever the size of its batches.

const session = await ort.InferenceSession.create(modelFile);
let disagreements = 0;
let difference = 0;
let from = 0;
for (const count of [1, 7, 64, testCount - 72]) {
  const pixels = test.pixels.subarray(from * SIZE * SIZE, (from + count) * SIZE * SIZE);
  const { output: result } = await session.run({ input: new ort.Tensor('float32', pixels, [count, 1, SIZE, SIZE]) });
  const exported = result!.data as Float32Array;
  readings(exported).forEach(({ digit }, i) => {
    if (digit !== predicted[from + i]!.digit) disagreements++;
  });
  exported.forEach((logit, i) => {
    difference = Math.max(difference, Math.abs(logit - logits[from * CLASSES + i]!));
  });
  from += count;
}
await session.release();
if (disagreements > 0 || !(difference < 1e-3)) {
  console.error(
    `digits: ${modelFile} reads ${disagreements} of ${testCount} test digits differently; its logits are off by up to ${difference}`,
  );
  process.exitCode = 1;
} else {
  console.log(
    `${modelFile} in plain ONNX Runtime reads all ${testCount} test digits alike, its logits within ${difference.toExponential(1)}`,
  );
}
if (accuracy < goal) {
  console.error(`digits: the test accuracy should be at least ${percent(goal)}`);
  process.exitCode = 1;
} else if (goal > 0) {
  console.log(`the goal, a test accuracy of at least ${percent(goal)}, is reached`);
}
console.log(`test accuracy ${percent(accuracy, 2)}`);
