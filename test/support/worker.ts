import { Worker } from 'node:worker_threads';

/** Starts a TypeScript file of the tests as a worker. (Of the loaders of a thread its workers get none, in Node 20.) */
export const startWorker = (file: URL): Worker =>
  new Worker(`import('tsx/esm/api').then(({ register }) => (register(), import(${JSON.stringify(file.href)})))`, { eval: true });
