import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from '../../scripts/entries.js';

const CHROMIUM = '/usr/bin/chromium';
const there = existsSync(CHROMIUM);
if (!there && process.env.CI) throw new Error(`${CHROMIUM} is missing`);
if (!there) console.warn(`Tests in a browser are skipped: ${CHROMIUM} is missing`);

/** A module worker. What it is sent while it awaits at the top is lost, if nobody sees to it. */
const workerFile = `
import { serveWorker } from './src/train/worker.ts';
await new Promise((resolve) => setTimeout(resolve, 200));
const kept = new Float32Array([1, 2, 3]);
serveWorker({
  add: (a, b) => a + b,
  kept: () => ({ data: kept }),
  lengthOfKept: () => kept.length,
  fail: () => { throw new RangeError('out of range'); },
  never: () => new Promise(() => undefined),
  crash: () => { setTimeout(() => { throw new Error('it broke'); }); return new Promise(() => undefined); },
});`;

const pageFile = `
import { connectWorker } from './src/train/worker.ts';
window.connect = (url) => {
  const worker = new Worker(url, { type: 'module' });
  const { remote, close } = connectWorker(worker);
  return { worker, close, remote, errorOf: (call) => call.then(() => 'no error', (error) => String(error)) };
};`;

const bundled = async (contents: string): Promise<string> => {
  const stdin = { contents, resolveDir: fileURLToPath(root) };
  const { outputFiles } = await build({ stdin, bundle: true, format: 'esm', target: 'es2022', write: false });
  return outputFiles.map(({ text }) => text).join('');
};

let browser: Browser;
let page: Page;
beforeAll(async () => {
  if (!there) return;
  const files: Record<string, string> = { '/worker.js': await bundled(workerFile), '/page.js': await bundled(pageFile) };
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  page = await browser.newPage();
  await page.route('http://tracegrad.test/**', (route) => {
    const path = new URL(route.request().url()).pathname;
    if (path === '/') return route.fulfill({ contentType: 'text/html', body: '<script type="module" src="/page.js"></script>' });
    const body = files[path];
    return body === undefined ? route.fulfill({ status: 404 }) : route.fulfill({ contentType: 'text/javascript', body });
  });
  await page.goto('http://tracegrad.test/');
  await page.waitForFunction('window.connect');
});
afterAll(() => browser?.close());

/** Evaluates the body of an async function in the page. */
const inPage = (body: string): Promise<unknown> => page.evaluate(`(async () => { ${body} })()`);

it.runIf(there)('a module worker of a browser answers, though it is called before it serves', async () => {
  const found = await inPage(`
    const { worker, remote, errorOf } = connect('/worker.js');
    const sums = await Promise.all([remote.add(1, 2), remote.add(3, 4)]);
    const { data } = await remote.kept();
    const length = await remote.lengthOfKept();
    const errors = [await errorOf(remote.fail()), await errorOf(remote.gone()), await errorOf(remote.add(() => 1, 2))];
    worker.terminate();
    return { sums, data: [...data], length, errors };`);
  expect(found).toEqual({
    sums: [3, 7],
    data: [1, 2, 3],
    length: 0,
    errors: [
      'RangeError: out of range',
      "TypeError: remote.gone: the worker serves 'add', 'kept', 'lengthOfKept', 'fail', 'never', 'crash' only",
      expect.stringMatching(/^TypeError: remote\.add: the arguments cannot be cloned: .*could not be cloned/),
    ],
  });
});

it.runIf(there)('a worker of a browser that fails rejects its calls', async () => {
  const found = await inPage(`
    const crashed = connect('/worker.js');
    const crash = await crashed.errorOf(crashed.remote.crash());
    const missing = connect('/missing.js');
    const gone = await missing.errorOf(missing.remote.add(1, 2));
    const left = connect('/worker.js');
    const never = left.errorOf(left.remote.never());
    left.worker.terminate();
    await left.close();
    return { crash, gone, never: await never };`);
  expect(found).toEqual({
    crash: expect.stringMatching(/^Error: remote\.crash: the worker failed: .*it broke$/),
    gone: 'Error: remote.add: the worker failed: its script could not be loaded',
    never: 'Error: remote.never: the connection is closed',
  });
});
