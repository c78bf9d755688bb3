import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, type Plugin } from 'esbuild';
import { describe, expect, test } from 'vitest';
import { entries, root } from '../../scripts/entries.js';

interface Limit {
  readonly name: string;
  /** Built file -> what is imported from it. */
  readonly import: Record<string, string>;
  readonly limit: string;
}

/** Budgets of `npm run size`, which measures the built package; here the sources are bundled, so that no build is needed. */
const limits = JSON.parse(readFileSync(new URL('.size-limit.json', root), 'utf8')) as Limit[];

/**
 * The build joins modules into chunks, of which bundlers cannot skip a part by `sideEffects: false`. So nothing is
 * skipped by it here either: definitions must be pure by themselves.
 */
const withSideEffects: Plugin = {
  name: 'with-side-effects',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /./ }, async ({ path, ...args }) => {
      if (args.pluginData === withSideEffects) return undefined;
      return { ...(await resolve(path, { ...args, pluginData: withSideEffects })), sideEffects: true };
    });
  },
};

/** What a program imports while it runs comes with the chunk of that import, if it does. */
const onDemand: Plugin = {
  name: 'on-demand',
  setup({ onResolve }) {
    onResolve({ filter: /./ }, ({ kind, path }) => (kind === 'dynamic-import' ? { path, external: true } : undefined));
  },
};

/** The minified bundle of a program that imports `names`, by entry point. */
async function bundle(names: Record<string, string>): Promise<string> {
  const imports = Object.entries(names).map(([entry, list]) => `export ${list} from './${entries[entry]}';`);
  const { outputFiles } = await build({
    stdin: { contents: imports.join('\n'), resolveDir: fileURLToPath(root) },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['node:*', 'onnxruntime-node', 'onnxruntime-web', 'ndarray'],
    plugins: [onDemand, withSideEffects],
    write: false,
  });
  return outputFiles.map(({ text }) => text).join('');
}

describe('minified and gzipped', () => {
  test.each(limits)('$name is at most $limit', async ({ import: imports, limit }) => {
    const names = Object.fromEntries(Object.entries(imports).map(([file, list]) => [file.replace(/^dist\/(.*)\.js$/, '$1'), list]));
    expect(gzipSync(await bundle(names)).length).toBeLessThanOrEqual(Number.parseFloat(limit) * 1000);
  });
});

describe('tree shaking', () => {
  test('leaves out the ops that a program does not reach', async () => {
    const code = await bundle({ index: '{ mean }' });
    expect(code).toContain('ReduceSum');
    for (const type of ['ConvTranspose', 'MaxPool', 'Gather', 'MatMul', 'Erf', 'Softmax']) expect(code).not.toContain(type);
  });

  test('leaves out every definition that is not used', async () => {
    const code = await bundle(Object.fromEntries(Object.keys(entries).map((entry) => [entry, '{}'])));
    expect(code).not.toMatch(/\b(emit|vjp|infer)\b/);
    expect(code.length).toBeLessThan(1000); // the Tensor class has a computed key, which bundlers keep
  });

  test('keeps graph building free of the runtime', async () => {
    const code = await bundle({ index: '{ grad }', losses: '*' });
    for (const text of ['InferenceSession', 'onnxruntime']) expect(code).not.toContain(text);
  });
});
