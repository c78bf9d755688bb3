import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import type { Tensor } from '../../src/index.js';
import { encode } from '../../src/onnx/encode.js';
import { lower } from '../../src/onnx/lower.js';
import { sizeOf } from './numeric.js';
import { readModel } from './protobuf.js';

/** A traced program as ONNX Runtime executes it on the CPU. */
export interface Optimized {
  /** How many nodes of every type there are. */
  readonly counts: Readonly<Record<string, number>>;
  /** Most elements that are there at a time, besides inputs, constants and outputs. */
  readonly peak: number;
}

/** What is left of a program when ONNX Runtime has optimized it; it saves the nodes in the order in which it executes them. */
export async function optimized(inputs: readonly Tensor[], outputs: readonly Tensor[]): Promise<Optimized> {
  const folder = mkdtempSync(join(tmpdir(), 'optimized-'));
  const file = join(folder, 'model.onnx');
  try {
    const { graph, shapes } = lower(
      outputs.map((tensor, i) => ({ name: `y${i}`, tensor })),
      inputs.map((tensor, i) => ({ name: `x${i}`, tensor })),
      'cpu',
    );
    const options = { graphOptimizationLevel: 'extended', executionMode: 'sequential', optimizedModelFilePath: file } as const;
    await (await InferenceSession.create(encode(graph), options)).release();
    const { nodes } = readModel(readFileSync(file));
    const counts: Record<string, number> = {};
    for (const { type } of nodes) counts[type as string] = (counts[type as string] ?? 0) + 1;
    const lastUse = new Map(nodes.flatMap((node, i) => node.inputs.map((name) => [name, i] as const)));
    const isOutput = (name: string) => graph.outputs.some((output) => output.name === name);
    let live = 0;
    let peak = 0;
    const held: { until: number; size: number }[] = [];
    nodes.forEach((node, i) => {
      for (const name of node.outputs) {
        const until = lastUse.get(name);
        if (isOutput(name) || until === undefined) continue;
        held.push({ until, size: sizeOf(shapes.get(name) ?? [0]) });
        live += held.at(-1)?.size ?? 0;
      }
      peak = Math.max(peak, live);
      for (const value of held.filter(({ until }) => until === i)) live -= value.size;
    });
    return { counts, peak };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
