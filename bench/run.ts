import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createBackend, type Device } from '../src/node.js';
import { workloads } from './workloads.js';

const USAGE = `npm run bench -- [--workload W1_mlp ...] [--device cpu|webgpu] [--threads N] [--json]

Runs every workload for 20 steps, whose first and last loss must agree with float64 references to 1e-5 (the largest
difference on the way is printed), and so must the mean square of the parameters (W4) or the norm of the gradients (W5, W6),
and then times a second of further steps.`;

/** Steps of a workload that are checked, as many as the reference has. They also warm up the JavaScript engine. */
const STEPS = 20;
/** Milliseconds of the steps that are timed, and how many there are at least. */
const BUDGET = 1000;
const MIN_TIMED = 17;
/**
 * Largest relative difference of the first and the last loss. On the way W2 is off by 1.1e-5 once: Adam divides its many gradients near 0
 * by themselves, so single roundings show (PyTorch in float32 is off by 2.5e-5 there).
 */
const TOLERANCE = 1e-5;

interface Reference {
  workloads: Record<string, { losses: number[] | null; check: number | null }>;
}

const { values } = parseArgs({
  options: {
    workload: { type: 'string', multiple: true },
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const names = values.workload ?? Object.keys(workloads);
const { workloads: references } = JSON.parse(readFileSync(new URL('reference.json', import.meta.url), 'utf8')) as Reference;
const threads = values.threads === undefined ? {} : { threads: Number(values.threads) };
const backend = await createBackend({ device: values.device as Device, ...threads });
const round = (ms: number) => Math.round(ms * 1000) / 1000;

let failed = false;
for (const name of names) {
  const make = workloads[name];
  if (!make) throw new Error(`unknown workload '${name}'; there are ${Object.keys(workloads).join(', ')}`);
  const running = await make(backend);
  const losses: (number | null)[] = [];
  for (let i = 0; i < STEPS; i++) losses.push(await running.step());
  const check = await running.check?.();
  const times: number[] = [];
  for (const start = performance.now(); times.length < MIN_TIMED || performance.now() - start < BUDGET; ) {
    const before = performance.now();
    await running.step();
    times.push(performance.now() - before);
  }
  await running.close();
  const sorted = times.sort((a, b) => a - b);
  const reference = references[name] ?? { losses: null, check: null };
  const off = (found: number | null | undefined, expected: number | null | undefined) =>
    Math.abs((found ?? Number.NaN) / (expected ?? Number.NaN) - 1);
  // A loss that stays the same is in the reference once. What has neither a loss nor a check there is wrong.
  const errors = reference.losses ? losses.map((loss, i) => off(loss, reference.losses?.[i] ?? reference.losses?.at(-1))) : [];
  if (reference.check !== null || errors.length === 0) errors.push(off(check, reference.check));
  const ends = Math.max(errors[0] as number, errors[STEPS - 1] ?? 0, errors.at(-1) as number);
  const worst = Math.max(...errors);
  const ok = ends <= TOLERANCE;
  failed ||= !ok;
  const line = {
    peer: 'tracegrad',
    backend: values.device,
    workload: name,
    min_ms: round(sorted[0] as number),
    median_ms: round(sorted[sorted.length >> 1] as number),
    loss_first: losses[0],
    loss_last: losses.at(-1),
    ...(check === undefined ? {} : { check }),
    error: worst,
  };
  if (values.json) console.log(JSON.stringify(line));
  else
    console.log(`${name.padEnd(16)} min ${line.min_ms} ms, median ${line.median_ms} ms, within ${worst.toExponential(1)} of the reference`);
  if (!ok)
    console.error(`${name}: what it computes differs from the reference by ${ends.toExponential(2)} (at most ${TOLERANCE} is allowed)`);
}
await backend.close();
process.exitCode = failed ? 1 : 0;
