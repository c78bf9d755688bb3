import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createRng } from '../src/index.js';
import { writeFileAtomic } from '../src/node.js';
import { decodeSafetensors } from '../src/train/index.js';

/** What was done to files, and the code with which writing out a folder is to fail. */
const disk = vi.hoisted(() => ({ done: [] as string[], folderError: undefined as string | undefined }));
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>();
  const base = (path: unknown) => basename(String(path)).replace(/[0-9a-f-]{36}/, '*');
  return {
    ...fs,
    open: async (path: string, flags: string, mode?: number) => {
      const file = await fs.open(path, flags, mode);
      for (const method of ['writeFile', 'sync', 'close'] as const) {
        const plain = file[method].bind(file) as (...args: unknown[]) => Promise<void>;
        file[method] = async (...args: unknown[]) => {
          disk.done.push(`${method} ${base(path)}`);
          if (method === 'sync' && flags === 'r' && disk.folderError) throw Object.assign(new Error('failed'), { code: disk.folderError });
          await plain(...args);
        };
      }
      return file;
    },
    rename: async (from: string, to: string) => {
      disk.done.push(`rename ${base(from)} ${base(to)}`);
      await fs.rename(from, to);
    },
  };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tracegrad-write-'));
});
afterEach(() => {
  disk.folderError = undefined;
  rmSync(folder, { recursive: true });
});

describe('writeFileAtomic', () => {
  it('makes and replaces files, and leaves nothing beside them', async () => {
    const file = join(folder, 'a.bin');
    await writeFileAtomic(file, Uint8Array.of(1, 2, 3));
    expect([...readFileSync(file)]).toEqual([1, 2, 3]);
    await writeFileAtomic(file, Uint8Array.of(9, 4, 9).subarray(1, 2));
    expect([...readFileSync(file)]).toEqual([4]);
    await writeFileAtomic(file, new Uint8Array(0));
    expect(readFileSync(file)).toHaveLength(0);
    expect(readdirSync(folder)).toEqual(['a.bin']);
  });

  it('replaces the file, so that who has the old one open goes on reading it', async () => {
    const file = join(folder, 'a.bin');
    writeFileSync(file, 'old');
    const before = statSync(file).ino;
    const link = join(folder, 'link');
    symlinkSync(file, link);
    await writeFileAtomic(file, Uint8Array.of(1));
    expect(statSync(file).ino).not.toBe(before);
    await writeFileAtomic(link, Uint8Array.of(2));
    expect([...readFileSync(link)]).toEqual([2]);
    expect([...readFileSync(file)]).toEqual([1]);
  });

  it('writes out the bytes before they take their place, and the folder after', async () => {
    disk.done = [];
    await writeFileAtomic(join(folder, 'a.bin'), Uint8Array.of(1));
    const name = basename(folder);
    const before = ['writeFile a.bin.*.tmp', 'sync a.bin.*.tmp', 'close a.bin.*.tmp'];
    expect(disk.done).toEqual([...before, 'rename a.bin.*.tmp a.bin', `sync ${name}`, `close ${name}`]);
  });

  it('does without writing out the folder only where that is not possible', async () => {
    const file = join(folder, 'a.bin');
    disk.folderError = 'EINVAL';
    await writeFileAtomic(file, Uint8Array.of(1));
    disk.folderError = 'EIO';
    await expect(writeFileAtomic(file, Uint8Array.of(2))).rejects.toThrow('failed');
    expect(disk.done.at(-1)).toBe(`close ${basename(folder)}`);
    expect([...readFileSync(file)]).toEqual([2]);
  });

  it.runIf(process.platform !== 'win32')('keeps the permissions of a file that exists', async () => {
    const permissions = (path: string) => statSync(path).mode & 0o777;
    const umask = process.umask(0o027);
    try {
      const file = join(folder, 'a.bin');
      await writeFileAtomic(file, Uint8Array.of(1));
      expect(permissions(file)).toBe(0o640);
      // Narrower and wider than new files are.
      for (const mode of [0o600, 0o666, 0o755]) {
        chmodSync(file, mode);
        await writeFileAtomic(file, Uint8Array.of(2));
        expect(permissions(file)).toBe(mode);
      }
      chmodSync(file, 0o600);
      const link = join(folder, 'link');
      symlinkSync(file, link);
      await writeFileAtomic(link, Uint8Array.of(3));
      expect(permissions(link)).toBe(0o600);
      const dangling = join(folder, 'dangling');
      symlinkSync(join(folder, 'gone'), dangling);
      await writeFileAtomic(dangling, Uint8Array.of(4));
      expect(permissions(dangling)).toBe(0o640);
    } finally {
      process.umask(umask);
    }
  });

  it.each([`${'n'.repeat(230)}`, 'n'.repeat(255), '\u6f22'.repeat(85), `${'\u{1f600}'.repeat(60)}.bin`])(
    'takes a long file name: %s',
    async (name) => {
      await writeFileAtomic(join(folder, name), Uint8Array.of(1));
      expect(readdirSync(folder)).toEqual([name]);
    },
  );

  it('refuses the path of a folder', async () => {
    for (const path of [`${join(folder, 'a.bin')}/`, `${folder}/`, '']) {
      const message = `writeFileAtomic: path: expected the path of a file, not of a folder, received '${path}'`;
      await expect(writeFileAtomic(path, Uint8Array.of(1))).rejects.toThrow(new RangeError(message));
    }
    expect(existsSync(join(folder, 'a.bin'))).toBe(false);
  });

  it('takes many at once', async () => {
    const file = join(folder, 'a.bin');
    const contents = Array.from({ length: 10 }, (_, i) => new Uint8Array(10_000 + i).fill(i));
    await Promise.all(contents.map((bytes) => writeFileAtomic(file, bytes)));
    const result = readFileSync(file);
    expect(contents.some((bytes) => result.equals(bytes))).toBe(true);
    expect(readdirSync(folder)).toEqual(['a.bin']);
  });

  it('leaves nothing behind if it fails', async () => {
    await expect(writeFileAtomic(join(folder, 'gone', 'a.bin'), Uint8Array.of(1))).rejects.toThrow('ENOENT');
    const taken = join(folder, 'taken');
    mkdirSync(taken);
    writeFileSync(join(taken, 'inside'), 'x');
    await expect(writeFileAtomic(taken, Uint8Array.of(1))).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST|EPERM/);
    expect(readdirSync(folder)).toEqual(['taken']);
    expect(readdirSync(taken)).toEqual(['inside']);
  });

  it.each<[string, unknown, unknown, string]>([
    ['a path that is a number', 3, new Uint8Array(1), 'writeFileAtomic: path: expected a string, received 3'],
    [
      'a promise of bytes',
      'a.bin',
      Promise.resolve(new Uint8Array(1)),
      'writeFileAtomic: bytes: expected a Uint8Array, received a Promise',
    ],
    ['text', 'a.bin', 'text', "writeFileAtomic: bytes: expected a Uint8Array, received 'text'"],
  ])('refuses %s', async (_, path, bytes, message) => {
    await expect(writeFileAtomic(path as string, bytes as Uint8Array)).rejects.toThrow(message);
  });
});

