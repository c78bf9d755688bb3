import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  add,
  checkpoint,
  compile,
  concat,
  createRng,
  filled,
  mean,
  split,
  square,
  type Tensor,
  type Tensors,
  tanh,
  valueAndGrad,
} from '../src/index.js';
import { initLinear, linear, reversibleBlock, reversibleSequence } from '../src/layers/index.js';
import { createBackend } from '../src/node.js';

const USAGE = `npx tsx bench/memory.ts

Peak resident memory, and milliseconds per step, of a loss with its gradient on the CPU (one thread): residual blocks that are plain,
checkpointed, or reversible, each in a process of its own.`;

const [ROWS, WIDTH, EXPANSION, STEPS] = [4096, 128, 4, 4] as const;

const rng = createRng(0);
const init = () => ({ up: initLinear(rng, WIDTH, EXPANSION * WIDTH), down: initLinear(rng, EXPANSION * WIDTH, WIDTH) });
const initBlock = () => ({ f: init(), g: init() });
type Part = Tensors<ReturnType<typeof init>>;
type Block = { f: Part; g: Part };

const part = (u: Tensor, p: Part) => linear(tanh(linear(u, p.up)), p.down);
const functions = { f: part, g: part };
const plain = (p: Block, x: Tensor) => {
  const [x1, x2] = split(x, 2, { axis: 1 }) as [Tensor, Tensor];
  const y1 = add(x1, part(x2, p.f));
  return concat([y1, add(x2, part(y1, p.g))], { axis: 1 });
};
const inTurn = (block: (p: Block, x: Tensor) => Tensor) => (blocks: Block[], x: Tensor) => blocks.reduce((h, p) => block(p, h), x);

const networks: Readonly<Record<string, (blocks: Block[], x: Tensor) => Tensor>> = {
  plain: inTurn(plain),
  checkpoint: inTurn(checkpoint(plain)),
  reversibleBlock: inTurn((p, x) => reversibleBlock(x, p, functions)),
  reversibleSequence: (blocks, x) => reversibleSequence(x, blocks, functions),
};

/** Runs a network for some steps and prints what it took; before is the memory of a process that has the runtime and the arrays. */
async function measure(name: string, count: number): Promise<void> {
  const network = networks[name] as (blocks: Block[], x: Tensor) => Tensor;
  await using backend = await createBackend({ device: 'cpu', threads: 1 });
  const blocks = Array.from({ length: count }, initBlock);
  const x = filled([ROWS, 2 * WIDTH], 0.5);
  const step = compile(
    backend,
    valueAndGrad((p: Block[], z: Tensor) => mean(square(network(p, z)))),
  );
  const before = process.memoryUsage.rss() / 1e6;
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < STEPS; i++) {
    const start = performance.now();
    await step(blocks, x);
    fastest = Math.min(fastest, performance.now() - start);
  }
  const peak = process.resourceUsage().maxRSS / 1e3;
  const columns = [`${Math.round(before)} MB before`, `${Math.round(peak)} MB peak`, `${Math.round(fastest)} ms`];
  console.log(`${name.padEnd(18)} ${String(count).padStart(3)} blocks ${columns.map((text) => text.padStart(14)).join('')}`);
}

const [name, count, ...rest] = process.argv.slice(2);
if (name === undefined) {
  for (const blocks of [5, 20]) {
    for (const network of Object.keys(networks)) {
      execFileSync(process.execPath, ['--import', 'tsx', fileURLToPath(import.meta.url), network, `${blocks}`], { stdio: 'inherit' });
    }
  }
} else if (name in networks && Number(count) > 0 && rest.length === 0) {
  await measure(name, Number(count));
} else {
  console.log(USAGE);
  process.exitCode = 1;
}
