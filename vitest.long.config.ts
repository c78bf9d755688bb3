import { defineConfig, mergeConfig } from 'vitest/config';
import base from './vitest.config.js';

/** Soak runs and full examples. */
export default mergeConfig(
  { ...base, test: { ...base.test, include: [], exclude: [] } },
  defineConfig({
    test: { include: ['test/long/**/*.test.ts'], fileParallelism: false, testTimeout: 30 * 60_000, hookTimeout: 60_000 },
  }),
);
