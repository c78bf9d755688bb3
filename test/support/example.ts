import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Finished {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** The root of the project, where examples run. */
export const cwd = fileURLToPath(new URL('../..', import.meta.url));

/** Arguments of Node that run an example, given by the name of its folder, as npm scripts do. */
export const exampleArgs = (name: string, args: readonly string[]): string[] => ['--import', 'tsx', `examples/${name}/main.ts`, ...args];

/** Runs an example to its end. */
export const runExample = (name: string, ...args: string[]): Promise<Finished> =>
  new Promise((resolve) => {
    execFile(process.execPath, exampleArgs(name, args), { cwd }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });

export const lines = (text: string): string[] => text.trimEnd().split('\n');

/** The rows of the Markdown tables in a text, without their heads: the first cell, and the means of the others. */
export function tables(text: string): { readonly title: string; readonly rows: Readonly<Record<string, number[]>> }[] {
  const found: { title: string; rows: Record<string, number[]> }[] = [];
  for (const block of text.match(/(?:^\|.*\|\n)+/gm) ?? []) {
    const [head, , ...rows] = lines(block).map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
    found.push({ title: head![0]!, rows: Object.fromEntries(rows.map(([name, ...cells]) => [name!, cells.map(Number.parseFloat)])) });
  }
  return found;
}
