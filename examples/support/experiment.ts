import type { Schedule } from 'tracegrad/optim';
import { program } from './command-line.js';

/** Half a cosine from `rate` down to 0. */
export const cosine =
  (rate: number, steps: number): Schedule =>
  (step) =>
    (rate / 2) * (1 + Math.cos((Math.PI * step) / steps));

/** Runs once for every seed; of every number that a run returns, a list. */
export async function overSeeds<K extends string>(
  seeds: readonly number[],
  run: (seed: number) => Promise<Readonly<Record<K, number>>>,
): Promise<Record<K, number[]>> {
  const runs: Readonly<Record<K, number>>[] = [];
  for (const seed of seeds) runs.push(await run(seed));
  const names = Object.keys(runs[0]!) as K[];
  return Object.fromEntries(names.map((name) => [name, runs.map((found) => found[name])])) as Record<K, number[]>;
}

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The mean, and of several values the standard deviation: `97.6 ± 0.4`. */
export function summary(values: readonly number[]): string {
  const center = mean(values);
  if (values.length === 1) return center.toFixed(1);
  const variance = values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1);
  return `${center.toFixed(1)} ± ${Math.sqrt(variance).toFixed(1)}`;
}

/** Prints a Markdown table: a list of cells per row, the first of them the head. */
export function printTable(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(' | ')} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  console.log([line(rows[0]!), rule, ...rows.slice(1).map(line), ''].join('\n'));
}

/** Says whether an effect shows. Where it does not, the program fails in the end. */
export function expectEffect(effect: string, shows: boolean): void {
  if (shows) {
    console.log(`as expected: ${effect}`);
  } else {
    console.error(`${program}: not as expected: ${effect}`);
    process.exitCode = 1;
  }
}
