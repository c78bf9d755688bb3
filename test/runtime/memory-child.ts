/**
 * A program of its own, so that its memory can be measured: `node --expose-gc --import tsx memory-child.ts <sizes> <named>`.
 * Trains on sequences of as many lengths as asked for, the longest of them LONGEST, with the length a named axis or not, and
 * prints its resident memory in bytes, before and after.
 */
import { compile, createRng, filled, mean, type Tensor, type Tensors, valueAndGrad } from '../../src/index.js';
import { initLinear, initSelfAttention, linear, selfAttention } from '../../src/layers/index.js';
import { createBackend } from '../../src/node.js';
import { initLayerNorm, layerNorm } from '../../src/norm/index.js';

const LONGEST = 256;
const RUNS = 60;

const rng = createRng(1);
const features = 64;
const params = {
  norm: initLayerNorm(features),
  attention: initSelfAttention(rng, features),
  up: initLinear(rng, features, 4 * features),
  down: initLinear(rng, 4 * features, features),
};
const loss = (p: Tensors<typeof params>, x: Tensor) => {
  const mixed = selfAttention(layerNorm(x, p.norm), p.attention, { heads: 4, causal: true });
  return mean(linear(linear(mixed, p.up), p.down));
};

const [sizes, named] = process.argv.slice(2).map(Number) as [number, number];
const resident = (): number => {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  return process.memoryUsage.rss();
};
const backend = await createBackend({ device: 'cpu', threads: 1 });
const step = compile(backend, valueAndGrad(loss), { axes: named ? [null, [null, 'length']] : [] });
const before = resident();
for (let run = 0; run < RUNS; run++) {
  const length = LONGEST - 3 * (sizes - 1 - (run % sizes));
  await step(params, filled([4, length, features], 0.5));
}
console.log(JSON.stringify({ before, after: resident() }));
await backend.close();
