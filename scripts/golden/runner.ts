import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Adapter, Context } from './adapter.js';
import { compare } from './compare.js';
import { type GoldenCase, readGolden } from './format.js';
import { layers } from './layers.js';
import { losses } from './losses.js';
import { norm } from './norm.js';
import { optim } from './optim.js';

/** One adapter per golden file, by the file's name. */
const adapters: Readonly<Record<string, Adapter>> = { ...layers, ...losses, ...norm, ...optim };

export interface FileResult {
  /** The file's name without `.json`. */
  readonly name: string;
  passed: number;
  failed: number;
  /** Cases of a file without an adapter. */
  unknown: number;
  /** The largest error, as a share of what is allowed. */
  worst: number;
  /** `<case>: <output>: expected ..., received ...` */
  readonly failures: string[];
}

/** Paths of the golden files of a folder whose names begin with `prefix`. */
export const goldenFiles = (folder: string, prefix = ''): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json') && file.startsWith(prefix))
    .sort()
    .map((file) => join(folder, file));

/** Runs every case of a golden file; a file that cannot be read counts as one failed case. */
export async function runGoldenFile(path: string, context: Context): Promise<FileResult> {
  const name = basename(path, '.json');
  const adapter = adapters[name];
  const result: FileResult = { name, passed: 0, failed: 0, unknown: 0, worst: 0, failures: [] };
  let cases: GoldenCase[];
  try {
    cases = readGolden(path);
  } catch (error) {
    return { ...result, failed: 1, failures: [(error as Error).message] };
  }
  if (!adapter) return { ...result, unknown: cases.length };
  for (const golden of cases) {
    const failures: string[] = [];
    try {
      const compared = compare(golden.outputs, await adapter(golden, context), golden);
      failures.push(...compared.failures);
      result.worst = Math.max(result.worst, compared.worst);
    } catch (error) {
      failures.push((error as Error).message);
    }
    if (failures.length === 0) result.passed++;
    else result.failed++;
    result.failures.push(...failures.map((text) => `${golden.id}: ${text}`));
  }
  return result;
}
