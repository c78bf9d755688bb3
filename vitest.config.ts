import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { entries, root, specifierOf } from './scripts/entries.js';

export default defineConfig({
  resolve: {
    alias: Object.entries(entries).map(([name, file]) => ({
      find: new RegExp(`^${specifierOf(name)}$`),
      replacement: fileURLToPath(new URL(file, root)),
    })),
  },
  test: {
    environment: 'node',
    include: ['test/**/*.test.ts'],
    exclude: ['test/long/**'],
    // onnxruntime-node is a native addon with threads of its own: processes, not worker threads.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
