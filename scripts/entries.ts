import { existsSync, readFileSync } from 'node:fs';

/** The repository. */
export const root = new URL('../', import.meta.url);

const { exports } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { exports: Record<string, unknown> };

/** Names of the entry points as in `exports` of package.json (`index` for the package itself), with their sources. */
export const entries: Record<string, string> = Object.fromEntries(
  Object.keys(exports)
    .filter((key) => key !== './package.json')
    .map((key) => {
      const name = key === '.' ? 'index' : key.slice(2);
      const file = `src/${name}.ts`;
      return [name, existsSync(new URL(file, root)) ? file : `src/${name}/index.ts`];
    }),
);

/** What a program writes to import an entry point. */
export const specifierOf = (name: string): string => (name === 'index' ? 'tracegrad' : `tracegrad/${name}`);
