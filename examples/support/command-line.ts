import { basename, dirname } from 'node:path';
import { parseArgs } from 'node:util';

/** The example that runs, named after its folder. */
export const program = basename(dirname(process.argv[1]!));

/** Ends the program with one line on what was wrong with how it was called. */
export function refuse(problem: string): never {
  console.error(`${program}: ${problem.trim()} (--help lists the options)`);
  process.exit(2);
}

/** The result of `parseArgs`, which throws where the command line makes no sense. */
export function orRefuse<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    // What follows the first sentence is advice on how to pass what the program does not take.
    return refuse((error as Error).message.split(/\.\s/, 1)[0]!);
  }
}

/** The value of an option that is an integer. */
export function integer(name: string, text: string, least: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= least) return value;
  return refuse(`--${name}: expected an integer >= ${least}, received '${text}'`);
}

export interface ExperimentOptions {
  readonly quick: boolean;
  /** One run of everything for each. */
  readonly seeds: readonly number[];
  /** Where the plot goes. */
  readonly output: string;
}

/**
 * The options of an example that compares methods. Ends the program on `--help` and on options that make no sense.
 *
 * @param about what the example does, and what it does with `--quick`
 */
export function readExperimentOptions(about: { text: string; quick: string }): ExperimentOptions {
  const { values } = orRefuse(() =>
    parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        seeds: { type: 'string' },
        output: { type: 'string', default: 'demo-output' },
        help: { type: 'boolean', default: false },
      },
    }),
  );
  if (values.help) {
    console.log(`npm run example:${program} -- [options]

${about.text}

  --quick       ${about.quick}
  --seeds N     runs of every method, from which mean and standard deviation are taken (default 3, quick 1)
  --output DIR  where ${program}.svg goes (default demo-output)
  --help        this text

It fails if the effect does not show.`);
    process.exit(0);
  }
  const count = integer('seeds', values.seeds ?? (values.quick ? '1' : '3'), 1);
  return { quick: values.quick, seeds: Array.from({ length: count }, (_, seed) => seed), output: values.output };
}
