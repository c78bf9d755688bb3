import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise, type IConfiguration, type ICruiseResult } from 'dependency-cruiser';
import extractDepcruiseConfig from 'dependency-cruiser/config-utl/extract-depcruise-config';
import ts from 'typescript';
import { afterAll, describe, expect, test } from 'vitest';
import { root } from '../../scripts/entries.js';

const rootPath = fileURLToPath(root);
const config = (await extractDepcruiseConfig(join(rootPath, '.dependency-cruiser.mjs'))) as IConfiguration;

async function cruiseAt(baseDir: string): Promise<ICruiseResult> {
  const { forbidden } = config;
  const result = await cruise(['src'], { ...config.options, baseDir, validate: true, ruleSet: { forbidden: forbidden ?? [] } });
  return result.output as ICruiseResult;
}

const violations = ({ summary }: ICruiseResult): string[] =>
  summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`);

/** The TypeScript files below `folder`, relative to it. */
const sources = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.replaceAll('\\', '/'));

describe('src', () => {
  test('keeps to its floors, without cycles', async () => {
    const result = await cruiseAt(rootPath);
    const cruised = result.modules.map(({ source }) => source);
    expect(cruised).toEqual(expect.arrayContaining(sources(join(rootPath, 'src')).map((file) => `src/${file}`)));
    expect(result.summary.totalDependenciesCruised).toBeGreaterThan(100);
    expect(violations(result)).toEqual([]);
  });

  test('index.ts files only re-export', () => {
    const files = sources(join(rootPath, 'src')).filter((file) => /(^|\/)index\.ts$/.test(file));
    expect(files).toContain('index.ts');
    const others = files.flatMap((file) => {
      const source = ts.createSourceFile(file, readFileSync(join(rootPath, 'src', file), 'utf8'), ts.ScriptTarget.ESNext);
      return source.statements
        .filter((statement) => !(ts.isExportDeclaration(statement) && statement.moduleSpecifier))
        .map((statement) => `src/${file}: ${statement.getText(source).split('\n')[0]}`);
    });
    expect(others).toEqual([]);
  });
});

describe('the rules', () => {
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  const tensor = { 'src/core/tensor.ts': 'export const tensor = 1; export type Tensor = number;' };
  const optim = { 'src/optim/adam.ts': 'export const adam = 1; export type Optimizer = number;' };

  /** Each breaks the one rule that it is named after. */
  const broken: Record<string, Record<string, string>> = {
    'no-cycles': {
      'src/core/a.ts': "import { b } from './b.js'; export const a = () => b;",
      'src/core/b.ts': "import type { A } from './c.js'; export const b: A = 1;",
      'src/core/c.ts': "import type { a } from './a.js'; export type A = 1 | typeof a;",
    },
    'not-unresolvable': { 'src/core/a.ts': "export * from './gone.js';" },
    'every-module-has-a-floor': {
      ...tensor,
      'src/cellar/wine.ts': "import { tensor } from '../core/tensor.js'; export const wine = tensor;",
    },
    'floor-of-core': {
      'src/core/a.ts': "import type { B } from '../onnx/b.js'; export type A = B;",
      'src/onnx/b.ts': 'export type B = 1;',
    },
    'floor-of-onnx': { 'src/onnx/a.ts': "export { b } from '../runtime/b.js';", 'src/runtime/b.ts': 'export const b = 1;' },
    'floor-of-runtime': { 'src/runtime/a.ts': "export { b } from '../train/b.js';", 'src/train/b.ts': 'export const b = 1;' },
    'floor-of-norm': { 'src/norm/a.ts': "export { b } from '../layers/b.js';", 'src/layers/b.ts': 'export const b = 1;' },
    'floor-of-losses': {
      'src/losses/a.ts': "export { b } from '../index.js';",
      'src/index.ts': "export { b } from './core/b.js';",
      'src/core/b.ts': 'export const b = 1;',
    },
    'floor-of-layers': { 'src/layers/a.ts': "export type { B } from '../norm/b.js';", 'src/norm/b.ts': 'export type B = 1;' },
    'floor-of-optim': { 'src/optim/a.ts': "export { b } from '../losses/b.js';", 'src/losses/b.ts': 'export const b = 1;' },
    'floor-of-sampling': { 'src/sampling/a.ts': "export type { B } from '../train/b.js';", 'src/train/b.ts': 'export type B = 1;' },
    'floor-of-train': { 'src/train/a.ts': "export type { B } from '../losses/b.js';", 'src/losses/b.ts': 'export type B = 1;' },
    'floor-of-index': { 'src/index.ts': "export { b } from './losses/b.js';", 'src/losses/b.ts': 'export const b = 1;' },
    'floor-of-node': { 'src/node.ts': "export { b } from './train/b.js';", 'src/train/b.ts': 'export const b = 1;' },
    'floor-of-web': { 'src/web.ts': "export { b } from './node.js';", 'src/node.ts': 'export const b = 1;' },
    'floor-of-ndarray': { 'src/ndarray.ts': "export { b } from './runtime/b.js';", 'src/runtime/b.ts': 'export const b = 1;' },
    'train-takes-only-types-of-optim': { ...optim, 'src/train/a.ts': "export { adam } from '../optim/adam.js';" },
    'sampling-stays-on-the-host': { ...tensor, 'src/sampling/a.ts': "export { tensor } from '../core/tensor.js';" },
    'host-utilities-stay-on-the-host': { ...tensor, 'src/core/rng.ts': "import { tensor } from './tensor.js'; export const rng = tensor;" },
    'packages-only-in-their-entry': { 'src/core/a.ts': "import { cpus } from 'node:os'; export const a = cpus;" },
    'node-loads-only-onnxruntime-node': { 'src/node.ts': "import ndarray from 'ndarray'; export const a = ndarray;" },
    'web-loads-only-onnxruntime-web': { 'src/web.ts': "import { cpus } from 'node:os'; export const a = cpus;" },
    'ndarray-loads-only-ndarray': { 'src/ndarray.ts': "import { cpus } from 'node:os'; export const a = cpus;" },
  };

  test('each has an example that breaks it', () => {
    expect(Object.keys(broken).sort()).toEqual((config.forbidden ?? []).map(({ name }) => name).sort());
  });

  test.each(Object.keys(broken))('%s', async (rule) => {
    expect([...new Set(await names(broken[rule] ?? {}))]).toEqual([rule]);
  });

  test('allow what the design allows', async () => {
    const allowed = {
      ...tensor,
      ...optim,
      'src/core/rng.ts': "import type { Tensor } from './tensor.js'; export const rng: Tensor = 1;",
      'src/losses/index.ts': "export { loss } from './loss.js';",
      'src/losses/loss.ts': "import { tensor } from '../core/tensor.js'; export const loss = tensor;",
      'src/sampling/a.ts':
        "import { rng } from '../core/rng.js'; import type { Tensor } from '../core/tensor.js'; export const a: Tensor = rng;",
      'src/train/a.ts':
        "import type { Optimizer } from '../optim/adam.js'; import { tensor } from '../core/tensor.js'; export const a: Optimizer = tensor;",
      'src/node.ts': "import { cpus } from 'node:os'; export const a = cpus; export const ort = () => import('onnxruntime-node');",
      'src/ndarray.ts': "import ndarray from 'ndarray'; export const toNdarray = ndarray;",
    };
    expect(await names(allowed)).toEqual([]);
  });

  async function names(files: Record<string, string>): Promise<string[]> {
    const folder = mkdtempSync(join(tmpdir(), 'tracegrad-floors-'));
    folders.push(folder);
    symlinkSync(join(rootPath, 'node_modules'), join(folder, 'node_modules'), 'junction');
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), text);
    }
    const { summary } = await cruiseAt(folder);
    return summary.violations.map(({ rule }) => rule.name);
  }
});
