import { defineConfig } from 'tsup';
import { entries } from './scripts/entries.js';

export default defineConfig({
  entry: entries,
  format: 'esm',
  target: ['es2022', 'node20'],
  platform: 'neutral',
  removeNodeProtocol: false,
  // Entries share chunks, so there is one Tensor class and one set of ops whatever is imported together.
  splitting: true,
  treeshake: { moduleSideEffects: false },
  sourcemap: true,
  clean: true,
  dts: { compilerOptions: { ignoreDeprecations: '6.0' } }, // tsup sets baseUrl, which TypeScript 6 deprecates
  external: [/^node:/, 'onnxruntime-node', /^onnxruntime-web/, 'ndarray'],
});