describe('a process that saves all the time', () => {
  const KILLS = 25;

  /** The number of the checkpoint in a file, which must be whole. */
  function numberIn(bytes: Uint8Array): number {
    const { tensors, metadata } = decodeSafetensors(bytes);
    const step = Number(metadata.step);
    const data = tensors['params.w']?.data ?? [];
    expect(data.length).toBe(100_000 + 20_000 * (step % 5));
    expect(data.findIndex((value) => value !== step)).toBe(-1);
    return step;
  }

  it('may be killed at any moment, and what it saved last is there', async () => {
    const program = join(folder, 'child.mjs');
    const entry = fileURLToPath(new URL('./support/save-child.ts', import.meta.url));
    await build({ entryPoints: [entry], outfile: program, bundle: true, format: 'esm', platform: 'node', external: ['onnxruntime-node'] });
    const file = join(folder, 'run.safetensors');
    const rng = createRng(11);
    let killedWithin = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      rmSync(file, { force: true });
      const child = spawn(process.execPath, [program, file], { stdio: ['ignore', 'pipe', 'inherit'] });
      let printed = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
      const ended = once(child, 'close');
      let last = 0;
      try {
        await once(child.stdout, 'data');
        const until = performance.now() + 40 * rng.float();
        while (performance.now() < until) {
          // Readers see whole files as well, and never an older one.
          const number = numberIn(await readFile(file));
          expect(number).toBeGreaterThanOrEqual(last);
          last = number;
        }
      } finally {
        child.kill('SIGKILL');
        await ended;
      }
      const saved = Number(printed.trim().split('\n').at(-1));
      const number = numberIn(readFileSync(file));
      expect([saved, saved + 1]).toContain(number);
      expect(number).toBeGreaterThanOrEqual(last);
      const left = readdirSync(folder).filter((name) => name.endsWith('.tmp'));
      killedWithin += left.length;
      for (const name of left) rmSync(join(folder, name));
    }
    // Else the test has not tried what it is about.
    expect(killedWithin).toBeGreaterThan(0);
  });
});
