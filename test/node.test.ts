import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { InferenceSession } from 'onnxruntime-node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { apply, type Op } from '../src/core/tensor.js';
import { add, array, type Backend, compile, exp, mul, type NDArray, sum, type Tensor } from '../src/index.js';
import { type BackendOptions, createBackend } from '../src/node.js';
import type { OrtBackend } from '../src/runtime/backend.js';
import { webgpuBackend } from './support/devices.js';

const list = ({ data }: NDArray): number[] => [...data];
const opened: Backend[] = [];
const open = async (make: Promise<Backend | undefined>): Promise<Backend | undefined> => {
  const backend = await make;
  if (backend) opened.push(backend);
  return backend;
};
afterEach(async () => {
  for (const backend of opened.splice(0)) await backend.close();
  vi.doUnmock('onnxruntime-node');
  vi.restoreAllMocks();
});

/** An op that has no kernel on WebGPU. */
const roundOp: Op<[Tensor], null> = {
  name: 'round',
  infer: ([x]) => [x],
  emit: (graph, inputs) => [graph.node('Round', inputs)],
};
const round = (x: Tensor): Tensor => apply(roundOp, [x], null)[0];

describe('createBackend', () => {
  it.each<[string, unknown, string]>([
    ['no options', undefined, 'createBackend: options: expected an object, received undefined'],
    ['no device', {}, "createBackend: device: expected one of 'cpu', 'webgpu', received undefined"],
    ['an unknown device', { device: 'tpu' }, "createBackend: device: expected one of 'cpu', 'webgpu', received 'tpu'"],
    [
      'an unknown option',
      { device: 'cpu', thread: 2 },
      "createBackend: unknown option 'thread'; the options are device, threads, cacheBytes",
    ],
    ['no threads', { device: 'cpu', threads: 0 }, 'createBackend: threads: expected a positive integer, received 0'],
    ['half a thread', { device: 'cpu', threads: 1.5 }, 'createBackend: threads: expected a positive integer, received 1.5'],
    ['threads as text', { device: 'cpu', threads: '2' }, "createBackend: threads: expected a positive integer, received '2'"],
    ['a negative cache', { device: 'cpu', cacheBytes: -1 }, 'createBackend: cacheBytes: expected a number >= 0, received -1'],
  ])('refuses %s', async (_, options, message) => {
    await expect(createBackend(options as BackendOptions)).rejects.toThrow(message);
  });

  it('says what to install where onnxruntime-node is missing', async () => {
    vi.doMock('onnxruntime-node', () => {
      throw new Error("Cannot find package 'onnxruntime-node'");
    });
    await expect(createBackend({ device: 'cpu' })).rejects.toThrow('install it with `npm install onnxruntime-node`');
  });

  it.runIf(process.platform === 'linux')('says that a device is not there', async () => {
    const program = `import { createBackend } from '${new URL('../src/node.ts', import.meta.url)}';
      await createBackend({ device: 'webgpu' }).catch((error) => console.log(error.message));`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', program];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, VK_ICD_FILENAMES: '/nowhere' } });
    expect(stdout).toMatch(/^createBackend: device 'webgpu' is not available here: /);
  });

  it('takes more threads than one', async () => {
    const backend = (await open(createBackend({ device: 'cpu', threads: 2 }))) as Backend;
    expect(backend.device).toBe('cpu');
    expect(list(await compile(backend, (x: Tensor) => sum(mul(x, x)))(array(Array(4000).fill(0.5))))).toEqual([1000]);
  });

  it('closes at the end of its scope, and again without harm', async () => {
    let kept: Backend;
    {
      await using backend = await createBackend({ device: 'cpu' });
      kept = backend;
      await compile(backend, exp)(array([1]));
    }
    await Promise.all([kept.close(), kept.close()]);
    expect(() => compile(kept, exp)).toThrow('compile: the backend is closed');
  });

  it('keeps one session until it is closed, as the device lives no longer than its sessions', async () => {
    const created = vi.spyOn(InferenceSession, 'create').mock.settledResults;
    const backend = await createBackend({ device: 'cpu', cacheBytes: 0 });
    const release = vi.spyOn(created[0]?.value as InferenceSession, 'release');
    const compiled = compile(backend, exp);
    for (const x of [array([1]), array([1, 2])]) await compiled(x);
    await compiled.close();
    expect(release).not.toHaveBeenCalled();
    await backend.close();
    expect(release).toHaveBeenCalledOnce();
  });

  it('waits for runs before it closes', async () => {
    const backend = await createBackend({ device: 'cpu' });
    const compiled = compile(backend, exp);
    await compiled(array([1]));
    const release = vi.fn();
    const run = (backend as OrtBackend).queue.add(async () => release());
    await backend.close();
    expect(release).toHaveBeenCalledOnce();
    await run;
  });

  it('runs one thing at a time on a device, whichever backend it was given to', async () => {
    const backends = [await open(createBackend({ device: 'cpu' })), await open(createBackend({ device: 'cpu' }))] as OrtBackend[];
    let [running, most] = [0, 0];
    for (const backend of backends) {
      const create = backend.createSession.bind(backend);
      backend.createSession = async (request) => {
        const session = await create(request);
        const run = session.run.bind(session);
        session.run = async (feeds, fetches) => {
          most = Math.max(most, ++running);
          return run(feeds, fetches).finally(() => running--);
        };
        return session;
      };
    }
    const functions = backends.map((backend) => compile(backend, (x: Tensor) => add(x, 1)));
    const results = await Promise.all(Array.from({ length: 12 }, async (_, i) => functions[i % 2]?.(array([i]))));
    expect(results.map((result) => list(result as NDArray))).toEqual(Array.from({ length: 12 }, (_, i) => [i + 1]));
    expect(most).toBe(1);
  });
});

