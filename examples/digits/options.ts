import { parseArgs } from 'node:util';
import type { Device } from 'tracegrad';
import { integer, orRefuse, refuse } from '../support/command-line.js';

const USAGE = `npm run demo -- [options]

Trains a small network on handwritten digits, reports on it in a page, exports it to ONNX and checks the export. After every
epoch it writes a checkpoint, from which a run that was interrupted can go on.

  --device cpu|webgpu  where to train (default cpu)
  --epochs N           passes over the training digits (default 8, quick 2)
  --seed N             another seed, another run; the same seed, the same run (default 0)
  --output DIR         where model.onnx, report.html and checkpoint.safetensors go (default demo-output)
  --resume             go on from the checkpoint there; the other options must be those of its run
  --quick              a few digits, a few seconds, and a lower goal: is everything in order?
  --help               this text`;

const devices: readonly Device[] = ['cpu', 'webgpu'];

export interface Options {
  readonly device: Device;
  readonly seed: number;
  readonly output: string;
  /** Whether to go on from the checkpoint in `output`. */
  readonly resume: boolean;
  readonly epochs: number;
  readonly batchSize: number;
  /** How many digits to train and to test with. */
  readonly trainCount: number;
  readonly testCount: number;
  /** The least test accuracy; 0 where the number of epochs was chosen by hand. */
  readonly goal: number;
}

/** The options of the command line. Ends the program on `--help` and on options that make no sense. */
export function readOptions(args: readonly string[]): Options {
  const values = parse(args);
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const { quick } = values;
  const device =
    devices.find((name) => name === values.device) ?? refuse(`--device: expected ${devices.join(' or ')}, received '${values.device}'`);
  const size = quick ? { batchSize: 25, trainCount: 1000, testCount: 500 } : { batchSize: 50, trainCount: 8500, testCount: 1500 };
  return {
    device,
    ...size,
    seed: integer('seed', values.seed, 0),
    output: values.output,
    resume: values.resume,
    epochs: integer('epochs', values.epochs ?? (quick ? '2' : '8'), 1),
    goal: values.epochs === undefined ? (quick ? 0.8 : 0.975) : 0,
  };
}

const parse = (args: readonly string[]) =>
  orRefuse(() =>
    parseArgs({
      args: [...args],
      options: {
        device: { type: 'string', default: 'cpu' },
        epochs: { type: 'string' },
        seed: { type: 'string', default: '0' },
        output: { type: 'string', default: 'demo-output' },
        quick: { type: 'boolean', default: false },
        resume: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }),
  ).values;
