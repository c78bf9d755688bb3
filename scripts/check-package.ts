// Installs the packed package in an empty folder and uses it as other people do: `npm run build && npm run check:package`.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import ts from 'typescript';
import { entries, root, specifierOf } from './entries.js';

const rootPath = fileURLToPath(root);
const consumer = mkdtempSync(join(tmpdir(), 'tracegrad-package-'));
const installed = join(consumer, 'node_modules', 'tracegrad');
const specifiers = Object.keys(entries).map(specifierOf);

/** Makes a package of this checkout available to the consumer. */
function link(name: string): void {
  const path = join(consumer, 'node_modules', name);
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(join(rootPath, 'node_modules', name), path, 'junction');
}

const runNode = (code: string): string =>
  execFileSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: consumer, encoding: 'utf8' }).trim();

function install(): void {
  // By a shell, as npm is a script on Windows; --ignore-scripts, as the build is what is checked.
  const output = execFileSync(`npm pack --ignore-scripts --json --pack-destination "${consumer}"`, {
    cwd: rootPath,
    encoding: 'utf8',
    shell: true,
  });
  const [{ filename }] = JSON.parse(output) as [{ filename: string }];
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(consumer, filename), '-C', installed, '--strip-components=1']);
  writeFileSync(join(consumer, 'package.json'), '{ "type": "module", "private": true }');
}

function contents(): void {
  assert.deepEqual(readdirSync(installed).sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'package.json']);
  const others = readdirSync(join(installed, 'dist')).filter((file) => !/\.(js|js\.map|d\.ts)$/.test(file));
  assert.deepEqual(others, [], 'unexpected files in dist');
}

function withoutPeers(): void {
  for (const specifier of specifiers.filter((name) => name !== 'tracegrad/ndarray')) {
    assert.notEqual(runNode(`console.log(Object.keys(await import('${specifier}')).length)`), '0', specifier);
  }
  const missing = runNode(
    `import { createBackend } from 'tracegrad/node'; await createBackend({ device: 'cpu' }).catch((e) => console.log(e.message));`,
  );
  assert.match(missing, /npm install onnxruntime-node/);
}

function withPeers(): void {
  link('onnxruntime-node');
  link('ndarray');
  // A step, as what a device needs is loaded when it is.
  runNode(`
    import { array, mean, square } from 'tracegrad';
    import { createBackend } from 'tracegrad/node';
    import { adam } from 'tracegrad/optim';
    import { createTrainer } from 'tracegrad/train';
    const backend = await createBackend({ device: 'cpu' });
    const options = { loss: ({ w }) => mean(square(w)), params: { w: array([1, 2]) }, optimizer: adam(), axes: null };
    const trainer = await createTrainer(backend, options);
    const { loss } = await trainer.step([]);
    if (loss !== 2.5) throw new Error('the loss is ' + loss);
    await backend.close();
  `);
  runNode(`await import('tracegrad/ndarray');`);
}

function types(): void {
  link('@types/ndarray');
  const file = join(consumer, 'consumer.ts');
  writeFileSync(file, specifiers.map((specifier, i) => `export * as e${i} from '${specifier}';`).join('\n'));
  for (const [module, moduleResolution] of [
    [ts.ModuleKind.NodeNext, ts.ModuleResolutionKind.NodeNext],
    [ts.ModuleKind.ESNext, ts.ModuleResolutionKind.Bundler],
  ] as const) {
    const program = ts.createProgram([file], {
      module,
      moduleResolution,
      target: ts.ScriptTarget.ES2022,
      lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.esnext.disposable.d.ts'],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
    });
    const messages = ts.getPreEmitDiagnostics(program).map((diagnostic) => {
      const { file: source, start, messageText } = diagnostic;
      return `${source?.fileName ?? ''}:${start ?? 0}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
    assert.deepEqual(messages, [], `types under ${ts.ModuleResolutionKind[moduleResolution]}`);
  }
}

async function treeShaking(): Promise<void> {
  const { outputFiles } = await build({
    stdin: { contents: `export { mean } from 'tracegrad';`, resolveDir: consumer },
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
  });
  const code = outputFiles.map(({ text }) => text).join('');
  assert.ok(code.includes('ReduceSum'));
  for (const type of ['ConvTranspose', 'MaxPool', 'Gather', 'Softmax'])
    assert.ok(!code.includes(type), `a program with mean contains ${type}`);
}

try {
  for (const check of [install, contents, withoutPeers, withPeers, types, treeShaking]) {
    await check();
    console.log(`ok ${check.name}`);
  }
} finally {
  rmSync(consumer, { recursive: true });
}