describe('createBackend on WebGPU', () => {
  it('runs on the GPU, and again after it was closed', async ({ skip }) => {
    for (let i = 0; i < 2; i++) {
      const backend = await open(webgpuBackend());
      if (!backend) return skip('no WebGPU device');
      expect(backend.device).toBe('webgpu');
      expect(list(await compile(backend, (x: Tensor) => add(x, i))(array([1, 2])))).toEqual([1 + i, 2 + i]);
      await backend.close();
    }
  });

  it('refuses graphs that would fall back to the CPU, and goes on', async ({ skip }) => {
    const backend = await open(webgpuBackend());
    if (!backend) return skip('no WebGPU device');
    const cpu = (await open(createBackend({ device: 'cpu' }))) as Backend;
    const rounded = (x: Tensor) => round(add(x, 0.2));
    expect(list(await compile(cpu, rounded)(array([0.1, 0.4])))).toEqual([0, 1]);
    await expect(compile(backend, rounded)(array([0.1, 0.4]))).rejects.toThrow('fallback to CPU EP has been explicitly disabled');
    expect(list(await compile(backend, (x: Tensor) => mul(x, 2))(array([3])))).toEqual([6]);
  });

  it('returns inputs of every dtype', async ({ skip }) => {
    const backend = await open(webgpuBackend());
    if (!backend) return skip('no WebGPU device');
    const inputs = [array([1.5]), array([7], { dtype: 'int32' }), array([true, false]), array(new Float32Array(0), { shape: [0, 2] })];
    expect(await compile(backend, (...x: Tensor[]) => x)(...inputs)).toEqual(inputs);
  });

  it('shares the queue of the device', async ({ skip }) => {
    const [a, b, cpu] = [
      await open(webgpuBackend()),
      await open(webgpuBackend()),
      await open(createBackend({ device: 'cpu' })),
    ] as OrtBackend[];
    if (!a) return skip('no WebGPU device');
    expect(a.queue).toBe(b?.queue);
    expect(a.queue).not.toBe(cpu?.queue);
    const [f, g] = [compile(a, exp), compile(b as Backend, exp)];
    const results = await Promise.all(Array.from({ length: 6 }, (_, i) => (i % 2 ? f : g)(array([0]))));
    expect(results.flatMap(list)).toEqual(Array(6).fill(1));
    await a.close();
    expect(list(await g(array([0])))).toEqual([1]);
  });
});
